/* base/resident.c - resident pages, from /proc/self/pagemap.
 *
 * By PAGEMAP_SCAN (Linux 6.7), which tells pages of our own from the page of zeroes that
 * is mapped where memory was only read; else by the table itself, or mincore(2), which
 * do not, so that such pages count too. Never fails: what cannot be told is 0. */
#include "base/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/vm.h"

/* As in <linux/fs.h>, which may be older than the kernel. */
struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scan_region {
    uint64_t start, end, categories;
};
#define SCAN_REQUEST _IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_ZERO (UINT64_C(1) << 5)

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define BATCH 256u

void resident_open(struct resident *r)
{
    r->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    r->scan = r->fd >= 0;
}

void resident_close(struct resident *r)
{
    if (r->fd >= 0)
        close(r->fd);
}

typedef void (*run_fn)(uintptr_t lo, uintptr_t hi, void *arg);

/* False: the kernel has no such call; nothing was told. */
static bool by_scan(struct resident *r, uintptr_t lo, uintptr_t hi, run_fn fn,
                    void *arg)
{
    struct scan_region region[64];
    while (lo < hi) {
        struct scan_arg a = {.size = sizeof a,
                             .start = lo,
                             .end = hi,
                             .vec = (uintptr_t)region,
                             .vec_len = ARRAY_LEN(region),
                             .category_inverted = SCAN_ZERO,
                             .category_mask = SCAN_PRESENT | SCAN_ZERO,
                             .return_mask = SCAN_PRESENT};
        int n = ioctl(r->fd, SCAN_REQUEST, &a);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        for (int i = 0; i < n; i++)
            fn((uintptr_t)region[i].start, (uintptr_t)region[i].end, arg);
        if (a.walk_end <= lo)
            break;
        lo = (uintptr_t)a.walk_end;
    }
    return true;
}

/* Of n pages from lo on; all false if it cannot be told. */
static void look(struct resident *r, uintptr_t lo, size_t n, bool *in)
{
    uint64_t entry[BATCH];
    unsigned char core[BATCH];
    memset(in, 0, n * sizeof *in);
    ssize_t got = r->fd < 0 ? -1
                            : pread(r->fd, entry, n * sizeof *entry,
                                    (off_t)(lo / OS_PAGE * sizeof *entry));
    if (got == (ssize_t)(n * sizeof *entry))
        for (size_t i = 0; i < n; i++)
            in[i] = (entry[i] & PAGEMAP_PRESENT) != 0;
    else if (mincore((void *)lo, n * OS_PAGE, core) == 0)
        for (size_t i = 0; i < n; i++)
            in[i] = core[i] & 1;
}

static void by_table(struct resident *r, uintptr_t lo, uintptr_t hi, run_fn fn,
                     void *arg)
{
    bool in[BATCH];
    while (lo < hi) {
        size_t n = (hi - lo) / OS_PAGE < BATCH ? (hi - lo) / OS_PAGE : BATCH;
        look(r, lo, n, in);
        for (size_t i = 0, j; i < n; i = j) {
            for (j = i; j < n && in[j] == in[i];)
                j++;
            if (in[i])
                fn(lo + i * OS_PAGE, lo + j * OS_PAGE, arg);
        }
        lo += n * OS_PAGE;
    }
}

void resident_runs(struct resident *r, uintptr_t lo, uintptr_t hi,
                   void (*fn)(uintptr_t lo, uintptr_t hi, void *arg), void *arg)
{
    lo = ALIGN_DOWN(lo, (uintptr_t)OS_PAGE);
    hi = ALIGN_UP(hi, (uintptr_t)OS_PAGE);
    if (r->scan && by_scan(r, lo, hi, fn, arg))
        return;
    r->scan = false;
    by_table(r, lo, hi, fn, arg);
}

static void add(uintptr_t lo, uintptr_t hi, void *vn)
{
    *(size_t *)vn += hi - lo;
}

size_t resident_bytes(struct resident *r, uintptr_t lo, uintptr_t hi)
{
    size_t n = 0;
    resident_runs(r, lo, hi, add, &n);
    return n;
}

struct bits {
    uintptr_t lo;
    uint64_t *bits;
};

static void set(uintptr_t lo, uintptr_t hi, void *vb)
{
    const struct bits *b = vb;
    for (size_t i = (lo - b->lo) / OS_PAGE; i < (hi - b->lo) / OS_PAGE; i++)
        b->bits[i / 64] |= UINT64_C(1) << i % 64;
}

void resident_bits(struct resident *r, uintptr_t lo, size_t npages,
                   uint64_t *bits)
{
    struct bits b = {lo, bits};
    resident_runs(r, lo, lo + npages * OS_PAGE, set, &b);
}

/* gc/handles.c - handles: slots in blocks, each block scanned by a root job with some
 * others.
 *
 * Slots are written with the barrier, so that each block needs scanning once in a
 * mark. A block is aligned to its size: from a handle to its block, whose bitmap says
 * which slots are handles, is a mask, and that finds most misuse. Blocks that are
 * empty are freed by the driver between two cycles; one is kept. */
#include "base/sysmem.h"
#include "gc/gc.h"
#include "tarn/barrier.h"
#include "tarn/handle.h"

#define BLOCK_BYTES 4096u
#define MAGIC UINT64_C(0x7461726e68646c73)
#define WORDS 8u
#define SLOTS ((BLOCK_BYTES - 128u) / 8)
#define JOB_BLOCKS 16u

struct tarn_handle {
    void *object;
};

struct block {
    uint64_t magic;
    _Atomic uint64_t live[WORDS];
    struct block *next; /* with room */
    uint32_t nfree, at; /* in all[] */
    struct tarn_handle slot[SLOTS] __attribute__((aligned(128)));
};
_Static_assert(sizeof(struct block) == BLOCK_BYTES, "a block is a page");
_Static_assert(SLOTS <= WORDS * 64, "a bit for each slot");

static struct {
    struct mutex lock;
    struct block **all, *room;
    size_t n, cap;
    _Atomic size_t live;
} h = {.lock = MUTEX_INIT(LEAF)};

/* NULL: no memory. Not under the lock. */
static struct block *block_new(void)
{
    struct block *b = sys_alloc_aligned(sizeof *b, BLOCK_BYTES);
    if (b == NULL)
        return NULL;
    b->magic = MAGIC;
    b->nfree = SLOTS;
    return b;
}

/* With the lock. */
static bool block_add(struct block *b)
{
    if (h.n == h.cap) {
        size_t cap = h.cap ? 2 * h.cap : 16;
        struct block **all = sys_realloc(h.all, cap * sizeof *all);
        if (all == NULL)
            return false;
        h.all = all;
        h.cap = cap;
    }
    b->at = (uint32_t)h.n;
    h.all[h.n++] = b;
    b->next = h.room;
    h.room = b;
    return true;
}

/* With the lock; h.room has a free slot. */
static struct tarn_handle *slot_take(void)
{
    struct block *b = h.room;
    for (uint32_t i = 0;; i++) {
        ASSERT(i < WORDS);
        uint64_t bits = atomic_load_explicit(&b->live[i], memory_order_relaxed);
        if (~bits == 0)
            continue;
        uint32_t k = i * 64 + (uint32_t)__builtin_ctzll(~bits);
        ASSERT(k < SLOTS);
        atomic_store_explicit(&b->live[i], bits | UINT64_C(1) << (k % 64),
                              memory_order_relaxed);
        if (--b->nfree == 0)
            h.room = b->next;
        return &b->slot[k];
    }
}

tarn_handle *tarn_handle_new(void *object)
{
    if (!require_goroutine("tarn_handle_new"))
        return NULL;
    struct block *fresh = NULL;
    lock(&h.lock);
    if (h.room == NULL) {
        unlock(&h.lock);
        fresh = block_new();
        lock(&h.lock);
        if (h.room == NULL && fresh != NULL && block_add(fresh))
            fresh = NULL;
    }
    struct tarn_handle *x = h.room != NULL ? slot_take() : NULL;
    unlock(&h.lock);
    sys_free(fresh);
    if (x == NULL) {
        set_error("tarn_handle_new: out of memory (%zu handles)",
                  tarn_handles());
        return NULL;
    }
    atomic_fetch_add_explicit(&h.live, 1, memory_order_relaxed);
    tarn_store(&x->object, object);
    return x;
}

static struct block *block_of(const char *what, const tarn_handle *x,
                              uint32_t *k)
{
    struct block *b =
        (struct block *)((uintptr_t)x & ~(uintptr_t)(BLOCK_BYTES - 1));
    if (unlikely(!on_goroutine()))
        throw("%s: not called on a goroutine%s", what, not_goroutine_why());
    uintptr_t off = (uintptr_t)x - (uintptr_t)&b->slot[0];
    if (unlikely((uintptr_t)x < BLOCK_BYTES || off % 8 != 0 ||
                 off / 8 >= SLOTS || b->magic != MAGIC))
        throw("%s: %p is no handle", what, (const void *)x);
    *k = (uint32_t)(off / 8);
    if (unlikely(
            !(atomic_load_explicit(&b->live[*k / 64], memory_order_relaxed) >>
                  (*k % 64) &
              1)))
        throw("%s: handle %p was dropped", what, (const void *)x);
    return b;
}

void *tarn_handle_get(const tarn_handle *x)
{
    uint32_t k;
    block_of("tarn_handle_get", x, &k);
    return __atomic_load_n(&x->object, __ATOMIC_RELAXED);
}

void tarn_handle_set(tarn_handle *x, void *object)
{
    uint32_t k;
    block_of("tarn_handle_set", x, &k);
    tarn_store(&x->object, object);
}

void tarn_handle_drop(tarn_handle *x)
{
    uint32_t k;
    if (x == NULL)
        return;
    struct block *b = block_of("tarn_handle_drop", x, &k);
    tarn_store(&x->object, NULL);
    uint64_t bit = UINT64_C(1) << (k % 64);
    lock(&h.lock);
    bool was =
        atomic_load_explicit(&b->live[k / 64], memory_order_relaxed) & bit;
    atomic_fetch_and_explicit(&b->live[k / 64], ~bit, memory_order_relaxed);
    if (was && b->nfree++ == 0) {
        b->next = h.room;
        h.room = b;
    }
    unlock(&h.lock);
    if (!was)
        throw("tarn_handle_drop: handle %p was dropped", (void *)x);
    atomic_fetch_sub_explicit(&h.live, 1, memory_order_relaxed);
}

size_t tarn_handles(void)
{
    return atomic_load_explicit(&h.live, memory_order_relaxed);
}

/* --- roots ------------------------------------------------------------------------ */

uint32_t gc_handle_jobs(void)
{
    return (uint32_t)((h.n + JOB_BLOCKS - 1) / JOB_BLOCKS);
}

static size_t some_blocks(size_t first, struct block **out)
{
    size_t n = 0;
    lock(&h.lock);
    while (n < JOB_BLOCKS && first + n < h.n) {
        out[n] = h.all[first + n];
        n++;
    }
    unlock(&h.lock);
    return n;
}

/* Blocks that come during the mark hold what the barrier has shaded. */
void gc_scan_handles(struct gcwork *w, uint32_t job)
{
    struct block *b[JOB_BLOCKS];
    size_t n = some_blocks((size_t)job * JOB_BLOCKS, b);
    for (size_t i = 0; i < n; i++)
        scan_conservative((uintptr_t)b[i]->slot,
                          (uintptr_t)(b[i]->slot + SLOTS), w, false);
}

void gc_each_handle_block(void (*range)(uintptr_t lo, uintptr_t hi,
                                        const char *what, uint64_t id,
                                        void *arg),
                          void *arg)
{
    for (size_t i = 0; i < h.n; i++)
        range((uintptr_t)h.all[i]->slot, (uintptr_t)(h.all[i]->slot + SLOTS),
              "handles", i, arg);
}

/* By the driver, no mark under way: so nobody looks at blocks. */
void gc_handles_trim(void)
{
    struct block *gone = NULL;
    lock(&h.lock);
    size_t kept = 0;
    for (struct block **l = &h.room, *b; (b = *l) != NULL;) {
        if (b->nfree < SLOTS || kept++ == 0) {
            l = &b->next;
            continue;
        }
        *l = b->next;
        h.all[b->at] = h.all[--h.n];
        h.all[b->at]->at = b->at;
        b->next = gone;
        gone = b;
    }
    unlock(&h.lock);
    while (gone != NULL) {
        struct block *b = gone;
        gone = b->next;
        b->magic = 0;
        sys_free(b);
    }
}

/* sched/unsafe.c - the table of restartable sequences: tarn/unsafe.h.
 *
 * One sorted array of all of them. It is never changed: whoever adds or removes
 * sequences makes another one and publishes it. Readers, which may be signal
 * handlers on any thread, announce themselves in a counter while they look; an
 * array that was replaced is freed by the first writer who then finds the
 * counter at 0. So reading takes no lock, and a reader that interrupts a writer
 * on its own thread reads one of the two arrays.
 *
 * Locks: unsafe.lock (RANK_LEAF), for writers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#include "base/sysmem.h"
#include "sched/sched.h"
#include "tarn/unsafe.h"

struct range {
    uintptr_t lo, hi;
};

struct table {
    struct table *next; /* retired ones */
    size_t n;
    struct range r[]; /* by address; none overlap */
};

/* A section that was registered, and how often: objects made with other versions
 * of the header may bring constructors of their own. */
struct module {
    struct module *next;
    const int32_t *start;
    uint32_t count;
};

static struct {
    struct mutex lock;
    struct table *_Atomic table;
    struct table *retired;
    struct module *modules;
    bool exit_hook;

    _Atomic uint32_t readers CACHE_ALIGNED;
} unsafe = {.lock = MUTEX_INIT(LEAF)};

static _Atomic bool exiting;

/* --- lookup --------------------------------------------------------------- */

bool unsafe_range_of(uintptr_t pc, uintptr_t *lo, uintptr_t *hi)
{
    bool found = false;
    atomic_fetch_add(&unsafe.readers, 1);
    const struct table *t = atomic_load(&unsafe.table);
    if (t != NULL) {
        const struct range *r = t->r;
        size_t n = t->n;
        /* The last one that begins at pc or before. */
        while (n > 1) {
            size_t half = n / 2;
            if (r[half].lo <= pc)
                r += half;
            n -= half;
        }
        if (n != 0 && r->lo <= pc && pc < r->hi) {
            *lo = r->lo;
            *hi = r->hi;
            found = true;
        }
    }
    atomic_fetch_sub(&unsafe.readers, 1);
    return found;
}

uintptr_t unsafe_restart(uintptr_t pc)
{
    uintptr_t lo, hi;
    return unsafe_range_of(pc, &lo, &hi) ? lo : pc;
}

size_t unsafe_range_count(void)
{
    lock(&unsafe.lock);
    struct table *t = atomic_load(&unsafe.table);
    size_t n = t != NULL ? t->n : 0;
    unlock(&unsafe.lock);
    return n;
}

/* --- changing it: under the lock ------------------------------------------ */

enum fault { OK, NO_MEMORY, EMPTY, TOO_LONG, OVERLAP, UNKNOWN };

struct request {
    /* One of the two. */
    const struct tarn_unsafe_range *ranges;
    const int32_t *start;

    size_t n;
    bool remove;

    enum fault fault;
    struct range bad;
};

static struct range request_range(const struct request *q, size_t i)
{
    if (q->start != NULL) {
        const int32_t *e = q->start + 2 * i;
        return (struct range){(uintptr_t)&e[0] + (uintptr_t)(intptr_t)e[0],
                              (uintptr_t)&e[1] + (uintptr_t)(intptr_t)e[1]};
    }
    return (struct range){(uintptr_t)q->ranges[i].lo,
                          (uintptr_t)q->ranges[i].hi};
}

static int by_address(const void *va, const void *vb)
{
    const struct range *a = va, *b = vb;
    return a->lo < b->lo ? -1 : a->lo > b->lo;
}

static void publish(struct table *new)
{
    struct table *old = atomic_exchange(&unsafe.table, new);
    if (old != NULL) {
        old->next = unsafe.retired;
        unsafe.retired = old;
    }
    /* Who begins to read from here on reads the new one. */
    if (atomic_load(&unsafe.readers) != 0)
        return;
    while ((old = unsafe.retired) != NULL) {
        unsafe.retired = old->next;
        sys_free(old);
    }
}

/* The request's ranges, sorted, in memory of their own; NULL: fault set. */
static struct range *sorted(struct request *q)
{
    struct range *r = sys_alloc((q->n + 1) * sizeof *r);
    if (r == NULL) {
        q->fault = NO_MEMORY;
        return NULL;
    }
    for (size_t i = 0; i < q->n; i++) {
        r[i] = request_range(q, i);
        if (r[i].lo >= r[i].hi)
            q->fault = EMPTY;
        else if (r[i].hi - r[i].lo > TARN_UNSAFE_MAX)
            q->fault = TOO_LONG;
        if (q->fault != OK) {
            q->bad = r[i];
            sys_free(r);
            return NULL;
        }
    }
    qsort(r, q->n, sizeof *r, by_address);
    return r;
}

/* Both merge in order of address; r has one element more than q->n, 0. */
static void add(struct request *q, const struct table *old,
                const struct range *r, struct table *new)
{
    size_t i = 0, j = 0, n = old != NULL ? old->n : 0;
    while (i < n || j < q->n) {
        bool take_old = j == q->n || (i < n && old->r[i].lo < r[j].lo);
        struct range next = take_old ? old->r[i++] : r[j++];
        if (new->n > 0 && new->r[new->n - 1].hi > next.lo) {
            q->fault = OVERLAP;
            q->bad = next;
            return;
        }
        new->r[new->n++] = next;
    }
}

static void subtract(struct request *q, const struct table *old,
                     const struct range *r, struct table *new)
{
    size_t j = 0, n = old != NULL ? old->n : 0;
    for (size_t i = 0; i < n; i++) {
        if (j < q->n && old->r[i].lo == r[j].lo && old->r[i].hi == r[j].hi)
            j++;
        else
            new->r[new->n++] = old->r[i];
    }
    if (j < q->n) {
        q->fault = UNKNOWN;
        q->bad = r[j];
    }
}

static void change(struct request *q)
{
    struct table *old = atomic_load(&unsafe.table);
    struct range *r = sorted(q);
    if (r == NULL)
        return;
    size_t room = (old != NULL ? old->n : 0) + (q->remove ? 0 : q->n);
    struct table *new = sys_alloc(sizeof *new + room * sizeof new->r[0]);
    if (new == NULL)
        q->fault = NO_MEMORY;
    else if (q->remove)
        subtract(q, old, r, new);
    else
        add(q, old, r, new);
    if (q->fault == OK)
        publish(new);
    else
        sys_free(new);
    sys_free(r);
}

/* --- embedders ------------------------------------------------------------ */

static void change_locked(void *vq)
{
    lock(&unsafe.lock);
    change(vq);
    unlock(&unsafe.lock);
}

/* A goroutine's stack may be too short for sorting. */
static void on_system_stack(void (*fn)(void *), void *arg)
{
    if (on_goroutine())
        systemstack(fn, arg);
    else
        fn(arg);
}

static const char *const fault_text[] = {
    [EMPTY] = "is empty",
    [TOO_LONG] = "is too long",
    [OVERLAP] = "overlaps another one",
    [UNKNOWN] = "is not registered",
};

static tarn_status request(const char *what, const struct tarn_unsafe_range *r,
                           size_t n, bool remove)
{
    if (r == NULL && n != 0) {
        set_error("%s: no ranges", what);
        return TARN_EINVAL;
    }
    if (n > SIZE_MAX / 64) {
        set_error("%s: %zu ranges", what, n);
        return TARN_EINVAL;
    }
    if (n == 0)
        return TARN_OK;
    struct request q = {.ranges = r, .n = n, .remove = remove};
    on_system_stack(change_locked, &q);
    if (q.fault == OK)
        return TARN_OK;
    if (q.fault == NO_MEMORY) {
        set_error("%s: no memory", what);
        return TARN_ENOMEM;
    }
    set_error("%s: [%p, %p) %s", what, (void *)q.bad.lo, (void *)q.bad.hi,
              fault_text[q.fault]);
    return TARN_EINVAL;
}

tarn_status tarn_unsafe_register(const struct tarn_unsafe_range *r, size_t n)
{
    return request("tarn_unsafe_register", r, n, false);
}

tarn_status tarn_unsafe_unregister(const struct tarn_unsafe_range *r, size_t n)
{
    return request("tarn_unsafe_unregister", r, n, true);
}

/* --- modules -------------------------------------------------------------- */

/* While the process exits, the destructors of all modules run, but other threads
 * may still run goroutines in them. */
static void note_exit(void)
{
    atomic_store(&exiting, true);
}

static void __attribute__((noreturn))
bad_module(const int32_t *start, const struct request *q)
{
    Dl_info info;
    const char *name = "?";
    if (dladdr(start, &info) != 0 && info.dli_fname != NULL)
        name = info.dli_fname;
    if (q->fault == NO_MEMORY)
        fatal("unsafe ranges of %s: no memory", name);
    fatal("unsafe ranges of %s: [%p, %p) %s", name, (void *)q->bad.lo,
          (void *)q->bad.hi, fault_text[q->fault]);
}

static void module_change(void *vq)
{
    struct request *q = vq;
    lock(&unsafe.lock);
    struct module **at = &unsafe.modules, *m;
    while ((m = *at) != NULL && m->start != q->start)
        at = &m->next;
    if (q->remove) {
        if (m != NULL && --m->count == 0) {
            change(q);
            *at = m->next;
            sys_free(m);
        }
    } else if (m != NULL) {
        m->count++;
    } else if ((m = sys_alloc(sizeof *m)) == NULL) {
        q->fault = NO_MEMORY;
    } else {
        m->start = q->start;
        m->count = 1;
        m->next = unsafe.modules;
        unsafe.modules = m;
        change(q);
        if (!unsafe.exit_hook)
            unsafe.exit_hook = atexit(note_exit) == 0;
    }
    unlock(&unsafe.lock);
}

static void module_request(const int32_t *start, const int32_t *stop,
                           bool remove)
{
    size_t bytes = (uintptr_t)stop - (uintptr_t)start;
    if ((uintptr_t)start > (uintptr_t)stop || bytes % 8 != 0)
        fatal("unsafe ranges: the table from %p to %p is no list of pairs",
              (const void *)start, (const void *)stop);
    if (bytes == 0 || atomic_load(&exiting))
        return;
    struct request q = {.start = start, .n = bytes / 8, .remove = remove};
    on_system_stack(module_change, &q);
    if (q.fault != OK)
        bad_module(start, &q);
}

void tarn_unsafe_module_add(const int32_t *start, const int32_t *stop)
{
    module_request(start, stop, false);
}

void tarn_unsafe_module_remove(const int32_t *start, const int32_t *stop)
{
    module_request(start, stop, true);
}

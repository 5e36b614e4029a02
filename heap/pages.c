/* heap/pages.c - the page allocator: runs of free pages, growth, release.
 *
 * Memory is committed from heap.lo upwards; below pg.grown every page belongs
 * either to a span in somebody's hands or to a free run. A free run is
 * described by a span struct too, in state SPAN_FREE.
 *
 * Invariants (under pg.lock)
 *  1. The page map's entries of the first and the last page of a free run point
 *     to its struct, as do those of all pages of a span that is not free.
 *     Entries inside of a free run are stale.
 *  2. No two free runs touch.
 *  3. A free run is in exactly one place: bin[npages] if npages < BINS, else
 *     the tree. A bin holds its runs with dirty pages before those without.
 *  4. run->live is the number of its pages in state PAGE_DIRTY.
 *  5. Freeing needs no memory: a free run uses the struct of what was freed.
 *
 * Locks: RANK_PAGES.
 */
#include "base/sysmem.h"
#include "base/vm.h"
#include "heap/internal.h"

#define BINS 128u /* runs shorter than this have a bin */
#define GROW_STEP ((size_t)4 << 20)
#define GROW_MIN ((size_t)64 << 10) /* its part of the meta map is one page */
#define SLAB_STRUCTS 63u            /* 8 KiB less some for the allocator */
#define PAGES_WARM 64u   /* enough for any small span, spread as they may be */
#define RELEASE_STEP 16u /* pages given back in one go: others wait */

static struct {
    struct mutex lock;
    uint8_t *states;            /* enum page_state by page - lo */
    uintptr_t grown;            /* committed up to here */
    size_t free_pages;          /* of free runs */
    _Atomic size_t dirty_pages; /* of those; written under the lock */
    uint64_t binmap[BINS / 64]; /* bins that are not empty */
    struct mspan *head[BINS], *tail[BINS];
    struct mspan *tree;
    struct mspan *dead; /* unused structs, linked by next */
    size_t slabs;       /* where structs come from */
    /* By heap_touch_ahead, of the arena. Not the address: it would be a root. */
    _Atomic size_t touched;
    _Atomic size_t ahead; /* and so much was asked for */
    /* The kernel prefers readers of the address space: who touches page after
     * page keeps who wants to commit some waiting for milliseconds. */
    _Atomic uint32_t committing;
} pg = {.lock = MUTEX_INIT(PAGES)};

void pages_init(uint8_t *states)
{
    pg.states = states;
    pg.grown = heap.lo;
}

uintptr_t pages_end(void)
{
    return __atomic_load_n(&pg.grown, __ATOMIC_ACQUIRE);
}

static size_t page_index(uintptr_t p)
{
    return (p - heap.lo) >> PAGE_SHIFT;
}

static void map_set(uintptr_t p, struct mspan *s)
{
    atomic_store_explicit(&heap.pages[p >> PAGE_SHIFT], s,
                          memory_order_release);
}

/* Whoever looked the struct up before now finds seq changed. Acquire as well:
 * what is written to the struct next must not be seen before it. */
static void new_life(struct mspan *s)
{
    atomic_fetch_add_explicit(&s->seq, 1, memory_order_acq_rel);
}

/* --- structs -------------------------------------------------------------- */

static struct mspan *struct_get(void)
{
    struct mspan *s = pg.dead;
    if (s == NULL) {
        /* Zeroed: SPAN_DEAD. Never given back, since lookups may come late. */
        struct mspan *slab =
            sys_alloc_aligned(SLAB_STRUCTS * sizeof *slab, CACHE_LINE);
        if (slab == NULL) {
            atomic_store_explicit(&heap.refused, true, memory_order_relaxed);
            return NULL;
        }
        for (uint32_t i = 1; i < SLAB_STRUCTS; i++) {
            slab[i].next = pg.dead;
            pg.dead = &slab[i];
        }
        pg.slabs++;
        atomic_fetch_add_explicit(&heap.mapped, SLAB_STRUCTS * sizeof *slab,
                                  memory_order_relaxed);
        s = slab;
    } else {
        pg.dead = s->next;
    }
    s->next = s->prev = NULL;
    return s;
}

static void struct_put(struct mspan *s)
{
    atomic_store_explicit(&s->state, SPAN_DEAD, memory_order_release);
    new_life(s);
    s->prev = NULL;
    s->next = pg.dead;
    pg.dead = s;
}

/* --- long free runs: a treap by (npages, base) ---------------------------- */

/* Left child next, right child prev. Structs never move, so their scrambled
 * addresses are as good as random priorities. */
#define LEFT next
#define RIGHT prev

static uint64_t prio(const struct mspan *s)
{
    uint64_t x = (uintptr_t)s * UINT64_C(0x9E3779B97F4A7C15);
    return x ^ x >> 29;
}

static bool key_less(size_t npages, uintptr_t base, const struct mspan *s)
{
    return npages != s->npages ? npages < s->npages : base < s->base;
}

static void tree_insert(struct mspan *n)
{
    struct mspan **at = &pg.tree;
    while (*at != NULL && prio(*at) >= prio(n))
        at = key_less(n->npages, n->base, *at) ? &(*at)->LEFT : &(*at)->RIGHT;
    struct mspan *t = *at, **l = &n->LEFT, **r = &n->RIGHT;
    *at = n;
    while (t != NULL) {
        if (key_less(n->npages, n->base, t)) {
            *r = t;
            r = &t->LEFT;
            t = t->LEFT;
        } else {
            *l = t;
            l = &t->RIGHT;
            t = t->RIGHT;
        }
    }
    *l = *r = NULL;
}

static void tree_remove(struct mspan *n)
{
    struct mspan **at = &pg.tree;
    while (*at != n) {
        ASSERT(*at != NULL);
        at = key_less(n->npages, n->base, *at) ? &(*at)->LEFT : &(*at)->RIGHT;
    }
    struct mspan *a = n->LEFT, *b = n->RIGHT;
    while (a != NULL && b != NULL) {
        if (prio(a) >= prio(b)) {
            *at = a;
            at = &a->RIGHT;
            a = a->RIGHT;
        } else {
            *at = b;
            at = &b->LEFT;
            b = b->LEFT;
        }
    }
    *at = a != NULL ? a : b;
    n->LEFT = n->RIGHT = NULL;
}

/* The shortest run of n pages or more; of several, the lowest. */
static struct mspan *tree_best(size_t n)
{
    struct mspan *best = NULL, *t = pg.tree;
    while (t != NULL) {
        if (t->npages >= n) {
            best = t;
            t = t->LEFT;
        } else {
            t = t->RIGHT;
        }
    }
    return best;
}

/* The greatest run of all that is less than the key. */
static struct mspan *tree_below(size_t npages, uintptr_t base)
{
    struct mspan *best = NULL, *t = pg.tree;
    while (t != NULL) {
        if (t->npages < npages || (t->npages == npages && t->base < base)) {
            best = t;
            t = t->RIGHT;
        } else {
            t = t->LEFT;
        }
    }
    return best;
}

/* --- free runs ------------------------------------------------------------ */

static void bin_insert(struct mspan *s)
{
    size_t b = s->npages;
    if (pg.head[b] == NULL) {
        s->next = s->prev = NULL;
        pg.head[b] = pg.tail[b] = s;
        pg.binmap[b / 64] |= UINT64_C(1) << b % 64;
    } else if (s->live > 0) {
        s->prev = NULL;
        s->next = pg.head[b];
        pg.head[b]->prev = s;
        pg.head[b] = s;
    } else {
        s->next = NULL;
        s->prev = pg.tail[b];
        pg.tail[b]->next = s;
        pg.tail[b] = s;
    }
}

static void bin_remove(struct mspan *s)
{
    size_t b = s->npages;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        pg.head[b] = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    else
        pg.tail[b] = s->prev;
    s->next = s->prev = NULL;
    if (pg.head[b] == NULL)
        pg.binmap[b / 64] &= ~(UINT64_C(1) << b % 64);
}

static void dirty_add(size_t n)
{
    atomic_store_explicit(
        &pg.dirty_pages,
        atomic_load_explicit(&pg.dirty_pages, memory_order_relaxed) + n,
        memory_order_relaxed);
}

size_t pages_dirty(void)
{
    return atomic_load_explicit(&pg.dirty_pages, memory_order_relaxed);
}

bool pages_warm(void)
{
    return pages_dirty() >= PAGES_WARM;
}

/* Sets the boundary tags and makes the run available. */
static void run_insert(struct mspan *s)
{
    map_set(s->base, s);
    map_set(s->base + (s->npages - 1) * PAGE_SIZE, s);
    atomic_store_explicit(&s->state, SPAN_FREE, memory_order_release);
    pg.free_pages += s->npages;
    dirty_add(s->live);
    if (s->npages < BINS)
        bin_insert(s);
    else
        tree_insert(s);
}

static void run_remove(struct mspan *s)
{
    pg.free_pages -= s->npages;
    dirty_add(-(size_t)s->live);
    if (s->npages < BINS)
        bin_remove(s);
    else
        tree_remove(s);
}

/* A free run of at least n pages. */
static struct mspan *run_find(size_t n)
{
    if (n < BINS) {
        uint64_t m = pg.binmap[n / 64] & (~UINT64_C(0) << n % 64);
        if (m != 0)
            return pg.head[n / 64 * 64 + (size_t)__builtin_ctzll(m)];
        for (size_t w = n / 64 + 1; w < ARRAY_LEN(pg.binmap); w++)
            if (pg.binmap[w] != 0)
                return pg.head[w * 64 + (size_t)__builtin_ctzll(pg.binmap[w])];
    }
    return tree_best(n);
}

/* The free run that ends before p, or that begins at p; NULL if none. */
static struct mspan *run_before(uintptr_t p)
{
    struct mspan *s = p > heap.lo ? heap_span_of(p - PAGE_SIZE) : NULL;
    return s != NULL && span_state(s) == SPAN_FREE ? s : NULL;
}

static struct mspan *run_at(uintptr_t p)
{
    struct mspan *s = p < pg.grown ? heap_span_of(p) : NULL;
    return s != NULL && span_state(s) == SPAN_FREE ? s : NULL;
}

/* Joins what the struct describes with free neighbours and makes it free. */
static void run_free(struct mspan *s)
{
    struct mspan *l = run_before(s->base);
    struct mspan *r = run_at(s->base + s->npages * PAGE_SIZE);
    if (l != NULL) {
        run_remove(l);
        SPAN_SET(s, base, l->base);
        s->npages += l->npages;
        s->live += l->live;
        struct_put(l);
    }
    if (r != NULL) {
        run_remove(r);
        s->npages += r->npages;
        s->live += r->live;
        struct_put(r);
    }
    run_insert(s);
}

/* --- growth --------------------------------------------------------------- */

static size_t metadata_for(size_t n)
{
    return n / GRANULE + n / PAGE_SIZE * (sizeof(void *) + 1);
}

static void dump_map(void *from, size_t n)
{
    uintptr_t lo = ALIGN_DOWN((uintptr_t)from, OS_PAGE);
    vm_dump((void *)lo, ALIGN_UP((uintptr_t)from + n, OS_PAGE) - lo, true);
}

/* Commits arena [grown, grown + n) and the metadata for it. On failure some of
 * it may be committed; the next attempt commits it again. */
static bool commit(size_t n)
{
    uintptr_t lo = pg.grown;
    atomic_fetch_add(&pg.committing, 1);
    bool ok = vm_commit(heap_meta(lo), n / GRANULE) && vm_commit((void *)lo, n);
    atomic_fetch_sub(&pg.committing, 1);
    atomic_store_explicit(&heap.refused, !ok, memory_order_relaxed);
    if (!ok)
        return false;
    /* The page map and the states are committed already, but touched only
     * from now on. */
    dump_map(&heap.pages[lo >> PAGE_SHIFT], n / PAGE_SIZE * sizeof(void *));
    dump_map(&pg.states[page_index(lo)], n / PAGE_SIZE);
    atomic_fetch_add_explicit(&heap.mapped, n + metadata_for(n),
                              memory_order_relaxed);
    return true;
}

size_t heap_metadata_bytes(void)
{
    return metadata_for(pages_end() - heap.lo);
}

size_t pages_struct_bytes(void)
{
    lock(&pg.lock);
    size_t n = pg.slabs * SLAB_STRUCTS * sizeof(struct mspan);
    unlock(&pg.lock);
    return n;
}

const void *pages_states(void)
{
    return pg.states;
}

/* Makes need bytes or more a free run, together with one before them. */
static bool extend(size_t need)
{
    size_t room = heap.hi - pg.grown;
    if (need > room)
        return false;
    struct mspan *s = struct_get();
    if (s == NULL)
        return false;
    size_t step = ALIGN_UP(need, GROW_STEP);
    if (step > room)
        step = room;
    if (!commit(step)) {
        /* Perhaps there is enough left for this request at least. */
        size_t least = ALIGN_UP(need, GROW_MIN);
        if (least >= step || !commit(least)) {
            struct_put(s);
            return false;
        }
        step = least;
    }
    SPAN_SET(s, base, pg.grown);
    s->npages = step >> PAGE_SHIFT;
    s->live = 0;
    __atomic_store_n(&pg.grown, pg.grown + step, __ATOMIC_RELEASE);
    run_free(s);
    return true;
}

/* Makes sure that there is a free run of n pages: there was none. */
static bool grow(size_t n)
{
    struct mspan *last = run_before(pg.grown);
    return extend((n - (last != NULL ? last->npages : 0)) << PAGE_SHIFT);
}

/* --- interface ------------------------------------------------------------ */

struct mspan *pages_alloc(size_t n)
{
    if (n == 0 || n > (heap.hi - heap.lo) >> PAGE_SHIFT)
        return NULL;
    lock(&pg.lock);
    struct mspan *s = struct_get();
    if (s == NULL) {
        unlock(&pg.lock);
        return NULL;
    }
    struct mspan *run = run_find(n);
    if (run == NULL && grow(n))
        run = run_find(n);
    if (run == NULL) {
        struct_put(s);
        unlock(&pg.lock);
        return NULL;
    }
    run_remove(run);
    uint8_t *st = &pg.states[page_index(run->base)];
    uint32_t dirty = 0, released = 0;
    for (size_t i = 0; i < n; i++) {
        if (st[i] == PAGE_DIRTY) {
            dirty++;
        } else if (st[i] == PAGE_RELEASED) {
            st[i] = PAGE_ZERO;
            released++;
        }
    }
    if (run->npages == n) {
        struct_put(s);
        s = run;
        atomic_store_explicit(&s->state, SPAN_DEAD, memory_order_release);
    } else {
        SPAN_SET(s, base, run->base);
        s->npages = n;
        SPAN_SET(run, base, run->base + n * PAGE_SIZE);
        run->npages -= n;
        run->live -= dirty;
        run_insert(run);
    }
    new_life(s);
    s->needzero = dirty > 0;
    s->live = 0;
    s->next = s->prev = NULL;
    for (size_t i = 0; i < n; i++)
        map_set(s->base + i * PAGE_SIZE, s);
    uintptr_t end = s->base + n * PAGE_SIZE;
    bool touch = false;
    if (end > atomic_load_explicit(&heap.used_hi, memory_order_relaxed)) {
        atomic_store_explicit(&heap.used_hi, end, memory_order_release);
        uintptr_t touched =
            heap.lo + atomic_load_explicit(&pg.touched, memory_order_relaxed);
        size_t ahead = atomic_load_explicit(&pg.ahead, memory_order_relaxed);
        touch = touched < pg.grown && end + ahead / 2 >= touched;
    }
    unlock(&pg.lock);
    if (touch && heap_hooks.touch_wanted != NULL)
        heap_hooks.touch_wanted();
    atomic_fetch_add_explicit(&heap.pages_inuse, n, memory_order_relaxed);
    if (released > 0)
        atomic_fetch_add_explicit(&heap.mapped,
                                  (uint64_t)released << PAGE_SHIFT,
                                  memory_order_relaxed);
    return s;
}

void pages_free(struct mspan *s)
{
    ASSERT(span_state(s) != SPAN_FREE);
    atomic_store_explicit(&s->state, SPAN_DEAD, memory_order_release);
    atomic_fetch_sub_explicit(&heap.pages_inuse, s->npages,
                              memory_order_relaxed);
    memset(&pg.states[page_index(s->base)], PAGE_DIRTY, s->npages);
    lock(&pg.lock);
    new_life(s);
    s->live = (uint32_t)s->npages;
    run_free(s);
    unlock(&pg.lock);
}

void pages_zero_dirty(struct mspan *s, size_t from, size_t to)
{
    /* The states of a span's pages are its owner's: no lock. */
    const uint8_t *st = &pg.states[page_index(s->base)];
    size_t npages = (to + PAGE_SIZE - 1) >> PAGE_SHIFT;
    for (size_t i = from >> PAGE_SHIFT, j; i < npages; i = j) {
        for (j = i + 1; j < npages && st[j] == st[i];)
            j++;
        size_t end = j << PAGE_SHIFT;
        if (end > to)
            end = to;
        if (st[i] == PAGE_DIRTY)
            memset((char *)s->base + (i << PAGE_SHIFT), 0,
                   end - (i << PAGE_SHIFT));
    }
}

/* Gives back up to RELEASE_STEP and max dirty pages of the run; false if the
 * kernel refuses. */
static bool release_some(struct mspan *s, size_t max, size_t *released)
{
    uint8_t *st = &pg.states[page_index(s->base)];
    uint8_t *from = memchr(st, PAGE_DIRTY, s->npages);
    ASSERT(from != NULL);
    size_t i = (size_t)(from - st), j = i;
    if (max > RELEASE_STEP)
        max = RELEASE_STEP;
    while (j < s->npages && j - i < max && st[j] == PAGE_DIRTY)
        j++;
    if (!vm_decommit((char *)s->base + (i << PAGE_SHIFT), (j - i)
                                                              << PAGE_SHIFT))
        return false;
    memset(from, PAGE_RELEASED, j - i);
    run_remove(s);
    s->live -= (uint32_t)(j - i);
    run_insert(s);
    atomic_fetch_sub_explicit(&heap.mapped, (uint64_t)(j - i) << PAGE_SHIFT,
                              memory_order_relaxed);
    *released += (j - i) << PAGE_SHIFT;
    return true;
}

/* Runs that are passed by in one go: others wait. */
#define RELEASE_LOOKS 64u

bool heap_release_step(struct heap_release *r, size_t keep_bytes)
{
    /* Longest first: the shortest are the next to be used again. The lock is
     * dropped after each step, so the way through the tree goes on from a key,
     * not from a place; runs that change behind it are left for the next time. */
    if (!r->begun) {
        *r = (struct heap_release){.begun = true,
                                   .npages = SIZE_MAX,
                                   .base = UINTPTR_MAX,
                                   .bin = BINS - 1};
    }
    size_t keep = keep_bytes >> PAGE_SHIFT;
    bool more = false;
    lock(&pg.lock);
    if (pg.dirty_pages > keep) {
        struct mspan *s = NULL;
        for (uint32_t n = 0; n < RELEASE_LOOKS; n++) {
            s = tree_below(r->npages, r->base);
            if (s == NULL || s->live != 0)
                break;
            r->npages = s->npages;
            r->base = s->base;
        }
        if (s != NULL) {
            more = s->live == 0 ||
                   release_some(s, pg.dirty_pages - keep, &r->released);
        } else {
            /* Bins have dirty runs in front. */
            for (; s == NULL && r->bin > 0; r->bin -= s == NULL)
                if (pg.head[r->bin] != NULL && pg.head[r->bin]->live > 0)
                    s = pg.head[r->bin];
            more = s != NULL &&
                   release_some(s, pg.dirty_pages - keep, &r->released);
        }
    }
    unlock(&pg.lock);
    return more;
}

size_t heap_release_free(size_t keep_bytes)
{
    struct heap_release r = {0};
    while (heap_release_step(&r, keep_bytes))
        ;
    return r.released;
}

#define TOUCH_STEP ((uintptr_t)64 << 10)

size_t heap_touch_ahead(size_t ahead)
{
    atomic_store_explicit(&pg.ahead, ahead, memory_order_relaxed);
    uintptr_t used = atomic_load_explicit(&heap.used_hi, memory_order_acquire);
    /* Committing takes the kernel's time as well. */
    if (ahead != 0 && pages_end() - used < ahead / 2) {
        lock(&pg.lock);
        if (heap.hi - pg.grown >= 2 * GROW_STEP)
            extend(GROW_STEP);
        unlock(&pg.lock);
    }
    /* No lock: touching changes nothing, and what is committed stays so. */
    uintptr_t lo =
        heap.lo + atomic_load_explicit(&pg.touched, memory_order_relaxed);
    uintptr_t hi = pages_end();
    if (lo < used)
        lo = used;
    if (hi - used > ahead)
        hi = used + ahead;
    hi = ALIGN_DOWN(hi, PAGE_SIZE);
    if (lo >= hi)
        return 0;
    if (hi - lo > TOUCH_STEP)
        hi = lo + TOUCH_STEP;
    while (atomic_load(&pg.committing) != 0)
        usleep_os(20);
    uintptr_t meta_lo = ALIGN_DOWN((uintptr_t)heap_meta(lo), OS_PAGE);
    uintptr_t meta_hi = ALIGN_UP((uintptr_t)heap_meta(hi), OS_PAGE);
    if (!vm_touch((void *)meta_lo, meta_hi - meta_lo) ||
        !vm_touch((void *)lo, hi - lo))
        return 0;
    atomic_store_explicit(&pg.touched, hi - heap.lo, memory_order_relaxed);
    return hi - lo;
}

void heap_page_counts(struct heap_page_counts *out)
{
    lock(&pg.lock);
    out->free = pg.free_pages;
    out->inuse = page_index(pg.grown) - pg.free_pages;
    out->unused = (heap.hi - pg.grown) >> PAGE_SHIFT;
    struct mspan *s = tree_below(SIZE_MAX, UINTPTR_MAX);
    for (size_t b = BINS - 1; s == NULL && b > 0; b--)
        s = pg.head[b];
    out->largest_free = s != NULL ? s->npages : 0;
    unlock(&pg.lock);
}

/* --- verification --------------------------------------------------------- */

/* Whoever gets the page next relies on it: what lies behind a span's last place
 * is not written when it is set up. */
static void verify_free_meta(uintptr_t page)
{
    const uint64_t lanes = UINT64_C(0x0101010101010101);
    const uint64_t *m = (const uint64_t *)(const void *)heap_meta(page);
    for (size_t i = 0; i < PAGE_SIZE / GRANULE / sizeof *m; i++)
        if (m[i] & lanes * (META_COLOR | META_CHECK))
            throw("heap: the free page at %p has meta %#zx", (void *)page,
                  (size_t)m[i]);
}

/* Returns the number of its pages that were given back. */
static size_t verify_run(struct mspan *s)
{
    size_t dirty = 0, released = 0;
    for (size_t i = 0; i < s->npages; i++) {
        uint8_t state = pg.states[page_index(s->base) + i];
        dirty += state == PAGE_DIRTY;
        released += state == PAGE_RELEASED;
        /* Others were never used, nor were their meta bytes. */
        if (state != PAGE_ZERO)
            verify_free_meta(s->base + i * PAGE_SIZE);
    }
    if (heap_span_of(s->base + (s->npages - 1) * PAGE_SIZE) != s)
        throw("heap: no tag at the end of a free run of %zu pages", s->npages);
    if (dirty != s->live)
        throw("heap: a free run has %zu dirty pages, not %u", dirty, s->live);
    if (run_before(s->base) != NULL)
        throw("heap: two free runs touch at %p", (void *)s->base);
    struct mspan *t;
    if (s->npages >= BINS) {
        for (t = pg.tree; t != NULL && t != s;)
            t = key_less(s->npages, s->base, t) ? t->LEFT : t->RIGHT;
    } else {
        for (t = pg.head[s->npages]; t != NULL && t != s; t = t->next)
            if (t->live == 0 && t->next != NULL && t->next->live > 0)
                throw("heap: bin %zu is not in order", s->npages);
    }
    if (t == NULL)
        throw("heap: a free run of %zu pages is in no list", s->npages);
    return released;
}

static size_t slots_mapped(size_t n)
{
    return ALIGN_UP(n * sizeof heap.slots[0], SLOT_COMMIT_STEP);
}

/* The slot table has locks of its own and may grow just now: whoever makes a slot
 * counts its memory first. */
static void verify_mapped(size_t released)
{
    size_t least = slots_mapped(atomic_load(&heap.nslots));
    uint64_t mapped = atomic_load(&heap.mapped);
    size_t most = slots_mapped(atomic_load(&heap.nslots) + 1);
    uint64_t known = pg.grown - heap.lo + metadata_for(pg.grown - heap.lo) +
                     pg.slabs * SLAB_STRUCTS * sizeof(struct mspan) -
                     (released << PAGE_SHIFT);
    if (mapped < known + least || mapped > known + most)
        throw("heap: %zu bytes mapped, counted %zu", (size_t)known + least,
              (size_t)mapped);
}

void pages_verify(void)
{
    size_t free_pages = 0, dirty = 0, inuse = 0, runs = 0, listed = 0;
    size_t released = 0, structs = 0;
    lock(&pg.lock);
    for (uintptr_t p = heap.lo; p < pg.grown;) {
        struct mspan *s = heap_span_of(p);
        if (s == NULL || s->base != p || s->npages == 0 ||
            s->npages > (pg.grown - p) >> PAGE_SHIFT)
            throw("heap: the page map is wrong at %p", (void *)p);
        if (span_state(s) == SPAN_FREE) {
            released += verify_run(s);
            free_pages += s->npages;
            dirty += s->live;
            runs++;
        } else {
            for (size_t i = 0; i < s->npages; i++)
                if (heap_span_of(p + i * PAGE_SIZE) != s)
                    throw("heap: page %zu of %zu of the span at %p is not its",
                          i, s->npages, (void *)p);
            inuse += s->npages;
        }
        p += s->npages * PAGE_SIZE;
        structs++;
    }
    for (struct mspan *s = pg.dead; s != NULL; s = s->next)
        structs++;
    if (structs != pg.slabs * SLAB_STRUCTS)
        throw("heap: %zu span structs in use or not, of %zu", structs,
              (size_t)(pg.slabs * SLAB_STRUCTS));
    for (size_t b = 1; b < BINS; b++)
        for (struct mspan *s = pg.head[b]; s != NULL; s = s->next)
            listed++;
    for (struct mspan *s = tree_below(SIZE_MAX, UINTPTR_MAX); s != NULL;
         s = tree_below(s->npages, s->base))
        listed++;
    if (runs != listed)
        throw("heap: %zu free runs, %zu in lists", runs, listed);
    if (free_pages != pg.free_pages || dirty != pg.dirty_pages)
        throw("heap: %zu free pages (%zu dirty), counted %zu (%zu)", free_pages,
              dirty, pg.free_pages, pg.dirty_pages);
    if (inuse != atomic_load(&heap.pages_inuse))
        throw("heap: %zu pages in use, counted %zu", inuse,
              (size_t)atomic_load(&heap.pages_inuse));
    verify_mapped(released);
    unlock(&pg.lock);
}

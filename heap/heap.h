/* heap/heap.h - the managed heap: reservation, pages, spans, slots, caches,
 * object lookup, sweeping of one span.
 *
 * Owns: one reservation of address space (the arena); a side map with one byte
 * for each 16-byte granule of it (the meta map); a flat array page -> span; span
 * structs; the list of registered types; per-slot central lists. Does not know
 * goroutines: whoever allocates brings the mcache of the P it holds.
 *
 * Words. A page is 8 KiB. A span is a run of pages that holds objects of one
 * size, one after another from its base. A slot is what a span is for: one size
 * class of one layout, or of one registered type; each slot has a number, a
 * central list and an entry in every mcache. Large objects (> 32 KiB) have a
 * span each.
 *
 * Meta byte of a granule:
 *
 *      7      6   5     4     3     2     1     0
 *   +------+---------+-----+-----+-----+-----------+
 *   |CHECK |  KIND   |PTR1 |PTR0 | END |   COLOR   |
 *   +------+---------+-----+-----+-----+-----------+
 *
 *   COLOR  in the first granule of an object: 1 or 2 = allocated, young, and
 *          which of the two colours; 3 = allocated, old; 0 = free, or not a
 *          first granule.
 *   END    the last granule of an object's place in the span
 *   PTRi   word i of the granule may hold a pointer (KIND BYTES)
 *   KIND   in a first granule: how to scan. BYTES = by PTR bits up to END;
 *          NOSCAN; SPAN = ask the span (large, traced)
 *   CHECK  scratch of checkmark, always 0 outside it
 *
 * All but COLOR and CHECK is written when a span gets its slot, for all its
 * places, free or not. So allocation writes one byte, marking one, and sweeping
 * is an AND over the map.
 *
 * Colours. Allocation writes heap.color, 1 or 2. A collection begins by changing
 * it to the other, with the world stopped. That turns objects white at once: for a
 * young collection those of the colour before, that is, those that were allocated
 * since the last one began; for a full one the old ones, too. Marking takes the
 * white away: a young collection makes the object old, a full one gives it the new
 * colour. When marking is complete, sweepgen is advanced and what is white is
 * garbage: sweeping a span clears its COLOR bits; after a full collection it makes
 * the survivors old.
 *
 * Cards. A young collection must know where old objects point to young ones. Each
 * store of a pointer into managed memory first writes the epoch, a number that
 * changes at the start of each collection, into the card of the place: a byte for
 * each 512 bytes of addresses, modulo 4 GiB. A young collection looks at the old
 * objects in cards of the epoch before, and of its own, which may have been
 * written over that. Nobody clears a card: one that is 254 epochs old is looked
 * at for nothing.
 *
 * Invariants
 *  1. Span structs and the page map are type-stable and always readable: lookup
 *     needs no lock. A lookup re-checks span->seq (changed by each allocation
 *     and release of the struct) so that it never mixes two lives of a span.
 *  2. span->state is published (release) as SPAN_INUSE after everything else of
 *     the span, meta bytes included; and leaves SPAN_INUSE before any of it is
 *     taken back.
 *  3. A span is at any time in exactly one place: an mcache entry, one list of
 *     its slot's central, a sweeper's or allocator's hands, or free.
 *  4. Between the end of sweeping (heap_sweep_done) and the next mark
 *     termination no object has the dead colour outside a mark; during a mark
 *     no span is swept or released.
 *  5. Memory of a free place is not necessarily zero; [entry.ptr, entry.end) of
 *     an mcache always is.
 *  6. sweepgen: span->sweepgen == heap.sweepgen: swept (or cached, or new);
 *     == heap.sweepgen - 2: to be swept. Lists central.partial/full[i] with
 *     i = (sweepgen/2)%2 hold swept spans, the other ones unswept. A span on a
 *     partial list has room; one on a full list has none, or is dense.
 *
 * Locks: RANK_TYPES (type table, new slots), RANK_CENTRAL (one per slot),
 * RANK_PAGES (page allocator, free span structs), RANK_LEAF (list of mcaches).
 * mcaches have no lock: only the M that holds the P touches its entries, or
 * anyone while the world is stopped.
 */
#ifndef TARN_HEAP_HEAP_H_
#define TARN_HEAP_HEAP_H_

#include "base/base.h"
#include "base/lock.h"
#include "base/resident.h"
#include "heap/sizeclasses.h"
#include "tarn/barrier.h"
#include "tarn/heap.h"

#define PAGE_SHIFT 13
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define GRANULE_SHIFT 4
#define GRANULE ((size_t)16)
#define MAX_SMALL ((size_t)32768)
#define MAX_SLOTS 65536u

#define META_COLOR 0x03u
#define META_END 0x04u
#define META_PTR0 0x08u
#define META_PTR1 0x10u
#define META_KIND 0x60u
#define META_KIND_BYTES 0x00u
#define META_KIND_NOSCAN 0x20u
#define META_KIND_SPAN 0x40u
#define META_CHECK 0x80u

enum layout {
    LAYOUT_NOSCAN,
    LAYOUT_CONSERVATIVE,
    LAYOUT_PRECISE,
    LAYOUT_TRACED
};

/* sizeclasses.h (generated by heap/mksizeclasses.c) provides
 *   NUM_CLASSES (class 0 is not used), class_size[], class_pages[],
 *   class_objs[] and size_to_class(size_t size), 1 <= size <= MAX_SMALL;
 *   all sizes are multiples of 16. */

struct tarn_type {
    uint32_t entry; /* ABI: the offset of its entry in a cache; that of
                       SLOT_LARGE, which is always empty, if it has none */
    const char *name;
    size_t size;
    enum layout layout;
    uint32_t id;
    uint32_t words;         /* size / 8 */
    const uint64_t *ptrmap; /* LAYOUT_PRECISE; own copy */
    tarn_trace_fn trace;    /* LAYOUT_TRACED */
    uint32_t slot;          /* of single objects; NO_SLOT if size > MAX_SMALL */
    _Atomic uint32_t array_slot[NUM_CLASSES]; /* NO_SLOT until first use */
};
#define NO_SLOT UINT32_MAX

enum span_state { SPAN_DEAD, SPAN_FREE, SPAN_INUSE };

struct mspan {
    /* What lookup and marking read: one cache line. */
    _Atomic uint32_t state;
    _Atomic uint32_t seq;
    uintptr_t base;
    uintptr_t limit;   /* base + nelems * elemsize */
    size_t elemsize;   /* large: bytes asked for, rounded up to 16 */
    uint32_t divmagic; /* (off * divmagic) >> 32 == off / elemsize for every
                             off within the span; 0 for large spans */
    uint32_t nelems;
    uint32_t slot;
    uint8_t layout;    /* enum layout */
    uint8_t startbits; /* static meta bits of each first granule */
    bool large;
    bool needzero;          /* memory may be dirty */
    bool young;             /* may hold objects that are not old */
    struct tarn_type *type; /* NULL for built-in layouts */

    /* What allocation and sweeping use. */
    struct mspan *next CACHE_ALIGNED; /* in a central list, or a bin or the
                                         tree of free runs */
    struct mspan *prev;
    size_t npages;
    _Atomic uint32_t sweepgen;
    uint32_t live;      /* objects counted by the last sweep; dirty pages of
                             a free run */
    uint32_t freeindex; /* places below are not free since the last sweep, or
                             in a cache's hands */
    uint64_t freemask;  /* in a cache: which places of freeindex's block of 64
                             are free and not handed out */
    void *_Atomic
        specials; /* gc: what is to happen when objects of it die; NULL:
                               nothing */
} CACHE_ALIGNED;

/* Holes between places of up to this size, in a span in which no more than half is
 * free: left alone until the next collection, unless memory is short. */
#define DENSE_SIZE ((size_t)64)
ALWAYS_INLINE bool span_dense(const struct mspan *s, uint32_t live)
{
    return s->elemsize <= DENSE_SIZE && s->nelems - live <= s->nelems / 2;
}

struct span_list {
    struct mspan *head; /* linked by next */
    _Atomic size_t n;   /* may be read without the lock, as a hint */
};

struct slot_info {
    uint32_t class_; /* 0 for the large slots */
    uint8_t layout;
    uint8_t startbits; /* KIND and, for the first granule, PTR/END bits */
    bool array;        /* type's pattern repeats to the end of the place */
    struct tarn_type *type;
    struct mutex lock;                    /* RANK_CENTRAL */
    struct span_list partial[2], full[2]; /* see invariant 6 */
} CACHE_ALIGNED;

/* Built-in slots: [0, NUM_CLASSES) noscan by class, [NUM_CLASSES, 2*NUM_CLASSES)
 * conservative by class, then one for all large objects, then by type. */
#define SLOT_NOSCAN(c) ((uint32_t)(c))
#define SLOT_CONSERVATIVE(c) ((uint32_t)(NUM_CLASSES + (c)))
#define SLOT_LARGE ((uint32_t)(2 * NUM_CLASSES))
#define SLOT_FIRST_TYPED (SLOT_LARGE + 1)

/* A P's allocation entry for one slot: bump from ptr to end, all zero. Its first
 * fields are struct tarn_cache_entry, known to inline code of users; and so is
 * the place of slot 0, which is none: struct tarn_cache_head. A user's inline
 * allocation that was interrupted just before its last step leaves the place at
 * ptr with a colour: it is free all the same. */
struct mcache_entry {
    uintptr_t ptr, end;
    uint16_t size; /* <= MAX_SMALL */
    uint8_t startbits;
    bool listed : 1;    /* in the list from mcache.used */
    bool sample : 1;    /* the place at end is to be a sample: see sample.c */
    uint32_t next_used; /* slot; NO_SLOT ends the list */
    struct mspan *span; /* NULL: empty */
    uintptr_t run_end;  /* free places go on from end to here, not zeroed */
};

_Static_assert(sizeof(struct mcache_entry) == sizeof(struct tarn_cache_entry) &&
                   offsetof(struct mcache_entry, end) ==
                       offsetof(struct tarn_cache_entry, end) &&
                   offsetof(struct mcache_entry, size) ==
                       offsetof(struct tarn_cache_entry, size) &&
                   offsetof(struct mcache_entry, startbits) ==
                       offsetof(struct tarn_cache_entry, startbits),
               "tarn/heap.h: inline allocation");
_Static_assert(SLOT_NOSCAN(0) == TARN_CACHE_BYTES &&
                   SLOT_CONSERVATIVE(0) == TARN_CACHE_CONSERVATIVE &&
                   offsetof(struct tarn_type, entry) == 0,
               "tarn/heap.h: inline allocation");

struct mcache {
    struct mcache_entry *entries; /* MAX_SLOTS reserved, touched as used */
    struct mcache_entry *fast;    /* entries, or NULL when users must call */
    uint32_t used;                /* first slot filled since the last flush */
    uint64_t alloc_bytes;         /* handed out from this cache; see flush */
    uint64_t alloc_objects;       /* refills count what they hand out */
    uint64_t live_pending;        /* handed out, not yet added to heap.live */
    size_t unpaid;                /* of it, by mcache_next_run: its caller's */
    bool sampled;                 /* what the last refill made is a sample */
    uint64_t sample_rand;
    struct mcache *next; /* all caches, for heap_verify */
};
/* An mcache holds back less than this much from heap.live. */
#define LIVE_BATCH ((uint64_t)4096)

struct heap {
    /* Constant, or nearly so: read by every allocation and lookup. */
    uintptr_t lo, hi; /* the reservation */
    /* The same for tests of addresses: a register that has held minus_lo is no
     * pointer to the first object when a dead word of it is scanned. */
    uintptr_t minus_lo;
    size_t size;
    uint8_t *meta; /* biased: meta[addr >> GRANULE_SHIFT]; committed
                                 (like the arena) only up to used_hi */
    struct mspan *_Atomic *pages; /* biased: pages[addr >> PAGE_SHIFT]; can be
                                     read for all of the reservation */
    uintptr_t mark_size;    /* white objects lie within lo .. lo + mark_size:
                                 what is allocated behind it during a mark is
                                 black. Set by heap_flip_color. */
    _Atomic uint32_t color; /* 1 or 2 */
    /* Of an allocated object with meta byte b: white if (b ^ white_xor) &
     * white_bit; marking makes b (b & ~mark_clear) | mark_set. */
    uint8_t white_xor, white_bit, mark_clear, mark_set;
    bool full;          /* this collection, or the last one */
    _Atomic bool tight; /* sweep before fresh pages are taken */
    _Atomic uint64_t
        dense_until;      /* pages in use from which on the holes of dense
                                     spans are used; 0: not known */
    _Atomic bool refused; /* the system had no memory when last asked */
    _Atomic uint64_t mapped_most;     /* give back others then; 0: no limit */
    uint8_t epoch_before;             /* cards that this collection looks at */
    _Atomic uint64_t sample_interval; /* bytes between samples; 0: none */
    _Atomic uint32_t sweepgen;
    struct slot_info *slots; /* MAX_SLOTS reserved */
    _Atomic uint32_t nslots;

    /* Written now and then by everybody. */
    _Atomic uintptr_t used_hi CACHE_ALIGNED; /* nothing was ever allocated at
                                                or above */
    _Atomic uint64_t live;     /* bytes of objects, garbage not yet swept incl.;
                                 see LIVE_BATCH; and external */
    _Atomic uint64_t external; /* that objects own elsewhere */
    _Atomic uint64_t mapped;   /* bytes committed and not given back: arena and
                                 metadata */
    _Atomic uint64_t alloc_bytes,
        alloc_objects; /* flushed from mcaches, large */
    _Atomic uint64_t swept_bytes, swept_objects;
    _Atomic uint64_t pages_inuse;
    _Atomic uint32_t sweepers;     /* sweeps in flight, and SWEEP_DRAINED */
    _Atomic uint32_t sweep_cursor; /* slots below have no unswept spans */
};
extern struct heap heap;

/* In heap.sweepers: nothing is left to take. One word, so that nobody can begin
 * a sweep between the last look at the lists and the end of sweeping. */
#define SWEEP_DRAINED (UINT32_C(1) << 31)

/* Reserves; falls back to half as much, and again, if refused (down to 16 MiB).
 * max_bytes: the option heapmax. False and set_error when nothing works. */
bool heap_init(size_t max_bytes);

ALWAYS_INLINE uint8_t *heap_meta(uintptr_t p)
{
    return &heap.meta[p >> GRANULE_SHIFT];
}
ALWAYS_INLINE bool heap_contains(uintptr_t p)
{
    return p + heap.minus_lo < heap.size;
}
/* Can p point to a white object of this mark? If so its meta byte can be read. */
ALWAYS_INLINE bool heap_markable(uintptr_t p)
{
    return p + heap.minus_lo < heap.mark_size;
}
ALWAYS_INLINE struct mspan *heap_span_of(uintptr_t p) /* heap_contains(p) */
{
    return atomic_load_explicit(&heap.pages[p >> PAGE_SHIFT],
                                memory_order_acquire);
}
ALWAYS_INLINE uint8_t meta_load(const uint8_t *m)
{
    return __atomic_load_n(m, __ATOMIC_RELAXED);
}
ALWAYS_INLINE void meta_store(uint8_t *m, uint8_t v)
{
    __atomic_store_n(m, v, __ATOMIC_RELAXED);
}

/* What option clobberfree fills freed objects with: no address (bits 47 to 63
 * differ), no small number, no text. */
#define FREE_PATTERN UINT64_C(0xdeadbeefdeadbeef)

struct objinfo {
    uintptr_t base;
    size_t size;
    struct mspan *span;
    /* Of the first granule, as read. A whole word: a byte over part of what a dead frame
     * has left in one would make a pointer to a neighbour of what that pointed to. */
    uint64_t meta;
};
/* The allocated object that p points into (anywhere in [base, base+size)).
 * Any thread, any time, no lock; false if none. For large objects size is the
 * rounded size asked for, and pointers behind it do not count. */
bool heap_find(uintptr_t p, struct objinfo *o);
/* The same, inline, for marking; *type is the span's. Every load is in order
 * (acquire, which costs nothing here), so that an unchanged seq proves that all
 * of them saw one life of the span. */
ALWAYS_INLINE bool heap_find_inline(uintptr_t p, struct objinfo *o,
                                    struct tarn_type **type)
{
    if (!heap_contains(p))
        return false;
    struct mspan *s = heap_span_of(p);
    if (s == NULL)
        return false;
    uint32_t seq = atomic_load_explicit(&s->seq, memory_order_acquire);
    if (atomic_load_explicit(&s->state, memory_order_acquire) != SPAN_INUSE)
        return false;
    uintptr_t base = __atomic_load_n(&s->base, __ATOMIC_ACQUIRE);
    uintptr_t limit = __atomic_load_n(&s->limit, __ATOMIC_ACQUIRE);
    if (p - base >= limit - base)
        return false;
    size_t size = __atomic_load_n(&s->elemsize, __ATOMIC_ACQUIRE);
    uint64_t magic = __atomic_load_n(&s->divmagic, __ATOMIC_ACQUIRE);
    base += (((p - base) * magic) >> 32) * size;
    /* Torn fields may have led anywhere: look there only if it can be read. */
    if (!heap_contains(base) || base > p)
        return false;
    uint8_t meta = __atomic_load_n(heap_meta(base), __ATOMIC_ACQUIRE);
    *type = __atomic_load_n(&s->type, __ATOMIC_ACQUIRE);
    if (!(meta & META_COLOR) ||
        atomic_load_explicit(&s->seq, memory_order_relaxed) != seq)
        return false;
    o->base = base;
    o->size = size;
    o->span = s;
    o->meta = meta;
    return true;
}

/* --- cards ---------------------------------------------------------------- */

#define CARD_SHIFT 9
#define CARD ((size_t)1 << CARD_SHIFT)
#define CARDS ((size_t)1 << (32 - CARD_SHIFT))

ALWAYS_INLINE uint8_t *heap_card(uintptr_t p)
{
    return &tarn_cards.table[(uint32_t)p >> CARD_SHIFT];
}
/* Before pointers are written to [p, p + n), n > 0; no collection may begin
 * between. */
ALWAYS_INLINE void heap_dirty(const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p >> CARD_SHIFT;
    uintptr_t last = ((uintptr_t)p + n - 1) >> CARD_SHIFT;
    for (; at <= last; at++)
        __atomic_store_n(heap_card(at << CARD_SHIFT), tarn_cards.epoch,
                         __ATOMIC_RELAXED);
}

/* --- allocation: by the holder of the cache, not preemptible -------------- */

bool mcache_init(struct mcache *c);
void mcache_destroy(struct mcache *c); /* flushes it first */
/* One object from an entry, or 0 when a refill is needed. Inline and bump. */
ALWAYS_INLINE uintptr_t entry_alloc(struct mcache_entry *e)
{
    uintptr_t p = e->ptr;
    if (unlikely(p >= e->end))
        return 0;
    e->ptr = p + e->size;
    meta_store(heap_meta(p), (uint8_t)(e->startbits |
                                       atomic_load_explicit(
                                           &heap.color, memory_order_relaxed)));
    return p;
}
ALWAYS_INLINE uintptr_t mcache_alloc(struct mcache *c, uint32_t slot)
{
    return entry_alloc(&c->entries[slot]);
}
/* Makes entry `slot` non-empty: goes on in its run, finds the next free run of
 * its span, or takes another span (swept partial, unswept after sweeping it,
 * new). Returns the bytes that became allocatable, 0 when out of memory. Updates
 * heap.live and the cache's counts by what it hands out. */
size_t mcache_refill(struct mcache *c, uint32_t slot);
/* As mcache_refill where there is nothing more to it than a short run of the span in
 * hand: else false. Where objects die one by one that is most of refills; what they hand
 * out is added to c->unpaid, too. */
bool mcache_next_run(struct mcache *c, struct mcache_entry *e);
/* Gives back every span: unused places become free again, counts are moved to
 * heap.*. World stopped, or owner. */
void mcache_flush(struct mcache *c);

/* --- samples for the heap profile (sample.c) ------------------------------- */

/* World stopped: from now on one byte in interval is picked (0: none). A refill that
 * makes an object one says so in c->sampled: the next allocation from the entry is
 * it, and only then there is one. */
void heap_sample_start(uint64_t interval, uint64_t seed);
/* Is a large object of n bytes one? */
bool heap_sample_large(struct mcache *c, size_t n);
/* That an object of this size is one. */
double sample_probability(uint64_t interval, uint64_t size);

/* World stopped: what caches hold that counts as live and is not handed out yet. */
int64_t mcache_unused_bytes(void);

/* Large object, n > MAX_SMALL, zeroed, meta byte set, counted. type may be NULL
 * for LAYOUT_NOSCAN and LAYOUT_CONSERVATIVE. 0 when out of memory. */
uintptr_t heap_alloc_large(size_t n, enum layout layout,
                           struct tarn_type *type);
/* The same in steps, since zeroing takes 200 us a MiB and more: memory, false when
 * out of it; then some of what is not zero yet, step bytes (whole pages), until that
 * is false; then the object. Between them nobody knows the memory, and the caller
 * may lose its P and the world may be stopped. */
struct heap_large {
    struct mspan *span;
    size_t size, zeroed;
};
bool heap_large_take(struct heap_large *l, size_t n);
bool heap_large_zero(struct heap_large *l, size_t step);
uintptr_t heap_large_publish(const struct heap_large *l, enum layout layout,
                             struct tarn_type *type);

/* The slot for an array of type in class c; NO_SLOT, with set_error, when the
 * table is full. Lock-free but for the first time. */
uint32_t type_array_slot(struct tarn_type *type, uint32_t class_);

/* --- for the collector ---------------------------------------------------- */

/* World stopped, mcaches need not be flushed: young objects become white, or all. */
void heap_flip_color(bool full);
ALWAYS_INLINE bool heap_white(uint8_t meta) /* of an allocated object */
{
    return ((meta ^ heap.white_xor) & heap.white_bit) != 0;
}
ALWAYS_INLINE uint8_t heap_marked(uint8_t meta)
{
    return (uint8_t)((meta & ~heap.mark_clear) | heap.mark_set);
}
/* World stopped, mark complete, all mcaches flushed: garbage may be swept. The
 * sweep before must be done. */
void heap_sweep_start(void);
/* Sweeps a few spans of one slot; pages swept, or 0 when nothing is left to take
 * (others may still be at work: see heap_sweep_done). Any thread; no P needed. */
size_t heap_sweep_one(void);
/* True when every span of this generation has been swept. */
bool heap_sweep_done(void);
/* Gives memory of free pages back to the system until at most keep_bytes of it
 * are left resident; returns the bytes given back. Any thread; takes the page
 * allocator's lock for short times only. */
size_t heap_release_free(size_t keep_bytes);
/* The same step by step, of some hundred KiB each; false: that was all. */
struct heap_release {
    size_t released; /* bytes so far */
    bool begun;      /* the way so far: the heap's; all zero at first */
    size_t npages, bin;
    uintptr_t base;
};
bool heap_release_step(struct heap_release *r, size_t keep_bytes);
/* Touches some of the ahead bytes of committed memory behind all that was ever
 * handed out, so that whoever gets it does not have to. By one thread at a time.
 * How many; 0: they are touched, or the kernel cannot (errno). */
size_t heap_touch_ahead(size_t ahead);
/* Bytes that describe the arena, as far as it was ever used. */
size_t heap_metadata_bytes(void);
/* World stopped, by its stopper: sweeps what is left to sweep, and takes back the
 * colour of free places that interrupted allocations have left. Then every place with
 * a colour is an object. */
void heap_settle(void);
/* Called for each in-use span; world stopped, or by nobody who sweeps. */
void heap_each_span(void (*fn)(struct mspan *s, void *arg), void *arg);

/* Bytes in memory, world stopped. False: no memory to find out. */
struct heap_memory {
    size_t objects, free_places, free_pages, metadata;
    size_t structs; /* of metadata, from sys_alloc */
};
bool heap_memory(struct resident *r, struct heap_memory *m);

/* Installed by gc. */
struct heap_hooks {
    /* A span with specials is about to be swept: objects that shall live on after
     * all are marked now. */
    void (*sweep_specials)(struct mspan *s);
    /* Memory was handed out for the first time, and little of what lies behind
     * it is touched. Under no lock of the heap. */
    void (*touch_wanted)(void);
};
extern struct heap_hooks heap_hooks;

/* Walks everything with the world stopped (or single-threaded) and throws at
 * the first violation: page map, lists, meta bytes, counts. For debug builds. */
void heap_verify(void);

/* For tests: counts of pages {in use, free, never used}, largest free run. */
struct heap_page_counts {
    size_t inuse, free, unused, largest_free;
};
void heap_page_counts(struct heap_page_counts *out);

#endif

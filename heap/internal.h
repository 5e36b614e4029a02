/* heap/internal.h - what the files of heap share among themselves. */
#ifndef TARN_HEAP_INTERNAL_H_
#define TARN_HEAP_INTERNAL_H_

#include "heap/heap.h"

/* Fields of a span that lookups read at any time are written with these: a
 * release store, so that they come after the change of seq that says so. */
#define SPAN_SET(s, field, v)                                                  \
    __atomic_store_n(&(s)->field, (v), __ATOMIC_RELEASE)

ALWAYS_INLINE uint32_t span_state(struct mspan *s)
{
    return atomic_load_explicit(&s->state, memory_order_acquire);
}

/* --- pages.c -------------------------------------------------------------- */

/* The side array of page states. A page in use keeps the state it had when it
 * was free: the owner may ask whether it got zero memory. */
enum page_state {
    PAGE_ZERO, /* never touched since it was committed */
    PAGE_DIRTY,
    PAGE_RELEASED, /* zero: given back to the system; free pages only */
};

/* What heap_init has reserved; everything readable, nothing else committed. */
void pages_init(uint8_t *states);
/* n pages in one span struct, SPAN_DEAD and of nobody, page map set, needzero
 * says if any of it may be dirty. NULL when out of memory (no error text). */
struct mspan *pages_alloc(size_t n);
/* Any span that is not free already. Its COLOR bits must all be 0. */
void pages_free(struct mspan *s);
/* Zeroes what is dirty of bytes [from, to) of a span of the caller's; from is a
 * page's. */
void pages_zero_dirty(struct mspan *s, size_t from, size_t to);
/* Free pages that are resident already; and are those some? */
size_t pages_dirty(void);
bool pages_warm(void);
/* The end of committed memory. */
uintptr_t pages_end(void);
void pages_verify(void);
/* What span structs take; the states of pages. */
size_t pages_struct_bytes(void);
const void *pages_states(void);

/* --- types.c -------------------------------------------------------------- */

/* The slot table grows by this much. */
#define SLOT_COMMIT_STEP ((size_t)64 << 10)
/* Reserves the slot table and makes the built-in slots, once. */
bool slots_init(void);

/* --- span.c --------------------------------------------------------------- */

/* The static meta byte of granule g of each place of a slot. */
uint8_t slot_static_meta(const struct slot_info *si, size_t g);
/* Makes fresh pages a span of the slot and publishes it. */
void span_setup(struct mspan *s, uint32_t slot);
/* Moves s->freeindex on to a free place, or to nelems; fills s->freemask. */
void span_find_free(struct mspan *s);
/* After span_find_free: the free places [*from, *to) from s->freeindex on,
 * which moves on to the next free place behind them. False if there are none. */
bool span_take_run(struct mspan *s, uint32_t *from, uint32_t *to);
/* Clears the garbage of an unswept span that the caller has taken off its list,
 * and counts it: s->live says what is left. */
void span_sweep(struct mspan *s);

/* Bytes -> objects of a span's size, without a division. */
ALWAYS_INLINE uint32_t span_count(const struct mspan *s, size_t bytes)
{
    return (uint32_t)((bytes * (uint64_t)s->divmagic) >> 32);
}

/* --- sample.c ------------------------------------------------------------- */

/* So many of the next n bytes of e's run may be handed out at once: there is no
 * sample in them, or it is one object, which is. */
size_t sample_cut(struct mcache *c, struct mcache_entry *e, struct mspan *s,
                  size_t n);
/* A new cache gets random numbers of its own; the list's lock held. */
void sample_cache(struct mcache *c);

/* --- central.c ------------------------------------------------------------ */

/* Which of the lists hold swept spans; the others are at [!swept_index()]. */
ALWAYS_INLINE uint32_t swept_index(void)
{
    return atomic_load_explicit(&heap.sweepgen, memory_order_relaxed) / 2 % 2;
}
/* The first of all caches; world stopped. */
struct mcache *mcache_first(void);

#endif

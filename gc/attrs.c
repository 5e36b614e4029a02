/* gc/attrs.c - what tarn/attrs.h says of the runtime is so. */
#include "tarn/attrs.h"

#include "gc/gc.h"
#include "heap/heap.h"
#include "stackscan/stackscan.h"

#define SAYS(constant, is)                                                     \
    _Static_assert((constant) == (is), "tarn/attrs.h: " #constant)

/* asm_amd64.S uses these of attrs.h itself; code of ours has as much room as that
 * without checks is said to need, and a small frame on top. */
_Static_assert(STACK_GUARD >= TARN_ATTR_UNCHECKED_ROOM, "tarn/attrs.h");
_Static_assert(TARN_ATTR_SMALL_FRAME <= STACK_GUARD / 16, "tarn/attrs.h");

SAYS(TARN_ATTR_CARDS_TABLE, offsetof(struct tarn_cards, table));
SAYS(TARN_ATTR_CARDS_EPOCH, offsetof(struct tarn_cards, epoch));
SAYS(TARN_ATTR_CARD_SHIFT, CARD_SHIFT);
SAYS(sizeof(tarn_barrier_on), 4);

SAYS(TARN_ATTR_CACHE_META, offsetof(struct tarn_cache_head, meta));
SAYS(TARN_ATTR_CACHE_COLOR, offsetof(struct tarn_cache_head, color));
SAYS(TARN_ATTR_META_SHIFT, GRANULE_SHIFT);
SAYS(TARN_ATTR_ENTRY_PTR, offsetof(struct mcache_entry, ptr));
SAYS(TARN_ATTR_ENTRY_END, offsetof(struct mcache_entry, end));
SAYS(TARN_ATTR_ENTRY_SIZE, offsetof(struct mcache_entry, size));
SAYS(TARN_ATTR_ENTRY_STARTBITS, offsetof(struct mcache_entry, startbits));
SAYS(TARN_ATTR_ENTRY_BYTES, sizeof(struct mcache_entry));
SAYS(offsetof(struct tarn_type, entry), 0); /* tarn_attr_type_entry */

SAYS(TARN_ATTR_UNSAFE_PAIR, 2 * sizeof(int32_t));

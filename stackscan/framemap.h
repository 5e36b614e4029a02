/* stackscan/framemap.h - what lies where in the frames of code that can tell.
 *
 * A compiler on top of the runtime knows which words of a frame hold pointers at
 * a call. It registers that by return address; scans and moves of stacks then use
 * it for the frames that they find by walking (unwind.h), and take every word of
 * all other frames for what it may be. Where a walk ends early, all words from
 * there on are of that kind.
 *
 * A frame, with `ret` in the slot that the call has pushed:
 *
 *          | slot of the caller's return address  |  <- ret slot + size
 *          | word size/8 - 2                      |
 *          |  ...                                 |
 *          | word 0                               |  <- rsp behind the call
 *          | slot that holds ret                  |
 *
 * Contract of who registers
 *  1. At ret every word that holds the address of an object that this frame will
 *     still use is in `pointers`; every word that holds an address in this
 *     goroutine's own stack, in `locals`. One word may be in both. Other words
 *     are neither looked at nor changed.
 *  2. Outgoing arguments on the stack belong to who is called, who may keep
 *     anything there: their words are in both.
 *  3. A callee-saved register that the function has changed is in `saved`: the
 *     word holds its caller's value, which may be anything and is treated so.
 *     What the function itself holds in such registers at ret is found where the
 *     functions below have saved it, and treated so too: nothing has to be told.
 *  4. A map is there before its code runs, until no frame of it is left.
 *
 * 5. Where the function calls __morestack, before it has a frame, a map of size 8
 *     for that return address lets the walk go on if there are no unwind tables.
 *
 * A frame that was stopped between any two instructions has no return address
 * that is in a table: all its words count, and the walk goes on to its caller if
 * it has unwind tables.
 *
 * Under option checkmark scans do not use maps, because two scans of one stack
 * must see the same.
 *
 * Invariant: a published table never changes; readers hold it by an epoch.
 * Locks: framemap_lock (leaf), for writers. */
#ifndef TARN_STACKSCAN_FRAMEMAP_H_
#define TARN_STACKSCAN_FRAMEMAP_H_

#include "stackscan/stackscan.h"
#include "stackscan/unwind.h"
#include "tarn/defs.h"

struct frame_map {
    uintptr_t ret;
    uint32_t size; /* from the slot of ret to the caller's, in bytes */
    uint16_t saved[UNW_REGS]; /* 1 + the word that holds the caller's rbx, rbp,
                                 r12, r13, r14, r15; 0: as it was */
    const uint64_t
        *pointers;          /* bit i%64 of word i/64 for word i of the frame */
    const uint64_t *locals; /* NULL: none */
};

/* The maps of the code in [lo, hi), in any order. */
struct frame_map_info {
    const void *lo, *hi;
    const struct frame_map *maps;
    size_t n;
};
#define FRAME_SIZE_MAX ((uint32_t)256 << 10)

/* Copies all of it. TARN_EINVAL, with the offender named: a range that overlaps
 * another one, a return address outside of it or twice, a size that is no
 * multiple of 8 or is above FRAME_SIZE_MAX, a word outside of its frame.
 * TARN_ENOMEM. foreign. */
tarn_status framemap_register(const struct frame_map_info *info);
/* Exactly what was registered, else TARN_EINVAL. TARN_ENOMEM: it stays. */
tarn_status framemap_unregister(const void *lo, const void *hi);

/* The map of a return address; its bitmaps are valid while it is registered. */
bool framemap_find(uintptr_t ret, struct frame_map *out);

/* For scanstack: range(sp, hi, arg), or parts of it. Maps are used when gp is held
 * by suspendG. */
void scanstack_frames(struct g *gp, uintptr_t sp, uintptr_t hi,
                      void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                      void *arg);
/* For copystack: [sp, hi) is the copy of what is still gp's stack; the words that
 * lie in [lo, old_hi) move with it. The old frames' words are found bias above
 * their addresses: not 0 for the image of a frozen goroutine. */
void adjust_frames(struct g *gp, uintptr_t sp, uintptr_t hi, uintptr_t lo,
                   uintptr_t old_hi, intptr_t delta, uintptr_t bias);

/* Where a walk of gp's stack begins: gp does not run, its frames are in
 * [sp, hi). False: that cannot be told. */
bool unwind_begin(struct unwind *u, struct g *gp, uintptr_t sp, uintptr_t hi,
                  uintptr_t bias);
/* A step, also from a callback to the frames below the native call that it is
 * made from. */
bool unwind_next(struct unwind *u);

#endif

/* stackscan/framemap.h - what lies where in the frames of code that can tell.
 *
 * A compiler on top of the runtime knows which words of a frame hold pointers at
 * a call. It registers that by return address; scans and moves of stacks then use
 * it for the frames that they find by walking (unwind.h), and take every word of
 * all other frames for what it may be. Where a walk ends early, all words from
 * there on are of that kind.
 *
 * tarn/attrs.h has the form of a map, and the contract of who registers one.
 *
 * A frame that was stopped between any two instructions has no return address
 * that is in a table: all its words count, and the walk goes on to its caller if
 * it has unwind tables.
 *
 * Under option checkmark scans do not use maps, because two scans of one stack
 * must see the same. A map with rbp that is somewhere else is none: the function
 * has pushed something.
 *
 * Invariant: a published table never changes; readers hold it by an epoch.
 * Locks: framemap_lock (leaf), for writers. */
#ifndef TARN_STACKSCAN_FRAMEMAP_H_
#define TARN_STACKSCAN_FRAMEMAP_H_

#include "stackscan/stackscan.h"
#include "stackscan/unwind.h"
#include "tarn/attrs.h"

_Static_assert((int)UNW_RBX == TARN_SAVED_RBX &&
                   (int)UNW_RBP == TARN_SAVED_RBP &&
                   (int)UNW_R12 == TARN_SAVED_R12 &&
                   (int)UNW_R15 == TARN_SAVED_R15 &&
                   (int)UNW_REGS == TARN_SAVED_REGS,
               "tarn/attrs.h");

/* tarn_frame_maps_register for maps that are known by where they come from, not by
 * their text: [lo, hi) is that. `who` is for messages. */
tarn_status framemap_add(const char *who, const struct tarn_frame_maps *info,
                         bool any_text);
tarn_status framemap_remove(const char *who, uintptr_t lo, uintptr_t hi);

/* The map of a return address; its bitmaps are valid while it is registered. */
bool framemap_find(uintptr_t ret, struct tarn_frame_map *out);

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
/* For who wants to know the callers only: where the walk of the goroutine begins on
 * whose behalf we are on g0, an attached thread's, too; and a step, by tables or a
 * map. */
bool unwind_begin_here(struct unwind *u, struct g *gp);
bool unwind_caller(struct unwind *u);

#endif

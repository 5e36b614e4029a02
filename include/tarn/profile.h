/* tarn/profile.h - a profile of where memory is allocated, and what of it is in use,
 * for pprof (github.com/google/pprof): docs/debugging.md.
 *
 * One byte in so many is picked at random, and the object that it belongs to is noted
 * with the functions that were under way; all numbers are scaled by how likely that
 * was, so that sums over many samples are right. An inline allocation does no more
 * than without; a sample costs a walk of the stack.
 *
 * Callers are found by unwind tables, generated code by its frame maps (tarn/attrs.h)
 * if it has no tables. Names come from symbol tables; where a file has none, pprof has
 * the address.
 */
#ifndef TARN_PROFILE_H_
#define TARN_PROFILE_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Begins a new profile, of samples so many bytes apart on the average; 0: 512 KiB; 1:
 * every object. What the one before knew is forgotten. Stops the world for a moment.
 * blocks, preempts, goroutines only. TARN_ESTATE: not on a goroutine, or the caller has
 * stopped the world; a profile is being made already. TARN_ENOMEM. */
TARN_API tarn_status tarn_heap_profile_start(size_t interval_bytes);
/* No more samples. What was noted can be written all the same, and what is in use of
 * it is still followed. As tarn_heap_profile_start; TARN_ESTATE also: there is none. */
TARN_API tarn_status tarn_heap_profile_stop(void);
/* Writes the profile as it is now: alloc_objects and alloc_space since the start,
 * inuse_objects and inuse_space of objects that are not freed yet (call tarn_gc before,
 * to see the living only). TARN_EINVAL: no path; TARN_ESTATE: no profile was begun, or
 * the caller has stopped the world; TARN_ENOMEM; TARN_ESYS: the file cannot be written,
 * the text has the path and the reason. Takes time, in a native call of its own.
 * blocks, preempts; foreign. */
TARN_API tarn_status tarn_heap_profile_write(const char *path);

TARN_END_DECLS
#endif

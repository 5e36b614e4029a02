/* tarn/final.h - finalizers and cleanups: code that runs when an object is dead.
 *
 * A cleanup does not see the object: it is given what it needs when it is added. It
 * runs when the object is gone, whatever the object pointed to or who to it. A
 * finalizer is given the object. The object and all that it reaches lives on for
 * that, and until nothing reaches it any more; its finalizer is used up then, but may
 * be set again. Where one object with a finalizer reaches another, the other's runs in
 * a later collection; so an object with a finalizer that is reached by what it reaches
 * never dies (one that points to itself at once does, up to 1 MiB). Prefer cleanups.
 *
 * Both run one after the other, in the order in which they were found, on a goroutine
 * with a fixed stack. They may do all that goroutines may but tarn_goexit; one that
 * blocks holds up the others, and should start a goroutine. None runs when the program
 * ends. The argument is kept alive; if it reaches the object, that never dies.
 *
 * The object is given by the address of its first byte. For goroutines. None of the
 * functions here blocks, but where said.
 */
#ifndef TARN_FINAL_H_
#define TARN_FINAL_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* What runs when an object is dead. */
typedef void (*tarn_finalizer_fn)(void *object, void *arg);
typedef void (*tarn_cleanup_fn)(void *arg);

/* Sets, replaces or, with NULL for fn, removes the object's finalizer. TARN_EINVAL:
 * not an object; TARN_ENOMEM; TARN_ESTATE. */
TARN_API tarn_status tarn_finalizer_set(void *object, tarn_finalizer_fn fn,
                                        void *arg);
/* Adds one of any number. Its number, never 0 and never used again; 0 on failure, as
 * above. */
TARN_API uint64_t tarn_cleanup_add(void *object, tarn_cleanup_fn fn, void *arg);
/* Of an object that is alive: true if it had the cleanup, which will not run. */
TARN_API bool tarn_cleanup_remove(void *object, uint64_t id);
/* Waits until all that were found due before the call have run: after tarn_gc, those
 * of all that was dead when it was called. blocks, preempts. TARN_ESTATE: not on a
 * goroutine, by a finalizer or cleanup, or by who has stopped the world. */
TARN_API tarn_status tarn_finalizers_wait(void);
/* How many have been found due, and how many have run. foreign. */
TARN_API void tarn_finalizers_count(uint64_t *due, uint64_t *run);

TARN_END_DECLS
#endif

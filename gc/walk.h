/* gc/walk.h - the heap seen while the world is stopped: what the walks of tarn/walk.h
 * and the snapshot share. All of it on g0 of the goroutine that has stopped the world,
 * after heap_settle. */
#ifndef TARN_GC_WALK_H_
#define TARN_GC_WALK_H_

#include "gc/gc.h"
#include "tarn/walk.h"

/* The goroutine that has stopped the world, if the caller is it, or runs on g0 for it;
 * else NULL. */
struct g *walk_stopper(void);

/* Each object. False: fn did not want more. */
bool walk_objects(bool (*fn)(const struct objinfo *o, void *arg), void *arg);
/* Each pointer of an object. */
void walk_pointers(const struct objinfo *o,
                   bool (*fn)(const struct tarn_object_pointer *p, void *arg),
                   void *arg);

typedef bool (*walk_root_fn)(const struct tarn_root *r, void *arg);
/* Roots but stacks, and but finalizers; of one stack; of finalizers and what is due.
 * False: fn did not want more. */
bool walk_other_roots(walk_root_fn fn, void *arg);
bool walk_stack(struct g *gp, walk_root_fn fn, void *arg);
bool walk_finalizers(walk_root_fn fn, void *arg);

#endif

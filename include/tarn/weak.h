/* tarn/weak.h - weak references, ephemerons, weak maps.
 *
 * All are managed objects like others: nothing is to be freed, and they may be stored
 * anywhere. What is said to die here is an object that nothing reaches but weak
 * references and values of weak maps whose key is dead. What a dead object with a
 * finalizer reaches is alive until that has run; the object itself is not. From the end of the mark that finds it dead no weak
 * reference leads to it any more, also if its finalizer makes it reachable again.
 *
 * Keys and targets are objects: the address must be that of the first byte, as the
 * alloc functions return it (else TARN_EINVAL). All functions are for goroutines
 * (attached threads are one); called elsewhere, those without a status end the
 * process with a message. None blocks the goroutine or moves the stack, unless said.
 */
#ifndef TARN_WEAK_H_
#define TARN_WEAK_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* A weak reference, a map with weak keys, and an entry of its own. */
typedef struct tarn_weak tarn_weak;
typedef struct tarn_weakmap tarn_weakmap;
typedef struct tarn_ephemeron tarn_ephemeron;

/* A weak reference to object: the same one for the same object, so comparing two
 * of them tells whether they are of one object. It costs some 80 bytes until the
 * object dies. NULL if it is not an object (TARN_EINVAL), or there is no memory.
 * allocates, preempts, moves. */
TARN_API tarn_weak *tarn_weak_new(void *object)
    __attribute__((warn_unused_result));
/* The object, or NULL if it is dead. */
TARN_API void *tarn_weak_get(const tarn_weak *weak);

/* A map from objects, by address, to pointers. An entry keeps its value alive while
 * both key and map are; it does not keep its key. So a value may point to its key,
 * and chains of entries (the value of one is the key of the next) go in one
 * collection. Entries lie with their keys: a lookup costs as much in a large map as
 * in a small one. Any goroutine may use a map at any time.
 * allocates, preempts, moves; NULL when there is no memory. */
TARN_API tarn_weakmap *tarn_weakmap_new(void)
    __attribute__((warn_unused_result));
/* Enters value, which may be NULL, or replaces what was there. TARN_EINVAL: key is
 * not an object; TARN_ENOMEM; TARN_ESTATE. */
TARN_API tarn_status tarn_weakmap_set(tarn_weakmap *map, void *key,
                                      void *value);
/* The value of key, or NULL. */
TARN_API void *tarn_weakmap_get(tarn_weakmap *map, const void *key);
/* The same where NULL may be a value: false if there is no entry. value may be
 * NULL. */
TARN_API bool tarn_weakmap_find(tarn_weakmap *map, const void *key,
                                void **value);
/* True if there was one. */
TARN_API bool tarn_weakmap_remove(tarn_weakmap *map, const void *key);
/* Entries now, with those of dead keys that were not swept yet. */
TARN_API size_t tarn_weakmap_count(tarn_weakmap *map);
/* Calls fn for each entry that is there for the whole call, once; perhaps for
 * others. fn may use the map, block, and return false to end it; the entries, then,
 * are held by the caller's stack for a while. preempts; blocks and moves as fn does.
 * TARN_ENOMEM, TARN_ESTATE. */
TARN_API tarn_status tarn_weakmap_each(tarn_weakmap *map,
                                       bool (*fn)(void *key, void *value,
                                                  void *arg),
                                       void *arg);

/* A single entry as an object: keeps value alive while key and itself are.
 * As tarn_weak_new. */
TARN_API tarn_ephemeron *tarn_ephemeron_new(void *key, void *value)
    __attribute__((warn_unused_result));
/* False, with NULL in both, if the key is dead. Either may be NULL. */
TARN_API bool tarn_ephemeron_get(const tarn_ephemeron *e, void **key,
                                 void **value);

TARN_END_DECLS
#endif

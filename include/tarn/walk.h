/* tarn/walk.h - the heap seen while the world stands still: every object, what it
 * points to, what the roots point to; and a snapshot of all that in a file.
 *
 * The walks are for the goroutine that has stopped the world (tarn_world_stop;
 * TARN_ESTATE elsewhere), between stop and start. What they report is what is
 * allocated and not known to be dead: garbage of the last collection is swept
 * first; what became garbage since, or in a collection that is still marking, is
 * reported like the rest. Call tarn_gc before to see the living only.
 *
 * Their functions fn run on the thread's stack, as that of a tarn_native_call does.
 * They may call tarn_object_pointers, and of the rest of Tarn what is marked foreign,
 * but nothing that adds or removes roots, types, frame maps or stack maps, and no
 * tarn_callback; and they must return. If one returns false, the walk ends. What fn is
 * given is good until it returns, and the pointers in it are not to be kept longer than
 * the world is stopped: the collection that is under way may free what they lead to.
 */
#ifndef TARN_WALK_H_
#define TARN_WALK_H_

#include "tarn/defs.h"
#include "tarn/heap.h"

TARN_BEGIN_DECLS

/* How the collector finds the pointers in an object. */
enum tarn_object_layout {
    TARN_OBJECT_BYTES,        /* there are none */
    TARN_OBJECT_CONSERVATIVE, /* each aligned word may be one */
    TARN_OBJECT_PRECISE,      /* by the ptrmap of its type */
    TARN_OBJECT_TRACED,       /* by the trace callback of its type */
};

/* An object. */
struct tarn_heap_object {
    void *base;                     /* its first byte */
    size_t size;                    /* usable bytes, as tarn_object_size */
    tarn_type *type;                /* NULL: it has none */
    enum tarn_object_layout layout; /* where its pointers are */
};

/* Calls fn for each object, in the order of addresses. Takes time in proportion to
 * the heap. TARN_EINVAL: no fn; TARN_ESTATE. */
TARN_API tarn_status tarn_heap_walk(
    bool (*fn)(const struct tarn_heap_object *object, void *arg), void *arg);

/* What kind of pointer leads from an object to another. */
enum tarn_pointer_kind {
    TARN_POINTER_FIELD,  /* a word of the object */
    TARN_POINTER_TRACED, /* the trace callback has reported it */
    TARN_POINTER_WEAK, /* to the object's weak reference, which lives as long as
                            the object: tarn_weak_new */
    TARN_POINTER_ENTRY, /* to the value of a weak map's entry, or of an ephemeron,
                            that has the object for its key */
};

/* A pointer from one object to another, or to itself. */
struct tarn_object_pointer {
    enum tarn_pointer_kind kind; /* where it is */
    size_t offset;     /* FIELD: of the word, from the first byte; else 0 */
    const void *value; /* the pointer; it may lead inside */
    void *target;      /* the first byte of the object that it leads to */
    const void *map;   /* ENTRY: the weak map: the value lives while both do */
};

/* Calls fn for each pointer of the object that begins at object, and that leads to
 * an object: in the order of addresses, then those that are not in it. Others
 * (NULL, to memory that is not managed) are left out. TARN_EINVAL: no fn, or no
 * object begins there; TARN_ESTATE. */
TARN_API tarn_status tarn_object_pointers(
    const void *object,
    bool (*fn)(const struct tarn_object_pointer *pointer, void *arg),
    void *arg);

/* What keeps a root. */
enum tarn_root_kind {
    TARN_ROOT_SEGMENT,   /* a data segment of the program or a library */
    TARN_ROOT_RANGE,     /* tarn_roots_add */
    TARN_ROOT_HANDLE,    /* tarn_handle_new */
    TARN_ROOT_TIMER,     /* a running timer */
    TARN_ROOT_STACK,     /* a goroutine's stack or registers */
    TARN_ROOT_FINALIZER, /* an argument of a finalizer or cleanup; or an object
                            that is due for its finalizer */
};

/* A word outside of objects that leads to one. */
struct tarn_root {
    enum tarn_root_kind kind; /* who keeps it */
    uint64_t
        id; /* STACK: the goroutine's number; else the number of the segment,
                    range, block of handles or P */
    const void
        *slot; /* SEGMENT, RANGE, HANDLE: the word's address; else NULL */
    const void *value; /* the word; it may lead inside, or, on a stack, one past
                          the end */
    void *target;      /* the first byte of the object that it keeps */
};

/* Calls fn for each word of all roots that the collector takes for a pointer to an
 * object: stacks are read conservatively, but for frames with maps, and so are data
 * segments. TARN_EINVAL: no fn; TARN_ESTATE. */
TARN_API tarn_status tarn_roots_walk(bool (*fn)(const struct tarn_root *root,
                                                void *arg),
                                     void *arg);

/* What tarn_heap_snapshot is to do. */
enum tarn_snapshot_flags {
    TARN_SNAPSHOT_COLLECT = 1, /* first a full collection, as tarn_gc */
};

/* Writes all objects, pointers and roots to a file that the memory tab of Chrome's
 * developer tools loads (V8's .heapsnapshot; docs/debugging.md): nodes are objects by
 * the names of their types, edges their pointers by offsets ("+8"); roots are below
 * "(data segments)", "goroutine 1" and so on. Stops the world for as long as it
 * looks at objects, if the caller has not; needs 1/256 of the heap's size in memory, and beside
 * the file, while it writes, as much disk again. Allocates no managed memory. blocks,
 * preempts, goroutines only. TARN_EINVAL: no path, other flags; TARN_ESTATE: not on a
 * goroutine; TARN_SNAPSHOT_COLLECT while the caller has stopped the world.
 * TARN_ENOMEM; TARN_EOVERFLOW: more objects than the format can number; TARN_ESYS:
 * the file cannot be written; the text has the path and the reason, and there may be a
 * part of a file. */
TARN_API tarn_status tarn_heap_snapshot(const char *path, unsigned flags);

TARN_END_DECLS
#endif

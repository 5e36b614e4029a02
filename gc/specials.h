/* gc/specials.h - what is to happen when an object dies: weak references to it,
 * entries of weak maps that it is the key of, finalizers, cleanups.
 *
 * Each of those is a special. Specials live outside of the managed heap, in a hash
 * table of their object's span (mspan.specials) that is there while it has any.
 *
 * Marking. When everything else is marked, a pass of root jobs looks at all specials
 * (a young collection: at those of young objects and those that changed since the
 * last one). What a special holds is marked
 *   WEAK       the handle, always: it is written to when the object is swept
 *   ENTRY      the value: if the key and the map are marked
 *   FINALIZER  the argument; if the object is not marked, what it points to but
 *              not itself: so it is due when no other object that has a finalizer
 *              reaches it
 *   CLEANUP    the argument
 *   SAMPLE     nothing
 * From the beginning of that pass (gc.specials_on) whoever marks an object looks at
 * its specials at once, or where that is a map with many entries, puts it on a list of
 * those that markers go through in short steps. So each is looked at a few times at
 * most, however long the chains of entries and maps are, and all markers take part
 * while the program runs on.
 *
 * Sweeping. Before a span is swept its specials are (sweep_specials): those of dead
 * objects go, finalizers and cleanups into the queue of those that are due
 * (finalize.c). An object with a finalizer is marked then and lives on without it.
 * Nothing needs a pause, or a time between mark and sweep in which dead objects could
 * be seen: who reads a weak reference while the heap is being swept looks whether
 * the target's span has been, and if not at the target's mark.
 *
 * Invariants
 *  1. Whatever is put into a special during a mark is shaded, and whatever is taken
 *     out of one: the pass may have been there already, or not.
 *  2. A WEAK special's handle points to its object until the span is swept with the
 *     object dead; only then, with the span's lock held, is it cleared.
 *  3. Marks change outside of marking only in a sweep, after sweep_specials: with
 *     the span's lock held, before it has run for this generation, a white object
 *     is dead.
 *
 * Locks: of each span with specials one of a few mutexes (RANK_SPECIALS); behind it
 * perhaps a map's (RANK_WEAKMAP), or that of the list of spans (RANK_LEAF). */
#ifndef TARN_GC_SPECIALS_H_
#define TARN_GC_SPECIALS_H_

#include "gc/gc.h"
#include "tarn/final.h"
#include "tarn/weak.h"

enum special_kind {
    SPECIAL_WEAK,
    SPECIAL_ENTRY,
    SPECIAL_MAP, /* the object is a weak map */
    SPECIAL_FINALIZER,
    SPECIAL_CLEANUP,
    SPECIAL_SAMPLE, /* of the heap profile */
};

struct weak_table;

struct special {
    struct special *next; /* in its bucket, or in the queue of what is due */
    uint32_t index;       /* of the object in its span */
    uint8_t kind;
    void *value; /* handle, value, or argument */
    union {
        struct { /* SPECIAL_ENTRY */
            struct weak_table *map;
            struct special *before, *after; /* in the map's list */
            uintptr_t key;
        } entry;
        struct weak_table *map; /* SPECIAL_MAP */
        struct {                /* SPECIAL_SAMPLE */
            struct profile_site *site;
            uint32_t profile; /* which */
        } sample;
        struct { /* finalizer, cleanup */
            union {
                tarn_finalizer_fn finalizer;
                tarn_cleanup_fn cleanup;
            } fn;
            uint64_t id;
            uintptr_t object;
        } run;
    } u;
};

/* Of a weak map, outside of the heap: entries may be left when the map is gone. */
struct weak_table {
    struct mutex lock;
    _Atomic uint32_t refs; /* entries, and the map */
    _Atomic bool dead;     /* the map is: entries go when somebody meets them */
    uintptr_t object;      /* the map */
    size_t n;
    struct special list; /* a ring of entries and cursors; the head */
    /* Marked late, with many entries: a cursor, in the ring while late. */
    struct special marked_to;
    struct weak_table *late_next;
    bool late;
};

struct span_specials {
    struct special **bucket;
    uint32_t nbuckets, n; /* powers of two; specials */
    uint32_t sweepgen;    /* sweep_specials was here */
    uint32_t at;          /* in the list of spans */
    uint8_t epoch;        /* of the last change, like a card's */
    bool young;           /* some of its objects were when it was swept */
};

struct objref { /* an object as its specials are found by */
    struct mspan *span;
    uint32_t index;
    uintptr_t base;
};
/* False, and an error that names the caller: p is not the first byte of an object. */
bool special_object(const char *what, const void *p, struct objref *o);

struct special *special_new(const char *what, enum special_kind kind,
                            void *value); /* NULL: error set */
void special_lock(const struct mspan *s);
void special_unlock(const struct mspan *s);
/* These five with the span's lock. The map is that of SPECIAL_ENTRY, else NULL. */
struct special *special_find(const struct objref *o, enum special_kind kind,
                             const struct weak_table *map);
struct special *special_find_cleanup(const struct objref *o, uint64_t id);
bool special_add(const struct objref *o,
                 struct special *x); /* false: no memory */
void special_changed(const struct objref *o);
void special_remove(const struct objref *o,
                    struct special *x); /* is not freed */

/* Is there an object alive at base, of which we know that it was not swept away?
 * With the span's lock, or that of a map that has it for a key. */
bool special_alive(uintptr_t base);

/* --- marking --------------------------------------------------------------------- */

/* By the driver, everything marked and worldsema held: is there to be a pass over
 * the specials? Then begins it. */
bool gc_specials_pass(void);
void gc_specials_reset(void); /* world stopped, a mark begins */
bool gc_specials_claim(uint32_t *job);
void gc_scan_specials(struct gcwork *w, uint32_t job);
/* base was marked just now, while gc.specials_on. */
void gc_special_marked(struct gcwork *w, uintptr_t base);
/* World stopped: what specials hold besides handles and values, and what is due. For
 * checkmark; entry: handles and values of objects, NULL if it is not to be asked. */
struct special_visitor {
    void (*root)(uintptr_t v, const char *what, void *arg);
    /* map: 0 for a weak reference. */
    void (*held)(uintptr_t key, uintptr_t map, uintptr_t value, void *arg);
    void (*final)(uintptr_t object, void *arg);
    void *arg;
};
void gc_each_special(const struct special_visitor *v);
void gc_specials_of(uintptr_t base, const struct special_visitor *v);
void gc_specials_init(void);

/* --- weak.c ------------------------------------------------------------------------ */

bool gc_weak_init(void); /* false: error set */
void weak_clear(void *weak);
/* x is in no table any more: leaves its map, and is freed. */
void weak_entry_gone(struct special *x);
void weak_table_release(struct weak_table *t);
void weak_map_marked(struct gcwork *w, struct weak_table *t);
bool gc_scan_late_map(struct gcwork *w); /* some of one; false: there is none */

/* --- profile.c ------------------------------------------------------------------------ */

/* A sample has died. With its span's lock. */
void profile_gone(const struct special *x);

/* --- finalize.c ---------------------------------------------------------------------- */

void final_due(struct special *first, struct special *last, size_t n);
void gc_scan_due(struct gcwork *w);
void gc_each_due(const struct special_visitor *v);
void gc_finalizers_start(void); /* by the driver, after a sweep */
bool gc_in_finalizer(void);

#endif

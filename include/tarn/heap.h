/* tarn/heap.h - the managed heap: layouts, allocation, object lookup.
 *
 * Every allocation returns zeroed memory aligned to 16 bytes that the collector
 * owns: it lives as long as a goroutine's stack or registers, a root range, or
 * another live object's pointer reaches it. A pointer to any byte of an object
 * keeps it alive, and so does a pointer one past its end that is held on a
 * stack. Objects never move.
 *
 * All alloc functions allocate and may preempt and (so) move the stack; they
 * must be called on a goroutine. They return NULL, with tarn_last_error set,
 * when called elsewhere, when the size overflows, or when memory is refused
 * (option oom=throw ends the process instead of the last).
 */
#ifndef TARN_HEAP_H_
#define TARN_HEAP_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

typedef struct tarn_type tarn_type;
typedef struct tarn_tracer tarn_tracer;

/* Calls tarn_trace for each pointer in obj. Runs on any thread, beside the
 * mutator, perhaps twice: it must only read, not block and call nothing else of
 * Tarn. obj is zeroed memory until its owner writes to it. */
typedef void (*tarn_trace_fn)(void *obj, tarn_tracer *tracer);

struct tarn_type_info {
    const char *name;       /* for messages; copied */
    size_t size;            /* bytes; with pointers a multiple of 8; > 0 */
    const uint64_t *ptrmap; /* bit i%64 of word i/64: the i-th 8-byte word is
                               a pointer; copied; NULL = no pointers */
    tarn_trace_fn trace;    /* if set it is used, and ptrmap must be NULL */
};

/* The ptrmap bit of a pointer field within the first 512 bytes of a struct. */
#define TARN_PTR(type, field) (UINT64_C(1) << (offsetof(type, field) / 8))

/* Registers a type for the life of the process. NULL on bad input. Cheap, takes
 * a lock, does not allocate managed memory. foreign; may precede tarn_main. */
TARN_API tarn_type *tarn_type_register(const struct tarn_type_info *info);

/* One object of a registered type. */
TARN_API void *tarn_alloc(tarn_type *type)
    __attribute__((malloc, warn_unused_result));
/* n objects of a type, one after another, as one object. n may be 0. */
TARN_API void *tarn_alloc_array(tarn_type *type, size_t n)
    __attribute__((malloc, warn_unused_result));
/* n bytes that the collector never looks into. n may be 0. */
TARN_API void *tarn_alloc_bytes(size_t n)
    __attribute__((malloc, warn_unused_result));
/* n bytes in which any aligned word may be a pointer. n may be 0. */
TARN_API void *tarn_alloc_conservative(size_t n)
    __attribute__((malloc, warn_unused_result));

/* Reports one pointer (base or interior; NULL and foreign pointers are fine)
 * from a trace callback; only valid inside one. */
TARN_API void tarn_trace(tarn_tracer *tracer, const void *pointer);

/* The first byte of the managed object that p points into, or NULL. Constant
 * time. foreign, signal; for a pointer that nothing keeps alive the answer may
 * be out of date when it arrives. */
TARN_API void *tarn_object_base(const void *p);
/* Usable bytes of the object that p points into (at least what was asked for),
 * or 0. As tarn_object_base. */
TARN_API size_t tarn_object_size(const void *p);
/* The type of the object that p points into; NULL if it has none. As above. */
TARN_API tarn_type *tarn_object_type(const void *p);
TARN_API const char *tarn_type_name(const tarn_type *type);

TARN_END_DECLS
#endif

/* tarn/heap.h - the managed heap: layouts, allocation, object lookup.
 *
 * Every allocation returns zeroed memory aligned to 16 bytes that the collector
 * owns: it lives as long as a goroutine's stack or registers, a root range, or
 * another live object's pointer reaches it. A pointer to any byte of an object
 * keeps it alive, and so does a pointer one past its end that is held on a
 * stack. Objects never move.
 *
 * All alloc functions allocate and may preempt and (so) move the stack; where the
 * heap is far over its goal they may block the goroutine for a moment, and where
 * memory has run out for a collection or two, of its own or a neighbour's. They must
 * be called on a goroutine. They return NULL, with tarn_last_error set,
 * when called elsewhere, when the size overflows, or when memory is refused
 * (option oom=throw ends the process instead of the last).
 */
#ifndef TARN_HEAP_H_
#define TARN_HEAP_H_

#include "tarn/defs.h"
#include "tarn/unsafe.h"

TARN_BEGIN_DECLS

/* A registered type, known by its address only. */
typedef struct tarn_type tarn_type;
/* What a trace callback hands on to tarn_trace. */
typedef struct tarn_tracer tarn_tracer;

/* Calls tarn_trace for each pointer in obj. Runs on any thread, beside the
 * mutator, perhaps twice: it must only read, not block and call nothing else of
 * Tarn. obj is zeroed memory until its owner writes to it. */
typedef void (*tarn_trace_fn)(void *obj, tarn_tracer *tracer);

/* What tarn_type_register is told of a type. Neither ptrmap nor trace: no pointers. */
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
/* The name that it was registered by; "" for NULL. The runtime's, for ever. foreign,
 * signal. */
TARN_API const char *tarn_type_name(const tarn_type *type);

/* --- inline allocation ------------------------------------------------------
 *
 * tarn_alloc, and tarn_alloc_bytes and tarn_alloc_conservative of small constant
 * sizes, take from the cache of the thread's P without a call. This is what they
 * know of it; generated code may do the same (docs/embedding.md).
 *
 * The thread-local variable tarn_local (initial-exec) points to the cache, or is
 * NULL when the functions must be called. The cache is an array of entries; a
 * type begins with the offset (uint32_t) of its entry, bytes have one for each
 * multiple of 16. The first entry is none: it holds what all need.
 */

/* At the place of the first entry. */
struct tarn_cache_head {
    uintptr_t meta; /* the meta byte of an address a is at meta + a / 16 */
    uint8_t color;  /* of new objects */
};
/* Where the objects of one type or size come from. */
struct tarn_cache_entry {
    uintptr_t ptr;        /* free and zero from here ... */
    uintptr_t end;        /* ... up to here */
    uint16_t size;        /* of each object */
    uint8_t startbits;    /* the meta byte of a new one is startbits | color */
    uint8_t reserved[21]; /* the runtime's own */
};
#define TARN_CACHE_BYTES_MAX 224   /* larger ones are not so regular */
#define TARN_CACHE_BYTES 0         /* index of the entries of bytes ... */
#define TARN_CACHE_CONSERVATIVE 59 /* ... + (n + 15) / 16 */

/* The same functions by names that are never inline. */
TARN_API void *tarn_alloc_call(tarn_type *type)
    __attribute__((malloc, warn_unused_result));
TARN_API void *tarn_alloc_bytes_call(size_t n)
    __attribute__((malloc, warn_unused_result));
TARN_API void *tarn_alloc_conservative_call(size_t n)
    __attribute__((malloc, warn_unused_result));

#if TARN_UNSAFE_INLINE
/* Never a function of its own: else the one of the library is called. */
#define TARN_CACHE_INLINE_                                                     \
    extern __inline__ __attribute__((gnu_inline, always_inline, artificial))

/* Takes the next object of an entry; NULL: call. The meta byte is written before
 * the entry moves on: who is interrupted between leaves a place that is still
 * free, but has a colour, as the next of its entry; the runtime knows this. */
TARN_CACHE_INLINE_ void *tarn_cache_take_(uintptr_t offset)
{
    void *object;
    uintptr_t cache, entry, meta, scratch;
    /* Entries are addressed by a register alone: some machines forward a store
     * to the next load faster so. */
    TARN_UNSAFE_ASM_(
        TARN_UNSAFE_LO_ "movq tarn_local@gottpoff(%%rip), %[cache]\n\t"
                        "xorl %k[object], %k[object]\n\t"
                        "movq %%fs:(%[cache]), %[cache]\n\t"
                        "testq %[cache], %[cache]\n\t"
                        "jz 772f\n\t"
                        "leaq (%[cache], %[offset]), %[entry]\n\t"
                        "movq (%[entry]), %[meta]\n\t"
                        "cmpq 8(%[entry]), %[meta]\n\t"
                        "jae 772f\n\t"
                        "movzbl 18(%[entry]), %k[scratch]\n\t"
                        "orb 8(%[cache]), %b[scratch]\n\t"
                        "movq %[meta], %[object]\n\t"
                        "shrq $4, %[meta]\n\t"
                        "addq (%[cache]), %[meta]\n\t"
                        "movb %b[scratch], (%[meta])\n\t"
                        "movzwl 16(%[entry]), %k[scratch]\n\t"
                        "addq %[object], %[scratch]\n\t"
                        "movq %[scratch], (%[entry])\n" TARN_UNSAFE_HI_
        : [object] "=&r"(object), [cache] "=&r"(cache), [entry] "=&r"(entry),
          [meta] "=&r"(meta), [scratch] "=&r"(scratch)
        : [offset] "r"(offset)
        : "cc");
    return object;
}

TARN_CACHE_INLINE_ void *tarn_alloc(tarn_type *type)
{
    if (__builtin_expect(type != NULL, 1)) {
        void *p = tarn_cache_take_(*(const uint32_t *)(const void *)type);
        if (__builtin_expect(p != NULL, 1))
            return p;
    }
    return tarn_alloc_call(type);
}

TARN_CACHE_INLINE_ void *tarn_alloc_bytes(size_t n)
{
    if (__builtin_constant_p(n) && n <= TARN_CACHE_BYTES_MAX) {
        void *p =
            tarn_cache_take_((TARN_CACHE_BYTES + (n == 0 ? 1 : (n + 15) / 16)) *
                             sizeof(struct tarn_cache_entry));
        if (__builtin_expect(p != NULL, 1))
            return p;
    }
    return tarn_alloc_bytes_call(n);
}

TARN_CACHE_INLINE_ void *tarn_alloc_conservative(size_t n)
{
    if (__builtin_constant_p(n) && n <= TARN_CACHE_BYTES_MAX) {
        void *p = tarn_cache_take_(
            (TARN_CACHE_CONSERVATIVE + (n == 0 ? 1 : (n + 15) / 16)) *
            sizeof(struct tarn_cache_entry));
        if (__builtin_expect(p != NULL, 1))
            return p;
    }
    return tarn_alloc_conservative_call(n);
}
#endif

TARN_END_DECLS
#endif

/* memory_tarn.h - memory.h on Tarn. */
#include <stdio.h>
#include <stdlib.h>
#include <tarn/tarn.h>

#define MEM_NAME "tarn"
#define MEM_WEAK 1
#define MEM_TYPES 17

extern tarn_type *mem_types[MEM_TYPES];
void mem_fail(void) __attribute__((noreturn, cold));

static inline void *mem_checked(void *p)
{
    if (__builtin_expect(p == NULL, 0))
        mem_fail();
    return p;
}

static inline void *mem_words(size_t n)
{
    return mem_checked(n < MEM_TYPES ? tarn_alloc(mem_types[n])
                                     : tarn_alloc_array(mem_types[1], n));
}

static inline void *mem_bytes(size_t n)
{
    return mem_checked(tarn_alloc_bytes(n));
}

#define mem_set(slot, v) tarn_store(slot, (const void *)(V)(v))
/* A new object counts as scanned while the collector marks: see tarn/barrier.h. */
#define mem_init(slot, v) tarn_store(slot, (const void *)(V)(v))
/* Two stores side by side, with one test of the barrier and one note of the card. */
static inline void mem_init2(void *slot, V a, V b)
{
#if TARN_UNSAFE_INLINE
    TARN_UNSAFE_ASM_ goto(TARN_UNSAFE_LO_ "cmpl $0, %0\n\t"
                                          "jne %l[slow]\n\t"
                                          "movl %k1, %%eax\n\t"
                                          "shrl $9, %%eax\n\t"
                                          "addq %4, %%rax\n\t"
                                          "movzbl %5, %%edx\n\t"
                                          "movb %%dl, (%%rax)\n\t"
                                          "movq %2, (%1)\n\t"
                                          "movq %3, 8(%1)\n" TARN_UNSAFE_HI_
                          :
                          : "m"(tarn_barrier_on), "r"(slot), "r"(a), "r"(b),
                            "m"(tarn_cards.table), "m"(tarn_cards.epoch)
                          : "memory", "cc", "rax", "rdx"
                          : slow);
    return;
slow:
#endif
    mem_init(slot, a);
    mem_init((V *)slot + 1, b);
}

#define mem_gc() (void)tarn_gc()
#define mem_weak_new() mem_checked(tarn_weakmap_new())
#define mem_weak_set(map, key, v)                                              \
    (tarn_weakmap_set(map, key, (void *)(V)(v)) == TARN_OK ? (void)0           \
                                                           : mem_fail())
#define mem_weak_get(map, key, v) tarn_weakmap_find(map, key, (void **)(v))
#define mem_weak_remove(map, key) (void)tarn_weakmap_remove(map, key)
#define mem_weak_count(map) tarn_weakmap_count(map)
#define mem_native(fn, p) tarn_native_call(fn, p)
#define mem_at_fatal(fn) tarn_set_fatal_handler(fn)

void mem_stats(struct mem_stats *s);
int mem_run(void (*fn)(void *), void *arg);

#ifdef MEMORY_BODY
tarn_type *mem_types[MEM_TYPES];

void mem_fail(void)
{
    fprintf(stderr, "scheme: %s\n", tarn_last_error());
    exit(1);
}

void mem_stats(struct mem_stats *s)
{
    struct tarn_gc_stats t = {.struct_size = sizeof t};
    tarn_gc_stats(&t);
    *s = (struct mem_stats){
        t.cycles,       t.pause.count,       t.pause.p50_ns,
        t.pause.max_ns, t.heap_mapped_bytes, t.stack_mapped_bytes};
}

int mem_run(void (*fn)(void *), void *arg)
{
    for (size_t n = 1; n < MEM_TYPES; n++) {
        uint64_t map = (UINT64_C(1) << n) - 1;
        mem_types[n] = tarn_type_register(&(struct tarn_type_info){
            .name = "words", .size = n * sizeof(V), .ptrmap = &map});
    }
    mem_types[0] = mem_types[1];
    struct tarn_options o;
    tarn_options_init(&o);
    o.stackmax = INT64_C(16) << 30; /* ten million calls take 2 GB */
    o.gcpercent = 300;              /* memory for time */
    o.heapmin = 64 << 20;           /* small programs collect seldom */
    if (tarn_main(&o, fn, arg) == TARN_OK)
        return 0;
    fprintf(stderr, "scheme: %s\n", tarn_last_error());
    return 1;
}
#endif

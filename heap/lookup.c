/* heap/lookup.c - the reservation, and from a pointer to its object. */
#include "base/options.h"
#include "base/vm.h"
#include "heap/internal.h"

#define RESERVE_MIN ((size_t)16 << 20)
/* The sanitizers shadow what is mapped; and their own maps need room. */
#define RESERVE_MAX_SANITIZED ((size_t)64 << 30)
#define ARENA_ALIGN ((size_t)4 << 20)

/* heap.lo is the address of the first object. */
OWN_DATA(heap)
struct heap heap = {
    .color = 1,
    .sweepers = SWEEP_DRAINED,
};
struct tarn_cards tarn_cards = {.epoch = 1};

/* Everything for an arena of n bytes, or nothing. */
static bool reserve(size_t n)
{
    size_t meta_size = n / GRANULE;
    size_t pages_size =
        ALIGN_UP(n / PAGE_SIZE * sizeof(struct mspan *), OS_PAGE);
    size_t states_size = ALIGN_UP(n / PAGE_SIZE, OS_PAGE);
    char *arena = vm_reserve(n, ARENA_ALIGN);
    char *meta = vm_reserve(meta_size, OS_PAGE);
    char *pages = vm_reserve(pages_size, OS_PAGE);
    char *states = vm_reserve(states_size, OS_PAGE);
    /* The page map is read for any word that looks like a pointer into the
     * arena, so all of it must be readable from the start. Untouched parts cost
     * nothing. */
    if (arena != NULL && meta != NULL && pages != NULL && states != NULL &&
        vm_commit(pages, pages_size) && vm_commit(states, states_size)) {
        /* In core files as far as it is used: commit in pages.c. */
        vm_dump(pages, pages_size, false);
        vm_dump(states, states_size, false);
        heap.lo = (uintptr_t)arena;
        heap.hi = heap.lo + n;
        heap.minus_lo = -heap.lo;
        heap.size = n;
        heap.meta = (uint8_t *)((uintptr_t)meta - (heap.lo >> GRANULE_SHIFT));
        heap.pages = (struct mspan * _Atomic *)((uintptr_t)pages -
                                                (heap.lo >> PAGE_SHIFT) *
                                                    sizeof(struct mspan *));
        atomic_store(&heap.used_hi, heap.lo);
        pages_init((uint8_t *)states);
        return true;
    }
    if (arena != NULL)
        vm_release(arena, n);
    if (meta != NULL)
        vm_release(meta, meta_size);
    if (pages != NULL)
        vm_release(pages, pages_size);
    if (states != NULL)
        vm_release(states, states_size);
    return false;
}

bool heap_init(size_t max_bytes)
{
    ASSERT(heap.lo == 0);
    if (!slots_init())
        return false;
    if (tarn_cards.table == NULL &&
        (tarn_cards.table = vm_map(CARDS)) == NULL) {
        set_error("heap: no memory for the cards");
        return false;
    }
    if ((TARN_TSAN || TARN_ASAN) && max_bytes > RESERVE_MAX_SANITIZED)
        max_bytes = RESERVE_MAX_SANITIZED;
    size_t n = ALIGN_DOWN(max_bytes, ARENA_ALIGN);
    if (n < RESERVE_MIN)
        n = RESERVE_MIN;
    while (!reserve(n)) {
        if (n == RESERVE_MIN) {
            set_error("heap: no address space, not even for %zu MiB",
                      RESERVE_MIN / MiB);
            return false;
        }
        n = ALIGN_DOWN(n / 2, ARENA_ALIGN);
        if (n < RESERVE_MIN)
            n = RESERVE_MIN;
    }
    return true;
}

bool heap_find(uintptr_t p, struct objinfo *o)
{
    struct tarn_type *type;
    return heap_find_inline(p, o, &type);
}

/* A lookup computes addresses of other objects, the first one of a span for instance, and
 * these may be dead. Under checkmark none may stay where a later frame has it for a word
 * that it does not write: this wipes registers and what lies below the caller. */
NO_SANITIZE static NOINLINE void wipe_lookup(void)
{
    volatile uint64_t below[128];
    for (size_t i = 0; i < ARRAY_LEN(below); i++)
        below[i] = 0;
    __asm__ volatile("xorl %%eax, %%eax\n\t"
                     "xorl %%ecx, %%ecx\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "xorl %%esi, %%esi\n\t"
                     "xorl %%edi, %%edi\n\t"
                     "xorl %%r8d, %%r8d\n\t"
                     "xorl %%r9d, %%r9d\n\t"
                     "xorl %%r10d, %%r10d\n\t"
                     "xorl %%r11d, %%r11d" ::
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
                           "r11", "cc");
}

static NOINLINE bool find_below(uintptr_t p, struct objinfo *o,
                                struct tarn_type **type)
{
    return heap_find_inline(p, o, type);
}

static NOINLINE bool find_and_wipe(uintptr_t p, struct objinfo *o,
                                   struct tarn_type **type)
{
    bool found = find_below(p, o, type);
    wipe_lookup();
    return found;
}

/* For managed code, whose stack this is. */
ALWAYS_INLINE bool find(const void *p, struct objinfo *o,
                        struct tarn_type **type)
{
    return unlikely(options.checkmark)
               ? find_and_wipe((uintptr_t)p, o, type)
               : heap_find_inline((uintptr_t)p, o, type);
}

void *tarn_object_base(const void *p)
{
    struct objinfo o;
    struct tarn_type *type;
    return find(p, &o, &type) ? (void *)o.base : NULL;
}

size_t tarn_object_size(const void *p)
{
    struct objinfo o;
    struct tarn_type *type;
    return find(p, &o, &type) ? o.size : 0;
}

tarn_type *tarn_object_type(const void *p)
{
    struct objinfo o;
    struct tarn_type *type;
    return find(p, &o, &type) ? type : NULL;
}

void heap_each_span(void (*fn)(struct mspan *s, void *arg), void *arg)
{
    uintptr_t end = atomic_load_explicit(&heap.used_hi, memory_order_acquire);
    for (uintptr_t p = heap.lo; p < end;) {
        struct mspan *s = heap_span_of(p);
        p += s->npages * PAGE_SIZE;
        if (span_state(s) == SPAN_INUSE)
            fn(s, arg);
    }
}

/* gc/barriercheck.c - option barriercheck: whether pointers in objects are those that
 * the barrier stored.
 *
 * A missing barrier does harm only where a collection meets the store at the wrong
 * moment. So it is looked for by itself: beside the heap lies a shadow of the same
 * size, where each store that went the right way leaves what it stored. After each
 * mark, with the world stopped, pointers in live objects are compared with it.
 *
 * tarn_barrier_on is then never zero: all of a program's stores call the barrier,
 * also those that are inlined. */
#include "base/sysmem.h"
#include "base/vm.h"
#include "gc/gc.h"
#include "sched/chan.h"

#define MAX_REPORTS 20

static char *shadow; /* of heap.lo */

struct check {
    const struct objinfo *holder;
    uint32_t breaches, reports;
};

ALWAYS_INLINE uintptr_t *shadow_of(uintptr_t slot)
{
    return (uintptr_t *)(void *)(shadow + (slot + heap.minus_lo));
}

bool barriercheck_init(void)
{
    if (!options.barriercheck)
        return true;
    shadow = vm_map_lazy(heap.size, OS_PAGE);
    if (shadow == NULL) {
        set_error(
            "barriercheck: no address space for a shadow of the heap, %zu "
            "bytes: heapmax is how many",
            heap.size);
        return false;
    }
    vm_dump(shadow, heap.size, false);
    tarn_barrier_on = BARRIER_CHECKED;
    return true;
}

/* Stores to one slot at the same time are allowed. Whose note of it is the last one
 * has seen the slot after that: it holds what was stored last. */
void barriercheck_stored(uintptr_t slot, size_t n)
{
    if (!heap_contains(slot))
        return;
    for (uintptr_t at = ALIGN_DOWN(slot, (uintptr_t)8); at < slot + n;
         at += 8) {
        uintptr_t v;
        do {
            v = __atomic_load_n((uintptr_t *)at, __ATOMIC_SEQ_CST);
            __atomic_store_n(shadow_of(at), v, __ATOMIC_SEQ_CST);
        } while (__atomic_load_n((uintptr_t *)at, __ATOMIC_SEQ_CST) != v);
    }
}

void barriercheck_will_store(uintptr_t slot, const void *src, size_t n)
{
    if (!heap_contains(slot))
        return;
    /* Words at the slot's alignment: others do not become pointers. */
    size_t skip = ALIGN_UP(slot, (uintptr_t)8) - slot;
    for (; skip + 8 <= n; skip += 8) {
        uintptr_t v = 0;
        if (src != NULL)
            memcpy(&v, (const char *)src + skip, 8);
        __atomic_store_n(shadow_of(slot + skip), v, __ATOMIC_SEQ_CST);
    }
}

void barriercheck_new(uintptr_t base, size_t size)
{
    uintptr_t s = (uintptr_t)shadow_of(base), end = s + size;
    uintptr_t lo = ALIGN_UP(s, OS_PAGE), hi = ALIGN_DOWN(end, OS_PAGE);
    /* Large objects are seldom written to all over. */
    if (lo + (64 << 10) < hi && vm_decommit((void *)lo, hi - lo)) {
        memset((void *)s, 0, lo - s);
        memset((void *)hi, 0, end - hi);
    } else {
        memset((void *)s, 0, size);
    }
}

/* --- the comparison ------------------------------------------------------------- */

/* The runtime stores into those for itself, by other rules. */
static bool is_channel(const struct objinfo *o)
{
    return o->span->type == NULL && o->span->layout == LAYOUT_CONSERVATIVE &&
           o->size >= HCHAN_HEADER &&
           ((const struct hchan *)o->base)->sig == HCHAN_SIG;
}

/* Whether v is a pointer to another object than this one. A word of a conservative
 * object is one if it points to the beginning. */
static bool is_pointer(uintptr_t v, const struct objinfo *holder)
{
    struct objinfo o;
    return heap_contains(v) && heap_find(v, &o) && o.base != holder->base &&
           (holder->span->layout != LAYOUT_CONSERVATIVE || v == o.base);
}

static void report(struct check *c, uintptr_t slot, uintptr_t is, bool now,
                   uintptr_t stored)
{
    const struct objinfo *o = c->holder;
    struct objinfo other;
    c->breaches++;
    if (c->reports++ >= MAX_REPORTS)
        return;
    bool found = heap_find(now ? is : stored, &other);
    tarn_eprintf("barriercheck: slot %#lx, offset %zu of object %#lx (%zu "
                 "bytes, type %s), "
                 "%s %#lx (type %s) by a store without a barrier\n",
                 (unsigned long)slot, (size_t)(slot - o->base),
                 (unsigned long)o->base, o->size, object_type_name(o),
                 now ? "was set to" : "no longer holds",
                 (unsigned long)(now ? is : stored),
                 found ? object_type_name(&other) : "?");
}

struct wanted {
    uintptr_t v;
    bool found;
};

static void is_wanted(uintptr_t v, uintptr_t slot, void *vw)
{
    (void)slot;
    struct wanted *w = vw;
    w->found |= v == w->v;
}

static void compare(uintptr_t is, uintptr_t slot, void *vc)
{
    struct check *c = vc;
    const struct objinfo *o = c->holder;
    uintptr_t stored = *shadow_of(slot);
    if (is == stored)
        return;
    bool now = is_pointer(is, o);
    if (now && o->span->layout == LAYOUT_TRACED) {
        struct wanted w = {is, false};
        object_each_pointer(o, is_wanted, &w);
        now = w.found;
    }
    if (now || is_pointer(stored, o))
        report(c, slot, is, now, stored);
}

/* A trace function says which pointers there are, not where; one in a form of the
 * embedder's own is not known for one here. */
static void compare_traced(struct check *c)
{
    const struct objinfo *o = c->holder;
    for (uintptr_t slot = o->base; slot + 8 <= o->base + o->size; slot += 8)
        compare(__atomic_load_n((const uintptr_t *)slot, __ATOMIC_RELAXED),
                slot, c);
}

static void compare_object(const struct objinfo *o, void *vc)
{
    struct check *c = vc;
    if (is_channel(o))
        return;
    c->holder = o;
    if (o->span->layout == LAYOUT_TRACED)
        compare_traced(c);
    else
        object_each_pointer(o, compare, c);
}

void barriercheck(void)
{
    struct check c = {0};
    objects_each_live(compare_object, &c);
    if (c.reports > MAX_REPORTS)
        tarn_eprintf("barriercheck: %u more of them\n",
                     c.reports - MAX_REPORTS);
    if (c.breaches != 0)
        throw(
            "barriercheck: by cycle %llu, %u words of objects had been stored "
            "otherwise than by tarn_store and its kin",
            (unsigned long long)gc.cycles_started, c.breaches);
}

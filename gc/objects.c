/* gc/objects.c - an object seen from outside, slowly: for the checks that run
 * with the world stopped. */
#include "gc/gc.h"

const char *object_type_name(const struct objinfo *o)
{
    static const char *const layouts[] = {"pointer-free", "conservative",
                                          "typed", "traced"};
    return o->span->type ? o->span->type->name : layouts[o->span->layout];
}

struct each_live {
    void (*fn)(const struct objinfo *o, void *arg);
    void *arg;
};

static void each_live_of(struct mspan *s, void *ve)
{
    const struct each_live *e = ve;
    if (s->layout == LAYOUT_NOSCAN)
        return;
    for (uint32_t i = 0; i < s->nelems; i++) {
        struct objinfo o = {s->base + i * s->elemsize, s->elemsize, s, 0};
        o.meta = meta_load(heap_meta(o.base));
        if ((o.meta & META_COLOR) != 0 && !heap_white((uint8_t)o.meta))
            e->fn(&o, e->arg);
    }
}

void objects_each_live(void (*fn)(const struct objinfo *o, void *arg),
                       void *arg)
{
    struct each_live e = {fn, arg};
    heap_each_span(each_live_of, &e);
}

void object_each_pointer(const struct objinfo *o,
                         void (*fn)(uintptr_t v, uintptr_t slot, void *arg),
                         void *arg)
{
    struct mspan *s = o->span;
    struct tarn_type *t = s->type;
    if (s->layout == LAYOUT_NOSCAN)
        return;
    if (s->layout == LAYOUT_TRACED) {
        tarn_tracer tr = {NULL, fn, arg, o->base};
        size_t n = o->size / t->size;
        for (size_t i = 0; i < n; i++)
            t->trace((void *)(o->base + i * t->size), &tr);
        return;
    }
    size_t words = o->size / 8;
    /* A place may be larger than its object; behind the last whole element of
     * an array, and behind a single object, nothing is a pointer. */
    if (s->layout == LAYOUT_PRECISE) {
        bool array = s->large ? true : heap.slots[s->slot].array;
        words = array ? words / t->words * t->words : t->words;
    }
    for (size_t i = 0; i < words; i++) {
        if (s->layout == LAYOUT_PRECISE) {
            size_t j = i % t->words;
            if (!(t->ptrmap[j / 64] >> (j % 64) & 1))
                continue;
        }
        uintptr_t slot = o->base + i * 8;
        fn(__atomic_load_n((const uintptr_t *)slot, __ATOMIC_RELAXED), slot,
           arg);
    }
}

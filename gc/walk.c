/* gc/walk.c - the heap seen while the world is stopped: see tarn/walk.h.
 *
 * All of it runs on g0: there the stopper's own stack can be scanned like any other,
 * and cannot move, whatever the program's functions do. */
#include "gc/walk.h"

#include "gc/specials.h"

struct g *walk_stopper(void)
{
    struct g *gp = getg();
    if (gp != NULL && gp->kind == STACK_SYSTEM)
        gp = atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
    return gp != NULL && gp->worldstopped ? gp : NULL;
}

/* Who may walk: has stopped the world, and has a function for it. */
static tarn_status require_walker(const char *what, bool has_fn)
{
    if (walk_stopper() == NULL) {
        set_error("%s: the caller has not stopped the world", what);
        return TARN_ESTATE;
    }
    if (!has_fn) {
        set_error("%s: no function", what);
        return TARN_EINVAL;
    }
    return TARN_OK;
}

/* --- objects ---------------------------------------------------------------------- */

static bool walk_span(struct mspan *s,
                      bool (*fn)(const struct objinfo *o, void *arg), void *arg)
{
    for (uint32_t i = 0; i < s->nelems; i++) {
        struct objinfo o = {
            .base = s->base + i * s->elemsize, .size = s->elemsize, .span = s};
        o.meta = meta_load(heap_meta(o.base));
        if ((o.meta & META_COLOR) != 0 && !fn(&o, arg))
            return false;
    }
    return true;
}

bool walk_objects(bool (*fn)(const struct objinfo *o, void *arg), void *arg)
{
    uintptr_t end = atomic_load_explicit(&heap.used_hi, memory_order_acquire);
    for (uintptr_t p = heap.lo; p < end;) {
        struct mspan *s = heap_span_of(p);
        p += s->npages * PAGE_SIZE;
        if (atomic_load(&s->state) == SPAN_INUSE && !walk_span(s, fn, arg))
            return false;
    }
    return true;
}

struct each_object {
    bool (*fn)(const struct tarn_heap_object *o, void *arg);
    void *arg;
};

_Static_assert((int)LAYOUT_NOSCAN == (int)TARN_OBJECT_BYTES &&
                   (int)LAYOUT_CONSERVATIVE == (int)TARN_OBJECT_CONSERVATIVE &&
                   (int)LAYOUT_PRECISE == (int)TARN_OBJECT_PRECISE &&
                   (int)LAYOUT_TRACED == (int)TARN_OBJECT_TRACED,
               "tarn/walk.h: layouts");

static bool public_object(const struct objinfo *o, void *ve)
{
    const struct each_object *e = ve;
    struct tarn_heap_object x = {.base = (void *)o->base,
                                 .size = o->size,
                                 .type = o->span->type,
                                 .layout =
                                     (enum tarn_object_layout)o->span->layout};
    return e->fn(&x, e->arg);
}

static void heap_walk(void *ve)
{
    heap_settle();
    walk_objects(public_object, ve);
}

tarn_status tarn_heap_walk(bool (*fn)(const struct tarn_heap_object *object,
                                      void *arg),
                           void *arg)
{
    struct each_object e = {fn, arg};
    tarn_status st = require_walker("tarn_heap_walk", fn != NULL);
    if (st != TARN_OK)
        return st;
    systemstack(heap_walk, &e);
    return TARN_OK;
}

/* --- pointers --------------------------------------------------------------------- */

struct each_pointer {
    bool (*fn)(const struct tarn_object_pointer *p, void *arg);
    void *arg;
    const struct objinfo *o;
    bool ended;
};

static void tell_pointer(struct each_pointer *e, enum tarn_pointer_kind kind,
                         uintptr_t v, uintptr_t slot, uintptr_t map)
{
    struct objinfo to;
    if (e->ended || !heap_contains(v) || !heap_find(v, &to))
        return;
    struct tarn_object_pointer p = {
        .kind = kind,
        .offset = slot != 0 ? slot - e->o->base : 0,
        .value = (void *)v,
        .target = (void *)to.base,
        .map = (void *)map,
    };
    e->ended = !e->fn(&p, e->arg);
}

static void word(uintptr_t v, uintptr_t slot, void *ve)
{
    struct each_pointer *e = ve;
    if (e->o->span->layout == LAYOUT_TRACED)
        tell_pointer(e, TARN_POINTER_TRACED, v, 0, 0);
    else
        tell_pointer(e, TARN_POINTER_FIELD, v, slot, 0);
}

static void held(uintptr_t key, uintptr_t map, uintptr_t value, void *ve)
{
    struct each_pointer *e = ve;
    (void)key;
    if (map == 0)
        tell_pointer(e, TARN_POINTER_WEAK, value, 0, 0);
    else
        tell_pointer(e, TARN_POINTER_ENTRY, value, 0, map);
}

static void no_root(uintptr_t v, const char *what, void *arg)
{
    (void)v, (void)what, (void)arg;
}

static void no_final(uintptr_t object, void *arg)
{
    (void)object, (void)arg;
}

void walk_pointers(const struct objinfo *o,
                   bool (*fn)(const struct tarn_object_pointer *p, void *arg),
                   void *arg)
{
    struct each_pointer e = {.fn = fn, .arg = arg, .o = o};
    object_each_pointer(o, word, &e);
    const struct special_visitor v = {no_root, held, no_final, &e};
    gc_specials_of(o->base, &v);
}

struct pointers_call {
    const void *object;
    bool (*fn)(const struct tarn_object_pointer *p, void *arg);
    void *arg;
    bool found;
};

static void object_pointers(void *vc)
{
    struct pointers_call *c = vc;
    struct objinfo o;
    if (!heap_sweep_done())
        heap_settle();
    c->found =
        heap_find((uintptr_t)c->object, &o) && o.base == (uintptr_t)c->object;
    if (c->found)
        walk_pointers(&o, c->fn, c->arg);
}

tarn_status tarn_object_pointers(
    const void *object,
    bool (*fn)(const struct tarn_object_pointer *pointer, void *arg), void *arg)
{
    struct pointers_call c = {object, fn, arg, false};
    tarn_status st = require_walker("tarn_object_pointers", fn != NULL);
    if (st != TARN_OK)
        return st;
    systemstack(object_pointers, &c);
    if (!c.found) {
        set_error("tarn_object_pointers: %p is not the first byte of a managed "
                  "object",
                  object);
        return TARN_EINVAL;
    }
    return TARN_OK;
}

/* --- roots ------------------------------------------------------------------------ */

struct each_root {
    walk_root_fn fn;
    void *arg;
    bool ended;
};

static enum tarn_root_kind kind_of(const char *what)
{
    static const struct {
        const char *what;
        enum tarn_root_kind kind;
    } kinds[] = {
        {"data segment", TARN_ROOT_SEGMENT},
        {"plain root range", TARN_ROOT_RANGE},
        {"barriered root range", TARN_ROOT_RANGE},
        {"handles", TARN_ROOT_HANDLE},
        {"timer of P", TARN_ROOT_TIMER},
        {"stack of goroutine", TARN_ROOT_STACK},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i].what, what) == 0)
            return kinds[i].kind;
    throw("walk: %s is no kind of root", what);
}

static void tell_root(struct each_root *e, struct tarn_root *r,
                      uintptr_t target)
{
    r->target = (void *)target;
    if (!e->ended)
        e->ended = !e->fn(r, e->arg);
}

static NO_SANITIZE void root_range(uintptr_t lo, uintptr_t hi, const char *what,
                                   uint64_t id, void *ve)
{
    struct each_root *e = ve;
    struct tarn_root r = {.kind = kind_of(what), .id = id};
    bool named = r.kind == TARN_ROOT_SEGMENT || r.kind == TARN_ROOT_RANGE ||
                 r.kind == TARN_ROOT_HANDLE;
    for (const uintptr_t *p = (const uintptr_t *)ALIGN_UP(lo, (uintptr_t)8);
         p + 1 <= (const uintptr_t *)hi; p++) {
        struct objinfo o;
        uintptr_t v = __atomic_load_n(p, __ATOMIC_RELAXED);
        if (likely(v - heap.lo > heap.hi - heap.lo))
            continue;
        bool in = heap_find(v, &o);
        r.slot = named ? p : NULL;
        r.value = (void *)v;
        if (in)
            tell_root(e, &r, o.base);
        /* As scan_conservative. */
        if (r.kind == TARN_ROOT_STACK && (v & (GRANULE - 1)) == 0 &&
            v > heap.lo && (!in || o.base == v) && heap_find(v - 1, &o) &&
            ends_with_place(o.span))
            tell_root(e, &r, o.base);
    }
}

bool walk_other_roots(walk_root_fn fn, void *arg)
{
    struct each_root e = {fn, arg, false};
    gc_each_other_root(root_range, &e);
    return !e.ended;
}

bool walk_stack(struct g *gp, walk_root_fn fn, void *arg)
{
    struct each_root e = {fn, arg, false};
    gc_each_stack_root(gp, root_range, &e);
    return !e.ended;
}

static void special_root(uintptr_t v, const char *what, void *ve)
{
    (void)what;
    struct tarn_root r = {.kind = TARN_ROOT_FINALIZER, .value = (void *)v};
    struct objinfo o;
    if (heap_contains(v) && heap_find(v, &o))
        tell_root(ve, &r, o.base);
}

static void no_held(uintptr_t key, uintptr_t map, uintptr_t value, void *arg)
{
    (void)key, (void)map, (void)value, (void)arg;
}

bool walk_finalizers(walk_root_fn fn, void *arg)
{
    struct each_root e = {fn, arg, false};
    const struct special_visitor v = {special_root, no_held, no_final, &e};
    gc_each_special(&v);
    return !e.ended;
}

static void roots_walk(void *ve)
{
    const struct each_root *e = ve;
    heap_settle();
    if (!walk_other_roots(e->fn, e->arg))
        return;
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n; i++)
        if (gc_stack_is_root(allg_at(i)) &&
            !walk_stack(allg_at(i), e->fn, e->arg))
            return;
    walk_finalizers(e->fn, e->arg);
}

tarn_status tarn_roots_walk(bool (*fn)(const struct tarn_root *root, void *arg),
                            void *arg)
{
    struct each_root e = {fn, arg, false};
    tarn_status st = require_walker("tarn_roots_walk", fn != NULL);
    if (st != TARN_OK)
        return st;
    systemstack(roots_walk, &e);
    return TARN_OK;
}

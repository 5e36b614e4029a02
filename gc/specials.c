/* gc/specials.c - the tables of specials, their marking and sweeping. */
#include "gc/specials.h"

#include "base/sysmem.h"

#define LOCKS 64u
#define SPECIAL_BLOCK 8u /* spans in a root job */
#define BUCKETS_FIRST 4u
/* Of an object that is kept for its finalizer: pointers to itself are passed over up
 * to this size; what is larger is scanned in slices, like others. */
#define SELF_MAX ((size_t)1 << 20)

static struct {
    struct mutex m;
} CACHE_ALIGNED locks[LOCKS];

/* All spans with specials. */
static struct {
    struct mutex lock;
    struct mspan **span;
    uint32_t n, cap;
} list = {.lock = MUTEX_INIT(LEAF)};

static struct mutex *lock_of(const struct mspan *s)
{
    /* Spans are structs of two cache lines, side by side. */
    return &locks[(uintptr_t)s / sizeof *s % LOCKS].m;
}

void special_lock(const struct mspan *s)
{
    lock(lock_of(s));
}

void special_unlock(const struct mspan *s)
{
    unlock(lock_of(s));
}

static struct span_specials *specials_of(const struct mspan *s)
{
    return atomic_load_explicit(&s->specials, memory_order_acquire);
}

static uint32_t index_in(const struct mspan *s, uintptr_t base)
{
    return (uint32_t)(((base - s->base) * (uint64_t)s->divmagic) >> 32);
}

static uintptr_t base_of(const struct mspan *s, uint32_t index)
{
    return s->base + index * s->elemsize;
}

bool special_object(const char *what, const void *p, struct objref *o)
{
    struct objinfo i;
    if (!heap_find((uintptr_t)p, &i) || i.base != (uintptr_t)p) {
        set_error("%s: %p is not the first byte of a managed object", what, p);
        return false;
    }
    *o = (struct objref){i.span, index_in(i.span, i.base), i.base};
    return true;
}

struct special *special_new(const char *what, enum special_kind kind,
                            void *value)
{
    struct special *x = sys_alloc(sizeof *x);
    if (x == NULL) {
        set_error("%s: out of memory", what);
        return NULL;
    }
    x->kind = (uint8_t)kind;
    x->value = value;
    return x;
}

/* --- a span's table --------------------------------------------------------------- */

static struct special **bucket_of(const struct span_specials *t, uint32_t index)
{
    return &t->bucket[index & (t->nbuckets - 1)];
}

struct special *special_find(const struct objref *o, enum special_kind kind,
                             const struct weak_table *map)
{
    struct span_specials *t = specials_of(o->span);
    if (t == NULL)
        return NULL;
    for (struct special *x = *bucket_of(t, o->index); x != NULL; x = x->next)
        if (x->index == o->index && x->kind == kind &&
            (kind != SPECIAL_ENTRY || x->u.entry.map == map))
            return x;
    return NULL;
}

struct special *special_find_cleanup(const struct objref *o, uint64_t id)
{
    struct span_specials *t = specials_of(o->span);
    if (t == NULL)
        return NULL;
    for (struct special *x = *bucket_of(t, o->index); x != NULL; x = x->next)
        if (x->index == o->index && x->kind == SPECIAL_CLEANUP &&
            x->u.run.id == id)
            return x;
    return NULL;
}

static bool list_add(struct mspan *s, struct span_specials *t)
{
    bool ok = true;
    lock(&list.lock);
    if (list.n == list.cap) {
        uint32_t cap = list.cap ? list.cap * 2 : 64;
        struct mspan **n = sys_realloc(list.span, cap * sizeof *n);
        ok = n != NULL;
        if (ok) {
            list.span = n;
            list.cap = cap;
        }
    }
    if (ok) {
        t->at = list.n;
        list.span[list.n++] = s;
        /* Under the lock: who removes another span may move this one. */
        atomic_store_explicit(&s->specials, t, memory_order_release);
    }
    unlock(&list.lock);
    return ok;
}

static void list_remove(struct span_specials *t)
{
    lock(&list.lock);
    struct mspan *last = list.span[--list.n];
    list.span[t->at] = last;
    specials_of(last)->at = t->at;
    unlock(&list.lock);
}

static struct span_specials *table_new(struct mspan *s)
{
    struct span_specials *t = sys_alloc(sizeof *t);
    if (t == NULL)
        return NULL;
    t->nbuckets = BUCKETS_FIRST;
    t->bucket = sys_alloc(t->nbuckets * sizeof *t->bucket);
    /* Whose first special comes while the heap is swept is alive: invariant 3 has
     * nothing to say of it, and its span may be in a sweeper's hands. */
    t->sweepgen = atomic_load_explicit(&heap.sweepgen, memory_order_relaxed);
    if (t->bucket == NULL || !list_add(s, t)) {
        sys_free(t->bucket);
        sys_free(t);
        return NULL;
    }
    return t;
}

/* Without memory for more buckets it is slower, no more. */
static void table_grow(struct span_specials *t)
{
    struct special **old = t->bucket;
    uint32_t n = t->nbuckets;
    struct special **more = sys_alloc(2 * n * sizeof *more);
    if (more == NULL)
        return;
    t->bucket = more;
    t->nbuckets = 2 * n;
    for (uint32_t i = 0; i < n; i++)
        for (struct special *x = old[i], *next; x != NULL; x = next) {
            next = x->next;
            struct special **b = bucket_of(t, x->index);
            x->next = *b;
            *b = x;
        }
    sys_free(old);
}

bool special_add(const struct objref *o, struct special *x)
{
    struct span_specials *t = specials_of(o->span);
    if (t == NULL && (t = table_new(o->span)) == NULL)
        return false;
    if (t->n >= t->nbuckets && t->nbuckets < o->span->nelems)
        table_grow(t);
    x->index = o->index;
    struct special **b = bucket_of(t, o->index);
    x->next = *b;
    *b = x;
    t->n++;
    special_changed(o);
    return true;
}

void special_changed(const struct objref *o)
{
    specials_of(o->span)->epoch = tarn_cards.epoch;
}

void special_remove(const struct objref *o, struct special *x)
{
    struct span_specials *t = specials_of(o->span);
    struct special **l = bucket_of(t, o->index);
    while (*l != x)
        l = &(*l)->next;
    *l = x->next;
    t->n--; /* an empty table goes when its span is swept */
}

bool special_alive(uintptr_t base)
{
    if (heap_sweep_done())
        return true;
    struct mspan *s = heap_span_of(base);
    /* The mark first: it tells something only if sweep_specials had not been here
     * yet when it was read. */
    uint8_t b = __atomic_load_n(heap_meta(base), __ATOMIC_ACQUIRE);
    struct span_specials *t = specials_of(s);
    return __atomic_load_n(&t->sweepgen, __ATOMIC_ACQUIRE) ==
               atomic_load_explicit(&heap.sweepgen, memory_order_relaxed) ||
           !heap_white(b);
}

/* --- marking ------------------------------------------------------------------------- */

void gc_specials_reset(void)
{
    atomic_store(&gc.specials_on, false);
    atomic_store(&gc.special_next, 0);
    atomic_store(&gc.special_jobs, 0);
    ASSERT(atomic_load(&gc.late_maps) == 0);
}

bool gc_specials_pass(void)
{
    if (atomic_load(&gc.specials_on))
        return false;
    lock(&list.lock);
    uint32_t n = list.n;
    unlock(&list.lock);
    if (n == 0)
        return false;
    atomic_store(&gc.specials_on, true);
    /* Who marks from here on knows it. */
    forEachP(gc_hand_in);
    lock(&list.lock);
    n = list.n;
    unlock(&list.lock);
    atomic_store(&gc.special_jobs, (n + SPECIAL_BLOCK - 1) / SPECIAL_BLOCK);
    return true;
}

bool gc_specials_claim(uint32_t *job)
{
    uint32_t at = atomic_load_explicit(&gc.special_next, memory_order_relaxed);
    do {
        if (at >= atomic_load_explicit(&gc.special_jobs, memory_order_acquire))
            return false;
    } while (!atomic_compare_exchange_weak(&gc.special_next, &at, at + 1));
    *job = at;
    return true;
}

static bool marked(uintptr_t base)
{
    return !heap_white(__atomic_load_n(heap_meta(base), __ATOMIC_RELAXED));
}

struct children {
    struct gcwork *w;
    uintptr_t lo, size;
};

static void push_child(uintptr_t v, uintptr_t slot, void *vc)
{
    (void)slot;
    struct children *c = vc;
    if (v - c->lo >= c->size)
        gc_shade(c->w, v);
}

/* What hangs on an object that is due for its finalizer unless somebody reaches it. */
static void scan_children(const struct mspan *s, uintptr_t base,
                          struct gcwork *w)
{
    struct objinfo o;
    bool found = heap_find(base, &o);
    ASSERT(found && o.span == s);
    if (o.size > SELF_MAX) {
        gc_scan_unmarked(base, w);
        return;
    }
    struct children c = {w, base, o.size};
    object_each_pointer(&o, push_child, &c);
    w->scanned += o.size;
}

static void visit_special(struct gcwork *w, const struct mspan *s,
                          const struct special *x, uintptr_t base,
                          bool is_marked)
{
    switch ((enum special_kind)x->kind) {
    case SPECIAL_WEAK: /* written to when the object is swept, if it is dead */
        gc_shade(w, (uintptr_t)x->value);
        break;
    case SPECIAL_ENTRY: {
        const struct weak_table *t = x->u.entry.map;
        if (is_marked &&
            !atomic_load_explicit(&t->dead, memory_order_relaxed) &&
            marked(t->object))
            gc_shade(w, (uintptr_t)x->value);
        break;
    }
    case SPECIAL_FINALIZER:
        gc_shade(w, (uintptr_t)x->value);
        if (!is_marked)
            scan_children(s, base, w);
        break;
    case SPECIAL_CLEANUP:
        gc_shade(w, (uintptr_t)x->value);
        break;
    case SPECIAL_MAP:
    case SPECIAL_SAMPLE:
        break;
    }
    w->scanned += sizeof *x;
}

static void scan_table(struct gcwork *w, const struct mspan *s)
{
    const struct span_specials *t = specials_of(s);
    if (t == NULL ||
        (!heap.full && !t->young && t->epoch != heap.epoch_before &&
         t->epoch != tarn_cards.epoch))
        return;
    for (uint32_t i = 0; i < t->nbuckets; i++)
        for (struct special *x = t->bucket[i]; x != NULL; x = x->next) {
            uintptr_t base = base_of(s, x->index);
            visit_special(w, s, x, base, marked(base));
        }
}

void gc_scan_specials(struct gcwork *w, uint32_t job)
{
    struct mspan *span[SPECIAL_BLOCK];
    uint32_t n = 0, first = job * SPECIAL_BLOCK;
    /* Nothing leaves the list but by sweeping. */
    lock(&list.lock);
    while (n < SPECIAL_BLOCK && first + n < list.n) {
        span[n] = list.span[first + n];
        n++;
    }
    unlock(&list.lock);
    for (uint32_t i = 0; i < n; i++) {
        special_lock(span[i]);
        scan_table(w, span[i]);
        special_unlock(span[i]);
    }
    gc_step("gc: specials scanned");
}

void gc_special_marked(struct gcwork *w, uintptr_t base)
{
    struct mspan *s = heap_span_of(base);
    if (specials_of(s) == NULL)
        return;
    /* Of the two who mark a key and its map, the second sees the first's mark. */
    atomic_thread_fence(memory_order_seq_cst);
    struct weak_table *map = NULL;
    special_lock(s);
    const struct span_specials *t = specials_of(s);
    uint32_t index = index_in(s, base);
    for (struct special *x = *bucket_of(t, index); x != NULL; x = x->next) {
        if (x->index != index)
            continue;
        visit_special(w, s, x, base, true);
        if (x->kind == SPECIAL_MAP)
            map = x->u.map;
    }
    special_unlock(s);
    if (map != NULL)
        weak_map_marked(w, map);
}

/* --- sweeping -------------------------------------------------------------------------- */

struct due {
    struct special *first, *last;
    size_t n;
};

static void due_add(struct due *d, struct special *x)
{
    x->next = NULL;
    if (d->last != NULL)
        d->last->next = x;
    else
        d->first = x;
    d->last = x;
    d->n++;
}

/* A dead object's. True: the special goes. */
static bool gone(struct special *x, bool dead)
{
    switch ((enum special_kind)x->kind) {
    case SPECIAL_WEAK:
        if (!dead)
            return false;
        weak_clear(x->value);
        sys_free(x);
        return true;
    case SPECIAL_ENTRY:
        if (!dead &&
            !atomic_load_explicit(&x->u.entry.map->dead, memory_order_relaxed))
            return false;
        weak_entry_gone(x);
        return true;
    case SPECIAL_MAP:
        if (!dead)
            return false;
        atomic_store_explicit(&x->u.map->dead, true, memory_order_relaxed);
        weak_table_release(x->u.map);
        sys_free(x);
        return true;
    case SPECIAL_FINALIZER:
    case SPECIAL_CLEANUP:
    case SPECIAL_SAMPLE:
        break;
    }
    return false;
}

/* The one after the other, since an object that is resurrected is dead for weak
 * references, and alive for cleanups. */
enum pass { PASS_WEAK, PASS_FINALIZERS, PASS_CLEANUPS };

static void sweep_pass(struct mspan *s, struct span_specials *t, enum pass pass,
                       struct due *d)
{
    for (uint32_t i = 0; i < t->nbuckets; i++)
        for (struct special **l = &t->bucket[i], *x; (x = *l) != NULL;) {
            uintptr_t base = base_of(s, x->index);
            uint8_t *m = heap_meta(base);
            bool dead = heap_white(meta_load(m));
            struct special *next = x->next;
            bool goes = false;
            if (pass == PASS_WEAK) {
                goes = gone(x, dead);
            } else if (dead && pass == PASS_FINALIZERS &&
                       x->kind == SPECIAL_FINALIZER) {
                x->u.run.object = base;
                meta_store(m, heap_marked(meta_load(m)));
                due_add(d, x);
                goes = true;
            } else if (dead && pass == PASS_CLEANUPS &&
                       x->kind == SPECIAL_CLEANUP) {
                due_add(d, x);
                goes = true;
            } else if (dead && pass == PASS_CLEANUPS &&
                       x->kind == SPECIAL_SAMPLE) {
                profile_gone(x);
                sys_free(x);
                goes = true;
            }
            if (goes) {
                *l = next;
                t->n--;
            } else {
                l = &x->next;
            }
        }
}

static bool any_young(const struct mspan *s, const struct span_specials *t)
{
    for (uint32_t i = 0; i < t->nbuckets; i++)
        for (struct special *x = t->bucket[i]; x != NULL; x = x->next)
            if ((meta_load(heap_meta(base_of(s, x->index))) & META_COLOR) !=
                META_COLOR)
                return true;
    return false;
}

static void sweep_specials(struct mspan *s)
{
    struct due due = {NULL, NULL, 0};
    struct span_specials *empty = NULL;
    special_lock(s);
    struct span_specials *t = specials_of(s);
    if (t != NULL) {
        if (heap.full || s->young) {
            sweep_pass(s, t, PASS_WEAK, &due);
            sweep_pass(s, t, PASS_FINALIZERS, &due);
            sweep_pass(s, t, PASS_CLEANUPS, &due);
        }
        t->young = !heap.full && s->young && any_young(s, t);
        __atomic_store_n(
            &t->sweepgen,
            atomic_load_explicit(&heap.sweepgen, memory_order_relaxed),
            __ATOMIC_RELEASE);
        if (t->n == 0) {
            list_remove(t);
            atomic_store_explicit(&s->specials, NULL, memory_order_release);
            empty = t;
        }
    }
    special_unlock(s);
    if (empty != NULL) {
        sys_free(empty->bucket);
        sys_free(empty);
    }
    if (due.n != 0)
        final_due(due.first, due.last, due.n);
}

/* --- checkmark ---------------------------------------------------------------------------- */

static void each_of(const struct mspan *s, const struct special *x,
                    const struct special_visitor *v)
{
    uintptr_t base = base_of(s, x->index), value = (uintptr_t)x->value;
    switch ((enum special_kind)x->kind) {
    case SPECIAL_WEAK:
        v->held(base, 0, value, v->arg);
        break;
    case SPECIAL_ENTRY:
        if (!atomic_load(&x->u.entry.map->dead))
            v->held(base, x->u.entry.map->object, value, v->arg);
        break;
    case SPECIAL_FINALIZER:
        v->root(value, "argument of a finalizer", v->arg);
        v->final(base, v->arg);
        break;
    case SPECIAL_CLEANUP:
        v->root(value, "argument of a cleanup", v->arg);
        break;
    case SPECIAL_MAP:
    case SPECIAL_SAMPLE:
        break;
    }
}

void gc_each_special(const struct special_visitor *v)
{
    for (uint32_t i = 0; i < list.n; i++) {
        const struct span_specials *t = specials_of(list.span[i]);
        for (uint32_t b = 0; b < t->nbuckets; b++)
            for (struct special *x = t->bucket[b]; x != NULL; x = x->next)
                each_of(list.span[i], x, v);
    }
    gc_each_due(v);
}

void gc_specials_of(uintptr_t base, const struct special_visitor *v)
{
    const struct mspan *s = heap_span_of(base);
    const struct span_specials *t = specials_of(s);
    if (t == NULL)
        return;
    uint32_t index = index_in(s, base);
    for (struct special *x = *bucket_of(t, index); x != NULL; x = x->next)
        if (x->index == index)
            each_of(s, x, v);
}

void gc_specials_init(void)
{
    for (uint32_t i = 0; i < LOCKS; i++)
        mutex_init(&locks[i].m, RANK_SPECIALS);
    heap_hooks.sweep_specials = sweep_specials;
}

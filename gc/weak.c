/* gc/weak.c - weak references, weak maps, ephemerons. */
#include "base/sysmem.h"
#include "gc/specials.h"
#include "tarn/barrier.h"

#define EACH_BATCH 16
#define EACH_LOOKS 256 /* at entries, under the map's lock at a time */
/* Of a map that is marked late: entries to look at on the spot, and in a step where
 * there are more. */
#define MARKED_MOST 64

struct tarn_weak {
    _Atomic uintptr_t target; /* 0: dead */
};

struct tarn_weakmap {
    struct weak_table *table;
};

struct tarn_ephemeron {
    tarn_weak *key;
    tarn_weakmap *map;
};

static tarn_type *weak_type, *map_type, *ephemeron_type;

bool gc_weak_init(void)
{
    weak_type = tarn_type_register(&(struct tarn_type_info){
        .name = "tarn_weak", .size = sizeof(struct tarn_weak)});
    map_type = tarn_type_register(&(struct tarn_type_info){
        .name = "tarn_weakmap", .size = sizeof(struct tarn_weakmap)});
    ephemeron_type = tarn_type_register(&(struct tarn_type_info){
        .name = "tarn_ephemeron",
        .size = sizeof(struct tarn_ephemeron),
        .ptrmap = (uint64_t[]){TARN_PTR(struct tarn_ephemeron, key) |
                               TARN_PTR(struct tarn_ephemeron, map)}});
    return weak_type != NULL && map_type != NULL && ephemeron_type != NULL;
}

static void on_goroutine_only(const char *what)
{
    if (unlikely(!on_goroutine()))
        throw("%s: not called on a goroutine%s", what, not_goroutine_why());
}

/* --- weak references -------------------------------------------------------------- */

/* With the span's lock. */
static tarn_weak *existing(const struct objref *o)
{
    struct special *x = special_find(o, SPECIAL_WEAK, NULL);
    if (x == NULL)
        return NULL;
    gc_shade_hook(x->value);
    return x->value;
}

tarn_weak *tarn_weak_new(void *object)
{
    struct objref o;
    if (!require_goroutine("tarn_weak_new") ||
        !special_object("tarn_weak_new", object, &o))
        return NULL;
    special_lock(o.span);
    tarn_weak *w = existing(&o);
    special_unlock(o.span);
    if (w != NULL)
        return w;
    struct special *x = special_new("tarn_weak_new", SPECIAL_WEAK, NULL);
    if (x == NULL)
        return NULL;
    void *volatile keep = object;
    tarn_weak *made = tarn_alloc_call(weak_type);
    bool ok = made != NULL;
    if (ok) {
        special_lock(o.span);
        w = existing(&o);
        if (w == NULL) {
            x->value = made;
            ok = special_add(&o, x);
            if (ok) {
                atomic_store_explicit(&made->target, o.base,
                                      memory_order_release);
                w = made;
                x = NULL;
            } else {
                set_error("tarn_weak_new: out of memory");
            }
        }
        special_unlock(o.span);
    }
    (void)keep;
    sys_free(x);
    return ok ? w : NULL;
}

void weak_clear(void *weak)
{
    struct tarn_weak *w = weak;
    atomic_store_explicit(&w->target, 0, memory_order_release);
}

/* The heap is being swept: the target may be dead. */
static NOINLINE void *get_sweeping(const tarn_weak *weak)
{
    uintptr_t p = atomic_load_explicit(&weak->target, memory_order_acquire);
    if (p == 0)
        return NULL;
    struct mspan *s = heap_span_of(p);
    special_lock(s);
    /* If it still points there it is this span that we have locked. */
    bool alive =
        atomic_load_explicit(&weak->target, memory_order_acquire) != 0 &&
        special_alive(p);
    special_unlock(s);
    return alive ? (void *)p : NULL;
}

void *tarn_weak_get(const tarn_weak *weak)
{
    on_goroutine_only("tarn_weak_get");
    if (weak == NULL)
        return NULL;
    /* First this: once true it is so until our next safe point. */
    if (unlikely(!heap_sweep_done()))
        return get_sweeping(weak);
    void *p = (void *)atomic_load_explicit(&weak->target, memory_order_acquire);
    gc_shade_hook(p);
    return p;
}

/* --- weak maps ---------------------------------------------------------------------- */

tarn_weakmap *tarn_weakmap_new(void)
{
    if (!require_goroutine("tarn_weakmap_new"))
        return NULL;
    struct weak_table *t = sys_alloc(sizeof *t);
    struct special *x = special_new("tarn_weakmap_new", SPECIAL_MAP, NULL);
    tarn_weakmap *m = NULL;
    if (t == NULL)
        set_error("tarn_weakmap_new: out of memory");
    if (t == NULL || x == NULL || (m = tarn_alloc_call(map_type)) == NULL) {
        sys_free(t);
        sys_free(x);
        return NULL;
    }
    mutex_init(&t->lock, RANK_WEAKMAP);
    atomic_store(&t->refs, 1);
    t->object = (uintptr_t)m;
    t->list.u.entry.before = t->list.u.entry.after = &t->list;
    x->u.map = t;
    struct objref o;
    bool ok = special_object("tarn_weakmap_new", m, &o);
    ASSERT(ok);
    special_lock(o.span);
    ok = special_add(&o, x);
    special_unlock(o.span);
    if (!ok) {
        set_error("tarn_weakmap_new: out of memory");
        sys_free(t);
        sys_free(x);
        return NULL;
    }
    m->table = t;
    return m;
}

void weak_table_release(struct weak_table *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        sys_free(t);
}

/* With the map's lock. */
static void ring_insert(struct special *x, struct special *before)
{
    x->u.entry.before = before;
    x->u.entry.after = before->u.entry.after;
    before->u.entry.after->u.entry.before = x;
    before->u.entry.after = x;
}

static void ring_remove(struct special *x)
{
    x->u.entry.before->u.entry.after = x->u.entry.after;
    x->u.entry.after->u.entry.before = x->u.entry.before;
}

void weak_entry_gone(struct special *x)
{
    struct weak_table *t = x->u.entry.map;
    lock(&t->lock);
    ring_remove(x);
    t->n--;
    unlock(&t->lock);
    weak_table_release(t);
    sys_free(x);
}

/* With the span's lock. Markers read a value with that, tarn_weakmap_each with the
 * map's. */
static void set_value(const struct objref *o, struct special *x, void *value)
{
    gc_shade_hook(value);
    __atomic_store_n(&x->value, value, __ATOMIC_RELEASE);
    special_changed(o);
}

static void *value_of(const struct special *x)
{
    return __atomic_load_n(&x->value, __ATOMIC_ACQUIRE);
}

static bool replace(const struct objref *o, struct weak_table *t, void *value)
{
    struct special *x = special_find(o, SPECIAL_ENTRY, t);
    if (x != NULL)
        set_value(o, x, value);
    return x != NULL;
}

tarn_status tarn_weakmap_set(tarn_weakmap *map, void *key, void *value)
{
    struct objref o;
    if (!require_goroutine("tarn_weakmap_set"))
        return TARN_ESTATE;
    if (map == NULL) {
        set_error("tarn_weakmap_set: no map");
        return TARN_EINVAL;
    }
    if (!special_object("tarn_weakmap_set", key, &o))
        return TARN_EINVAL;
    struct weak_table *t = map->table;
    special_lock(o.span);
    bool ok = replace(&o, t, value);
    special_unlock(o.span);
    if (ok)
        return TARN_OK;
    struct special *x = special_new("tarn_weakmap_set", SPECIAL_ENTRY, value);
    if (x == NULL)
        return TARN_ENOMEM;
    x->u.entry.map = t;
    x->u.entry.key = o.base;
    bool replaced;
    special_lock(o.span);
    replaced = replace(&o, t, value);
    ok = replaced || special_add(&o, x);
    if (ok && !replaced) {
        gc_shade_hook(value);
        atomic_fetch_add(&t->refs, 1);
        lock(&t->lock);
        ring_insert(x, &t->list);
        t->n++;
        unlock(&t->lock);
    }
    special_unlock(o.span);
    if (!ok || replaced)
        sys_free(x);
    if (!ok) {
        set_error("tarn_weakmap_set: out of memory");
        return TARN_ENOMEM;
    }
    return TARN_OK;
}

bool tarn_weakmap_find(tarn_weakmap *map, const void *key, void **value)
{
    struct objref o;
    on_goroutine_only("tarn_weakmap_find");
    void *v = NULL;
    bool found = false;
    if (map != NULL && special_object("tarn_weakmap_find", key, &o) &&
        atomic_load_explicit(&o.span->specials, memory_order_relaxed) != NULL) {
        special_lock(o.span);
        struct special *x = special_find(&o, SPECIAL_ENTRY, map->table);
        if (x != NULL) {
            found = true;
            v = value_of(x);
            gc_shade_hook(v);
        }
        special_unlock(o.span);
    }
    if (value != NULL)
        *value = v;
    return found;
}

void *tarn_weakmap_get(tarn_weakmap *map, const void *key)
{
    void *v;
    tarn_weakmap_find(map, key, &v);
    return v;
}

bool tarn_weakmap_remove(tarn_weakmap *map, const void *key)
{
    struct objref o;
    on_goroutine_only("tarn_weakmap_remove");
    if (map == NULL || !special_object("tarn_weakmap_remove", key, &o))
        return false;
    special_lock(o.span);
    struct special *x = special_find(&o, SPECIAL_ENTRY, map->table);
    if (x != NULL) {
        special_remove(&o, x);
        /* Under the lock: to the map's lock alone a key in its ring has a table, and
         * a sweep frees one that is empty (special_alive). */
        weak_entry_gone(x);
    }
    special_unlock(o.span);
    return x != NULL;
}

size_t tarn_weakmap_count(tarn_weakmap *map)
{
    on_goroutine_only("tarn_weakmap_count");
    if (map == NULL)
        return 0;
    struct weak_table *t = map->table;
    lock(&t->lock);
    size_t n = t->n;
    unlock(&t->lock);
    return n;
}

struct pair {
    void *key, *value;
};

/* Some of the next entries whose keys are alive, behind the cursor, which moves on. */
static size_t next_pairs(struct weak_table *t, struct special *cursor,
                         struct pair *out, bool *end)
{
    size_t n = 0, looks = 0;
    lock(&t->lock);
    struct special *x = cursor->u.entry.after;
    for (; n < EACH_BATCH && looks < EACH_LOOKS && x != &t->list;
         x = x->u.entry.after, looks++) {
        if (x->u.entry.key == 0 || !special_alive(x->u.entry.key))
            continue;
        out[n] = (struct pair){(void *)x->u.entry.key, value_of(x)};
        gc_shade_hook(out[n].key);
        gc_shade_hook(out[n].value);
        n++;
    }
    ring_remove(cursor);
    ring_insert(cursor, x->u.entry.before);
    *end = x == &t->list;
    unlock(&t->lock);
    return n;
}

tarn_status tarn_weakmap_each(tarn_weakmap *map,
                              bool (*fn)(void *key, void *value, void *arg),
                              void *arg)
{
    if (!require_goroutine("tarn_weakmap_each"))
        return TARN_ESTATE;
    if (map == NULL || fn == NULL) {
        set_error("tarn_weakmap_each: no %s", map == NULL ? "map" : "function");
        return TARN_EINVAL;
    }
    struct weak_table *t = map->table;
    tarn_weakmap *volatile keep = map;
    /* Not on our stack, which may move. New entries come in front of it. */
    struct special *cursor =
        special_new("tarn_weakmap_each", SPECIAL_ENTRY, NULL);
    if (cursor == NULL)
        return TARN_ENOMEM;
    lock(&t->lock);
    ring_insert(cursor, &t->list);
    unlock(&t->lock);
    bool more = true;
    struct pair pairs[EACH_BATCH];
    for (bool end = false; more && !end;) {
        size_t n = next_pairs(t, cursor, pairs, &end);
        for (size_t i = 0; i < n && more; i++)
            more = fn(pairs[i].key, pairs[i].value, arg);
        preempt_check();
    }
    lock(&t->lock);
    ring_remove(cursor);
    unlock(&t->lock);
    sys_free(cursor);
    (void)keep;
    return TARN_OK;
}

/* Maps marked late that are not gone through yet. */
static struct {
    struct mutex lock;
    struct weak_table *first;
} late = {.lock = MUTEX_INIT(LEAF)};

/* By who marks: the mark is not over before it has ended. */
static void late_push(struct weak_table *t)
{
    lock(&late.lock);
    t->late_next = late.first;
    late.first = t;
    atomic_fetch_add(&gc.late_maps, 1);
    unlock(&late.lock);
}

static struct weak_table *late_take(void)
{
    lock(&late.lock);
    struct weak_table *t = late.first;
    if (t != NULL) {
        late.first = t->late_next;
        atomic_fetch_sub(&gc.late_maps, 1);
    }
    unlock(&late.lock);
    return t;
}

/* With the map's lock: some entries from x on. */
static struct special *mark_values(struct gcwork *w, const struct weak_table *t,
                                   struct special *x)
{
    for (size_t n = 0; n < MARKED_MOST && x != &t->list;
         n++, x = x->u.entry.after) {
        w->scanned += sizeof *x;
        if (x->u.entry.key != 0 &&
            !heap_white(
                __atomic_load_n(heap_meta(x->u.entry.key), __ATOMIC_RELAXED)))
            gc_shade(w, (uintptr_t)value_of(x));
    }
    return x;
}

/* What keys hold that are marked later, who marks them shades. */
void weak_map_marked(struct gcwork *w, struct weak_table *t)
{
    bool more = false;
    lock(&t->lock);
    if (!t->late) {
        struct special *x = mark_values(w, t, t->list.u.entry.after);
        more = t->late = x != &t->list;
        if (more)
            ring_insert(&t->marked_to, x->u.entry.before);
    }
    unlock(&t->lock);
    if (more)
        late_push(t);
}

bool gc_scan_late_map(struct gcwork *w)
{
    if (likely(atomic_load_explicit(&gc.late_maps, memory_order_relaxed) == 0))
        return false;
    struct weak_table *t = late_take();
    if (t == NULL)
        return false;
    lock(&t->lock);
    struct special *x = mark_values(w, t, t->marked_to.u.entry.after);
    ring_remove(&t->marked_to);
    t->late = x != &t->list;
    if (t->late)
        ring_insert(&t->marked_to, x->u.entry.before);
    bool more = t->late;
    unlock(&t->lock);
    if (more)
        late_push(t);
    gc_step("gc: some entries of a map scanned");
    return true;
}

/* --- ephemerons ------------------------------------------------------------------------ */

tarn_ephemeron *tarn_ephemeron_new(void *key, void *value)
{
    void *volatile keep_key = key, *volatile keep_value = value;
    tarn_weak *volatile w = tarn_weak_new(key);
    if (w == NULL)
        return NULL;
    tarn_weakmap *volatile m = tarn_weakmap_new();
    if (m == NULL || tarn_weakmap_set(m, key, value) != TARN_OK)
        return NULL;
    tarn_ephemeron *e = tarn_alloc_call(ephemeron_type);
    if (e != NULL) {
        tarn_store(&e->key, w);
        tarn_store(&e->map, m);
    }
    (void)keep_key;
    (void)keep_value;
    return e;
}

bool tarn_ephemeron_get(const tarn_ephemeron *e, void **key, void **value)
{
    void *k = NULL, *v = NULL;
    if (e != NULL && (k = tarn_weak_get(e->key)) != NULL)
        tarn_weakmap_find(e->map, k, &v);
    if (key != NULL)
        *key = k;
    if (value != NULL)
        *value = v;
    return k != NULL;
}

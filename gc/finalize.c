/* gc/finalize.c - finalizers and cleanups: those that are set, those that are due,
 * and the goroutine that runs them.
 *
 * What sweeping finds due waits in a queue, which is a root. After a sweep the driver
 * starts a goroutine for it if there is none; it ends when the queue is empty, so that
 * an idle program has no goroutine that waits for nothing. */
#include "base/sysmem.h"
#include "gc/specials.h"
#include "tarn/sync.h"

static struct {
    struct mutex lock; /* RANK_WEAKMAP: markers push with it */
    struct special *first, *last;
    bool running;
    _Atomic uint64_t runner; /* its number */
    _Atomic uint64_t due, run, ids;
} q = {.lock = MUTEX_INIT(WEAKMAP)};

/* For those that wait until some have run. */
static tarn_mutex turn;
static tarn_cond more_run;

/* --- set ----------------------------------------------------------------------------- */

tarn_status tarn_finalizer_set(void *object, tarn_finalizer_fn fn, void *arg)
{
    struct objref o;
    if (!require_goroutine("tarn_finalizer_set"))
        return TARN_ESTATE;
    if (!special_object("tarn_finalizer_set", object, &o))
        return TARN_EINVAL;
    struct special *x = NULL;
    if (fn != NULL) {
        x = special_new("tarn_finalizer_set", SPECIAL_FINALIZER, arg);
        if (x == NULL)
            return TARN_ENOMEM;
        x->u.run.fn.finalizer = fn;
    }
    bool ok = true;
    special_lock(o.span);
    struct special *old = special_find(&o, SPECIAL_FINALIZER, NULL);
    if (x != NULL) {
        gc_shade_hook(arg);
        ok = special_add(&o, x);
    }
    if (ok && old != NULL)
        special_remove(&o, old);
    special_unlock(o.span);
    sys_free(ok ? old : x);
    if (!ok) {
        set_error("tarn_finalizer_set: out of memory");
        return TARN_ENOMEM;
    }
    return TARN_OK;
}

uint64_t tarn_cleanup_add(void *object, tarn_cleanup_fn fn, void *arg)
{
    struct objref o;
    if (!require_goroutine("tarn_cleanup_add") ||
        !special_object("tarn_cleanup_add", object, &o))
        return 0;
    if (fn == NULL) {
        set_error("tarn_cleanup_add: no function");
        return 0;
    }
    struct special *x = special_new("tarn_cleanup_add", SPECIAL_CLEANUP, arg);
    if (x == NULL)
        return 0;
    x->u.run.fn.cleanup = fn;
    uint64_t id = x->u.run.id = atomic_fetch_add(&q.ids, 1) + 1;
    special_lock(o.span);
    gc_shade_hook(arg);
    bool ok = special_add(&o, x);
    special_unlock(o.span);
    if (!ok) {
        sys_free(x);
        set_error("tarn_cleanup_add: out of memory");
        return 0;
    }
    return id;
}

bool tarn_cleanup_remove(void *object, uint64_t id)
{
    struct objref o;
    if (!require_goroutine("tarn_cleanup_remove") ||
        !special_object("tarn_cleanup_remove", object, &o))
        return false;
    special_lock(o.span);
    struct special *x = special_find_cleanup(&o, id);
    if (x != NULL)
        special_remove(&o, x);
    special_unlock(o.span);
    sys_free(x);
    return x != NULL;
}

/* --- due ------------------------------------------------------------------------------- */

void final_due(struct special *first, struct special *last, size_t n)
{
    lock(&q.lock);
    if (q.last != NULL)
        q.last->next = first;
    else
        q.first = first;
    q.last = last;
    atomic_fetch_add(&q.due, n);
    unlock(&q.lock);
}

static uintptr_t object_of(const struct special *x)
{
    return x->kind == SPECIAL_FINALIZER ? x->u.run.object : 0;
}

void gc_scan_due(struct gcwork *w)
{
    lock(&q.lock);
    for (const struct special *x = q.first; x != NULL; x = x->next) {
        gc_shade(w, object_of(x));
        gc_shade(w, (uintptr_t)x->value);
    }
    unlock(&q.lock);
}

void gc_each_due(const struct special_visitor *v)
{
    for (const struct special *x = q.first; x != NULL; x = x->next) {
        v->root(object_of(x), "object that is due for its finalizer", v->arg);
        v->root((uintptr_t)x->value, "argument that is due", v->arg);
    }
}

/* --- run ------------------------------------------------------------------------------- */

static struct special *take_due(void)
{
    lock(&q.lock);
    struct special *x = q.first;
    if (x != NULL) {
        q.first = x->next;
        if (q.first == NULL)
            q.last = NULL;
        /* No longer in the queue, and our stack may have been scanned. */
        gc_shade_hook((void *)object_of(x));
        gc_shade_hook(x->value);
    } else {
        q.running = false;
        atomic_store(&q.runner, 0);
    }
    unlock(&q.lock);
    return x;
}

/* A frame of its own, so that what it leaves on the stack is overwritten by the
 * next. */
static NOINLINE bool run_one(void)
{
    struct special *x = take_due();
    if (x == NULL)
        return false;
    void *value = x->value, *object = (void *)object_of(x);
    bool finalizer = x->kind == SPECIAL_FINALIZER;
    tarn_finalizer_fn f = x->u.run.fn.finalizer;
    tarn_cleanup_fn c = x->u.run.fn.cleanup;
    sys_free(x);
    if (finalizer)
        f(object, value);
    else
        c(value);
    return true;
}

static void runner(void *unused)
{
    (void)unused;
    atomic_store(&q.runner, getg()->goid);
    while (run_one()) {
        tarn_mutex_lock(&turn);
        atomic_fetch_add(&q.run, 1);
        tarn_cond_broadcast(&more_run);
        tarn_mutex_unlock(&turn);
    }
}

void gc_finalizers_start(void)
{
    lock(&q.lock);
    bool start = q.first != NULL && !q.running;
    if (start)
        q.running = true;
    unlock(&q.lock);
    if (!start || newproc(runner, NULL, NULL, false) != NULL)
        return;
    /* No memory for it: after the next collection. */
    lock(&q.lock);
    q.running = false;
    unlock(&q.lock);
}

bool gc_in_finalizer(void)
{
    return on_goroutine() &&
           atomic_load_explicit(&q.runner, memory_order_relaxed) ==
               getg()->goid;
}

tarn_status tarn_finalizers_wait(void)
{
    if (!require_goroutine("tarn_finalizers_wait"))
        return TARN_ESTATE;
    if (gc_in_finalizer()) {
        set_error("tarn_finalizers_wait: called by a finalizer or cleanup");
        return TARN_ESTATE;
    }
    if (getg()->worldstopped) {
        set_error("tarn_finalizers_wait: the caller has stopped the world");
        return TARN_ESTATE;
    }
    uint64_t due = atomic_load(&q.due);
    gc_finalizers_start();
    tarn_mutex_lock(&turn);
    while (atomic_load(&q.run) < due)
        tarn_cond_wait(&more_run, &turn);
    tarn_mutex_unlock(&turn);
    return TARN_OK;
}

void tarn_finalizers_count(uint64_t *due, uint64_t *run)
{
    *run = atomic_load(&q.run);
    *due = atomic_load(&q.due);
}

/* gc/profile.c - the heap profile: samples by the place where they were allocated.
 *
 * heap/sample.c says which objects are samples. Each has a special, so that the sweep
 * tells when it dies. A place is a list of return addresses and a size, since how many
 * objects a sample stands for depends on its size.
 *
 * Locks: profile.lock, a leaf. */
#include <errno.h>
#include <time.h>

#include "base/options.h"
#include "base/sysmem.h"
#include "gc/profile.h"
#include "gc/specials.h"
#include "stackscan/framemap.h"
#include "tarn/native.h"
#include "tarn/profile.h"

#define DEFAULT_INTERVAL (UINT64_C(512) << 10)
#define HASH_SIZE 4096u
/* Return addresses in profile_alloc and in who calls it. */
#define OWN_FRAMES 2u

struct profile profile = {.lock = MUTEX_INIT(LEAF)};
static struct profile_site **table; /* not an array: those are roots */

/* --- samples ------------------------------------------------------------------------ */

struct call_trace {
    uint32_t n;
    uintptr_t pc[SITE_DEPTH];
};

static void callers(struct g *gp, struct call_trace *t)
{
    struct unwind u;
    bool more = unwind_begin_here(&u, gp);
    for (uint32_t i = 0; more && t->n < SITE_DEPTH && u.pc != 0; i++) {
        if (i >= OWN_FRAMES)
            t->pc[t->n++] = u.pc;
        more = unwind_caller(&u);
    }
}

static uint64_t hash_of(const struct call_trace *t, size_t size)
{
    uint64_t h = size;
    for (uint32_t i = 0; i < t->n; i++)
        h = (h ^ t->pc[i]) * UINT64_C(0x9E3779B97F4A7C15) ^ h >> 29;
    return h ^ h >> 32;
}

/* With the lock. NULL: no memory. */
static struct profile_site *site_of(const struct call_trace *t, size_t size)
{
    uint64_t h = hash_of(t, size);
    struct profile_site **bucket = &table[h % HASH_SIZE];
    for (struct profile_site *s = *bucket; s != NULL; s = s->same_hash)
        if (s->hash == h && s->size == size && s->n == t->n &&
            memcmp(s->pc, t->pc, t->n * sizeof t->pc[0]) == 0)
            return s;
    struct profile_site *s = sys_alloc(sizeof *s + t->n * sizeof s->pc[0]);
    if (s == NULL)
        return NULL;
    s->hash = h;
    s->size = size;
    s->n = t->n;
    memcpy(s->pc, t->pc, t->n * sizeof t->pc[0]);
    s->same_hash = *bucket;
    *bucket = s;
    s->next = atomic_load_explicit(&profile.sites, memory_order_relaxed);
    atomic_store_explicit(&profile.sites, s, memory_order_release);
    return s;
}

struct sampled_object {
    uintptr_t base;
    size_t size;
};

/* On g0: nobody can stop the world before it is done. What there is no memory for is
 * no sample. */
static void note(void *vs)
{
    const struct sampled_object *a = vs;
    struct call_trace t = {.n = 0};
    struct objref o;
    callers(atomic_load_explicit(&getg()->m->curg, memory_order_relaxed), &t);
    struct special *x = special_new("heap profile", SPECIAL_SAMPLE, NULL);
    if (x == NULL)
        return;
    lock(&profile.lock);
    struct profile_site *s = site_of(&t, a->size);
    if (s != NULL) {
        x->u.sample.site = s;
        x->u.sample.profile = atomic_load(&profile.number);
        if (s->profile != x->u.sample.profile) {
            s->profile = x->u.sample.profile;
            s->allocs = s->frees = 0;
        }
        s->allocs++;
    }
    unlock(&profile.lock);
    bool ok = s != NULL && special_object("heap profile", (void *)a->base, &o);
    if (ok) {
        special_lock(o.span);
        ok = special_add(&o, x);
        special_unlock(o.span);
    }
    if (ok)
        return;
    if (s != NULL) {
        lock(&profile.lock);
        s->allocs--;
        unlock(&profile.lock);
    }
    sys_free(x);
}

void profile_alloc(uintptr_t base, size_t size)
{
    struct sampled_object a = {base, size};
    systemstack(note, &a);
}

void profile_gone(const struct special *x)
{
    struct profile_site *s = x->u.sample.site;
    lock(&profile.lock);
    if (s->profile == x->u.sample.profile)
        s->frees++;
    unlock(&profile.lock);
}

/* --- start, stop, write ------------------------------------------------------------- */

static int64_t unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static bool sampling(void)
{
    return atomic_load_explicit(&heap.sample_interval, memory_order_relaxed) !=
           0;
}

tarn_status tarn_heap_profile_start(size_t interval_bytes)
{
    if (!require_goroutine("tarn_heap_profile_start"))
        return TARN_ESTATE;
    tarn_status st = tarn_world_stop();
    if (st != TARN_OK)
        return st;
    bool already = sampling();
    if (table == NULL)
        table = sys_alloc(HASH_SIZE * sizeof(*table));
    bool memory = table != NULL;
    if (!already && memory) {
        lock(&profile.lock);
        profile.interval =
            interval_bytes != 0 ? interval_bytes : DEFAULT_INTERVAL;
        profile.began_unix = unix_time();
        profile.began = nanotime();
        uint32_t number = atomic_load(&profile.number) + 1;
        atomic_store(&profile.number, number != 0 ? number : 1);
        unlock(&profile.lock);
        heap_sample_start(profile.interval, (uint64_t)options.seed);
    }
    tarn_world_start();
    if (already) {
        set_error("tarn_heap_profile_start: a profile is being made already");
        return TARN_ESTATE;
    }
    if (!memory) {
        set_error("tarn_heap_profile_start: out of memory");
        return TARN_ENOMEM;
    }
    return TARN_OK;
}

tarn_status tarn_heap_profile_stop(void)
{
    if (!require_goroutine("tarn_heap_profile_stop"))
        return TARN_ESTATE;
    tarn_status st = tarn_world_stop();
    if (st != TARN_OK)
        return st;
    bool was = sampling();
    if (was)
        heap_sample_start(0, 0);
    tarn_world_start();
    if (!was) {
        set_error("tarn_heap_profile_stop: no profile is being made");
        return TARN_ESTATE;
    }
    return TARN_OK;
}

struct write_call {
    const char *path;
    int error;
};

static void *write_native(void *vc)
{
    struct write_call *c = vc;
    c->error = profile_write(c->path);
    return NULL;
}

tarn_status tarn_heap_profile_write(const char *path)
{
    struct write_call c = {path, 0};
    if (path == NULL) {
        set_error("tarn_heap_profile_write: no path");
        return TARN_EINVAL;
    }
    if (atomic_load(&profile.number) == 0) {
        set_error("tarn_heap_profile_write: no profile was begun");
        return TARN_ESTATE;
    }
    if (on_goroutine() && getg()->worldstopped) {
        set_error("tarn_heap_profile_write: the caller has stopped the world");
        return TARN_ESTATE;
    }
    /* A stack stands still during a native call, path and c with it. */
    if (on_goroutine())
        tarn_native_call(write_native, &c);
    else
        write_native(&c);
    if (c.error == 0)
        return TARN_OK;
    if (c.error == ENOMEM) {
        set_error("tarn_heap_profile_write: out of memory");
        return TARN_ENOMEM;
    }
    set_error("tarn_heap_profile_write: cannot write %.150s: %s", path,
              strerror(c.error));
    return TARN_ESYS;
}

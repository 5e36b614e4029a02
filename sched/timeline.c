/* sched/timeline.c - the timeline's beginning and end, and its buffers. */
#include "sched/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/sysmem.h"
#include "sched/sched.h"
#include "tarn/trace.h"

struct timeline timeline = {.lock = MUTEX_INIT(LEAF)};

/* OFF, ON, or in between: one begins or ends it at a time. */
static _Atomic uint32_t state;
enum { OFF, BUSY, ON };

/* --- events ------------------------------------------------------------------- */

/* Under the lock: hands in a full chunk and returns an empty one, perhaps the
 * same. */
static struct timeline_chunk *turn(struct timeline_chunk *c)
{
    struct timeline_chunk *fresh = timeline.free;
    if (fresh == NULL) {
        c->lost += c->n;
        c->n = 0;
        return c;
    }
    timeline.free = fresh->next;
    fresh->track = c->track;
    fresh->n = 0;
    fresh->lost = 0;
    c->next = NULL;
    *timeline.full_end = c;
    timeline.full_end = &c->next;
    return fresh;
}

static struct timeline_chunk *take_free(uint32_t track)
{
    struct timeline_chunk *c = timeline.free;
    timeline.free = c->next;
    c->track = track;
    c->n = 0;
    c->lost = 0;
    return c;
}

/* Its first event. */
static bool begin_p(struct p *pp)
{
    lock(&timeline.lock);
    if (timeline.free != NULL)
        pp->timeline = take_free(pp->id);
    else
        timeline.lost++;
    unlock(&timeline.lock);
    return pp->timeline != NULL;
}

static void append(struct timeline_chunk *c, enum trace_kind kind,
                   uint64_t goid, uint64_t a, uint64_t b)
{
    c->e[c->n++] = (struct trace_event){__builtin_ia32_rdtsc(),
                                        goid << 8 | (uint64_t)kind, a, b};
}

void timeline_event(enum trace_kind kind, struct p *pp, const struct g *gp,
                    uint64_t a, uint64_t b)
{
    uint64_t goid = gp != NULL ? gp->goid : 0;
    switch (kind) {
    case TRACE_EXECUTE:
    case TRACE_NATIVE_LEAVE:
        a = gp != NULL ? (uint64_t)(uintptr_t)gp->fn : 0;
        break;
    case TRACE_PARK:
    case TRACE_PREEMPT:
    case TRACE_ASYNC:
    case TRACE_STOP:
    case TRACE_NATIVE_ENTER:
    case TRACE_EXIT:
    case TRACE_RELEASE:
    case TRACE_ASSIST:
    case TRACE_ASSISTED:
        break;
    case TRACE_STW_ASK:
    case TRACE_STW_STOPPED:
    case TRACE_STW_START:
    case TRACE_MARK:
    case TRACE_MARKTERM:
    case TRACE_SWEEP:
    case TRACE_SWEPT:
        lock(&timeline.lock);
        append(timeline.shared, kind, goid, a, b);
        if (timeline.shared->n == TIMELINE_EVENTS)
            timeline.shared = turn(timeline.shared);
        unlock(&timeline.lock);
        return;
    default:
        return;
    }
    if (pp == NULL || (pp->timeline == NULL && !begin_p(pp)))
        return;
    append(pp->timeline, kind, goid, a, b);
    if (pp->timeline->n == TIMELINE_EVENTS) {
        lock(&timeline.lock);
        pp->timeline = turn(pp->timeline);
        unlock(&timeline.lock);
    }
}

/* --- begin and end -------------------------------------------------------------- */

static void free_chunks(struct timeline_chunk *c)
{
    while (c != NULL) {
        struct timeline_chunk *next = c->next;
        sys_free(c);
        c = next;
    }
}

static void clean_up(void)
{
    if (timeline.fd >= 0)
        close(timeline.fd);
    sys_free(timeline.path);
    free_chunks(timeline.free);
    timeline.free = NULL;
}

/* One more to the free ones. */
static bool make_chunk(void)
{
    struct timeline_chunk *c = sys_alloc(sizeof *c);
    if (c == NULL)
        return false;
    lock(&timeline.lock);
    c->next = timeline.free;
    timeline.free = c;
    timeline.made++;
    unlock(&timeline.lock);
    return true;
}

/* File, memory, thread: while the world runs. The writer waits for chunks. */
static tarn_status prepare(const char *path)
{
    timeline.error = 0;
    timeline.full = NULL;
    timeline.full_end = &timeline.full;
    timeline.free = NULL;
    timeline.made = 0;
    timeline.lost = 0;
    timeline.fd = -1;
    atomic_store(&timeline.ending, false);
    atomic_store(&timeline.written, false);
    size_t len = strlen(path) + 1;
    timeline.path = sys_alloc(len);
    bool ok = timeline.path != NULL;
    while (ok && timeline.made < TIMELINE_CHUNKS + procs_now() + 1)
        ok = make_chunk();
    if (!ok) {
        clean_up();
        set_error("tarn_trace_start: out of memory for buffers");
        return TARN_ENOMEM;
    }
    memcpy(timeline.path, path, len);
    timeline.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (timeline.fd < 0) {
        set_error("tarn_trace_start: cannot open %s: %s", path,
                  strerror(errno));
        clean_up();
        return TARN_ESYS;
    }
    timeline.tsc = __builtin_ia32_rdtsc();
    timeline.ns = (uint64_t)nanotime();
    pthread_t t;
    if (!thread_create(&t, timeline_writer, NULL)) {
        set_error("tarn_trace_start: cannot create a thread: %s",
                  strerror(errno));
        clean_up();
        return TARN_ESYS;
    }
    return TARN_OK;
}

static void set_on(bool on)
{
    uint32_t v = __atomic_load_n(&trace_on, __ATOMIC_RELAXED);
    v = on ? v | TRACE_ON_TIMELINE : v & ~TRACE_ON_TIMELINE;
    __atomic_store_n(&trace_on, v, __ATOMIC_RELAXED);
}

/* World stopped. */
static void switch_on(void)
{
    lock(&timeline.lock);
    timeline.shared = take_free(TIMELINE_SHARED);
    unlock(&timeline.lock);
    set_on(true);
}

static void hand_in(struct timeline_chunk *c)
{
    c->next = NULL;
    *timeline.full_end = c;
    timeline.full_end = &c->next;
}

static void switch_off(void)
{
    set_on(false);
    lock(&timeline.lock);
    for (uint32_t i = 0; i < nprocs; i++) {
        if (allp[i]->timeline != NULL)
            hand_in(allp[i]->timeline);
        allp[i]->timeline = NULL;
    }
    hand_in(timeline.shared);
    timeline.shared = NULL;
    unlock(&timeline.lock);
    timeline.end_tsc = __builtin_ia32_rdtsc();
    atomic_store(&timeline.ending, true);
}

void timeline_p_end(struct p *pp)
{
    if (pp->timeline == NULL)
        return;
    /* A native call may have kept it to the end. */
    timeline_event(TRACE_RELEASE, pp, NULL, 0, 0);
    lock(&timeline.lock);
    hand_in(pp->timeline);
    unlock(&timeline.lock);
    pp->timeline = NULL;
}

/* After the writer has said that it is done. */
static tarn_status finish(void)
{
    tarn_status st = TARN_OK;
    if (close(timeline.fd) != 0 && timeline.error == 0)
        timeline.error = errno;
    timeline.fd = -1;
    if (timeline.error != 0) {
        set_error("tarn_trace_stop: cannot write %s: %s", timeline.path,
                  strerror(timeline.error));
        st = TARN_ESYS;
    }
    clean_up();
    return st;
}

struct reserve {
    uint32_t n;
    bool ok;
};

/* On g0: nobody ends the recording meanwhile, which takes a stop. */
static void reserve_on_g0(void *vr)
{
    struct reserve *r = vr;
    while (r->ok &&
           __atomic_load_n(&trace_on, __ATOMIC_RELAXED) & TRACE_ON_TIMELINE &&
           timeline.made < TIMELINE_CHUNKS + r->n + 1)
        r->ok = make_chunk();
}

bool timeline_reserve(uint32_t n)
{
    struct reserve r = {n, true};
    systemstack(reserve_on_g0, &r);
    return r.ok;
}

static bool may_stop_world(const char *what)
{
    if (!require_goroutine(what))
        return false;
    if (getg()->worldstopped)
        set_error("%s: the caller has stopped the world", what);
    return !getg()->worldstopped;
}

tarn_status tarn_trace_start(const char *path)
{
    if (!may_stop_world("tarn_trace_start"))
        return TARN_ESTATE;
    if (path == NULL) {
        set_error("tarn_trace_start: no path");
        return TARN_EINVAL;
    }
    uint32_t off = OFF;
    if (!atomic_compare_exchange_strong(&state, &off, BUSY)) {
        set_error("tarn_trace_start: a timeline is being recorded");
        return TARN_ESTATE;
    }
    preempt_check();
    tarn_status st = prepare(path);
    if (st == TARN_OK) {
        stopTheWorld();
        switch_on();
        /* All others begin again, or come out of a native call. */
        timeline_event(TRACE_EXECUTE, getg()->m->p, getg(), 0, 0);
        startTheWorld();
    }
    atomic_store(&state, st == TARN_OK ? ON : OFF);
    return st;
}

tarn_status tarn_trace_stop(void)
{
    if (!may_stop_world("tarn_trace_stop"))
        return TARN_ESTATE;
    uint32_t on = ON;
    if (!atomic_compare_exchange_strong(&state, &on, BUSY)) {
        set_error("tarn_trace_stop: no timeline is being recorded");
        return TARN_ESTATE;
    }
    preempt_check();
    stopTheWorld();
    switch_off();
    startTheWorld();
    while (!atomic_load(&timeline.written))
        tarn_sleep(500000);
    tarn_status st = finish();
    atomic_store(&state, OFF);
    return st;
}

void timeline_main_begin(void)
{
    const char *path = getenv("TARN_TRACEFILE");
    if (path == NULL || *path == '\0' || atomic_load(&state) != OFF)
        return;
    if (prepare(path) != TARN_OK) {
        tarn_eprintf("tarn: TARN_TRACEFILE: %s\n", tarn_last_error());
        return;
    }
    switch_on();
    atomic_store(&state, ON);
}

void timeline_main_end(void)
{
    uint32_t on = ON;
    /* BUSY: a frozen goroutine is about to end it, or has not begun. */
    if (!atomic_compare_exchange_strong(&state, &on, BUSY))
        return;
    switch_off();
    while (!atomic_load(&timeline.written))
        nanosleep(&(struct timespec){0, 500000}, NULL);
    if (finish() != TARN_OK)
        tarn_eprintf("tarn: %s\n", tarn_last_error());
    atomic_store(&state, OFF);
}

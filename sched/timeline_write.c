/* sched/timeline_write.c - the thread that makes JSON of events.
 *
 * Chrome's trace event format, as an array of objects: "B" and "E" begin and end a
 * slice, "i" is an instant, "C" a counter, "M" a name. Slices of one track nest;
 * each "B" gets its "E", also where events were lost or the recording ends, and
 * times of one track never go back. A failure to write is remembered, and the
 * rest thrown away. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* program_invocation_short_name */
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/symbol.h"
#include "base/sysmem.h"
#include "sched/sched.h"
#include "sched/timeline.h"

#define TICK_NS 5000000    /* of the counters */
#define LENGTH_NS 10000000 /* to measure a tick of the time stamp counter */
#define NAMES 1024u        /* functions; a power of two */

enum { P_TRACK = 1, COLLECTOR = 100000, STOPS, COUNTERS };

struct track {
    double last; /* us */
    /* Of a P: what is open, from the outside in. */
    uint64_t goid;
    bool native, assist;
    bool named;
};

/* Only the writer's; it exists once at a time. */
static struct {
    char buf[65536];
    size_t n;
    bool first;
    double us; /* in a tick of the TSC */
    struct track *p, collector, stops, counters;
    bool cycle, phase, stop, stopping;
    uint64_t lost;
    struct {
        uintptr_t fn;
        char *name;
    } names[NAMES];
    uint32_t nnames;
} w;
OWN_DATA(w)

/* --- text ------------------------------------------------------------------------ */

static void flush(void)
{
    for (size_t at = 0; at < w.n && timeline.error == 0;) {
        ssize_t r = write(timeline.fd, w.buf + at, w.n - at);
        if (r > 0)
            at += (size_t)r;
        else if (r < 0 && errno != EINTR)
            timeline.error = errno;
        else if (r == 0)
            timeline.error = ENOSPC;
    }
    w.n = 0;
}

__attribute__((format(printf, 1, 2))) static void out(const char *format, ...)
{
    if (sizeof w.buf - w.n < 4096)
        flush();
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(w.buf + w.n, 4096, format, ap);
    va_end(ap);
    w.n += n < 0 ? 0 : n < 4096 ? (size_t)n : 4095;
}

/* As the inside of a JSON string. What is no ASCII may not be UTF-8 either. */
static void escape(const char *s, char *to, size_t len)
{
    size_t n = 0;
    for (; *s != '\0' && n + 7 < len; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            to[n++] = '\\';
            to[n++] = (char)c;
        } else if (c < 0x20 || c >= 0x7f) {
            n += (size_t)snprintf(to + n, len - n, "\\u%04x", c);
        } else {
            to[n++] = (char)c;
        }
    }
    to[n] = '\0';
}

/* "0x1234 name+0x12" -> name */
static char *find_name(uintptr_t fn)
{
    char text[300], name[600];
    symbol_at(fn, text, sizeof text);
    char *s = strchr(text, ' ');
    s = s != NULL ? s + 1 : text;
    char *plus = strrchr(s, '+');
    if (plus != NULL && *s != '(')
        *plus = '\0';
    escape(s, name, sizeof name);
    size_t len = strlen(name) + 1;
    char *copy = sys_alloc(len);
    if (copy != NULL)
        memcpy(copy, name, len);
    return copy;
}

static const char *name_of(uintptr_t fn)
{
    if (fn == 0)
        return "thread";
    uint32_t i = (uint32_t)(fn * UINT64_C(0x9E3779B97F4A7C15) >> 40);
    for (;; i++) {
        i &= NAMES - 1;
        if (w.names[i].fn == fn)
            break;
        if (w.names[i].fn != 0)
            continue;
        if (w.nnames == NAMES / 2)
            return "goroutine"; /* as generated code may have many */
        w.nnames++;
        w.names[i].fn = fn;
        w.names[i].name = find_name(fn);
        break;
    }
    return w.names[i].name != NULL ? w.names[i].name : "goroutine";
}

/* --- events ------------------------------------------------------------------------ */

static double time_of(struct track *t, uint64_t tsc)
{
    double us = (double)(int64_t)(tsc - timeline.tsc) * w.us;
    if (us > t->last)
        t->last = us;
    return t->last;
}

static void head(char ph, int tid, double us)
{
    out("%s{\"ph\":\"%c\",\"pid\":1,\"tid\":%d,\"ts\":%.3f",
        w.first ? "" : ",\n", ph, tid, us);
    w.first = false;
}

static void name_track(int tid, const char *name)
{
    head('M', tid, 0);
    out(",\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", name);
    head('M', tid, 0);
    out(",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%d}}",
        tid >= COLLECTOR ? tid - COLLECTOR : tid + 10);
}

static void begin(int tid, double us, const char *name)
{
    head('B', tid, us);
    out(",\"name\":\"%s\"}", name);
}

static void end(int tid, double us)
{
    head('E', tid, us);
    out("}");
}

static void instant(int tid, double us, const char *name, uint64_t goid)
{
    head('i', tid, us);
    out(",\"s\":\"t\",\"name\":\"%s\",\"args\":{\"goroutine\":%llu}}", name,
        (unsigned long long)goid);
}

/* --- tracks of Ps -------------------------------------------------------------------- */

static void open_goroutine(struct track *t, int tid, double us, uint64_t goid,
                           uintptr_t fn)
{
    head('B', tid, us);
    out(",\"name\":\"%s\",\"args\":{\"goroutine\":%llu}}", name_of(fn),
        (unsigned long long)goid);
    t->goid = goid;
}

static void close_inner(struct track *t, int tid, double us)
{
    if (t->assist)
        end(tid, us);
    if (t->native)
        end(tid, us);
    t->assist = t->native = false;
}

/* why: a text of ours, or NULL. */
static void close_goroutine(struct track *t, int tid, double us,
                            const char *why)
{
    close_inner(t, tid, us);
    if (t->goid == 0)
        return;
    head('E', tid, us);
    if (why != NULL)
        out(",\"args\":{\"then\":\"%s\"}}", why);
    else
        out("}");
    t->goid = 0;
}

static void p_event(struct track *t, int tid, const struct trace_event *e)
{
    uint64_t goid = e->goid_kind >> 8;
    double us = time_of(t, e->tsc);
    switch ((enum trace_kind)(e->goid_kind & 0xff)) {
    case TRACE_EXECUTE:
        close_goroutine(t, tid, us, NULL);
        open_goroutine(t, tid, us, goid, e->a);
        break;
    case TRACE_PARK:
        close_goroutine(t, tid, us, wait_reason_name((uint32_t)e->a));
        break;
    case TRACE_PREEMPT:
        instant(tid, us, "preempted", goid);
        close_goroutine(t, tid, us, "preempted");
        break;
    case TRACE_ASYNC:
        instant(tid, us, "interrupted", goid);
        break;
    case TRACE_STOP:
        instant(tid, us, "stopped for a scan", goid);
        close_goroutine(t, tid, us, "stopped for a scan");
        break;
    case TRACE_EXIT:
        close_goroutine(t, tid, us, "ended");
        break;
    case TRACE_RELEASE:
        close_goroutine(t, tid, us, NULL);
        break;
    case TRACE_NATIVE_ENTER:
        close_inner(t, tid, us);
        if (t->goid != goid)
            break;
        begin(tid, us, "native call");
        t->native = true;
        break;
    case TRACE_NATIVE_LEAVE:
        close_inner(t, tid, us);
        if (t->goid == goid)
            break;
        /* On another P than it had. */
        close_goroutine(t, tid, us, NULL);
        open_goroutine(t, tid, us, goid, e->a);
        break;
    case TRACE_ASSIST:
        close_inner(t, tid, us);
        begin(tid, us, "assist");
        t->assist = true;
        break;
    case TRACE_ASSISTED:
        close_inner(t, tid, us);
        break;
    default:
        break;
    }
}

/* --- collector and stops ---------------------------------------------------------------- */

static void close_phase(double us)
{
    if (w.phase)
        end(COLLECTOR, us);
    w.phase = false;
}

static void close_cycle(double us)
{
    close_phase(us);
    if (w.cycle)
        end(COLLECTOR, us);
    w.cycle = false;
}

static void open_phase(double us, const char *name)
{
    close_phase(us);
    begin(COLLECTOR, us, name);
    w.phase = true;
}

static void close_stop(double us)
{
    if (w.stopping)
        end(STOPS, us);
    if (w.stop)
        end(STOPS, us);
    w.stop = w.stopping = false;
}

static void shared_event(const struct trace_event *e)
{
    uint64_t goid = e->goid_kind >> 8;
    enum trace_kind kind = (enum trace_kind)(e->goid_kind & 0xff);
    bool stop = kind == TRACE_STW_ASK || kind == TRACE_STW_STOPPED ||
                kind == TRACE_STW_START;
    double us = time_of(stop ? &w.stops : &w.collector, e->tsc);
    switch (kind) {
    case TRACE_MARK:
        close_cycle(us);
        head('B', COLLECTOR, us);
        out(",\"name\":\"%s collection\",\"args\":{\"cycle\":%llu}}",
            e->b ? "full" : "young", (unsigned long long)e->a);
        w.cycle = true;
        open_phase(us, "mark");
        break;
    case TRACE_MARKTERM:
        open_phase(us, "mark termination");
        break;
    case TRACE_SWEEP:
        open_phase(us, "sweep");
        break;
    case TRACE_SWEPT:
        close_cycle(us);
        break;
    case TRACE_STW_ASK:
        close_stop(us);
        head('B', STOPS, us);
        out(",\"name\":\"world stopped\",\"args\":{\"goroutine\":%llu}}",
            (unsigned long long)goid);
        begin(STOPS, us, "stopping");
        w.stop = w.stopping = true;
        break;
    case TRACE_STW_STOPPED:
        if (w.stopping) {
            head('E', STOPS, us);
            out(",\"args\":{\"ns\":%llu}}", (unsigned long long)e->a);
        }
        w.stopping = false;
        break;
    case TRACE_STW_START:
        close_stop(us);
        break;
    default:
        break;
    }
}

static void counters(void)
{
    double us = time_of(&w.counters, __builtin_ia32_rdtsc());
    uint64_t heap_bytes = 0, goal = 0;
    if (sched_hooks.heap_size)
        sched_hooks.heap_size(&heap_bytes, &goal);
    head('C', COUNTERS, us);
    out(",\"name\":\"heap bytes\",\"args\":{\"heap\":%llu}}",
        (unsigned long long)heap_bytes);
    if (goal != UINT64_MAX) {
        head('C', COUNTERS, us);
        out(",\"name\":\"heap goal\",\"args\":{\"goal\":%llu}}",
            (unsigned long long)goal);
    }
    head('C', COUNTERS, us);
    out(",\"name\":\"goroutines\",\"args\":{\"goroutines\":%lld}}",
        (long long)atomic_load(&sched.ngoroutines));
}

/* --- the thread ---------------------------------------------------------------------------- */

static void nap(int64_t ns)
{
    nanosleep(&(struct timespec){0, ns}, NULL);
}

/* There may be more of them than there were when the recording began. */
static void name_p(uint32_t i)
{
    char text[64];
    if (w.p[i].named)
        return;
    w.p[i].named = true;
    snprintf(text, sizeof text, "P %u", i);
    name_track(P_TRACK + (int)i, text);
}

static void lost_before(const struct timeline_chunk *c)
{
    w.lost += c->lost;
    if (c->n == 0)
        return;
    uint64_t tsc = c->e[0].tsc;
    if (c->track != TIMELINE_SHARED) {
        struct track *t = &w.p[c->track];
        int tid = P_TRACK + (int)c->track;
        close_goroutine(t, tid, time_of(t, tsc), NULL);
        instant(tid, t->last, "events lost", c->lost);
    } else {
        close_cycle(time_of(&w.collector, tsc));
        close_stop(time_of(&w.stops, tsc));
    }
}

static void write_chunk(const struct timeline_chunk *c)
{
    if (timeline.error != 0)
        return;
    if (c->track != TIMELINE_SHARED)
        name_p(c->track);
    if (c->lost != 0)
        lost_before(c);
    for (uint32_t i = 0; i < c->n && timeline.error == 0; i++)
        if (c->track != TIMELINE_SHARED)
            p_event(&w.p[c->track], P_TRACK + (int)c->track, &c->e[i]);
        else
            shared_event(&c->e[i]);
}

/* True: there was something. */
static bool write_full(void)
{
    lock(&timeline.lock);
    struct timeline_chunk *c = timeline.full;
    timeline.full = NULL;
    timeline.full_end = &timeline.full;
    unlock(&timeline.lock);
    bool any = c != NULL;
    while (c != NULL) {
        struct timeline_chunk *next = c->next;
        write_chunk(c);
        lock(&timeline.lock);
        c->next = timeline.free;
        timeline.free = c;
        unlock(&timeline.lock);
        c = next;
    }
    return any;
}

static void write_names(void)
{
    char name[600];
    escape(program_invocation_short_name, name, sizeof name);
    out("[");
    w.first = true;
    head('M', 0, 0);
    out(",\"name\":\"process_name\",\"args\":{\"name\":\"%s\"}}", name);
    name_track(COLLECTOR, "collector");
    name_track(STOPS, "stops of the world");
    for (uint32_t i = 0, n = procs_now(); i < n; i++)
        name_p(i);
}

static void write_end(void)
{
    for (uint32_t i = 0; i < PROCS_MAX; i++)
        close_goroutine(&w.p[i], P_TRACK + (int)i,
                        time_of(&w.p[i], timeline.end_tsc), NULL);
    close_cycle(time_of(&w.collector, timeline.end_tsc));
    close_stop(time_of(&w.stops, timeline.end_tsc));
    w.lost += timeline.lost;
    if (w.lost != 0) {
        head('M', 0, 0);
        out(",\"name\":\"process_labels\",\"args\":{\"labels\":\"%llu events "
            "lost\"}}",
            (unsigned long long)w.lost);
    }
    out("]\n");
    flush();
}

static void init(void)
{
    memset(&w, 0, sizeof w);
    w.p = sys_alloc(PROCS_MAX * sizeof *w.p);
    if (w.p == NULL)
        timeline.error = ENOMEM;
    int64_t length;
    while ((length = nanotime() - (int64_t)timeline.ns) < LENGTH_NS)
        nap(LENGTH_NS - length);
    w.us =
        (double)length / 1000 / (double)(__builtin_ia32_rdtsc() - timeline.tsc);
}

void *timeline_writer(void *unused)
{
    (void)unused;
    init();
    if (timeline.error == 0)
        write_names();
    int64_t next = 0;
    for (;;) {
        /* Before the look at the list: what was there by then is all. */
        bool ending = atomic_load(&timeline.ending);
        bool any = write_full();
        int64_t now = nanotime();
        if (now >= next && timeline.error == 0) {
            counters();
            next = now + TICK_NS;
        }
        if (ending)
            break;
        if (!any)
            nap(1000000);
    }
    if (timeline.error == 0)
        write_end();
    for (uint32_t i = 0; i < NAMES; i++)
        sys_free(w.names[i].name);
    sys_free(w.p);
    atomic_store(&timeline.written, true);
    return NULL;
}

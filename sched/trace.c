/* sched/trace.c - the rings of events, and how they are printed. */
#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sched/timeline.h"

uint32_t trace_on;
/* Of threads without a P. */
static struct trace_ring unowned;
static _Atomic uint64_t blamed;
/* When both clocks were read first: gives the length of a tick. */
static uint64_t began_tsc;
static int64_t began_ns;

void trace_init(void)
{
    began_tsc = __builtin_ia32_rdtsc();
    began_ns = nanotime();
    trace_on = TARN_CHECKS >= 2 || options.trace != 0 ? TRACE_ON_RINGS : 0;
    if (options.trace)
        base_hooks.crash_report = trace_print;
}

void trace_blame(uint64_t goid)
{
    atomic_store(&blamed, goid);
}

/* --- writing ---------------------------------------------------------------- */

void trace_event_slow(enum trace_kind kind, struct g *gp, uint64_t a,
                      uint64_t b)
{
    struct g *self = getg();
    struct m *mp = self != NULL ? self->m : NULL;
    struct p *pp =
        mp != NULL ? atomic_load_explicit(&mp->p, memory_order_relaxed) : NULL;
    uint32_t on = __atomic_load_n(&trace_on, __ATOMIC_RELAXED);
    if (on & TRACE_ON_TIMELINE)
        timeline_event(kind, pp, gp, a, b);
    if (!(on & TRACE_ON_RINGS) || kind >= TRACE_RELEASE)
        return;
    struct trace_ring *r = pp != NULL ? &pp->trace : &unowned;
    uint64_t n;
    if (pp != NULL) {
        n = r->n;
        __atomic_store_n(&r->n, n + 1, __ATOMIC_RELAXED);
    } else {
        n = __atomic_fetch_add(&r->n, 1, __ATOMIC_RELAXED);
    }
    if (kind == TRACE_READY || kind == TRACE_GO) {
        struct g *by = mp != NULL ? atomic_load(&mp->curg) : NULL;
        a = by != NULL ? by->goid : 0;
    }
    struct trace_event *e = &r->e[n % TRACE_EVENTS];
    uint64_t goid = gp != NULL ? gp->goid : 0;
    __atomic_store_n(&e->tsc, __builtin_ia32_rdtsc(), __ATOMIC_RELAXED);
    __atomic_store_n(&e->goid_kind, goid << 8 | (uint64_t)kind,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&e->a, a, __ATOMIC_RELAXED);
    __atomic_store_n(&e->b, b, __ATOMIC_RELAXED);
}

/* --- printing --------------------------------------------------------------- */

static const struct {
    const char *text, *a, *b;
} kinds[] = {
#define TRACE_TEXT_(name, text, a, b) {text, a, b},
    TRACE_KINDS(TRACE_TEXT_)
#undef TRACE_TEXT_
};

struct printer {
    uint64_t now_tsc;
    double us; /* in a tick */
    uint64_t goid;
};

static void put_line(const char *line, int n, size_t room)
{
    size_t len = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
    while (len > 0) {
        ssize_t w = write(STDERR_FILENO, line, len);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return;
        line += w;
        len -= (size_t)w;
    }
}
#define PUT(...)                                                               \
    do {                                                                       \
        char line_[256];                                                       \
        put_line(line_, snprintf(line_, sizeof line_, __VA_ARGS__),            \
                 sizeof line_);                                                \
    } while (0)

static size_t word_text(char *buf, size_t len, const char *what, uint64_t v)
{
    int n = 0;
    if (what == NULL)
        n = 0;
    else if (strcmp(what, "reason") == 0)
        n = snprintf(buf, len, ", %s", wait_reason_name((uint32_t)v));
    else if (strcmp(what, "status") == 0)
        n = snprintf(buf, len, ", %s", gstatus_name((uint32_t)v));
    else if (strcmp(what, "pc") == 0 || strcmp(what, "sp") == 0)
        n = snprintf(buf, len, ", %s=%#llx", what, (unsigned long long)v);
    else
        n = snprintf(buf, len, ", %s %llu", what, (unsigned long long)v);
    return n < 0 ? 0 : (size_t)n < len ? (size_t)n : len - 1;
}

/* Its owner may be writing it. */
static struct trace_event read_event(const struct trace_event *e)
{
    return (struct trace_event){
        __atomic_load_n(&e->tsc, __ATOMIC_RELAXED),
        __atomic_load_n(&e->goid_kind, __ATOMIC_RELAXED),
        __atomic_load_n(&e->a, __ATOMIC_RELAXED),
        __atomic_load_n(&e->b, __ATOMIC_RELAXED)};
}

static void print_event(const struct printer *p, struct trace_event e, int p_id)
{
    char words[128] = "";
    uint32_t kind = e.goid_kind & 0xff;
    uint64_t goid = e.goid_kind >> 8;
    if (kind >= ARRAY_LEN(kinds))
        return; /* torn */
    size_t n = word_text(words, sizeof words, kinds[kind].a, e.a);
    word_text(words + n, sizeof words - n, kinds[kind].b, e.b);
    double ago = (double)(int64_t)(p->now_tsc - e.tsc) * p->us;
    if (p_id >= 0)
        PUT("  %12.3f us  P %d: %s%s\n", -ago, p_id, kinds[kind].text, words);
    else
        PUT("%c %12.3f us  goroutine %llu %s%s\n",
            goid != 0 && goid == p->goid ? '*' : ' ', -ago,
            (unsigned long long)goid, kinds[kind].text, words);
}

/* Of all Ps there ever were: one that has ended may have to do with it. */
static uint32_t rings(void)
{
    return atomic_load_explicit(&nallp, memory_order_acquire);
}

static struct trace_ring *ring_at(uint32_t i, uint32_t n)
{
    return i < n ? &allp[i]->trace : &unowned;
}

static void print_ring(const struct printer *p, const struct trace_ring *r)
{
    uint64_t n = __atomic_load_n(&r->n, __ATOMIC_RELAXED);
    for (uint64_t i = n > TRACE_EVENTS ? n - TRACE_EVENTS : 0; i < n; i++)
        print_event(p, read_event(&r->e[i % TRACE_EVENTS]), -1);
}

/* The latest event of goid before tsc, in any ring; tsc 0: there is none. */
static struct trace_event latest_before(uint64_t goid, uint64_t tsc,
                                        uint32_t *ring)
{
    struct trace_event best = {0, 0, 0, 0};
    for (uint32_t i = 0, ps = rings(); i <= ps; i++) {
        const struct trace_ring *r = ring_at(i, ps);
        for (uint32_t k = 0; k < TRACE_EVENTS; k++) {
            struct trace_event e = read_event(&r->e[k]);
            if (e.goid_kind >> 8 != goid || e.tsc >= tsc || e.tsc <= best.tsc)
                continue;
            best = e;
            *ring = i;
        }
    }
    return best;
}

static void print_goroutine(const struct printer *p)
{
    static struct trace_event found[TRACE_EVENTS];
    static uint32_t where[TRACE_EVENTS];
    uint32_t n = 0;
    uint64_t tsc = UINT64_MAX;
    while (n < TRACE_EVENTS) {
        struct trace_event e = latest_before(p->goid, tsc, &where[n]);
        if (e.tsc == 0)
            break;
        found[n++] = e;
        tsc = e.tsc;
    }
    PUT("events of goroutine %llu, the last one last:%s\n",
        (unsigned long long)p->goid, n == 0 ? " none" : "");
    while (n-- > 0)
        print_event(p, found[n], where[n] < rings() ? (int)where[n] : 9999);
}

#define MAX_FRAMES 32

/* Where a goroutine stands that does not run: its return addresses, as far as
 * frame pointers lead, each with where on the stack its frame ends. */
NO_SANITIZE static void print_frames(uint64_t goid)
{
    struct g *gp = NULL;
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n && gp == NULL; i++)
        if (allg_at(i)->goid == goid)
            gp = allg_at(i);
    if (gp == NULL)
        return;
    uint32_t s = readgstatus(gp) & ~(uint32_t)Gscan;
    if (s == Grunning || s == Gdead || s == Gidle ||
        gp->resume & (RESUME_START | RESUME_THAW))
        return;
    uintptr_t sp = gp->sched_sp, hi = gp->stack.hi;
    if (sp < gp->stack.lo || sp > hi - 64 || (sp & 7) != 0)
        return;
    const uintptr_t *regs = (const uintptr_t *)sp;
    PUT("frames of goroutine %llu, stack %#lx..%#lx, sp=%#lx:\n",
        (unsigned long long)goid, (unsigned long)gp->stack.lo,
        (unsigned long)hi, (unsigned long)sp);
    uintptr_t pc = regs[6], frame = regs[5];
    for (int i = 0; i < MAX_FRAMES; i++) {
        void *at = (void *)pc;
        PUT("  below %#lx: ", (unsigned long)frame);
        backtrace_symbols_fd(&at, 1, STDERR_FILENO);
        if (frame <= sp || frame > hi - 32 || (frame & 7) != 0)
            break;
        sp = frame;
        const uintptr_t *f = (const uintptr_t *)frame;
        /* asyncPreempt has the flags there, and the pc above them. */
        bool async = i == 0 && atomic_load(&gp->asyncSafePoint);
        frame = f[0];
        pc = async ? f[2] : f[1];
    }
}

NO_SANITIZE void trace_print(void)
{
    static _Atomic bool printing;
    if (!(trace_on & TRACE_ON_RINGS) || atomic_exchange(&printing, true))
        return;
    struct printer p = {.now_tsc = __builtin_ia32_rdtsc(),
                        .goid = atomic_load(&blamed)};
    uint64_t ticks = p.now_tsc - began_tsc;
    p.us =
        ticks != 0 ? (double)(nanotime() - began_ns) / 1000 / (double)ticks : 0;
    struct g *gp = getg();
    if (p.goid == 0 && gp != NULL) {
        if (gp->kind == STACK_SYSTEM)
            gp = atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
        p.goid = gp != NULL ? gp->goid : 0;
    }
    for (uint32_t i = 0, ps = rings(); i <= ps; i++) {
        if (__atomic_load_n(&ring_at(i, ps)->n, __ATOMIC_RELAXED) == 0)
            continue;
        if (i < ps)
            PUT("last events of P %u:\n", i);
        else
            PUT("last events of threads without P:\n");
        print_ring(&p, ring_at(i, ps));
    }
    if (p.goid != 0) {
        print_goroutine(&p);
        print_frames(p.goid);
    } else {
        PUT("no goroutine ran on this thread\n");
    }
    atomic_store(&printing, false);
}

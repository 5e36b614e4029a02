/* gc/background.c - what is done beside the program, by a thread of its own that
 * needs no P: nobody waits for it and it holds up no stop.
 *
 *   - Fresh memory is touched before it is handed out. The kernel takes one to
 *     several microseconds for a page, and it is the allocating step that waits.
 *   - Memory that the next cycle will not need is given back, slowly: a burst is
 *     often followed by another. With memlimit, or where tarn_gc was called, the
 *     driver has given it back at once.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/options.h"
#include "gc/gc.h"

/* Of what was ever used: so much more may be resident before it is needed. */
#define TOUCH_SHARE 16
#define TOUCH_LEAST ((size_t)256 << 10)
/* Giving back takes this share of one CPU at most. */
#define SCAVENGE_SHARE 20
#define SCAVENGE_NAP_NS 1000000
#define GC_SLICE_NS 1000000

static struct {
    _Atomic uint32_t asked; /* futex; set until there is nothing to do */
    bool on;
    _Atomic bool release; /* down to keep, from the beginning */
    _Atomic size_t keep;
    _Atomic bool cannot_touch;
} bg;

static void ask(void)
{
    if (atomic_exchange(&bg.asked, 1) == 0)
        futex_wake(&bg.asked, 1);
}

/* Where every P is busy so is every CPU: who has one would lose it for the time. */
static bool may_touch(void)
{
    return !bg.cannot_touch && options.pretouch != 0 &&
           atomic_load_explicit(&sched.npidle, memory_order_relaxed) != 0;
}

static void ask_touch(void)
{
    if (may_touch())
        ask();
}

/* What shall be touched beyond what was handed out so far. */
static size_t ahead(void)
{
    size_t used = atomic_load(&heap.used_hi) - heap.lo;
    size_t n = used / TOUCH_SHARE;
    if (n < TOUCH_LEAST)
        n = TOUCH_LEAST;
    if (n > (size_t)options.pretouch)
        n = (size_t)options.pretouch;
    /* Not what the limit may not have room for. */
    size_t limit = (size_t)setting(&options.memlimit);
    if (limit != 0 && used + n > limit - limit / 8)
        n = 0;
    return ALIGN_DOWN(n, PAGE_SIZE);
}

static bool touch(void)
{
    bool any = false;
    errno = 0;
    for (size_t n; may_touch() && (n = heap_touch_ahead(ahead())) > 0;) {
        any = true;
        atomic_fetch_add(&gc.pretouched, n);
        /* The kernel may have put us where somebody runs who cannot wait. */
        sched_yield();
    }
    /* A kernel that does not know how never will; one without memory may. */
    if (errno == EINVAL)
        bg.cannot_touch = true;
    return any;
}

/* One step; how long to wait before the next. -1: there is none. */
static int64_t scavenge(void)
{
    static struct heap_release way;
    static bool under_way;
    if (atomic_exchange(&bg.release, false)) {
        way = (struct heap_release){0};
        under_way = true;
    }
    if (!under_way)
        return -1;
    int64_t t0 = nanotime();
    size_t before = way.released;
    under_way = heap_release_step(&way, atomic_load(&bg.keep));
    atomic_fetch_add(&gc.scavenged, way.released - before);
    int64_t nap = (nanotime() - t0) * SCAVENGE_SHARE;
    return !under_way ? -1 : nap > SCAVENGE_NAP_NS ? nap : SCAVENGE_NAP_NS;
}

int64_t gc_sysmon(int64_t now)
{
    /* What nobody collects for long keeps its memory for as long. */
    int64_t ended = atomic_load(&gc.ended);
    if (options.gcperiod != 0 && !gc_is_off() && gc.on &&
        !atomic_load(&sched.gcwaiting) && atomic_load(&gc.phase) == GC_OFF &&
        now - ended >= options.gcperiod &&
        atomic_compare_exchange_strong(&gc.ended, &ended, now) && ended != 0 &&
        (atomic_load(&gc.may_have_garbage) ||
         atomic_load(&heap.live) > atomic_load(&gc.live))) {
        struct g *gp = gc_request_driver(true);
        if (gp != NULL) {
            struct gqueue q = {NULL, NULL, 0};
            gqueue_push(&q, gp);
            atomic_fetch_add(&gc.periodic, 1);
            injectglist(&q);
        }
    }
    /* A mark has work, and no P gives it time, or is late: each shall, every now and
     * then. */
    bool starved = atomic_load(&gc.blacken) &&
                   atomic_load(&gc.workers_running) == 0 && gc_work_available();
    bool late = atomic_load(&gc.phase) != GC_OFF &&
                atomic_load(&heap.live) > atomic_load(&gc.goal);
    return starved || late ? GC_SLICE_NS : INT64_MAX;
}

static void *background_thread(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "tarn-background", 0, 0, 0);
    for (;;) {
        int64_t nap = scavenge();
        if (touch())
            continue;
        /* Who asks from here on asks again. */
        atomic_store(&bg.asked, 0);
        if (touch())
            continue;
        if (nap < 0 && atomic_load(&bg.release))
            continue;
        futex_wait(&bg.asked, 0, nap);
    }
    return NULL;
}

void gc_background_release(size_t keep)
{
    if (!bg.on) {
        heap_release_free(keep);
        return;
    }
    atomic_store(&bg.keep, keep);
    atomic_store(&bg.release, true);
    ask();
}

bool gc_background_start(void)
{
    pthread_t t;
    if (bg.on)
        return true;
    if (!thread_create(&t, background_thread, NULL)) {
        set_error("cannot create the background thread: %s", strerror(errno));
        return false;
    }
    bg.on = true;
    heap_hooks.touch_wanted = ask_touch;
    return true;
}

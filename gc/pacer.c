/* gc/pacer.c - when a cycle begins, of which kind, and what allocation pays for it.
 *
 *      survivors          trigger          goal          hard
 *   |------|---------------------|------------|-------------|
 *          |<---- no marking --->|<- marking->|  assists pay whatever it takes
 *
 * base is what the program seems to need: what was there when the last mark began
 * and survived it, and of what came during that mark the share that usually
 * survives. What is allocated during a mark is black, dead or not; would it count
 * in full, each cycle would allow the next one more of it. The goal is gcpercent
 * above base, stacks and roots counted.
 *
 * A mark takes time while allocation goes on, so it begins a runway before the
 * goal: what would be allocated without hindrance while as much is scanned as last
 * time, by the worst of the last few cycles. Where the runway would be most of the
 * way, it is cut, and assists make up for it: each allocation of the mark owes
 * scan work by a ratio that brings marking to its end at the goal. The ratio is
 * set anew as the mark goes on. A single assist is bounded (cycle.c); the rest of
 * a debt is paid at the next one.
 *
 * A young collection costs what is young and alive. It leaves old garbage, and makes
 * old what happened to be alive at the time: so the room up to the goal shrinks from
 * one to the next, and when little of it is left the next one is full. Full ones
 * alone set base and goal. Where few of the young die, or a full one frees more for
 * the same work, young collections are left out, and tried again after more and
 * more full ones.
 *
 * Memory limit: the goal is no higher than what memlimit leaves after all that is
 * not live objects. It may ask for one cycle after the other; so a bucket that GC
 * time fills and the program's time empties keeps the collector to half of the
 * CPUs in the long run: while it is full, nobody assists and each cycle gets some
 * room, and the limit is exceeded rather than the program stopped. */
#include "base/options.h"
#include "base/vm.h"
#include "gc/gc.h"
#include "stackscan/stackmem.h"

/* Of the way from base to goal: the most and the least that marking gets. */
#define RUNWAY_MOST 0.4
#define RUNWAY_LEAST (1.0 / 32)
/* A measured rate says little beyond these. */
#define THROTTLE_MOST 16.0
/* The last part of the way, as if there were so much left: a ratio of its own
 * would know no bound. */
#define DISTANCE_LEAST ((uint64_t)256 << 10)
#define HARD 1.25 /* times the goal */
/* Of the goal, what the spans of the heap may take before holes in nearly full ones
 * are used. */
#define DENSE_UNTIL 1.25
/* A young collection that frees less of what is young does not pay. */
#define YIELD_LEAST 0.4
/* A full one is due when old garbage has used up so much of the way, or young ones
 * have cost so many times what a full one does: it may have become cheaper. */
#define FULL_BELOW 0.85
#define FULL_EVERY 4
#define SKIP_MOST 8u

#define BUCKET_NS ((int64_t)1000000000) /* for each P */
#define BUCKET_STEP_NS ((int64_t)10000000)

/* Written by the driver; expected and ratio by whoever revises, too. */
static struct {
    uint64_t base, way; /* goal = base + way */
    double survival;    /* of what is young at the start of a mark */
    bool next_full;
    uint64_t young_scan; /* work of young collections since the last full one */
    uint32_t youngs;     /* and how many */
    uint32_t skip, skipped; /* young collections to leave out, and last time */
    /* At the start of this mark, or of the last one. */
    uint64_t alloc_at_start, scanned_at_start, base_before;
    uint64_t alloc_at_last_start, alloc_at_last_mark_end, black_before;
    uint64_t live_at_start;
    uint64_t stack_bytes, stacks; /* as last scanned */
    uint64_t stack_bytes_at_start, stacks_at_start, cpu_at_start,
        assist_at_start, alloc_at_mark_end;
    struct {
        uint64_t scan, freed; /* work of the last mark, and what it was for */
        double rate[4];
        uint32_t nrates;
    } kind[2]; /* young, full */
    _Atomic uint64_t expected;
    struct {
        struct mutex lock;
        int64_t level, at;
        uint64_t gc_at;
        _Atomic bool full;
    } bucket;
} pacer = {.bucket.lock = MUTEX_INIT(LEAF), .survival = 1, .next_full = true};

static uint64_t allocated_so_far(void)
{
    /* Swept last: what moves from one to the other between the two reads is
     * counted twice rather than not at all. */
    uint64_t live = atomic_load(&heap.live);
    return live + atomic_load(&heap.swept_bytes);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t percent_of(uint64_t n)
{
    return (uint64_t)((double)n / 100 * (double)setting(&options.gcpercent));
}

/* --- the collector's share of the CPUs -------------------------------------------- */

static uint64_t gc_time(void)
{
    return atomic_load(&gc.mark_cpu_ns) + atomic_load(&gc.assist_ns);
}

static void bucket_update(void)
{
    if (!trylock(&pacer.bucket.lock))
        return;
    int64_t now = nanotime();
    int64_t cap = BUCKET_NS * (int64_t)nprocs;
    if (pacer.bucket.at == 0) {
        pacer.bucket.at = now;
        pacer.bucket.gc_at = gc_time();
    } else if (now - pacer.bucket.at >= BUCKET_STEP_NS) {
        uint64_t g = gc_time();
        int64_t all = (now - pacer.bucket.at) * (int64_t)nprocs;
        int64_t gcs = (int64_t)(g - pacer.bucket.gc_at);
        int64_t level = pacer.bucket.level + gcs - (all - gcs);
        level = level < 0 ? 0 : level > cap ? cap : level;
        pacer.bucket.level = level;
        pacer.bucket.at = now;
        pacer.bucket.gc_at = g;
        /* Not to and fro at the brim. */
        bool full = level == cap ||
                    (atomic_load(&pacer.bucket.full) && level > cap / 8 * 7);
        if (full && !atomic_load(&pacer.bucket.full))
            atomic_fetch_add(&gc.limited, 1);
        atomic_store(&pacer.bucket.full, full);
    }
    unlock(&pacer.bucket.lock);
}

/* The bucket's size goes with the number of Ps: so does what is in it. */
void pacer_procs(uint32_t n)
{
    bucket_update();
    lock(&pacer.bucket.lock);
    pacer.bucket.level = pacer.bucket.level / (int64_t)nprocs * (int64_t)n;
    unlock(&pacer.bucket.lock);
}

/* --- the goal ----------------------------------------------------------------------- */

/* What of the memory limit is left for the heap and its metadata. */
static uint64_t limit_mapped(void)
{
    uint64_t limit = (uint64_t)setting(&options.memlimit);
    /* Of stacks what scans find, and a page or two of each: most of what is mapped
     * was never touched. */
    uint64_t stacks = pacer.stack_bytes + pacer.stacks * (2 * OS_PAGE);
    uint64_t mapped = atomic_load(&stack_stats.mapped);
    uint64_t other = (stacks < mapped ? stacks : mapped) +
                     atomic_load(&stack_stats.frozen_bytes);
    uint64_t slack = limit / 32 > 1 << 20 ? limit / 32 : 1 << 20;
    return minus(limit, other + slack);
}

/* And for objects, those that are there included. */
static uint64_t limit_goal(void)
{
    if (setting(&options.memlimit) == 0)
        return UINT64_MAX;
    uint64_t live = minus(atomic_load(&heap.live), atomic_load(&heap.external));
    uint64_t pages = atomic_load(&heap.pages_inuse) << PAGE_SHIFT;
    return minus(limit_mapped(), minus(pages, live) + heap_metadata_bytes());
}

size_t pacer_keep(void)
{
    uint64_t goal = atomic_load(&gc.goal), live = atomic_load(&heap.live);
    uint64_t keep = goal - atomic_load(&gc.live) / 2, room = limit_goal();
    /* Of a limit that leaves little, free pages that nobody takes are part. */
    if (room != UINT64_MAX && keep > minus(room, live))
        keep = minus(room, live);
    return (size_t)keep;
}

static double worst_rate(void)
{
    double worst = 0;
    for (uint32_t i = 0; i < 4; i++)
        if (pacer.kind[pacer.next_full].rate[i] > worst)
            worst = pacer.kind[pacer.next_full].rate[i];
    return worst;
}

/* Also before there was any mark. */
static void set_goal(void)
{
    uint64_t base = pacer.base;
    uint64_t now = atomic_load(&heap.live);
    uint64_t goal = base + percent_of(base + gc.root_bytes);
    if (goal < (uint64_t)options.heapmin)
        goal = (uint64_t)options.heapmin;
    uint64_t limit = limit_goal();
    atomic_store_explicit(&heap.tight, goal > limit, memory_order_relaxed);
    atomic_store_explicit(&heap.mapped_most,
                          setting(&options.memlimit) != 0 ? limit_mapped() : 0,
                          memory_order_relaxed);
    if (goal > limit)
        goal = limit > base ? limit : base;
    /* Beyond heapmax there is nothing, and before it holes. */
    uint64_t room = base + minus(heap.hi - heap.lo, base) / 4 * 3;
    if (goal > room)
        goal = room;
    if (goal < now + DISTANCE_LEAST && !pacer_assists())
        goal = now + now / 8 + DISTANCE_LEAST;
    atomic_store_explicit(&heap.dense_until,
                          (uint64_t)((double)goal * DENSE_UNTIL) / PAGE_SIZE,
                          memory_order_relaxed);
    uint64_t way = goal > base ? goal - base : 0;
    pacer.way = way;
    double runway =
        worst_rate() * (double)pacer.kind[pacer.next_full].scan * 1.1;
    double most = (double)way * RUNWAY_MOST, least = (double)way * RUNWAY_LEAST;
    runway = runway > most ? most : runway < least ? least : runway;
    uint64_t trigger = goal - (uint64_t)runway;
    /* What came during the last mark may have used the way up. Some of it is to
     * be without marking all the same, or barriers would never be off. */
    uint64_t soonest = now + (uint64_t)least / 2 + DISTANCE_LEAST / 4;
    if (trigger < soonest)
        trigger = soonest;
    if (goal < trigger)
        goal = trigger;
    atomic_store(&gc.goal, goal);
    atomic_store(&gc.trigger, gc_is_off() ? UINT64_MAX : trigger);
}

static bool little_left(uint64_t now)
{
    return (double)now > (double)pacer.base + (double)pacer.way * FULL_BELOW;
}

/* For the same work. The first young one after a full one finds what was stored during
 * that mark, and does not tell. */
static bool full_pays_more(void)
{
    return pacer.youngs > 1 &&
           (double)pacer.kind[false].freed * (double)pacer.kind[true].scan <
               (double)pacer.kind[true].freed * (double)pacer.kind[false].scan;
}

static void choose_kind(uint64_t now)
{
    pacer.youngs = heap.full ? 0 : pacer.youngs + 1;
    if (!options.generational) {
        pacer.next_full = true;
    } else if (options.gcstress != 0) {
        pacer.next_full = atomic_load(&gc.cycles) % 4 == 0;
    } else if (heap.full) {
        pacer.young_scan = 0;
        pacer.next_full = pacer.skip > 0 || little_left(now);
        pacer.skip -= pacer.skip > 0;
    } else if (1 - pacer.survival < YIELD_LEAST || full_pays_more()) {
        pacer.skipped = pacer.skipped == 0 ? 1 : pacer.skipped * 2;
        if (pacer.skipped > SKIP_MOST)
            pacer.skipped = SKIP_MOST;
        pacer.skip = pacer.skipped;
        pacer.next_full = true;
    } else {
        if (pacer.youngs > 1)
            pacer.skipped = 0;
        pacer.young_scan += pacer.kind[false].scan;
        pacer.next_full = little_left(now) ||
                          pacer.young_scan > FULL_EVERY * pacer.kind[true].scan;
    }
}

void pacer_swept(void)
{
    uint64_t now = atomic_load(&heap.live);
    uint64_t since = minus(allocated_so_far(), pacer.alloc_at_start);
    uint64_t survived = minus(now, since);
    uint64_t black = minus(pacer.alloc_at_mark_end, pacer.alloc_at_start);
    /* What the last mark left black, dead or not, is old for a young one, which tells
     * of what came after that. */
    uint64_t from = pacer.alloc_at_last_start, before = pacer.base_before;
    if (!heap.full) {
        from = pacer.alloc_at_last_mark_end;
        before += pacer.black_before;
    }
    uint64_t fresh = minus(pacer.alloc_at_start, from);
    if (fresh >= DISTANCE_LEAST) {
        double s = ((double)survived - (double)before) / (double)fresh;
        pacer.survival = s < 0 ? 0 : s > 1 ? 1 : s;
    }
    pacer.black_before = black;
    pacer.kind[heap.full].freed = minus(pacer.live_at_start, survived);
    pacer.base_before = survived;
    if (heap.full) {
        pacer.base = survived + (uint64_t)(pacer.survival * (double)black);
    }
    atomic_store(&gc.live, survived);
    bucket_update();
    choose_kind(now);
    set_goal();
}

bool pacer_full(void)
{
    return pacer.next_full;
}

/* --- a mark --------------------------------------------------------------------------- */

/* Bytes to scan for each byte allocated, times 1024. */
static void set_ratio(uint64_t work, uint64_t distance)
{
    if (distance < DISTANCE_LEAST)
        distance = DISTANCE_LEAST;
    double ratio = (double)work / (double)distance * 1024;
    atomic_store_explicit(&gc.assist_ratio,
                          ratio > (double)UINT32_MAX ? UINT32_MAX
                                                     : (uint32_t)ratio,
                          memory_order_relaxed);
}

void pacer_start(void)
{
    pacer.alloc_at_last_start = pacer.alloc_at_start;
    pacer.alloc_at_last_mark_end = pacer.alloc_at_mark_end;
    /* What caches hold counts as allocated, and will not if it is still there when
     * they are flushed at the end. */
    int64_t unused = mcache_unused_bytes();
    pacer.alloc_at_start = (uint64_t)((int64_t)allocated_so_far() - unused);
    pacer.live_at_start = atomic_load(&heap.live);
    pacer.scanned_at_start = atomic_load(&gc.scanned_bytes);
    pacer.stack_bytes_at_start = atomic_load(&gc.stack_scan_bytes);
    pacer.stacks_at_start = atomic_load(&gc.stacks_scanned);
    pacer.cpu_at_start = atomic_load(&gc.mark_cpu_ns);
    pacer.assist_at_start = atomic_load(&gc.assist_ns);
    gc.heap_at_start = atomic_load(&heap.live);
    atomic_store(&gc.bg_credit, 0);
    for (uint32_t i = 0; i < nprocs; i++)
        gcp_of(allp[i])->assist_debt = 0;
    uint64_t scan = pacer.kind[heap.full].scan;
    atomic_store(&pacer.expected, scan != 0 ? scan : gc.heap_at_start);
    pacer_revise();
}

void pacer_revise(void)
{
    bucket_update();
    uint64_t live = atomic_load(&heap.live);
    uint64_t goal = atomic_load(&gc.goal);
    uint64_t done = atomic_load(&gc.scanned_bytes) - pacer.scanned_at_start;
    uint64_t expected = atomic_load(&pacer.expected);
    if (done >= expected - expected / 16) {
        /* More is alive than last time: at worst all of it. */
        uint64_t all = gc.heap_at_start + gc.root_bytes;
        expected =
            expected + expected / 2 < all ? expected + expected / 2 : all;
        atomic_store(&pacer.expected, expected);
        goal = (uint64_t)((double)goal * HARD);
    }
    set_ratio(expected > done ? expected - done : 0,
              goal > live ? goal - live : 0);
}

bool pacer_assists(void)
{
    return setting(&options.memlimit) == 0 ||
           !atomic_load_explicit(&pacer.bucket.full, memory_order_relaxed);
}

void pacer_marked(void)
{
    pacer.alloc_at_mark_end = allocated_so_far();
    uint64_t scan = atomic_load(&gc.scanned_bytes) - pacer.scanned_at_start;
    uint64_t allocated = minus(pacer.alloc_at_mark_end, pacer.alloc_at_start);
    double cpu = (double)(atomic_load(&gc.mark_cpu_ns) - pacer.cpu_at_start);
    double assist =
        (double)(atomic_load(&gc.assist_ns) - pacer.assist_at_start);
    pacer.kind[heap.full].scan = scan;
    pacer.stack_bytes =
        atomic_load(&gc.stack_scan_bytes) - pacer.stack_bytes_at_start;
    pacer.stacks = atomic_load(&gc.stacks_scanned) - pacer.stacks_at_start;
    gc.root_bytes = gc.plain_bytes + gc.barriered_bytes + pacer.stack_bytes;
    /* As if nobody had assisted: workers alone would have taken longer, and the
     * program would have allocated all the time. */
    double throttle = 1;
    if (assist > 0) {
        double longer = (cpu + assist) / (cpu > 1 ? cpu : 1);
        double wall = (double)gc.mark_took * (double)nprocs - cpu;
        double faster = wall > assist * 1.1 ? wall / (wall - assist) : 10;
        throttle = longer * faster;
        if (throttle > THROTTLE_MOST)
            throttle = THROTTLE_MOST;
    }
    pacer.kind[heap.full].rate[pacer.kind[heap.full].nrates++ % 4] =
        scan != 0 ? (double)allocated / (double)scan * throttle : 0;
    atomic_store(&gc.trigger, UINT64_MAX); /* until this sweep is done */
    /* So that it is done when a quarter of the way has been allocated. */
    uint64_t quarter =
        pacer.way / 4 > DISTANCE_LEAST ? pacer.way / 4 : DISTANCE_LEAST;
    gc.sweep_pages = (double)atomic_load(&heap.pages_inuse) / (double)quarter;
}

void pacer_changed(void)
{
    set_goal();
}

void pacer_init(void)
{
    set_goal();
}

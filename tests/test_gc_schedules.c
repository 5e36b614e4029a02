/* tests/test_gc_schedules.c - what a mutator does comes between any two steps of a
 * collection: exhaustively for short programs on small graphs, by random schedules
 * for longer ones.
 *
 * The collector is the real one: its driver and a worker run on one thread and
 * call step() between the steps of a cycle (gc_step), down to single entries of a
 * drain. Two mutators stand still in their goroutines, their registers are words
 * of those stacks; step() does for them what they would have done at that moment
 * on Ps of their own, with the real barrier and the real allocation. Nobody else
 * runs: no P but the driver's has a thread. So a schedule is a function of its
 * choices; but a long random run is not quite one of its seed: small differences,
 * as yet unexplained, remain between two of them.
 *
 * Of schedules of three operations a part is taken, by the seed; all of them with
 * TARN_TEST_ALL in the environment.
 *
 * A shadow of the graph is kept in ordinary memory, its addresses hidden. After
 * each cycle what is reachable in the shadow must be there, whole; after a full
 * one what was not when it began must be gone.
 */
#include "gcshadow.h"
#include "gcsuite.h"

#define NI __attribute__((noinline))

/* The P of a mutator, or with MUTATORS of a second marker: one that no thread has,
 * and none will, see start(). NULL if that is not so now. */
static struct p *p_for(int m)
{
    struct p *mine = getg()->m->p;
    for (uint32_t i = 0; i < nprocs; i++)
        if (allp[i] != mine && m-- == 0)
            return atomic_load(&allp[i]->status) == Pidle ? allp[i] : NULL;
    return NULL;
}

static void apply(struct op op)
{
    tell("  %c: %s r%d s%d f%d\n", 'A' + op.m, what_name[op.what], op.r, op.s,
         op.f);
    struct m *mp = acquirem();
    struct p *mine = mp->p, *its = p_for(op.m);
    CHECK(its != NULL);
    mp->p = its;
    set_local_cache(its);
    perform(op);
    mp->p = mine;
    set_local_cache(mine);
    releasem(mp);
}

/* --- graphs ------------------------------------------------------------------------- */

static void do_op(enum what what, int m, int r, int s, int f)
{
    struct op op = {(uint8_t)what, (uint8_t)m, (uint8_t)r, (uint8_t)s,
                    (uint8_t)f};
    if (effective(op))
        apply(op);
}

/* All goes but the old one, which forgets what it pointed to. */
static void forget(void)
{
    for (int f = 0; f < 2; f++) {
        do_op(LOAD_OLD, 0, 0, 0, 0);
        do_op(UNSET, 0, 0, 0, f);
    }
    do_op(UNSET_PLAIN, 0, 0, 0, 0);
    do_op(UNSET_RANGE, 0, 0, 0, 0);
    for (int m = 0; m < MUTATORS; m++)
        for (int r = 0; r < REGS; r++)
            do_op(DROP, m, r, 0, 0);
    /* Else it is dirty again each 254 cycles. */
    for (size_t at = 0; at < OLD_SIZE; at += CARD)
        *heap_card((uintptr_t)address(OLD) + at) = 0;
}

enum shape { ON_REG, ON_OLD, ON_PLAIN, ON_RANGE, ON_BOTH, SHAPES };
static const char *const shape_name[SHAPES] = {
    "a register", "an old object", "a plain range", "a barriered range",
    "both mutators' registers"};

/* x.0 = y, and something has x. */
static void make_graph(enum shape shape)
{
    do_op(ALLOC, 0, 0, 0, 0);
    do_op(ALLOC, 0, 1, 0, 0);
    do_op(STORE, 0, 0, 1, 0);
    do_op(DROP, 0, 1, 0, 0);
    switch (shape) {
    case ON_REG:
        return;
    case ON_OLD: /* A has both */
        do_op(LOAD_OLD, 0, 1, 0, 0);
        do_op(STORE, 0, 1, 0, 0);
        return;
    case ON_PLAIN:
        do_op(STORE_PLAIN, 0, 0, 0, 0);
        break;
    case ON_RANGE:
        do_op(STORE_RANGE, 0, 0, 0, 0);
        break;
    default:
        do_op(STORE_PLAIN, 0, 0, 0, 0);
        do_op(LOAD_PLAIN, 1, 0, 0, 0);
        do_op(UNSET_PLAIN, 0, 0, 0, 0);
        return;
    }
    do_op(LOAD_OLD, 0, 0, 0, 0);
}

/* --- choices ------------------------------------------------------------------------- */

static enum mode { QUIET, EXHAUSTIVE, RANDOM } mode;
static uint64_t rng;

/* The choices of a schedule; the next one differs in the last that had more. */
#define CHOICES 512
static struct {
    uint16_t taken[CHOICES], of[CHOICES];
    int n, at;
} trail;
static uint64_t diverged, disturbed;

static int choose(int n)
{
    CHECK_LT(trail.at, CHOICES);
    if (trail.at == trail.n) {
        trail.taken[trail.n] = 0;
        trail.of[trail.n++] = (uint16_t)n;
    }
    /* Not so where the thread was interrupted: a drain looks at the time. */
    if (trail.of[trail.at] != n) {
        diverged++;
        trail.of[trail.at] = (uint16_t)n;
        if (trail.taken[trail.at] >= n)
            trail.taken[trail.at] = (uint16_t)(n - 1);
    }
    return trail.taken[trail.at++];
}

/* One of so many first operations only, chosen by the seed, and all that follows
 * them: of schedules of three operations, and of others. */
static uint32_t thin, thin_three = 8, thin_two = 1;

static bool left_out(void)
{
    uint64_t key = harness_seed;
    for (int i = 0; i < trail.n - 1; i++)
        if (trail.taken[i] != 0)
            return false;
    key += (uint64_t)trail.n * 1000 + trail.taken[trail.n - 1];
    return harness_rand(&key) % thin != 0;
}

static bool next_trail(void)
{
    trail.at = 0;
    while (trail.n > 0) {
        if (++trail.taken[trail.n - 1] >= trail.of[trail.n - 1])
            trail.n--;
        else if (thin == 1 || !left_out())
            return true;
    }
    return false;
}

/* --- the steps of a cycle ------------------------------------------------------------- */

static struct {
    enum shape shape;
    uint32_t set;   /* of operations */
    enum kind kind; /* of x; then the others in turn */
    bool eager;     /* a second marker is first */
} job;
static int left[MUTATORS];
static uint64_t digest;
static bool busy, fresh, keep_graph;

/* Between two points of a drain where nothing was read in, the collector has moved
 * what it holds and marked: no operation of a mutator depends on that, and what the
 * collector does next not on when the operation was. */
static bool same_as_before(void)
{
    uint64_t d = atomic_load(&gc.scanned_bytes) * 1000003 +
                 atomic_load(&gc.stacks_scanned);
    bool same = d == digest;
    digest = d;
    return same;
}

/* Where it makes no difference for what is between here and the step before, or
 * the end: exhaustively only one of such steps is taken. */
static bool redundant(const char *name)
{
    if (strcmp(name, "gc: drain") == 0)
        return same_as_before();
    if (strcmp(name, "gc: handed in") == 0) {
        /* Between one mutator's P and the other's only. */
        const struct p *a = p_for(0), *b = p_for(1);
        return atomic_load(&a->runSafePointFn) ==
               atomic_load(&b->runSafePointFn);
    }
    return strcmp(name, "gc: about to end") == 0 ||
           strcmp(name, "gc: swept some") == 0 ||
           strcmp(name, "gc: swept") == 0;
}

static void exhaustive_step(bool may_alloc)
{
    struct op ops[OPS_MOST];
    for (;;) {
        int n = 0;
        uint32_t set = may_alloc ? job.set : job.set & ~ONLY(ALLOC);
        for (int m = 0; m < MUTATORS; m++)
            if (left[m] > 0)
                n = list_ops(ops, n, m, set, 1);
        if (n == 0)
            return;
        int k = choose(n + 1);
        if (k == 0)
            return;
        left[ops[k - 1].m]--;
        apply(ops[k - 1]);
    }
}

/* A second marker, on a P of its own. */
static bool help_mark(bool assist, uint64_t work)
{
    struct m *mp = acquirem();
    struct p *pp = p_for(MUTATORS);
    CHECK(pp != NULL);
    tell("  second marker\n");
    struct drain_limits lim = {.assist = assist, .work = work};
    bool dry = gc_drain(pp, &lim);
    releasem(mp);
    return dry;
}

/* Small graphs: an object is soon in one place only. */
#define LIVE_MOST 6

static int live_nodes(void)
{
    bool seen[NODES];
    int n = 0;
    reachable(seen);
    for (int i = 0; i < NODES; i++)
        n += seen[i];
    return n;
}

static void random_step(bool may_alloc)
{
    struct op ops[OPS_MOST];
    while (below(&rng, 3) == 0) {
        if (may_alloc && atomic_load(&gc.blacken) && below(&rng, 8) == 0) {
            help_mark(below(&rng, 2) == 0, 1 + below(&rng, 64));
            continue;
        }
        enum what what = (enum what)below(&rng, WHATS);
        if (what == ALLOC && (!may_alloc || live_nodes() >= LIVE_MOST))
            continue;
        int n = 0;
        for (int m = 0; m < MUTATORS; m++)
            n = list_ops(ops, n, m, ONLY(what), 2);
        if (n == 0)
            continue;
        struct op op = ops[below(&rng, (uint32_t)n)];
        operations++;
        apply(op);
        /* What is lost by mistake was moved away from where it was. */
        if (what == LOAD && below(&rng, 2) == 0)
            do_op(below(&rng, 2) ? UNSET : CLEAR, op.m, op.s, 0, op.f);
        if (what == COPY && below(&rng, 2) == 0)
            do_op(DROP, op.m, below(&rng, 2) ? op.s : op.r, 0, 0);
    }
}

static void step(const char *name)
{
    const struct g *gp = getg();
    if (busy || gp->kind == STACK_SYSTEM || atomic_load(&sched.gcwaiting))
        return;
    busy = true;
    steps++;
    /* By sysmon, who thinks that others wait. */
    atomic_store(&getg()->preempt, false);
    bool alone = p_for(0) && p_for(1) && p_for(MUTATORS);
    disturbed += !alone;
    /* Only what was added is a root: the rest takes long. */
    gc.nsegments = 0;
    if (fresh) {
        fresh = false;
        if (mode == EXHAUSTIVE || !keep_graph)
            forget();
        for (int m = 0; m < MUTATORS; m++)
            do_op(FORGET, m, 0, 0, 0);
        if (mode == EXHAUSTIVE)
            make_graph(job.shape);
        story_len = 0;
    }
    /* Before "gc: barrier on" there may be others. */
    if (strcmp(name, "gc: barrier on") == 0)
        cycle_begins();
    /* Objects may be black before any stack is. */
    if (mode == EXHAUSTIVE && job.eager && alone &&
        strcmp(name, "gc: others may mark") == 0) {
        help_mark(false, 1);
        help_mark(true, 0);
    }
    /* Under a lock of the scheduler. */
    bool may_alloc = strcmp(name, "gc: handed in") != 0;
    bool skip =
        mode == QUIET || (mode == EXHAUSTIVE && redundant(name)) || !alone;
    if (!skip) {
        tell("%s\n", name);
        if (mode == EXHAUSTIVE)
            exhaustive_step(may_alloc);
        else
            random_step(may_alloc);
    }
    if (strcmp(name, "gc: swept") == 0)
        cycle_ended();
    busy = false;
}

#define OPTIONS "gcoff=1,gcperiod=0,deadlock=0"
#define PS 4

/* --- running it ------------------------------------------------------------------------- */

static bool stay(struct g *gp, void *unused)
{
    (void)gp;
    (void)unused;
    return true;
}

NI static void mutator(void *arg)
{
    volatile uintptr_t r[REGS] = {0, 0};
    regs[(uintptr_t)arg] = r;
    gopark(stay, NULL, WAIT_GC_IDLE);
    CHECK(r[0] == 1); /* never: but the registers are needed */
}

static void passes(void *unused)
{
    (void)unused;
}

static void make_old(void *unused)
{
    (void)unused;
    for (int m = 0; m < MUTATORS; m++)
        for (int r = 0; r < REGS; r++)
            sh.reg[m][r] = NONE;
    sh.plain = sh.range = NONE;
    new_node(CONSERVATIVE, OLD);
    tarn_store(&range_cell[1], address(OLD));
}

static void start(void)
{
    /* Whatever TARN says: nobody but us begins a collection, or waits at a step.
     * Others read these: nothing is written where there is nothing to change. */
    if (!options.gcoff)
        options.gcoff = 1;
    if (options.gcstress != 0)
        options.gcstress = 0;
    if (options.delays != 0)
        options.delays = 0;
    if (TARN_CHECKS >= 2)
        thin_three = 100;
    if (TARN_TSAN)
        thin_three = thin_two = 64;
    if (getenv("TARN_TEST_ALL") != NULL)
        thin_three = thin_two = 1;
    register_types();
    plain_cell = calloc(1, sizeof *plain_cell);
    range_cell = calloc(2, sizeof *range_cell);
    CHECK(plain_cell != NULL && range_cell != NULL);
    CHECK_ST(tarn_roots_add(plain_cell, plain_cell + 1, 0), TARN_OK);
    CHECK_ST(tarn_roots_add(range_cell, range_cell + 2, TARN_ROOTS_BARRIERED),
             TARN_OK);
    /* As if a thread were looking for work: then no other is woken. */
    while (atomic_load(&sched.npidle) != nprocs - 1 ||
           atomic_load(&sched.nmspinning) != 0)
        tarn_yield();
    atomic_fetch_add(&sched.nmspinning, 1);
    /* Stacks are root jobs of 64: two jobs. */
    go(mutator, (void *)0);
    for (int i = 0; i < 64; i++)
        go(passes, NULL);
    go(mutator, (void *)1);
    while (regs[0] == NULL || regs[1] == NULL)
        tarn_yield();
    make_old(NULL);
    wipe_stack();
    gc_check_entries = 1;
    gc_turn_ns = INT64_C(1000000000000);
    gc_step_hook = step;
    collect();
}

static void clean_up(void)
{
    mode = QUIET;
    fresh = true;
    collect();
}

/* Operations by which an object is moved and lost. */
#define MOVES                                                                  \
    (ONLY(LOAD) | ONLY(LOAD_PLAIN) | ONLY(LOAD_RANGE) | ONLY(STORE) |          \
     ONLY(UNSET) | ONLY(STORE_PLAIN) | ONLY(DROP))

/* By way of the plain range; into an object that is black from birth. */
#define GLOBALLY                                                               \
    (ONLY(STORE_PLAIN) | ONLY(LOAD_PLAIN) | ONLY(UNSET_PLAIN) | ONLY(FORGET))
#define NEWLY (ONLY(ALLOC) | ONLY(COPY) | ONLY(STORE) | ONLY(SWAP) | ONLY(DROP))

/* impatient: it lets the world go on as soon as the last stop finds anything. */
static void one_cycle(bool full, bool impatient)
{
    gc_late_ns = impatient ? 0 : INT64_C(1000000000);
    if (full)
        collect();
    else
        gc_collect_young();
}

static void explore(enum shape shape, bool full, int a, int b, uint32_t set,
                    int kind, bool eager)
{
    thin = a + b == 3 ? thin_three : thin_two;
    job.shape = shape;
    job.set = set;
    job.kind = (enum kind)(kind % KINDS);
    job.eager = eager;
    trail.n = trail.at = 0;
    int64_t t0 = tarn_now();
    uint64_t n = 0;
    do {
        left[0] = a;
        left[1] = b;
        next_kind = job.kind;
        fresh = true;
        digest = 0;
        mode = EXHAUSTIVE;
        one_cycle(full, !full);
        schedules++;
        n++;
        /* What was stored just now, seen by the next one. */
        if (shape == ON_OLD) {
            mode = QUIET;
            fresh = keep_graph = true;
            gc_collect_young();
            keep_graph = false;
        }
        /* What died old would be scanned for its cards. */
        if (!full)
            clean_up();
    } while (next_trail());
    printf("     on %s, %s, %d+%d operations: %" PRIu64 " schedules, %lld ms\n",
           shape_name[shape], full ? "full" : "young", a, b, n,
           (long long)(tarn_now() - t0) / 1000000);
    clean_up();
}

/* Where assertions look, and where there is time. */
static bool deep(void)
{
    return TARN_CHECKS >= 2 || getenv("TARN_TEST_LONG") != NULL;
}

static void test_exhaustive(void)
{
    schedules = 0;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int full = 0; full < 2; full++) {
            enum shape sp = (enum shape)shape;
            explore(sp, full, 2, 0, ALL_OPS, shape, false);
            explore(sp, full, 1, 1, ALL_OPS, shape + 1, true);
            if (!deep())
                continue;
            if (shape == ON_BOTH)
                explore(sp, full, 2, 1, MOVES, shape, full);
            else
                explore(sp, full, 3, 0, MOVES, shape + full, full);
        }
    for (int full = 0; deep() && full < 2; full++) {
        explore(ON_REG, full, 3, 0, NEWLY, CONSERVATIVE, false);
        explore(ON_REG, full, 4, 0, GLOBALLY, PRECISE, false);
    }
    printf("     %" PRIu64 " schedules, %" PRIu64 " diverged, %" PRIu64
           " steps disturbed\n",
           schedules, diverged, disturbed);
}

#define COLLECTIONS                                                            \
    harness_reps(TARN_TSAN ? 5000 : TARN_CHECKS >= 2 ? 40000 : 300000)

static void random_run(int n)
{
    rng = seed_of(1);
    schedules = 0;
    steps = operations = freed = disturbed = 0;
    uint64_t restarts = atomic_load(&gc.restarts);
    clean_up();
    for (int i = 0; i < n; i++) {
        story_len = 0;
        mode = RANDOM;
        one_cycle(below(&rng, 3) == 0, below(&rng, 2) == 0);
        schedules++;
    }
    clean_up();
    printf("     %d collections, %" PRIu64 " steps, %" PRIu64
           " operations, %" PRIu64 " restarts, %" PRIu64 " freed, %" PRIu64
           " steps disturbed\n",
           n, steps, operations, atomic_load(&gc.restarts) - restarts, freed,
           disturbed);
    CHECK_GT(freed, n / 10);
    CHECK_GT(operations, n);
}

static void test_random(void)
{
    random_run(COLLECTIONS);
}

/* TARN may say otherwise. */
static bool too_few(void)
{
    if (nprocs < PS)
        printf("skip: %u Ps are not enough\n", nprocs);
    return nprocs < PS;
}

static void body(void)
{
    if (too_few())
        return;
    start();
    if (deep())
        RUN(test_exhaustive);
    RUN(test_random);
}

/* Where the collector's own second look finds it first, and what was freed is no
 * longer readable. */
static void test_strict(void)
{
    random_run(COLLECTIONS / 10);
}

static void strict_body(void)
{
    if (too_few())
        return;
    start();
    RUN(test_strict);
}

/* --- faults of the collector --------------------------------------------------------- */

static uint32_t child_fault;
static bool child_random;

static void faulty(void *unused)
{
    (void)unused;
    start();
    atomic_store(&gc_fault, child_fault);
    if (child_random)
        random_run(1000000);
    else
        test_exhaustive();
    puts("nothing was lost");
}

static void faulty_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    CHECK_ST(tarn_options_parse(&o, OPTIONS), TARN_OK);
    o.maxprocs = PS;
    CHECK_ST(tarn_main(&o, faulty, NULL), TARN_OK);
}

static void must_lose(const char *name, uint32_t fault)
{
    static char out[65536];
    child_fault = fault;
    /* Thinned out as for ThreadSanitizer, the exhaustive search may miss it. */
    for (int i = TARN_TSAN; i < 2; i++) {
        child_random = i != 0;
        int st = harness_child(faulty_child, "TARN=", out, sizeof out);
        const char *said = strstr(out, "lost object: node");
        if (said == NULL)
            fprintf(stderr, "%s\n", out);
        CHECK(said != NULL);
        CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT);
        printf("     %s, %s: %.*s\n", name,
               child_random ? "random" : "exhaustive", (int)strcspn(said, "\n"),
               said);
    }
}

static void test_faults(void)
{
    must_lose("STACKS", GC_FAULT_STACKS);
    must_lose("BARRIERED", GC_FAULT_BARRIERED);
    must_lose("RESCAN", GC_FAULT_RESCAN);
    must_lose("FLUSH", GC_FAULT_FLUSH);
    must_lose("BULK", GC_FAULT_BULK);
    must_lose("BARRIER", GC_FAULT_BARRIER);
    must_lose("CARDS", GC_FAULT_CARDS);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    /* There is one number of Ps with which it can be run. */
    unsetenv("TARN_TEST_PROCS");
    RUN(test_faults);
    gc_run(body, PS, OPTIONS);
    gc_run(strict_body, PS, OPTIONS ",checkmark=1,clobberfree=1");
    return harness_done();
}

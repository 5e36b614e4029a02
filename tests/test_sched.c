/* Goroutines: start, end, reuse, numbers, yielding, start and end of the
 * runtime, lost wake-ups, deadlock reports, misuse. */
#include <dirent.h>

#include "suite.h"

static uint64_t seed_for(uint64_t i)
{
    return harness_seed * UINT64_C(0x9E3779B97F4A7C15) + i + 1;
}

static void nothing(void *arg)
{
    (void)arg;
}

/* --- before tarn_main ---------------------------------------------------- */

static void test_off_goroutine(void)
{
    struct tarn_go_attr attr = {TARN_STACKS_AUTO, 0};
    CHECK_EQ(tarn_self(), 0u);
    CHECK_ST(tarn_go(nothing, NULL), TARN_ESTATE);
    CHECK_STR(tarn_last_error(), "tarn_go");
    CHECK_ST(tarn_go_with(&attr, nothing, NULL), TARN_ESTATE);
    tarn_poll();
    tarn_yield();
    CHECK_ST(tarn_gc(), TARN_ESTATE);
    CHECK(tarn_alloc_conservative(8) == NULL);
    CHECK_EQ(tarn_goroutines(), 0u);
}

static void test_bad_options(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = -1;
    CHECK_ST(tarn_main(&o, nothing, NULL), TARN_EOPTION);
    CHECK_STR(tarn_last_error(), "maxprocs");
    tarn_options_init(&o);
    o.struct_size = 0;
    CHECK_ST(tarn_main(&o, nothing, NULL), TARN_EOPTION);
}

/* --- tarn_main, more than once ------------------------------------------- */

/* In static memory that is a root: what the first run leaves to the second. */
static tarn_chan *left_chan, *answer_chan;
static uint64_t frozen_spins, frozen_wakes, frozen_due;

static void leftover(void *arg)
{
    (void)arg;
    uint64_t v;
    while (tarn_chan_recv(left_chan, &v) == TARN_OK) {
        v *= 2;
        CHECK_ST(tarn_chan_send(answer_chan, &v), TARN_OK);
    }
}

static void frozen_spinner(void *arg)
{
    (void)arg;
    for (;;) {
        ADD(frozen_spins, 1);
        tarn_yield();
    }
}

static void frozen_sleeper(void *arg)
{
    (void)arg;
    ADD(frozen_due, (uint64_t)nanotime() + 30000000);
    tarn_sleep(30000000);
    ADD(frozen_wakes, 1);
}

static void first_main(void *arg)
{
    CHECK(arg == &left_chan);
    CHECK_NE(tarn_self(), 0u);
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_ESTATE);
    tarn_store(&left_chan, new_chan(8, 0));
    tarn_store(&answer_chan, new_chan(8, 0));
    go(leftover, NULL);
    go(frozen_spinner, NULL);
    go(frozen_sleeper, NULL);
    while (LOAD(frozen_spins) < 10)
        tarn_yield();
}

static void next_main(void *arg)
{
    uint64_t *v = arg, spins = LOAD(frozen_spins);
    CHECK_GE(tarn_goroutines(), 3u);
    CHECK_ST(tarn_chan_send(left_chan, v), TARN_OK);
    CHECK_ST(tarn_chan_recv(answer_chan, v), TARN_OK);
    while (LOAD(frozen_spins) < spins + 10 || LOAD(frozen_wakes) == 0)
        tarn_yield();
    tarn_gc();
}

static void exiting_main(void *arg)
{
    *(int *)arg = 1;
    tarn_goexit();
}

/* All threads but the main one, which this is. Those that run goroutines are not. */
static bool others_are_asleep(void)
{
    DIR *d = opendir("/proc/self/task");
    CHECK(d != NULL);
    bool asleep = true;
    struct dirent *e;
    while (asleep && (e = readdir(d)) != NULL) {
        char path[300], line[512];
        if (e->d_name[0] == '.' || atoi(e->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", e->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL)
            continue; /* it has ended */
        const char *name_end =
            fgets(line, sizeof line, f) != NULL ? strrchr(line, ')') : NULL;
        asleep = name_end != NULL && name_end[2] == 'S';
        fclose(f);
    }
    closedir(d);
    return asleep;
}

/* Outside tarn_main: nobody counts on, until nobody can. */
static void stays(const uint64_t *count)
{
    uint64_t before = LOAD(*count);
    while (!others_are_asleep()) {
        CHECK_EQ(LOAD(*count), before);
        osyield();
    }
    CHECK_EQ(LOAD(*count), before);
}

static void main_again(void)
{
    alarm(SUITE_WATCHDOG_SECONDS);
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = suite_child_procs;
    CHECK_ST(tarn_main(&o, first_main, &left_chan), TARN_OK);
    CHECK_EQ(tarn_self(), 0u);
    CHECK_ST(tarn_go(nothing, NULL), TARN_ESTATE);
    /* Asleep still, if all went fast; and no timer fires outside tarn_main. */
    uint64_t woken = LOAD(frozen_wakes), due = LOAD(frozen_due);
    while ((uint64_t)nanotime() < due + 5000000)
        usleep(1000);
    stays(&frozen_wakes);
    CHECK_EQ(LOAD(frozen_wakes), woken);
    for (uint64_t i = 1; i <= 50; i++) {
        uint64_t v = i;
        CHECK_ST(tarn_main(NULL, next_main, &v), TARN_OK);
        CHECK_EQ(v, 2 * i);
        if (i == 1) /* frozen means frozen */
            stays(&frozen_spins);
    }
    int reached = 0;
    CHECK_ST(tarn_main(NULL, exiting_main, &reached), TARN_OK);
    CHECK_EQ(reached, 1);
    o.maxprocs = -1; /* ignored, but checked */
    CHECK_ST(tarn_main(&o, nothing, NULL), TARN_EOPTION);
    printf("all mains returned\n");
}

static void test_main_again(void)
{
    static char out[4096];
    for (suite_child_procs = 1; suite_child_procs <= 4;
         suite_child_procs += 3) {
        int st = harness_child(main_again, NULL, out, sizeof out);
        CHECK_STR(out, "all mains returned");
        if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
            fprintf(stderr, "output was:\n%s\n", out);
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), 0);
    }
}

/* --- deadlock reports ---------------------------------------------------- */

static void block_for_ever(void *arg)
{
    (void)arg;
    tarn_chan_recv(new_chan(8, 0), NULL);
}

static void all_block(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++)
        go(block_for_ever, NULL);
    block_for_ever(NULL);
}

static void main_blocks_rest_end(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++)
        go(nothing, NULL);
    block_for_ever(NULL);
}

static void block_after_sleep(void *arg)
{
    (void)arg;
    tarn_sleep(30000000);
    block_for_ever(NULL);
}

static void test_deadlock(void)
{
    for (suite_child_procs = 1; suite_child_procs <= 8;
         suite_child_procs *= 2) {
        CHECK_FATAL(block_for_ever, "all goroutines are asleep - deadlock!");
        CHECK_FATAL(block_for_ever, "chan receive");
        CHECK_FATAL(all_block, "all goroutines are asleep - deadlock!");
        CHECK_FATAL(main_blocks_rest_end,
                    "all goroutines are asleep - deadlock!");
        CHECK_FATAL(block_after_sleep, "all goroutines are asleep - deadlock!");
    }
}

/* --- tarn_go ------------------------------------------------------------- */

static void test_go_arguments(void)
{
    struct tarn_go_attr attr = {TARN_STACKS_COPYING, 0};
    CHECK_ST(tarn_go(NULL, NULL), TARN_EINVAL);
    CHECK(tarn_last_error()[0] != '\0');
    /* libc is not compiled for copying stacks. */
    CHECK_ST(tarn_go_with(&attr, (tarn_fn)free, NULL), TARN_EINVAL);
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_ESTATE);
    CHECK_EQ(tarn_goroutines(), 1u);
}

struct spawn {
    tarn_waitgroup wg;
    uint64_t count, *ids;
};

static void sized_stack(void *arg)
{
    struct spawn *s = arg;
    volatile char big[200000];
    for (size_t i = 0; i < sizeof big; i += 1000)
        big[i] = (char)i;
    for (size_t i = 0; i < sizeof big; i += 1000)
        CHECK_EQ(big[i], (char)i);
    ADD(s->count, 1);
    tarn_waitgroup_done(&s->wg);
}

static void sized_stack_done(void *arg)
{
    struct spawn *s = arg;
    tarn_waitgroup_done(&s->wg);
}

static void test_go_sized_stacks(void)
{
    struct spawn *s = new_shared(sizeof *s);
    for (size_t size = 512 << 10; size <= 8 << 20; size *= 2) {
        struct tarn_go_attr attr = {TARN_STACKS_FIXED, size + 1};
        tarn_waitgroup_add(&s->wg, 4);
        for (int i = 0; i < 4; i++)
            CHECK_ST(tarn_go_with(&attr, sized_stack, s), TARN_OK);
        tarn_waitgroup_wait(&s->wg);
    }
    CHECK_EQ(s->count, 5u * 4);
}

/* A refusal leaves the reused goroutine without a stack, and usable. Only
 * copying stacks have a limit of their own. */
static void test_go_refused_stack(void)
{
    struct spawn *s = new_shared(sizeof *s);
    struct tarn_go_attr huge = {TARN_STACKS_COPYING, (size_t)1 << 40};
    struct tarn_go_attr some = {TARN_STACKS_AUTO, (size_t)64 << 10};
    for (int i = 0; i < 3; i++) {
        tarn_waitgroup_add(&s->wg, 1);
        CHECK_ST(tarn_go(sized_stack_done, s), TARN_OK);
        tarn_waitgroup_wait(&s->wg);
        tarn_status st = tarn_go_with(&huge, sized_stack_done, s);
        CHECK(st == TARN_ENOMEM || st == TARN_EINVAL);
        tarn_waitgroup_add(&s->wg, 1);
        CHECK_ST(tarn_go_with(&some, sized_stack_done, s), TARN_OK);
        tarn_waitgroup_wait(&s->wg);
    }
}

/* The number of a goroutine that said it is done goes down a little later. */
static void wait_alone(void)
{
    while (tarn_goroutines() > 1)
        tarn_yield();
}

static void note_id(void *arg)
{
    struct spawn *s = arg;
    uint64_t me = tarn_self();
    s->ids[ADD(s->count, 1) - 1] = me;
    tarn_yield();
    CHECK_EQ(tarn_self(), me);
    tarn_waitgroup_done(&s->wg);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_self_unique(void)
{
    enum { N = 10000 };
    struct spawn *s = new_shared(sizeof *s);
    s->ids = calloc(N + 1, sizeof *s->ids);
    CHECK(s->ids != NULL);
    for (int batch = 0; batch < N; batch += 1000) {
        tarn_waitgroup_add(&s->wg, 1000);
        for (int i = 0; i < 1000; i++)
            go(note_id, s);
        tarn_waitgroup_wait(&s->wg);
    }
    s->ids[N] = tarn_self();
    qsort(s->ids, N + 1, sizeof *s->ids, compare_ids);
    CHECK_NE(s->ids[0], 0u);
    for (int i = 0; i < N; i++)
        CHECK_LT(s->ids[i], s->ids[i + 1]);
    free(s->ids);
    wait_alone();
}

static void count_one(void *arg)
{
    struct spawn *s = arg;
    ADD(s->count, 1);
    tarn_waitgroup_done(&s->wg);
}

static void test_spawn_100k(void)
{
    struct spawn *s = new_shared(sizeof *s);
    for (int batch = 0; batch < SUITE_REPEAT(100); batch++) {
        tarn_waitgroup_add(&s->wg, 1000);
        for (int i = 0; i < 1000; i++)
            go(count_one, s);
        tarn_waitgroup_wait(&s->wg);
    }
    CHECK_EQ(s->count, SUITE_REPEAT(100) * 1000u);
    wait_alone();
}

/* A tree of goroutines: each starts two. */
struct tree {
    struct spawn *s;
    int depth;
};

static void grow_tree(void *arg)
{
    struct tree *t = arg;
    struct spawn *s = t->s;
    if (t->depth > 0) {
        for (int i = 0; i < 2; i++) {
            struct tree *child = new_shared(sizeof *child);
            SET(child->s, s);
            child->depth = t->depth - 1;
            go(grow_tree, child);
        }
    }
    ADD(s->count, 1);
    tarn_waitgroup_done(&s->wg);
}

static void test_spawn_tree(void)
{
    enum { DEPTH = 12 };
    struct spawn *s = new_shared(sizeof *s);
    struct tree *t = new_shared(sizeof *t);
    SET(t->s, s);
    t->depth = DEPTH;
    tarn_waitgroup_add(&s->wg, (2 << DEPTH) - 1);
    go(grow_tree, t);
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(s->count, (uint64_t)(2 << DEPTH) - 1);
    wait_alone();
}

/* The argument of a goroutine that has not started yet is all that refers to
 * it. */
struct parcel {
    struct spawn *s;
    uint64_t value, check;
};

static void open_parcel(void *arg)
{
    struct parcel *p = arg;
    CHECK_EQ(p->value, ~p->check);
    ADD(p->s->count, p->value);
    tarn_waitgroup_done(&p->s->wg);
}

__attribute__((noinline)) static void send_parcel(struct spawn *s, uint64_t v)
{
    struct parcel *p = new_shared(sizeof *p);
    SET(p->s, s);
    p->value = v;
    p->check = ~v;
    go(open_parcel, p);
}

static void test_go_keeps_argument(void)
{
    struct spawn *s = new_shared(sizeof *s);
    uint64_t want = 0;
    for (int round = 0; round < 10; round++) {
        tarn_waitgroup_add(&s->wg, 200);
        for (uint64_t i = 0; i < 200; i++) {
            send_parcel(s, i);
            want += i;
        }
        CHECK_ST(tarn_gc(), TARN_OK);
        for (int i = 0; i < 2000; i++)
            memset(new_shared(sizeof(struct parcel)), 0xa5,
                   sizeof(struct parcel));
        tarn_waitgroup_wait(&s->wg);
    }
    CHECK_EQ(s->count, want);
}

/* Called through this, the compiler does not know that it never returns. */
static void (*volatile end_goroutine)(void) = tarn_goexit;

__attribute__((noinline)) static void exit_below(struct spawn *s, int depth)
{
    volatile char frame[100];
    frame[0] = (char)depth;
    if (depth > 0) {
        exit_below(s, depth - 1);
    } else {
        tarn_waitgroup_done(&s->wg);
        end_goroutine();
    }
    ADD(s->count, frame[0] >= 0);
}

static void exit_early(void *arg)
{
    exit_below(arg, 20);
    CHECK(!"goexit returned");
}

static void test_goexit(void)
{
    struct spawn *s = new_shared(sizeof *s);
    tarn_waitgroup_add(&s->wg, 500);
    for (int i = 0; i < 500; i++)
        go(exit_early, s);
    tarn_waitgroup_wait(&s->wg);
    wait_alone();
    CHECK_EQ(s->count, 0u);
}

struct counted_block {
    tarn_chan *c;
    tarn_waitgroup wg;
};

static void wait_for_close(void *arg)
{
    struct counted_block *b = arg;
    CHECK_ST(tarn_chan_recv(b->c, NULL), TARN_ECLOSED);
    tarn_waitgroup_done(&b->wg);
}

static void test_goroutine_count(void)
{
    struct counted_block *b = new_shared(sizeof *b);
    CHECK_EQ(tarn_goroutines(), 1u);
    SET(b->c, new_chan(0, 0));
    tarn_waitgroup_add(&b->wg, 300);
    for (uint64_t i = 0; i < 300; i++) {
        CHECK_EQ(tarn_goroutines(), i + 1);
        go(wait_for_close, b);
    }
    CHECK_EQ(tarn_goroutines(), 301u);
    CHECK_ST(tarn_chan_close(b->c), TARN_OK);
    tarn_waitgroup_wait(&b->wg);
    wait_alone();
}

/* --- yielding, preemption ------------------------------------------------ */

#define YIELDERS_MAX 600
struct yielding {
    tarn_waitgroup wg;
    uint64_t count[YIELDERS_MAX], next, turns;
    bool stop;
};

static void yielder(void *arg)
{
    struct yielding *y = arg;
    uint64_t me = ADD(y->next, 1) - 1;
    while (!LOAD(y->stop)) {
        if (ADD(y->count[me], 1) == y->turns)
            __atomic_store_n(&y->stop, true, __ATOMIC_RELEASE);
        tarn_yield();
    }
    tarn_waitgroup_done(&y->wg);
}

/* Whoever yields goes behind all others. On one P that makes turns exact, but
 * for preemptions and the start; on several some may end before others begin. */
static void yield_fairness(int yielders, uint64_t turns)
{
    struct yielding *y = new_shared(sizeof *y);
    y->turns = turns;
    tarn_waitgroup_add(&y->wg, yielders);
    for (int i = 0; i < yielders; i++)
        go(yielder, y);
    tarn_waitgroup_wait(&y->wg);
    /* On several, the system may keep the thread that has one of them from
     * running for all that time. */
    for (int i = 0; i < yielders && tarn_procs() == 1; i++)
        CHECK_GE(y->count[i], turns * 4 / 5);
}

/* Few enough for a P's own queue, and too many. */
static void test_yield_fairness(void)
{
    yield_fairness(10, 5000);
    yield_fairness(YIELDERS_MAX, 200);
}

struct handshake {
    tarn_waitgroup wg;
    uint64_t turn;
};

static void poll_turns(void *arg)
{
    struct handshake *h = arg;
    for (uint64_t i = 1; i < 20; i += 2) {
        while (LOAD(h->turn) != i)
            tarn_poll();
        ADD(h->turn, 1);
    }
    tarn_waitgroup_done(&h->wg);
}

/* Two goroutines that never yield, only poll: on one P each step needs a
 * preemption, on more another thread. */
static void test_poll_preempts(void)
{
    struct handshake *h = new_shared(sizeof *h);
    tarn_waitgroup_add(&h->wg, 1);
    go(poll_turns, h);
    for (uint64_t i = 0; i < 20; i += 2) {
        while (LOAD(h->turn) != i)
            tarn_poll();
        ADD(h->turn, 1);
    }
    tarn_waitgroup_wait(&h->wg);
    CHECK_EQ(h->turn, 20u);
}

static void hog_pair(void *arg)
{
    struct counted_block *b = arg;
    uint64_t v = 0;
    while (tarn_chan_send(b->c, &v) == TARN_OK)
        ;
    tarn_waitgroup_done(&b->wg);
}

static void hog_other(void *arg)
{
    struct counted_block *b = arg;
    uint64_t v;
    while (tarn_chan_recv(b->c, &v) == TARN_OK)
        ;
    tarn_waitgroup_done(&b->wg);
}

/* Pairs that ready each other all the time do not keep others from running. */
static void test_pingpong_hogs(void)
{
    struct counted_block *b = new_shared(sizeof *b);
    int pairs = (int)tarn_procs() + 1;
    SET(b->c, new_chan(8, 0));
    tarn_waitgroup_add(&b->wg, 2 * pairs);
    for (int i = 0; i < pairs; i++) {
        go(hog_pair, b);
        go(hog_other, b);
    }
    for (int i = 0; i < 20; i++)
        tarn_yield();
    CHECK_ST(tarn_chan_close(b->c), TARN_OK);
    tarn_waitgroup_wait(&b->wg);
}

/* --- lost wake-ups ------------------------------------------------------- */

/* Chains of goroutines that wait for each other in every way there is, over
 * and over, with pauses in which all threads go to sleep. One wake-up lost and
 * the test hangs. */
#define TORTURERS 24
struct torture {
    tarn_chan *to[TORTURERS];
    tarn_sema sema;
    tarn_mutex m;
    tarn_cond cond;
    tarn_waitgroup wg;
    uint64_t id, laps, generation, arrived;
};

static void torture_barrier(struct torture *t)
{
    tarn_mutex_lock(&t->m);
    uint64_t g = t->generation;
    if (++t->arrived == TORTURERS) {
        t->arrived = 0;
        t->generation++;
        tarn_cond_broadcast(&t->cond);
    }
    while (t->generation == g)
        tarn_cond_wait(&t->cond, &t->m);
    tarn_mutex_unlock(&t->m);
}

static void torturer(void *arg)
{
    struct torture *t = arg;
    uint64_t me = ADD(t->id, 1) - 1, rng = seed_for(me), v;
    tarn_chan *in = t->to[me], *out = t->to[(me + 1) % TORTURERS];
    for (uint64_t lap = 0; lap < t->laps; lap++) {
        /* A token round the ring; the first one starts it. */
        if (me == 0) {
            v = lap;
            CHECK_ST(tarn_chan_send(out, &v), TARN_OK);
        }
        CHECK_ST(tarn_chan_recv(in, &v), TARN_OK);
        CHECK_EQ(v, lap);
        if (me != 0)
            CHECK_ST(tarn_chan_send(out, &v), TARN_OK);
        if (harness_rand(&rng) % 8 == 0)
            tarn_sleep((int64_t)(harness_rand(&rng) % 50000));
        /* One in at a time. */
        tarn_sema_acquire(&t->sema);
        if (harness_rand(&rng) % 4 == 0)
            tarn_yield();
        tarn_sema_release(&t->sema);
        torture_barrier(t);
    }
    tarn_waitgroup_done(&t->wg);
}

static void test_wakeup_torture(void)
{
    struct torture *t = new_shared(sizeof *t);
    t->laps = 300;
    t->sema.count = 1;
    for (int i = 0; i < TORTURERS; i++)
        SET(t->to[i], new_chan(8, 0));
    tarn_waitgroup_add(&t->wg, TORTURERS);
    for (int i = 0; i < TORTURERS; i++)
        go(torturer, t);
    tarn_waitgroup_wait(&t->wg);
}

struct fan {
    tarn_chan *work, *results;
    tarn_waitgroup wg;
};

static void fan_worker(void *arg)
{
    struct fan *f = arg;
    uint64_t v;
    while (tarn_chan_recv(f->work, &v) == TARN_OK) {
        v = v * v;
        CHECK_ST(tarn_chan_send(f->results, &v), TARN_OK);
    }
    tarn_waitgroup_done(&f->wg);
}

/* Bursts of work for a crowd, then nothing, again and again. */
static void test_bursts(void)
{
    struct fan *f = new_shared(sizeof *f);
    SET(f->work, new_chan(8, 0));
    SET(f->results, new_chan(8, 8));
    tarn_waitgroup_add(&f->wg, 40);
    for (int i = 0; i < 40; i++)
        go(fan_worker, f);
    for (uint64_t burst = 0; burst < 300; burst++) {
        uint64_t n = 1 + burst % 7, sum = 0, want = 0, v;
        for (uint64_t i = 1; i <= n; i++) {
            v = i;
            CHECK_ST(tarn_chan_send(f->work, &v), TARN_OK);
            want += i * i;
        }
        for (uint64_t i = 1; i <= n; i++) {
            CHECK_ST(tarn_chan_recv(f->results, &v), TARN_OK);
            sum += v;
        }
        CHECK_EQ(sum, want);
        if (burst % 16 == 0)
            tarn_sleep(200000);
    }
    CHECK_ST(tarn_chan_close(f->work), TARN_OK);
    tarn_waitgroup_wait(&f->wg);
}

static void yield_storm_goroutine(void *arg)
{
    struct spawn *s = arg;
    for (int i = 0; i < SUITE_REPEAT(300); i++)
        tarn_yield();
    count_one(s);
}

static void test_yield_storm(void)
{
    struct spawn *s = new_shared(sizeof *s);
    tarn_waitgroup_add(&s->wg, 1000);
    for (int i = 0; i < 1000; i++)
        go(yield_storm_goroutine, s);
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(s->count, 1000u);
}

static void body(void)
{
    RUN(test_go_arguments);
    RUN(test_goroutine_count);
    RUN(test_go_sized_stacks);
    RUN(test_go_refused_stack);
    RUN(test_self_unique);
    RUN(test_spawn_100k);
    RUN(test_spawn_tree);
    RUN(test_go_keeps_argument);
    RUN(test_goexit);
    RUN(test_yield_fairness);
    RUN(test_poll_preempts);
    RUN(test_pingpong_hogs);
    RUN(test_wakeup_torture);
    RUN(test_bursts);
    RUN(test_yield_storm);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_off_goroutine);
    RUN(test_bad_options);
    RUN(test_main_again);
    RUN(test_deadlock);
    suite_run(body, 1);
    suite_run(body, 2);
    suite_run(body, 16);
    return harness_done();
}

/* Mutex, condition, wait group, semaphore: exclusion, no lost wake-ups, no
 * starvation, memory that goes away right after use, misuse. */
#include "suite.h"

static uint64_t seed_for(uint64_t i)
{
    return harness_seed * UINT64_C(0x9E3779B97F4A7C15) + i + 1;
}

/* --- mutex --------------------------------------------------------------- */

struct counting {
    tarn_mutex m;
    tarn_waitgroup wg;
    uint64_t count, inside, per_goroutine;
    int style;
};

static void count_up(void *arg)
{
    struct counting *c = arg;
    uint64_t rng = seed_for(tarn_self());
    for (uint64_t i = 0; i < c->per_goroutine; i++) {
        if (c->style == 1 && harness_rand(&rng) % 4 == 0) {
            while (!tarn_mutex_try_lock(&c->m))
                tarn_yield();
        } else {
            tarn_mutex_lock(&c->m);
        }
        /* Plain accesses: the mutex is all that orders them. */
        CHECK_EQ(c->inside, 0u);
        c->inside = 1;
        uint64_t n = c->count;
        if (c->style == 2 && harness_rand(&rng) % 16 == 0)
            tarn_yield();
        c->count = n + 1;
        c->inside = 0;
        tarn_mutex_unlock(&c->m);
    }
    tarn_waitgroup_done(&c->wg);
}

static void test_mutex_counter(void)
{
    enum { N = 12 };
    for (int style = 0; style < 3; style++) {
        struct counting *c = new_shared(sizeof *c);
        c->per_goroutine = style == 2 ? 500 : 5000;
        c->style = style;
        tarn_waitgroup_add(&c->wg, N);
        for (int i = 0; i < N; i++)
            go(count_up, c);
        tarn_waitgroup_wait(&c->wg);
        CHECK_EQ(c->count, N * c->per_goroutine);
    }
}

static void test_mutex_try(void)
{
    tarn_mutex *m = new_shared(sizeof *m);
    CHECK(tarn_mutex_try_lock(m));
    CHECK(!tarn_mutex_try_lock(m));
    tarn_mutex_unlock(m);
    tarn_mutex_lock(m);
    CHECK(!tarn_mutex_try_lock(m));
    tarn_mutex_unlock(m);
    CHECK(tarn_mutex_try_lock(m));
    tarn_mutex_unlock(m);
}

struct starving {
    tarn_mutex m;
    tarn_waitgroup wg;
    bool stop;
    uint64_t hogged, got;
};

static void hog(void *arg)
{
    struct starving *s = arg;
    while (!LOAD(s->stop)) {
        tarn_mutex_lock(&s->m);
        ADD(s->hogged, 1);
        int64_t until = tarn_now() + 20000;
        while (tarn_now() < until)
            tarn_poll();
        tarn_mutex_unlock(&s->m);
    }
    tarn_waitgroup_done(&s->wg);
}

static void meek(void *arg)
{
    struct starving *s = arg;
    for (int i = 0; i < 30; i++) {
        tarn_mutex_lock(&s->m);
        ADD(s->got, 1);
        tarn_mutex_unlock(&s->m);
        tarn_yield();
    }
    tarn_waitgroup_done(&s->wg);
}

/* The hog always holds the mutex but for an instant: without hand-off the meek
 * ones would wait for ever, and this test with them. */
static void test_mutex_no_starvation(void)
{
    struct starving *s = new_shared(sizeof *s);
    tarn_waitgroup_add(&s->wg, 5);
    go(hog, s);
    go(hog, s);
    for (int i = 0; i < 3; i++)
        go(meek, s);
    while (LOAD(s->got) < 90)
        tarn_sleep(1000000);
    __atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(s->got, 90u);
}

/* The last user of a reference-counted object unlocks its mutex, then frees
 * it: unlock must be done with it by then. */
struct counted {
    tarn_mutex m;
    int refs;
    uint64_t poison;
};

struct counted_arg {
    struct counted *obj; /* malloc'ed */
    tarn_waitgroup *wg;
};

static void drop_ref(void *arg)
{
    struct counted_arg *a = arg;
    struct counted *o = a->obj;
    tarn_mutex_lock(&o->m);
    bool last = --o->refs == 0;
    tarn_mutex_unlock(&o->m);
    if (last) {
        memset(o, 0xff, sizeof *o);
        free(o);
    }
    tarn_waitgroup_done(a->wg);
}

static void test_mutex_freed_by_last(void)
{
    for (int round = 0; round < 500; round++) {
        struct counted_arg *a = new_shared(sizeof *a);
        SET(a->wg, new_shared(sizeof *a->wg));
        a->obj = calloc(1, sizeof *a->obj);
        CHECK(a->obj != NULL);
        a->obj->refs = 6;
        tarn_waitgroup_add(a->wg, 6);
        for (int i = 0; i < 6; i++)
            go(drop_ref, a);
        tarn_waitgroup_wait(a->wg);
    }
}

/* --- condition ----------------------------------------------------------- */

/* A bounded buffer with two conditions, each signalled once for one change. */
struct buffer {
    tarn_mutex m;
    tarn_cond not_empty, not_full;
    tarn_waitgroup wg;
    uint64_t items[4];
    unsigned n, first;
    uint64_t produced, consumed, sum_in, sum_out;
};
enum { BUFFER_ITEMS = 20000, BUFFER_USERS = 5 };

static void buffer_producer(void *arg)
{
    struct buffer *b = arg;
    tarn_mutex_lock(&b->m);
    for (;;) {
        while (b->n == 4 && b->produced < BUFFER_ITEMS)
            tarn_cond_wait(&b->not_full, &b->m);
        if (b->produced == BUFFER_ITEMS)
            break;
        uint64_t v = b->produced++;
        b->sum_in += v;
        b->items[(b->first + b->n++) % 4] = v;
        tarn_cond_signal(&b->not_empty);
    }
    tarn_mutex_unlock(&b->m);
    /* The others that wait for room learn that there is nothing to do. */
    tarn_cond_signal(&b->not_full);
    tarn_waitgroup_done(&b->wg);
}

static void buffer_consumer(void *arg)
{
    struct buffer *b = arg;
    for (;;) {
        tarn_mutex_lock(&b->m);
        while (b->n == 0 && b->consumed < BUFFER_ITEMS)
            tarn_cond_wait(&b->not_empty, &b->m);
        if (b->n == 0) {
            tarn_mutex_unlock(&b->m);
            break;
        }
        uint64_t v = b->items[b->first];
        b->first = (b->first + 1) % 4;
        b->n--;
        CHECK_EQ(v, b->consumed); /* a queue */
        b->consumed++;
        b->sum_out += v;
        bool end = b->consumed == BUFFER_ITEMS;
        tarn_mutex_unlock(&b->m);
        tarn_cond_signal(&b->not_full);
        if (end)
            tarn_cond_broadcast(&b->not_empty);
    }
    tarn_waitgroup_done(&b->wg);
}

static void test_cond_buffer(void)
{
    struct buffer *b = new_shared(sizeof *b);
    tarn_waitgroup_add(&b->wg, 2 * BUFFER_USERS);
    for (int i = 0; i < BUFFER_USERS; i++) {
        go(buffer_producer, b);
        go(buffer_consumer, b);
    }
    tarn_waitgroup_wait(&b->wg);
    CHECK_EQ(b->consumed, (uint64_t)BUFFER_ITEMS);
    CHECK_EQ(b->sum_in, b->sum_out);
}

/* Each wait ends by one signal: with no spurious wake-ups a waiter may go
 * without a predicate. */
struct signals {
    tarn_mutex m;
    tarn_cond c;
    tarn_waitgroup wg;
    uint64_t waiting, woken, signalled;
};

static void signal_waiter(void *arg)
{
    struct signals *s = arg;
    for (int i = 0; i < 500; i++) {
        tarn_mutex_lock(&s->m);
        s->waiting++;
        tarn_cond_wait(&s->c, &s->m);
        s->woken++;
        CHECK_LE(s->woken, s->signalled);
        tarn_mutex_unlock(&s->m);
    }
    tarn_waitgroup_done(&s->wg);
}

static void test_cond_no_spurious(void)
{
    struct signals *s = new_shared(sizeof *s);
    tarn_waitgroup_add(&s->wg, 8);
    for (int i = 0; i < 8; i++)
        go(signal_waiter, s);
    while (s->signalled < 8 * 500) {
        tarn_mutex_lock(&s->m);
        bool someone = s->waiting > 0;
        if (someone) {
            s->waiting--;
            s->signalled++;
            tarn_cond_signal(&s->c);
        }
        tarn_mutex_unlock(&s->m);
        if (!someone)
            tarn_yield();
    }
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(s->woken, 8u * 500);
    CHECK_EQ(s->waiting, 0u);
}

/* A barrier by broadcast: nobody enters a phase before all have left the one
 * before. */
struct phases {
    tarn_mutex m;
    tarn_cond c;
    tarn_waitgroup wg;
    uint64_t arrived, phase, in_phase[2];
};
enum { PHASERS = 20, PHASES = 200 };

static void phaser(void *arg)
{
    struct phases *p = arg;
    for (uint64_t i = 0; i < PHASES; i++) {
        tarn_mutex_lock(&p->m);
        CHECK_EQ(p->phase, i);
        if (++p->arrived == PHASERS) {
            p->arrived = 0;
            p->phase++;
            tarn_cond_broadcast(&p->c);
        } else {
            while (p->phase == i)
                tarn_cond_wait(&p->c, &p->m);
        }
        tarn_mutex_unlock(&p->m);
    }
    tarn_waitgroup_done(&p->wg);
}

static void test_cond_barrier(void)
{
    struct phases *p = new_shared(sizeof *p);
    tarn_waitgroup_add(&p->wg, PHASERS);
    for (int i = 0; i < PHASERS; i++)
        go(phaser, p);
    tarn_waitgroup_wait(&p->wg);
    CHECK_EQ(p->phase, (uint64_t)PHASES);
}

static void test_cond_nobody_waits(void)
{
    tarn_cond *c = new_shared(sizeof *c);
    tarn_cond_signal(c);
    tarn_cond_broadcast(c);
}

/* --- wait group ---------------------------------------------------------- */

struct rounds {
    tarn_waitgroup work, waiters;
    uint64_t done, want;
};

static void worker(void *arg)
{
    struct rounds *r = arg;
    ADD(r->done, 1);
    tarn_waitgroup_done(&r->work);
}

static void round_waiter(void *arg)
{
    struct rounds *r = arg;
    tarn_waitgroup_wait(&r->work);
    CHECK_GE(LOAD(r->done), r->want);
    tarn_waitgroup_done(&r->waiters);
}

static void test_waitgroup_rounds(void)
{
    struct rounds *r = new_shared(sizeof *r);
    tarn_waitgroup_wait(&r->work); /* zero: no wait */
    for (int i = 0; i < 500; i++) {
        r->want += 5;
        tarn_waitgroup_add(&r->work, 5);
        tarn_waitgroup_add(&r->waiters, 3);
        for (int k = 0; k < 3; k++)
            go(round_waiter, r);
        for (int k = 0; k < 5; k++)
            go(worker, r);
        tarn_waitgroup_wait(&r->work);
        CHECK_EQ(LOAD(r->done), r->want);
        tarn_waitgroup_wait(&r->waiters);
    }
}

struct freed_group {
    tarn_waitgroup *wg; /* malloc'ed */
};

static void finish_group(void *arg)
{
    struct freed_group *f = arg;
    tarn_waitgroup_done(f->wg);
}

/* The memory goes away as soon as wait returns. */
static void test_waitgroup_freed_after_wait(void)
{
    for (int i = 0; i < 2000; i++) {
        struct freed_group *f = new_shared(sizeof *f);
        f->wg = calloc(1, sizeof *f->wg);
        CHECK(f->wg != NULL);
        tarn_waitgroup_add(f->wg, 3);
        for (int k = 0; k < 3; k++)
            go(finish_group, f);
        if (i % 2)
            tarn_yield();
        tarn_waitgroup_wait(f->wg);
        memset(f->wg, 0xff, sizeof *f->wg);
        free(f->wg);
    }
}

/* --- semaphore ----------------------------------------------------------- */

struct limited {
    tarn_sema s;
    tarn_waitgroup wg;
    int64_t inside, limit;
    uint64_t entries;
};

static void enter_limited(void *arg)
{
    struct limited *l = arg;
    uint64_t rng = seed_for(tarn_self());
    for (int i = 0; i < 1000; i++) {
        if (harness_rand(&rng) % 4 != 0 || !tarn_sema_try_acquire(&l->s))
            tarn_sema_acquire(&l->s);
        CHECK_LE(ADD(l->inside, 1), l->limit);
        if (harness_rand(&rng) % 4 == 0)
            tarn_yield();
        ADD(l->entries, 1);
        ADD(l->inside, -1);
        tarn_sema_release(&l->s);
    }
    tarn_waitgroup_done(&l->wg);
}

static void test_sema_limit(void)
{
    for (int64_t limit = 1; limit <= 5; limit += 2) {
        struct limited *l = new_shared(sizeof *l);
        l->s.count = l->limit = limit;
        tarn_waitgroup_add(&l->wg, 10);
        for (int i = 0; i < 10; i++)
            go(enter_limited, l);
        tarn_waitgroup_wait(&l->wg);
        CHECK_EQ(l->entries, 10000u);
        CHECK_EQ(l->s.count, limit);
        for (int64_t i = 0; i < limit; i++)
            CHECK(tarn_sema_try_acquire(&l->s));
        CHECK(!tarn_sema_try_acquire(&l->s));
    }
}

/* Everybody arrives, nobody leaves before. */
struct gate {
    tarn_sema arrived, go;
    tarn_waitgroup wg;
    uint64_t before;
};

static void pass_gate(void *arg)
{
    struct gate *g = arg;
    ADD(g->before, 1);
    tarn_sema_release(&g->arrived);
    tarn_sema_acquire(&g->go);
    CHECK_EQ(LOAD(g->before), 300u);
    tarn_waitgroup_done(&g->wg);
}

static void test_sema_barrier(void)
{
    struct gate *g = new_shared(sizeof *g);
    tarn_waitgroup_add(&g->wg, 300);
    for (int i = 0; i < 300; i++)
        go(pass_gate, g);
    for (int i = 0; i < 300; i++)
        tarn_sema_acquire(&g->arrived);
    for (int i = 0; i < 300; i++)
        tarn_sema_release(&g->go);
    tarn_waitgroup_wait(&g->wg);
    CHECK_EQ(g->go.count, 0);
}

struct queueing {
    tarn_sema s;
    tarn_waitgroup wg;
    uint64_t next, served;
};

static void queue_up(void *arg)
{
    struct queueing *q = arg;
    uint64_t me = q->next++;
    tarn_sema_acquire(&q->s);
    CHECK_EQ(q->served, me);
    q->served++;
    tarn_waitgroup_done(&q->wg);
    tarn_sema_release(&q->s);
}

/* On one P nothing runs between taking a number and queueing. */
static void test_sema_fifo(void)
{
    if (tarn_procs() != 1)
        SKIP("the order of arrival is known on one P only");
    struct queueing *q = new_shared(sizeof *q);
    tarn_waitgroup_add(&q->wg, 200);
    for (int i = 0; i < 200; i++)
        go(queue_up, q);
    while (q->next < 200)
        tarn_yield();
    tarn_sema_release(&q->s);
    tarn_waitgroup_wait(&q->wg);
    CHECK_EQ(q->served, 200u);
}

/* --- misuse -------------------------------------------------------------- */

static tarn_mutex static_mutex;
static tarn_cond static_cond;
static tarn_waitgroup static_group;
static tarn_sema static_sema;

static void bad_unlock(void *arg)
{
    (void)arg;
    tarn_mutex_unlock(&static_mutex);
}

static void bad_second_unlock(void *arg)
{
    (void)arg;
    tarn_mutex_lock(&static_mutex);
    tarn_mutex_unlock(&static_mutex);
    tarn_mutex_unlock(&static_mutex);
}

static void bad_cond_wait(void *arg)
{
    (void)arg;
    tarn_cond_wait(&static_cond, &static_mutex);
}

static void bad_done(void *arg)
{
    (void)arg;
    tarn_waitgroup_done(&static_group);
}

static void bad_add(void *arg)
{
    (void)arg;
    tarn_waitgroup_add(&static_group, 2);
    tarn_waitgroup_add(&static_group, -3);
}

static void bad_overflow(void *arg)
{
    (void)arg;
    tarn_waitgroup_add(&static_group, INT64_MAX);
    tarn_waitgroup_add(&static_group, 1);
}

static void bad_release(void *arg)
{
    (void)arg;
    static_sema.count = INT64_MAX;
    tarn_sema_release(&static_sema);
}

static void lock_twice(void *arg)
{
    (void)arg;
    tarn_mutex_lock(&static_mutex);
    tarn_mutex_lock(&static_mutex);
}

static void test_misuse(void)
{
    CHECK_FATAL(bad_unlock, "tarn_mutex_unlock: mutex is not locked");
    CHECK_FATAL(bad_second_unlock, "tarn_mutex_unlock: mutex is not locked");
    CHECK_FATAL(bad_cond_wait, "tarn_cond_wait: mutex is not locked");
    CHECK_FATAL(bad_done, "tarn_waitgroup_done: negative count");
    CHECK_FATAL(bad_add, "tarn_waitgroup_add: negative count");
    CHECK_FATAL(bad_overflow, "tarn_waitgroup_add: the count overflows");
    CHECK_FATAL(bad_release, "tarn_sema_release: the count overflows");
    CHECK_FATAL(lock_twice, "deadlock");
    CHECK_FATAL(lock_twice, "mutex lock");
}

static void foreign_lock(void)
{
    tarn_mutex_lock(&static_mutex);
}

static void foreign_acquire(void)
{
    tarn_sema_acquire(&static_sema);
}

static void test_off_goroutine(void)
{
    static char out[4096];
    int st = harness_child(foreign_lock, NULL, out, sizeof out);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 2);
    CHECK_STR(out, "tarn_mutex_lock: not on a goroutine");
    st = harness_child(foreign_acquire, NULL, out, sizeof out);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 2);
    CHECK_STR(out, "tarn_sema_acquire: not on a goroutine");
}

static void body(void)
{
    RUN(test_mutex_try);
    RUN(test_mutex_counter);
    RUN(test_mutex_no_starvation);
    RUN(test_mutex_freed_by_last);
    RUN(test_cond_nobody_waits);
    RUN(test_cond_buffer);
    RUN(test_cond_no_spurious);
    RUN(test_cond_barrier);
    RUN(test_waitgroup_rounds);
    RUN(test_waitgroup_freed_after_wait);
    RUN(test_sema_limit);
    RUN(test_sema_barrier);
    RUN(test_sema_fifo);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_off_goroutine);
    RUN(test_misuse);
    suite_run(body, 1);
    suite_run(body, 4);
    suite_run(body, 16);
    return harness_done();
}

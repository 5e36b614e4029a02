/* Select: semantics, fairness, both ends of one channel, thousands of cases,
 * conservation of tokens under stress. */
#include "base/fail.h"
#include "suite.h"

static uint64_t seed_for(uint64_t i)
{
    return harness_seed * UINT64_C(0x9E3779B97F4A7C15) + i + 1;
}

static struct tarn_select_case recv_case(tarn_chan *c, void *to)
{
    return (struct tarn_select_case){c, TARN_SELECT_RECV, to, TARN_EAGAIN};
}

static struct tarn_select_case send_case(tarn_chan *c, void *from)
{
    return (struct tarn_select_case){c, TARN_SELECT_SEND, from, TARN_EAGAIN};
}

/* --- semantics ----------------------------------------------------------- */

static void test_off_goroutine(void)
{
    CHECK_EQ(tarn_select(NULL, 0, true), -2);
    CHECK(tarn_last_error()[0] != '\0');
}

static void test_bad_input(void)
{
    uint64_t v = 0;
    tarn_chan *c = new_chan(8, 1);
    struct tarn_select_case cas = recv_case(c, &v);
    CHECK_EQ(tarn_select(NULL, 1, true), -2);
    CHECK_EQ(tarn_select(&cas, 65536, true), -2);
    CHECK_EQ(tarn_select(&cas, SIZE_MAX, true), -2);
    cas.op = (enum tarn_select_op)7;
    CHECK_EQ(tarn_select(&cas, 1, true), -2);
    struct tarn_select_case two[2] = {send_case(c, &v), send_case(c, NULL)};
    CHECK_EQ(tarn_select(two, 2, true), -2);
    CHECK_STR(tarn_last_error(), "case 1");
    CHECK_EQ(tarn_chan_len(c), 0u); /* nothing was done */
}

static void test_default(void)
{
    uint64_t v = 5;
    tarn_chan *empty = new_chan(8, 1), *full = new_chan(8, 1);
    CHECK_ST(tarn_chan_send(full, &v), TARN_OK);
    CHECK_EQ(tarn_select(NULL, 0, true), -1);
    struct tarn_select_case none[3] = {recv_case(NULL, &v), send_case(NULL, &v),
                                       recv_case(NULL, NULL)};
    CHECK_EQ(tarn_select(none, 3, true), -1);
    struct tarn_select_case wait[3] = {
        recv_case(empty, &v), send_case(full, &v), recv_case(NULL, &v)};
    CHECK_EQ(tarn_select(wait, 3, true), -1);
    CHECK_EQ(tarn_select(wait, 1, true), -1);
    CHECK_EQ(tarn_select(wait + 1, 1, true), -1);
    CHECK_EQ(v, 5u);
    CHECK_EQ(tarn_chan_len(empty), 0u);
    CHECK_EQ(tarn_chan_len(full), 1u);
}

static void test_ready_case(void)
{
    for (int n = 1; n < 20; n++) {
        for (int hit = 0; hit < n; hit++) {
            struct tarn_select_case cas[20];
            uint64_t got[20];
            tarn_chan *full = NULL;
            for (int i = 0; i < n; i++) {
                tarn_chan *c = new_chan(8, 1);
                got[i] = 1;
                cas[i] = recv_case(i % 4 == 3 && i != hit ? NULL : c, &got[i]);
                if (i == hit)
                    full = c;
            }
            uint64_t v = 1000 + (uint64_t)hit;
            CHECK_ST(tarn_chan_send(full, &v), TARN_OK);
            CHECK_EQ(tarn_select(cas, (size_t)n, hit % 2), hit);
            CHECK_ST(cas[hit].status, TARN_OK);
            for (int i = 0; i < n; i++) {
                CHECK_EQ(got[i], i == hit ? v : 1);
                if (i != hit)
                    CHECK_ST(cas[i].status, TARN_EAGAIN);
            }
            CHECK_EQ(tarn_chan_len(full), 0u);
        }
    }
}

static void test_send_ready(void)
{
    uint64_t a = 11, b = 22, v;
    tarn_chan *full = new_chan(8, 1), *room = new_chan(8, 1);
    CHECK_ST(tarn_chan_send(full, &a), TARN_OK);
    struct tarn_select_case cas[2] = {send_case(full, &a), send_case(room, &b)};
    CHECK_EQ(tarn_select(cas, 2, false), 1);
    CHECK_ST(cas[1].status, TARN_OK);
    CHECK_ST(tarn_chan_recv(room, &v), TARN_OK);
    CHECK_EQ(v, 22u);
}

static void test_closed(void)
{
    uint64_t v = 5, w = 6;
    tarn_chan *closed = new_chan(8, 1), *open = new_chan(8, 0);
    CHECK_ST(tarn_chan_close(closed), TARN_OK);
    struct tarn_select_case cas[2] = {recv_case(open, &w),
                                      recv_case(closed, &v)};
    CHECK_EQ(tarn_select(cas, 2, false), 1);
    CHECK_ST(cas[1].status, TARN_ECLOSED);
    CHECK_EQ(v, 0u);
    CHECK_EQ(w, 6u);
    v = 5;
    struct tarn_select_case snd[2] = {send_case(open, &w),
                                      send_case(closed, &v)};
    CHECK_EQ(tarn_select(snd, 2, true), 1);
    CHECK_ST(snd[1].status, TARN_ECLOSED);
    CHECK_EQ(v, 5u);
}

struct waiter {
    tarn_chan *a, *b, *done;
    uint64_t started;
    int op;
};

static void select_waiter(void *arg)
{
    struct waiter *w = arg;
    uint64_t x = 1, y = 2;
    struct tarn_select_case cas[3] = {
        w->op ? send_case(w->a, &x) : recv_case(w->a, &x),
        recv_case(NULL, NULL),
        w->op ? send_case(w->b, &y) : recv_case(w->b, &y),
    };
    ADD(w->started, 1);
    int i = tarn_select(cas, 3, false);
    CHECK_ST(cas[i].status, TARN_ECLOSED);
    CHECK_EQ(x, w->op || i != 0 ? 1u : 0u);
    CHECK_EQ(y, w->op || i != 2 ? 2u : 0u);
    CHECK_ST(tarn_chan_send(w->done, &i), TARN_OK);
}

static void test_close_wakes(void)
{
    for (int which = 0; which < 4; which++) {
        struct waiter *w = new_shared(sizeof *w);
        SET(w->a, new_chan(8, 0));
        SET(w->b, new_chan(8, 0));
        SET(w->done, new_chan(sizeof(int), 100));
        w->op = which / 2;
        for (int i = 0; i < 100; i++)
            go(select_waiter, w);
        while (LOAD(w->started) < 100)
            tarn_yield();
        CHECK_ST(tarn_chan_close(which % 2 ? w->b : w->a), TARN_OK);
        for (int i = 0; i < 100; i++) {
            int index;
            CHECK_ST(tarn_chan_recv(w->done, &index), TARN_OK);
            CHECK_EQ(index, which % 2 ? 2 : 0);
        }
        /* Nobody was left behind in the other channel's queue. */
        uint64_t v;
        tarn_chan *other = which % 2 ? w->a : w->b;
        CHECK_ST(tarn_chan_try_recv(other, &v), TARN_EAGAIN);
        CHECK_ST(tarn_chan_try_send(other, &v), TARN_EAGAIN);
    }
}

/* --- fairness ------------------------------------------------------------ */

/* Each of k ready cases is taken n/k times, within seven standard deviations:
 * a right select fails this once in 10^11 runs. */
static void test_fairness(void)
{
    static const int ks[] = {2, 3, 8, 9, 20};
    for (size_t t = 0; t < sizeof ks / sizeof ks[0]; t++) {
        int k = ks[t], n = 3000 * k;
        struct tarn_select_case cas[40];
        int count[40] = {0};
        tarn_chan *closed = new_chan(8, 0), *idle = new_chan(8, 0);
        CHECK_ST(tarn_chan_close(closed), TARN_OK);
        for (int i = 0; i < 2 * k; i++) {
            tarn_chan *c = idle;
            if (i % 2 == 0)
                c = i % 4 == 0 ? closed : new_chan(8, 0);
            if (i % 4 == 2)
                CHECK_ST(tarn_chan_close(c), TARN_OK);
            cas[i] = recv_case(c, NULL);
        }
        for (int i = 0; i < n; i++)
            count[tarn_select(cas, (size_t)(2 * k), false)]++;
        for (int i = 0; i < k; i++) {
            long d = count[2 * i] - 3000;
            CHECK_EQ(count[2 * i + 1], 0);
            CHECK_LT(d * d, 49L * 3000);
        }
    }
}

/* --- both ends of one channel -------------------------------------------- */

struct self {
    tarn_chan *c;
    tarn_waitgroup wg;
    uint64_t id, sent, received;
    bool buffered;
};

static void self_selector(void *arg)
{
    struct self *s = arg;
    uint64_t me = ADD(s->id, 1), sent = 0, received = 0;
    for (int i = 0; i < 2000; i++) {
        uint64_t in = 99, out = me;
        struct tarn_select_case cas[2] = {send_case(s->c, &out),
                                          recv_case(s->c, &in)};
        if ((me + (uint64_t)i) % 2 == 0) {
            struct tarn_select_case t = cas[0];
            cas[0] = cas[1];
            cas[1] = t;
        }
        int k = tarn_select(cas, 2, false);
        CHECK_ST(cas[k].status, TARN_OK);
        if (cas[k].op == TARN_SELECT_SEND) {
            sent++;
        } else {
            received++;
            if (!s->buffered)
                CHECK_EQ(in, 3 - me); /* never one's own */
        }
    }
    ADD(s->sent, sent);
    ADD(s->received, received);
    tarn_waitgroup_done(&s->wg);
}

static void test_self_select(void)
{
    for (size_t cap = 0; cap <= 10; cap += 10) {
        struct self *s = new_shared(sizeof *s);
        SET(s->c, new_chan(8, cap));
        s->buffered = cap > 0;
        tarn_waitgroup_add(&s->wg, 2);
        go(self_selector, s);
        go(self_selector, s);
        tarn_waitgroup_wait(&s->wg);
        CHECK_EQ(s->sent, s->received + tarn_chan_len(s->c));
        CHECK_EQ(s->sent + s->received, 4000u);
    }
}

/* --- many cases ---------------------------------------------------------- */

static void test_many_ready(void)
{
    enum { N = 65535 };
    struct tarn_select_case *cas = new_shared(N * sizeof *cas);
    uint64_t rng = seed_for(1), v;
    for (int i = 0; i < N; i++) {
        cas[i].op = TARN_SELECT_RECV;
        SET(cas[i].chan, new_chan(8, 1));
    }
    for (int i = 0; i < 5; i++) {
        int hit = (int)(harness_rand(&rng) % N);
        v = (uint64_t)hit;
        CHECK_EQ(tarn_select(cas, N, true), -1);
        CHECK_ST(tarn_chan_send(cas[hit].chan, &v), TARN_OK);
        CHECK_EQ(tarn_select(cas, N, false), hit);
        CHECK_ST(cas[hit].status, TARN_OK);
        CHECK_EQ(tarn_chan_len(cas[hit].chan), 0u);
    }
    /* One channel in every case. */
    tarn_chan *c = new_chan(8, 1);
    for (int i = 0; i < N; i++)
        SET(cas[i].chan, c);
    CHECK_EQ(tarn_select(cas, N, true), -1);
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
    CHECK_GE(tarn_select(cas, N, false), 0);
    CHECK_EQ(tarn_chan_len(c), 0u);
}

static void select_without_memory(void *arg)
{
    (void)arg;
    struct tarn_select_case cas[100];
    tarn_chan *c = new_chan(8, 1);
    uint64_t v = 1;
    for (int i = 0; i < 100; i++)
        cas[i] = recv_case(c, &v);
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
    fail_inject(FAIL_MALLOC, 0, 1);
    int k = tarn_select(cas, 100, false);
    fail_reset();
    CHECK_EQ(k, -2);
    CHECK_STR(tarn_last_error(), "memory");
    CHECK_EQ(tarn_chan_len(c), 1u);
    CHECK_GE(tarn_select(cas, 100, false), 0);
    CHECK_EQ(tarn_chan_len(c), 0u);
    printf("went on\n");
}

/* Without options from outside: the collector, too, needs memory. */
static void select_without_memory_child(void)
{
    unsetenv("TARN");
    suite_child_fn = select_without_memory;
    suite_child_main();
}

static void test_no_memory(void)
{
    static char out[65536];
    int st = harness_child(select_without_memory_child, NULL, out, sizeof out);
    CHECK_STR(out, "went on");
    CHECK(WIFEXITED(st));
}

#define MANY 3000
struct many {
    tarn_chan *chans[MANY];
    tarn_chan *got;
    uint64_t started;
    int rounds;
};

static void many_waiter(void *arg)
{
    struct many *m = arg;
    struct tarn_select_case *cas = new_shared(2 * MANY * sizeof *cas);
    uint64_t *to = new_shared(MANY * sizeof *to);
    for (int i = 0; i < 2 * MANY; i++) { /* each channel twice */
        cas[i].op = TARN_SELECT_RECV;
        SET(cas[i].chan, m->chans[(i * 7) % MANY]);
        SET(cas[i].elem, &to[(i * 7) % MANY]);
    }
    for (int r = 0; r < m->rounds; r++) {
        ADD(m->started, 1);
        int k = tarn_select(cas, 2 * MANY, false);
        CHECK_ST(cas[k].status, TARN_OK);
        int chan = (k * 7) % MANY;
        CHECK_EQ(to[chan], (uint64_t)chan + 1);
        to[chan] = 0;
        CHECK_ST(tarn_chan_send(m->got, &chan), TARN_OK);
    }
}

static void test_many_blocked(void)
{
    struct many *m = new_shared(sizeof *m);
    uint64_t rng = seed_for(2);
    m->rounds = 20;
    for (int i = 0; i < MANY; i++)
        SET(m->chans[i], new_chan(8, 0));
    SET(m->got, new_chan(sizeof(int), 0));
    go(many_waiter, m);
    go(many_waiter, m);
    for (int r = 0; r < 2 * m->rounds; r++) {
        int hit = (int)(harness_rand(&rng) % MANY), chan;
        uint64_t v = (uint64_t)hit + 1;
        CHECK_ST(tarn_chan_send(m->chans[hit], &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(m->got, &chan), TARN_OK);
        CHECK_EQ(chan, hit);
    }
}

/* --- stress -------------------------------------------------------------- */

/* Four channels; on each, as many elements are sent as received, numbered in
 * order by their one sender; every goroutine selects over all that it still has
 * to do. */
enum { STRESS_CHANS = 4, STRESS_N = 5000 };
struct stress {
    tarn_chan *c[STRESS_CHANS];
    tarn_waitgroup wg;
};

static void stress_plain_send(void *arg)
{
    struct stress *s = arg;
    for (uint64_t i = 0; i < STRESS_N; i++)
        CHECK_ST(tarn_chan_send(s->c[0], &i), TARN_OK);
    tarn_waitgroup_done(&s->wg);
}

static void stress_plain_recv(void *arg)
{
    struct stress *s = arg;
    uint64_t v;
    for (uint64_t i = 0; i < STRESS_N; i++) {
        CHECK_ST(tarn_chan_recv(s->c[0], &v), TARN_OK);
        CHECK_EQ(v, i);
    }
    tarn_waitgroup_done(&s->wg);
}

static void stress_select_all(struct stress *s, enum tarn_select_op op,
                              int first)
{
    uint64_t done[STRESS_CHANS] = {0}, buf[STRESS_CHANS];
    int left = STRESS_CHANS - first;
    while (left > 0) {
        struct tarn_select_case cas[STRESS_CHANS];
        for (int i = 0; i < STRESS_CHANS; i++) {
            bool on = i >= first && done[i] < STRESS_N;
            buf[i] = op == TARN_SELECT_SEND ? done[i] : UINT64_MAX;
            cas[i] = (struct tarn_select_case){on ? s->c[i] : NULL, op, &buf[i],
                                               TARN_EAGAIN};
        }
        int k = tarn_select(cas, STRESS_CHANS, false);
        CHECK_GE(k, first);
        CHECK_ST(cas[k].status, TARN_OK);
        CHECK_EQ(buf[k], done[k]);
        for (int i = 0; op == TARN_SELECT_RECV && i < STRESS_CHANS; i++)
            CHECK(i == k || buf[i] == UINT64_MAX);
        if (++done[k] == STRESS_N)
            left--;
    }
}

static void stress_send(void *arg)
{
    struct stress *s = arg;
    stress_select_all(s, TARN_SELECT_SEND, 1);
    tarn_waitgroup_done(&s->wg);
}

static void stress_recv(void *arg)
{
    struct stress *s = arg;
    stress_select_all(s, TARN_SELECT_RECV, 1);
    tarn_waitgroup_done(&s->wg);
}

static void test_stress(void)
{
    struct stress *s = new_shared(sizeof *s);
    for (int i = 0; i < STRESS_CHANS; i++)
        SET(s->c[i], new_chan(8, i % 2 ? 0 : 3));
    tarn_waitgroup_add(&s->wg, 4);
    go(stress_plain_send, s);
    go(stress_plain_recv, s);
    go(stress_send, s);
    go(stress_recv, s);
    tarn_waitgroup_wait(&s->wg);
}

/* Tokens wander: each goroutine takes one from any channel of a random set and
 * puts it into any channel that has room. None is lost, none is doubled. */
enum { TOKENS = 64, TOKEN_CHANS = 12, MOVERS = 8 };
struct tokens {
    tarn_chan *c[TOKEN_CHANS];
    tarn_waitgroup wg;
};

static void mover(void *arg)
{
    struct tokens *t = arg;
    uint64_t rng = seed_for(1000 + tarn_self());
    for (int i = 0; i < 3000; i++) {
        struct tarn_select_case cas[TOKEN_CHANS * 2];
        uint64_t token = 0;
        size_t n = 1 + harness_rand(&rng) % (TOKEN_CHANS * 2);
        for (size_t k = 0; k < n; k++)
            cas[k] = recv_case(t->c[harness_rand(&rng) % TOKEN_CHANS], &token);
        /* Never waits for ever: somebody holds or has put away each token,
         * but perhaps not into this set. */
        int k = tarn_select(cas, n, true);
        if (k < 0) {
            tarn_yield();
            continue;
        }
        CHECK_ST(cas[k].status, TARN_OK);
        CHECK_GT(token, 0u);
        CHECK_LE(token, (uint64_t)TOKENS);
        for (k = 0; k < TOKEN_CHANS; k++)
            cas[k] = send_case(t->c[k], &token);
        k = tarn_select(cas, TOKEN_CHANS, false);
        CHECK_ST(cas[k].status, TARN_OK);
    }
    tarn_waitgroup_done(&t->wg);
}

static void test_tokens(void)
{
    struct tokens *t = new_shared(sizeof *t);
    bool seen[TOKENS + 1] = {false};
    for (int i = 0; i < TOKEN_CHANS; i++)
        SET(t->c[i], new_chan(8, TOKENS / TOKEN_CHANS + 2));
    for (uint64_t i = 1; i <= TOKENS; i++)
        CHECK_ST(tarn_chan_send(t->c[i % TOKEN_CHANS], &i), TARN_OK);
    tarn_waitgroup_add(&t->wg, MOVERS);
    for (int i = 0; i < MOVERS; i++)
        go(mover, t);
    tarn_waitgroup_wait(&t->wg);
    int found = 0;
    for (int i = 0; i < TOKEN_CHANS; i++) {
        uint64_t v;
        while (tarn_chan_try_recv(t->c[i], &v) == TARN_OK) {
            CHECK(!seen[v]);
            seen[v] = true;
            found++;
        }
    }
    CHECK_EQ(found, TOKENS);
}

/* Many goroutines meet in selects on unbuffered channels: every receive has
 * exactly one send. */
struct meeting {
    tarn_chan *c[3];
    tarn_chan *stop;
    tarn_waitgroup wg;
    uint64_t sent_sum, received_sum;
};

static void meet(void *arg)
{
    struct meeting *m = arg;
    uint64_t rng = seed_for(2000 + tarn_self()), sent = 0, received = 0;
    for (;;) {
        uint64_t out = harness_rand(&rng) % 1000, in = 0;
        struct tarn_select_case cas[5] = {
            send_case(m->c[harness_rand(&rng) % 3], &out),
            recv_case(m->c[0], &in),
            recv_case(m->c[1], &in),
            recv_case(m->c[2], &in),
            recv_case(m->stop, NULL),
        };
        int k = tarn_select(cas, 5, false);
        if (k == 4)
            break;
        CHECK_ST(cas[k].status, TARN_OK);
        if (k == 0)
            sent += out;
        else
            received += in;
        /* Else two that ready each other keep a lone P for a time slice. */
        if (out % 4 == 0)
            tarn_yield();
    }
    ADD(m->sent_sum, sent);
    ADD(m->received_sum, received);
    tarn_waitgroup_done(&m->wg);
}

static void test_meetings(void)
{
    struct meeting *m = new_shared(sizeof *m);
    for (int i = 0; i < 3; i++)
        SET(m->c[i], new_chan(8, 0));
    SET(m->stop, new_chan(0, 0));
    tarn_waitgroup_add(&m->wg, 20);
    for (int i = 0; i < 20; i++)
        go(meet, m);
    uint64_t v, got = 0;
    for (int i = 0; i < 2000; i++) {
        CHECK_ST(tarn_chan_recv(m->c[i % 3], &v), TARN_OK);
        got += v;
    }
    CHECK_ST(tarn_chan_close(m->stop), TARN_OK);
    tarn_waitgroup_wait(&m->wg);
    CHECK_EQ(m->sent_sum, m->received_sum + got);
}

/* --- the collector, stacks ----------------------------------------------- */

struct box {
    uint64_t value, check;
};

static void box_server(void *arg)
{
    struct waiter *w = arg;
    for (uint64_t i = 0; i < 200; i++) {
        struct box *b = new_shared(sizeof *b);
        b->value = i;
        b->check = ~i;
        struct tarn_select_case cas[2] = {send_case(w->a, &b),
                                          send_case(w->b, &b)};
        CHECK_GE(tarn_select(cas, 2, false), 0);
    }
    tarn_chan_close(w->a);
}

static void test_gc(void)
{
    struct waiter *w = new_shared(sizeof *w);
    SET(w->a, new_chan(sizeof(void *), 0));
    SET(w->b, new_chan(sizeof(void *), 3));
    go(box_server, w);
    uint64_t n = 0, sum = 0;
    for (;;) {
        struct box *b = NULL;
        struct tarn_select_case cas[2] = {recv_case(w->a, &b),
                                          recv_case(w->b, &b)};
        if (n % 20 == 0)
            CHECK_ST(tarn_gc(), TARN_OK);
        int k = tarn_select(cas, 2, false);
        if (cas[k].status == TARN_ECLOSED)
            break;
        CHECK_EQ(b->value, ~b->check);
        sum += b->value;
        n++;
    }
    struct box *b;
    while (tarn_chan_try_recv(w->b, &b) == TARN_OK) {
        CHECK_EQ(b->value, ~b->check);
        sum += b->value;
        n++;
    }
    CHECK_EQ(n, 200u);
    CHECK_EQ(sum, 199u * 200 / 2);
}

__attribute__((noinline)) static uint64_t dig(unsigned depth, tarn_chan *c,
                                              tarn_chan *never)
{
    volatile uint64_t frame[16];
    for (unsigned i = 0; i < 16; i++)
        frame[i] = depth * 100 + i;
    uint64_t v = 0, other = 7;
    if (depth > 0) {
        v = dig(depth - 1, c, never);
    } else {
        struct tarn_select_case cas[3] = {recv_case(never, &other),
                                          send_case(never, &other),
                                          recv_case(c, &v)};
        CHECK_EQ(tarn_select(cas, 3, false), 2);
        CHECK_EQ(other, 7u);
    }
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(frame[i], depth * 100 + i);
    return v;
}

struct digging {
    tarn_chan *c;
    tarn_waitgroup wg;
    uint64_t sum;
};

static void digger(void *arg)
{
    struct digging *d = arg;
    uint64_t rng = seed_for(3000 + tarn_self()), sum = 0;
    for (int i = 0; i < 20; i++) {
        /* A channel of one's own: the others' sends would match our receive. */
        sum += dig((unsigned)(harness_rand(&rng) % 200), d->c, new_chan(8, 0));
    }
    ADD(d->sum, sum);
    tarn_waitgroup_done(&d->wg);
}

static void test_operands_on_stacks(void)
{
    struct digging *d = new_shared(sizeof *d);
    SET(d->c, new_chan(8, 0));
    tarn_waitgroup_add(&d->wg, 40);
    for (int i = 0; i < 40; i++)
        go(digger, d);
    uint64_t sum = 0;
    for (uint64_t v = 1; v <= 40 * 20; v++) {
        CHECK_ST(tarn_chan_send(d->c, &v), TARN_OK);
        sum += v;
    }
    tarn_waitgroup_wait(&d->wg);
    CHECK_EQ(d->sum, sum);
}

/* --- deadlock ------------------------------------------------------------ */

static void select_nothing(void *arg)
{
    (void)arg;
    struct tarn_select_case cas[2] = {recv_case(NULL, NULL),
                                      send_case(NULL, NULL)};
    tarn_select(cas, 2, false);
    printf("came back\n");
}

static void test_no_cases_deadlock(void)
{
    CHECK_FATAL(select_nothing, "select (no cases)");
    CHECK_FATAL(select_nothing, "all goroutines are asleep - deadlock!");
}

static void select_never(void *arg)
{
    (void)arg;
    uint64_t v = 0;
    tarn_chan *c = new_chan(8, 0);
    struct tarn_select_case cas[2] = {recv_case(c, &v), send_case(c, &v)};
    tarn_select(cas, 2, false);
    printf("came back\n");
}

static void test_self_deadlock(void)
{
    CHECK_FATAL(select_never, "all goroutines are asleep - deadlock!");
}

static void body(void)
{
    RUN(test_bad_input);
    RUN(test_default);
    RUN(test_ready_case);
    RUN(test_send_ready);
    RUN(test_closed);
    RUN(test_close_wakes);
    RUN(test_fairness);
    RUN(test_self_select);
    RUN(test_many_ready);
    RUN(test_many_blocked);
    RUN(test_stress);
    RUN(test_tokens);
    RUN(test_meetings);
    RUN(test_gc);
    RUN(test_operands_on_stacks);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_off_goroutine);
    RUN(test_no_cases_deadlock);
    RUN(test_self_deadlock);
    RUN(test_no_memory);
    suite_run(body, 1);
    suite_run(body, 4);
    suite_run(body, 16);
    return harness_done();
}

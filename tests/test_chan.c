/* Channels: semantics, order, models, races with close, elements that the
 * collector must see, operands on stacks. */
#include "suite.h"

static uint64_t seed_for(uint64_t i)
{
    return harness_seed * UINT64_C(0x9E3779B97F4A7C15) + i + 1;
}

/* --- semantics ----------------------------------------------------------- */

static void test_off_goroutine(void)
{
    uint64_t v = 7;
    CHECK(tarn_chan_new(8, 1) == NULL);
    CHECK(tarn_last_error()[0] != '\0');
    CHECK_ST(tarn_chan_send(NULL, &v), TARN_ESTATE);
    CHECK_ST(tarn_chan_recv(NULL, &v), TARN_ESTATE);
    CHECK_ST(tarn_chan_try_send(NULL, &v), TARN_ESTATE);
    CHECK_ST(tarn_chan_try_recv(NULL, &v), TARN_ESTATE);
    CHECK_ST(tarn_chan_close(NULL), TARN_ESTATE);
    CHECK_EQ(tarn_chan_len(NULL), 0u);
    CHECK_EQ(tarn_chan_cap(NULL), 0u);
    CHECK_EQ(v, 7u);
}

static void test_arguments(void)
{
    uint64_t v = 7;
    CHECK_ST(tarn_chan_send(NULL, &v), TARN_EINVAL);
    CHECK_ST(tarn_chan_recv(NULL, &v), TARN_EINVAL);
    CHECK_ST(tarn_chan_try_send(NULL, &v), TARN_EINVAL);
    CHECK_ST(tarn_chan_try_recv(NULL, &v), TARN_EINVAL);
    CHECK_ST(tarn_chan_close(NULL), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "NULL");
    tarn_chan *c = new_chan(8, 1);
    CHECK_ST(tarn_chan_send(c, NULL), TARN_EINVAL);
    CHECK_ST(tarn_chan_try_send(c, NULL), TARN_EINVAL);
    CHECK_EQ(tarn_chan_len(c), 0u);

    CHECK(tarn_chan_new(SIZE_MAX, 1) == NULL);
    CHECK(tarn_chan_new(SIZE_MAX, 0) == NULL);
    CHECK(tarn_chan_new(1, SIZE_MAX) == NULL);
    CHECK(tarn_chan_new(8, SIZE_MAX / 8) == NULL);
    CHECK(tarn_chan_new((size_t)1 << 33, (size_t)1 << 33) == NULL);
    CHECK(tarn_chan_new(SIZE_MAX / 2, 4) == NULL);
    CHECK(tarn_last_error()[0] != '\0');
}

static void test_buffered(void)
{
    tarn_chan *c = new_chan(sizeof(uint64_t), 3);
    uint64_t v;
    CHECK_EQ(tarn_chan_cap(c), 3u);
    v = 99;
    CHECK_ST(tarn_chan_try_recv(c, &v), TARN_EAGAIN);
    CHECK_EQ(v, 99u);
    for (int lap = 0; lap < 5; lap++) {
        for (v = 1; v <= 3; v++) {
            CHECK_EQ(tarn_chan_len(c), v - 1);
            CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
        }
        CHECK_ST(tarn_chan_try_send(c, &v), TARN_EAGAIN);
        CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
        CHECK_EQ(v, 1u);
        CHECK_ST(tarn_chan_recv(c, NULL), TARN_OK); /* drops 2 */
        CHECK_ST(tarn_chan_try_recv(c, &v), TARN_OK);
        CHECK_EQ(v, 3u);
    }
    v = 5;
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
    CHECK_ST(tarn_chan_close(c), TARN_OK);
    CHECK_ST(tarn_chan_close(c), TARN_ECLOSED);
    CHECK_ST(tarn_chan_send(c, &v), TARN_ECLOSED);
    CHECK_ST(tarn_chan_try_send(c, &v), TARN_ECLOSED);
    v = 0;
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK); /* what was in it stays */
    CHECK_EQ(v, 5u);
    v = 6;
    CHECK_ST(tarn_chan_recv(c, &v), TARN_ECLOSED);
    CHECK_EQ(v, 0u);
    v = 6;
    CHECK_ST(tarn_chan_try_recv(c, &v), TARN_ECLOSED);
    CHECK_EQ(v, 0u);
    CHECK_ST(tarn_chan_recv(c, NULL), TARN_ECLOSED);
}

static void test_unbuffered_try(void)
{
    tarn_chan *c = new_chan(4, 0);
    int v = 3;
    CHECK_EQ(tarn_chan_cap(c), 0u);
    CHECK_ST(tarn_chan_try_send(c, &v), TARN_EAGAIN);
    CHECK_ST(tarn_chan_try_recv(c, &v), TARN_EAGAIN);
    CHECK_EQ(v, 3);
    CHECK_ST(tarn_chan_close(c), TARN_OK);
    CHECK_ST(tarn_chan_try_send(c, &v), TARN_ECLOSED);
    CHECK_ST(tarn_chan_try_recv(c, &v), TARN_ECLOSED);
    CHECK_EQ(v, 0);
}

struct one {
    tarn_chan *c, *done;
    uint64_t n;
};

static void send_one(void *arg)
{
    struct one *o = arg;
    uint64_t v = 42;
    CHECK_ST(tarn_chan_send(o->c, &v), TARN_OK);
    CHECK_EQ(v, 42u);
    CHECK_ST(tarn_chan_send(o->done, NULL), TARN_OK);
}

/* The try forms serve who is parked on the other side. */
static void test_try_meets_parked(void)
{
    struct one *o = new_shared(sizeof *o);
    SET(o->c, new_chan(8, 0));
    SET(o->done, new_chan(0, 0));
    go(send_one, o);
    uint64_t v = 0;
    while (tarn_chan_try_recv(o->c, &v) == TARN_EAGAIN)
        tarn_yield();
    CHECK_EQ(v, 42u);
    tarn_status st;
    while ((st = tarn_chan_try_recv(o->done, NULL)) == TARN_EAGAIN)
        tarn_yield();
    CHECK_ST(st, TARN_OK);
}

static void zero_sender(void *arg)
{
    struct one *o = arg;
    for (uint64_t i = 0; i < o->n; i++)
        CHECK_ST(tarn_chan_send(o->c, NULL), TARN_OK);
    CHECK_ST(tarn_chan_close(o->c), TARN_OK);
}

static void test_zero_size(void)
{
    static const size_t caps[] = {0, 1, 5, SIZE_MAX};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        struct one *o = new_shared(sizeof *o);
        SET(o->c, new_chan(0, caps[i]));
        o->n = 1000;
        CHECK_EQ(tarn_chan_cap(o->c), caps[i]);
        go(zero_sender, o);
        char untouched = 'x';
        uint64_t got = 0;
        while (tarn_chan_recv(o->c, got % 2 ? &untouched : NULL) == TARN_OK)
            got++;
        CHECK_EQ(got, o->n);
        CHECK_EQ(untouched, 'x');
    }
}

/* --- every size, through a buffer and from hand to hand ------------------ */

#define MAX_ELEM 5000
struct sizes {
    tarn_chan *c;
    size_t size;
    int n;
};

static void fill(unsigned char *p, size_t n, unsigned tag)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(tag * 31 + i * 7 + 1);
}

static void size_sender(void *arg)
{
    struct sizes *s = arg;
    unsigned char buf[MAX_ELEM + 8];
    for (int i = 0; i < s->n; i++) {
        size_t shift = (size_t)i % 8; /* all alignments of the operand */
        fill(buf + shift, s->size, (unsigned)i);
        CHECK_ST(tarn_chan_send(s->c, buf + shift), TARN_OK);
    }
}

static void test_sizes(void)
{
    static const size_t sizes[] = {1,  2,   3,    4,    5,       7,  8,
                                   9,  12,  15,   16,   17,      24, 31,
                                   40, 100, 1000, 4096, MAX_ELEM};
    unsigned char buf[MAX_ELEM + 24], want[MAX_ELEM];
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (size_t cap = 0; cap <= 3; cap += 3) {
            struct sizes *s = new_shared(sizeof *s);
            SET(s->c, new_chan(sizes[k], cap));
            s->size = sizes[k];
            s->n = 24;
            go(size_sender, s);
            for (int i = 0; i < s->n; i++) {
                size_t shift = 8 + (size_t)(i / 3) % 8;
                memset(buf, 0xee, sizeof buf);
                CHECK_ST(tarn_chan_recv(s->c, buf + shift), TARN_OK);
                fill(want, s->size, (unsigned)i);
                CHECK(memcmp(buf + shift, want, s->size) == 0);
                CHECK_EQ(buf[shift - 1], 0xee);
                CHECK_EQ(buf[shift + s->size], 0xee);
            }
        }
    }
}

/* --- against a sequential model ------------------------------------------ */

static void test_model_sequential(void)
{
    uint64_t rng = seed_for(1);
    for (int round = 0; round < 60; round++) {
        size_t cap = harness_rand(&rng) % 9;
        tarn_chan *c = new_chan(sizeof(uint64_t), cap);
        uint64_t head = 0, tail = 0; /* elements are their numbers */
        bool closed = false;
        for (int op = 0; op < 300; op++) {
            uint64_t v;
            switch (harness_rand(&rng) % (op > 200 ? 5 : 4)) {
            case 0:
            case 1: {
                v = tail + 1000;
                tarn_status st = tarn_chan_try_send(c, &v);
                if (closed) {
                    CHECK_ST(st, TARN_ECLOSED);
                } else if (tail - head == cap) {
                    CHECK_ST(st, TARN_EAGAIN);
                } else {
                    CHECK_ST(st, TARN_OK);
                    tail++;
                }
                break;
            }
            case 2:
            case 3: {
                v = 1;
                tarn_status st = tarn_chan_try_recv(c, &v);
                if (tail != head) {
                    CHECK_ST(st, TARN_OK);
                    CHECK_EQ(v, head + 1000);
                    head++;
                } else {
                    CHECK_ST(st, closed ? TARN_ECLOSED : TARN_EAGAIN);
                    CHECK_EQ(v, closed ? 0u : 1u);
                }
                break;
            }
            default:
                if (harness_rand(&rng) % 20 != 0)
                    break;
                CHECK_ST(tarn_chan_close(c), closed ? TARN_ECLOSED : TARN_OK);
                closed = true;
            }
            CHECK_EQ(tarn_chan_len(c), tail - head);
        }
    }
}

/* Producers number what they send; consumers note what they get. Afterwards
 * each element must have arrived once, and in its producer's order at each
 * consumer. */
#define PRODUCERS 6
#define CONSUMERS 5
struct traffic {
    tarn_chan *c;
    uint64_t per_producer;
    tarn_waitgroup producers, consumers;
    uint8_t *seen; /* malloc'ed: [producer][number] */
    uint64_t id;
    uint64_t received;
};

static void produce(void *arg)
{
    struct traffic *t = arg;
    uint64_t me = ADD(t->id, 1) - 1, rng = seed_for(100 + me);
    for (uint64_t i = 0; i < t->per_producer; i++) {
        uint64_t v = me << 32 | i;
        switch (harness_rand(&rng) % 4) {
        case 0: {
            struct tarn_select_case cas = {t->c, TARN_SELECT_SEND, &v, 0};
            if (tarn_select(&cas, 1, true) == 0) {
                CHECK_ST(cas.status, TARN_OK);
                break;
            }
            CHECK_ST(tarn_chan_send(t->c, &v), TARN_OK);
            break;
        }
        case 1: { /* not for ever: two tries never meet */
            int tries = 10;
            tarn_status st;
            while ((st = tarn_chan_try_send(t->c, &v)) == TARN_EAGAIN &&
                   tries-- > 0)
                tarn_yield();
            if (st == TARN_EAGAIN)
                st = tarn_chan_send(t->c, &v);
            CHECK_ST(st, TARN_OK);
            break;
        }
        default:
            CHECK_ST(tarn_chan_send(t->c, &v), TARN_OK);
        }
        CHECK_EQ(v, me << 32 | i);
        if (harness_rand(&rng) % 64 == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&t->producers);
}

static void consume(void *arg)
{
    struct traffic *t = arg;
    uint64_t next[PRODUCERS] = {0}, n = 0, rng = seed_for(200 + tarn_self());
    for (;;) {
        uint64_t v = UINT64_MAX;
        tarn_status st = TARN_EAGAIN;
        if (harness_rand(&rng) % 3 == 0)
            for (int i = 0; i < 10 && st == TARN_EAGAIN; i++) {
                st = tarn_chan_try_recv(t->c, &v);
                if (st == TARN_EAGAIN)
                    tarn_yield();
            }
        if (st == TARN_EAGAIN)
            st = tarn_chan_recv(t->c, &v);
        if (st == TARN_ECLOSED) {
            CHECK_EQ(v, 0u);
            break;
        }
        CHECK_ST(st, TARN_OK);
        uint64_t who = v >> 32, i = v & 0xffffffff;
        CHECK_LT(who, (uint64_t)PRODUCERS);
        CHECK_LT(i, t->per_producer);
        CHECK_GE(i, next[who]);
        next[who] = i + 1;
        CHECK_EQ(__atomic_fetch_add(&t->seen[who * t->per_producer + i], 1,
                                    __ATOMIC_RELAXED),
                 0);
        n++;
    }
    ADD(t->received, n);
    tarn_waitgroup_done(&t->consumers);
}

static void test_traffic(void)
{
    static const size_t caps[] = {0, 1, 2, 7, 128};
    for (size_t k = 0; k < sizeof caps / sizeof caps[0]; k++) {
        struct traffic *t = new_shared(sizeof *t);
        SET(t->c, new_chan(sizeof(uint64_t), caps[k]));
        t->per_producer = 3000;
        t->seen = calloc(PRODUCERS, t->per_producer);
        CHECK(t->seen != NULL);
        tarn_waitgroup_add(&t->producers, PRODUCERS);
        tarn_waitgroup_add(&t->consumers, CONSUMERS);
        for (int i = 0; i < CONSUMERS; i++)
            go(consume, t);
        for (int i = 0; i < PRODUCERS; i++)
            go(produce, t);
        tarn_waitgroup_wait(&t->producers);
        CHECK_ST(tarn_chan_close(t->c), TARN_OK);
        tarn_waitgroup_wait(&t->consumers);
        CHECK_EQ(t->received, PRODUCERS * t->per_producer);
        for (uint64_t i = 0; i < PRODUCERS * t->per_producer; i++)
            CHECK_EQ(t->seen[i], 1);
        free(t->seen);
    }
}

/* --- patterns ------------------------------------------------------------ */

struct pair {
    tarn_chan *there, *back;
};

static void ponger(void *arg)
{
    struct pair *p = arg;
    uint64_t v;
    while (tarn_chan_recv(p->there, &v) == TARN_OK) {
        v++;
        CHECK_ST(tarn_chan_send(p->back, &v), TARN_OK);
    }
    CHECK_ST(tarn_chan_close(p->back), TARN_OK);
}

static void test_pingpong(void)
{
    struct pair *p = new_shared(sizeof *p);
    SET(p->there, new_chan(8, 0));
    SET(p->back, new_chan(8, 0));
    go(ponger, p);
    uint64_t v = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        CHECK_ST(tarn_chan_send(p->there, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(p->back, &v), TARN_OK);
        CHECK_EQ(v, i + 1);
    }
    tarn_chan_close(p->there);
    CHECK_ST(tarn_chan_recv(p->back, &v), TARN_ECLOSED);
}

static void relay(void *arg)
{
    struct pair *p = arg;
    uint64_t v;
    while (tarn_chan_recv(p->there, &v) == TARN_OK) {
        v++;
        CHECK_ST(tarn_chan_send(p->back, &v), TARN_OK);
    }
    tarn_chan_close(p->back);
}

static void test_ring(void)
{
    enum { N = 1000, LAPS = 20 };
    tarn_chan *first = new_chan(8, 0), *in = first;
    for (int i = 0; i < N; i++) {
        struct pair *p = new_shared(sizeof *p);
        SET(p->there, in);
        in = new_chan(8, 0);
        SET(p->back, in);
        go(relay, p);
    }
    uint64_t v = 0;
    for (int lap = 0; lap < LAPS; lap++) {
        CHECK_ST(tarn_chan_send(first, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(in, &v), TARN_OK);
        CHECK_EQ(v, (uint64_t)(lap + 1) * N);
    }
    tarn_chan_close(first);
    CHECK_ST(tarn_chan_recv(in, &v), TARN_ECLOSED);
}

/* A pipeline that grows: each prime found adds a filter. */
static void sieve_numbers(void *arg)
{
    struct pair *p = arg;
    for (uint64_t v = 2; v < 550; v++)
        CHECK_ST(tarn_chan_send(p->back, &v), TARN_OK);
    tarn_chan_close(p->back);
}

struct filter {
    tarn_chan *in, *out;
    uint64_t prime;
};

static void sieve_filter(void *arg)
{
    struct filter *f = arg;
    uint64_t v;
    while (tarn_chan_recv(f->in, &v) == TARN_OK)
        if (v % f->prime != 0)
            CHECK_ST(tarn_chan_send(f->out, &v), TARN_OK);
    tarn_chan_close(f->out);
}

static void test_sieve(void)
{
    struct pair *p = new_shared(sizeof *p);
    SET(p->back, new_chan(8, 0));
    go(sieve_numbers, p);
    tarn_chan *c = p->back;
    uint64_t v, last = 0, n = 0;
    while (tarn_chan_recv(c, &v) == TARN_OK) {
        CHECK_GT(v, last);
        for (uint64_t d = 2; d * d <= v; d++)
            CHECK_NE(v % d, 0u);
        last = v;
        n++;
        struct filter *f = new_shared(sizeof *f);
        f->prime = v;
        SET(f->in, c);
        c = new_chan(8, n % 3);
        SET(f->out, c);
        go(sieve_filter, f);
    }
    CHECK_EQ(n, 101u);
    CHECK_EQ(last, 547u);
}

/* --- close --------------------------------------------------------------- */

struct closing {
    tarn_chan *c;
    tarn_waitgroup wg;
    uint64_t started, ok, closed, closes, sent, received;
};

static void blocked_receiver(void *arg)
{
    struct closing *x = arg;
    uint64_t v = 77;
    ADD(x->started, 1);
    CHECK_ST(tarn_chan_recv(x->c, &v), TARN_ECLOSED);
    CHECK_EQ(v, 0u);
    tarn_waitgroup_done(&x->wg);
}

static void blocked_sender(void *arg)
{
    struct closing *x = arg;
    uint64_t v = 77;
    ADD(x->started, 1);
    CHECK_ST(tarn_chan_send(x->c, &v), TARN_ECLOSED);
    CHECK_EQ(v, 77u);
    tarn_waitgroup_done(&x->wg);
}

static void test_close_wakes_all(void)
{
    for (int side = 0; side < 2; side++) {
        struct closing *x = new_shared(sizeof *x);
        SET(x->c, new_chan(8, 0));
        tarn_waitgroup_add(&x->wg, 500);
        for (int i = 0; i < 500; i++)
            go(side ? blocked_sender : blocked_receiver, x);
        while (LOAD(x->started) < 500)
            tarn_yield();
        CHECK_ST(tarn_chan_close(x->c), TARN_OK);
        tarn_waitgroup_wait(&x->wg);
    }
}

static void race_sender(void *arg)
{
    struct closing *x = arg;
    uint64_t v = 1, n = 0;
    /* An end even without close: a pair that readies each other keeps a lone P
     * from the closers for a whole time slice. */
    while (n < 100 && tarn_chan_send(x->c, &v) == TARN_OK)
        n++;
    ADD(x->sent, n);
    tarn_waitgroup_done(&x->wg);
}

static void race_receiver(void *arg)
{
    struct closing *x = arg;
    uint64_t v, n = 0;
    while (tarn_chan_recv(x->c, &v) == TARN_OK) {
        CHECK_EQ(v, 1u);
        n++;
    }
    CHECK_EQ(v, 0u);
    ADD(x->received, n);
    tarn_waitgroup_done(&x->wg);
}

static void race_closer(void *arg)
{
    struct closing *x = arg;
    for (uint64_t i = tarn_self() % 7; i > 0; i--)
        tarn_yield();
    if (tarn_chan_close(x->c) == TARN_OK)
        ADD(x->closes, 1);
    tarn_waitgroup_done(&x->wg);
}

/* A send that reported success is received by somebody. */
static void test_close_race(void)
{
    for (int round = 0; round < 300; round++) {
        struct closing *x = new_shared(sizeof *x);
        SET(x->c, new_chan(8, (size_t)round % 4));
        tarn_waitgroup_add(&x->wg, 9);
        for (int i = 0; i < 3; i++) {
            go(race_sender, x);
            go(race_receiver, x);
        }
        for (int i = 0; i < 3; i++)
            go(race_closer, x);
        tarn_waitgroup_wait(&x->wg);
        CHECK_EQ(x->closes, 1u);
        CHECK_EQ(x->sent, x->received);
    }
}

static void try_receiver(void *arg)
{
    struct closing *x = arg;
    uint64_t v;
    tarn_status st = tarn_chan_try_recv(x->c, &v);
    CHECK(st == TARN_OK || st == TARN_ECLOSED);
    tarn_waitgroup_done(&x->wg);
}

/* A channel that holds an element, then is closed, is never "would block". */
static void test_try_recv_close_race(void)
{
    for (int round = 0; round < 3000; round++) {
        struct closing *x = new_shared(sizeof *x);
        SET(x->c, new_chan(8, 1));
        uint64_t v = 1;
        CHECK_ST(tarn_chan_send(x->c, &v), TARN_OK);
        tarn_waitgroup_add(&x->wg, 1);
        go(try_receiver, x);
        CHECK_ST(tarn_chan_close(x->c), TARN_OK);
        tarn_chan_recv(x->c, &v);
        tarn_waitgroup_wait(&x->wg);
    }
}

/* --- the collector ------------------------------------------------------- */

struct box {
    struct box *next;
    uint64_t value, check;
};

static struct box *new_box(uint64_t value)
{
    struct box *b = new_shared(sizeof *b);
    b->value = value;
    b->check = ~value;
    return b;
}

static void check_box(const struct box *b, uint64_t value)
{
    CHECK(b != NULL);
    CHECK_EQ(b->value, value);
    CHECK_EQ(b->check, ~value);
}

/* Overwrites what was freed by mistake. */
static void churn(void)
{
    for (int i = 0; i < 2000; i++) {
        struct box *b = new_shared(sizeof *b);
        memset(b, 0xa5, sizeof *b);
        b->next = NULL;
    }
}

struct parcel { /* a pointer among other things */
    uint32_t tag;
    struct box *box;
    char rest[9];
};

__attribute__((noinline)) static void fill_with_boxes(tarn_chan *c, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct parcel p = {(uint32_t)i, new_box(i), "abcdefgh"};
        CHECK_ST(tarn_chan_send(c, &p), TARN_OK);
    }
}

static void test_gc_buffered(void)
{
    tarn_chan *c = new_chan(sizeof(struct parcel), 100);
    struct parcel p;
    for (int round = 0; round < 3; round++) {
        fill_with_boxes(c, 100);
        CHECK_ST(tarn_gc(), TARN_OK);
        churn();
        for (uint64_t i = 0; i < 100; i++) {
            CHECK_ST(tarn_chan_recv(c, &p), TARN_OK);
            CHECK_EQ(p.tag, i);
            check_box(p.box, i);
            CHECK(strcmp(p.rest, "abcdefgh") == 0);
        }
    }
}

struct holders {
    tarn_chan *c;
    tarn_waitgroup wg;
    uint64_t started;
};

static void box_sender(void *arg)
{
    struct holders *h = arg;
    struct box *b = new_box(ADD(h->started, 1));
    CHECK_ST(tarn_chan_send(h->c, &b), TARN_OK);
    tarn_waitgroup_done(&h->wg);
}

/* Objects that only the operands of blocked senders refer to. */
static void test_gc_blocked_senders(void)
{
    struct holders *h = new_shared(sizeof *h);
    SET(h->c, new_chan(sizeof(struct box *), 3));
    tarn_waitgroup_add(&h->wg, 100);
    for (int i = 0; i < 100; i++)
        go(box_sender, h);
    while (LOAD(h->started) < 100)
        tarn_yield();
    CHECK_ST(tarn_gc(), TARN_OK);
    churn();
    uint64_t sum = 0;
    for (int i = 0; i < 100; i++) {
        struct box *b;
        CHECK_ST(tarn_chan_recv(h->c, &b), TARN_OK);
        check_box(b, b->value);
        sum += b->value;
    }
    CHECK_EQ(sum, 100u * 101 / 2);
    tarn_waitgroup_wait(&h->wg);
}

static void box_relay(void *arg)
{
    struct pair *p = arg;
    struct box *b;
    while (tarn_chan_recv(p->there, &b) == TARN_OK) {
        check_box(b, b->value);
        CHECK_ST(tarn_chan_send(p->back, &b), TARN_OK);
        b = NULL;
    }
    tarn_chan_close(p->back);
}

/* Objects travel from stack to stack while the collector marks: some are
 * always on the way from a stack not yet scanned to one that was. */
static void test_gc_in_flight(void)
{
    enum { HOPS = 10, BOXES = 40, ROUNDS = 60 };
    tarn_chan *first = new_chan(sizeof(struct box *), 0), *in = first;
    for (int i = 0; i < HOPS; i++) {
        struct pair *p = new_shared(sizeof *p);
        SET(p->there, in);
        in = new_chan(sizeof(struct box *), (size_t)i % 3 * 4);
        SET(p->back, in);
        go(box_relay, p);
    }
    /* Keep in flight what surely fits in buffers and relays. */
    uint64_t sent = 0, got = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BOXES; i++) {
            struct box *b = new_box(sent);
            CHECK_ST(tarn_chan_send(first, &b), TARN_OK);
            sent++;
            if (sent - got > 8) {
                CHECK_ST(tarn_chan_recv(in, &b), TARN_OK);
                check_box(b, got);
                got++;
            }
        }
        if (round % 6 == 0)
            CHECK_ST(tarn_gc(), TARN_OK);
    }
    tarn_chan_close(first);
    struct box *b;
    while (tarn_chan_recv(in, &b) == TARN_OK) {
        check_box(b, got);
        got++;
    }
    CHECK_EQ(got, sent);
}

__attribute__((noinline)) static void send_channel(tarn_chan *c)
{
    tarn_chan *inner = new_chan(8, 2);
    uint64_t v = 31;
    CHECK_ST(tarn_chan_send(inner, &v), TARN_OK);
    CHECK_ST(tarn_chan_send(c, &inner), TARN_OK);
}

static void test_gc_channel_in_channel(void)
{
    tarn_chan *c = new_chan(sizeof(tarn_chan *), 1), *inner;
    send_channel(c);
    CHECK_ST(tarn_gc(), TARN_OK);
    churn();
    CHECK_ST(tarn_chan_recv(c, &inner), TARN_OK);
    uint64_t v;
    CHECK_ST(tarn_chan_recv(inner, &v), TARN_OK);
    CHECK_EQ(v, 31u);
}

/* Operands inside managed objects rather than on stacks. */
static void test_gc_managed_operands(void)
{
    struct holder {
        struct box *box;
    } *from = new_shared(sizeof *from), *to = new_shared(sizeof *to);
    tarn_chan *c = new_chan(sizeof(struct box *), 4);
    for (uint64_t i = 0; i < 200; i++) {
        SET(from->box, new_box(i));
        CHECK_ST(tarn_chan_send(c, &from->box), TARN_OK);
        SET(from->box, NULL);
        if (i % 50 == 0) {
            CHECK_ST(tarn_gc(), TARN_OK);
            churn();
        }
        CHECK_ST(tarn_chan_recv(c, &to->box), TARN_OK);
        check_box(to->box, i);
    }
    CHECK_ST(tarn_chan_close(c), TARN_OK);
    CHECK_ST(tarn_chan_recv(c, &to->box), TARN_ECLOSED);
    CHECK(to->box == NULL);
}

/* --- operands on stacks that have grown ---------------------------------- */

__attribute__((noinline)) static uint64_t dig(unsigned depth, tarn_chan *c)
{
    volatile uint64_t frame[24];
    for (unsigned i = 0; i < 24; i++)
        frame[i] = depth * 100 + i;
    uint64_t before = 0x1111, v = 0, after = 0x2222;
    if (depth > 0) {
        v = dig(depth - 1, c);
    } else {
        CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
        CHECK_EQ(before, 0x1111u);
        CHECK_EQ(after, 0x2222u);
    }
    for (unsigned i = 0; i < 24; i++)
        CHECK_EQ(frame[i], depth * 100 + i);
    return v;
}

static void digger(void *arg)
{
    struct closing *x = arg;
    uint64_t rng = seed_for(300 + tarn_self()), sum = 0;
    for (int i = 0; i < 20; i++)
        sum += dig((unsigned)(harness_rand(&rng) % 200), x->c);
    ADD(x->received, sum);
    tarn_waitgroup_done(&x->wg);
}

static void test_operands_on_stacks(void)
{
    struct closing *x = new_shared(sizeof *x);
    SET(x->c, new_chan(8, 0));
    tarn_waitgroup_add(&x->wg, 50);
    for (int i = 0; i < 50; i++)
        go(digger, x);
    uint64_t sum = 0;
    for (uint64_t v = 1; v <= 50 * 20; v++) {
        CHECK_ST(tarn_chan_send(x->c, &v), TARN_OK);
        sum += v;
    }
    tarn_waitgroup_wait(&x->wg);
    CHECK_EQ(x->received, sum);
}

static void body(void)
{
    RUN(test_arguments);
    RUN(test_buffered);
    RUN(test_unbuffered_try);
    RUN(test_try_meets_parked);
    RUN(test_zero_size);
    RUN(test_sizes);
    RUN(test_model_sequential);
    RUN(test_traffic);
    RUN(test_pingpong);
    RUN(test_ring);
    RUN(test_sieve);
    RUN(test_close_wakes_all);
    RUN(test_close_race);
    RUN(test_try_recv_close_race);
    RUN(test_gc_buffered);
    RUN(test_gc_blocked_senders);
    RUN(test_gc_in_flight);
    RUN(test_gc_channel_in_channel);
    RUN(test_gc_managed_operands);
    RUN(test_operands_on_stacks);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_off_goroutine);
    suite_run(body, 1);
    suite_run(body, 4);
    suite_run(body, 16);
    return harness_done();
}

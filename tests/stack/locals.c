/* Pointers to locals across moves of the stack: passed down, walked, returned
 * through, kept in callee-saved registers, in stack arguments, in contexts. */
#include "tests/stack/stackcase.h"

/* --- a chain of frames, checked at every level ------------------------------ */

struct link {
    struct link *up;
    uint64_t v;
    uint64_t *self;
    struct link **up_field;
};

NI static uint64_t chain(struct link *up, int depth, uint64_t x)
{
    struct link me = {up, touch(x), NULL, NULL};
    me.self = &me.v;
    me.up_field = &me.up;
    uint64_t h = 1;
    if (depth > 0) {
        h = chain(&me, depth - 1, me.v);
    } else {
        for (const struct link *l = &me; l != NULL; l = l->up)
            h = mix(h, *l->self);
    }
    struct link *p = &me;
    OPAQUE(p);
    CHECK(p->self == &p->v);
    CHECK(*p->up_field == up);
    CHECK_EQ(*p->self, p->v);
    if (up != NULL) {
        CHECK(up->self == &up->v);
        h = mix(h, *up->self);
        *up->self += 0; /* a write that lands in the right frame */
        up->v ^= h & 1;
        up->v ^= h & 1;
    }
    return mix(h, *p->self);
}

static uint64_t case_chain(uint64_t seed)
{
    return chain(NULL, 300, seed);
}

/* Deep enough to grow several times whatever the first size is. */
NI static uint64_t deep(const uint64_t *parent, int depth, uint64_t x)
{
    uint64_t mine = mix(*parent, (uint64_t)depth), pad[8];
    memset(pad, (int)(x & 255), sizeof(pad));
    OPAQUE(x);
    uint64_t h = depth > 0 ? deep(&mine, depth - 1, x + 1) : x;
    for (int i = 0; i < 8; i++)
        h = mix(h, pad[i]);
    return mix(h, mine ^ *parent);
}

static uint64_t case_deep(uint64_t seed)
{
    return deep(&seed, 400, seed);
}

/* Two pointers to one variable of an outer frame, written from below. */
NI static void accumulate(uint64_t *sum, uint64_t *alias, int depth)
{
    *sum = mix(*sum, (uint64_t)depth);
    CHECK_EQ(*alias, *sum);
    if (depth > 0) {
        accumulate(alias, sum, depth - 1);
        CHECK(sum == alias);
    }
    *alias = touch(*alias);
}

static uint64_t case_accumulate(uint64_t seed)
{
    uint64_t sum = seed;
    accumulate(&sum, &sum, 200);
    return sum;
}

/* --- arrays walked by pointers ------------------------------------------------ */

NI static uint64_t walk_up(const uint32_t *p, const uint32_t *end)
{
    uint64_t h = 0;
    for (; p != end; p++)
        h = mix(h, *p ^ touch(*p));
    return h;
}

NI static uint64_t walk_down(const uint32_t *begin, const uint32_t *end)
{
    uint64_t h = 0;
    while (end-- != begin)
        h = mix(h, touch(*end));
    return h;
}

NI static uint64_t walk_halves(uint32_t *lo, uint32_t *hi)
{
    if (hi - lo <= 1)
        return lo < hi ? touch(*lo) : 0;
    uint32_t *mid = lo + (hi - lo) / 2;
    uint64_t a = walk_halves(lo, mid), b = walk_halves(mid, hi);
    *lo += 1;
    return mix(a, b);
}

static uint64_t case_arrays(uint64_t seed)
{
    uint32_t a[97], b[3][5][7];
    CLEAR(a);
    CLEAR(b);
    uint64_t h = seed;
    for (size_t i = 0; i < ARRAY_N(a); i++)
        a[i] = (uint32_t)touch(h = mix(h, i));
    h = mix(h, walk_up(a, a + ARRAY_N(a)));
    h = mix(h, walk_down(a, a + ARRAY_N(a)));
    h = mix(h, walk_halves(a, a + ARRAY_N(a)));
    for (uint32_t(*i)[5][7] = b; i != b + 3; i++)
        for (uint32_t(*j)[7] = *i; j != *i + 5; j++)
            for (uint32_t *k = *j; k != *j + 7; k++)
                *k = (uint32_t)touch((uint64_t)(k - &b[0][0][0]));
    h = mix(h, walk_up(&b[0][0][0], &b[2][4][6] + 1));
    /* A pointer one past the end of the highest local of the frame. */
    uint32_t *end = b[2][5 - 1] + 7;
    OPAQUE(end);
    touch(1);
    return mix(h, (uint64_t)(end - &b[0][0][0]));
}

static void swap(uint32_t *x, uint32_t *y)
{
    uint32_t t = *x;
    *x = *y;
    *y = t;
}

NI static void quicksort(uint32_t *lo, uint32_t *hi)
{
    if (hi - lo < 2)
        return;
    uint32_t *last = lo;
    swap(lo, lo + (hi - lo) / 2);
    for (uint32_t *p = lo + 1; p < hi; p++)
        if (*p < *lo)
            swap(++last, p);
    swap(lo, last);
    touch(*last);
    quicksort(lo, last);
    quicksort(last + 1, hi);
}

static uint64_t case_quicksort(uint64_t seed)
{
    uint32_t a[300];
    CLEAR(a);
    uint64_t s = seed, h = 0;
    for (size_t i = 0; i < ARRAY_N(a); i++)
        a[i] = (uint32_t)harness_rand(&s);
    quicksort(a, a + ARRAY_N(a));
    for (size_t i = 0; i < ARRAY_N(a); i++) {
        CHECK(i == 0 || a[i - 1] <= a[i]);
        h = mix(h, a[i]);
    }
    return h;
}

NI static uint64_t permute(char *s, char *at, uint64_t h)
{
    if (at[0] == '\0') {
        for (const char *p = s; *p; p++)
            h = mix(h, (uint64_t)*p);
        return touch(h);
    }
    for (char *p = at; *p; p++) {
        char t = *at;
        *at = *p;
        *p = t;
        h = permute(s, at + 1, h);
        t = *at;
        *at = *p;
        *p = t;
    }
    return h;
}

static uint64_t case_permute(uint64_t seed)
{
    char s[] = "abcde";
    uint64_t h = permute(s, s, seed);
    CHECK(strcmp(s, "abcde") == 0);
    return h;
}

/* --- returns ------------------------------------------------------------------- */

struct big {
    uint64_t v[13];
    const struct big *from;
};

NI static struct big make_big(const struct big *from, int depth, uint64_t x)
{
    struct big b;
    for (int i = 0; i < 13; i++)
        b.v[i] = touch(x + (uint64_t)i);
    b.from = from;
    if (depth > 0) {
        struct big below = make_big(&b, depth - 1, x * 3);
        CHECK(below.from == &b);
        for (int i = 0; i < 13; i++)
            b.v[i] = mix(b.v[i], below.v[12 - i]);
        if (depth & 1)
            b = make_big(from, depth / 8, b.v[0]);
    }
    return b;
}

NI static struct big pass_big(struct big by_value, struct big *by_pointer)
{
    for (int i = 0; i < 13; i++) {
        by_value.v[i] = touch(by_value.v[i] ^ by_pointer->v[i]);
        by_pointer->v[i]++;
    }
    by_value.from = by_pointer;
    return by_value;
}

static uint64_t case_struct_return(uint64_t seed)
{
    struct big b = make_big(NULL, 12, seed), arr[3];
    uint64_t h = seed;
    arr[0] = b;
    arr[1] = pass_big(arr[0], &b);
    CHECK(arr[1].from == &b);
    arr[2] = pass_big(pass_big(arr[1], &arr[0]), &arr[1]);
    CHECK(arr[2].from == &arr[1]);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 13; i++)
            h = mix(h, arr[k].v[i]);
    return h;
}

struct ii {
    uint64_t a, *b;
};
struct dd {
    double a, b;
};
struct di {
    double a;
    uint64_t *b;
};
struct ff {
    float a, b, c;
};

NI static struct ii pair_ii(uint64_t x, uint64_t *p)
{
    return (struct ii){touch(x), p};
}
NI static struct dd pair_dd(double x, double y)
{
    touch(1);
    return (struct dd){x + 0.5, y * 2};
}
NI static struct di pair_di(uint64_t *p, double y)
{
    touch(*p);
    return (struct di){y - 1, p};
}
NI static struct ff triple_ff(float x, struct ff f)
{
    touch(2);
    return (struct ff){f.b + x, f.c, f.a};
}
NI static long double ld(long double x, int n)
{
    touch((uint64_t)n);
    return n > 0 ? ld(x * 1.25L + n, n - 1) : x;
}
NI static _Complex double cd(_Complex double x, int n)
{
    touch((uint64_t)n);
    return n > 0 ? cd(x * (0.5 + 0.25i), n - 1) + n : x;
}
NI static unsigned __int128 i128(unsigned __int128 x, int n)
{
    touch((uint64_t)n);
    return n > 0 ? i128(x * 3 + (x >> 64), n - 1) ^ (unsigned)n : x;
}

static uint64_t bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof(u));
    return u;
}

static uint64_t case_pairs(uint64_t seed)
{
    uint64_t local = seed & 0xffff, h = seed;
    for (int i = 0; i < 20; i++) {
        struct ii a = pair_ii(h, &local);
        CHECK(a.b == &local);
        struct dd b = pair_dd((double)i, (double)(local & 1023));
        struct di c = pair_di(&local, b.b);
        CHECK(c.b == &local && c.a == b.b - 1);
        struct ff d = triple_ff(1.5f, (struct ff){1, (float)i, 3});
        CHECK(d.a == (float)i + 1.5f && d.b == 3 && d.c == 1);
        local += (uint64_t)d.a;
        h = mix(h, a.a ^ bits(b.a) ^ bits(c.a));
    }
    long double l = ld(3.0L, 30);
    h = mix(h, (uint64_t)l);
    _Complex double z = cd(1.0 + 2.0i, 30);
    h = mix(h, bits(__real__ z) ^ bits(__imag__ z));
    unsigned __int128 q = i128(seed, 30);
    return mix(h, (uint64_t)q ^ (uint64_t)(q >> 64));
}

/* --- many arguments ------------------------------------------------------------- */

NI static uint64_t many(uint64_t *a, uint64_t *b, double d0, uint64_t c,
                        float f0, uint64_t *d, uint64_t *e, uint64_t *f,
                        double d1, uint64_t *g, uint64_t h, long double l,
                        uint64_t *i, double d2, double d3, double d4, double d5,
                        double d6, double d7, double d8, uint64_t *j, char k,
                        struct ii s, struct dd t, struct big u, int depth)
{
    CHECK(a == d && b == e && a == g && b == i && a == j && s.b == a);
    CHECK(f == a + 1 && f == b);
    *a += 1;
    *j += 1;
    CHECK_EQ(*d, *a);
    uint64_t x = touch(*g + *i + c + h + (uint64_t)k + s.a);
    if (depth > 0)
        x = mix(x,
                many(d, e, d8, c + 1, f0 + 1, g, i, b, d0, j, x, l + 1, f, d1,
                     d2, d3, d4, d5, d6, d7, s.b, k, s, t, u, depth - 1));
    double sum = d0 + 2 * d1 + 3 * d2 + 4 * d3 + 5 * d4 + 6 * d5 + 7 * d6 +
                 8 * d7 + 9 * d8 + f0 + t.a + t.b + (double)l;
    for (int n = 0; n < 13; n++)
        x = mix(x, u.v[n]);
    return mix(x, bits(sum));
}

static uint64_t case_many(uint64_t seed)
{
    uint64_t v[2] = {seed, seed * 3};
    struct big u;
    memset(&u, 7, sizeof(u));
    uint64_t h = many(v, v + 1, 0.5, 1, 2.5f, v, v + 1, v + 1, 3, v, 9, 1.5L,
                      v + 1, 1, 2, 3, 4, 5, 6, 7, v, 'k', (struct ii){4, v},
                      (struct dd){1, 2}, u, 30);
    return mix(h, v[0] ^ v[1]);
}

/* --- callbacks with context ------------------------------------------------------ */

struct ctx {
    uint64_t sum, *counter;
    const uint32_t *base, *end;
    struct ctx *self;
};
typedef int visit_fn(void *ctx, const uint32_t *elem);

NI static int each(const uint32_t *p, const uint32_t *end, visit_fn *fn,
                   void *ctx)
{
    int r = 0;
    for (; p != end && r == 0; p++)
        r = fn(ctx, p);
    return r;
}

NI static int visit_inner(void *vctx, const uint32_t *elem)
{
    struct ctx *c = vctx;
    CHECK(c->self == c && elem >= c->base && elem < c->end);
    ++*c->counter;
    c->sum = mix(c->sum, touch(*elem));
    return 0;
}

NI static int visit_outer(void *vctx, const uint32_t *elem)
{
    struct ctx *c = vctx;
    uint32_t local[4] = {*elem, *elem + 1, *elem + 2, *elem + 3};
    struct ctx inner = {c->sum, c->counter, local, local + 4, NULL};
    inner.self = &inner;
    CHECK_EQ(each(local, local + 4, visit_inner, &inner), 0);
    c->sum = inner.sum;
    return c->self != c;
}

static int compare(const void *a, const void *b, void *vctx)
{
    struct ctx *c = vctx;
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    CHECK(c->self == c);
    ++*c->counter;
    touch(x);
    return x < y ? -1 : x > y;
}

static uint64_t case_callbacks(uint64_t seed)
{
    uint32_t a[40];
    CLEAR(a);
    uint64_t s = seed, counter = 0;
    for (size_t i = 0; i < ARRAY_N(a); i++)
        a[i] = (uint32_t)harness_rand(&s);
    struct ctx c = {seed, &counter, a, a + ARRAY_N(a), NULL};
    c.self = &c;
    CHECK_EQ(each(a, a + ARRAY_N(a), visit_outer, &c), 0);
    CHECK_EQ(counter, 4 * ARRAY_N(a));
    /* Frames of the C library between ours. Whole words: qsort_r copies elements
     * to a buffer that it did not clear, and half of a word written over half
     * of a dead address is what docs/contract.md calls a forged one. */
    uint64_t keys[ARRAY_N(a)];
    for (size_t i = 0; i < ARRAY_N(a); i++)
        keys[i] = a[i];
    qsort_r(keys, ARRAY_N(a), sizeof(keys[0]), compare, &c);
    for (size_t i = 0; i < ARRAY_N(a); i++) {
        CHECK(i == 0 || keys[i - 1] <= keys[i]);
        c.sum = mix(c.sum, keys[i]);
    }
    return mix(c.sum, counter);
}

#ifndef __clang__
static uint64_t case_nested(uint64_t seed)
{
    uint64_t sum = seed, arr[4] = {1, 2, 3, 4}, *p = arr;
    NI void add(uint64_t x)
    {
        sum = mix(sum, touch(x) + *p);
        if (p != arr + 3)
            p++;
    }
    NI uint64_t down(int depth)
    {
        NI uint64_t deeper(int d2)
        {
            uint64_t mine = sum;
            add((uint64_t)d2);
            return d2 > 0 ? down(d2 - 1) ^ mine : mine;
        }
        return depth > 0 ? deeper(depth - 1) : sum;
    }
    uint64_t h = down(40);
    CHECK(p == arr + 3);
    return mix(h, sum);
}
#endif

/* --- callee-saved registers ------------------------------------------------------ */

NI static uint64_t pressure(const uint64_t *p, const uint64_t *q, int n)
{
    const uint64_t *a = p, *b = q, *c = p + 1, *d = q - 1, *e = p + 2;
    uint64_t f = *p, g = *q, h = 3, i = 5, j = 7;
    for (int k = 0; k < n; k++) {
        f = touch(f + *a);
        g = touch(g + *b);
        h = touch(h + *c);
        i = touch(i + *d);
        j = touch(j + *e);
        const uint64_t *t = a;
        a = b;
        b = c;
        c = d;
        d = e;
        e = t;
        if (k % 5 == 0 && n > 3)
            f = mix(f, pressure(d, e < d ? d : e + (e == p), n / 4));
    }
    return mix(f, mix(g, mix(h, mix(i, j))));
}

static uint64_t case_pressure(uint64_t seed)
{
    uint64_t v[16];
    for (size_t i = 0; i < 16; i++)
        v[i] = seed + i;
    return pressure(v + 4, v + 8, 24);
}

/* --- functions that know each other through tables -------------------------------- */

struct machine {
    uint64_t stack[64], *sp, *base;
    const uint8_t *pc;
    int depth;
};
typedef void op_fn(struct machine *m);

static void op_push(struct machine *m)
{
    *m->sp++ = touch(*++m->pc);
}
static void op_add(struct machine *m)
{
    m->sp--;
    m->sp[-1] = touch(m->sp[-1] + m->sp[0]);
}
static void op_mul(struct machine *m)
{
    m->sp--;
    m->sp[-1] = touch(m->sp[-1] * m->sp[0]);
}
static void op_call(struct machine *m);
static op_fn *const ops[] = {op_push, op_add, op_mul, op_call};

NI static uint64_t interpret(struct machine *m, const uint8_t *code)
{
    for (m->pc = code; *m->pc != 255; m->pc++)
        ops[*m->pc](m);
    return *--m->sp;
}

static const uint8_t program[] = {0, 3, 0, 4, 1, 3, 2, 0, 9, 3, 1, 255};

static void op_call(struct machine *m)
{
    if (m->depth == 0) {
        *m->sp++ = 5;
        return;
    }
    struct machine callee = {.depth = m->depth - 1};
    callee.base = callee.sp = callee.stack;
    *callee.sp++ = m->sp[-1];
    uint64_t r = interpret(&callee, program);
    CHECK(callee.base == callee.stack && callee.sp == callee.stack + 2);
    *m->sp++ = r;
}

static uint64_t case_interpreter(uint64_t seed)
{
    struct machine m = {.depth = 5};
    m.base = m.sp = m.stack;
    return mix(seed, interpret(&m, program));
}

/* --- the C library below -------------------------------------------------------- */

NI static uint64_t libc_calls(char *out, size_t n, uint64_t x, int depth)
{
    char buf[80] = "", *end = NULL; /* all of it: docs/debugging.md */
    int len =
        snprintf(buf, sizeof(buf), "%" PRIu64 ":%g:%s", x, 0.5 * depth, "tail");
    CHECK(len > 0 && (size_t)len < sizeof(buf));
    CHECK_EQ(strtoull(buf, &end, 10), x);
    CHECK(*end == ':');
    touch(x);
    double d = strtod(end + 1, &end);
    CHECK(d == 0.5 * depth);
    char *save = NULL, *tok = strtok_r(buf, ":", &save);
    uint64_t h = x;
    while (tok != NULL) {
        h = mix(h, touch(strlen(tok)));
        tok = strtok_r(NULL, ":", &save);
    }
    if (depth > 0)
        h = mix(h, libc_calls(buf, sizeof(buf), h, depth - 1));
    snprintf(out, n, "%" PRIx64, h);
    return h;
}

static uint64_t case_libc(uint64_t seed)
{
    char out[40] = "";
    uint64_t h = libc_calls(out, sizeof(out), seed, 20);
    CHECK_EQ(strtoull(out, NULL, 16), h);
    return h;
}

/* --- large frames ----------------------------------------------------------------- */

#define LARGE(name, words)                                                     \
    NI static uint64_t name(const uint64_t *up, int depth, uint64_t x)         \
    {                                                                          \
        uint64_t a[words], *p = a, *end = a + (words);                         \
        for (; p != end; p++)                                                  \
            *p = x + (uint64_t)(p - a);                                        \
        OPAQUE(x);                                                             \
        uint64_t h = touch(*up);                                               \
        if (depth > 0)                                                         \
            h = mix(h, name(end - 1, depth - 1, x * 3));                       \
        for (p = a; p != end; p++)                                             \
            CHECK_EQ(*p, x + (uint64_t)(p - a));                               \
        return mix(h, *up + a[depth]);                                         \
    }
LARGE(large_300, 38)
LARGE(large_5k, 640)
LARGE(large_64k, 8192)
LARGE(large_300k, 38400)

static uint64_t case_large(uint64_t seed)
{
    uint64_t h = large_300(&seed, 30, seed);
    h = mix(h, large_5k(&seed, 15, seed));
    h = mix(h, large_64k(&seed, 3, seed));
    return mix(h, large_300k(&seed, 1, seed));
}

/* The first thing the goroutine does needs more than twice its stack. */
static uint64_t case_large_first(uint64_t seed)
{
    return large_300k(&seed, 0, seed);
}

/* The low bytes of a dead pointer are overwritten by a smaller value: together
 * with the rest of it, left in the padding, they look like a pointer. */
union reused {
    uint64_t *p;
    uint8_t u8;
    uint16_t u16;
    long double ld;
    struct {
        uint64_t mantissa;
        uint64_t *p;
    } parts;
};

NI static uint64_t reuse(uint64_t x, int depth)
{
    uint64_t local = x;
    union reused a, b, c, *pa = &a, *pb = &b, *pc = &c;
    a.p = &local;
    b.p = &local;
    c.parts.p = &local;
    OPAQUE(pa);
    OPAQUE(pb);
    OPAQUE(pc);
    pa->u8 = (uint8_t)x;
    pb->u16 = (uint16_t)x;
    pc->ld = (long double)depth;
    OPAQUE(x);
    uint64_t h = depth > 0 ? reuse(touch(x), depth - 1) : x;
    OPAQUE(x);
    CHECK_EQ(pa->u8, (uint8_t)x);
    CHECK_EQ(pb->u16, (uint16_t)x);
    CHECK(pc->ld == (long double)depth);
    return mix(h, local);
}

static uint64_t case_reuse(uint64_t seed)
{
    return reuse(seed, 60);
}

/* Channel operands on the stack, of both sides, while others run. */
static tarn_chan *volatile ping, *volatile pong;

static void echo(void *unused)
{
    uint64_t v[3];
    (void)unused;
    while (tarn_chan_recv(ping, v) == TARN_OK) {
        v[1] = touch(v[0]);
        v[2] = ~v[0];
        CHECK_EQ(tarn_chan_send(pong, v), TARN_OK);
    }
    CHECK_EQ(tarn_chan_close(pong), TARN_OK);
}

NI static uint64_t talk(uint64_t x, int depth)
{
    uint64_t v[3] = {x, 0, 0}, w[3];
    CHECK_EQ(tarn_chan_send(ping, v), TARN_OK);
    struct tarn_select_case cases[2] = {
        {pong, TARN_SELECT_RECV, w, TARN_OK},
        {NULL, TARN_SELECT_SEND, v, TARN_OK},
    };
    CHECK_EQ(tarn_select(cases, 2, false), 0);
    CHECK_EQ(w[2], ~w[0]);
    CHECK_EQ(w[1], mix(w[0], 1));
    return mix(w[1], depth > 0 ? talk(x + 1, depth - 1) : 0);
}

static tarn_mutex talk_lock;

static uint64_t case_channels(uint64_t seed)
{
    if (tarn_self() == 0) {
        uint64_t h = 0;
        for (int i = 50; i >= 0; i--)
            h = mix(mix(seed + (uint64_t)i, 1), h);
        return h;
    }
    tarn_mutex_lock(&talk_lock);
    ping = tarn_chan_new(24, 0);
    pong = tarn_chan_new(24, 0);
    CHECK_EQ(tarn_go(echo, NULL), TARN_OK);
    uint64_t h = talk(seed, 50), w[3];
    CHECK_EQ(tarn_chan_close(ping), TARN_OK);
    CHECK_EQ(tarn_chan_recv(pong, w), TARN_ECLOSED);
    tarn_mutex_unlock(&talk_lock);
    return h;
}

int main(int argc, char **argv)
{
    static struct stack_case cases[] = {
        CASE(case_chain),         CASE(case_deep),        CASE(case_accumulate),
        CASE(case_arrays),        CASE(case_quicksort),   CASE(case_permute),
        CASE(case_struct_return), CASE(case_pairs),       CASE(case_many),
        CASE(case_callbacks),
#ifndef __clang__
        CASE(case_nested),
#endif
        CASE(case_pressure),      CASE(case_interpreter), CASE(case_libc),
        CASE(case_large),         CASE(case_large_first), CASE(case_channels),
        CASE(case_reuse),
    };
    return stack_case_main(argc, argv, cases, ARRAY_N(cases));
}

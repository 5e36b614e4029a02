/* alloca and variable-length arrays: on the stack where there is room, from the
 * runtime where there is not (gcc asks __morestack_allocate_stack_space), which
 * when stacks are moved is always. */
#include <alloca.h>
#include <sys/resource.h>

#include "tests/stack/stackcase.h"

struct node {
    struct node *next;
    uint64_t *local, v;
    uint8_t pad[40];
};

NI static uint64_t sum_nodes(const struct node *n, const uint64_t *end_local)
{
    uint64_t h = 0;
    for (; n != NULL; n = n->next) {
        CHECK(n->local <= end_local);
        h = mix(h, touch(n->v) ^ *n->local);
        for (size_t i = 0; i < sizeof(n->pad); i++)
            CHECK_EQ(n->pad[i], (uint8_t)n->v);
    }
    return h;
}

/* Blocks of one frame that point to each other and to locals. */
NI static uint64_t list(uint64_t seed, int count)
{
    uint64_t locals[8];
    struct node *head = NULL;
    for (int i = 0; i < count; i++) {
        struct node *n = alloca(sizeof(*n) + (size_t)(i % 7) * 24);
        locals[i & 7] = seed + (uint64_t)(i & 7);
        n->next = head;
        n->local = &locals[i & 7];
        n->v = touch(seed + (uint64_t)i);
        memset(n->pad, (int)(n->v & 255), sizeof(n->pad));
        head = n;
    }
    uint64_t h = sum_nodes(head, locals + 7);
    for (struct node *n = head; n != NULL; n = n->next)
        CHECK(n->local >= locals && n->local <= locals + 7);
    return mix(h, sum_nodes(head, locals + 7));
}

static uint64_t case_list(uint64_t seed)
{
    return list(seed, 60);
}

/* One list through the blocks of many frames. */
NI static uint64_t list_down(struct node *up, int depth, uint64_t x)
{
    uint64_t mine = touch(x);
    struct node *n = alloca(sizeof(*n) + (size_t)(x % 64));
    n->next = up;
    n->local = &mine;
    n->v = x;
    memset(n->pad, (int)(x & 255), sizeof(n->pad));
    uint64_t h = depth > 0 ? list_down(n, depth - 1, mine)
                           : sum_nodes(n, (uint64_t *)UINTPTR_MAX);
    CHECK(n->local == &mine && n->next == up);
    CHECK_EQ(n->v, x);
    return mix(h, *n->local);
}

static uint64_t case_list_down(uint64_t seed)
{
    return list_down(NULL, 100, seed);
}

/* Arrays with variable bounds, in loops and scopes, passed down. */
NI static uint64_t fill(size_t n, size_t m, uint32_t a[n][m], uint64_t x)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            a[i][j] = (uint32_t)(x + i * m + j);
    touch(x);
    return a[n - 1][m - 1];
}

NI static uint64_t arrays(uint64_t x, int depth)
{
    uint64_t h = x;
    for (size_t n = 1; n < 12; n++) {
        uint32_t a[n][n + 1], (*end)[n + 1] = a + n;
        h = mix(h, fill(n, n + 1, a, h));
        {
            uint64_t b[n * 3];
            for (size_t i = 0; i < n * 3; i++)
                b[i] = touch(h + i);
            for (uint64_t *p = b; p != b + n * 3; p++)
                h = mix(h, *p);
        }
        if (depth > 0 && n % 4 == 0)
            h = mix(h, arrays(h, depth - 1));
        for (uint32_t(*p)[n + 1] = a; p != end; p++)
            for (size_t j = 0; j <= n; j++)
                h = mix(h, (*p)[j]);
    }
    return h;
}

static uint64_t case_arrays(uint64_t seed)
{
    return arrays(seed, 3);
}

/* Large ones: the stack must grow, or the runtime give memory. */
NI static uint64_t large(size_t bytes, int depth, uint64_t x)
{
    uint8_t *p = alloca(bytes);
    memset(p, (int)(x & 255), bytes);
    uint8_t *end = p + bytes;
    uint64_t h = depth > 0 ? large(bytes / 2 + 1, depth - 1, touch(x)) : x;
    CHECK(end - p == (ptrdiff_t)bytes);
    CHECK_EQ(p[0], (uint8_t)x);
    CHECK_EQ(end[-1], (uint8_t)x);
    for (size_t i = 0; i < bytes; i += 509)
        h = mix(h, p[i]);
    return h;
}

static uint64_t case_large(uint64_t seed)
{
    uint64_t h = seed;
    for (size_t n = 1; n < (1u << 20); n *= 9)
        h = mix(h, large(n, 6, h));
    return h;
}

static size_t resident(void)
{
    struct rusage u;
    CHECK_EQ(getrusage(RUSAGE_SELF, &u), 0);
    return (size_t)u.ru_maxrss << 10;
}

/* A loop in one frame takes no more memory for each round: 150 MB here. */
NI static uint64_t loop(uint64_t x, size_t bytes, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        uint8_t a[bytes];
        memset(a, (int)(x & 255), bytes);
        OPAQUE(x);
        x = mix(x, a[x % bytes] + a[bytes - 1]);
    }
    return x;
}

static uint64_t case_loop(uint64_t seed)
{
    size_t before = resident();
    uint64_t h = loop(seed, 64 << 10, 1600);
    h = mix(h, loop(seed, 1000000, 50));
    h = mix(h, loop(seed, 200, 5000));
    CHECK_LT(resident(), before + ((size_t)64 << 20));
    return h;
}

/* A callee's blocks die with it: here 200 MB over time. */
NI static uint64_t once(uint64_t x, size_t bytes)
{
    uint8_t *p = alloca(bytes);
    for (size_t i = 0; i < bytes; i += 4096)
        p[i] = (uint8_t)x;
    OPAQUE(p);
    return mix(x, touch(*p));
}

NI static uint64_t often(uint64_t x, int rounds)
{
    for (int i = 0; i < rounds; i++)
        x = once(x, 1 << 20);
    return x;
}

static uint64_t case_callee(uint64_t seed)
{
    size_t before = resident();
    uint64_t h = often(seed, 200);
    CHECK_LT(resident(), before + ((size_t)64 << 20));
    return h;
}

/* A block whose only pointers are in another block, while memory is reclaimed
 * from dead ones of the same frame. */
NI static uint64_t indirect(uint64_t x, int rounds)
{
    uint64_t **top = alloca(sizeof(*top) * 4);
    for (int i = 0; i < 4; i++) {
        top[i] = alloca(4000);
        for (int j = 0; j < 500; j++)
            top[i][j] = x + (uint64_t)(i * 1000 + j);
    }
    OPAQUE(top);
    uint64_t h = x;
    for (int r = 0; r < rounds; r++) {
        size_t bytes = 100000 + (size_t)r;
        uint8_t a[bytes];
        memset(a, 0xee, bytes);
        h = mix(h, touch(a[h % bytes]));
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 500; j++)
            CHECK_EQ(top[i][j], x + (uint64_t)(i * 1000 + j));
    return h;
}

static uint64_t case_indirect(uint64_t seed)
{
    return indirect(seed, 60);
}

/* Calls with arguments on the stack around alloca: stack that is popped late
 * must not make a live block look dead. */
NI static uint64_t ten(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f, uint64_t g, uint64_t h,
                       uint64_t i, uint64_t j)
{
    return touch(a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 +
                 i * 9 + j * 10);
}

NI static uint64_t use(const uint64_t *p, uint64_t x)
{
    uint64_t *q = alloca(128);
    for (int i = 0; i < 16; i++)
        q[i] = x;
    OPAQUE(q);
    return ten(p[0], q[0], p[1], q[1], p[2], q[2], p[3], q[3], p[4], q[4]);
}

NI static uint64_t between_calls(uint64_t x)
{
    uint64_t a = ten(x, 2, 3, 4, 5, 6, 7, 8, 9, 10) +
                 ten(x, 1, 1, 1, 1, 1, 1, 1, 1, 1) +
                 ten(x, x, 1, 1, 1, 1, x, x, x, x);
    uint64_t *p = alloca(64);
    for (int i = 0; i < 8; i++)
        p[i] = a + (uint64_t)i;
    uint64_t b = ten(x, use(p, a), 3, 4, 5, use(p, x), 7, use(p, 3), 9,
                     ten(1, 2, 3, 4, 5, 6, 7, 8, 9, use(p, 1)));
    uint64_t *q = alloca(64);
    q[0] = b;
    for (int i = 1; i < 8; i++)
        q[i] = use(p, q[i - 1]);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(p[i], a + (uint64_t)i);
    return mix(use(q, b), use(p, a));
}

static uint64_t case_between_calls(uint64_t seed)
{
    uint64_t h = seed;
    for (int i = 0; i < 20; i++)
        h = mix(h, between_calls(h));
    return h;
}

int main(int argc, char **argv)
{
    static struct stack_case cases[] = {
        CASE(case_list),     CASE(case_list_down),     CASE(case_arrays),
        CASE(case_large),    CASE(case_loop),          CASE(case_callee),
        CASE(case_indirect), CASE(case_between_calls),
    };
    return stack_case_main(argc, argv, cases, ARRAY_N(cases));
}

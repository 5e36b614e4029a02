/* Functions with variable arguments: in registers, on the stack, passed down as
 * a va_list, copied, with pointers to locals among them. clang cannot compile
 * them with stack checks; there the linker makes their callers ask for room. */
#include <stdarg.h>

#include "tests/stack/stackcase.h"

#ifdef __clang__
#define VARIADIC NI __attribute__((no_split_stack))
#else
#define VARIADIC NI
#endif

VARIADIC static uint64_t ints(int n, ...)
{
    va_list ap;
    uint64_t h = 0;
    va_start(ap, n);
    for (int i = 0; i < n; i++)
        h = mix(h, touch((uint64_t)va_arg(ap, int)));
    va_end(ap);
    return h;
}

VARIADIC static double doubles(int n, ...)
{
    va_list ap;
    double sum = 0;
    va_start(ap, n);
    for (int i = 0; i < n; i++) {
        sum = sum * 1.5 + va_arg(ap, double);
        touch((uint64_t)i);
    }
    va_end(ap);
    return sum;
}

static uint64_t bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof(u));
    return u;
}

static uint64_t case_ints(uint64_t seed)
{
    uint64_t h = seed;
    int a = (int)(seed & 1023);
    h = mix(h, ints(0));
    h = mix(h, ints(1, a));
    h = mix(h, ints(5, 1, 2, 3, 4, a));
    h = mix(h, ints(6, 1, 2, 3, 4, 5, a));
    h = mix(h, ints(13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, a));
    /* All the same as one by one. */
    uint64_t g = 0;
    for (int i = 1; i <= 12; i++)
        g = mix(g, touch((uint64_t)i));
    CHECK_EQ(ints(12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), g);
    return h;
}

static uint64_t case_doubles(uint64_t seed)
{
    double a = (double)(seed & 1023), want = 0;
    double got = doubles(12, a, 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.);
    for (int i = 0; i < 12; i++)
        want = want * 1.5 + (i ? (double)i : a);
    CHECK(got == want);
    return mix(bits(got), bits(doubles(2, a, a)));
}

/* Format: i int, d double, p pointer to a local, l long double, s struct. */
struct pair {
    uint64_t a;
    double b;
};
struct wide {
    uint64_t a[5];
};

NI static uint64_t consume(const char *fmt, va_list ap, int depth)
{
    uint64_t h = touch((uint64_t)depth);
    if (depth > 0) {
        va_list copy;
        va_copy(copy, ap);
        h = mix(h, consume(fmt, copy, depth - 1));
        va_end(copy);
    }
    for (; *fmt; fmt++) {
        switch (*fmt) {
        case 'i':
            h = mix(h, (uint64_t)va_arg(ap, int));
            break;
        case 'd':
            h = mix(h, bits(va_arg(ap, double)));
            break;
        case 'p': {
            uint64_t *p = va_arg(ap, uint64_t *);
            *p += 1;
            h = mix(h, *p);
            break;
        }
        case 'l':
            h = mix(h, (uint64_t)va_arg(ap, long double));
            break;
        case 's': {
            struct pair s = va_arg(ap, struct pair);
            h = mix(h, s.a ^ bits(s.b));
            break;
        }
        case 'w': {
            struct wide w = va_arg(ap, struct wide);
            h = mix(h, w.a[0] ^ w.a[4]);
            break;
        }
        default:
            CHECK(false);
        }
        touch(h);
    }
    return h;
}

VARIADIC static uint64_t format(int depth, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    uint64_t h = consume(fmt, ap, depth);
    va_end(ap);
    return h;
}

static uint64_t case_va_list(uint64_t seed)
{
    uint64_t x = seed, y = 7, h = 0;
    struct pair s = {seed, 2.5};
    struct wide w = {{seed, 2, 3, 4, 5}};
    h = mix(h, format(3, "ip", 5, &x));
    h = mix(h, format(3, "dddddddddpp", 1., 2., 3., 4., 5., 6., 7., 8., 9., &x,
                      &y));
    h = mix(h, format(2, "ipipipipip", 1, &x, 2, &y, 3, &x, 4, &y, 5, &x));
    h = mix(h, format(2, "lspwispdwlp", 4.0L, s, &x, w, 9, s, &y, 3.5, w, 8.0L,
                      &x));
    return mix(h, mix(x, y));
}

/* A variadic function that calls itself, its locals and arguments in use before
 * and after. */
VARIADIC static uint64_t nest(int depth, uint64_t *up, ...)
{
    va_list ap;
    uint64_t mine = touch(*up), got[8];
    va_start(ap, up);
    for (int i = 0; i < 4; i++)
        got[i] = va_arg(ap, uint64_t);
    if (depth > 0)
        mine = mix(mine, nest(depth - 1, &mine, got[0] + 1, got[1] + 1,
                              got[2] + 1, got[3] + 1, got[0], &got[0], got[2],
                              0.5 * depth, got[3]));
    for (int i = 4; i < 5; i++)
        got[i] = va_arg(ap, uint64_t);
    uint64_t *p = va_arg(ap, uint64_t *);
    if (p != NULL)
        CHECK_EQ(*p, got[4]);
    got[5] = va_arg(ap, uint64_t);
    double d = va_arg(ap, double);
    got[6] = va_arg(ap, uint64_t);
    va_end(ap);
    CHECK_EQ(got[5], got[2] - 1);
    CHECK_EQ(got[6], got[3] - 1);
    return mix(mine, bits(d) ^ *up);
}

static uint64_t case_nest(uint64_t seed)
{
    uint64_t x = seed;
    return nest(60, &x, UINT64_C(11), UINT64_C(21), UINT64_C(31), UINT64_C(41),
                UINT64_C(10), NULL, UINT64_C(30), 0.25, UINT64_C(40));
}

/* A large frame and variable arguments on the stack. */
VARIADIC static uint64_t large(int n, ...)
{
    uint64_t a[700], h = 0;
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < 700; i++)
        a[i] = i < n ? va_arg(ap, uint64_t) : (uint64_t)i;
    va_end(ap);
    touch(a[0]);
    for (int i = 0; i < 700; i++)
        h = mix(h, a[i]);
    return h;
}

NI static uint64_t call_large(int depth, uint64_t x)
{
    uint64_t h =
        large(9, x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7, x + 8);
    return depth > 0 ? mix(h, call_large(depth - 1, h)) : h;
}

static uint64_t case_large(uint64_t seed)
{
    return call_large(40, seed);
}

VARIADIC static int print(char *buf, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = vsnprintf(buf, n, fmt, ap);
    va_end(ap);
    return r;
}

NI static uint64_t print_down(char *up, int depth, uint64_t x)
{
    char buf[200] = "";
    int n = print(buf, sizeof(buf), "%d %s %g %" PRIx64 " %c %5.2f %ld %Lf",
                  depth, up, 0.5 * depth, x, 'x', 1.0 / (depth + 1),
                  (long)depth * 1000, 1.5L * depth);
    CHECK(n > 0);
    CHECK_LT(n, 200);
    uint64_t h = x;
    for (const char *p = buf; *p; p++)
        h = mix(h, (uint64_t)*p);
    buf[20] = '\0';
    touch(h);
    return depth > 0 ? mix(h, print_down(buf, depth - 1, h)) : h;
}

static uint64_t case_print(uint64_t seed)
{
    char s[] = "start";
    return print_down(s, 30, seed);
}

int main(int argc, char **argv)
{
    static struct stack_case cases[] = {
        CASE(case_ints), CASE(case_doubles), CASE(case_va_list),
        CASE(case_nest), CASE(case_large),   CASE(case_print),
    };
    return stack_case_main(argc, argv, cases, ARRAY_N(cases));
}

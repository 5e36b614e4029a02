/* number.c - numbers: fixnums, bignums, fractions of them, and flonums. */
#include "port.h"

#include <math.h>
#include <string.h>

bool is_exact_integer(V v)
{
    return IS_FIX(v) || IS_BIG(v);
}

bool is_number(V v)
{
    return is_exact_integer(v) || IS_FLO(v) || IS_RATIO(v);
}

static V num_gcd(V a, V b);
static void divide(V a, V b, V *q, V *r);

static double ratio_to_double(V n, V d)
{
    intptr_t shift = (intptr_t)big_bits(d) - (intptr_t)big_bits(n);
    if (IS_FIX(n) && IS_FIX(d) && big_bits(n) <= 53 && big_bits(d) <= 53)
        return (double)INT(n) / (double)INT(d);
    /* A quotient of 66 bits or so, with a last one for what lies below. */
    V q, r;
    shift += 66;
    if (shift >= 0)
        divide(big_shift(n, shift), d, &q, &r);
    else
        divide(n, big_shift(d, -shift), &q, &r);
    q = big_shift(q, 1);
    if (r != FIX(0))
        q = num_add(NULL, q, FIX(num_cmp(n, FIX(0))));
    shift = shift < -4000 ? -4000 : shift > 4000 ? 4000 : shift;
    return ldexp(to_double(q), (int)(-shift - 1));
}

double to_double(V v)
{
    if (IS_RATIO(v))
        return ratio_to_double(RATIO(v)->num, RATIO(v)->den);
    return IS_FIX(v) ? (double)INT(v) : IS_FLO(v) ? FLO(v) : big_to_double(v);
}

static V numerator(V v)
{
    return IS_RATIO(v) ? RATIO(v)->num : v;
}

static V denominator(V v)
{
    return IS_RATIO(v) ? RATIO(v)->den : FIX(1);
}

/* n / d in lowest terms; d is not 0. */
static V make_ratio(V n, V d)
{
    V g = num_gcd(n, d), rest;
    if (num_cmp(d, FIX(0)) < 0)
        g = num_sub(NULL, FIX(0), g);
    divide(n, g, &n, &rest);
    divide(d, g, &d, &rest);
    if (d == FIX(1))
        return n;
    struct ratio *r = mem_words(3);
    r->header = T_RATIO;
    mem_init(&r->num, n);
    mem_init(&r->den, d);
    return (V)r;
}

#define ANY_RATIO(a, b) (IS_RATIO(a) || IS_RATIO(b))
/* a's numerator times b's denominator */
#define CROSS(a, b) num_mul(NULL, numerator(a), denominator(b))
#define DENOMINATORS(a, b) num_mul(NULL, denominator(a), denominator(b))

static V exact_value(V x);

static V not_number(C *c, const char *who, V a, V b)
{
    return wrong_type(c, who, is_number(a) ? b : a);
}

V num_add(C *c, V a, V b)
{
    if (IS_FIX(a) && IS_FIX(b))
        return int_to_value(INT(a) + INT(b));
    if (!is_number(a) || !is_number(b))
        return not_number(c, "+", a, b);
    if (IS_FLO(a) || IS_FLO(b))
        return flonum(to_double(a) + to_double(b));
    if (ANY_RATIO(a, b))
        return make_ratio(num_add(c, CROSS(a, b), CROSS(b, a)),
                          DENOMINATORS(a, b));
    return big_add(a, b, false);
}

V num_sub(C *c, V a, V b)
{
    if (IS_FIX(a) && IS_FIX(b))
        return int_to_value(INT(a) - INT(b));
    if (!is_number(a) || !is_number(b))
        return not_number(c, "-", a, b);
    if (IS_FLO(a) || IS_FLO(b))
        return flonum(to_double(a) - to_double(b));
    if (ANY_RATIO(a, b))
        return make_ratio(num_sub(c, CROSS(a, b), CROSS(b, a)),
                          DENOMINATORS(a, b));
    return big_add(a, b, true);
}

V num_mul(C *c, V a, V b)
{
    intptr_t product;
    if (IS_FIX(a) && IS_FIX(b) &&
        !__builtin_mul_overflow(INT(a), INT(b), &product))
        return int_to_value(product);
    if (!is_number(a) || !is_number(b))
        return not_number(c, "*", a, b);
    if (IS_FLO(a) || IS_FLO(b))
        return flonum(to_double(a) * to_double(b));
    if (ANY_RATIO(a, b))
        return make_ratio(num_mul(c, numerator(a), numerator(b)),
                          DENOMINATORS(a, b));
    return big_mul(a, b);
}

int num_cmp(V a, V b)
{
    if (IS_FIX(a) && IS_FIX(b))
        return (INT(a) > INT(b)) - (INT(a) < INT(b));
    if (IS_FLO(a) || IS_FLO(b)) {
        double x = to_double(a), y = to_double(b);
        if (x != x || y != y)
            return 2;
        if (x != y || IS_FLO(a) == IS_FLO(b) ||
            (fabs(x) < 9e15 && !ANY_RATIO(a, b)))
            return (x > y) - (x < y);
        /* The exact one may have been rounded to the other. */
        if (isinf(x))
            return (x > 0) == IS_FLO(a) ? 1 : -1;
        return num_cmp(IS_FLO(a) ? exact_value(a) : a,
                       IS_FLO(b) ? exact_value(b) : b);
    }
    if (ANY_RATIO(a, b))
        return num_cmp(CROSS(a, b), CROSS(b, a));
    return big_cmp(a, b);
}

/* Towards zero; b is not 0. */
static void divide(V a, V b, V *q, V *r)
{
    if (IS_FIX(a) && IS_FIX(b)) {
        *q = int_to_value(INT(a) / INT(b));
        *r = FIX(INT(a) % INT(b));
    } else {
        big_divide(a, b, q, r);
    }
}

static bool is_integer(V v)
{
    return is_exact_integer(v) ||
           (IS_FLO(v) && isfinite(FLO(v)) && floor(FLO(v)) == FLO(v));
}

enum { DIV_QUOTIENT, DIV_REMAINDER, DIV_MODULO, DIV_FLOOR };

static R integer_division(C *c, const char *who, int what, V a, V b)
{
    if (!is_integer(a) || !is_integer(b))
        return RET(wrong_type(c, who, is_integer(a) ? b : a));
    if (IS_FLO(a) || IS_FLO(b)) {
        double x = to_double(a), y = to_double(b), q;
        if (y == 0)
            return RET(fail1(c, "division by zero", a));
        q = what == DIV_MODULO || what == DIV_FLOOR ? floor(x / y)
                                                    : trunc(x / y);
        if (what == DIV_QUOTIENT || what == DIV_FLOOR)
            return RET(flonum(q));
        double r = fmod(x, y);
        if (what == DIV_MODULO && r != 0 && (r < 0) != (y < 0))
            r += y;
        return RET(flonum(r));
    }
    if (b == FIX(0))
        return RET(fail1(c, "division by zero", a));
    V q, r;
    divide(a, b, &q, &r);
    if (what == DIV_QUOTIENT)
        return RET(q);
    if (what == DIV_REMAINDER || r == FIX(0))
        return RET(what == DIV_FLOOR ? q : r);
    if ((num_cmp(r, FIX(0)) < 0) != (num_cmp(b, FIX(0)) < 0)) {
        r = num_add(c, r, b);
        q = num_sub(c, q, FIX(1));
    }
    return RET(what == DIV_FLOOR ? q : r);
}

static R p_quotient(C *c, V a, V b)
{
    return integer_division(c, "quotient", DIV_QUOTIENT, a, b);
}

static R p_remainder(C *c, V a, V b)
{
    return integer_division(c, "remainder", DIV_REMAINDER, a, b);
}

static R p_modulo(C *c, V a, V b)
{
    return integer_division(c, "modulo", DIV_MODULO, a, b);
}

static R p_floor_quotient(C *c, V a, V b)
{
    return integer_division(c, "floor-quotient", DIV_FLOOR, a, b);
}

#define FOLD(name, op, unit)                                                   \
    static R name(C *c, size_t n, const V *a)                                  \
    {                                                                          \
        V r = FIX(unit);                                                       \
        if (n == 1 && !is_number(a[0]))                                        \
            return RET(op(c, a[0], r));                                        \
        for (size_t i = 0; i < n && r != UNWIND; i++)                          \
            r = i == 0 ? a[0] : op(c, r, a[i]);                                \
        return RET(r);                                                         \
    }
FOLD(p_add, num_add, 0)
FOLD(p_mul, num_mul, 1)

static R p_sub(C *c, size_t n, const V *a)
{
    if (n == 1)
        return RET(num_sub(c, FIX(0), a[0]));
    V r = a[0];
    for (size_t i = 1; i < n && r != UNWIND; i++)
        r = num_sub(c, r, a[i]);
    return RET(r);
}

static V num_div(C *c, V a, V b)
{
    if (!is_number(a) || !is_number(b))
        return not_number(c, "/", a, b);
    if (b == FIX(0))
        return fail1(c, "division by zero", a);
    if (!IS_FLO(a) && !IS_FLO(b))
        return make_ratio(CROSS(a, b), CROSS(b, a));
    return flonum(to_double(a) / to_double(b));
}

static R p_div(C *c, size_t n, const V *a)
{
    V r = n == 1 ? FIX(1) : a[0];
    for (size_t i = n == 1 ? 0 : 1; i < n && r != UNWIND; i++)
        r = num_div(c, r, a[i]);
    return RET(r);
}

static R compare(C *c, const char *who, size_t n, const V *a, unsigned allowed)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        if (!is_number(a[i]))
            return RET(wrong_type(c, who, a[i]));
        if (i > 0)
            ok &= (allowed >> (num_cmp(a[i - 1], a[i]) + 1)) & 1;
    }
    return RET(BOOL(ok));
}

#define COMPARE(name, text, allowed)                                           \
    static R name(C *c, size_t n, const V *a)                                  \
    {                                                                          \
        return compare(c, text, n, a, allowed);                                \
    }
COMPARE(p_lt, "<", 1)
COMPARE(p_gt, ">", 4)
COMPARE(p_le, "<=", 3)
COMPARE(p_ge, ">=", 6)
COMPARE(p_eq, "=", 2)

static R extreme(C *c, const char *who, size_t n, const V *a, int sign)
{
    V r = a[0];
    bool inexact = false;
    for (size_t i = 0; i < n; i++) {
        if (!is_number(a[i]))
            return RET(wrong_type(c, who, a[i]));
        inexact |= IS_FLO(a[i]);
        if (num_cmp(a[i], r) == sign)
            r = a[i];
    }
    return RET(inexact && !IS_FLO(r) ? flonum(to_double(r)) : r);
}

static R p_max(C *c, size_t n, const V *a)
{
    return extreme(c, "max", n, a, 1);
}

static R p_min(C *c, size_t n, const V *a)
{
    return extreme(c, "min", n, a, -1);
}

static V num_gcd(V a, V b)
{
    while (b != FIX(0)) {
        V q, r;
        divide(a, b, &q, &r);
        a = b;
        b = r;
    }
    return num_cmp(a, FIX(0)) < 0 ? num_sub(NULL, FIX(0), a) : a;
}

static R p_gcd(C *c, size_t n, const V *a)
{
    V r = FIX(0);
    for (size_t i = 0; i < n; i++) {
        if (!is_exact_integer(a[i]))
            return RET(wrong_type(c, "gcd", a[i]));
        r = num_gcd(r, a[i]);
    }
    return RET(r);
}

static R p_lcm(C *c, size_t n, const V *a)
{
    V r = FIX(1);
    for (size_t i = 0; i < n; i++) {
        if (!is_exact_integer(a[i]))
            return RET(wrong_type(c, "lcm", a[i]));
        if (a[i] == FIX(0))
            return RET(FIX(0));
        V q, rest;
        divide(a[i], num_gcd(r, a[i]), &q, &rest);
        r = num_mul(c, r, q);
    }
    return RET(num_cmp(r, FIX(0)) < 0 ? num_sub(c, FIX(0), r) : r);
}

/* --- predicates, conversions -------------------------------------------------- */

#define PREDICATE(name, condition)                                             \
    static R name(C *c, V x)                                                   \
    {                                                                          \
        (void)c;                                                               \
        return RET(BOOL(condition));                                           \
    }
PREDICATE(p_number_p, is_number(x))
PREDICATE(p_integer_p, is_integer(x))
PREDICATE(p_rational_p,
          is_exact_integer(x) || IS_RATIO(x) || (IS_FLO(x) && isfinite(FLO(x))))
PREDICATE(p_exact_integer_p, is_exact_integer(x))
PREDICATE(p_nan_p, IS_FLO(x) && FLO(x) != FLO(x))
PREDICATE(p_infinite_p, IS_FLO(x) && isinf(FLO(x)))
PREDICATE(p_finite_p,
          is_exact_integer(x) || IS_RATIO(x) || (IS_FLO(x) && isfinite(FLO(x))))

#define ON_NUMBER(name, text, condition)                                       \
    static R name(C *c, V x)                                                   \
    {                                                                          \
        if (!is_number(x))                                                     \
            return RET(wrong_type(c, text, x));                                \
        return RET(condition);                                                 \
    }
ON_NUMBER(p_exact_p, "exact?", BOOL(!IS_FLO(x)))
ON_NUMBER(p_inexact_p, "inexact?", BOOL(IS_FLO(x)))
ON_NUMBER(p_zero_p, "zero?", BOOL(x == FIX(0) || (IS_FLO(x) && FLO(x) == 0)))
ON_NUMBER(p_positive_p, "positive?", BOOL(num_cmp(x, FIX(0)) == 1))
ON_NUMBER(p_negative_p, "negative?", BOOL(num_cmp(x, FIX(0)) == -1))
ON_NUMBER(p_inexact, "inexact", IS_FLO(x) ? x : flonum(to_double(x)))
ON_NUMBER(p_abs, "abs",
          IS_FLO(x)                  ? flonum(fabs(FLO(x)))
          : num_cmp(x, FIX(0)) == -1 ? num_sub(c, FIX(0), x)
                                     : x)

/* The next integer below a fraction. */
static V ratio_floor(V x)
{
    V q, r;
    divide(RATIO(x)->num, RATIO(x)->den, &q, &r);
    return num_cmp(x, FIX(0)) < 0 ? num_sub(NULL, q, FIX(1)) : q;
}

static V ratio_round(V x)
{
    V down = ratio_floor(x), q, odd;
    V rest = num_sub(NULL, num_sub(NULL, x, down), make_ratio(FIX(1), FIX(2)));
    int side = num_cmp(rest, FIX(0));
    divide(down, FIX(2), &q, &odd);
    bool up = side > 0 || (side == 0 && odd != FIX(0));
    return up ? num_add(NULL, down, FIX(1)) : down;
}

ON_NUMBER(p_floor, "floor",
          IS_FLO(x)     ? flonum(floor(FLO(x)))
          : IS_RATIO(x) ? ratio_floor(x)
                        : x)
ON_NUMBER(p_ceiling, "ceiling",
          IS_FLO(x)     ? flonum(ceil(FLO(x)))
          : IS_RATIO(x) ? num_add(c, ratio_floor(x), FIX(1))
                        : x)
ON_NUMBER(p_truncate, "truncate",
          IS_FLO(x)                  ? flonum(trunc(FLO(x)))
          : !IS_RATIO(x)             ? x
          : num_cmp(x, FIX(0)) == -1 ? num_add(c, ratio_floor(x), FIX(1))
                                     : ratio_floor(x))
ON_NUMBER(p_round, "round",
          IS_FLO(x)     ? flonum(nearbyint(FLO(x)))
          : IS_RATIO(x) ? ratio_round(x)
                        : x)

/* What a flonum is exactly. */
static V exact_value(V x)
{
    int exponent;
    double m = frexp(FLO(x), &exponent);
    V n = big_from_double(ldexp(m, 53));
    if (exponent >= 53)
        return big_shift(n, exponent - 53);
    return make_ratio(n, big_shift(FIX(1), 53 - exponent));
}

static R p_numerator(C *c, V x)
{
    if (!is_number(x) || (IS_FLO(x) && !isfinite(FLO(x))))
        return RET(wrong_type(c, "numerator", x));
    if (IS_FLO(x))
        return RET(flonum(to_double(numerator(exact_value(x)))));
    return RET(numerator(x));
}

static R p_denominator(C *c, V x)
{
    if (!is_number(x) || (IS_FLO(x) && !isfinite(FLO(x))))
        return RET(wrong_type(c, "denominator", x));
    if (IS_FLO(x))
        return RET(flonum(to_double(denominator(exact_value(x)))));
    return RET(denominator(x));
}

static R parity(C *c, const char *who, V x, bool odd)
{
    if (IS_FIX(x))
        return RET(BOOL((INT(x) & 1) == odd));
    R r = integer_division(c, who, DIV_REMAINDER, x, FIX(2));
    if (r.v == UNWIND)
        return r;
    return RET(BOOL((num_cmp(r.v, FIX(0)) != 0) == odd));
}

static R p_odd_p(C *c, V x)
{
    return parity(c, "odd?", x, true);
}

static R p_even_p(C *c, V x)
{
    return parity(c, "even?", x, false);
}

static R p_exact(C *c, V x)
{
    if (is_exact_integer(x) || IS_RATIO(x))
        return RET(x);
    if (!IS_FLO(x) || !isfinite(FLO(x)))
        return RET(wrong_type(c, "exact", x));
    return RET(exact_value(x));
}

static V integer_sqrt(C *c, V n)
{
    /* Newton's method from above. */
    V x = big_bits(n) < 1000
              ? big_from_double(sqrt(to_double(n)) * 1.000001 + 2)
              : big_shift(FIX(1), (intptr_t)(big_bits(n) + 1) / 2);
    for (;;) {
        V q, r, next;
        divide(n, x, &q, &r);
        divide(num_add(c, x, q), FIX(2), &next, &r);
        if (num_cmp(next, x) >= 0)
            return x;
        x = next;
    }
}

static R p_exact_integer_sqrt(C *c, V n)
{
    if (!is_exact_integer(n) || num_cmp(n, FIX(0)) < 0)
        return RET(wrong_type(c, "exact-integer-sqrt", n));
    V s = n == FIX(0) ? n : integer_sqrt(c, n);
    V v[2] = {s, num_sub(c, n, num_mul(c, s, s))};
    return RET(make_values(2, v));
}

static R p_sqrt(C *c, V x)
{
    if (!is_number(x) || num_cmp(x, FIX(0)) == -1)
        return RET(wrong_type(c, "sqrt", x));
    if (is_exact_integer(x)) {
        V s = x == FIX(0) ? x : integer_sqrt(c, x);
        if (num_cmp(num_mul(c, s, s), x) == 0)
            return RET(s);
        if (big_bits(x) >= 1000)
            return RET(flonum(to_double(s)));
    }
    if (IS_RATIO(x)) {
        R n = p_sqrt(c, RATIO(x)->num), d = p_sqrt(c, RATIO(x)->den);
        if (!IS_FLO(n.v) && !IS_FLO(d.v))
            return RET(make_ratio(n.v, d.v));
    }
    return RET(flonum(sqrt(to_double(x))));
}

static R p_expt(C *c, V a, V b)
{
    if (!is_number(a) || !is_number(b))
        return RET(not_number(c, "expt", a, b));
    if (IS_FIX(b) && INT(b) >= 0) {
        if (is_exact_integer(a) && big_bits(a) > 1 &&
            !size_ok(c, "expt", FIX(INT(b) / 8), big_bits(a) - 1))
            return RET(UNWIND);
        V r = FIX(1);
        for (intptr_t e = INT(b); e > 0; e >>= 1) {
            if (e & 1)
                r = num_mul(c, r, a);
            if (e > 1)
                a = num_mul(c, a, a);
        }
        return RET(r);
    }
    if (is_exact_integer(b) && !IS_FLO(a)) {
        bool negative = num_cmp(b, FIX(0)) < 0;
        if (a == FIX(0) && negative)
            return RET(fail1(c, "division by zero", a));
        if (a == FIX(0) || a == FIX(1))
            return RET(a);
        if (a == FIX(-1)) {
            V half = big_shift(b, -1);
            return RET(num_cmp(num_add(c, half, half), b) == 0 ? FIX(1) : a);
        }
        if (IS_BIG(b))
            return RET(fail1(c, "expt: too large an exponent", b));
    }
    if (IS_FIX(b) && !IS_FLO(a)) {
        R r = p_expt(c, a, int_to_value(-INT(b)));
        return r.v == UNWIND ? r : RET(num_div(c, FIX(1), r.v));
    }
    return RET(flonum(math(M_POW, to_double(a), to_double(b))));
}

static V function(C *c, const char *who, int op, V x)
{
    if (!is_number(x))
        return wrong_type(c, who, x);
    if (x == FIX(0) && op != M_LOG && op != M_ACOS && op != M_EXP)
        return op == M_COS ? FIX(1) : FIX(0);
    if (x == FIX(1) && op == M_LOG)
        return FIX(0);
    return flonum(math(op, to_double(x), 0));
}

static R p_exp(C *c, V x)
{
    return RET(function(c, "exp", M_EXP, x));
}

static R p_log(C *c, V x, V base)
{
    V v = function(c, "log", M_LOG, x);
    if (v == UNWIND || base == DEFAULT)
        return RET(v);
    V b = function(c, "log", M_LOG, base);
    return RET(b == UNWIND ? b : flonum(to_double(v) / to_double(b)));
}

static R p_sin(C *c, V x)
{
    return RET(function(c, "sin", M_SIN, x));
}

static R p_cos(C *c, V x)
{
    return RET(function(c, "cos", M_COS, x));
}

static R p_tan(C *c, V x)
{
    return RET(function(c, "tan", M_TAN, x));
}

static R p_asin(C *c, V x)
{
    return RET(function(c, "asin", M_ASIN, x));
}

static R p_acos(C *c, V x)
{
    return RET(function(c, "acos", M_ACOS, x));
}

static R p_atan(C *c, V y, V x)
{
    if (x == DEFAULT)
        return RET(function(c, "atan", M_ATAN, y));
    if (!is_number(y) || !is_number(x))
        return RET(not_number(c, "atan", y, x));
    return RET(flonum(math(M_ATAN2, to_double(y), to_double(x))));
}

/* --- text ----------------------------------------------------------------------- */

V number_to_string(V v, int radix)
{
    char s[80];
    if (IS_BIG(v))
        return big_to_string(v, radix);
    if (IS_RATIO(v)) {
        V port = open_output_string();
        print(NULL, number_to_string(RATIO(v)->num, radix), port, false, false);
        port_puts(port, "/");
        print(NULL, number_to_string(RATIO(v)->den, radix), port, false, false);
        return port_contents(port);
    }
    if (IS_FLO(v)) {
        format_double(FLO(v), s, sizeof s);
        return string_from(s);
    }
    intptr_t n = INT(v);
    uintptr_t m = n < 0 ? -(uintptr_t)n : (uintptr_t)n;
    size_t i = sizeof s;
    do {
        s[--i] = "0123456789abcdefghijklmnopqrstuvwxyz"[m % (unsigned)radix];
        m /= (unsigned)radix;
    } while (m > 0);
    if (n < 0)
        s[--i] = '-';
    return string_from_n(s + i, sizeof s - i);
}

#define MAX_EXPONENT 100000 /* of an exact number */

static bool is_digit(char ch, int radix)
{
    int d = ch >= '0' && ch <= '9' ? ch - '0'
            : (ch | 32) >= 'a'     ? (ch | 32) - 'a' + 10
                                   : 99;
    return d < radix;
}

/* What a number with a point or exponent is exactly; FALSE if that is too large. */
static V parse_exact(const char *s, size_t n)
{
    char *digits = mem_bytes(n + 1);
    size_t i = s[0] == '+' || s[0] == '-', used = 0;
    intptr_t exponent = 0, given = 0;
    for (bool point = false; i < n && (s[i] | 32) != 'e'; i++) {
        if (s[i] == '.')
            point = true;
        else
            digits[used++] = s[i];
        exponent -= point && s[i] != '.';
    }
    bool negative = i + 1 < n && s[i + 1] == '-';
    for (; i < n; i++)
        if (is_digit(s[i], 10) && given < MAX_EXPONENT)
            given = given * 10 + (s[i] - '0');
    exponent += negative ? -given : given;
    V v = big_parse(digits, used, 10);
    if (s[0] == '-')
        v = num_sub(NULL, FIX(0), v);
    if (exponent > MAX_EXPONENT || exponent < -MAX_EXPONENT)
        return v == FIX(0) ? v : FALSE;
    V power = p_expt(NULL, FIX(10), FIX(exponent < 0 ? -exponent : exponent)).v;
    return exponent < 0 ? make_ratio(v, power) : num_mul(NULL, v, power);
}

/* s ends with a zero byte. */
V parse_number(const char *s, size_t n, int radix)
{
    int exactness = 0;
    while (n >= 2 && s[0] == '#') {
        char p = (char)(s[1] | 32);
        if (p == 'x' || p == 'b' || p == 'o' || p == 'd')
            radix = p == 'x' ? 16 : p == 'b' ? 2 : p == 'o' ? 8 : 10;
        else if (p == 'e' || p == 'i')
            exactness = p;
        else
            return FALSE;
        s += 2;
        n -= 2;
    }
    if (n == 0)
        return FALSE;
    if (n == 6 && (s[0] == '+' || s[0] == '-')) {
        if (memcmp(s + 1, "inf.0", 5) == 0)
            return exactness == 'e'
                       ? FALSE
                       : flonum(s[0] == '-' ? -INFINITY : INFINITY);
        if (memcmp(s + 1, "nan.0", 5) == 0)
            return exactness == 'e' ? FALSE : flonum(NAN);
    }
    size_t i = s[0] == '+' || s[0] == '-', start = i;
    while (i < n && is_digit(s[i], radix))
        i++;
    V v;
    if (i == n && i > start) {
        v = big_parse(s + start, n - start, radix);
        if (s[0] == '-')
            v = num_sub(NULL, FIX(0), v);
    } else {
        size_t digits = i - start;
        if (i < n && s[i] == '/' && digits > 0) {
            size_t slash = i++;
            while (i < n && is_digit(s[i], radix))
                i++;
            if (i < n || i == slash + 1)
                return FALSE;
            V num = big_parse(s + start, digits, radix);
            V den = big_parse(s + slash + 1, n - slash - 1, radix);
            if (den == FIX(0))
                return FALSE;
            v = make_ratio(s[0] == '-' ? num_sub(NULL, FIX(0), num) : num, den);
            return exactness == 'i' ? flonum(to_double(v)) : v;
        }
        if (radix != 10)
            return FALSE;
        if (i < n && s[i] == '.')
            for (i++; i < n && is_digit(s[i], 10); i++)
                digits++;
        if (digits == 0)
            return FALSE;
        if (i < n && (s[i] | 32) == 'e') {
            i++;
            if (i < n && (s[i] == '+' || s[i] == '-'))
                i++;
            if (i == n)
                return FALSE;
            while (i < n && is_digit(s[i], 10))
                i++;
        }
        if (i != n)
            return FALSE;
        if (exactness == 'e')
            return parse_exact(s, n);
        v = flonum(parse_double(s));
    }
    if (exactness == 'i' && !IS_FLO(v))
        return flonum(to_double(v));
    return v;
}

static bool radix_ok(V *radix)
{
    if (*radix == DEFAULT)
        *radix = FIX(10);
    return IS_FIX(*radix) && INT(*radix) >= 2 && INT(*radix) <= 36;
}

static R p_number_to_string(C *c, V x, V radix)
{
    if (!is_number(x))
        return RET(wrong_type(c, "number->string", x));
    if (!radix_ok(&radix))
        return RET(wrong_type(c, "number->string", radix));
    return RET(number_to_string(x, (int)INT(radix)));
}

static R p_string_to_number(C *c, V s, V radix)
{
    if (!IS_STRING(s))
        return RET(wrong_type(c, "string->number", s));
    size_t n;
    char *text = to_utf8(STR(s)->text, 0, STR(s)->text->length, &n);
    if (!radix_ok(&radix))
        return RET(wrong_type(c, "string->number", radix));
    return RET(parse_number(text, n, (int)INT(radix)));
}

#define BITS(name, text, op)                                                   \
    static R name(C *c, V a, V b)                                              \
    {                                                                          \
        if (!IS_FIX(a) || !IS_FIX(b))                                          \
            return RET(wrong_type(c, text, IS_FIX(a) ? b : a));                \
        return RET(FIX(INT(a) op INT(b)));                                     \
    }
BITS(p_bit_and, "bitwise-and", &)
BITS(p_bit_or, "bitwise-ior", |)
BITS(p_bit_xor, "bitwise-xor", ^)

static R p_shift(C *c, V a, V b)
{
    if (!is_exact_integer(a) || !IS_FIX(b))
        return RET(wrong_type(c, "arithmetic-shift", IS_FIX(b) ? a : b));
    if (INT(b) > 0 && a != FIX(0) &&
        !size_ok(c, "arithmetic-shift", FIX(INT(b) / 8), 1))
        return RET(UNWIND);
    return RET(big_shift(a, a == FIX(0) ? 0 : INT(b)));
}

void number_init(void)
{
    static const struct prim table[] = {
        {"+", p_add, 0, MANY, P_ADD},
        {"-", p_sub, 1, MANY, P_SUB},
        {"*", p_mul, 0, MANY, P_MUL},
        {"/", p_div, 1, MANY, 0},
        {"<", p_lt, 1, MANY, P_LT},
        {">", p_gt, 1, MANY, P_GT},
        {"<=", p_le, 1, MANY, P_LE},
        {">=", p_ge, 1, MANY, P_GE},
        {"=", p_eq, 1, MANY, P_NUMEQ},
        {"quotient", p_quotient, 2, 2, P_QUOTIENT},
        {"remainder", p_remainder, 2, 2, P_REMAINDER},
        {"modulo", p_modulo, 2, 2, 0},
        {"truncate-quotient", p_quotient, 2, 2, 0},
        {"truncate-remainder", p_remainder, 2, 2, 0},
        {"floor-quotient", p_floor_quotient, 2, 2, 0},
        {"floor-remainder", p_modulo, 2, 2, 0},
        {"max", p_max, 1, MANY, 0},
        {"min", p_min, 1, MANY, 0},
        {"gcd", p_gcd, 0, MANY, 0},
        {"lcm", p_lcm, 0, MANY, 0},
        {"number?", p_number_p, 1, 1, 0},
        {"complex?", p_number_p, 1, 1, 0},
        {"real?", p_number_p, 1, 1, 0},
        {"rational?", p_rational_p, 1, 1, 0},
        {"integer?", p_integer_p, 1, 1, 0},
        {"exact-integer?", p_exact_integer_p, 1, 1, 0},
        {"nan?", p_nan_p, 1, 1, 0},
        {"infinite?", p_infinite_p, 1, 1, 0},
        {"finite?", p_finite_p, 1, 1, 0},
        {"exact?", p_exact_p, 1, 1, 0},
        {"inexact?", p_inexact_p, 1, 1, 0},
        {"zero?", p_zero_p, 1, 1, P_ZEROP},
        {"positive?", p_positive_p, 1, 1, 0},
        {"negative?", p_negative_p, 1, 1, 0},
        {"odd?", p_odd_p, 1, 1, 0},
        {"even?", p_even_p, 1, 1, 0},
        {"exact", p_exact, 1, 1, 0},
        {"inexact->exact", p_exact, 1, 1, 0},
        {"inexact", p_inexact, 1, 1, 0},
        {"exact->inexact", p_inexact, 1, 1, 0},
        {"abs", p_abs, 1, 1, 0},
        {"magnitude", p_abs, 1, 1, 0},
        {"numerator", p_numerator, 1, 1, 0},
        {"denominator", p_denominator, 1, 1, 0},
        {"floor", p_floor, 1, 1, 0},
        {"ceiling", p_ceiling, 1, 1, 0},
        {"truncate", p_truncate, 1, 1, 0},
        {"round", p_round, 1, 1, 0},
        {"exact-integer-sqrt", p_exact_integer_sqrt, 1, 1, 0},
        {"sqrt", p_sqrt, 1, 1, 0},
        {"expt", p_expt, 2, 2, 0},
        {"exp", p_exp, 1, 1, 0},
        {"log", p_log, 1, 2, 0},
        {"sin", p_sin, 1, 1, 0},
        {"cos", p_cos, 1, 1, 0},
        {"tan", p_tan, 1, 1, 0},
        {"asin", p_asin, 1, 1, 0},
        {"acos", p_acos, 1, 1, 0},
        {"atan", p_atan, 1, 2, 0},
        {"number->string", p_number_to_string, 1, 2, 0},
        {"string->number", p_string_to_number, 1, 2, 0},
        {"bitwise-and", p_bit_and, 2, 2, 0},
        {"bitwise-ior", p_bit_or, 2, 2, 0},
        {"bitwise-xor", p_bit_xor, 2, 2, 0},
        {"arithmetic-shift", p_shift, 2, 2, 0},
    };
    PRIMS_ADD(table);
}

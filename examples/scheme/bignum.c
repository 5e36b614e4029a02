/* bignum.c - integers that do not fit a fixnum, by the methods of the school. */
#include "scheme.h"

#include <float.h>
#include <string.h>

static struct bignum *make(size_t limbs)
{
    struct bignum *b = mem_bytes(sizeof *b + limbs * sizeof(uint32_t));
    b->header = T_BIGNUM | limbs << 16;
    return b;
}

/* As a fixnum if it fits. */
static V normal(struct bignum *b)
{
    size_t n = LENGTH(b);
    while (n > 0 && b->limbs[n - 1] == 0)
        n--;
    b->header = T_BIGNUM | n << 16;
    if (n > 2)
        return (V)b;
    uint64_t m = n > 0 ? b->limbs[0] : 0;
    if (n == 2)
        m |= (uint64_t)b->limbs[1] << 32;
    if (b->negative ? m <= (uint64_t)FIX_MAX + 1 : m <= (uint64_t)FIX_MAX)
        return FIX(b->negative ? -(intptr_t)m : (intptr_t)m);
    return (V)b;
}

static struct bignum *big(V v)
{
    if (!IS_FIX(v))
        return BIG(v);
    struct bignum *b = make(2);
    intptr_t i = INT(v);
    uint64_t m = i < 0 ? -(uint64_t)i : (uint64_t)i;
    b->negative = i < 0;
    b->limbs[0] = (uint32_t)m;
    b->limbs[1] = (uint32_t)(m >> 32);
    b->header = T_BIGNUM | (V)(m >> 32 != 0 ? 2 : m != 0) << 16;
    return b;
}

V int_to_value(intptr_t n)
{
    if (n >= FIX_MIN && n <= FIX_MAX)
        return FIX(n);
    struct bignum *b = make(2);
    uint64_t m = n < 0 ? -(uint64_t)n : (uint64_t)n;
    b->negative = n < 0;
    b->limbs[0] = (uint32_t)m;
    b->limbs[1] = (uint32_t)(m >> 32);
    return (V)b;
}

static int cmp_magnitude(struct bignum *a, struct bignum *b)
{
    if (LENGTH(a) != LENGTH(b))
        return LENGTH(a) < LENGTH(b) ? -1 : 1;
    for (size_t i = LENGTH(a); i > 0; i--)
        if (a->limbs[i - 1] != b->limbs[i - 1])
            return a->limbs[i - 1] < b->limbs[i - 1] ? -1 : 1;
    return 0;
}

int big_cmp(V x, V y)
{
    struct bignum *a = big(x), *b = big(y);
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    int r = cmp_magnitude(a, b);
    return a->negative ? -r : r;
}

static struct bignum *add_magnitude(struct bignum *a, struct bignum *b)
{
    size_t na = LENGTH(a), nb = LENGTH(b), n = na > nb ? na : nb;
    struct bignum *r = make(n + 1);
    uint64_t carry = 0;
    for (size_t i = 0; i < n; i++) {
        carry +=
            (uint64_t)(i < na ? a->limbs[i] : 0) + (i < nb ? b->limbs[i] : 0);
        r->limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    r->limbs[n] = (uint32_t)carry;
    return r;
}

/* a >= b */
static struct bignum *sub_magnitude(struct bignum *a, struct bignum *b)
{
    size_t na = LENGTH(a), nb = LENGTH(b);
    struct bignum *r = make(na);
    int64_t borrow = 0;
    for (size_t i = 0; i < na; i++) {
        int64_t d = (int64_t)a->limbs[i] - (i < nb ? b->limbs[i] : 0) + borrow;
        r->limbs[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    return r;
}

V big_add(V x, V y, bool subtract)
{
    struct bignum *a = big(x), *b = big(y);
    V b_negative = subtract ? !b->negative : b->negative;
    struct bignum *r;
    if (a->negative == b_negative) {
        r = add_magnitude(a, b);
        r->negative = a->negative;
    } else if (cmp_magnitude(a, b) >= 0) {
        r = sub_magnitude(a, b);
        r->negative = a->negative;
    } else {
        r = sub_magnitude(b, a);
        r->negative = b_negative;
    }
    return normal(r);
}

V big_mul(V x, V y)
{
    struct bignum *a = big(x), *b = big(y);
    size_t na = LENGTH(a), nb = LENGTH(b);
    struct bignum *r = make(na + nb);
    for (size_t i = 0; i < na; i++) {
        uint64_t carry = 0;
        for (size_t k = 0; k < nb; k++) {
            carry += (uint64_t)a->limbs[i] * b->limbs[k] + r->limbs[i + k];
            r->limbs[i + k] = (uint32_t)carry;
            carry >>= 32;
        }
        r->limbs[i + nb] = (uint32_t)carry;
    }
    r->negative = a->negative != b->negative;
    return normal(r);
}

/* Divides in place by one limb; the remainder. */
static uint32_t div_small(struct bignum *a, uint32_t d)
{
    uint64_t r = 0;
    for (size_t i = LENGTH(a); i > 0; i--) {
        r = r << 32 | a->limbs[i - 1];
        a->limbs[i - 1] = (uint32_t)(r / d);
        r %= d;
    }
    return (uint32_t)r;
}

static struct bignum *copy(struct bignum *a, size_t limbs, unsigned shift)
{
    struct bignum *r = make(limbs);
    uint64_t carry = 0;
    for (size_t i = 0; i < limbs; i++) {
        carry |= (uint64_t)(i < LENGTH(a) ? a->limbs[i] : 0) << shift;
        r->limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    r->negative = a->negative;
    return r;
}

/* Knuth's algorithm D; u and v are shifted so that v's highest bit is set. */
static void divide_long(struct bignum *u, struct bignum *v, struct bignum *q)
{
    size_t n = LENGTH(v), m = LENGTH(u) - n;
    uint64_t v1 = v->limbs[n - 1], v2 = v->limbs[n - 2];
    for (size_t j = m; j > 0; j--) {
        uint32_t *w = &u->limbs[j - 1];
        uint64_t top = (uint64_t)w[n] << 32 | w[n - 1];
        uint64_t guess = top / v1, rest = top % v1;
        while (guess >> 32 != 0 || guess * v2 > (rest << 32 | w[n - 2])) {
            guess--;
            rest += v1;
            if (rest >> 32 != 0)
                break;
        }
        int64_t borrow = 0;
        uint64_t carry = 0;
        for (size_t i = 0; i < n; i++) {
            carry += guess * v->limbs[i];
            int64_t d = (int64_t)w[i] - (int64_t)(uint32_t)carry + borrow;
            w[i] = (uint32_t)d;
            borrow = d < 0 ? -1 : 0;
            carry >>= 32;
        }
        int64_t d = (int64_t)w[n] - (int64_t)carry + borrow;
        w[n] = (uint32_t)d;
        if (d < 0) { /* one too many */
            guess--;
            carry = 0;
            for (size_t i = 0; i < n; i++) {
                carry += (uint64_t)w[i] + v->limbs[i];
                w[i] = (uint32_t)carry;
                carry >>= 32;
            }
            w[n] += (uint32_t)carry;
        }
        q->limbs[j - 1] = (uint32_t)guess;
    }
}

/* Towards zero; the remainder has the sign of x. y is not 0. */
void big_divide(V x, V y, V *quotient, V *remainder)
{
    struct bignum *a = big(x), *b = big(y), *q, *r;
    size_t n = LENGTH(b);
    if (cmp_magnitude(a, b) < 0) {
        *quotient = FIX(0);
        *remainder = x;
        return;
    }
    if (n == 1) {
        q = copy(a, LENGTH(a), 0);
        r = make(1);
        r->limbs[0] = div_small(q, b->limbs[0]);
    } else {
        unsigned shift = (unsigned)__builtin_clz(b->limbs[n - 1]);
        struct bignum *u = copy(a, LENGTH(a) + 1, shift);
        struct bignum *v = copy(b, n, shift);
        q = make(LENGTH(u) - n);
        divide_long(u, v, q);
        r = make(n);
        for (size_t i = 0; i < n; i++)
            r->limbs[i] =
                (uint32_t)(((uint64_t)u->limbs[i + 1] << 32 | u->limbs[i]) >>
                           shift);
    }
    q->negative = a->negative != b->negative;
    r->negative = a->negative;
    *quotient = normal(q);
    *remainder = normal(r);
}

double big_to_double(V x)
{
    struct bignum *b = BIG(x);
    size_t n = LENGTH(b);
    /* The highest 64 bits, with a bit for what lies below; then rounded once. */
    uint64_t top = 0;
    unsigned zeros = (unsigned)__builtin_clz(b->limbs[n - 1]);
    bool sticky = false;
    intptr_t bits = (intptr_t)n * 32 - zeros, low = bits - 64;
    for (intptr_t i = bits - 1; i >= 0 && i >= low; i--)
        top = top << 1 | (b->limbs[i / 32] >> (i % 32) & 1);
    for (intptr_t i = 0; i < low && !sticky; i++)
        sticky = b->limbs[i / 32] >> (i % 32) & 1;
    double d = (double)(top | sticky);
    for (; low > 0 && d <= DBL_MAX; low--)
        d *= 2;
    return b->negative ? -d : d;
}

/* Binary digits of the magnitude. */
size_t big_bits(V x)
{
    struct bignum *b = big(x);
    size_t n = LENGTH(b);
    return n == 0 ? 0 : n * 32 - (unsigned)__builtin_clz(b->limbs[n - 1]);
}

/* x * 2^n, towards negative infinity if n is negative. */
V big_shift(V x, intptr_t n)
{
    struct bignum *b = big(x);
    size_t length = LENGTH(b);
    if (n >= 0) {
        size_t limbs = (size_t)n / 32;
        struct bignum *r = make(length + limbs + 1);
        uint64_t carry = 0;
        for (size_t i = 0; i <= length; i++) {
            carry |= (uint64_t)(i < length ? b->limbs[i] : 0) << (n % 32);
            r->limbs[limbs + i] = (uint32_t)carry;
            carry >>= 32;
        }
        r->negative = b->negative;
        return normal(r);
    }
    size_t bits = -(size_t)n, limbs = bits / 32;
    if (limbs >= length)
        return FIX(b->negative ? -1 : 0);
    struct bignum *r = make(length - limbs);
    bool lost = false;
    for (size_t i = 0; i < limbs; i++)
        lost |= b->limbs[i] != 0;
    lost |= (b->limbs[limbs] & ((UINT64_C(1) << bits % 32) - 1)) != 0;
    for (size_t i = limbs; i < length; i++) {
        uint64_t two = i + 1 < length ? (uint64_t)b->limbs[i + 1] << 32 : 0;
        r->limbs[i - limbs] = (uint32_t)((two | b->limbs[i]) >> bits % 32);
    }
    r->negative = b->negative;
    V v = normal(r);
    return b->negative && lost ? big_add(v, FIX(1), true) : v;
}

V big_from_double(double d)
{
    bool negative = d < 0;
    if (negative)
        d = -d;
    size_t limbs = 1;
    double scale = 1;
    for (; d / scale >= 4294967296.0; limbs++)
        scale *= 4294967296.0;
    struct bignum *b = make(limbs);
    for (size_t i = limbs; i > 0; i--, scale /= 4294967296.0) {
        b->limbs[i - 1] = (uint32_t)(d / scale);
        d -= b->limbs[i - 1] * scale;
    }
    b->negative = negative;
    return normal(b);
}

V big_to_string(V x, int radix)
{
    struct bignum *b = copy(BIG(x), LENGTH(x), 0);
    size_t size = LENGTH(b) * 32 + 2, i = size;
    char *s = mem_bytes(size + 1);
    while (LENGTH(b) > 0) {
        /* Nine digits a time. */
        uint32_t part =
            div_small(b, radix == 10 ? 1000000000 : (uint32_t)radix);
        size_t n = LENGTH(b);
        while (n > 0 && b->limbs[n - 1] == 0)
            n--;
        b->header = T_BIGNUM | n << 16;
        for (int k = 0; k < (radix == 10 ? 9 : 1); k++, part /= (uint32_t)radix)
            s[--i] =
                "0123456789abcdefghijklmnopqrstuvwxyz"[part % (uint32_t)radix];
    }
    while (i < size - 1 && s[i] == '0')
        i++;
    if (b->negative)
        s[--i] = '-';
    return string_from_n(s + i, size - i);
}

/* Digits only. */
V big_parse(const char *s, size_t n, int radix)
{
    struct bignum *b = make(n / 6 + 1);
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        int d = s[i] <= '9' ? s[i] - '0' : (s[i] | 32) - 'a' + 10;
        uint64_t carry = (uint64_t)d;
        for (size_t k = 0; k < used; k++) {
            carry += (uint64_t)b->limbs[k] * (unsigned)radix;
            b->limbs[k] = (uint32_t)carry;
            carry >>= 32;
        }
        if (carry != 0)
            b->limbs[used++] = (uint32_t)carry;
    }
    return normal(b);
}

uint64_t big_hash(V x)
{
    uint64_t h = BIG(x)->negative;
    for (size_t i = 0; i < LENGTH(x); i++)
        h = (h ^ BIG(x)->limbs[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return h;
}

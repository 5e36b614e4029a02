/* Vector arguments of 16, 32 and 64 bytes across moves, in registers and on the
 * stack, and frames that realign themselves. What the machine cannot do is left
 * out, the same on threads and goroutines. */
#include <immintrin.h>

#include "tests/stack/stackcase.h"

#define AVX __attribute__((target("avx")))
#define AVX512 __attribute__((target("avx512f")))

static uint64_t hash_bytes(const void *p, size_t n, uint64_t h)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = mix(h, b[i]);
    return h;
}

/* Ten arguments: eight in registers, two on the stack; and integers and a
 * pointer to a local between them. Then all of them once more in another
 * order. */
#define TEN(name, attr, type)                                                  \
    attr NI static type name(type a, uint64_t i, type b, type c, type d,       \
                             uint64_t *p, type e, type f, type g, type h,      \
                             type j, type k, int depth)                        \
    {                                                                          \
        type all[10] = {a, b, c, d, e, f, g, h, j, k}, r = a;                  \
        uint64_t x = hash_bytes(all, sizeof(all), i);                          \
        *p = mix(*p, touch(x));                                                \
        if ((x & 3) == 0 && tarn_self() != 0)                                  \
            yield_at_next_prologue();                                          \
        if (depth > 0)                                                         \
            r = name(b, x, c, d, e, p, f, g, h, j, k, a, depth - 1);           \
        *p = hash_bytes(all, sizeof(all), *p);                                 \
        return depth & 1 ? r : k;                                              \
    }                                                                          \
    attr NI static uint64_t name##_run(uint64_t x)                             \
    {                                                                          \
        type v[10];                                                            \
        uint64_t s = x | 1, local = x;                                         \
        for (size_t n = 0; n < sizeof(v) / 8; n++)                             \
            ((volatile uint64_t *)v)[n] = harness_rand(&s);                    \
        type r = name(v[0], x, v[1], v[2], v[3], &local, v[4], v[5], v[6],     \
                      v[7], v[8], v[9], 25);                                   \
        return hash_bytes(&r, sizeof(r), local);                               \
    }

TEN(ten_128, , __m128)
TEN(ten_128i, , __m128i)
TEN(ten_256, AVX, __m256)
TEN(ten_256d, AVX, __m256d)
TEN(ten_512, AVX512, __m512)
TEN(ten_512i, AVX512, __m512i)

static uint64_t case_128(uint64_t seed)
{
    return mix(ten_128_run(seed), ten_128i_run(seed));
}

static uint64_t case_256(uint64_t seed)
{
    if (!__builtin_cpu_supports("avx"))
        return 0;
    return mix(ten_256_run(seed), ten_256d_run(seed));
}

static uint64_t case_512(uint64_t seed)
{
    if (!__builtin_cpu_supports("avx512f"))
        return 0;
    return mix(ten_512_run(seed), ten_512i_run(seed));
}

/* Vectors of pointers to locals: moved with the stack, in registers too. */
NI static uint64_t pointers(__m128i ab, __m128i cd, uint64_t *a, uint64_t *d,
                            int depth)
{
    uint64_t *p[4];
    memcpy(p, &ab, 16);
    memcpy(p + 2, &cd, 16);
    CHECK(p[0] == a && p[3] == d);
    *p[1] = touch(*p[1] + *p[2]);
    return depth > 0 ? mix(*a, pointers(ab, cd, a, d, depth - 1)) : *d;
}

static uint64_t case_vector_of_pointers(uint64_t seed)
{
    uint64_t v[4] = {seed, 2, 3, 4};
    __m128i ab = _mm_set_epi64x((long long)&v[1], (long long)&v[0]);
    __m128i cd = _mm_set_epi64x((long long)&v[3], (long long)&v[2]);
    return mix(pointers(ab, cd, &v[0], &v[3], 20), v[1]);
}

#define ALIGNED(align)                                                         \
    NI static uint64_t aligned_##align(uint64_t *up, int depth, uint64_t x)    \
    {                                                                          \
        _Alignas(align) uint8_t a[(align) + 8];                                \
        _Alignas(align) uint64_t b = mix(x, *up);                              \
        uint8_t *p = a;                                                        \
        memset(a, (int)(x & 255), sizeof(a));                                  \
        OPAQUE(p);                                                             \
        uint64_t h = touch(x);                                                 \
        if (depth > 0)                                                         \
            h = mix(h, aligned_##align(&b, depth - 1, h));                     \
        uint64_t *q = &b;                                                      \
        uint8_t *r = a;                                                        \
        OPAQUE(q);                                                             \
        OPAQUE(r);                                                             \
        CHECK(p == r);                                                         \
        CHECK_EQ((uintptr_t)p % (align), 0);                                   \
        CHECK_EQ((uintptr_t)q % (align), 0);                                   \
        return mix(hash_bytes(a, sizeof(a), h), b ^ *up);                      \
    }
ALIGNED(32)
ALIGNED(64)
ALIGNED(128)
ALIGNED(1024)
ALIGNED(4096)

static uint64_t case_aligned(uint64_t seed)
{
    uint64_t h = aligned_32(&seed, 40, seed);
    h = mix(h, aligned_64(&seed, 40, h));
    h = mix(h, aligned_128(&seed, 40, h));
    h = mix(h, aligned_1024(&seed, 20, h));
    return mix(h, aligned_4096(&seed, 10, h));
}

/* A realigned frame with arguments on the stack and an alloca. */
NI static uint64_t realigned(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                             uint64_t e, uint64_t f, uint64_t *g, uint64_t h,
                             int depth)
{
    _Alignas(64) uint64_t v[8];
    uint64_t *w = __builtin_alloca(8 * (h % 16 + 1));
    for (int i = 0; i < 8; i++)
        v[i] = mix(a + (uint64_t)i, b);
    w[0] = touch(*g);
    *g = mix(*g, c ^ d ^ e ^ f);
    uint64_t r = w[0];
    if (depth > 0)
        r = mix(r, realigned(b, c, d, e, f, a, &v[3], h + 1, depth - 1));
    uint64_t *p = v;
    OPAQUE(p);
    CHECK_EQ((uintptr_t)p % 64, 0);
    return mix(hash_bytes(v, sizeof(v), r), w[0] ^ *g);
}

static uint64_t case_realigned(uint64_t seed)
{
    uint64_t x = seed;
    return mix(realigned(1, 2, 3, 4, 5, 6, &x, seed & 15, 40), x);
}

/* Vectors in realigned frames, live across calls. */
AVX NI static uint64_t live_256(__m256d in, int depth)
{
    __m256d a = _mm256_add_pd(in, _mm256_set1_pd(1)), b[3] = {in, a, in};
    uint64_t h = touch((uint64_t)depth);
    if (depth > 0)
        h = mix(h, live_256(_mm256_mul_pd(a, _mm256_set1_pd(0.75)), depth - 1));
    b[2] = _mm256_sub_pd(a, b[0]);
    return hash_bytes(b, sizeof(b), h);
}

AVX512 NI static uint64_t live_512(__m512d in, int depth)
{
    __m512d a = _mm512_add_pd(in, _mm512_set1_pd(1)), b[3] = {in, a, in};
    uint64_t h = touch((uint64_t)depth);
    if (depth > 0)
        h = mix(h, live_512(_mm512_mul_pd(a, _mm512_set1_pd(0.75)), depth - 1));
    b[2] = _mm512_sub_pd(a, b[0]);
    return hash_bytes(b, sizeof(b), h);
}

AVX NI static uint64_t start_256(uint64_t seed)
{
    return live_256(_mm256_set1_pd((double)(seed & 1023)), 40);
}

AVX512 NI static uint64_t start_512(uint64_t seed)
{
    return live_512(_mm512_set1_pd((double)(seed & 1023)), 40);
}

static uint64_t case_live(uint64_t seed)
{
    uint64_t h = seed;
    if (__builtin_cpu_supports("avx"))
        h = mix(h, start_256(seed));
    if (__builtin_cpu_supports("avx512f"))
        h = mix(h, start_512(seed));
    return h;
}

int main(int argc, char **argv)
{
    static struct stack_case cases[] = {
        CASE(case_128),
        CASE(case_256),
        CASE(case_512),
        CASE(case_aligned),
        CASE(case_realigned),
        CASE(case_live),
        CASE(case_vector_of_pointers),
    };
    __builtin_cpu_init();
    return stack_case_main(argc, argv, cases, ARRAY_N(cases));
}

/* heap/sample.c - which objects are samples for the heap profile.
 *
 * Each byte that a cache hands out is a sample with the same small probability, and an
 * object is one if any of its bytes is. The distance to the next such byte is
 * exponential, and that has no memory: so each part of a run draws a new one when it
 * is handed out. If it falls into the part, the part ends before that object; whoever
 * wants the object then has to come for it. */
#include "heap/internal.h"

/* -ln(x), 0 < x <= 1, to some ten digits. Not the C library's, which programs would
 * have to link with. */
static double minus_ln(double x)
{
    int e = 0;
    for (; x < 0.7071067811865476; x *= 2)
        e++;
    double s = (x - 1) / (x + 1), q = s * s, sum = 0;
    for (int i = 19; i > 0; i -= 2)
        sum = sum * q + 1.0 / i;
    return e * 0.6931471805599453 - 2 * s * sum;
}

double sample_probability(uint64_t interval, uint64_t size)
{
    double x = (double)size / (double)interval;
    if (interval <= 1 || x > 40)
        return 1;
    /* exp(-x) - 1 of a small part, then doubled: p -> p * (2 + p). */
    int n = 0;
    for (; x > 0.01; x /= 2)
        n++;
    double p = -x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5))));
    for (; n > 0; n--)
        p *= 2 + p;
    return -p;
}

/* Bytes before the next one that is picked. */
static uint64_t distance(struct mcache *c, uint64_t interval)
{
    if (interval <= 1)
        return 0;
    double u = ((double)(rand_next(&c->sample_rand) >> 11) + 1) * 0x1p-53;
    double d = minus_ln(u) * (double)interval;
    return d < 0x1p62 ? (uint64_t)d : UINT64_C(1) << 62;
}

size_t sample_cut(struct mcache *c, struct mcache_entry *e, struct mspan *s,
                  size_t n)
{
    uint64_t interval =
        atomic_load_explicit(&heap.sample_interval, memory_order_relaxed);
    if (!e->sample) {
        uint64_t d = distance(c, interval);
        if (d >= n)
            return n;
        uint32_t before = span_count(s, d);
        e->sample = true;
        if (before != 0)
            return before * s->elemsize;
    }
    e->sample = false;
    c->sampled = true;
    return s->elemsize;
}

bool heap_sample_large(struct mcache *c, size_t n)
{
    uint64_t interval =
        atomic_load_explicit(&heap.sample_interval, memory_order_relaxed);
    return unlikely(interval != 0) && distance(c, interval) < n;
}

static uint64_t sample_seed, sample_stream; /* for the next cache */

void sample_cache(struct mcache *c)
{
    c->sample_rand = rand_state(sample_seed, sample_stream++);
}

void heap_sample_start(uint64_t interval, uint64_t seed)
{
    sample_seed = seed;
    sample_stream = 0;
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next) {
        /* What was handed out before has no samples in it, or has. */
        mcache_flush(c);
        sample_cache(c);
    }
    atomic_store_explicit(&heap.sample_interval, interval,
                          memory_order_relaxed);
}

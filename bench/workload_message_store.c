/* bench/workload_message_store.c - a store of recent messages.
 *
 * A managed array of --live messages of 1 KiB. A message is five objects: a
 * head with pointers to four parts of bytes. Each step puts a new message in
 * the place of the oldest, whose content it first verifies. What dies is always
 * the oldest, so no generation is younger than another: the whole heap is live
 * at each collection and a pause that depends on it shows.
 *
 * Each worker has a ring of its own.
 */
#include "bench/workload.h"

#define PARTS 4

/* 64 + 128 + 192 + 256 + 384 bytes = 1 KiB. */
static const uint32_t part_words[PARTS] = {16, 24, 32, 48};

struct message {
    uint64_t *part[PARTS];
    uint64_t sequence;
    uint64_t sum; /* of all words of the parts */
    uint64_t key;
    uint64_t flags;
};

static struct coll_type message_type = {
    .name = "message-store.message",
    .size = sizeof(struct message),
    .ptrs =
        COLL_PTR(struct message, part[0]) | COLL_PTR(struct message, part[1]) |
        COLL_PTR(struct message, part[2]) | COLL_PTR(struct message, part[3]),
};

static uint64_t fill(uint64_t *words, uint32_t n, uint64_t x)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        words[i] = x ^ i * UINT64_C(0xD1342543DE82EF95);
        sum += words[i];
    }
    return sum;
}

static __attribute__((noinline)) struct message *new_message(uint64_t seed,
                                                             uint64_t sequence)
{
    struct message *m = coll_alloc(&message_type);
    uint64_t key = mix(seed, sequence), sum = 0;
    for (int i = 0; i < PARTS; i++) {
        uint64_t *words = coll_alloc_bytes(part_words[i] * sizeof *words);
        sum += fill(words, part_words[i], key + (uint64_t)i);
        coll_store(&m->part[i], words);
    }
    m->sequence = sequence;
    m->sum = sum;
    m->key = key;
    m->flags = 1;
    return m;
}

static __attribute__((noinline)) uint64_t
verify_message(const struct message *m, uint64_t seed, uint64_t sequence)
{
    uint64_t sum = 0;
    for (int i = 0; i < PARTS; i++)
        for (uint32_t k = 0; k < part_words[i]; k++)
            sum += m->part[i][k];
    if (m->sequence != sequence)
        bench_fail("message-store: number of a message", m->sequence, sequence);
    if (m->key != mix(seed, sequence) || m->flags != 1)
        bench_fail("message-store: key of a message", m->key,
                   mix(seed, sequence));
    if (sum != m->sum)
        bench_fail("message-store: sum of a message", sum, m->sum);
    return sum;
}

static inline void drop_message(struct message *m)
{
    for (int i = 0; i < PARTS; i++)
        coll_free(m->part[i]);
    coll_free(m);
}

static void run_store(struct worker *w)
{
    uint64_t live = (uint64_t)worker_share(w, w->params->live);
    uint64_t limit = w->params->steps == 0
                         ? UINT64_MAX
                         : (uint64_t)worker_share(w, w->params->steps);
    struct message **store = coll_alloc_ptrs(live);
    for (uint64_t i = 0; i < live; i++)
        coll_store(&store[i], new_message(w->seed, i));

    worker_steady(w);
    uint64_t slot = 0, sum = 0, next = live;
    while (w->steps < limit && w->last < w->deadline) {
        int64_t t = step_begin(w);
        struct message *old = store[slot];
        sum = mix(sum, verify_message(old, w->seed, next - live));
        coll_store(&store[slot], new_message(w->seed, next));
        drop_message(old);
        step_end(w, t);
        next++;
        if (++slot == live)
            slot = 0;
    }

    for (uint64_t i = 0; i < live; i++) {
        struct message *m = store[slot];
        sum = mix(sum, verify_message(m, w->seed, next - live + i));
        drop_message(m);
        if (++slot == live)
            slot = 0;
    }
    coll_free(store);
    w->checksum = sum;
}

void message_store_run(struct bench *b)
{
    coll_type_register(&message_type);
    run_workers(b, run_store);
    for (int64_t i = 0; i < b->params.threads; i++)
        b->checksum = mix(b->checksum, b->workers[i].checksum);
}

/* Restartable sequences: their table, and the inline ones interrupted at each
 * of their instructions. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include "gc/gc.h"
#include "stepper.h"
#include "suite.h"

#define NI __attribute__((noinline))

/* --- the table ------------------------------------------------------------- */

static char text[65536]; /* stands for generated code; never run */

static struct tarn_unsafe_range range(size_t lo, size_t hi)
{
    return (struct tarn_unsafe_range){text + lo, text + hi};
}

static uintptr_t at(size_t i)
{
    return (uintptr_t)&text[i];
}

static void test_half_open(void)
{
    struct tarn_unsafe_range r[] = {range(300, 301), range(100, 116),
                                    range(116, 120)};
    size_t before = unsafe_range_count();
    CHECK_ST(tarn_unsafe_register(r, 3), TARN_OK);
    CHECK_EQ(unsafe_range_count(), before + 3);
    CHECK_EQ(unsafe_restart(at(99)), at(99));
    for (size_t i = 100; i < 116; i++)
        CHECK_EQ(unsafe_restart(at(i)), at(100));
    for (size_t i = 116; i < 120; i++)
        CHECK_EQ(unsafe_restart(at(i)), at(116));
    for (size_t i = 120; i <= 300; i++)
        CHECK_EQ(unsafe_restart(at(i)), at(i));
    CHECK_EQ(unsafe_restart(at(301)), at(301));
    CHECK_EQ(unsafe_restart(0), 0u);
    CHECK_EQ(unsafe_restart(UINTPTR_MAX), UINTPTR_MAX);
    CHECK_ST(tarn_unsafe_unregister(&r[1], 1), TARN_OK);
    CHECK_EQ(unsafe_restart(at(115)), at(115));
    CHECK_EQ(unsafe_restart(at(119)), at(116));
    CHECK_ST(tarn_unsafe_unregister(&r[2], 1), TARN_OK);
    CHECK_ST(tarn_unsafe_unregister(&r[0], 1), TARN_OK);
    CHECK_EQ(unsafe_range_count(), before);
}

/* Nothing of a refused request is done. */
static void refused(size_t lo, size_t hi, bool remove, const char *why)
{
    struct tarn_unsafe_range r[] = {range(1000, 1010), range(lo, hi)};
    size_t before = unsafe_range_count();
    CHECK_ST(remove ? tarn_unsafe_unregister(r, 2) : tarn_unsafe_register(r, 2),
             TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_unsafe_");
    CHECK(strstr(tarn_last_error(), why) != NULL);
    CHECK_EQ(unsafe_range_count(), before);
}

static void test_bad_ranges(void)
{
    struct tarn_unsafe_range one = range(2000, 2100), whole = range(0, 4096);
    CHECK_ST(tarn_unsafe_register(&one, 1), TARN_OK);
    refused(50, 50, false, "is empty");
    refused(50, 49, false, "is empty");
    refused(4000, 4000 + TARN_UNSAFE_MAX + 1, false, "is too long");
    refused(1009, 1011, false, "overlaps");
    refused(1999, 2001, false, "overlaps");
    refused(2099, 2101, false, "overlaps");
    refused(2000, 2100, false, "overlaps");
    refused(2000, 2099, true, "is not registered");
    CHECK_ST(tarn_unsafe_register(NULL, 1), TARN_EINVAL);
    CHECK_ST(tarn_unsafe_register(NULL, 0), TARN_OK);
    CHECK_ST(tarn_unsafe_unregister(&one, 1), TARN_OK);
    CHECK_ST(tarn_unsafe_unregister(&one, 1), TARN_EINVAL);
    CHECK_ST(tarn_unsafe_register(&whole, 1), TARN_OK); /* of the length */
    CHECK_ST(tarn_unsafe_unregister(&whole, 1), TARN_OK);
}

/* Against a plain list. */
static void test_random_table(void)
{
    enum { N = 400, PITCH = 64 };
    static struct tarn_unsafe_range r[N];
    static bool in[N];
    uint64_t seed = harness_seed;
    memset(in, 0, sizeof in);
    for (size_t i = 0; i < N; i++) {
        size_t lo = i * PITCH + harness_rand(&seed) % 8;
        r[i] = range(lo, lo + 1 + harness_rand(&seed) % (PITCH - 8));
    }
    for (int round = 0; round < 1000; round++) {
        size_t i = harness_rand(&seed) % N;
        size_t n = 1 + harness_rand(&seed) % 4;
        if (n > N - i)
            n = N - i;
        bool all = true, none = true;
        for (size_t k = i; k < i + n; k++) {
            all &= in[k];
            none &= !in[k];
        }
        if (harness_rand(&seed) % 2) {
            CHECK_ST(tarn_unsafe_register(&r[i], n),
                     none ? TARN_OK : TARN_EINVAL);
            for (size_t k = i; none && k < i + n; k++)
                in[k] = true;
        } else {
            CHECK_ST(tarn_unsafe_unregister(&r[i], n),
                     all ? TARN_OK : TARN_EINVAL);
            for (size_t k = i; all && k < i + n; k++)
                in[k] = false;
        }
        for (int probe = 0; probe < 50; probe++) {
            uintptr_t pc = at(harness_rand(&seed) % (N * PITCH));
            size_t k = (pc - at(0)) / PITCH;
            bool inside =
                in[k] && pc >= (uintptr_t)r[k].lo && pc < (uintptr_t)r[k].hi;
            CHECK_EQ(unsafe_restart(pc), inside ? (uintptr_t)r[k].lo : pc);
        }
    }
    for (size_t k = 0; k < N; k++)
        if (in[k])
            CHECK_ST(tarn_unsafe_unregister(&r[k], 1), TARN_OK);
}

static void bad_odd(void)
{
    static const int32_t t[3];
    tarn_unsafe_module_add(t, t + 3);
}

static void bad_backwards(void)
{
    static const int32_t t[2];
    tarn_unsafe_module_add(t + 2, t);
}

static void bad_empty(void)
{
    static const int32_t t[2] = {100, 96}; /* both at t + 100 */
    tarn_unsafe_module_add(t, t + 2);
}

static void bad_long(void)
{
    static const int32_t t[2] = {100, 96 + TARN_UNSAFE_MAX + 1};
    tarn_unsafe_module_add(t, t + 2);
}

static void bad_overlap(void)
{
    static const int32_t t[4] = {100, 106, 100, 106}; /* 100..110, 108..118 */
    tarn_unsafe_module_add(t, t + 4);
}

static void test_bad_tables(void)
{
    static const struct {
        void (*fn)(void);
        const char *why;
    } bad[] = {{bad_odd, "no list of pairs"},
               {bad_backwards, "no list of pairs"},
               {bad_empty, "is empty"},
               {bad_long, "is too long"},
               {bad_overlap, "overlaps another one"}};
    static char out[4096];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int st = harness_child(bad[i].fn, NULL, out, sizeof out);
        CHECK_STR(out, "unsafe ranges");
        CHECK(strstr(out, bad[i].why) != NULL);
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), 2);
    }
}

/* A module counts once, however often its constructor runs. */
static void test_module_twice(void)
{
    static const int32_t t[2] = {100, 106};
    size_t before = unsafe_range_count();
    uintptr_t lo = (uintptr_t)t + 100;
    tarn_unsafe_module_add(t, t + 2);
    tarn_unsafe_module_add(t, t + 2);
    CHECK_EQ(unsafe_range_count(), before + 1);
    CHECK_EQ(unsafe_restart(lo + 9), lo);
    tarn_unsafe_module_remove(t, t + 2);
    CHECK_EQ(unsafe_restart(lo + 9), lo);
    tarn_unsafe_module_remove(t, t + 2);
    CHECK_EQ(unsafe_restart(lo + 9), lo + 9);
    tarn_unsafe_module_add(t, t); /* a module without sequences */
    CHECK_EQ(unsafe_range_count(), before);
}

/* Readers on other threads and in a handler that interrupts the writer. */
static _Atomic bool churn_stop;
static _Atomic long churn_handled, churn_looked;

ON_SIGNAL_STACK static void look(void)
{
    for (size_t i = 0; i < 8; i++)
        CHECK_EQ(unsafe_restart(at(40000 + 100 * i + 9)), at(40000 + 100 * i));
    CHECK_EQ(unsafe_restart(at(40050)), at(40050));
}

ON_SIGNAL_STACK static void churn_signal(int sig)
{
    (void)sig;
    look();
    atomic_fetch_add(&churn_handled, 1);
}

static void *churn_reader(void *arg)
{
    while (!atomic_load(&churn_stop)) {
        look();
        atomic_fetch_add(&churn_looked, 1);
    }
    return arg;
}

static void *churn_writer(void *arg)
{
    for (size_t i = 0; !atomic_load(&churn_stop); i = (i + 1) % 50) {
        struct tarn_unsafe_range r = range(i * 100 + 50, i * 100 + 60);
        CHECK_ST(tarn_unsafe_register(&r, 1), TARN_OK);
        CHECK_ST(tarn_unsafe_unregister(&r, 1), TARN_OK);
    }
    return arg;
}

static void test_readers_beside_writers(void)
{
    struct tarn_unsafe_range r[8];
    struct sigaction sa;
    pthread_t reader, writer;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = churn_signal;
    CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
    for (size_t i = 0; i < 8; i++)
        r[i] = range(40000 + 100 * i, 40000 + 100 * i + 10);
    CHECK_ST(tarn_unsafe_register(r, 8), TARN_OK);
    atomic_store(&churn_stop, false);
    CHECK(pthread_create(&reader, NULL, churn_reader, NULL) == 0);
    CHECK(pthread_create(&writer, NULL, churn_writer, NULL) == 0);
    for (long n = 1; n <= SUITE_REPEAT(200); n++) {
        long seen = atomic_load(&churn_handled);
        CHECK(pthread_kill(writer, SIGUSR1) == 0);
        while (atomic_load(&churn_handled) == seen)
            sched_yield();
    }
    while (atomic_load(&churn_looked) < 1000)
        sched_yield();
    atomic_store(&churn_stop, true);
    CHECK(pthread_join(reader, NULL) == 0 && pthread_join(writer, NULL) == 0);
    CHECK_ST(tarn_unsafe_unregister(r, 8), TARN_OK);
}

/* --- tarn_store ------------------------------------------------------------ */

/* What a store would have noted for the collector: managed objects, which it
 * believes to be markable. */
static void *old_value, *new_value;
static void **cell; /* in a managed object */

ON_SIGNAL_STACK static void barrier_comes_on(void)
{
    __atomic_store_n(&tarn_barrier_on, 1, __ATOMIC_RELAXED);
}

ON_SIGNAL_STACK static void barrier_goes_off(void)
{
    __atomic_store_n(&tarn_barrier_on, 0, __ATOMIC_RELAXED);
}

static NI void store_value(void **slot, void *value)
{
    tarn_store(slot, value);
}

static NI void store_null(void **slot, void *value)
{
    (void)value;
    tarn_store(slot, NULL);
}

/* The compiler may unroll it, and has the flag's address ready. */
static NI void store_thrice(void **slot, void *value)
{
    for (int i = 0; i < 3; i++)
        tarn_store(slot + i, value);
}

struct noted {
    uint32_t n;
    uintptr_t w[8];
};

static NI void stepped_store(void (*store)(void **, void *), struct noted *n)
{
    struct gcp *g = gcp_of(getg()->m->p);
    uint8_t xor = heap.white_xor, bit = heap.white_bit;
    heap.mark_size = heap.hi - heap.lo;
    heap.white_xor = 0;
    heap.white_bit = META_COLOR; /* all that there is is white */
    for (int i = 0; i < 3; i++)
        cell[i] = old_value;
    *heap_card((uintptr_t)cell) = 0;
    g->wbn = 0;
    STEP_ON();
    store(cell, new_value);
    STEP_OFF();
    barrier_goes_off();
    n->n = g->wbn;
    memcpy(n->w, g->wb, sizeof n->w);
    g->wbn = 0;
    heap.white_xor = xor;
    heap.white_bit = bit;
    CHECK(!step.stepping);
}

/* Another collection has begun, which looks at cards of another number. */
ON_SIGNAL_STACK static void epoch_moves(void)
{
    tarn_cards.epoch ^= 1;
}

/* jne, five for the card, mov: after cmp, so many that are not the first. */
#define STEPS 7

/* Interrupted at each place: the barrier must see the old value and the new, and
 * the card the epoch in which the store is made. */
static void check_store(void (*store)(void **, void *), void *want, int stores)
{
    struct noted n;
    step_prepare(NULL, 0, true);
    stepped_store(store, &n);
    CHECK_EQ(step.inside, STEPS * stores);
    CHECK_EQ(n.n, 0u);
    CHECK_EQ(*heap_card((uintptr_t)cell), tarn_cards.epoch);
    for (int i = 1; i <= STEPS * stores; i++) {
        int done = (i - 1) / STEPS; /* stores before the interruption */
        step_prepare(barrier_comes_on, i, true);
        stepped_store(store, &n);
        CHECK_EQ(step.interrupted, 1);
        CHECK_EQ(n.n, (uint32_t)((want != NULL ? 2 : 1) * (stores - done)));
        for (uint32_t k = 0; k < n.n; k++)
            CHECK_EQ(n.w[k],
                     (uintptr_t)(want != NULL && k % 2 ? want : old_value));
        for (int k = 0; k < stores; k++)
            CHECK(cell[k] == want);

        step_prepare(epoch_moves, i, true);
        stepped_store(store, &n);
        CHECK_EQ(step.interrupted, 1);
        CHECK_EQ(*heap_card((uintptr_t)cell), tarn_cards.epoch);
        tarn_cards.epoch ^= 1;

        /* The control: without the restart the barrier is missed. */
        step_prepare(barrier_comes_on, i, false);
        stepped_store(store, &n);
        CHECK_EQ(step.interrupted, 1);
        CHECK_EQ(n.n, (uint32_t)((want != NULL ? 2 : 1) * (stores - done - 1)));
    }
}

static void new_values(void)
{
    static void *root;
    cell = new_shared(64);
    tarn_store(&root, cell);
    old_value = new_shared(16);
    tarn_store(&cell[3], old_value);
    new_value = new_shared(16);
    tarn_store(&cell[4], new_value);
}

static void test_store(void)
{
    if (!TARN_UNSAFE_INLINE)
        SKIP("no inline sequences in this build");
    new_values();
    check_store(store_value, new_value, 1);
    check_store(store_null, NULL, 1);
    check_store(store_thrice, new_value, 3);
}

/* Interrupted on the way to the slow path, when marking ends. */
static void test_store_barrier_off_again(void)
{
    if (!TARN_UNSAFE_INLINE)
        SKIP("no inline sequences in this build");
    struct noted n;
    new_values();
    step_prepare(barrier_goes_off, 1, true);
    barrier_comes_on();
    stepped_store(store_value, &n);
    CHECK_EQ(step.interrupted, 1);
    CHECK_EQ(n.n, 0u);
    CHECK(cell[0] == new_value);
    /* The decision was made, and the call comes late: a plain store. */
    cell[0] = old_value;
    tarn_store_slow(cell, new_value);
    CHECK_EQ(gcp_of(getg()->m->p)->wbn, 0u);
    CHECK(cell[0] == new_value);
}

/* --- allocation ------------------------------------------------------------ */

static tarn_type *type;

static NI void *alloc_typed(void)
{
    return tarn_alloc(type);
}

static NI void *alloc_bytes(void)
{
    return tarn_alloc_bytes(40);
}

static NI void *alloc_conservative(void)
{
    return tarn_alloc_conservative(24);
}

static uint32_t slot; /* of what is allocated */

static struct mcache_entry *entry_of(struct mcache *c)
{
    return &c->entries[slot];
}

static struct mcache *this_cache(void)
{
    return &getg()->m->p->mcache;
}

/* Another goroutine of this P takes an object of the same entry. */
static uintptr_t taken;
static ON_SIGNAL_STACK void take_one(void)
{
    taken = mcache_alloc(&getg()->m->p->mcache, slot);
}

/* A collection ends. */
static ON_SIGNAL_STACK void flush(void)
{
    mcache_flush(&getg()->m->p->mcache);
}

/* The goroutine goes on under another P: with its cache. */
extern __thread struct mcache_entry *tarn_local
    __attribute__((tls_model("initial-exec")));
static struct mcache other;
static ON_SIGNAL_STACK void migrate(void)
{
    tarn_local = other.entries;
}

static struct tarn_cache_head *head(void)
{
    return (struct tarn_cache_head *)(void *)this_cache()->entries;
}

/* A collection begins, as the cache sees it. */
static ON_SIGNAL_STACK void flip(void)
{
    struct tarn_cache_head *h = (void *)getg()->m->p->mcache.entries;
    h->color ^= META_COLOR;
}

/* Puts an entry where it has n places at least, or exactly. */
static void make_room(struct mcache *c, size_t n, bool exactly)
{
    struct mcache_entry *e = entry_of(c);
    for (;;) {
        size_t have = e->ptr < e->end ? (e->end - e->ptr) / e->size : 0;
        if (have == n || (have > n && !exactly))
            break;
        if (mcache_alloc(c, slot) == 0)
            CHECK(mcache_refill(c, slot) != 0);
    }
}

static NI uintptr_t stepped_alloc(void *(*alloc)(void))
{
    STEP_ON();
    void *p = alloc();
    STEP_OFF();
    CHECK(!step.stepping);
    return (uintptr_t)p;
}

/* An object as it should be. */
static void check_object(uintptr_t p, uint8_t color)
{
    CHECK_NE(p, 0u);
    CHECK_EQ(*heap_meta(p) & META_COLOR, color);
    size_t n = tarn_object_size((void *)p);
    CHECK_EQ(n, class_size[heap.slots[slot].class_]);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(((char *)p)[i], 0);
    memset((void *)p, 0xa5, n); /* nobody else may be given it as zeroes */
}

static void verify(void *unused)
{
    (void)unused;
    heap_verify();
}

/* One that is still free, but has a colour. */
static bool abandoned(struct mcache *c)
{
    struct mcache_entry *e = entry_of(c);
    return e->ptr < e->end && (*heap_meta(e->ptr) & META_COLOR) != 0;
}

struct outcome {
    int doubles;   /* places given to two */
    int abandoned; /* places left with a colour */
};

static void check_alloc_at(void *(*alloc)(void), int i, struct outcome *o)
{
    struct mcache *c = this_cache();
    struct mcache_entry *e = entry_of(c);
    uint8_t color = (uint8_t)atomic_load(&heap.color);

    /* Another allocation comes between: both get places, one after another. */
    make_room(c, 4, false);
    uintptr_t before = e->ptr;
    step_prepare(take_one, i, true);
    uintptr_t p = stepped_alloc(alloc);
    CHECK_EQ(step.interrupted, 1);
    CHECK_EQ(taken, before);
    CHECK_EQ(p, before + e->size);
    CHECK_EQ(e->ptr, before + 2u * e->size);
    check_object(taken, color);
    check_object(p, color);

    /* It takes the last one. */
    make_room(c, 1, true);
    before = e->ptr;
    step_prepare(take_one, i, true);
    p = stepped_alloc(alloc);
    CHECK_EQ(step.interrupted, 1);
    CHECK_EQ(taken, before);
    CHECK_NE(p, before);
    check_object(taken, color);
    check_object(p, color);

    /* The cache is emptied. */
    make_room(c, 4, false);
    step_prepare(flush, i, true);
    p = stepped_alloc(alloc);
    CHECK_EQ(step.interrupted, 1);
    check_object(p, color);
    systemstack(verify, NULL);

    /* New objects have another colour from now on. */
    make_room(c, 4, false);
    before = e->ptr;
    step_prepare(flip, i, true);
    p = stepped_alloc(alloc);
    CHECK_EQ(step.interrupted, 1);
    CHECK_EQ(p, before);
    check_object(p, META_COLOR ^ color);
    head()->color = color;
    meta_store(heap_meta(p), e->startbits | color);

    /* The rest runs under another P. A place may be left behind with a colour:
     * nobody minds, and the next allocation has it. */
    make_room(c, 4, false);
    make_room(&other, 4, false);
    before = e->ptr;
    uintptr_t there = entry_of(&other)->ptr;
    step_prepare(migrate, i, true);
    p = stepped_alloc(alloc);
    tarn_local = c->entries;
    CHECK_EQ(step.interrupted, 1);
    CHECK_EQ(p, there);
    check_object(p, color);
    CHECK_EQ(e->ptr, before);
    systemstack(verify, NULL);
    if (abandoned(c)) {
        o->abandoned++;
        if (o->abandoned % 2) {
            mcache_flush(c);
            CHECK_EQ(*heap_meta(before) & META_COLOR, 0);
        }
        systemstack(verify, NULL);
        mcache_flush(&other);
        CHECK_ST(tarn_gc(), TARN_OK);
        systemstack(verify, NULL);
        color = (uint8_t)atomic_load(&heap.color);
    }
    check_object((uintptr_t)alloc(), color);

    /* The control: without the restart a place is given to two. */
    make_room(c, 4, false);
    step_prepare(take_one, i, false);
    p = stepped_alloc(alloc);
    CHECK_EQ(step.interrupted, 1);
    o->doubles += p == taken;
}

static void check_alloc(void *(*alloc)(void), uint32_t s)
{
    slot = s;
    if (other.entries == NULL)
        CHECK(mcache_init(&other));
    make_room(this_cache(), 4, false);
    step_prepare(NULL, 0, true);
    check_object(stepped_alloc(alloc), (uint8_t)atomic_load(&heap.color));
    int n = step.inside;
    CHECK_GE(n, 10);
    struct outcome o = {0, 0};
    for (int i = 1; i <= n; i++)
        check_alloc_at(alloc, i, &o);
    /* From the load of ptr on; and from the store of the meta byte on. */
    CHECK_GE(o.doubles, 8);
    CHECK_LT(o.doubles, n);
    mcache_flush(&other);
    /* Three, but where a collection has emptied the cache before we looked. */
    CHECK_GE(o.abandoned, 1);
    CHECK_LE(o.abandoned, 3);
}

/* Not inline where the compiler does not see that the size is a constant. */
static void check_constant_size(void *(*alloc)(void), uint32_t s)
{
    step_prepare(NULL, 0, true);
    CHECK(stepped_alloc(alloc) != 0);
#ifdef __OPTIMIZE__
    CHECK_GT(step.inside, 0);
#endif
    if (step.inside > 0)
        check_alloc(alloc, s);
}

static void new_type(void)
{
    static const uint64_t map[] = {2};
    static const struct tarn_type_info info = {
        .name = "stepped", .size = 48, .ptrmap = map};
    if (type == NULL)
        type = tarn_type_register(&info);
    CHECK(type != NULL);
}

static void test_alloc(void)
{
    if (!TARN_UNSAFE_INLINE)
        SKIP("no inline sequences in this build");
    new_type();
    check_alloc(alloc_typed, type->slot);
    check_constant_size(alloc_bytes, SLOT_NOSCAN(size_to_class(40)));
    check_constant_size(alloc_conservative,
                        SLOT_CONSERVATIVE(size_to_class(24)));
}

/* The inline functions find the entries that the heap means. */
static void test_alloc_entries(void)
{
    for (size_t n = 1; n <= TARN_CACHE_BYTES_MAX; n++)
        CHECK_EQ(size_to_class(n), (n + 15) / 16);
    struct tarn_type_info info = {.name = "large", .size = MAX_SMALL + 8};
    tarn_type *large = tarn_type_register(&info);
    CHECK(large != NULL);
    char *p = tarn_alloc(large);
    CHECK(p != NULL);
    CHECK_GE(tarn_object_size(p), MAX_SMALL + 8);
    CHECK(tarn_object_type(p) == large);
    CHECK_EQ(tarn_object_size(tarn_alloc_bytes(0)), 16u);
    CHECK_EQ(tarn_object_size(tarn_alloc_bytes(1)), 16u);
    CHECK_EQ(tarn_object_size(tarn_alloc_bytes(224)), 224u);
    CHECK_EQ(tarn_object_size(tarn_alloc_bytes(225)), 256u);
    CHECK_EQ(tarn_object_size(tarn_alloc_conservative(17)), 32u);
    new_type();
    CHECK(tarn_object_type(tarn_alloc(type)) == type);
    CHECK(tarn_alloc(NULL) == NULL);
    CHECK_STR(tarn_last_error(), "no type");
    /* The functions can be had as such. */
    void *(*volatile alloc)(tarn_type *) = tarn_alloc;
    CHECK(tarn_object_type(alloc(type)) == type);
}

/* --- generated code ---------------------------------------------------------- */

/* int f(uint32_t *flag, void **slot, void *value): 1 if the flag was set. */
static const uint8_t jit_code[] = {
    0x83, 0x3f, 0x00,             /* cmpl $0, (%rdi) */
    0x75, 0x06,                   /* jne 1f */
    0x48, 0x89, 0x16,             /* movq %rdx, (%rsi) */
    0x31, 0xc0,                   /* xorl %eax, %eax */
    0xc3,                         /* ret */
    0xb8, 0x01, 0x00, 0x00, 0x00, /* 1: movl $1, %eax */
    0xc3,                         /* ret */
};
#define JIT_HI 8

static uint32_t jit_flag;
ON_SIGNAL_STACK static void jit_interrupt(void)
{
    jit_flag = 1;
}

static void test_generated_code(void)
{
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    memcpy(code, jit_code, sizeof jit_code);
    CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
    int (*f)(uint32_t *, void **, void *);
    memcpy(&f, &code, sizeof f);
    struct tarn_unsafe_range r = {code, code + JIT_HI};
    CHECK_ST(tarn_unsafe_register(&r, 1), TARN_OK);
    for (int i = 1; i <= 2; i++) {
        void *slot = NULL;
        jit_flag = 0;
        step_prepare(jit_interrupt, i, true);
        STEP_ON();
        int slow = f(&jit_flag, &slot, code);
        STEP_OFF();
        CHECK_EQ(step.interrupted, 1);
        CHECK_EQ(slow, 1);
        CHECK(slot == NULL);
    }
    CHECK_ST(tarn_unsafe_unregister(&r, 1), TARN_OK);
    step_prepare(jit_interrupt, 1, true);
    STEP_ON();
    f(&jit_flag, (void **)&(void *){NULL}, code);
    STEP_OFF();
    CHECK_EQ(step.interrupted, 0);
    munmap(code, 4096);
}

/* --- modules ----------------------------------------------------------------- */

#ifdef TARN_TEST_MODULES
static void *function(void *module, const char *name, void *pfn)
{
    void *p = dlsym(module, name);
    CHECK(p != NULL);
    memcpy(pfn, &p, sizeof p);
    return p;
}

static void (*module_store_null)(void **);
static void call_store_null(void **slot, void *value)
{
    (void)value;
    module_store_null(slot);
}

static void *(*module_alloc)(tarn_type *);
static void *call_alloc(void)
{
    return module_alloc(type);
}

static void check_module(const char *path)
{
    static void (*store)(void **, void *);
    size_t before = unsafe_range_count();
    printf("     %s\n", strrchr(path, '/') + 1);
    void *m = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (m == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(m != NULL);
    CHECK_GT(unsafe_range_count(), before);
    function(m, "module_store", &store);
    check_store(store, new_value, 1);
    function(m, "module_store_null", &module_store_null);
    check_store(call_store_null, NULL, 1);
    function(m, "module_store_template", &store);
    check_store(store, new_value, 1);
    function(m, "module_alloc", &module_alloc);
    check_alloc(call_alloc, type->slot);
    uintptr_t lo = step.lo, hi = step.hi;
    CHECK_EQ(unsafe_restart(hi - 1), lo);
    CHECK(dlclose(m) == 0);
    CHECK_EQ(unsafe_range_count(), before);
    CHECK_EQ(unsafe_restart(hi - 1), hi - 1);
}

static void test_modules(void)
{
    static char paths[] = TARN_TEST_MODULES;
    if (!TARN_UNSAFE_INLINE)
        SKIP("no inline sequences in this build");
    new_values();
    new_type();
    for (char *save, *p = strtok_r(paths, ":", &save); p != NULL;
         p = strtok_r(NULL, ":", &save))
        check_module(p);
}
#endif

/* --- the real thing ------------------------------------------------------------ */

/* Goroutines that do little else than allocate and store, preempted all the time
 * wherever they are, while collections run. */
struct node {
    struct node *next;
    uint64_t stamp;
};
enum { STORMERS = 4, STORM_NODES = 200 };
static tarn_type *node_type;
static struct node *storm_list[STORMERS];
static _Atomic bool storm_stop;
static _Atomic long storm_rounds;
static tarn_waitgroup storm_done;

static NI struct node *storm_build(uint64_t id)
{
    struct node *list = NULL;
    for (uint64_t i = 0; i < STORM_NODES; i++) {
        struct node *n = tarn_alloc(node_type);
        CHECK(n != NULL);
        /* Of an object that somebody else has, too, one will not be zero. */
        CHECK(n->next == NULL && n->stamp == 0);
        n->stamp = id << 32 | i;
        tarn_store(&n->next, list);
        list = n;
    }
    return list;
}

static void stormer(void *arg)
{
    uint64_t id = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&storm_stop)) {
        tarn_store(&storm_list[id], storm_build(id));
        uint64_t left = STORM_NODES;
        for (struct node *n = storm_list[id]; n != NULL; n = n->next)
            CHECK_EQ(n->stamp, id << 32 | --left);
        CHECK_EQ(left, 0u);
        atomic_fetch_add(&storm_rounds, 1);
    }
    tarn_waitgroup_done(&storm_done);
}

static void *storm_signals(void *unused)
{
    struct tarn_preempt_stats st = {.struct_size = sizeof st};
    do {
        for (uint32_t i = 0; i < nprocs; i++) {
            struct m *mp = atomic_load(&allp[i]->m);
            atomic_store(&allp[i]->preempt, true);
            if (mp != NULL)
                preemptM(mp);
        }
        CHECK_ST(tarn_preempt_stats(&st), TARN_OK);
    } while (st.restarted < 100 || atomic_load(&storm_rounds) < 100);
    atomic_store(&storm_stop, true);
    return unused;
}

static void test_preempted(void)
{
    if (!TARN_UNSAFE_INLINE || !preempt_signals_on())
        SKIP("no asynchronous preemption in this build");
    if (sched_hooks.text_kind((uintptr_t)storm_build) != TEXT_MANAGED)
        SKIP("this code is not interrupted: no split-stack prologues");
    static const uint64_t map[] = {TARN_PTR(struct node, next)};
    static const struct tarn_type_info info = {
        .name = "node", .size = sizeof(struct node), .ptrmap = map};
    pthread_t t;
    node_type = tarn_type_register(&info);
    CHECK(node_type != NULL);
    tarn_waitgroup_add(&storm_done, STORMERS);
    for (uintptr_t i = 0; i < STORMERS; i++)
        go(stormer, (void *)i);
    CHECK(pthread_create(&t, NULL, storm_signals, NULL) == 0);
    while (!atomic_load(&storm_stop))
        CHECK_ST(tarn_gc(), TARN_OK);
    tarn_waitgroup_wait(&storm_done);
    CHECK(pthread_join(t, NULL) == 0);
    stopTheWorld();
    systemstack(verify, NULL);
    startTheWorld();
}

static void storm_body(void)
{
    RUN(test_preempted);
}

static void body(void)
{
    RUN(test_store);
    RUN(test_store_barrier_off_again);
    RUN(test_alloc);
    RUN(test_alloc_entries);
    RUN(test_generated_code);
#ifdef TARN_TEST_MODULES
    RUN(test_modules);
#endif
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_half_open);
    RUN(test_bad_ranges);
    RUN(test_random_table);
    RUN(test_bad_tables);
    RUN(test_module_twice);
    RUN(test_readers_beside_writers);
    /* Nothing may happen beside an instruction that is stepped. */
    setenv("TARN", "gcoff=1,droppreempt=100", 1);
    suite_run(body, 1);
    setenv("TARN", "gcoff=0,droppreempt=0", 1);
    suite_run(storm_body, 2);
    return harness_done();
}

/* tests/test_m_freeze.c - stacks that goroutines give up while they wait, that grow
 * and shrink, and whose memory goes back. */
#include "tests/gcsuite.h"

#include <alloca.h>
#include <signal.h>

#include "sched/chan.h"
#include "stackscan/stackscan.h"

#define NI __attribute__((noinline))
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory")

static tarn_waitgroup wg;

static uint64_t freezes(void)
{
    return atomic_load(&stack_stats.freezes);
}

/* Collections until n goroutines are frozen. */
static void freeze(uint64_t n)
{
    for (int i = 0; atomic_load(&stack_stats.frozen) < n; i++) {
        CHECK_LT(i, 100);
        collect();
        tarn_yield();
    }
}

static size_t my_size(void)
{
    return getg()->stack.hi - getg()->stack.lo;
}

NI static uint64_t down(uint64_t depth, uint64_t v)
{
    volatile uint64_t room[60];
    room[v % 60] = v;
    if (depth > 0)
        v = down(depth - 1, v + 1);
    return v + room[v % 60];
}
#define LEVEL ((size_t)512)

/* --- what waits in frames ------------------------------------------------------ */

/* Locals that point to each other, an operand, an alloca block, an object that only
 * a frame holds. */
struct chain {
    struct chain *up;
    uint64_t value;
};

static tarn_chan *in, *out, *other;
static _Atomic int waiting;

NI static uint64_t wait_at(int depth, struct chain *up, uint64_t seed, int how)
{
    struct chain here = {up, seed + (uint64_t)depth};
    struct chain *p = &here;
    OPAQUE(p);
    if (depth > 0) {
        uint64_t r = wait_at(depth - 1, p, seed, how);
        CHECK_EQ(here.up == up, true);
        CHECK_EQ(p->value, seed + (uint64_t)depth);
        return r + 1;
    }
    uint64_t *object = tarn_alloc_bytes(64);
    *object = seed ^ 0x5555;
    uint64_t *block = alloca(64 + seed % 512);
    block[0] = seed;
    uint64_t got = 0, none = 0;
    OPAQUE(object);
    atomic_fetch_add(&waiting, 1);
    if (how == 0) {
        CHECK_ST(tarn_chan_recv(in, &got), TARN_OK);
    } else if (how == 1) {
        struct tarn_select_case c[2] = {
            {.chan = other, .op = TARN_SELECT_RECV, .elem = &none},
            {.chan = in, .op = TARN_SELECT_RECV, .elem = &got}};
        CHECK_EQ(tarn_select(c, 2, false), 1);
    } else {
        got = seed * 3;
        uint64_t v = seed * 3;
        CHECK_ST(tarn_chan_send(out, &v), TARN_OK);
    }
    CHECK_EQ(none, 0);
    CHECK_EQ(block[0], seed);
    CHECK_EQ(*object, seed ^ 0x5555);
    int depths = 0;
    for (struct chain *c = p->up; c != NULL; c = c->up)
        CHECK_EQ(c->value, seed + (uint64_t)++depths);
    if (how != 2)
        CHECK_GT(got, 0);
    return got;
}

static void waiter(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    int how = (int)(seed % 3), depth = (int)(seed / 3 % 6);
    wait_at(depth, NULL, seed, how);
    tarn_waitgroup_done(&wg);
}

static void test_frozen_frames(void)
{
    int n = SUITE_REPEAT(600);
    in = new_chan(8, 0);
    out = new_chan(8, 0);
    other = new_chan(8, 0);
    for (int round = 0; round < 3; round++) {
        atomic_store(&waiting, 0);
        tarn_waitgroup_add(&wg, n);
        int receivers = 0;
        for (int i = 1; i <= n; i++) {
            go(waiter, (void *)(uintptr_t)i);
            receivers += i % 3 != 2;
        }
        while (atomic_load(&waiting) < n)
            tarn_yield();
        uint64_t before = freezes();
        freeze((uint64_t)n / 2);
        CHECK_GT(freezes(), before);
        /* Frozen once more, some of them, while the others go on. */
        for (int i = 1; i <= receivers; i++) {
            uint64_t v = (uint64_t)i;
            CHECK_ST(tarn_chan_send(in, &v), TARN_OK);
            if (i % 100 == 0)
                collect();
        }
        for (int i = 0; i < n - receivers; i++) {
            uint64_t v = 0;
            CHECK_ST(tarn_chan_recv(out, &v), TARN_OK);
            CHECK_EQ(v % 9, 6); /* three times a number of the form 3k+2 */
        }
        tarn_waitgroup_wait(&wg);
        CHECK_EQ(atomic_load(&stack_stats.frozen), 0);
        CHECK_EQ(atomic_load(&stack_stats.frozen_bytes), 0);
    }
}

/* Peers write to operands while their owners are being frozen and thawed. */
static _Atomic uint64_t sum;

NI static void receive_some(int n)
{
    uint64_t v[3] = {0};
    for (int i = 0; i < n; i++) {
        v[1] = 0;
        CHECK_ST(tarn_chan_recv(in, &v[1]), TARN_OK);
        CHECK_GT(v[1], 0);
        CHECK_EQ(v[0] | v[2], 0);
        atomic_fetch_add(&sum, v[1]);
    }
}

static void receiver(void *arg)
{
    receive_some((int)(uintptr_t)arg);
    tarn_waitgroup_done(&wg);
}

static _Atomic bool collecting;

static void collector(void *unused)
{
    (void)unused;
    while (atomic_load(&collecting)) {
        collect();
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_freeze_beside_peers(void)
{
    enum { N = 40 };
    int each = SUITE_REPEAT(100);
    in = new_chan(8, 0);
    atomic_store(&sum, 0);
    atomic_store(&collecting, true);
    tarn_waitgroup_add(&wg, 1);
    go(collector, NULL);
    tarn_waitgroup_add(&wg, N);
    for (int i = 0; i < N; i++)
        go(receiver, (void *)(uintptr_t)each);
    uint64_t want = 0;
    for (int i = 1; i <= N * each; i++) {
        uint64_t v = (uint64_t)i;
        want += v;
        CHECK_ST(tarn_chan_send(in, &v), TARN_OK);
    }
    atomic_store(&collecting, false);
    tarn_waitgroup_wait(&wg);
    CHECK_EQ(atomic_load(&sum), want);
}

/* --- operands in alloca blocks ---------------------------------------------------- */

/* A block that no stack has room for, so that it lies beside it. */
#define BLOCK_WORDS ((size_t)32 << 10)
static struct g *_Atomic subject;
static uint64_t sent_words[BLOCK_WORDS];

static bool waits_to_receive(struct g *gp)
{
    return readgstatus(gp) == Gwaiting &&
           __atomic_load_n(&gp->waitreason, __ATOMIC_RELAXED) == WAIT_CHAN_RECV;
}

static struct g *wait_until_it_waits(void)
{
    struct g *gp;
    while ((gp = atomic_load(&subject)) == NULL || !waits_to_receive(gp))
        tarn_yield();
    return gp;
}

NI static void receive_in_block(int n)
{
    uint64_t local = 7, *at_local[2] = {&local, &local};
    /* Of a size that the compiler does not know: else it is part of the frame. */
    volatile size_t size = (1 << 20) + 64;
    uint64_t **beside = alloca(size);
    beside[0] = at_local[0];
    size = BLOCK_WORDS * sizeof(uint64_t);
    uint64_t *block = alloca(size);
    OPAQUE(block);
    CHECK(getg()->stackdata != NULL);
    for (int i = 1; i <= n; i++) {
        uint64_t r =
            down((100 << 10) / LEVEL, 0); /* there is a lot to shrink */
        OPAQUE(r);
        memset(block, 0, BLOCK_WORDS * sizeof(*block));
        atomic_store(&subject, getg());
        CHECK_ST(tarn_chan_recv(in, block), TARN_OK);
        for (size_t k = 0; k < BLOCK_WORDS; k++)
            CHECK_EQ(block[k], (uint64_t)i + k);
        CHECK(beside[0] == &local);
        CHECK_EQ(*beside[0], 7);
    }
}

static void block_receiver(void *arg)
{
    receive_in_block((int)(uintptr_t)arg);
    tarn_waitgroup_done(&wg);
}

static void send_block(uint64_t i)
{
    for (size_t k = 0; k < BLOCK_WORDS; k++)
        sent_words[k] = i + k;
    CHECK_ST(tarn_chan_send(in, sent_words), TARN_OK);
}

/* As a peer does that writes the operand: under the channel's lock alone. */
static void shrink_beside_peer(void *vgp)
{
    struct g *gp = vgp;
    struct stack before = gp->stack;
    for (int peer = 1; peer >= 0; peer--) {
        if (peer)
            lock(&hchan_of(in)->lock);
        CHECK(castogscanstatus(gp, Gwaiting, Gwaiting | Gscan));
        shrinkstack(gp);
        casfrom_Gscanstatus(gp, Gwaiting | Gscan, Gwaiting);
        CHECK_EQ(gp->stack.lo == before.lo, peer);
        if (peer)
            unlock(&hchan_of(in)->lock);
    }
    CHECK_EQ(gp->stack.hi - gp->stack.lo, STACK_MIN);
}

/* A move reads and writes all words of such blocks, so it waits for peers. */
static void test_block_operand_is_guarded(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    in = new_chan(BLOCK_WORDS * sizeof(uint64_t), 0);
    atomic_store(&subject, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(block_receiver, (void *)1);
    systemstack(shrink_beside_peer, wait_until_it_waits());
    send_block(1);
    tarn_waitgroup_wait(&wg);
}

/* What is received in one is what was sent, after each time that the stack was
 * shrunk or frozen, and while it is. */
static void test_block_operands(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    int n = SUITE_REPEAT(30), shrunk = 0;
    in = new_chan(BLOCK_WORDS * sizeof(uint64_t), 0);
    atomic_store(&subject, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(block_receiver, (void *)(uintptr_t)(2 * n));
    for (int i = 1; i <= n; i++) {
        struct g *gp = wait_until_it_waits();
        /* A dead word that points deep into the stack keeps it large. */
        for (int k = 0; k < 20 && gp->stack.hi - gp->stack.lo > STACK_MIN; k++)
            collect();
        bool small = gp->stack.hi - gp->stack.lo <= STACK_MIN;
        shrunk += small;
        if (options.stackshrink && small)
            freeze(1);
        send_block((uint64_t)i);
    }
    CHECK_GT(shrunk, 0);
    atomic_store(&collecting, true);
    tarn_waitgroup_add(&wg, 1);
    go(collector, NULL);
    for (int i = n + 1; i <= 2 * n; i++)
        send_block((uint64_t)i);
    atomic_store(&collecting, false);
    tarn_waitgroup_wait(&wg);
}

/* --- sizes ----------------------------------------------------------------------- */

static size_t shrunk_from, shrunk_to;

static void shrinks(void *arg)
{
    size_t bytes = (size_t)(uintptr_t)arg;
    uint64_t r = down(bytes / LEVEL, 0);
    OPAQUE(r);
    shrunk_from = my_size();
    for (int i = 0; i < 600; i++) {
        collect(); /* waits, and is scanned meanwhile */
        shrunk_to = my_size();
        if (shrunk_to == STACK_MIN)
            break;
    }
    tarn_waitgroup_done(&wg);
}

static void test_shrinkstack(void)
{
    static const size_t deep[] = {200 << 10, 2 << 20, 20 << 20};
    for (int i = 0; i < 3; i++) {
        if (options.stackmove && deep[i] > 200 << 10)
            continue; /* the square of the depth */
        uint64_t before = atomic_load(&stack_stats.shrinks);
        tarn_waitgroup_add(&wg, 1);
        go(shrinks, (void *)(uintptr_t)deep[i]);
        tarn_waitgroup_wait(&wg);
        CHECK_GE(shrunk_from, deep[i]);
        CHECK_EQ(shrunk_to, STACK_MIN);
        CHECK_GT(atomic_load(&stack_stats.shrinks), before);
    }
}

NI static uint64_t big_frame(uint64_t v)
{
    volatile uint8_t room[80 << 10];
    volatile uint8_t *low = room;
    OPAQUE(low);
    CHECK_GE((uintptr_t)low, getg()->stack.lo + STACK_GUARD / 2);
    low[0] = (uint8_t)v;
    return low[0];
}

/* What a prologue has found room for has it behind a shrink as well. Of 512 KiB the
 * frame leaves so much unused that the stack does shrink, and without the frame it
 * would to less than that; also where lld asks for 16 KiB more, because the function
 * calls UBSan's. */
static void shrinks_in_prologue(void *unused)
{
    (void)unused;
    uint64_t r = down((400 << 10) / LEVEL, 0);
    OPAQUE(r);
    struct g *gp = getg();
    CHECK_EQ(my_size(), 512 << 10);
    /* The request must still be there at the next prologue. */
    struct m *mp = acquirem();
    gp->preemptShrink = true;
    set_stackguard(gp, STACK_PREEMPT);
    r += big_frame(r);
    OPAQUE(r);
    releasem(mp);
    CHECK(!gp->preemptShrink);
    CHECK_EQ(my_size(), 256 << 10);
    tarn_waitgroup_done(&wg);
}

static void test_preemptShrink(void)
{
#ifdef __clang__
    SKIP("frames of gcc's sizes");
#endif
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    tarn_waitgroup_add(&wg, 1);
    go(shrinks_in_prologue, NULL);
    tarn_waitgroup_wait(&wg);
}

static void grows(void *arg)
{
    uint64_t r = down((size_t)(uintptr_t)arg / LEVEL, 0);
    OPAQUE(r);
    tarn_waitgroup_done(&wg);
}

/* Beyond the smallest sizes a stack grows where it is. */
static void test_grow_in_place(void)
{
    if (options.stackmove || options.stackpoison)
        SKIP("every growth copies");
    uint64_t copied = atomic_load(&stack_stats.copied_bytes);
    uint64_t grown = atomic_load(&stack_stats.grows_in_place);
    tarn_waitgroup_add(&wg, 1);
    go(grows, (void *)(uintptr_t)(64 << 20));
    tarn_waitgroup_wait(&wg);
    CHECK_GE(atomic_load(&stack_stats.grows_in_place), grown + 5);
    CHECK_LT(atomic_load(&stack_stats.copied_bytes) - copied, 4 << 20);
    /* Its end comes after its last word to us. */
    while (atomic_load(&stack_stats.large_inuse) != 0)
        tarn_yield();
}

/* --- deep stacks ------------------------------------------------------------------ */

static _Atomic uint64_t answers;

NI static uint64_t serve_below(uint64_t depth, uint64_t v)
{
    volatile uint64_t room[60];
    room[v % 60] = v;
    if (depth > 0) {
        v = serve_below(depth - 1, v + 1);
        return v + room[v % 60];
    }
    uint64_t *held = tarn_alloc_bytes(16), got;
    *held = 77;
    while (tarn_chan_recv(in, &got) == TARN_OK) {
        CHECK_EQ(*held, 77);
        atomic_fetch_add(&answers, 1);
        CHECK_ST(tarn_chan_send(out, &got), TARN_OK);
    }
    return v;
}

static void server(void *unused)
{
    (void)unused;
    uint64_t r = serve_below((6 << 20) / LEVEL, 0);
    OPAQUE(r);
    tarn_waitgroup_done(&wg);
}

/* Its stack is scanned in many parts, while others want it to run: with one P,
 * whoever wants that is in the way of those who scan. */
static void test_deep_is_wanted(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    in = new_chan(8, 0);
    out = new_chan(8, 0);
    tarn_waitgroup_add(&wg, 2);
    go(server, NULL);
    atomic_store(&collecting, true);
    go(collector, NULL);
    for (int i = 0; i < SUITE_REPEAT(400); i++) {
        uint64_t v = (uint64_t)i, back = 0;
        CHECK_ST(tarn_chan_send(in, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(out, &back), TARN_OK);
        CHECK_EQ(back, v);
        if (i % 8 == 0)
            tarn_yield();
        if (i % 50 == 0)
            collect();
    }
    atomic_store(&collecting, false);
    tarn_chan_close(in);
    tarn_waitgroup_wait(&wg);
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    CHECK_GE(s.suspend.count, s.cycles);
}

/* --- memory ------------------------------------------------------------------------ */

static void waits(void *unused)
{
    (void)unused;
    uint64_t v;
    tarn_chan_recv(in, &v);
    tarn_waitgroup_done(&wg);
}

static void test_idle_goes_back(void)
{
    enum { N = 2000 };
    in = new_chan(8, 0);
    tarn_waitgroup_add(&wg, N);
    for (int i = 0; i < N; i++)
        go(waits, NULL);
    tarn_yield();
    tarn_chan_close(in);
    tarn_waitgroup_wait(&wg);
    uint64_t released = atomic_load(&stack_stats.released);
    for (int i = 0; i < 3; i++)
        collect();
    CHECK_GT(atomic_load(&stack_stats.released), released);
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    CHECK_LE(s.stack_inuse_bytes, s.stack_mapped_bytes);
    CHECK_EQ(s.stack_frozen, 0);
}

/* The first stack is as large as stacks turn out to be. */
static _Atomic uint64_t first_size;
static _Atomic int arrived;

static void wait_for(int n)
{
    while (atomic_load(&arrived) < n)
        tarn_yield();
    /* They are about to wait; once more, and they do. */
    tarn_yield();
    atomic_store(&arrived, 0);
}

NI static uint64_t wait_deep(uint64_t depth, uint64_t v)
{
    volatile uint64_t room[60];
    room[v % 60] = v;
    if (depth > 0) {
        v = wait_deep(depth - 1, v + 1);
        return v + room[v % 60];
    }
    atomic_fetch_add(&arrived, 1);
    tarn_chan_recv(in, &v);
    return v;
}

static void waits_deep(void *unused)
{
    (void)unused;
    atomic_store(&first_size, my_size());
    uint64_t r = wait_deep((150 << 10) / LEVEL, 0);
    OPAQUE(r);
    tarn_waitgroup_done(&wg);
}

static void test_first_size(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    enum { N = 60 };
    in = new_chan(8, 0);
    tarn_waitgroup_add(&wg, N + 1);
    for (int i = 0; i < N; i++)
        go(waits_deep, NULL);
    wait_for(N);
    collect();
    go(waits_deep, NULL);
    wait_for(1);
    CHECK_GE(atomic_load(&first_size), 150 << 10);
    tarn_chan_close(in);
    tarn_waitgroup_wait(&wg);
    /* And back, when they are shallow again. */
    in = new_chan(8, 0);
    tarn_waitgroup_add(&wg, N);
    for (int i = 0; i < N; i++)
        go(waits, NULL);
    for (int i = 0; atomic_load(&sched_hooks.first_stack) != STACK_MIN; i++) {
        CHECK_LT(i, 20);
        collect();
    }
    tarn_chan_close(in);
    tarn_waitgroup_wait(&wg);
}

/* --- the guard zone ------------------------------------------------------------------ */

#define PAINT 0xa5

/* How much of what lies below a call's frame is used, at the most. */
NI static size_t depth_used(void (*fn)(void))
{
    struct g *gp = getg();
    uintptr_t here = (uintptr_t)__builtin_frame_address(0) - 256;
    uintptr_t lo = gp->stack.lo + STACK_POISONED;
    memset((void *)lo, PAINT, here - lo);
    fn();
    CHECK(gp->stack.lo + STACK_POISONED == lo);
    while (*(volatile uint8_t *)lo == PAINT)
        lo++;
    return here + 256 - lo;
}

static void call_alloc(void)
{
    for (size_t n = 8; n < 100000; n *= 3) {
        CHECK(tarn_alloc_conservative(n) != NULL);
        CHECK(tarn_alloc_bytes(n) != NULL);
    }
}
static void call_chan(void)
{
    tarn_chan *c = tarn_chan_new(8, 1);
    uint64_t v = 1;
    tarn_chan_send(c, &v);
    tarn_chan_recv(c, &v);
    struct tarn_select_case s[2] = {
        {.chan = c, .op = TARN_SELECT_RECV, .elem = &v},
        {.chan = c, .op = TARN_SELECT_RECV, .elem = &v}};
    tarn_select(s, 2, true);
    tarn_chan_close(c);
}
static void call_error(void)
{
    CHECK_ST(tarn_chan_send(NULL, NULL), TARN_EINVAL);
    tarn_go(NULL, NULL);
}
static void call_sleep(void)
{
    tarn_sleep(1000);
    tarn_yield();
}
static void call_gc(void)
{
    tarn_gc();
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    tarn_gc_stats(&s);
}
static tarn_waitgroup inner;
static void ends(void *unused)
{
    (void)unused;
    tarn_waitgroup_done(&inner);
}
static void call_go(void)
{
    tarn_waitgroup_add(&inner, 1);
    go(ends, NULL);
    tarn_waitgroup_wait(&inner);
}
static void *native(void *p)
{
    return p;
}
static void call_native(void)
{
    tarn_native_call(native, NULL);
    char c;
    tarn_read(-1, &c, 1);
}

/* On a stack that nobody moves or scans meanwhile. */
static void measure_guard(void *unused)
{
    (void)unused;
    static const struct {
        const char *name;
        void (*fn)(void);
    } calls[] = {{"allocation", call_alloc},   {"channels", call_chan},
                 {"errors", call_error},       {"sleep", call_sleep},
                 {"tarn_gc", call_gc},         {"tarn_go", call_go},
                 {"native calls", call_native}};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        size_t most = 0;
        for (int k = 0; k < 3; k++) {
            size_t used = depth_used(calls[i].fn);
            most = used > most ? used : most;
        }
        printf("     %s: %zu bytes below the caller\n", calls[i].name, most);
        /* The guard zone is for four times what our own calls use: other
         * code runs in it too. */
        CHECK_LT(most, STACK_GUARD / 4);
    }
    tarn_waitgroup_done(&wg);
}

static void test_guard_size(void)
{
    tarn_waitgroup_add(&wg, 1);
    go(measure_guard, NULL);
    tarn_waitgroup_wait(&wg);
}

/* --- children -------------------------------------------------------------------- */

static char child_out[65536];

static uint64_t *volatile kept;

NI static void keep_local(void)
{
    uint64_t local = 5;
    kept = &local;
    uint64_t r = down(400, 1); /* moves the stack */
    OPAQUE(r);
    printf("read %llu\n", (unsigned long long)*kept);
}

static void breach(void *unused)
{
    (void)unused;
    keep_local();
}

static void poison_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.stackpoison = 1;
    o.maxprocs = 1;
    tarn_main(&o, breach, NULL);
}

static void test_stackpoison(void)
{
    int st = harness_child(poison_child, NULL, child_out, sizeof child_out);
    CHECK(strstr(child_out, "read 5") == NULL);
    CHECK(WIFSIGNALED(st));
    CHECK_EQ(WTERMSIG(st), SIGSEGV);
    CHECK_STR(child_out, "stackpoison=1");
}

#if TARN_CHECKS >= 2
__attribute__((noinline, no_split_stack)) static void overrun(void)
{
    /* Through all of the guard zone, to the last byte. */
    *(volatile uint8_t *)(getg()->stack.lo + 3) = 1;
}

static void overruns(void *unused)
{
    (void)unused;
    overrun();
    tarn_gc();
}

static void overrun_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    tarn_main(&o, overruns, NULL);
}

static void test_guard_poison(void)
{
    harness_child(overrun_child, NULL, child_out, sizeof child_out);
    CHECK_STR(child_out, "has used all of its stack's guard zone");
}
#endif

/* --- preemptat ---------------------------------------------------------------------- */

static _Atomic bool other_ran;

static void other_goroutine(void *unused)
{
    (void)unused;
    atomic_store(&other_ran, true);
    tarn_waitgroup_done(&wg);
}

NI static uint64_t calls_something(uint64_t v)
{
    volatile uint64_t local = v;
    return local + 1;
}

static void test_preemptat(void)
{
    atomic_store(&other_ran, false);
    tarn_waitgroup_add(&wg, 1);
    go(other_goroutine, NULL);
    /* One P, no signals: only a prologue can let it run. */
    uint64_t v = 0;
    for (int i = 0; i < 200 && !atomic_load(&other_ran); i++)
        v = calls_something(v);
    CHECK(atomic_load(&other_ran));
    tarn_waitgroup_wait(&wg);
}

static void frozen_body(void)
{
    RUN(test_frozen_frames);
    RUN(test_freeze_beside_peers);
    RUN(test_block_operands);
}

static void body(void)
{
    RUN(test_block_operand_is_guarded);
    RUN(test_block_operands);
    RUN(test_shrinkstack);
    RUN(test_preemptShrink);
    RUN(test_grow_in_place);
    RUN(test_deep_is_wanted);
    RUN(test_idle_goes_back);
    RUN(test_first_size);
}

static void guard_body(void)
{
    RUN(test_guard_size);
}

static void preemptat_body(void)
{
    RUN(test_preemptat);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
#ifdef TARN_NO_SPLIT_STACK
    printf("no copying stacks in this build\n");
    return harness_done();
#endif
    unsetenv("TARN"); /* each case is about what its own options do */
    RUN(test_stackpoison);
#if TARN_CHECKS >= 2
    RUN(test_guard_poison);
#endif
    gc_run(guard_body, 1, "gcoff=1");
    gc_run(preemptat_body, 1, "preemptat=2,asyncpreempt=0");
    gc_run(frozen_body, 1, "stackshrink=1");
    gc_run(frozen_body, 4, "stackshrink=1,checkmark=1");
    gc_run(frozen_body, 16, "stackshrink=1,stackpoison=1,preemptat=5");
    gc_run(frozen_body, 3, "stackshrink=1,stackmove=1,clobberfree=1");
    gc_run(body, 1, "");
    gc_run(body, 2, "");
    gc_run(body, 4, "delays=50,droppreempt=30");
    return harness_done();
}

/* tests/test_m_stack_large.c - stacks that are parts of reservations: how they shrink,
 * and very many of them. */
#include "tests/gcsuite.h"

#include "base/vm.h"
#include "stackscan/stackmem.h"

#define NI __attribute__((noinline))
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory")
#define LEVEL ((size_t)512) /* of the recursions here, at least */

static tarn_waitgroup wg;
static tarn_chan *in;
static struct g *_Atomic subject;

NI static uint64_t down(uint64_t depth, uint64_t v)
{
    volatile uint64_t room[60];
    room[v % 60] = v;
    if (depth > 0)
        v = down(depth - 1, v + 1);
    return v + room[v % 60];
}

static size_t size_of(const struct g *gp)
{
    return gp->stack.hi - gp->stack.lo;
}

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

/* --- shrinks of large stacks, in slices ------------------------------------------- */

#define MIB ((size_t)1 << 20)

/* Each frame is as it was left. */
NI static void wait_below(uint64_t depth)
{
    volatile uint64_t room[60];
    room[0] = room[59] = depth;
    if (depth > 0) {
        wait_below(depth - 1);
    } else {
        uint64_t got;
        CHECK_ST(tarn_chan_recv(in, &got), TARN_OK);
    }
    CHECK_EQ(room[0], depth);
    CHECK_EQ(room[59], depth);
}

/* Goes down to 40 MiB and back to 3, and waits there; then waits at 23, and ends. */
NI static uint64_t wait_at_3_mib(uint64_t depth, uint64_t v)
{
    volatile uint64_t room[60];
    room[v % 60] = v;
    if (depth > 0) {
        v = wait_at_3_mib(depth - 1, v + 1);
        return v + room[v % 60];
    }
    uint64_t got, r = down(37 * MIB / LEVEL, 0);
    OPAQUE(r);
    atomic_store(&subject, getg());
    CHECK_ST(tarn_chan_recv(in, &got), TARN_OK);
    wait_below(20 * MIB / LEVEL);
    return v;
}

static void waits_twice(void *unused)
{
    (void)unused;
    uint64_t r = wait_at_3_mib(3 * MIB / LEVEL, 0);
    OPAQUE(r);
    tarn_waitgroup_done(&wg);
}

static struct g *start_waiting_twice(void)
{
    in = new_chan(8, 0);
    atomic_store(&subject, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(waits_twice, NULL);
    struct g *gp = wait_until_it_waits();
    CHECK_EQ(size_of(gp), 64 * MIB);
    return gp;
}

static void send_twice(void)
{
    for (uint64_t i = 0; i < 2; i++)
        CHECK_ST(tarn_chan_send(in, &i), TARN_OK);
    tarn_waitgroup_wait(&wg);
}

/* What is left of the stack is decided by what its goroutine uses, not by how much
 * is left of it at the last slice: twice that, and a power of two, from where it
 * grows to stackmax as a new one does. */
static void test_one_target_of_a_shrink(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    struct g *gp = start_waiting_twice();
    uint64_t before = atomic_load(&stack_stats.shrinks);
    collect();
    CHECK_GT(atomic_load(&stack_stats.shrinks), before); /* ours may, too */
    CHECK_EQ(size_of(gp), options.stackshrink ? 4 * MIB : 8 * MIB);
    send_twice();
}

/* After three slices the goroutine runs, and then uses more than the target. */
static bool has_run;

static void run_between(void)
{
    if (has_run || size_of(atomic_load(&subject)) != 61 * MIB)
        return;
    has_run = true;
    uint64_t v = 0;
    CHECK_ST(tarn_chan_send(in, &v), TARN_OK);
    wait_until_it_waits();
}

static void test_shrink_stops_when_it_runs(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    struct g *gp = start_waiting_twice();
    has_run = false;
    stacks_trim(run_between);
    CHECK(has_run);
    CHECK_EQ(size_of(gp), 61 * MIB);
    uint64_t v = 0;
    CHECK_ST(tarn_chan_send(in, &v), TARN_OK);
    tarn_waitgroup_wait(&wg);
}

/* --- many large stacks ------------------------------------------------------------- */

enum { MANY = 16000 };

static size_t resident_now(void)
{
    unsigned long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f != NULL);
    CHECK_EQ(fscanf(f, "%lu %lu", &all, &resident), 2);
    fclose(f);
    return (size_t)resident * OS_PAGE;
}

static _Atomic int large_ready;

/* A quarter of the stack, so that no scan shrinks it, but few of its pages: what is
 * only read costs no memory. */
NI static void wait_large(void)
{
    volatile char frame[250 << 10];
    frame[0] = frame[sizeof frame - 1] = 1;
    uint64_t v;
    atomic_fetch_add(&large_ready, 1);
    CHECK_ST(tarn_chan_recv(in, &v), TARN_ECLOSED);
    CHECK_EQ(frame[0] + frame[sizeof frame - 1], 2);
}

static void waits_large(void *unused)
{
    (void)unused;
    wait_large();
    tarn_waitgroup_done(&wg);
}

static struct tarn_gc_stats gc_stats(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    return s;
}

/* With the default stackmax, 256 MiB: the reservations are 4 TiB, of 128 that there
 * are, and lie side by side in a few mappings, so vm.max_map_count is no limit. */
static void test_many_large_stacks(void)
{
#ifdef __clang__
    SKIP("frames of gcc's sizes");
#endif
    if (options.checkmark || options.stackpoison)
        SKIP("16,000 stacks of a MiB are zeroed or poisoned whole");
    if (options.stackmove || options.stackshrink)
        SKIP("no stack stays large");
    struct tarn_go_attr attr = {.stack_size = 900 << 10};
    in = new_chan(8, 0);
    atomic_store(&large_ready, 0);
    tarn_waitgroup_add(&wg, MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_ST(tarn_go_with(&attr, waits_large, NULL), TARN_OK);
    while (atomic_load(&large_ready) < MANY)
        tarn_yield();
    for (int i = 0; i < 2; i++) {
        collect();
        struct tarn_gc_stats s = gc_stats();
        /* A MiB each, in a reservation of stackmax; nothing else is large. */
        CHECK_EQ(s.stack_reserved_bytes, MANY * (uint64_t)options.stackmax);
        CHECK_EQ(atomic_load(&stack_stats.large_inuse), MANY * (uint64_t)MIB);
        CHECK_GE(s.stack_inuse_bytes, MANY * (uint64_t)MIB);
        CHECK_LE(s.stack_inuse_bytes, s.stack_mapped_bytes);
        CHECK_LT(resident_now(), 1 << 30);
    }
    tarn_chan_close(in);
    tarn_waitgroup_wait(&wg);
    /* Their ends come after their last words. The few reservations that are kept
     * go in two cycles in which nobody wants one. */
    while (tarn_goroutines() > 1)
        tarn_yield();
    CHECK_EQ(atomic_load(&stack_stats.large_inuse), 0);
    CHECK_LE(gc_stats().stack_reserved_bytes, 8 * (uint64_t)options.stackmax);
    for (int i = 0; i < 2; i++)
        collect();
    CHECK_EQ(gc_stats().stack_reserved_bytes, 0);
}

/* A number that lies in the reservation below all that the stack has ever used is none
 * of the stack's addresses, and no move changes it. */
static void has_number(void *unused)
{
    (void)unused;
    CHECK(getg()->large != NULL);
    volatile uint64_t n = getg()->large->lo + (64 << 10);
    uint64_t complement = ~n;
    OPAQUE(complement); /* it is kept, not what it is made of */
    /* Two moves may bring it back. */
    for (uint64_t depth = 0; depth < 4; depth++) {
        uint64_t r = down(depth, 1);
        OPAQUE(r);
        CHECK_EQ(~n, complement);
    }
    tarn_waitgroup_done(&wg);
}

static void test_number(void)
{
    struct tarn_go_attr attr = {.stack_size = 900 << 10};
    tarn_waitgroup_add(&wg, 1);
    CHECK_ST(tarn_go_with(&attr, has_number, NULL), TARN_OK);
    tarn_waitgroup_wait(&wg);
}

static void number_body(void)
{
    RUN(test_number);
}

static void body(void)
{
    RUN(test_one_target_of_a_shrink);
    RUN(test_shrink_stops_when_it_runs);
}

static void many_body(void)
{
    RUN(test_many_large_stacks);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
#ifdef TARN_NO_SPLIT_STACK
    printf("no copying stacks in this build\n");
    return harness_done();
#endif
    gc_run(body, 1, "");
    gc_run(body, 2, "");
    gc_run(body, 3, "stackshrink=1");
    gc_run(body, 4, "delays=50,droppreempt=30");
    gc_run(number_body, 1, "stackmove=1");
    gc_run(many_body, 2, "");
    return harness_done();
}

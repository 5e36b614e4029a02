/* tests/test_callbacks.c - callbacks from native code, and what native calls refuse. */
#include <dirent.h>
#include <sys/syscall.h>

#include "base/fail.h"
#include "nativesuite.h"

#ifdef __SPLIT_STACK__
#define COPYING 1
#else
#define COPYING 0
#endif

static tarn_waitgroup wg;
static struct event gate;

static void *no_op(void *p)
{
    return p;
}

static void nothing(void *unused)
{
    (void)unused;
}

/* --- callbacks -------------------------------------------------------------------- */

#define DEPTH (TARN_ASAN || TARN_TSAN ? 60 : 150)

static void nester(void *unused)
{
    (void)unused;
    tarn_native_call(native_down, (void *)(uintptr_t)DEPTH);
    tarn_waitgroup_done(&wg);
}

static void test_callback_nested(void)
{
    atomic_store(&bottoms, 0);
    for (int i = 0; i < scaled(8); i++) {
        tarn_waitgroup_add(&wg, 3);
        for (int k = 0; k < 3; k++)
            go(nester, NULL);
        tarn_native_call(native_down, (void *)(uintptr_t)DEPTH);
        tarn_waitgroup_wait(&wg);
    }
    CHECK_EQ(atomic_load(&bottoms), 4 * scaled(8));
    CHECK(getg()->lockedm == NULL && getg()->lockedcount == 0);
}

/* Uses a lot of stack: a copying one moves. */
__attribute__((noinline)) static uint64_t deep(int n, uint64_t *up)
{
    volatile uint64_t room[32];
    room[n % 32] = *up;
    uint64_t copy = *up + 1;
    uint64_t r = n > 0 ? deep(n - 1, &copy) : copy;
    CHECK_EQ(room[n % 32], *up);
    return r;
}

static _Atomic uint64_t moves;

static void grow(void *unused)
{
    (void)unused;
    uint64_t zero = 0;
    uintptr_t hi = getg()->stack.hi;
    CHECK_EQ(deep(400, &zero), 401);
    if (getg()->stack.hi != hi)
        atomic_fetch_add(&moves, 1);
    collect();
}

static void *calls_grow(void *unused)
{
    CHECK_ST(tarn_callback(grow, NULL), TARN_OK);
    CHECK_ST(tarn_callback(grow, NULL), TARN_OK);
    return unused;
}

/* Its locals are looked at before and behind: pointers into the stack too. */
static void grower(void *form)
{
    uint64_t here = 17, *to_here = &here;
    volatile uint64_t *obj = tarn_alloc_bytes(64);
    *obj = 99;
    if (form == NULL) {
        tarn_native_call(calls_grow, NULL);
    } else {
        tarn_native_enter();
        /* Asks for little stack itself: as native code between the two may. */
        tarn_status st = tarn_callback(grow, NULL);
        tarn_status st2 = tarn_callback(grow, NULL);
        bool in = tarn_in_native();
        tarn_native_leave();
        CHECK(in);
        CHECK_ST(st, TARN_OK);
        CHECK_ST(st2, TARN_OK);
    }
    CHECK(to_here == &here);
    CHECK_EQ(*to_here, 17);
    CHECK_EQ(*obj, 99);
    tarn_waitgroup_done(&wg);
}

static void test_callback_grows(void)
{
    atomic_store(&moves, 0);
    for (int i = 0; i < scaled(20); i++) {
        tarn_waitgroup_add(&wg, 4);
        for (uintptr_t k = 0; k < 4; k++)
            go(grower, (void *)(k % 2));
        tarn_waitgroup_wait(&wg);
    }
    if (COPYING)
        CHECK_GT(atomic_load(&moves), (uint64_t)0);
}

static tarn_chan *volatile chan_to, *volatile chan_from;

static void talk(void *unused)
{
    (void)unused;
    uint64_t v;
    struct m *mp = getg()->m;
    CHECK_ST(tarn_chan_recv(chan_to, &v), TARN_OK);
    v++;
    CHECK_ST(tarn_chan_send(chan_from, &v), TARN_OK);
    /* Native code below us is on this thread: so are we. */
    CHECK(getg()->m == mp);
}

static void *talks(void *n)
{
    for (uintptr_t i = 0; i < (uintptr_t)n; i++)
        CHECK_ST(tarn_callback(talk, NULL), TARN_OK);
    return NULL;
}

static void talker(void *n)
{
    tarn_native_call(talks, n);
    tarn_waitgroup_done(&wg);
}

static void test_callback_blocks(void)
{
    int n = scaled(300);
    chan_to = new_chan(8, 0);
    chan_from = new_chan(8, 0);
    tarn_waitgroup_add(&wg, 2);
    for (int i = 0; i < 2; i++)
        go(talker, (void *)(uintptr_t)n);
    for (int i = 0; i < 2 * n; i++) {
        uint64_t v = (uint64_t)i, w;
        CHECK_ST(tarn_chan_send(chan_to, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(chan_from, &w), TARN_OK);
    }
    tarn_waitgroup_wait(&wg);
    chan_to = chan_from = NULL;
}

static void test_callback_plain(void)
{
    static uint64_t was;
    CHECK_ST(tarn_callback(NULL, NULL), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_callback: no function");
    was = tarn_goroutines();
    CHECK_ST(tarn_callback(nothing, NULL), TARN_OK);
    CHECK_EQ(tarn_goroutines(), was);
}

/* --- what is refused, and what ends the process --------------------------------------- */

static void *refused_calls(void *vchan)
{
    tarn_chan *c = vchan;
    uint64_t v = 1;
    CHECK(tarn_alloc_bytes(10) == NULL && said("not called on a goroutine"));
    CHECK(tarn_alloc_conservative(10) == NULL && said("not called on"));
    CHECK(tarn_chan_new(8, 1) == NULL && said("tarn_chan_new: not called on"));
    CHECK_ST(tarn_chan_send(c, &v), TARN_ESTATE);
    CHECK_ST(tarn_chan_recv(c, &v), TARN_ESTATE);
    CHECK_ST(tarn_gc(), TARN_ESTATE);
    CHECK(said("tarn_gc: not called on a goroutine"));
    CHECK_ST(tarn_go(nothing, NULL), TARN_ESTATE);
    CHECK(tarn_timer_start(1, nothing, NULL) == NULL);
    CHECK_ST(tarn_lock_thread(), TARN_ESTATE);
    CHECK(said("tarn_lock_thread: not called on a goroutine"));
    CHECK_ST(tarn_unlock_thread(), TARN_ESTATE);
    CHECK_ST(tarn_thread_attach(), TARN_ESTATE);
    CHECK(said("this thread is attached or runs goroutines already"));
    CHECK_ST(tarn_thread_detach(), TARN_ESTATE);
    CHECK_EQ(tarn_read(0, &v, 1), -EPERM);
    CHECK(said("tarn_read: not called on a goroutine"));
    CHECK_EQ(tarn_nanosleep(1), -EPERM);
    CHECK_EQ(tarn_futex_wait((uint32_t *)&gate.set, 0, 1), -EPERM);
    tarn_yield();
    tarn_sleep(1);
    tarn_poll();
    CHECK_EQ(tarn_self(), 0);
    CHECK(tarn_in_native());
    /* This one may be called: it is native code already. */
    CHECK(tarn_native_call(no_op, &v) == &v);
    CHECK(tarn_in_native());
    return NULL;
}

static void test_native_refuses(void)
{
    static uint64_t word;
    tarn_chan *c = new_chan(8, 1);
    tarn_native_call(refused_calls, c);
    CHECK(!tarn_in_native());
    /* Nothing of it was done. */
    CHECK(tarn_chan_try_recv(c, &word) == TARN_EAGAIN);
}

static void enter_twice(void *unused)
{
    (void)unused;
    tarn_native_enter();
    tarn_native_enter();
}

static void leave_alone(void *unused)
{
    (void)unused;
    tarn_native_leave();
}

static void *do_leave(void *p)
{
    tarn_native_leave();
    return p;
}

static void leave_in_call(void *unused)
{
    tarn_native_call(do_leave, unused);
}

static void *do_enter(void *p)
{
    tarn_native_enter();
    return p;
}

static void enter_in_call(void *unused)
{
    tarn_native_call(do_enter, unused);
}

static void call_behind_enter(void *unused)
{
    tarn_native_enter();
    tarn_native_call(no_op, unused);
}

static void goexit_in_native(void *unused)
{
    (void)unused;
    tarn_native_enter();
    tarn_goexit();
}

static void do_goexit(void *unused)
{
    (void)unused;
    tarn_goexit();
}

static void *calls_goexit(void *p)
{
    tarn_callback(do_goexit, NULL);
    return p;
}

static void goexit_in_callback(void *unused)
{
    tarn_native_call(calls_goexit, unused);
}

static void *attach_and_goexit(void *p)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    tarn_goexit();
    return p;
}

static void goexit_attached(void *unused)
{
    (void)unused;
    pthread_t t;
    start_thread(&t, attach_and_goexit, NULL);
    tarn_native_call(join_thread, &t);
}

static void enter_nowhere_child(void)
{
    tarn_native_enter();
}

static void leave_nowhere_child(void)
{
    tarn_native_leave();
}

static void call_nowhere_child(void)
{
    tarn_native_call(no_op, NULL);
}

__attribute__((noinline)) static void checks_its_stack(volatile int *p)
{
    volatile char room[64];
    room[*p % 64] = 1;
    *p = room[*p % 64];
}

static void split_in_native(void *unused)
{
    (void)unused;
    volatile int n = 1;
    tarn_native_enter();
    checks_its_stack(&n);
    tarn_native_leave();
}

static volatile size_t alloca_size = 100;

static void alloca_in_native(void *unused)
{
    (void)unused;
    tarn_native_enter();
    volatile char *p = __builtin_alloca(alloca_size);
    p[0] = 1;
    tarn_native_leave();
}

/* Exit status 2 and the message. */
static void must_end(void (*child)(void), const char *needle)
{
    static char out[65536];
    int st = harness_child(child, NULL, out, sizeof out);
    if (strstr(out, needle) == NULL)
        fprintf(stderr, "lacks \"%s\":\n%s\n", needle, out);
    CHECK(strstr(out, needle) != NULL);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
}

static void test_misuse(void)
{
    CHECK_FATAL(
        enter_twice,
        "tarn_native_enter: not called on a goroutine (in a native call)");
    CHECK_FATAL(
        enter_in_call,
        "tarn_native_enter: not called on a goroutine (in a native call)");
    CHECK_FATAL(leave_alone, "tarn_native_leave: no tarn_native_enter");
    CHECK_FATAL(leave_in_call, "tarn_native_leave: no tarn_native_enter");
    CHECK_FATAL(call_behind_enter,
                "tarn_native_call: not called on a goroutine (in a native "
                "call)");
    CHECK_FATAL(goexit_in_callback, "tarn_goexit: in a callback");
    CHECK_FATAL(goexit_attached, "tarn_goexit: on an attached thread");
    must_end(enter_nowhere_child,
             "tarn_native_enter: not called on a goroutine");
    must_end(leave_nowhere_child, "tarn_native_leave: no tarn_native_enter");
    must_end(call_nowhere_child, "tarn_native_call: not called on a goroutine");
    suite_child_fn = goexit_in_native;
    CHECK_THROWS(suite_child_main, NULL,
                 "tarn_goexit: not called on a goroutine");
    if (COPYING) {
        CHECK_FATAL(split_in_native,
                    "code compiled with -fsplit-stack is called between "
                    "tarn_native_enter and tarn_native_leave");
        CHECK_FATAL(alloca_in_native,
                    "code compiled with -fsplit-stack is called between "
                    "tarn_native_enter and tarn_native_leave");
    }
}

static void body(void)
{
    RUN(test_callback_plain);
    RUN(test_callback_nested);
    RUN(test_callback_grows);
    RUN(test_callback_blocks);
    RUN(test_native_refuses);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_misuse);
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(body, 2, "delays=200,droppreempt=30");
    gc_run(body, 16, "checkmark=1,gcstress=64,droppreempt=30");
    return harness_done();
}

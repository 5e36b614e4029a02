/* tests/test_native.c - native calls: who runs meanwhile, what stays alive, how
 * they end. Threads and callbacks: test_threads.c. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "gc/gc.h"
#include "gcsuite.h"
#include "tarn/tarn.h"

static void *plus_one(void *p)
{
    return (char *)p + 1;
}

static void test_native_call(void)
{
    static char bytes[1024];
    for (int i = 0; i < 100000; i++) {
        char *p = bytes + i % 1000;
        CHECK(tarn_native_call(plus_one, p) == p + 1);
    }
}

static void test_enter_leave(void)
{
    for (int i = 0; i < 100000; i++) {
        tarn_native_enter();
        tarn_native_leave();
    }
    CHECK(!tarn_in_native());
}

/* --- a pipe whose reader blocks ------------------------------------------------ */

static int fds[2];
static tarn_waitgroup wg;

static void reader(void *unused)
{
    (void)unused;
    char c = 0;
    CHECK_EQ(tarn_read(fds[0], &c, 1), 1);
    CHECK_EQ(c, 'x');
    tarn_waitgroup_done(&wg);
}

static void writer(void *unused)
{
    (void)unused;
    CHECK_EQ(tarn_write(fds[1], "x", 1), 1);
    tarn_waitgroup_done(&wg);
}

/* With one P: the writer runs only if the reader's P is taken from it. */
static void test_retake(void)
{
    CHECK_EQ(pipe(fds), 0);
    for (int i = 0; i < 50; i++) {
        tarn_waitgroup_add(&wg, 2);
        go(reader, NULL);
        tarn_yield();
        go(writer, NULL);
        tarn_waitgroup_wait(&wg);
    }
    close(fds[0]);
    close(fds[1]);
}

static void blocked_in_read(void *unused)
{
    (void)unused;
    uint64_t *keep = tarn_alloc_bytes(64);
    *keep = 77;
    char c;
    CHECK_EQ(tarn_read(fds[0], &c, 1), 1);
    CHECK_EQ(*keep, 77);
    tarn_waitgroup_done(&wg);
}

static void test_gc_while_blocked(void)
{
    CHECK_EQ(pipe(fds), 0);
    for (int r = 0; r < 20; r++) {
        tarn_waitgroup_add(&wg, 4);
        for (int i = 0; i < 4; i++)
            go(blocked_in_read, NULL);
        for (int i = 0; i < 3; i++) {
            collect();
            tarn_yield();
        }
        for (int i = 0; i < 4; i++)
            CHECK_EQ(tarn_write(fds[1], "x", 1), 1);
        tarn_waitgroup_wait(&wg);
    }
    close(fds[0]);
    close(fds[1]);
}

/* --- callbacks ---------------------------------------------------------------------- */

static int depth_reached;
static void *native_down(void *n);

static void managed_down(void *n)
{
    CHECK(!tarn_in_native());
    uint64_t *p = tarn_alloc_bytes(128);
    *p = (uintptr_t)n;
    if ((uintptr_t)n % 3 == 0)
        tarn_yield();
    if ((uintptr_t)n % 5 == 0)
        collect();
    if (n != NULL)
        tarn_native_call(native_down, (char *)n - 1);
    else
        depth_reached++;
    CHECK_EQ(*p, (uintptr_t)n);
}

static void *native_down(void *n)
{
    CHECK(tarn_in_native());
    CHECK_ST(tarn_callback(managed_down, n), TARN_OK);
    CHECK(tarn_in_native());
    return NULL;
}

static void test_callback_nested(void)
{
    depth_reached = 0;
    for (int i = 0; i < 20; i++)
        tarn_native_call(native_down, (void *)(uintptr_t)20);
    CHECK_EQ(depth_reached, 20);
}

static void *thread_main(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        CHECK_ST(tarn_thread_attach(), TARN_OK);
        uint64_t *p = tarn_alloc_bytes(64);
        *p = 5;
        tarn_yield();
        collect();
        CHECK_EQ(*p, 5);
        tarn_native_call(native_down, (void *)(uintptr_t)7);
        CHECK_ST(tarn_thread_detach(), TARN_OK);
    }
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    return NULL;
}

static void *make_threads(void *unused)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&t[i], NULL, thread_main, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    return unused;
}

static void test_attach(void)
{
    tarn_native_call(make_threads, NULL);
}

static void locked(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    long tid = tarn_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
    for (int i = 0; i < 200; i++) {
        tarn_yield();
        CHECK_EQ(tarn_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0), tid);
    }
    tarn_waitgroup_done(&wg);
}

static void test_lock_thread(void)
{
    tarn_waitgroup_add(&wg, 8);
    for (int i = 0; i < 8; i++)
        go(locked, NULL);
    tarn_waitgroup_wait(&wg);
}

static void test_world(void)
{
    for (int i = 0; i < 100; i++) {
        stopTheWorld();
        startTheWorld();
        tarn_nanosleep(1000);
    }
}

static void body(void)
{
    RUN(test_native_call);
    RUN(test_enter_leave);
    RUN(test_retake);
    RUN(test_gc_while_blocked);
    RUN(test_callback_nested);
    RUN(test_attach);
    RUN(test_lock_thread);
    RUN(test_world);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 4, "checkmark=1");
    gc_run(body, 16, "checkmark=1,gcstress=64,droppreempt=30");
    return harness_done();
}

/* tests/test_fork.c - a program with the runtime forks: the child may exec or
 * exit, and is told so if it does anything else; parent and runtime go on. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gcsuite.h"

/* Forks, runs fn in the child (whose end by _exit(0) is a pass), waits. */
static int in_child(void (*fn)(void), char *out, size_t len)
{
    int p[2];
    CHECK_EQ(pipe(p), 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(p[1], 2);
        close(p[0]);
        close(p[1]);
        fn();
        _exit(0);
    }
    close(p[1]);
    size_t n = 0;
    for (;;) {
        long r = tarn_read(p[0], out + n, len - 1 - n);
        if (r == -EINTR)
            continue;
        if (r <= 0)
            break;
        n += (size_t)r;
    }
    out[n] = 0;
    close(p[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    return status;
}

static void expect_exit(void (*fn)(void), int code, const char *text)
{
    char out[4096];
    int st = in_child(fn, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != code)
        fprintf(stderr, "wait status %#x, output: %s\n", (unsigned)st, out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), code);
    CHECK(strstr(out, text) != NULL);
}

#define WHY "a child of fork may only exec or exit"

static void nothing(void) {}

static void refused(const char *what)
{
    if (strstr(tarn_last_error(), WHY) == NULL ||
        strstr(tarn_last_error(), what) == NULL) {
        fprintf(stderr, "%s: %s\n", what, tarn_last_error());
        _exit(3);
    }
}

static void main_goroutine(void *unused)
{
    (void)unused;
}

static void all_refused(void)
{
    char c;
    if (tarn_alloc_bytes(16) != NULL)
        _exit(4);
    refused("tarn_alloc");
    if (tarn_alloc_bytes(1 << 20) != NULL)
        _exit(4);
    refused("tarn_alloc");
    if (tarn_gc() != TARN_ESTATE)
        _exit(5);
    refused("tarn_gc");
    if (tarn_go(main_goroutine, NULL) != TARN_ESTATE)
        _exit(6);
    refused("tarn_go");
    if (tarn_chan_new(8, 1) != NULL)
        _exit(7);
    refused("tarn_chan_new");
    if (tarn_world_stop() != TARN_ESTATE)
        _exit(8);
    refused("tarn_world_stop");
    if (tarn_read(0, &c, 1) >= 0)
        _exit(9);
    refused("tarn_read");
    tarn_yield();
    refused("tarn_yield");
    if (tarn_thread_attach() != TARN_ESTATE ||
        strstr(tarn_last_error(), "child of fork") == NULL)
        _exit(10);
    if (tarn_main(NULL, main_goroutine, NULL) != TARN_ESTATE ||
        strstr(tarn_last_error(), "may only exec or exit") == NULL)
        _exit(11);
    if (tarn_self() != 0)
        _exit(12);
}

static void child_native(void)
{
    tarn_native_enter();
}

static void child_mutex(void)
{
    static tarn_mutex m;
    tarn_mutex_lock(&m);
}

static void child_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
    _exit(99);
}

/* What our threads block must not stay blocked in another program. */
static void child_exec_term(void)
{
    execl("/bin/sh", "sh", "-c", "kill -TERM $$; exit 7", (char *)NULL);
    _exit(99);
}

static void test_refused(void)
{
    expect_exit(nothing, 0, "");
    expect_exit(all_refused, 0, "");
    expect_exit(child_native, 2, WHY);
    expect_exit(child_mutex, 2, WHY);
}

static void test_exec(void)
{
    char out[256];
    for (int i = 0; i < 20; i++)
        expect_exit(child_exec, 0, "");
    int st = in_child(child_exec_term, out, sizeof out);
    CHECK(WIFSIGNALED(st));
    CHECK_EQ(WTERMSIG(st), SIGTERM);
}

/* While others fork too, collect and make native calls. */
static tarn_waitgroup wg;

static void forker(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5; i++)
        expect_exit(i % 2 ? child_exec : all_refused, 0, "");
    tarn_waitgroup_done(&wg);
}

static void test_storm(void)
{
    garbage_start(2);
    tarn_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++)
        go(forker, NULL);
    tarn_waitgroup_wait(&wg);
    garbage_end();
}

/* The goroutine that forked ends in the child. */
static void ends_in_child(void *unused)
{
    (void)unused;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        return;
    int st = 0;
    while (waitpid(pid, &st, 0) < 0)
        CHECK_EQ(errno, EINTR);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
    tarn_waitgroup_done(&wg);
}

static void test_end_in_child(void)
{
    tarn_waitgroup_add(&wg, 1);
    go(ends_in_child, NULL);
    tarn_waitgroup_wait(&wg);
}

static void body(void)
{
    RUN(test_refused);
    RUN(test_exec);
    RUN(test_storm);
    RUN(test_end_in_child);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 4, "");
    return harness_done();
}

/* tests/test_syscalls.c - the system calls of tarn/native.h, one by one: what they
 * return, for each kind of error, and off a goroutine. While they block:
 * test_syscalls_block.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/resource.h>

#include "syscallsuite.h"

static tarn_waitgroup wg;

/* --- errors ------------------------------------------------------------------------ */

static void test_bad_descriptors(void)
{
    static char b[16];
    static struct pollfd closed;
    int fds[2];
    CHECK_EQ(tarn_read(-1, b, 1), -EBADF);
    CHECK_EQ(tarn_write(-1, b, 1), -EBADF);
    CHECK_EQ(tarn_pread(-1, b, 1, 0), -EBADF);
    CHECK_EQ(tarn_pwrite(-1, b, 1, 0), -EBADF);
    CHECK_EQ(tarn_close(-1), -EBADF);
    CHECK_EQ(tarn_read(INT_MAX, b, 1), -EBADF);
    /* The wrong end. */
    PIPE(fds, O_CLOEXEC);
    CHECK_EQ(tarn_read(fds[1], b, 1), -EBADF);
    CHECK_EQ(tarn_write(fds[0], b, 1), -EBADF);
    CHECK_EQ(tarn_pread(fds[0], b, 1, 0), -ESPIPE);
    CHECK_EQ(tarn_pwrite(fds[1], b, 1, 0), -ESPIPE);
    /* Nobody reads it any more. */
    CHECK_EQ(tarn_close(fds[0]), 0);
    CHECK_EQ(tarn_write(fds[1], b, 1), -EPIPE);
    CHECK_EQ(tarn_close(fds[1]), 0);
    CHECK_EQ(tarn_close(fds[1]), -EBADF);
    closed = (struct pollfd){.fd = fds[1], .events = POLLIN, .revents = 0};
    CHECK_EQ(tarn_poll_fds(&closed, 1, 0), 1);
    CHECK_EQ(closed.revents, POLLNVAL);
    closed.revents = 0;
    CHECK_EQ(tarn_poll_fds(&closed, 1, -1), 1);
    CHECK_EQ(closed.revents, POLLNVAL);
}

static void test_bad_addresses(void)
{
    char *bad = forbidden();
    int fds[2];
    PIPE(fds, O_CLOEXEC);
    CHECK_EQ(tarn_write(fds[1], bad, 5), -EFAULT);
    CHECK_EQ(tarn_write(fds[1], "abc", 3), 3);
    CHECK_EQ(tarn_read(fds[0], bad, 5), -EFAULT);
    close_both(fds);
    int fd = memfd_create("bytes", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    CHECK_EQ(tarn_pwrite(fd, "abc", 3, 0), 3);
    CHECK_EQ(tarn_pread(fd, bad, 3, 0), -EFAULT);
    CHECK_EQ(tarn_pwrite(fd, bad, 3, 0), -EFAULT);
    CHECK_EQ(tarn_pread(fd, bad, 3, -1), -EINVAL);
    CHECK_EQ(tarn_pwrite(fd, bad, 3, INT64_MIN), -EINVAL);
    CHECK_EQ(tarn_close(fd), 0);
    CHECK_EQ(tarn_open(bad, O_RDONLY, 0), -EFAULT);
    CHECK_EQ(tarn_open(NULL, O_RDONLY, 0), -EFAULT);
    CHECK_EQ(tarn_poll_fds((struct pollfd *)(void *)bad, 1, 0), -EFAULT);
    CHECK_EQ(tarn_poll_fds((struct pollfd *)(void *)bad, 1, 1), -EFAULT);
    CHECK_EQ(tarn_futex_wait((uint32_t *)(void *)bad, 0, -1), -EFAULT);
    CHECK_EQ(tarn_futex_wait((uint32_t *)(void *)bad, 0, 1), -EFAULT);
    CHECK_EQ(tarn_futex_wait((uint32_t *)(void *)(bad + 1), 0, 1), -EINVAL);
    CHECK_EQ(tarn_futex_wake((uint32_t *)(void *)(bad + 1), 1), -EINVAL);
    CHECK_EQ(
        tarn_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)bad, 0, 0, 0, 0),
        -EFAULT);
}

static void test_would_block(void)
{
    static char b[1 << 16];
    int fds[2];
    PIPE(fds, O_CLOEXEC | O_NONBLOCK);
    CHECK_EQ(tarn_read(fds[0], b, sizeof b), -EAGAIN);
    long room = 0, n;
    while ((n = tarn_write(fds[1], b, sizeof b)) > 0)
        room += n;
    CHECK_EQ(n, -EAGAIN);
    CHECK_GT(room, 0);
    /* All of it is there, and nothing else. */
    while ((n = tarn_read(fds[0], b, sizeof b)) > 0)
        room -= n;
    CHECK_EQ(n, -EAGAIN);
    CHECK_EQ(room, 0);
    close_both(fds);
}

static void test_open(void)
{
    static char path[256], longer[5000];
    static struct stat st;
    strcpy(path, in_temp_dir("file"));
    memset(longer, 'x', sizeof longer - 1);
    mode_t mask = umask(0);
    CHECK_EQ(tarn_open(path, O_RDONLY, 0), -ENOENT);
    CHECK_EQ(tarn_open("", O_RDONLY, 0), -ENOENT);
    CHECK_EQ(tarn_open(longer, O_RDONLY, 0), -ENAMETOOLONG);
    CHECK_EQ(tarn_open(temp_dir, O_WRONLY, 0), -EISDIR);
    long fd = tarn_open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0640);
    CHECK_GE(fd, 0);
    umask(mask);
    CHECK_EQ(tarn_open(path, O_CREAT | O_EXCL | O_RDWR, 0640), -EEXIST);
    CHECK_EQ(fstat((int)fd, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0640);
    CHECK_EQ(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(tarn_write((int)fd, "12345", 5), 5);
    CHECK_EQ(tarn_close((int)fd), 0);
    fd = tarn_open(path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    CHECK_GE(fd, 0);
    CHECK_EQ(tarn_write((int)fd, "678", 3), 3);
    CHECK_EQ(fstat((int)fd, &st), 0);
    CHECK_EQ(st.st_size, 8);
    CHECK_EQ(tarn_close((int)fd), 0);
    CHECK_EQ(unlink(path), 0);
}

/* The result is the register, whatever it says; six arguments arrive. */
static void test_any_syscall(void)
{
    CHECK_EQ(tarn_syscall(100000, 0, 0, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ(tarn_syscall(-1, 0, 0, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ(tarn_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), getpid());
    int fd = memfd_create("pages", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    CHECK_EQ(tarn_pwrite(fd, "page 0", 7, 0), 7);
    CHECK_EQ(tarn_pwrite(fd, "page 3", 7, 3 * 4096), 7);
    long at =
        tarn_syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 3 * 4096);
    CHECK_GT(at, 0);
    CHECK_EQ(strcmp((const char *)at, "page 3"), 0);
    CHECK_EQ(tarn_syscall(SYS_munmap, at, 4096, 0, 0, 0, 0), 0);
    CHECK_EQ(tarn_syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 3),
             -EINVAL);
    CHECK_EQ(tarn_close(fd), 0);
}

static void test_large_offsets(void)
{
    static char b[32];
    const int64_t far = INT64_C(5) << 32 | 12345;
    int fd = memfd_create("sparse", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    CHECK_EQ(tarn_write(fd, "at the front", 12), 12);
    CHECK_EQ(tarn_pwrite(fd, "far away", 8, far), 8);
    memset(b, '?', sizeof b);
    CHECK_EQ(tarn_pread(fd, b, sizeof b, far), 8);
    CHECK_EQ(memcmp(b, "far away????", 12), 0);
    CHECK_EQ(tarn_pread(fd, b, sizeof b, far + 8), 0);
    CHECK_EQ(tarn_pread(fd, b, 5, far - 5), 5);
    CHECK_EQ(memcmp(b, "\0\0\0\0\0", 5), 0);
    /* The file's own position is another matter. */
    CHECK_EQ(tarn_write(fd, "!", 1), 1);
    CHECK_EQ(tarn_pread(fd, b, 13, 0), 13);
    CHECK_EQ(memcmp(b, "at the front!", 13), 0);
    CHECK_EQ(tarn_close(fd), 0);
}

/* --- errno --------------------------------------------------------------------------- */

/* No call leaves its error there: on a goroutine that stays on its thread it is
 * as it was, after the long way too. */
static void test_errno_untouched(void)
{
    static uint32_t word = 5;
    static struct pollfd none = {.fd = -1, .events = POLLIN, .revents = 0};
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    errno = 4711;
    CHECK_EQ(tarn_read(-1, forbidden(), 1), -EBADF);
    CHECK_EQ(tarn_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
    CHECK_EQ(tarn_close(-1), -EBADF);
    CHECK_EQ(tarn_syscall(-1, 0, 0, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ(tarn_futex_wait(&word, 6, -1), -EAGAIN);
    CHECK_EQ(tarn_futex_wait(&word, 5, 1000), -ETIMEDOUT);
    CHECK_EQ(tarn_poll_fds((struct pollfd *)(void *)forbidden(), 1, 1),
             -EFAULT);
    CHECK_EQ(tarn_poll_fds(&none, 1, 1), 0);
    CHECK_EQ(tarn_nanosleep(1000), 0);
    CHECK_EQ(errno, 4711);
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
}

/* Each its own error, however they are switched between threads. */
static void errs(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    static uint32_t word;
    for (int k = 0; k < scaled(SUITE_REPEAT(300)); k++) {
        switch ((i + (uintptr_t)k) % 6) {
        case 0:
            CHECK_EQ(tarn_read(-1, forbidden(), 1), -EBADF);
            break;
        case 1:
            CHECK_EQ(tarn_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
            break;
        case 2:
            CHECK_EQ(tarn_futex_wait(&word, 1, -1), -EAGAIN);
            break;
        case 3:
            CHECK_EQ(tarn_futex_wait(&word, 0, 1000), -ETIMEDOUT);
            break;
        case 4:
            CHECK_EQ(tarn_poll_fds((void *)forbidden(), 1, 1), -EFAULT);
            break;
        default:
            CHECK_EQ(tarn_syscall(-1, 0, 0, 0, 0, 0, 0), -ENOSYS);
        }
        if (k % 16 == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_errors_not_mixed(void)
{
    tarn_waitgroup_add(&wg, 6);
    for (uintptr_t i = 0; i < 6; i++)
        go(errs, (void *)i);
    tarn_waitgroup_wait(&wg);
}

/* --- pipes ------------------------------------------------------------------------------ */

static int to_reader[2];
static uint64_t long_seed;
#define LONG_BYTES (1 << 20)

static uint8_t byte_at(uint64_t i)
{
    uint64_t x = (i + long_seed) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint8_t)(x >> 37);
}

static void long_reader(void *unused)
{
    (void)unused;
    uint8_t b[3000];
    uint64_t at = 0, rng = seed_of(77);
    for (;;) {
        size_t want = 1 + below(&rng, sizeof b);
        long n = tarn_read(to_reader[0], b, want);
        CHECK_GE(n, 0);
        if (n == 0)
            break;
        CHECK_LE(n, (long)want);
        for (long i = 0; i < n; i++)
            CHECK_EQ(b[i], byte_at(at + (uint64_t)i));
        at += (uint64_t)n;
    }
    CHECK_EQ(at, LONG_BYTES);
    tarn_waitgroup_done(&wg);
}

static void test_short_counts(void)
{
    static char b[100];
    static uint8_t big[LONG_BYTES];
    int fds[2];
    PIPE(fds, O_CLOEXEC);
    CHECK_EQ(tarn_write(fds[1], "0123456789", 10), 10);
    CHECK_EQ(tarn_read(fds[0], b, 0), 0);
    CHECK_EQ(tarn_write(fds[1], b, 0), 0);
    CHECK_EQ(tarn_read(fds[0], b, 4), 4);
    CHECK_EQ(tarn_read(fds[0], b + 4, sizeof b - 4), 6);
    CHECK_EQ(memcmp(b, "0123456789", 11), 0);
    CHECK_EQ(tarn_close(fds[1]), 0);
    CHECK_EQ(tarn_read(fds[0], b, sizeof b), 0);
    CHECK_EQ(tarn_close(fds[0]), 0);

    /* As much as fits, no more. */
    PIPE(fds, O_CLOEXEC | O_NONBLOCK);
    long_seed = harness_seed;
    for (size_t i = 0; i < LONG_BYTES; i++)
        big[i] = byte_at(i);
    long n = tarn_write(fds[1], big, LONG_BYTES);
    CHECK_GT(n, 0);
    CHECK_LT(n, LONG_BYTES);
    close_both(fds);

    /* All of it, while somebody reads. */
    PIPE(to_reader, O_CLOEXEC);
    tarn_waitgroup_add(&wg, 1);
    go(long_reader, NULL);
    CHECK_EQ(tarn_write(to_reader[1], big, LONG_BYTES), LONG_BYTES);
    CHECK_EQ(tarn_close(to_reader[1]), 0);
    tarn_waitgroup_wait(&wg);
    CHECK_EQ(tarn_close(to_reader[0]), 0);
}

/* --- poll --------------------------------------------------------------------------------- */

static void writes_one(void *vfds)
{
    int *fds = vfds;
    tarn_yield();
    CHECK_EQ(tarn_write(fds[1], "x", 1), 1);
    tarn_waitgroup_done(&wg);
}

static void test_poll_timeouts(void)
{
    static const int timeouts[] = {0, 1, -1, INT_MIN, INT_MAX};
    static int fds[2];
    char b[4];
    CHECK_EQ(tarn_poll_fds(NULL, 0, 0), 0);
    int64_t t = nanotime();
    CHECK_EQ(tarn_poll_fds(NULL, 0, 3), 0);
    CHECK_GE(nanotime() - t, 3000000);
    PIPE(fds, O_CLOEXEC);
    for (size_t i = 0; i < 5; i++) {
        /* On the goroutine's stack. */
        struct pollfd p[3] = {{.fd = fds[0], .events = POLLIN, .revents = -1},
                              {.fd = -1, .events = POLLIN, .revents = -1},
                              {.fd = fds[1], .events = 0, .revents = -1}};
        if (timeouts[i] == 0 || timeouts[i] == 1) {
            CHECK_EQ(tarn_poll_fds(p, 3, timeouts[i]), 0);
            CHECK_EQ(p[0].revents, 0);
        } else {
            /* Waits until there is something. A signal to stop may end it. */
            tarn_waitgroup_add(&wg, 1);
            go(writes_one, fds);
            long n;
            while ((n = tarn_poll_fds(p, 3, timeouts[i])) == -EINTR)
                ;
            CHECK_EQ(n, 1);
            tarn_waitgroup_wait(&wg);
            CHECK_EQ(p[0].revents, POLLIN);
            /* And returns at once while it is there. */
            p[0].revents = 0;
            CHECK_EQ(tarn_poll_fds(p, 3, timeouts[i]), 1);
            CHECK_EQ(p[0].revents, POLLIN);
            CHECK_EQ(tarn_read(fds[0], b, sizeof b), 1);
        }
        CHECK_EQ(p[1].revents, 0);
        CHECK_EQ(p[2].revents, 0);
    }
    struct pollfd p = {.fd = fds[0], .events = POLLIN, .revents = 0};
    CHECK_EQ(tarn_close(fds[1]), 0);
    CHECK_EQ(tarn_poll_fds(&p, 1, -1), 1);
    CHECK_EQ(p.revents, POLLHUP);
    CHECK_EQ(tarn_close(fds[0]), 0);
}

static void test_poll_many(void)
{
    enum { PIPES = 100, MANY = 1000 };
    static int fds[PIPES][2];
    static struct pollfd p[MANY];
    static struct rlimit limit;
    static char b[4];
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < MANY)
        SKIP("the limit of open files is too low");
    for (int i = 0; i < PIPES; i++)
        PIPE(fds[i], O_CLOEXEC);
    uint64_t rng = seed_of(8);
    for (int round = 0; round < 10; round++) {
        uint32_t ready = below(&rng, PIPES);
        CHECK_EQ(tarn_write(fds[ready][1], "y", 1), 1);
        for (int i = 0; i < MANY; i++)
            p[i] = (struct pollfd){
                .fd = fds[i % PIPES][0], .events = POLLIN, .revents = 0};
        CHECK_EQ(tarn_poll_fds(p, MANY, round % 2 ? -1 : 0), MANY / PIPES);
        for (uint32_t i = 0; i < MANY; i++)
            CHECK_EQ(p[i].revents, i % PIPES == ready ? POLLIN : 0);
        CHECK_EQ(tarn_read(fds[ready][0], b, sizeof b), 1);
    }
    /* More than there may be. */
    if (limit.rlim_cur < (rlim_t)INT_MAX) {
        CHECK_EQ(tarn_poll_fds(p, limit.rlim_cur + 1, 0), -EINVAL);
        CHECK_EQ(tarn_poll_fds(p, limit.rlim_cur + 1, -1), -EINVAL);
    }
    for (int i = 0; i < PIPES; i++)
        close_both(fds[i]);
}

/* --- sleep ----------------------------------------------------------------------------------- */

static void test_nanosleep(void)
{
    static const int64_t none[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(tarn_nanosleep(none[i]), 0);
    static const int64_t some[] = {1, 999, 1000000, 3000001};
    for (size_t i = 0; i < 4; i++) {
        int64_t t = nanotime();
        CHECK_EQ(tarn_nanosleep(some[i]), 0);
        CHECK_GE(nanotime() - t, some[i]);
    }
    /* What is no time. */
    struct timespec bad[] = {{0, 1000000000}, {0, -1}, {-1, 0}};
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(tarn_syscall(SYS_nanosleep, (long)&bad[i], 0, 0, 0, 0, 0),
                 -EINVAL);
    CHECK_EQ(tarn_syscall(SYS_nanosleep, 0, 0, 0, 0, 0, 0), -EFAULT);
}

/* Times that no test waits for. */
static struct event asleep;
static _Atomic uint32_t woken;
static uint32_t huge_word;

static void sleeps_for_ever(void *unused)
{
    (void)unused;
    event_set(&asleep);
    tarn_nanosleep(INT64_MAX);
    atomic_store(&woken, 1);
}

static void waits_for_ever(void *unused)
{
    (void)unused;
    event_set(&asleep);
    CHECK_EQ(tarn_futex_wait(&huge_word, 0, INT64_MAX), 0);
    tarn_waitgroup_done(&wg);
}

static void huge_times(void *unused)
{
    (void)unused;
    go(sleeps_for_ever, NULL);
    event_wait(&asleep);
    event_clear(&asleep);
    tarn_waitgroup_add(&wg, 1);
    go(waits_for_ever, NULL);
    event_wait(&asleep);
    for (int i = 0; i < 20; i++) {
        collect();
        CHECK_EQ(tarn_nanosleep(100000), 0);
    }
    long n;
    while ((n = tarn_futex_wake(&huge_word, 1)) == 0)
        tarn_yield();
    CHECK_EQ(n, 1);
    tarn_waitgroup_wait(&wg);
    CHECK_EQ(atomic_load(&woken), 0);
    puts("done");
    fflush(stdout);
    _exit(0);
}

static void huge_times_child(void)
{
    suite_child_fn = huge_times;
    suite_child_main();
}

static void test_huge_times(void)
{
    static char out[65536];
    int st = harness_child(huge_times_child, NULL, out, sizeof out);
    CHECK_STR(out, "done");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
}

/* --- futex ----------------------------------------------------------------------------------- */

static uint32_t word;
static _Atomic int waiting, through;

static void futex_waiter(void *vns)
{
    atomic_fetch_add(&waiting, 1);
    long r;
    do /* a signal may end it: ours, when somebody wants the P */
        r = tarn_futex_wait(&word, 1, (int64_t)(intptr_t)vns);
    while (r == -EINTR);
    CHECK(r == 0 || (r == -EAGAIN && LOAD(word) != 1));
    atomic_fetch_add(&through, 1);
    tarn_waitgroup_done(&wg);
}

static void test_futex(void)
{
    enum { WAITERS = 4 };
    static uint32_t mine = 7;
    CHECK_EQ(tarn_futex_wait(&mine, 8, -1), -EAGAIN);
    CHECK_EQ(tarn_futex_wait(&mine, 8, 0), -EAGAIN);
    CHECK_EQ(tarn_futex_wait(&mine, UINT32_MAX, INT64_MAX), -EAGAIN);
    CHECK_EQ(tarn_futex_wait(&mine, 7, 0), -ETIMEDOUT);
    int64_t t = nanotime();
    long r = tarn_futex_wait(&mine, 7, 3000000);
    CHECK(r == -ETIMEDOUT || r == -EINTR);
    if (r == -ETIMEDOUT)
        CHECK_GE(nanotime() - t, 3000000);
    mine = UINT32_MAX;
    CHECK_EQ(tarn_futex_wait(&mine, UINT32_MAX, 1000), -ETIMEDOUT);
    CHECK_EQ(tarn_futex_wake(&mine, 0), 0);
    CHECK_EQ(tarn_futex_wake(&mine, 1), 0);
    CHECK_EQ(tarn_futex_wake(&mine, UINT32_MAX), 0);

    for (int round = 0; round < 4; round++) {
        word = 1;
        atomic_store(&waiting, 0);
        atomic_store(&through, 0);
        tarn_waitgroup_add(&wg, WAITERS);
        for (int i = 0; i < WAITERS; i++)
            go(futex_waiter,
               (void *)(intptr_t)(i % 2 ? INT64_C(-1) : INT64_MAX));
        YIELD_UNTIL(atomic_load(&waiting) == WAITERS);
        CHECK_EQ(atomic_load(&through), 0);
        /* None. */
        for (int i = 0; i < 20; i++) {
            CHECK_EQ(tarn_futex_wake(&word, 0), 0);
            tarn_nanosleep(1000);
        }
        CHECK_EQ(atomic_load(&through), 0);
        /* One, then the rest, as they come. */
        long n, all;
        while ((n = tarn_futex_wake(&word, 1)) == 0)
            tarn_yield();
        CHECK_EQ(n, 1);
        YIELD_UNTIL(atomic_load(&through) == 1);
        for (all = 1; all < WAITERS; all += n) {
            n = tarn_futex_wake(&word, round % 2 ? UINT32_MAX : WAITERS);
            CHECK(n >= 0 && n <= WAITERS - all);
            tarn_yield();
        }
        tarn_waitgroup_wait(&wg);
        CHECK_EQ(atomic_load(&through), WAITERS);
        CHECK_EQ(tarn_futex_wake(&word, UINT32_MAX), 0);
    }
}

/* --- not on a goroutine -------------------------------------------------------------------- */

static struct {
    int fds[2];
    const char *why;
} refused;

NATIVE static bool is_refused(long r, const char *what)
{
    static char want[128];
    snprintf(want, sizeof want, "%s: not called on a goroutine%s", what,
             refused.why);
    if (r != -EPERM || strcmp(tarn_last_error(), want) != 0)
        fprintf(stderr, "%s: %ld, \"%s\", not \"%s\"\n", what, r,
                tarn_last_error(), want);
    return r == -EPERM && strcmp(tarn_last_error(), want) == 0;
}

/* Each of them, and none does anything. */
NATIVE static void *all_refused(void *why)
{
    static char b[4];
    static uint32_t w;
    static struct pollfd p;
    int *fds = refused.fds;
    bool ok = true;
    refused.why = why;
    b[0] = 'b';
    p = (struct pollfd){.fd = fds[1], .events = POLLOUT, .revents = 0};
    errno = 4711;
    ok &= is_refused(tarn_syscall(SYS_close, fds[0], 0, 0, 0, 0, 0),
                     "tarn_syscall");
    ok &= is_refused(tarn_read(fds[0], b, 1), "tarn_read");
    ok &= is_refused(tarn_write(fds[1], b, 1), "tarn_write");
    ok &= is_refused(tarn_pread(fds[0], b, 1, 0), "tarn_pread");
    ok &= is_refused(tarn_pwrite(fds[1], b, 1, 0), "tarn_pwrite");
    ok &= is_refused(tarn_open("/dev/null", O_RDONLY, 0), "tarn_open");
    ok &= is_refused(tarn_close(fds[0]), "tarn_close");
    ok &= is_refused(tarn_poll_fds(&p, 1, 0), "tarn_poll_fds");
    ok &= is_refused(tarn_poll_fds(&p, 1, -1), "tarn_poll_fds");
    ok &= is_refused(tarn_nanosleep(INT64_MAX), "tarn_nanosleep");
    ok &= is_refused(tarn_futex_wait(&w, 0, -1), "tarn_futex_wait");
    ok &= is_refused(tarn_futex_wake(&w, 0), "tarn_futex_wake");
    ok &= is_refused(tarn_futex_wake(&w, 1), "tarn_futex_wake");
    /* The message is made by the C library; the calls themselves set nothing. */
    ok &= p.revents == 0 && b[0] == 'b' && fcntl(fds[0], F_GETFD) >= 0;
    return ok ? why : NULL;
}

static void *on_foreign_thread(void *unused)
{
    CHECK(all_refused((void *)(uintptr_t) "") != NULL);
    /* And afterwards as before. */
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_EQ(tarn_write(refused.fds[1], "q", 1), 1);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    CHECK(all_refused((void *)(uintptr_t) "") != NULL);
    return unused;
}

static void test_off_goroutine(void)
{
    static char b[4];
    static const char in_call[] = " (in a native call)";
    pthread_t t;
    PIPE(refused.fds, O_CLOEXEC);
    start_thread(&t, on_foreign_thread, NULL);
    tarn_native_call(join_thread, &t);
    CHECK_EQ(tarn_read(refused.fds[0], b, sizeof b), 1);
    CHECK(tarn_native_call(all_refused, (void *)(uintptr_t)in_call) != NULL);
    tarn_native_enter();
    bool ok = all_refused((void *)(uintptr_t)in_call) != NULL;
    tarn_native_leave();
    CHECK(ok);
    /* Nothing was written. */
    CHECK_EQ(fcntl(refused.fds[0], F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(tarn_read(refused.fds[0], b, sizeof b), -EAGAIN);
    close_both(refused.fds);
}

static void test_before_main(void)
{
    PIPE(refused.fds, O_CLOEXEC);
    CHECK(all_refused((void *)(uintptr_t) "") != NULL);
    CHECK_EQ(close(refused.fds[0]), 0);
    CHECK_EQ(close(refused.fds[1]), 0);
}

/* ------------------------------------------------------------------------------------------ */

static void races_body(void)
{
    RUN(test_errors_not_mixed);
    RUN(test_short_counts);
    RUN(test_poll_timeouts);
    RUN(test_futex);
}

static void body(void)
{
    RUN(test_bad_descriptors);
    RUN(test_bad_addresses);
    RUN(test_would_block);
    RUN(test_open);
    RUN(test_any_syscall);
    RUN(test_large_offsets);
    RUN(test_errno_untouched);
    RUN(test_poll_many);
    RUN(test_nanosleep);
    RUN(test_off_goroutine);
    races_body();
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    /* Writing to a pipe that nobody reads is an error like others. */
    signal(SIGPIPE, SIG_IGN);
    temp_dir_make();
    RUN(test_before_main);
    RUN(test_huge_times);
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(races_body, 2, "delays=50,droppreempt=30");
    gc_run(races_body, 4, "stackmove=1,gcstress=64,checkmark=1");
    temp_dir_remove();
    return harness_done();
}

/* tests/test_syscalls_block.c - system calls that block: signals that come during
 * the call, others that run and collect meanwhile, operands on stacks. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/prctl.h>

#include "syscallsuite.h"

static tarn_waitgroup wg;

/* --- signals during the call --------------------------------------------------------- */

/* One thread gets them, as fast as another one can send. */
static _Atomic int storm_tid;
static _Atomic bool storm_end;
static _Atomic uint64_t handled;
static int storm_sig;

NATIVE static void count_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&handled, 1);
}

static void *storm_sender(void *vpause)
{
    while (!atomic_load(&storm_end)) {
        int tid = atomic_load(&storm_tid);
        if (tid != 0)
            syscall(SYS_tgkill, getpid(), tid, storm_sig);
        spin_ns((int64_t)(uintptr_t)vpause);
    }
    return NULL;
}

static pthread_t storm_thread;

static void storm_start(int sig, int flags, uintptr_t pause)
{
    struct sigaction sa = {.sa_handler = count_signal,
                           .sa_flags = flags | SA_ONSTACK};
    if (sig != SIGURG)
        CHECK_EQ(sigaction(sig, &sa, NULL), 0);
    storm_sig = sig;
    atomic_store(&storm_end, false);
    atomic_store(&storm_tid, 0);
    atomic_store(&handled, 0);
    start_thread(&storm_thread, storm_sender, (void *)pause);
}

static void storm_stop(void)
{
    atomic_store(&storm_end, true);
    tarn_native_call(join_thread, &storm_thread);
}

/* On the goroutine's thread, which is its own meanwhile. */
static sigset_t mask_before;

static void take_signals(void)
{
    sigset_t set;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    sigemptyset(&set);
    sigaddset(&set, storm_sig);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &set, &mask_before), 0);
    atomic_store(&storm_tid, gettid_os());
}

static void no_signals(void)
{
    atomic_store(&storm_tid, 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &mask_before, NULL), 0);
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
}

/* Gives the call what it waits for when so many signals have come. */
static int signal_fds[2];
static uint32_t signal_word;

static void after_signals(void *vn)
{
    uint64_t n = (uintptr_t)vn;
    while (atomic_load(&handled) < n)
        tarn_nanosleep(100000);
    CHECK_EQ(tarn_write(signal_fds[1], "z", 1), 1);
    ADD(signal_word, 1);
    tarn_futex_wake(&signal_word, 1);
    tarn_waitgroup_done(&wg);
}

#define NO_THREADSANITIZER()                                                   \
    do {                                                                       \
        if (TARN_TSAN)                                                         \
            SKIP("ThreadSanitizer calls handlers late");                       \
    } while (0)

static void test_interrupted(void)
{
    NO_THREADSANITIZER();
    static uint32_t w;
    static struct pollfd p;
    char b[8];
    PIPE(signal_fds, O_CLOEXEC);
    storm_start(SIGUSR2, 0, 20000);
    take_signals();
    CHECK_EQ(tarn_read(signal_fds[0], b, sizeof b), -EINTR);
    p = (struct pollfd){.fd = signal_fds[0], .events = POLLIN, .revents = 0};
    CHECK_EQ(tarn_poll_fds(&p, 1, -1), -EINTR);
    CHECK_EQ(tarn_poll_fds(&p, 1, INT_MAX), -EINTR);
    CHECK_EQ(tarn_futex_wait(&w, 0, -1), -EINTR);
    CHECK_EQ(tarn_futex_wait(&w, 0, INT64_MAX), -EINTR);
    CHECK_EQ(tarn_syscall(SYS_pause, 0, 0, 0, 0, 0, 0), -EINTR);
    static char path[256];
    strcpy(path, in_temp_dir("fifo"));
    CHECK_EQ(mkfifo(path, 0600), 0);
    CHECK_EQ(tarn_open(path, O_RDONLY | O_CLOEXEC, 0), -EINTR);
    CHECK_EQ(unlink(path), 0);
    /* A full one. */
    CHECK_EQ(fcntl(signal_fds[1], F_SETFL, O_NONBLOCK), 0);
    while (tarn_write(signal_fds[1], path, sizeof path) > 0)
        ;
    CHECK_EQ(fcntl(signal_fds[1], F_SETFL, 0), 0);
    CHECK_EQ(tarn_write(signal_fds[1], path, sizeof path), -EINTR);
    /* This one goes on, and no shorter for it. */
    for (int i = 0; i < 2; i++) {
        uint64_t n = atomic_load(&handled);
        int64_t t = nanotime();
        CHECK_EQ(tarn_nanosleep(2000000), 0);
        CHECK_GE(nanotime() - t, 2000000);
        while (atomic_load(&handled) == n)
            osyield();
    }
    no_signals();
    storm_stop();
    close_both(signal_fds);
}

/* The kernel repeats it where the handler says so: the one of the runtime does. */
static void restarted(int sig)
{
    static struct pollfd p;
    char b[8];
    PIPE(signal_fds, O_CLOEXEC);
    storm_start(sig, SA_RESTART, 20000);
    take_signals();
    uint64_t enough = sig == SIGURG ? 0 : 20;
    for (int i = 0; i < 4; i++) {
        uint32_t v = LOAD(signal_word);
        tarn_waitgroup_add(&wg, 1);
        go(after_signals, (void *)(uintptr_t)(atomic_load(&handled) + enough));
        if (i % 2 == 0) {
            CHECK_EQ(tarn_read(signal_fds[0], b, sizeof b), 1);
            CHECK_EQ(b[0], 'z');
        } else {
            long r = tarn_futex_wait(&signal_word, v, -1);
            CHECK(r == 0 || r == -EAGAIN);
            /* These never are. */
            p = (struct pollfd){
                .fd = signal_fds[0], .events = POLLIN, .revents = 0};
            while ((r = tarn_poll_fds(&p, 1, -1)) == -EINTR)
                CHECK_EQ(p.revents, 0);
            CHECK_EQ(r, 1);
            CHECK_EQ(tarn_read(signal_fds[0], b, sizeof b), 1);
        }
        tarn_waitgroup_wait(&wg);
    }
    no_signals();
    storm_stop();
    close_both(signal_fds);
}

static void test_restarted(void)
{
    NO_THREADSANITIZER();
    restarted(SIGUSR2);
}

static void test_preemption_signal(void)
{
    NO_THREADSANITIZER();
    if (!preempt_signals_on())
        SKIP("this build has no preemption by signals");
    restarted(SIGURG);
}

/* The kernel may let a sleep last longer by a slack, 50 us unless the thread says
 * otherwise, and counts it into what is left after a signal: signals that come
 * faster than that do not make the sleep endless. */
static _Atomic bool slept;

static void *sleeps_in_storm(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_EQ(prctl(PR_SET_TIMERSLACK, 20000000UL, 0UL, 0UL, 0UL), 0);
    take_signals();
    for (int i = 0; i < 2; i++) {
        int64_t t = nanotime();
        CHECK_EQ(tarn_nanosleep(1000000), 0);
        CHECK_GE(nanotime() - t, 1000000);
    }
    no_signals();
    atomic_store(&slept, true);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static void test_sleep_ends_in_storm(void)
{
    NO_THREADSANITIZER();
    pthread_t t;
    atomic_store(&slept, false);
    storm_start(SIGUSR2, 0, 20000);
    start_thread(&t, sleeps_in_storm, NULL);
    /* Hundreds of times what it takes. */
    for (int i = 0; i < 10000 && !atomic_load(&slept); i++)
        tarn_nanosleep(1000000);
    CHECK(atomic_load(&slept));
    tarn_native_call(join_thread, &t);
    storm_stop();
}

/* --- others run meanwhile --------------------------------------------------------------- */

enum blocking {
    B_READ,
    B_WRITE,
    B_POLL,
    B_OPEN,
    B_FUTEX,
    B_READV,
    B_NANOSLEEP,
    B_KINDS
};
static int block_fds[2];
static long full;
static struct event inside;
static _Atomic bool over, others_end;
static _Atomic uint64_t others_turns;
static uint32_t block_word;

/* Frames of which the stack's growth copies a few, and what they hold. */
__attribute__((noinline)) static void deep(int depth, void (*fn)(uintptr_t),
                                           uintptr_t arg)
{
    volatile uint64_t frame[24];
    for (int i = 0; i < 24; i++)
        frame[i] = (uint64_t)depth * 100 + (uint64_t)i;
    if (depth == 0)
        fn(arg);
    else
        deep(depth - 1, fn, arg);
    for (int i = 0; i < 24; i++)
        CHECK_EQ(frame[i], (uint64_t)depth * 100 + (uint64_t)i);
}

/* What it gives to the kernel lies in its frame; what keeps the object alive too. */
__attribute__((noinline)) static void block_in(uintptr_t kind)
{
    char b[100], c[4];
    struct pollfd p = {.fd = block_fds[0], .events = POLLIN, .revents = 0};
    struct iovec_like {
        void *base;
        size_t len;
    } iov[2] = {{c, 2}, {b, sizeof b}};
    uint64_t *volatile keep = tarn_alloc_bytes(64);
    *keep = 0x1234567890 + kind;
    memset(b, 'w', sizeof b);
    uint64_t turns = atomic_load(&others_turns);
    event_set(&inside);
    long r;
    switch (kind) {
    case B_READ:
        CHECK_EQ(tarn_read(block_fds[0], b, sizeof b), 5);
        CHECK_EQ(memcmp(b, "hellowww", 8), 0);
        break;
    case B_WRITE:
        CHECK_EQ(tarn_write(block_fds[1], b, sizeof b), (long)sizeof b);
        break;
    case B_POLL:
        while ((r = tarn_poll_fds(&p, 1, -1)) == -EINTR)
            ;
        CHECK_EQ(r, 1);
        CHECK_EQ(p.revents, POLLIN);
        break;
    case B_OPEN:
        strcpy(b, in_temp_dir("block"));
        r = tarn_open(b, O_RDONLY | O_CLOEXEC, 0);
        CHECK_GE(r, 0);
        CHECK_EQ(tarn_close((int)r), 0);
        break;
    case B_FUTEX:
        while (LOAD(block_word) == 0) {
            r = tarn_futex_wait(&block_word, 0, -1);
            CHECK(r == 0 || r == -EINTR || r == -EAGAIN);
        }
        break;
    case B_READV:
        r = tarn_syscall(SYS_readv, block_fds[0], (long)iov, 2, 0, 0, 0);
        CHECK_EQ(r, 5);
        CHECK_EQ(memcmp(c, "he", 2), 0);
        CHECK_EQ(memcmp(b, "llowww", 6), 0);
        break;
    default:
        CHECK_EQ(tarn_nanosleep(50000000), 0);
    }
    CHECK_GT(atomic_load(&others_turns), turns);
    atomic_store(&over, true);
    CHECK_EQ(*keep, 0x1234567890 + kind);
}

static void blocked(void *kind)
{
    deep(20, block_in, (uintptr_t)kind);
    tarn_waitgroup_done(&wg);
}

static void takes_turns(void *unused)
{
    (void)unused;
    while (!atomic_load(&others_end)) {
        atomic_fetch_add(&others_turns, 1);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void let_go(uintptr_t kind)
{
    static char b[4096];
    long n;
    switch (kind) {
    case B_READ:
    case B_POLL:
    case B_READV:
        CHECK_EQ(tarn_write(block_fds[1], "hello", 5), 5);
        break;
    case B_WRITE:
        for (long left = full + 100; left > 0; left -= n) {
            n = tarn_read(block_fds[0], b, sizeof b);
            CHECK_GT(n, 0);
            for (long i = 0; i < n; i++)
                CHECK_EQ(b[i], left - i <= 100 ? 'w' : 'f');
        }
        break;
    case B_OPEN:
        while ((n = tarn_open(in_temp_dir("block"),
                              O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0)) < 0) {
            CHECK_EQ(n, -ENXIO);
            tarn_yield();
        }
        CHECK_EQ(tarn_close((int)n), 0);
        break;
    case B_FUTEX:
        ADD(block_word, 1);
        CHECK_GE(tarn_futex_wake(&block_word, 1), 0);
        break;
    default:
        break;
    }
}

static void test_others_run(void)
{
    static char f[4096];
    memset(f, 'f', sizeof f);
    CHECK_EQ(mkfifo(in_temp_dir("block"), 0600), 0);
    for (uintptr_t kind = 0; kind < B_KINDS; kind++) {
        PIPE(block_fds, O_CLOEXEC);
        full = 0;
        if (kind == B_WRITE) {
            long n;
            CHECK_EQ(fcntl(block_fds[1], F_SETFL, O_NONBLOCK), 0);
            while ((n = tarn_write(block_fds[1], f, sizeof f)) > 0)
                full += n;
            CHECK_EQ(fcntl(block_fds[1], F_SETFL, 0), 0);
        }
        event_clear(&inside);
        atomic_store(&over, false);
        atomic_store(&others_end, false);
        atomic_store(&others_turns, 0);
        block_word = 0;
        tarn_waitgroup_add(&wg, 2);
        go(blocked, (void *)kind);
        event_wait(&inside);
        go(takes_turns, NULL);
        garbage_start(1);
        for (int i = 0; i < (kind == B_NANOSLEEP ? 1 : scaled(3)); i++) {
            uint64_t n = atomic_load(&others_turns);
            YIELD_UNTIL(atomic_load(&others_turns) > n);
            collect();
        }
        if (kind != B_NANOSLEEP)
            CHECK(!atomic_load(&over));
        let_go(kind);
        YIELD_UNTIL(atomic_load(&over));
        garbage_end();
        atomic_store(&others_end, true);
        tarn_waitgroup_wait(&wg);
        close_both(block_fds);
    }
    CHECK_EQ(unlink(in_temp_dir("block")), 0);
}

/* --- operands on stacks ------------------------------------------------------------------ */

static int operand_file;

/* Writes what it reads back, all of it in frames, at each depth. */
__attribute__((noinline)) static void operands(uintptr_t seed)
{
    uint64_t rng = seed;
    uint64_t out[32], in[32];
    uint32_t futex_word = (uint32_t)seed;
    int fds[2];
    PIPE(fds, O_CLOEXEC);
    for (int i = 0; i < 32; i++)
        out[i] = harness_rand(&rng);
    memset(in, 0, sizeof in);
    CHECK_EQ(tarn_write(fds[1], out, sizeof out), (long)sizeof out);
    struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN, .revents = 0},
                          {.fd = fds[1], .events = POLLOUT, .revents = 0}};
    long n;
    while ((n = tarn_poll_fds(p, 2, -1)) == -EINTR)
        ;
    CHECK_EQ(n, 2);
    CHECK_EQ(p[0].revents, POLLIN);
    CHECK_EQ(p[1].revents, POLLOUT);
    CHECK_EQ(tarn_read(fds[0], in, sizeof in), (long)sizeof in);
    CHECK_EQ(memcmp(in, out, sizeof in), 0);
    close_both(fds);
    memset(in, 0, sizeof in);
    int64_t at = (int64_t)(seed >> 40) * 256;
    CHECK_EQ(tarn_pwrite(operand_file, out, sizeof out, at), (long)sizeof out);
    CHECK_EQ(tarn_pread(operand_file, in, sizeof in, at), (long)sizeof in);
    CHECK_EQ(memcmp(in, out, sizeof in), 0);
    n = tarn_futex_wait(&futex_word, (uint32_t)seed, 1000);
    CHECK(n == -ETIMEDOUT || n == -EINTR);
    CHECK_EQ(tarn_futex_wait(&futex_word, (uint32_t)seed + 1, 1000), -EAGAIN);
    struct timespec t = {0, 1000}, now = {-1, -1};
    n = tarn_syscall(SYS_nanosleep, (long)&t, 0, 0, 0, 0, 0);
    CHECK(n == 0 || n == -EINTR);
    CHECK_EQ(tarn_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0,
                          0, 0),
             0);
    CHECK_GT(now.tv_sec, 0);
}

static void operator_main(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    uint64_t rng = seed_of(300 + i);
    for (int k = 0; k < scaled(SUITE_REPEAT(40)); k++) {
        /* Each goroutine its own part of the file. */
        uint64_t seed = (harness_rand(&rng) >> 24) | (i + 1) << 40;
        deep((int)below(&rng, 40), operands, seed);
    }
    tarn_waitgroup_done(&wg);
}

static void test_operands(void)
{
    operand_file = memfd_create("operands", MFD_CLOEXEC);
    CHECK_GE(operand_file, 0);
    garbage_start(1);
    tarn_waitgroup_add(&wg, 6);
    for (uintptr_t i = 0; i < 6; i++)
        go(operator_main, (void *)i);
    for (int i = 0; i < scaled(5); i++)
        collect();
    tarn_waitgroup_wait(&wg);
    garbage_end();
    CHECK_EQ(tarn_close(operand_file), 0);
}

static void body(void)
{
    RUN(test_interrupted);
    RUN(test_restarted);
    RUN(test_preemption_signal);
    RUN(test_sleep_ends_in_storm);
    RUN(test_others_run);
    RUN(test_operands);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    temp_dir_make();
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(body, 2, "delays=50,droppreempt=30");
    gc_run(body, 4, "stackmove=1,gcstress=64,checkmark=1");
    temp_dir_remove();
    return harness_done();
}

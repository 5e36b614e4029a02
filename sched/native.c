/* sched/native.c - system calls for goroutines. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>

#include "sched/sched.h"
#include "tarn/native.h"

/* ThreadSanitizer follows descriptors through libc's functions. It has to be told
 * that one was closed without them, or the next with this number, made by another
 * goroutine, is taken for the same one and reported as a race. */
#if TARN_TSAN
/* <sanitizer/linux_syscall_hooks.h>, which Debian's gcc comes without. */
void __sanitizer_syscall_pre_impl_close(long fd);
#define TELL_TSAN(nr, fd)                                                      \
    do {                                                                       \
        if ((nr) == SYS_close)                                                 \
            __sanitizer_syscall_pre_impl_close(fd);                            \
    } while (0)
#else
#define TELL_TSAN(nr, fd) (void)0
#endif

/* Not libc's wrappers: they would leave the error in errno. */
static long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                       "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

struct call {
    long nr, a[6], ret;
};

/* The message of a refusal names what was called. */
static long do_syscall(const char *what, long nr, long a, long b, long c,
                       long d, long e, long f)
{
    if (!require_goroutine(what))
        return -EPERM;
    TELL_TSAN(nr, a);
    tarn_native_enter();
    long ret = raw_syscall(nr, a, b, c, d, e, f);
    tarn_native_leave();
    return ret;
}

long tarn_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    return do_syscall("tarn_syscall", number, a, b, c, d, e, f);
}

/* Those that block as a rule: the P goes to somebody else at once. */
static void *blocking_syscall(void *vc)
{
    struct call *c = vc;
    c->ret = raw_syscall(c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4],
                         c->a[5]);
    return NULL;
}

static long do_blocking(struct call *c)
{
    /* The goroutine's stack stands still until the call is over. */
    native_call_blocking(blocking_syscall, c);
    return c->ret;
}

long tarn_read(int fd, void *buf, size_t n)
{
    return do_syscall("tarn_read", SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
}

long tarn_write(int fd, const void *buf, size_t n)
{
    return do_syscall("tarn_write", SYS_write, fd, (long)buf, (long)n, 0, 0, 0);
}

long tarn_pread(int fd, void *buf, size_t n, int64_t offset)
{
    return do_syscall("tarn_pread", SYS_pread64, fd, (long)buf, (long)n, offset,
                      0, 0);
}

long tarn_pwrite(int fd, const void *buf, size_t n, int64_t offset)
{
    return do_syscall("tarn_pwrite", SYS_pwrite64, fd, (long)buf, (long)n,
                      offset, 0, 0);
}

long tarn_open(const char *path, int flags, unsigned mode)
{
    return do_syscall("tarn_open", SYS_openat, -100 /* AT_FDCWD */, (long)path,
                      flags, (long)mode, 0, 0);
}

long tarn_close(int fd)
{
    return do_syscall("tarn_close", SYS_close, fd, 0, 0, 0, 0, 0);
}

long tarn_poll_fds(struct pollfd *fds, unsigned long n, int timeout_ms)
{
    if (timeout_ms == 0)
        return do_syscall("tarn_poll_fds", SYS_poll, (long)fds, (long)n, 0, 0,
                          0, 0);
    if (!require_goroutine("tarn_poll_fds"))
        return -EPERM;
    struct call c = {.nr = SYS_poll, .a = {(long)fds, (long)n, timeout_ms}};
    return do_blocking(&c);
}

long tarn_nanosleep(int64_t ns)
{
    if (!require_goroutine("tarn_nanosleep"))
        return -EPERM;
    if (ns < 0)
        ns = 0;
    /* Until a time, not for one: see usleep_os. */
    int64_t until;
    if (__builtin_add_overflow(nanotime(), ns, &until))
        until = INT64_MAX;
    struct timespec t = {.tv_sec = until / 1000000000,
                         .tv_nsec = until % 1000000000};
    for (;;) {
        struct call c = {
            .nr = SYS_clock_nanosleep,
            .a = {CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&t, (long)NULL}};
        long r = do_blocking(&c);
        if (r != -EINTR)
            return r;
    }
}

long tarn_futex_wait(uint32_t *addr, uint32_t value, int64_t ns)
{
    if (!require_goroutine("tarn_futex_wait"))
        return -EPERM;
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    struct call c = {
        .nr = SYS_futex,
        .a = {(long)addr, FUTEX_WAIT_PRIVATE, value, ns < 0 ? 0 : (long)&t}};
    return do_blocking(&c);
}

long tarn_futex_wake(uint32_t *addr, uint32_t n)
{
    /* The kernel takes "at most none" for one. */
    if (n == 0)
        return require_goroutine("tarn_futex_wake") ? 0 : -EPERM;
    return do_syscall("tarn_futex_wake", SYS_futex, (long)addr,
                      FUTEX_WAKE_PRIVATE, n > INT32_MAX ? INT32_MAX : (long)n,
                      0, 0, 0);
}

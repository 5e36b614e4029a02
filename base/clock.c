/* base/clock.c - time, yielding and what the kernel says of this process.
 *
 * Locks: none.
 */
#include "base/base.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Binding a library function at its first call takes the dynamic linker up to 3
 * KiB of stack, more than a goroutine may have when it comes here. */
__attribute__((constructor)) static void bind_early(void)
{
    (void)nanotime();
    (void)gettid_os();
    osyield();
}

int64_t nanotime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void osyield(void)
{
    sched_yield();
}

void usleep_os(uint32_t us)
{
    int saved = errno;
    /* Until a time, not for one: what is left after a signal includes the
     * kernel's slack of 50 us, so that under signals that come faster the rest
     * would grow with each of them, for ever. */
    int64_t until = nanotime() + (int64_t)us * 1000;
    struct timespec ts = {until / 1000000000, until % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
    errno = saved;
}

uint32_t cpu_count(void)
{
    /* The kernel refuses a mask shorter than its own: room for 8192 CPUs, where
     * a cpu_set_t stops at 1024. */
    unsigned long mask[8192 / (8 * sizeof(unsigned long))];
    int saved = errno;
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    errno = saved;
    uint32_t n = 0;
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
        n += (uint32_t)__builtin_popcountl(mask[i]);
    return n > 0 ? n : 1;
}

int32_t gettid_os(void)
{
    return (int32_t)syscall(SYS_gettid);
}

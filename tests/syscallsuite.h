/* tests/syscallsuite.h - for the tests of system calls. */
#ifndef TARN_TESTS_SYSCALLSUITE_H_
#define TARN_TESTS_SYSCALLSUITE_H_

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "nativesuite.h"

#define PIPE(fds, flags) CHECK_EQ(pipe2(fds, flags), 0)

__attribute__((unused)) static void close_both(const int fds[2])
{
    CHECK_EQ(tarn_close(fds[0]), 0);
    CHECK_EQ(tarn_close(fds[1]), 0);
}

/* A page that nobody may touch. */
__attribute__((unused)) static char *forbidden(void)
{
    static char *page;
    char *p = __atomic_load_n(&page, __ATOMIC_ACQUIRE);
    if (p == NULL) {
        /* Several goroutines may come here at once: one more page each. */
        p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED);
        __atomic_store_n(&page, p, __ATOMIC_RELEASE);
    }
    return p;
}

static char temp_dir[] = "/tmp/tarn-syscalls-XXXXXX";

static const char *in_temp_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", temp_dir, name);
    return path;
}

/* Where files are made. */
static void temp_dir_make(void)
{
    CHECK(mkdtemp(temp_dir) != NULL);
}

static void temp_dir_remove(void)
{
    CHECK_EQ(rmdir(temp_dir), 0);
}

#endif

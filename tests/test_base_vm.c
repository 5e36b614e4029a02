/* tests/test_base_vm.c - address space, unmanaged memory, fault points, clock.
 */
#include "base/fail.h"
#include "base/sysmem.h"
#include "base/vm.h"

#include "tests/harness.h"

#include <pthread.h>
#include <sys/mman.h>

static bool aligned(const void *p, size_t align)
{
    return ((uintptr_t)p & (align - 1)) == 0;
}

static bool all_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

/* What a child does that must die of it. The sanitizers report such a fault
 * themselves and exit, so it is their handler that goes. */
static char *victim;

static void do_read(void)
{
    signal(SIGSEGV, SIG_DFL);
    char volatile *p = victim;
    (void)*p;
}

static void do_write(void)
{
    signal(SIGSEGV, SIG_DFL);
    char volatile *p = victim;
    *p = 1;
}

static bool faults(void *p)
{
    char out[4096];
    victim = p;
    int r = harness_child(do_read, NULL, out, sizeof out);
    int w = harness_child(do_write, NULL, out, sizeof out);
    bool rf = WIFSIGNALED(r) && WTERMSIG(r) == SIGSEGV;
    bool wf = WIFSIGNALED(w) && WTERMSIG(w) == SIGSEGV;
    CHECK_EQ(rf, wf);
    CHECK(rf || (r == 0 && w == 0));
    return rf;
}

/* --- reserve, commit ----------------------------------------------------- */

static void test_reserve_aligns(void)
{
    static const size_t aligns[] = {0,        1,       OS_PAGE,  2 * OS_PAGE,
                                    64 * KiB, 2 * MiB, 64 * MiB, GiB};
    for (size_t i = 0; i < ARRAY_LEN(aligns); i++) {
        for (size_t pages = 1; pages < 40; pages += 13) {
            char *p = vm_reserve(pages * OS_PAGE, aligns[i]);
            CHECK(p != NULL);
            CHECK(aligned(p, aligns[i] ? aligns[i] : OS_PAGE));
            CHECK(vm_commit(p, pages * OS_PAGE));
            memset(p, 1, pages * OS_PAGE);
            vm_release(p, pages * OS_PAGE);
        }
    }
}

static void test_reserved_is_inaccessible(void)
{
    char *p = vm_reserve(16 * OS_PAGE, OS_PAGE);
    CHECK(p != NULL);
    CHECK(faults(p));
    CHECK(vm_commit(p + OS_PAGE, OS_PAGE));
    CHECK(faults(p + OS_PAGE - 1));
    CHECK(!faults(p + OS_PAGE));
    CHECK(!faults(p + 2 * OS_PAGE - 1));
    CHECK(faults(p + 2 * OS_PAGE));
    vm_release(p, 16 * OS_PAGE);
}

/* The default heap reservation costs no memory. */
static void test_reserve_a_lot(void)
{
    size_t size = TARN_TSAN ? 64 * GiB : 1024 * GiB;
    char *p = vm_reserve(size, 4 * MiB);
    CHECK(p != NULL);
    CHECK(aligned(p, 4 * MiB));
    char *mid = p + size / 2;
    CHECK(vm_commit(mid, 4 * MiB));
    vm_nohugepage(mid, 4 * MiB);
    CHECK(all_zero(mid, 4 * MiB));
    memset(mid, 7, 4 * MiB);
    vm_release(p, size);
}

static void test_release_part(void)
{
    char *p = vm_reserve(8 * OS_PAGE, OS_PAGE);
    CHECK(p != NULL);
    CHECK(vm_commit(p, 8 * OS_PAGE));
    memset(p, 3, 8 * OS_PAGE);
    vm_release(p + 2 * OS_PAGE, 3 * OS_PAGE);
    CHECK_EQ(p[2 * OS_PAGE - 1], 3);
    CHECK_EQ(p[5 * OS_PAGE], 3);
    CHECK(!vm_commit(p + 2 * OS_PAGE, OS_PAGE)); /* nothing there any more */
    CHECK_EQ(errno, ENOMEM);
    vm_release(p, 2 * OS_PAGE);
    vm_release(p + 5 * OS_PAGE, 3 * OS_PAGE);
}

static void test_map(void)
{
    char *p = vm_map(5 * OS_PAGE);
    CHECK(p != NULL);
    CHECK(all_zero(p, 5 * OS_PAGE));
    memset(p, 9, 5 * OS_PAGE);
    vm_release(p, 5 * OS_PAGE);
}

static bool resident(void *p)
{
    unsigned char in;
    CHECK_EQ(mincore(p, OS_PAGE, &in), 0);
    return (in & 1) != 0;
}

static void test_decommit(void)
{
    char *p = vm_map(8 * OS_PAGE);
    CHECK(p != NULL);
    memset(p, 5, 8 * OS_PAGE);
    CHECK(vm_decommit(p + OS_PAGE, 4 * OS_PAGE));
    CHECK(resident(p));
    CHECK(!resident(p + OS_PAGE));
    CHECK(!resident(p + 4 * OS_PAGE));
    CHECK(resident(p + 5 * OS_PAGE));
    CHECK(all_zero(p + OS_PAGE, 4 * OS_PAGE));
    CHECK_EQ(p[OS_PAGE - 1], 5);
    CHECK_EQ(p[5 * OS_PAGE], 5);
    p[OS_PAGE] = 1; /* still writable */
    vm_release(p, 8 * OS_PAGE);
}

static void test_protect_then_commit_is_zero(void)
{
    char *p = vm_map(4 * OS_PAGE);
    CHECK(p != NULL);
    memset(p, 5, 4 * OS_PAGE);
    CHECK(vm_protect(p, 2 * OS_PAGE));
    CHECK(faults(p));
    CHECK(faults(p + 2 * OS_PAGE - 1));
    CHECK_EQ(p[2 * OS_PAGE], 5);
    CHECK(!resident(p));
    CHECK(vm_commit(p, 2 * OS_PAGE));
    CHECK(all_zero(p, 2 * OS_PAGE));
    vm_release(p, 4 * OS_PAGE);
}

static void test_guard(void)
{
    char *p = vm_map(3 * OS_PAGE);
    CHECK(p != NULL);
    CHECK(vm_guard(p, OS_PAGE));
    CHECK(faults(p));
    CHECK(faults(p + OS_PAGE - 1));
    CHECK(!faults(p + OS_PAGE));
    memset(p + OS_PAGE, 1, 2 * OS_PAGE);
    vm_release(p, 3 * OS_PAGE);
}

static void test_refused_by_kernel(void)
{
    errno = 0;
    CHECK(vm_reserve((size_t)1 << 50, OS_PAGE) == NULL);
    CHECK_EQ(errno, ENOMEM);
    errno = 0;
    CHECK(vm_reserve(SIZE_MAX - OS_PAGE + 1, GiB) == NULL);
    CHECK_EQ(errno, ENOMEM);
    CHECK(vm_map((size_t)1 << 50) == NULL);
    CHECK_EQ(errno, ENOMEM);
}

static void do_odd_commit(void)
{
    (void)vm_commit((char *)16, OS_PAGE);
}

static void do_odd_reserve(void)
{
    (void)vm_reserve(100, OS_PAGE);
}

static void do_odd_align(void)
{
    (void)vm_reserve(OS_PAGE, 3 * OS_PAGE);
}

static void do_odd_release(void)
{
    vm_release((char *)OS_PAGE, 1);
}

static void test_misuse_throws(void)
{
    CHECK_THROWS(do_odd_commit, NULL, "assertion failed");
    CHECK_THROWS(do_odd_reserve, NULL, "assertion failed");
    CHECK_THROWS(do_odd_align, NULL, "assertion failed");
    CHECK_THROWS(do_odd_release, NULL, "assertion failed");
}

/* --- fault points -------------------------------------------------------- */

static void test_injected_failures(void)
{
    char *p = vm_map(4 * OS_PAGE);
    CHECK(p != NULL);
    memset(p, 6, 4 * OS_PAGE);

    fail_inject(FAIL_MMAP, 0, 3);
    errno = 0;
    CHECK(vm_reserve(OS_PAGE, OS_PAGE) == NULL);
    CHECK_EQ(errno, ENOMEM);
    CHECK(vm_reserve(OS_PAGE, MiB) == NULL);
    CHECK(vm_map(OS_PAGE) == NULL);
    void *q = vm_map(OS_PAGE);
    CHECK(q != NULL);
    vm_release(q, OS_PAGE);

    fail_inject(FAIL_MPROTECT, 1, 3);
    errno = 0;
    CHECK(vm_commit(p, OS_PAGE));
    CHECK(!vm_commit(p, OS_PAGE));
    CHECK_EQ(errno, ENOMEM);
    CHECK(!vm_guard(p, OS_PAGE));
    CHECK(!vm_protect(p, OS_PAGE));
    CHECK_EQ(p[0], 6); /* not even emptied */
    CHECK(vm_commit(p, OS_PAGE));

    fail_inject(FAIL_MADVISE, 0, -1);
    for (int i = 0; i < 10; i++)
        CHECK(!vm_decommit(p, OS_PAGE));
    CHECK_EQ(p[0], 6);
    fail_reset();
    CHECK(vm_decommit(p, OS_PAGE));
    CHECK_EQ(p[0], 0);

    fail_inject(FAIL_THREAD, 2, 1);
    CHECK(!fail_point(FAIL_THREAD));
    CHECK(!fail_point(FAIL_THREAD));
    CHECK(!fail_point(FAIL_MMAP)); /* each kind counts for itself */
    CHECK(fail_point(FAIL_THREAD));
    CHECK(!fail_point(FAIL_THREAD));
    fail_reset();
    vm_release(p, 4 * OS_PAGE);
}

enum { CALLERS = 4, CALLS = 20000, PASSES = 30000, FAILURES = 12345 };

static void *call_many(void *arg)
{
    uintptr_t failed = 0;
    (void)arg;
    for (int i = 0; i < CALLS; i++)
        failed += fail_point(FAIL_THREAD);
    return (void *)failed;
}

static void test_failures_are_counted_exactly(void)
{
    pthread_t t[CALLERS];
    uintptr_t failed = 0;
    fail_inject(FAIL_THREAD, PASSES, FAILURES);
    for (int i = 0; i < CALLERS; i++)
        CHECK_EQ(pthread_create(&t[i], NULL, call_many, NULL), 0);
    for (int i = 0; i < CALLERS; i++) {
        void *n;
        pthread_join(t[i], &n);
        failed += (uintptr_t)n;
    }
    fail_reset();
    CHECK_EQ(failed, (uintptr_t)FAILURES);
}

/* --- unmanaged memory ---------------------------------------------------- */

static void test_sysmem(void)
{
    uint64_t rng = harness_seed;
    for (int i = 0; i < 2000; i++) {
        size_t size = harness_rand(&rng) % 5000;
        size_t align = (size_t)1 << harness_rand(&rng) % 13;
        char *p = sys_alloc(size);
        char *q = sys_alloc_aligned(size, align);
        CHECK(p != NULL && q != NULL);
        CHECK(aligned(q, align));
        CHECK(all_zero(p, size));
        CHECK(all_zero(q, size));
        memset(p, 0x11, size);
        memset(q, 0x22, size);
        p = sys_realloc(p, size + 100);
        CHECK(p != NULL);
        for (size_t k = 0; k < size; k++)
            CHECK_EQ(p[k], 0x11);
        sys_free(p);
        sys_free(q);
    }
    sys_free(NULL);
    char *fresh = sys_realloc(NULL, 10);
    CHECK(fresh != NULL);
    sys_free(fresh);
}

static void test_sysmem_failures(void)
{
    char *p = sys_alloc(10);
    CHECK(p != NULL);
    p[0] = 4;
    fail_inject(FAIL_MALLOC, 0, 3);
    errno = 0;
    CHECK(sys_alloc(10) == NULL);
    CHECK_EQ(errno, ENOMEM);
    CHECK(sys_alloc_aligned(10, 64) == NULL);
    CHECK(sys_realloc(p, 1000) == NULL);
    fail_reset();
    CHECK_EQ(p[0], 4);
    sys_free(p);
}

/* --- clock --------------------------------------------------------------- */

static void test_clock(void)
{
    int64_t last = nanotime();
    for (int i = 0; i < 10000; i++) {
        int64_t now = nanotime();
        CHECK_GE(now, last);
        last = now;
    }
    usleep_os(2000);
    CHECK_GE(nanotime() - last, 2000000);
    CHECK_GE(cpu_count(), 1u);
    CHECK_EQ(gettid_os(), (int32_t)getpid());
    osyield();
}

static void test_rand(void)
{
    uint64_t state = harness_seed | 1;
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint32_t r = rand_below(&state, 7);
        CHECK_LT(r, 7u);
        seen[r]++;
    }
    for (int i = 0; i < 7; i++)
        CHECK_GT(seen[i], 700);
    CHECK_EQ(rand_below(&state, 1), 0u);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_reserve_aligns);
    RUN(test_reserved_is_inaccessible);
    RUN(test_reserve_a_lot);
    RUN(test_release_part);
    RUN(test_map);
    RUN(test_decommit);
    RUN(test_protect_then_commit_is_zero);
    RUN(test_guard);
    RUN(test_refused_by_kernel);
    RUN(test_misuse_throws);
    RUN(test_injected_failures);
    RUN(test_failures_are_counted_exactly);
    RUN(test_sysmem);
    RUN(test_sysmem_failures);
    RUN(test_clock);
    RUN(test_rand);
    return harness_done();
}

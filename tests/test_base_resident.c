/* tests/test_base_resident.c - which pages are in memory, by each way to find out. */
#include "base/resident.h"

#include <sys/mman.h>

#include "base/vm.h"
#include "harness.h"

#define PAGES 1000u

static char *p;

static bool touched(size_t i)
{
    return i % 7 == 3 || (i >= 300 && i < 640);
}

static void check(struct resident *r)
{
    uint64_t bits[PAGES / 64 + 1] = {0};
    size_t n = 0;
    resident_bits(r, (uintptr_t)p, PAGES, bits);
    for (size_t i = 0; i < PAGES; i++) {
        n += touched(i);
        CHECK_EQ(bits[i / 64] >> i % 64 & 1, (uint64_t)touched(i));
    }
    CHECK_EQ(resident_bytes(r, (uintptr_t)p, (uintptr_t)p + PAGES * OS_PAGE),
             n * OS_PAGE);
    /* Parts of pages count as pages. */
    CHECK_EQ(resident_bytes(r, (uintptr_t)p + 3 * OS_PAGE + 5,
                            (uintptr_t)p + 3 * OS_PAGE + 6),
             OS_PAGE);
    CHECK_EQ(resident_bytes(r, (uintptr_t)p, (uintptr_t)p), 0u);
}

static void prepare(void)
{
    p = vm_map(PAGES * OS_PAGE);
    CHECK(p != NULL);
    vm_nohugepage(p, PAGES * OS_PAGE);
    for (size_t i = 0; i < PAGES; i++)
        if (touched(i) || i % 5 == 0)
            p[i * OS_PAGE] = 1;
    for (size_t i = 0; i < PAGES; i++)
        if (!touched(i))
            CHECK(vm_decommit(p + i * OS_PAGE, OS_PAGE));
}

static void test_default(void)
{
    struct resident r;
    prepare();
    resident_open(&r);
    check(&r);
    resident_close(&r);
}

static void test_table(void)
{
    struct resident r;
    prepare();
    resident_open(&r);
    if (r.fd < 0)
        SKIP("no /proc/self/pagemap");
    r.scan = false;
    check(&r);
    resident_close(&r);
}

static void test_mincore(void)
{
    struct resident r = {.fd = -1, .scan = false};
    prepare();
    check(&r);
}

/* What was only read is the kernel's page of zeroes. */
static void test_read_only(void)
{
    struct resident r;
    prepare();
    resident_open(&r);
    check(&r);
    if (!r.scan)
        SKIP("no PAGEMAP_SCAN (Linux 6.7)");
    unsigned sum = 0;
    for (size_t i = 0; i < PAGES; i++)
        sum += (unsigned)*(volatile char *)(p + i * OS_PAGE);
    CHECK_GT(sum, 0u);
    check(&r);
    resident_close(&r);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_default);
    RUN(test_table);
    RUN(test_mincore);
    RUN(test_read_only);
    return harness_done();
}

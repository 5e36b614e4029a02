/* tests/test_heap_classes.c - the tables of size classes keep their promises.
 *
 * The generator checks its own result; this checks what the library has. */
#include "heap/heap.h"
#include "tests/harness.h"

static void test_sizes(void)
{
    CHECK_EQ(class_size[0], 0u);
    CHECK_EQ(class_size[NUM_CLASSES - 1], (uint32_t)MAX_SMALL);
    for (uint32_t c = 1; c < NUM_CLASSES; c++) {
        CHECK_EQ(class_size[c] % GRANULE, 0u);
        CHECK_LT(class_size[c - 1], class_size[c]);
        if (class_size[c] <= 128)
            CHECK_EQ(class_size[c], 16 * c);
        else /* the smallest request wastes 1/8 at most */
            CHECK_LE((class_size[c] - (class_size[c - 1] + 1)) * 8,
                     class_size[c]);
    }
}

/* Every request gets the smallest class that holds it. */
static void test_size_to_class(void)
{
    uint32_t want = 1;
    for (size_t size = 1; size <= MAX_SMALL; size++) {
        if (size > class_size[want])
            want++;
        CHECK_EQ(size_to_class(size), want);
    }
    CHECK_EQ(want, (uint32_t)NUM_CLASSES - 1);
}

static void test_powers_of_two(void)
{
    for (uint32_t size = 16; size <= MAX_SMALL; size *= 2)
        CHECK_EQ(class_size[size_to_class(size)], size);
}

static void test_spans(void)
{
    for (uint32_t c = 1; c < NUM_CLASSES; c++) {
        size_t span = class_pages[c] * PAGE_SIZE;
        CHECK_EQ(class_objs[c], span / class_size[c]);
        CHECK_LE((span - class_objs[c] * class_size[c]) * 8, span);
        CHECK_LE(span, 128 * KiB);
        if (class_size[c] <= 1024) /* sweeping counts with 16 bytes */
            CHECK_LE(span / GRANULE, 255u * 16);
        /* 16 objects, or as many as fit but for one of them. */
        CHECK_GE(class_objs[c] + 1u < 16 ? (class_objs[c] + 1u) * class_size[c]
                                         : 128 * KiB,
                 112 * KiB);
    }
}

static void test_magic(void)
{
    for (uint32_t c = 1; c < NUM_CLASSES; c++)
        for (uint64_t off = 0; off <= class_pages[c] * PAGE_SIZE; off++)
            CHECK_EQ((off * class_divmagic[c]) >> 32, off / class_size[c]);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_sizes);
    RUN(test_size_to_class);
    RUN(test_powers_of_two);
    RUN(test_spans);
    RUN(test_magic);
    return harness_done();
}

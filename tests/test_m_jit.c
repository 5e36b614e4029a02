/* links: public */
/* The code generator of examples/codegen: its inline sequences do what they should
 * and call when they must; and goroutines are stopped in the middle of generated
 * code. */
#include <stdatomic.h>
#include <tarn/tarn.h>

#include "harness.h"

/* The example calls these instead. */
static _Atomic uint64_t slow_allocs, slow_stores;

static void *counted_alloc(tarn_type *type)
{
    atomic_fetch_add(&slow_allocs, 1);
    return tarn_alloc_call(type);
}

static void counted_store(void *slot, const void *value)
{
    atomic_fetch_add(&slow_stores, 1);
    tarn_store_slow(slot, value);
}

#define tarn_attr_alloc_slow() ((const void *)(uintptr_t)counted_alloc)
#define tarn_attr_store_slow() ((const void *)(uintptr_t)counted_store)
#define main example_main
#define check example_check
#include "../examples/codegen/jit.c"
#undef main
#undef check

static const uint64_t objects = (uint64_t)GOROUTINES * ROUNDS * LENGTH;

static void run(const char *mode, tarn_fn fn)
{
    struct tarn_options o;
    alarm(200);
    tarn_options_init(&o);
    CHECK_EQ(tarn_options_parse(&o, mode), TARN_OK);
    CHECK_EQ(tarn_main(&o, fn, NULL), TARN_OK);
    CHECK_EQ(wrong, 0);
    if (fn != first)
        return;
    printf("     of %llu objects %llu by a call, %llu stores by a call\n",
           (unsigned long long)objects, (unsigned long long)slow_allocs,
           (unsigned long long)slow_stores);
}

/* No collection: one call for each run of objects, and no barrier. */
static void quiet(void)
{
    run("gcoff=1", first);
    CHECK_GT(slow_allocs, 0);
    if (TARN_UNSAFE_INLINE)
        CHECK_LT(slow_allocs, objects / 20);
    CHECK_EQ(slow_stores, 0);
}

/* Collections all the time: both kinds of store. */
static void collecting(void)
{
    run("gcpercent=10,heapmin=64KiB,maxprocs=4", first);
    CHECK_GT(slow_stores, 0);
    CHECK_LT(slow_stores, objects);
}

/* Every allocation is a call. */
static void stressed(void)
{
    run("gcstress=200,stackmove=1", first);
    CHECK_EQ(slow_allocs, objects);
}

/* The entries of the cache are those that objects of a size are taken from. */
#ifndef TARN_NO_SPLIT_STACK
static void check_entry(uint32_t offset, const void *object)
{
    const char *cache;
    __asm__ volatile("movq %%fs:(%1), %0"
                     : "=r"(cache)
                     : "r"(tarn_attr_cache_fs()));
    CHECK(cache != NULL && object != NULL);
    CHECK_EQ(offset % TARN_ATTR_ENTRY_BYTES, 0);
    const struct tarn_cache_entry *e =
        (const struct tarn_cache_entry *)(const void *)(cache + offset);
    CHECK_EQ(e->size, tarn_object_size(object));
    CHECK_EQ(e->ptr, (uintptr_t)object + e->size);
}

static void entries_first(void *unused)
{
    (void)unused;
    for (size_t n = 0; n <= TARN_CACHE_BYTES_MAX; n++) {
        check_entry(tarn_attr_bytes_entry(n), tarn_alloc_bytes_call(n));
        check_entry(tarn_attr_conservative_entry(n),
                    tarn_alloc_conservative_call(n));
    }
    CHECK_EQ(tarn_attr_bytes_entry(TARN_CACHE_BYTES_MAX + 1), 0);
    CHECK_EQ(tarn_attr_conservative_entry(TARN_CACHE_BYTES_MAX + 1), 0);
    for (size_t size = 8; size < 3000; size += 104) {
        static const uint64_t pointers[8] = {1};
        tarn_type *type = tarn_type_register(&(struct tarn_type_info){
            .name = "sized", .size = size, .ptrmap = pointers});
        check_entry(tarn_attr_type_entry(type), tarn_alloc_call(type));
    }
}
#else
#define entries_first first
#endif

static void entries(void)
{
    run("maxprocs=1,gcoff=1", entries_first);
}

/* Stopped between two instructions: the only P is in a loop that only another
 * goroutine ends. */
static uint64_t flag;

static void set_flag(void *unused)
{
    (void)unused;
    __atomic_store_n(&flag, 1, __ATOMIC_RELAXED);
}

static void loop_first(void *unused)
{
    (void)unused;
    text = mmap(NULL, TEXT_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(text != MAP_FAILED);
    at = text;
    put64("48 bf", &flag); /* movabsq $., %rdi */
    const uint8_t *again = at;
    put("48 83 3f 00");          /* cmpq $0, (%rdi) */
    lands(jump("0f 84"), again); /* je */
    put("c3");                   /* ret */
    CHECK_EQ(mprotect(text, TEXT_SIZE, PROT_READ | PROT_EXEC), 0);
    CHECK_EQ(tarn_text_register(text, at), TARN_OK);
    CHECK_EQ(tarn_go(set_flag, NULL), TARN_OK);
    ((void (*)(void))(uintptr_t)text)();
    struct tarn_preempt_stats st = {.struct_size = sizeof st};
    CHECK_EQ(tarn_preempt_stats(&st), TARN_OK);
    CHECK_GT(st.injected, 0);
    CHECK_EQ(tarn_text_unregister(text, at), TARN_OK);
}

static void loop(void)
{
    run("maxprocs=1", loop_first);
}

static char out[16384];

static void in_child(void (*fn)(void))
{
    int st = harness_child(fn, NULL, out, sizeof out);
    printf("%s", out);
    CHECK_EQ(st, 0);
}

#ifdef TARN_NO_SPLIT_STACK
#define NOT_FOR_SANITIZERS                                                     \
    SKIP("builds for sanitizers have no stack checks and interrupt no code")
#else
#define NOT_FOR_SANITIZERS (void)0
#endif

static void test_quiet(void)
{
    NOT_FOR_SANITIZERS;
    in_child(quiet);
}

static void test_collecting(void)
{
    NOT_FOR_SANITIZERS;
    in_child(collecting);
}

static void test_stressed(void)
{
    NOT_FOR_SANITIZERS;
    in_child(stressed);
}

static void test_entries(void)
{
    NOT_FOR_SANITIZERS;
    in_child(entries);
}

static void test_loop(void)
{
    NOT_FOR_SANITIZERS;
    in_child(loop);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN"); /* each case is about what its own options do */
    RUN(test_quiet);
    RUN(test_collecting);
    RUN(test_stressed);
    RUN(test_entries);
    RUN(test_loop);
    return harness_done();
}

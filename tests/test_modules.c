/* tests/test_modules.c - modules that come and go under the runtime's eyes: what
 * text is managed, and the loader's lock. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <link.h>

#include "nativesuite.h"

/* --- one module in the place of another ------------------------------------------ */

#ifdef TARN_TEST_TEXT_NONE

struct loaded {
    void *handle;
    uintptr_t first, second;
};

static struct loaded load(const char *path)
{
    struct loaded l = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (l.handle == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(l.handle != NULL);
    l.first = (uintptr_t)dlsym(l.handle, "first");
    l.second = (uintptr_t)dlsym(l.handle, "second");
    CHECK(l.first != 0 && l.second != 0);
    return l;
}

/* As handlers find it: with the table that was made when the old one was there.
 * (No runtime runs here, so nobody else makes a new one.) */
static void replace(const char *old_path, enum text_kind old_first,
                    enum text_kind old_second, const char *new_path,
                    enum text_kind new_first, enum text_kind new_second)
{
    for (int i = 0; i < 20; i++) {
        struct loaded was = load(old_path);
        text_refresh();
        CHECK_EQ(text_kind(was.first), old_first);
        CHECK_EQ(text_kind(was.first + 5), old_first);
        CHECK_EQ(text_kind(was.second), old_second);
        CHECK_EQ(dlclose(was.handle), 0);
        CHECK_EQ(text_kind(was.first), TEXT_UNKNOWN);
        struct loaded is = load(new_path);
        bool same = is.first == was.first && is.second == was.second;
        /* Known or not: never for what it is not. */
        if (new_first != TEXT_MANAGED)
            CHECK_NE(text_kind(is.first), TEXT_MANAGED);
        if (new_second != TEXT_MANAGED)
            CHECK_NE(text_kind(is.second), TEXT_MANAGED);
        text_refresh();
        CHECK_EQ(text_kind(is.first), new_first);
        CHECK_EQ(text_kind(is.second), new_second);
        CHECK_EQ(dlclose(is.handle), 0);
        if (same)
            return;
    }
    SKIP("the loader puts no module where another one was");
}

/* Managed, then not: their headers differ. */
static void test_unmanaged_after_managed(void)
{
    replace(TARN_TEST_TEXT_FIRST, TEXT_MANAGED, TEXT_UNMANAGED,
            TARN_TEST_TEXT_NONE, TEXT_UNMANAGED, TEXT_UNMANAGED);
    replace(TARN_TEST_TEXT_NONE, TEXT_UNMANAGED, TEXT_UNMANAGED,
            TARN_TEST_TEXT_FIRST, TEXT_MANAGED, TEXT_UNMANAGED);
}

/* The same layout to a byte, but other functions are managed: as when a program
 * loads a new version of a module. */
static void test_other_notes(void)
{
    replace(TARN_TEST_TEXT_FIRST, TEXT_MANAGED, TEXT_UNMANAGED,
            TARN_TEST_TEXT_SECOND, TEXT_UNMANAGED, TEXT_MANAGED);
    replace(TARN_TEST_TEXT_SECOND, TEXT_UNMANAGED, TEXT_MANAGED,
            TARN_TEST_TEXT_FIRST, TEXT_MANAGED, TEXT_UNMANAGED);
}

/* What is there for good is known at once. */
static void test_program_text(void)
{
    text_refresh();
    CHECK_EQ(text_kind((uintptr_t)load), TEXT_UNMANAGED);
    CHECK_EQ(text_kind((uintptr_t)malloc), TEXT_UNMANAGED);
    CHECK_EQ(text_kind((uintptr_t) & (char){0}), TEXT_UNKNOWN);
}

#endif

/* --- the loader's lock --------------------------------------------------------------- */

static void *roots[8];
static _Atomic bool enough;
static struct event iterating;

static int adds_roots(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info, (void)size, (void)unused;
    event_set(&iterating);
    CHECK_ST(tarn_roots_add(roots, roots + 8, 0), TARN_OK);
    CHECK_ST(tarn_roots_remove(roots, roots + 8), TARN_OK);
    return 0;
}

static void *iterates(void *unused)
{
    while (!atomic_load(&enough))
        dl_iterate_phdr(adds_roots, NULL);
    return unused;
}

/* Root ranges come and go in the loader's callbacks, beside a collector that reads
 * data segments: neither waits for what the other holds. */
static void test_roots_in_callback(void)
{
    pthread_t t[2];
    atomic_store(&enough, false);
    event_clear(&iterating);
    for (int i = 0; i < 2; i++)
        start_thread(&t[i], iterates, NULL);
    tarn_native_call(wait_for, &iterating);
    for (int i = 0; i < SUITE_REPEAT(300); i++)
        collect();
    atomic_store(&enough, true);
    for (int i = 0; i < 2; i++)
        tarn_native_call(join_thread, &t[i]);
}

static void body(void)
{
    RUN(test_roots_in_callback);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
#ifdef TARN_TEST_TEXT_NONE
    RUN(test_program_text);
    RUN(test_unmanaged_after_managed);
    RUN(test_other_notes);
#endif
    gc_run(body, 2, "");
    gc_run(body, 4, "delays=50");
    return harness_done();
}

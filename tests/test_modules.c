/* tests/test_modules.c - modules that come and go under the runtime's eyes: the
 * loader's lock. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <link.h>

#include "nativesuite.h"

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
    gc_run(body, 2, "");
    gc_run(body, 4, "delays=50");
    return harness_done();
}

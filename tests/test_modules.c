/* tests/test_modules.c - managed code in modules that are loaded and unloaded while
 * the runtime runs: stopped in loops without calls, at once after dlopen too, and
 * nothing that was known of a module is believed of the next one in its place. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>

#include "base/options.h"
#include "nativesuite.h"
#include "pest.h"
#include "stackscan/stackscan.h"

static tarn_waitgroup wg;

#ifdef TARN_TEST_MODULE_DIR

/* As in the module. */
struct module_loop {
    volatile uint64_t turns;
    volatile int32_t end;
    int32_t depth;
    volatile uint64_t result; /* of module_enter */
};

struct module {
    void *handle;
    void (*spin)(struct module_loop *);
    void (*count)(struct module_loop *);
    uint64_t (*deep)(int, struct module_loop *);
    tarn_fn enter;
};

static void function(void *handle, const char *name, void *fn)
{
    void *p = dlsym(handle, name);
    if (p == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(p != NULL);
    memcpy(fn, &p, sizeof p);
}

static struct module module_open(const char *name, int mode)
{
    struct module m;
    char path[512];
    snprintf(path, sizeof path, "%s/text_module_%s.so", TARN_TEST_MODULE_DIR,
             name);
    m.handle = dlopen(path, mode | RTLD_LOCAL);
    if (m.handle == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(m.handle != NULL);
    function(m.handle, "module_spin", &m.spin);
    function(m.handle, "module_count", &m.count);
    function(m.handle, "module_deep", &m.deep);
    function(m.handle, "module_enter", &m.enter);
    const char *is = dlsym(m.handle, "module_name");
    CHECK(is != NULL && strcmp(is, name) == 0);
    return m;
}

static void module_close(struct module *m)
{
    CHECK_EQ(dlclose(m->handle), 0);
    m->handle = NULL;
}

/* --- goroutines in a module -------------------------------------------------------- */

#define LOOPS 5
static struct module_loop loops[LOOPS];
static struct module in;
enum where { SPIN, COUNT, DEEP, WHERES };

static void runs_module(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    switch (i % WHERES) {
    case SPIN:
        in.spin(&loops[i]);
        break;
    case COUNT:
        in.count(&loops[i]);
        break;
    default:
        CHECK_EQ(in.deep(40, &loops[i]), 41);
    }
    tarn_waitgroup_done(&wg);
}

static void enter_loop(uintptr_t i)
{
    loops[i].turns = 0;
    loops[i].end = 0;
    tarn_waitgroup_add(&wg, 1);
    go(runs_module, (void *)i);
}

static void end_loops(uintptr_t n)
{
    for (uintptr_t i = 0; i < n; i++)
        loops[i].end = 1;
    tarn_waitgroup_wait(&wg);
}

static const char *const names[] = {"gcc_O0",   "gcc_O2",    "clang_O0",
                                    "clang_O2", "prologues", "original"};

/* Not all of them where everything takes longer. */
static size_t step(void)
{
    return options.checkmark || options.delays ? 2 : 1;
}

/* More of them than Ps (if those are few), right after the module is there: each turn
 * of this goroutine and each stop of the world needs one of theirs to be stopped. */
static void test_stopped_after_dlopen(void)
{
    uintptr_t n = nprocs + 1 < LOOPS ? nprocs + 1 : LOOPS;
    for (size_t k = harness_seed % step(); k < ARRAY_LEN(names); k += step()) {
        in = module_open(names[k], k / 2 % 2 ? RTLD_LAZY : RTLD_NOW);
        /* First by a stop, first by a yield. */
        for (uintptr_t i = 0; i < n; i++)
            enter_loop(i);
        if (k / 2 % 2) {
            stopTheWorld();
            startTheWorld();
        } else {
            tarn_yield();
        }
        for (uintptr_t i = 0; i < n; i++)
            YIELD_UNTIL(loops[i].turns > 0);
        uint64_t injected = preempt_stats().injected;
        collect();
        check_wiring();
        /* Each once more. */
        for (uintptr_t i = 0; i < n; i++) {
            uint64_t turns = loops[i].turns;
            YIELD_UNTIL(loops[i].turns != turns);
        }
        CHECK_GT(preempt_stats().injected, injected);
        CHECK_EQ(text_kind((uintptr_t)in.spin), TEXT_MANAGED);
        end_loops(n);
        module_close(&in);
    }
}

/* On stacks that grow in the module, whose checks lead to the runtime. */
static void test_deep(void)
{
    for (size_t k = harness_seed % step(); k < 4; k += step()) {
        struct module m =
            module_open(names[k], k / 2 % 2 ? RTLD_LAZY : RTLD_NOW);
        CHECK(has_split_prologue((const void *)(uintptr_t)m.enter));
        for (int i = 0; i < 3; i++) {
            loops[i] = (struct module_loop){.depth = 100 * (i + 1)};
            go(m.enter, &loops[i]);
        }
        for (int i = 0; i < 3; i++)
            YIELD_UNTIL(loops[i].turns > 0);
        collect();
        for (int i = 0; i < 3; i++) {
            uint64_t turns = loops[i].turns;
            YIELD_UNTIL(loops[i].turns != turns);
            loops[i].end = 1;
        }
        CHECK_EQ(settled(), 1);
        for (uint64_t i = 0; i < 3; i++)
            CHECK_EQ(loops[i].result, 100 * (i + 1) + 1);
        module_close(&m);
    }
}

/* --- one in the place of another ------------------------------------------------------ */

/* Where its unwind table is; 0: the C library does not say. */
static uintptr_t eh_of(const struct module *m)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object o;
    CHECK_EQ(_dl_find_object((void *)(uintptr_t)m->spin, &o), 0);
    return (uintptr_t)o.dlfo_eh_frame;
#else
    (void)m;
    return 0;
#endif
}

/* Until it is stopped there by a signal. */
static void spin_until_stopped(struct module *m)
{
    in = *m;
    enter_loop(0);
    YIELD_UNTIL(loops[0].turns > 0);
    while (text_kind((uintptr_t)m->spin) != TEXT_MANAGED) {
        uint64_t turns = loops[0].turns;
        YIELD_UNTIL(loops[0].turns != turns);
    }
    end_loops(1);
}

/* Asks until it has been refused so often. */
static void *until_refused(void *vn)
{
    uint64_t n = (uintptr_t)vn, r;
    do {
        struct tarn_preempt_stats s = preempt_stats();
        r = s.refused_unmanaged_text + s.refused_unknown_text;
        usleep_os(100);
    } while (r < n);
    loops[0].end = 1;
    return NULL;
}

static void test_stale(void)
{
    int met = 0;
    pthread_t t;
    for (int k = 0; k < 8; k++) {
        struct module m = module_open("original", RTLD_NOW);
        uintptr_t spin = (uintptr_t)m.spin, eh = eh_of(&m);
        if (eh == 0) {
            module_close(&m);
            SKIP("the C library does not say what is loaded");
        }
        spin_until_stopped(&m);
        CHECK_EQ(text_kind(spin), TEXT_MANAGED);
        module_close(&m);
        CHECK_EQ(text_kind(spin), TEXT_UNKNOWN);
        m = module_open("impostor", RTLD_NOW);
        met += (uintptr_t)m.spin == spin && eh_of(&m) == eh;
        CHECK_NE(text_kind((uintptr_t)m.spin), TEXT_MANAGED);
        CHECK_NE(text_kind((uintptr_t)m.count), TEXT_MANAGED);
        /* Nobody is stopped there, however long it is asked. */
        if (k < 2) {
            struct tarn_preempt_stats s = preempt_stats();
            uint64_t injected = s.injected;
            start_thread(&t, until_refused,
                         (void *)(uintptr_t)(s.refused_unmanaged_text +
                                             s.refused_unknown_text + 5));
            loops[0].turns = 0;
            loops[0].end = 0;
            pest_start(PEST_ALL);
            m.spin(&loops[0]);
            uint64_t now = preempt_stats().injected;
            pest_stop();
            tarn_native_call(join_thread, &t);
            if (nprocs == 1)
                CHECK_EQ(now, injected);
            CHECK_NE(text_kind((uintptr_t)m.spin), TEXT_MANAGED);
        }
        module_close(&m);
    }
    CHECK_GT(met, 0);
}

/* --- modules come and go --------------------------------------------------------------- */

static _Atomic bool churn_end;
static _Atomic int churned;

static void *opens_and_closes(void *vseed)
{
    uint64_t rng = seed_of(70 + (uintptr_t)vseed);
    static const char *const others[] = {"original", "impostor", "prologues",
                                         "gcc_O0", "clang_O2"};
    while (!atomic_load(&churn_end)) {
        const char *name = others[below(&rng, ARRAY_LEN(others))];
        struct module m = module_open(name, RTLD_NOW);
        enum text_kind kind = text_kind((uintptr_t)m.spin);
        if (strcmp(name, "impostor") == 0)
            CHECK_NE(kind, TEXT_MANAGED);
        module_close(&m);
        atomic_fetch_add(&churned, 1);
    }
    return NULL;
}

static void test_churn(void)
{
    pthread_t t;
    in = module_open("gcc_O2", RTLD_NOW);
    atomic_store(&churn_end, false);
    atomic_store(&churned, 0);
    for (uintptr_t i = 0; i < 3; i++)
        enter_loop(i);
    pest_start(PEST_ALL);
    start_thread(&t, opens_and_closes, NULL);
    for (int i = 0; i < scaled(12); i++) {
        int n = atomic_load(&churned);
        YIELD_UNTIL(atomic_load(&churned) != n);
        if (i % 3 == 0)
            collect();
        else
            check_wiring();
        /* Meanwhile they go on. */
        uint64_t turns = loops[i % 3].turns;
        YIELD_UNTIL(loops[i % 3].turns != turns);
    }
    atomic_store(&churn_end, true);
    tarn_native_call(join_thread, &t);
    pest_stop();
    end_loops(3);
    module_close(&in);
}

static void body(void)
{
    RUN(test_stopped_after_dlopen);
    RUN(test_deep);
    RUN(test_stale);
    RUN(test_churn);
}

#else

static void test_stopped_after_dlopen(void)
{
    SKIP("loops without calls cannot be stopped in this build");
}

static void body(void)
{
    (void)wg;
    RUN(test_stopped_after_dlopen);
}

#endif

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(body, 1, "delays=50,droppreempt=30");
    gc_run(body, 4, "gcstress=64,checkmark=1,stackmove=1");
    return harness_done();
}

/* tests/test_base_throw.c - how the process ends, messages, error texts.
 */
#include "base/base.h"
#include "base/lock.h"
#include "tarn/defs.h"

#include "tests/harness.h"

#include <pthread.h>
#include <sys/mman.h>

static char out[65536];

static int run(void (*fn)(void))
{
    return harness_child(fn, NULL, out, sizeof out);
}

static bool aborted(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static int occurrences(const char *needle)
{
    int n = 0;
    for (const char *p = out; (p = strstr(p, needle)) != NULL; p++)
        n++;
    return n;
}

static size_t describe(char *buf, size_t len)
{
    return (size_t)snprintf(buf, len, "g=12 m=3 p=1");
}

static void report(void)
{
    tarn_eprintf("report %d\n", 42);
}

/* --- throw --------------------------------------------------------------- */

static void do_throw(void)
{
    base_hooks.describe = describe;
    base_hooks.crash_report = report;
    throw("span %d of %s", 7, "class");
}

static void test_throw(void)
{
    CHECK(aborted(run(do_throw)));
    CHECK(strncmp(out, "tarn: fatal: span 7 of class (", 30) == 0);
    CHECK_STR(out, "test_base_throw.c:");
    CHECK_STR(out, "\n  [g=12 m=3 p=1]\n");
    CHECK_STR(out, "\nreport 42\n");
    /* The trace reaches through the switch of stacks to the C library. */
    CHECK_STR(out, "libc");
    CHECK_GE(occurrences("[0x"), 4);
    CHECK(strstr(out, "[g=12") < strstr(out, "[0x"));
    CHECK(strstr(out, "[0x") < strstr(out, "report 42"));
}

static void do_bare_throw(void)
{
    throw("bare");
}

static void test_throw_without_hooks(void)
{
    CHECK(aborted(run(do_bare_throw)));
    CHECK_STR(out, "tarn: fatal: bare (");
    CHECK_STR(out, "[0x");
}

static void do_assert(void)
{
    int volatile two = 2;
    ASSERT(two + 1 == 4);
}

static void test_assertion_text(void)
{
    CHECK(aborted(run(do_assert)));
    CHECK_STR(out, "tarn: fatal: assertion failed: two + 1 == 4 (");
    CHECK_STR(out, "test_base_throw.c:");
}

static void do_levels(void)
{
    int volatile one = 1;
    DASSERT(one == 1);
    XASSERT(one == 1);
#if TARN_CHECKS >= 3
    XASSERT(one == 2);
#elif TARN_CHECKS >= 2
    XASSERT(one == 2);
    DASSERT(one == 2);
#else
    XASSERT(one == 2);
    DASSERT(one == 2);
    ASSERT(one == 2);
#endif
}

static void test_assertion_levels(void)
{
    CHECK_THROWS(do_levels, NULL, "assertion failed: one == 2");
}

static void on_abort(int sig)
{
    (void)sig;
    _exit(0);
}

static void do_throw_handled(void)
{
    sigset_t all;
    signal(SIGABRT, on_abort);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    throw("not to be caught");
}

static void test_handler_does_not_save_the_process(void)
{
    CHECK(aborted(run(do_throw_handled)));
}

static void rethrow(void)
{
    throw("second");
}

static void do_throw_in_throw(void)
{
    base_hooks.crash_report = rethrow;
    throw("first");
}

static void test_throw_in_throw(void)
{
    CHECK(aborted(run(do_throw_in_throw)));
    CHECK_EQ(occurrences("fatal: first ("), 1);
    CHECK_EQ(occurrences("fatal: second ("), 1);
    /* One line, and nothing after it. */
    CHECK(strchr(strstr(out, "fatal: second"), '\n')[1] == '\0');
}

static size_t describe_fault(char *buf, size_t len)
{
    (void)buf;
    (void)len;
    raise(SIGSEGV);
    return 0;
}

static void do_fault_in_throw(void)
{
    base_hooks.describe = describe_fault;
    base_hooks.crash_report = report;
    throw("first");
}

static void test_fault_in_throw(void)
{
    CHECK(aborted(run(do_fault_in_throw)));
    CHECK_STR(out, "fatal: first (");
    CHECK_EQ(occurrences("(cut short by a fault at 0x"), 1);
    CHECK_STR(out, "[0x");
    CHECK_STR(out, "report 42");
}

static void last_of_all(void)
{
    if (write(STDERR_FILENO, "last words\n", 11) != 11)
        _exit(1);
}

static void last_faults(void)
{
    last_of_all();
    volatile uintptr_t nowhere = 8;
    *(volatile int *)nowhere = 1;
}

static void do_last_words(void)
{
    base_hooks.crash_report = report;
    atomic_store(&base_hooks.last, last_of_all);
    throw("first");
}

static void do_fatal_last_words(void)
{
    atomic_store(&base_hooks.last, last_faults);
    fatal("second");
}

static void test_last_words(void)
{
    CHECK(aborted(run(do_last_words)));
    CHECK_EQ(occurrences("last words\n"), 1);
    CHECK(strstr(out, "report 42") < strstr(out, "last words"));
    int status = run(do_fatal_last_words);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 2);
    CHECK_STR(out, "fatal: second");
    CHECK_EQ(occurrences("last words\n"), 1);
    CHECK_EQ(occurrences("(cut short by a fault at 0x8"), 1);
}

enum { THROWERS = 4 };
static _Atomic int throwers_ready;

static void *throw_together(void *arg)
{
    atomic_fetch_add(&throwers_ready, 1);
    while (atomic_load(&throwers_ready) < THROWERS)
        osyield();
    throw("thrower %d", *(int *)arg);
}

static void do_throw_together(void)
{
    static int ids[THROWERS];
    pthread_t t;
    base_hooks.crash_report = report;
    for (int i = 0; i < THROWERS; i++) {
        ids[i] = i;
        CHECK_EQ(pthread_create(&t, NULL, throw_together, &ids[i]), 0);
    }
    for (;;)
        pause();
}

static void test_concurrent_throws(void)
{
    for (int i = 0; i < 20; i++) {
        CHECK(aborted(run(do_throw_together)));
        CHECK_GE(occurrences("fatal: thrower "), 1);
        /* Whoever was first got to finish. */
        CHECK_EQ(occurrences("report 42\n"), 1);
    }
}

static void do_long_throw(void)
{
    static char big[20000];
    memset(big, 'x', sizeof big - 1);
    throw("%s", big);
}

static void test_long_message_is_cut(void)
{
    CHECK(aborted(run(do_long_throw)));
    CHECK_STR(out, "xxxx...\n");
}

/* --- small and broken stacks --------------------------------------------- */

/* Enters fn on a stack whose outermost frame has a return address of `bottom`,
 * which is what unwinding sees at its end. */
__attribute__((noreturn)) static void enter_stack(void (*fn)(void), char *top,
                                                  uintptr_t bottom)
{
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - 1;
    *sp = bottom;
    __asm__ volatile("movq %0, %%rsp\n"
                     "xorl %%ebp, %%ebp\n"
                     "jmp *%1\n"
                     :
                     : "r"(sp), "r"(fn)
                     : "memory");
    __builtin_unreachable();
}

/* What throw promises to get by with; sanitizers call out on the way to it. */
#define SMALL_STACK (TARN_ASAN || TARN_TSAN ? 64 * KiB : 2 * KiB)

/* The end of SMALL_STACK bytes just above a guard, and below another if its end
 * is to be at a guard too. */
static char *stack_top(bool at_guard)
{
    size_t size = ALIGN_UP(SMALL_STACK, 4096);
    char *p =
        mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    CHECK_EQ(mprotect(p + 4096, size, PROT_READ | PROT_WRITE), 0);
    return p + 4096 + (at_guard ? size : SMALL_STACK);
}

static void do_throw_small_stack(void)
{
    base_hooks.describe = describe;
    base_hooks.crash_report = report;
    enter_stack(do_throw, stack_top(false), 0);
}

static void do_throw_broken_stack(void)
{
    base_hooks.describe = describe;
    base_hooks.crash_report = report;
    /* A return into the middle of this file with nothing above the frame:
     * unwinding goes on into the guard page. */
    enter_stack(do_throw, stack_top(true) - 8, (uintptr_t)do_throw + 8);
}

static void do_throw_garbage_stack(void)
{
    base_hooks.describe = describe;
    base_hooks.crash_report = report;
    enter_stack(do_throw, stack_top(true) - 64, 0x123456789abcdef0);
}

static void test_throw_on_odd_stacks(void)
{
    static void (*const fns[])(void) = {
        do_throw_small_stack, do_throw_broken_stack, do_throw_garbage_stack};
    for (size_t i = 0; i < sizeof fns / sizeof fns[0]; i++) {
        CHECK(aborted(run(fns[i])));
        CHECK_STR(out, "tarn: fatal: span 7 of class (");
        CHECK_STR(out, "[g=12 m=3 p=1]\n");
        CHECK_GE(occurrences("[0x"), 3); /* what there was before the end */
        CHECK_STR(out, "report 42\n");
    }
}

/* --- fatal --------------------------------------------------------------- */

static void do_fatal(void)
{
    base_hooks.describe = describe;
    fatal("all goroutines are asleep - %s!", "deadlock");
}

static void test_fatal(void)
{
    int status = run(do_fatal);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 2);
    CHECK_STR(out, "tarn: fatal: all goroutines are asleep - deadlock!\n");
    CHECK_STR(out, "[g=12 m=3 p=1]\n");
    CHECK_EQ(occurrences("[0x"), 0);
}

/* --- messages ------------------------------------------------------------ */

static void do_eprintf(void)
{
    errno = 55;
    tarn_eprintf("%d %s %5.2f|%-4u|%#llx %zu%%\n", -3, "text", 2.5, 7u,
                 0xabcULL, sizeof(int));
    CHECK_EQ(errno, 55);
}

static void test_eprintf(void)
{
    CHECK_EQ(run(do_eprintf), 0);
    CHECK_EQ(strcmp(out, "-3 text  2.50|7   |0xabc 4%\n"), 0);
}

enum { PRINTERS = 4, LINES = 200 };

static void *print_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        tarn_eprintf("<%d %d>\n", *(int *)arg, i);
    return NULL;
}

static void do_print_lines(void)
{
    static int ids[PRINTERS];
    pthread_t t[PRINTERS];
    for (int i = 0; i < PRINTERS; i++) {
        ids[i] = i;
        CHECK_EQ(pthread_create(&t[i], NULL, print_lines, &ids[i]), 0);
    }
    for (int i = 0; i < PRINTERS; i++)
        pthread_join(t[i], NULL);
}

static void test_eprintf_lines_stay_whole(void)
{
    CHECK_EQ(run(do_print_lines), 0);
    int next[PRINTERS] = {0};
    int lines = 0;
    for (char *p = out; *p != '\0'; lines++) {
        int id, i, used = 0;
        CHECK_EQ(sscanf(p, "<%d %d>\n%n", &id, &i, &used), 2);
        CHECK(id >= 0 && id < PRINTERS && used > 0);
        CHECK_EQ(i, next[id]);
        next[id]++;
        p += used;
    }
    CHECK_EQ(lines, PRINTERS * LINES);
}

static _Atomic int signals_seen;

static void print_in_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&signals_seen, 1);
    tarn_eprintf("signal\n");
    set_error("in a signal");
}

static void *print_until_signalled(void *arg)
{
    (void)arg;
    while (atomic_load(&signals_seen) < 200) {
        tarn_eprintf("%s\n", "line");
        set_error("%s", "outside");
    }
    return NULL;
}

static void do_print_and_signal(void)
{
    pthread_t t;
    signal(SIGUSR1, print_in_signal);
    CHECK_EQ(pthread_create(&t, NULL, print_until_signalled, NULL), 0);
    /* Each is seen before the next is sent, so none merge. */
    for (int i = 0; i < 200; i++) {
        pthread_kill(t, SIGUSR1);
        while (atomic_load(&signals_seen) <= i)
            osyield();
    }
    pthread_join(t, NULL);
}

static void test_eprintf_in_signal_handler(void)
{
    CHECK_EQ(run(do_print_and_signal), 0);
    CHECK_STR(out, "signal\n");
}

/* --- error texts --------------------------------------------------------- */

static char hook_buffer[ERROR_TEXT_SIZE];
static bool hook_answers;

static char *buffer_hook(void)
{
    return hook_answers ? hook_buffer : NULL;
}

static void *other_thread(void *arg)
{
    (void)arg;
    CHECK_EQ(strcmp(tarn_last_error(), ""), 0);
    set_error("other %d", 1);
    CHECK_EQ(strcmp(tarn_last_error(), "other 1"), 0);
    return NULL;
}

static void test_error_text(void)
{
    pthread_t t;
    set_error("option %s: %d", "x", 5);
    CHECK_EQ(strcmp(tarn_last_error(), "option x: 5"), 0);
    CHECK_EQ(pthread_create(&t, NULL, other_thread, NULL), 0);
    pthread_join(t, NULL);
    CHECK_EQ(strcmp(tarn_last_error(), "option x: 5"), 0);

    char big[1000];
    memset(big, 'y', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    errno = 66;
    set_error("%s", big);
    CHECK_EQ(errno, 66);
    CHECK_EQ(strlen(tarn_last_error()), ERROR_TEXT_SIZE - 1ul);
}

static void test_error_buffer_hook(void)
{
    error_buffer_hook = buffer_hook;
    hook_answers = false;
    set_error("thread's");
    hook_answers = true;
    set_error("hook's");
    CHECK(tarn_last_error() == hook_buffer);
    CHECK_EQ(strcmp(hook_buffer, "hook's"), 0);
    hook_answers = false;
    CHECK_EQ(strcmp(tarn_last_error(), "thread's"), 0);
    error_buffer_hook = NULL;
}

static void test_status_names(void)
{
    CHECK_EQ(strcmp(tarn_status_name(TARN_OK), "TARN_OK"), 0);
    CHECK_EQ(strcmp(tarn_status_name(TARN_ESYS), "TARN_ESYS"), 0);
    for (int s = TARN_OK; s <= TARN_ESYS; s++)
        for (int k = TARN_OK; k < s; k++)
            CHECK(strcmp(tarn_status_name((tarn_status)s),
                         tarn_status_name((tarn_status)k)) != 0);
    CHECK_EQ(strcmp(tarn_status_name((tarn_status)99), "unknown status"), 0);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_throw);
    RUN(test_throw_without_hooks);
    RUN(test_assertion_text);
    RUN(test_assertion_levels);
    RUN(test_handler_does_not_save_the_process);
    RUN(test_throw_in_throw);
    RUN(test_fault_in_throw);
    RUN(test_last_words);
    RUN(test_concurrent_throws);
    RUN(test_long_message_is_cut);
    RUN(test_throw_on_odd_stacks);
    RUN(test_fatal);
    RUN(test_eprintf);
    RUN(test_eprintf_lines_stay_whole);
    RUN(test_eprintf_in_signal_handler);
    RUN(test_error_text);
    RUN(test_error_buffer_hook);
    RUN(test_status_names);
    return harness_done();
}

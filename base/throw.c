/* base/throw.c - messages to stderr, error texts, and ending the process.
 *
 * Formatting takes 2 KiB of stack (3 KiB while the dynamic linker binds the
 * call) and unwinding more, which a goroutine stack need not have. So all of it
 * runs on static stacks: one for messages, one for error texts, one for the
 * thread that brings the process down.
 *
 * Invariants
 *  1. The message stack and buffer belong to the thread that set `busy`, as do
 *     the error text stack and its own flag. A signal handler that interrupts
 *     their owner formats on the stack it is on.
 *  2. The crash stack and buffer belong for ever to the one thread whose id is
 *     in crash_thread. Nothing on its way waits for another thread.
 *  3. The message is out before anything is tried that may fault; a fault in
 *     one step of the crash continues with the next step.
 *
 * Locks: none; the two flags spin.
 */
#include "base/base.h"
#include "tarn/defs.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SIDE_STACK_SIZE = 16 << 10,
    CRASH_STACK_SIZE = 64 << 10,
    TEXT_SIZE = 4096,
    TRACE_DEPTH = 64,
    CRASH_PATIENCE_US = 10 * 1000 * 1000,
};

struct base_hooks base_hooks;
char *(*_Atomic error_buffer_hook)(void);

/* --- side stacks ------------------------------------------------------- */

/* Calls fn(arg) on the stack that ends at top. Unwinds: the caller's frame is
 * found through rbp. */
void base_call_on_stack(void (*fn)(void *), void *arg, void *top)
    __attribute__((visibility("hidden")));
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl base_call_on_stack\n"
        ".hidden base_call_on_stack\n"
        ".type base_call_on_stack, @function\n"
        "base_call_on_stack:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    pushq %rbp\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset %rbp, -16\n"
        "    movq %rsp, %rbp\n"
        "    .cfi_def_cfa_register %rbp\n"
        "    movq %rdx, %rsp\n"
        "    movq %rdi, %rax\n"
        "    movq %rsi, %rdi\n"
        "    call *%rax\n"
        "    movq %rbp, %rsp\n"
        "    popq %rbp\n"
        "    .cfi_def_cfa %rsp, 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size base_call_on_stack, .-base_call_on_stack\n"
        ".popsection\n");

struct side {
    _Atomic bool busy;
    CACHE_ALIGNED char stack[SIDE_STACK_SIZE];
};

static struct {
    struct side print, error;
} sides;
static char print_text[TEXT_SIZE]; /* sides.print.busy */

/* This thread is on a side stack: what a signal handler on top of it must not
 * wait for. */
static __thread volatile bool on_side
    __attribute__((tls_model("initial-exec")));

static void side_call(struct side *s, void (*fn)(void *), void *arg)
{
    on_side = true;
    while (atomic_exchange_explicit(&s->busy, true, memory_order_acquire))
        osyield();
    base_call_on_stack(fn, arg, s->stack + sizeof s->stack);
    atomic_store_explicit(&s->busy, false, memory_order_release);
    on_side = false;
}

/* --- messages ---------------------------------------------------------- */

struct text {
    const char *prefix, *fmt;
    va_list *ap;
    const char *file; /* NULL: no "(file:line)" */
    int line;
    char *buf;
    size_t len;
    bool newline; /* the text has to be one line of its own */
};

static void write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(STDERR_FILENO, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return; /* there is nobody to tell */
        p += w;
        n -= (size_t)w;
    }
}

/* Adds to buf what fits; returns the new length, always < size. */
PRINTF_LIKE(4, 0)
static size_t append(char *buf, size_t size, size_t n, const char *fmt,
                     va_list ap)
{
    int r = vsnprintf(buf + n, size - n, fmt, ap);
    if (r < 0)
        return n;
    return (size_t)r < size - n ? n + (size_t)r : size - 1;
}

PRINTF_LIKE(4, 5)
static size_t appendf(char *buf, size_t size, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    n = append(buf, size, n, fmt, ap);
    va_end(ap);
    return n;
}

static void print_text_on_this_stack(void *arg)
{
    struct text *t = arg;
    size_t n = appendf(t->buf, t->len, 0, "%s", t->prefix);
    n = append(t->buf, t->len, n, t->fmt, *t->ap);
    if (t->file != NULL)
        n = appendf(t->buf, t->len, n, " (%s:%d)", t->file, t->line);
    if (t->newline)
        n = appendf(t->buf, t->len, n, "\n");
    if (n == t->len - 1) /* cut */
        memcpy(t->buf + n - 4, "...\n", 4);
    write_all(t->buf, n);
}

/* Not inlined: the ordinary way has no room for such a buffer. */
NOINLINE static void print_nested(struct text *t)
{
    char small[512];
    t->buf = small;
    t->len = sizeof small;
    print_text_on_this_stack(t);
}

/* On the message stack, or, inside a signal handler that interrupted its owner,
 * here. */
static void print(struct text *t)
{
    int saved = errno;
    if (!on_side) {
        t->buf = print_text;
        t->len = sizeof print_text;
        side_call(&sides.print, print_text_on_this_stack, t);
    } else {
        print_nested(t);
    }
    errno = saved;
}

void tarn_eprintf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(&(struct text){.prefix = "", .fmt = fmt, .ap = &ap});
    va_end(ap);
}

/* --- crash ------------------------------------------------------------- */

enum crash_step {
    STEP_MESSAGE,
    STEP_DESCRIBE,
    STEP_UNWIND,
    STEP_TRACE,
    STEP_REPORT,
    STEP_LAST,
    STEP_END
};

static _Atomic int32_t crash_thread;
static CACHE_ALIGNED char crash_stack[CRASH_STACK_SIZE];
static char crash_text[TEXT_SIZE];
static void *crash_pc[TRACE_DEPTH + 1]; /* up to a NULL */
static enum crash_step crash_step;
static _Atomic bool crash_traces; /* throw, not fatal */

__attribute__((constructor)) static void load_unwinder(void)
{
    /* The first call loads libgcc_s, which takes the heap and locks. */
    void *pc[2];
    backtrace(pc, 2);
}

__attribute__((noreturn)) static void end_process(void)
{
    if (!crash_traces)
        _exit(2);
    /* A handler of the program's must not turn the end into something else. */
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void crash_describe(void)
{
    if (base_hooks.describe == NULL)
        return;
    char *buf = crash_text;
    memcpy(buf, "  [", 3);
    size_t room = sizeof crash_text - 5;
    size_t n = base_hooks.describe(buf + 3, room);
    n = 3 + (n < room ? n : room);
    memcpy(buf + n, "]\n", 2);
    write_all(buf, n + 2);
}

/* Two steps, so that what was found before a fault in the first is printed. */
static void crash_unwind(void)
{
    backtrace(crash_pc, TRACE_DEPTH);
}

static void crash_trace(void)
{
    int n = 0;
    while (crash_pc[n] != NULL)
        n++;
    backtrace_symbols_fd(crash_pc, n, STDERR_FILENO);
}

/* The remaining steps, beginning with `step`. */
__attribute__((noreturn)) static void crash_from(enum crash_step step)
{
    for (; step < STEP_END; step++) {
        crash_step = step;
        if (step == STEP_DESCRIBE)
            crash_describe();
        else if (step == STEP_UNWIND && crash_traces)
            crash_unwind();
        else if (step == STEP_TRACE && crash_traces)
            crash_trace();
        else if (step == STEP_REPORT && base_hooks.crash_report != NULL)
            base_hooks.crash_report();
        else if (step == STEP_LAST) {
            void (*last)(void) = atomic_load(&base_hooks.last);
            if (last != NULL)
                last();
        }
    }
    end_process();
}

static char *hex(char *p, uintptr_t v)
{
    int digits = 1;
    while (digits < 16 && v >> (4 * digits) != 0)
        digits++;
    *p++ = '0';
    *p++ = 'x';
    while (digits-- > 0)
        *p++ = "0123456789abcdef"[v >> (4 * digits) & 15];
    return p;
}

static void crash_fault(int sig, siginfo_t *info, void *context)
{
    static const char said[] = "  (cut short by a fault at ", of[] = ", pc ";
    if (atomic_load(&crash_thread) != gettid_os()) {
        /* Another thread's fault, while we are dying of something else. */
        for (;;)
            usleep_os(CRASH_PATIENCE_US);
    }
    (void)sig;
    const ucontext_t *uc = context;
    char text[80], *p = text;
    memcpy(p, said, sizeof said - 1);
    p = hex(p + sizeof said - 1, (uintptr_t)info->si_addr);
    memcpy(p, of, sizeof of - 1);
    p = hex(p + sizeof of - 1, (uintptr_t)uc->uc_mcontext.gregs[16] /* RIP */);
    memcpy(p, ")\n", 2);
    write_all(text, (size_t)(p + 2 - text));
    crash_from(crash_step + 1);
}

static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};

/* Before the stack is left: this may be the handler of a fault, and the next
 * signal would begin at the top of the signal stack, over our frames, because
 * the stack pointer is elsewhere. */
static void block_signals(void)
{
    sigset_t block;
    sigfillset(&block);
    sigdelset(&block, SIGABRT);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        sigdelset(&block, faults[i]);
    sigprocmask(SIG_SETMASK, &block, NULL);
}

/* Unwinding reads whatever the frames say, and the hooks whatever structures
 * are in: let a fault in them cost only the step it happens in. Other signals
 * stay out: their handlers do not expect to be on this stack. */
static void guard_crash(void)
{
    struct sigaction sa = {.sa_sigaction = crash_fault,
                           .sa_flags = SA_NODEFER | SA_SIGINFO};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        sigaction(faults[i], &sa, NULL);
}

static void crash_first(void *arg)
{
    struct text *t = arg;
    guard_crash();
    print_text_on_this_stack(t); /* STEP_MESSAGE */
    crash_from(STEP_DESCRIBE);
}

/* A throw or fatal while one is in progress. One line, and the end: at once for
 * the thread that was crashing, and for others after it had time to finish. */
__attribute__((noreturn)) static void crash_again(struct text *t, bool same)
{
    if (same) {
        print_text_on_this_stack(t);
        end_process();
    }
    t->buf = NULL;
    print(t);
    usleep_os(CRASH_PATIENCE_US);
    end_process();
}

__attribute__((noreturn)) static void crash(struct text *t, bool traces)
{
    int32_t me = gettid_os();
    int32_t owner = 0;
    t->prefix = "tarn: fatal: ";
    t->newline = true;
    t->buf = crash_text;
    t->len = sizeof crash_text;
    if (!atomic_compare_exchange_strong(&crash_thread, &owner, me))
        crash_again(t, owner == me);
    crash_traces = traces;
    block_signals();
    base_call_on_stack(crash_first, t, crash_stack + sizeof crash_stack);
    __builtin_unreachable();
}

void throw_(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    crash(&(struct text){.fmt = fmt, .ap = &ap, .file = file, .line = line},
          true);
}

void fatal(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    crash(&(struct text){.fmt = fmt, .ap = &ap}, false);
}

void assert_failed(const char *expr, const char *file, int line)
{
    throw_(file, line, "assertion failed: %s", expr);
}

/* Calls for messages leave their callers' registers there. */
OWN_DATA(sides)
OWN_DATA(crash_stack)

struct own_range own_data[OWN_DATA_MAX];
size_t own_data_count;

void own_data_add(const void *p, size_t n)
{
    ASSERT(own_data_count < OWN_DATA_MAX);
    size_t i = own_data_count++;
    for (; i > 0 && own_data[i - 1].lo > (uintptr_t)p; i--)
        own_data[i] = own_data[i - 1];
    own_data[i] = (struct own_range){(uintptr_t)p, (uintptr_t)p + n};
}

bool on_side_stack(const void *p)
{
    uintptr_t a = (uintptr_t)p;
    return a - (uintptr_t)&sides < sizeof sides ||
           a - (uintptr_t)crash_stack < sizeof crash_stack;
}

/* --- error texts ------------------------------------------------------- */

static __thread char thread_error[ERROR_TEXT_SIZE]
    __attribute__((tls_model("initial-exec")));

static char *error_buffer(void)
{
    /* Threads may be refused while tarn_main starts. */
    char *(*hook)(void) =
        atomic_load_explicit(&error_buffer_hook, memory_order_acquire);
    char *b = hook != NULL ? hook() : NULL;
    return b != NULL ? b : thread_error;
}

static void format_error(void *arg)
{
    struct text *t = arg;
    append(t->buf, t->len, 0, t->fmt, *t->ap);
}

void set_error(const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    struct text t = {
        .fmt = fmt, .ap = &ap, .buf = error_buffer(), .len = ERROR_TEXT_SIZE};
    if (!on_side)
        side_call(&sides.error, format_error, &t);
    else
        format_error(&t);
    va_end(ap);
    errno = saved;
}

const char *tarn_last_error(void)
{
    return error_buffer();
}

const char *tarn_status_name(tarn_status s)
{
    switch (s) {
    case TARN_OK:
        return "TARN_OK";
    case TARN_EINVAL:
        return "TARN_EINVAL";
    case TARN_ENOMEM:
        return "TARN_ENOMEM";
    case TARN_EOVERFLOW:
        return "TARN_EOVERFLOW";
    case TARN_ESTATE:
        return "TARN_ESTATE";
    case TARN_ECLOSED:
        return "TARN_ECLOSED";
    case TARN_EAGAIN:
        return "TARN_EAGAIN";
    case TARN_ELIMIT:
        return "TARN_ELIMIT";
    case TARN_EOPTION:
        return "TARN_EOPTION";
    case TARN_ESYS:
        return "TARN_ESYS";
    }
    return "unknown status";
}

/* bench/stress_native.c - references held over native calls, and threads that
 * attach. Not managed: it is what native code is. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "bench/stress.h"

void stress_native_nap(void) __attribute__((visibility("hidden")));
void stress_native_nap(void)
{
    /* Thousands that wake all the time would leave nothing to anybody else. */
    static _Atomic int napping;
    int n = atomic_fetch_add(&napping, 1) + 1;
    struct timespec t = {0, n < 1000 ? n * 30000 : 30000000};
    nanosleep(&t, NULL);
    atomic_fetch_sub(&napping, 1);
}

/* hold_native(rdi = slots, rsi = until): on the goroutine's stack. */
/* clang-format off */
__asm__(".text\n"
    ".p2align 4\n"
    ".globl hold_native\n"
    ".hidden hold_native\n"
    ".type hold_native, @function\n"
    "hold_native:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n"
    "pushq %r13\n pushq %r14\n pushq %r15\n"
    "pushq %rdi\n pushq %rsi\n subq $8, %rsp\n"
    "movq 0(%rdi), %rbx\n movq $0, 0(%rdi)\n"
    "movq 8(%rdi), %rbp\n movq $0, 8(%rdi)\n"
    "movq 16(%rdi), %r12\n movq $0, 16(%rdi)\n"
    "movq 24(%rdi), %r13\n movq $0, 24(%rdi)\n"
    "movq 32(%rdi), %r14\n movq $0, 32(%rdi)\n"
    "movq 40(%rdi), %r15\n movq $0, 40(%rdi)\n"
    "call tarn_native_enter\n"
    "1: call stress_native_nap\n"
    "movq stress_epoch(%rip), %rax\n"
    "cmpq 8(%rsp), %rax\n"
    "jb 1b\n"
    "call tarn_native_leave\n"
    "movq 16(%rsp), %rdi\n"
    "movq %rbx, 0(%rdi)\n"
    "movq %rbp, 8(%rdi)\n"
    "movq %r12, 16(%rdi)\n"
    "movq %r13, 24(%rdi)\n"
    "movq %r14, 32(%rdi)\n"
    "movq %r15, 40(%rdi)\n"
    "addq $8, %rsp\n popq %rsi\n popq %rdi\n"
    "popq %r15\n popq %r14\n popq %r13\n"
    "popq %r12\n popq %rbx\n popq %rbp\n"
    "ret\n"
    ".size hold_native, . - hold_native\n"

    /* argument_call(rdi = slot, rsi = fn): *slot = tarn_native_call(fn, *slot) */
    ".p2align 4\n"
    ".globl argument_call\n"
    ".hidden argument_call\n"
    ".type argument_call, @function\n"
    "argument_call:\n"
    "pushq %rdi\n"
    "movq %rdi, %rax\n"
    "movq %rsi, %rdi\n"
    "movq (%rax), %rsi\n"
    "movq $0, (%rax)\n"
    "xorl %eax, %eax\n xorl %ecx, %ecx\n xorl %edx, %edx\n"
    "call tarn_native_call\n"
    "popq %rdi\n"
    "movq %rax, (%rdi)\n"
    "xorl %eax, %eax\n"
    "ret\n"
    ".size argument_call, . - argument_call\n");
/* clang-format on */
void argument_call(void **slot, void *(*fn)(void *))
    __attribute__((visibility("hidden")));

static void check_argument(const struct cell *c)
{
    if (c->magic != CELL_MAGIC || c->index != 0 ||
        c->sum != cell_sum(c->id, 0, c->blob_size))
        stress_fail("argument of a native call",
                    "something else is in its place", c->id, c);
}

static void *sit(void *p)
{
    uint64_t end = hold_end();
    check_argument(p);
    while (epoch_now() < end)
        stress_native_nap();
    check_argument(p);
    return p;
}

static void called_back(void *p)
{
    check_argument(p);
    wait_until(epoch_now() + 1, NULL);
    check_argument(p);
}

/* The only reference is the argument of this call, kept for us meanwhile. */
static void *sit_and_call_back(void *p)
{
    check_argument(p);
    tarn_status s = tarn_callback(called_back, p);
    if (s != TARN_OK && s != TARN_ESTATE)
        stress_fail("tarn_callback", tarn_last_error(), 0, NULL);
    return sit(p);
}

void hold_native_call(void **slot, bool callback)
{
    argument_call(slot, callback ? sit_and_call_back : sit);
}

/* --- threads ------------------------------------------------------------------- */

struct attached {
    tarn_fn fn;
    void *arg;
};

static void *attached_main(void *va)
{
    struct attached *a = va;
    tarn_status s = tarn_thread_attach();
    if (s == TARN_ELIMIT)
        return NULL;
    if (s != TARN_OK)
        stress_fail("tarn_thread_attach", tarn_last_error(), 0, NULL);
    a->fn(a->arg);
    if (tarn_thread_detach() != TARN_OK)
        stress_fail("tarn_thread_detach", tarn_last_error(), 0, NULL);
    return NULL;
}

static void *run_thread(void *va)
{
    pthread_t t;
    int err = pthread_create(&t, NULL, attached_main, va);
    if (err == EAGAIN)
        return NULL;
    if (err != 0 || (err = pthread_join(t, NULL)) != 0)
        stress_fail("thread", strerror(err), 0, NULL);
    return NULL;
}

void attached_call(tarn_fn fn, void *arg)
{
    struct attached a = {fn, arg};
    tarn_native_call(run_thread, &a);
}

/* bench/micro_runtime.c - micro-benchmarks that need the inside of the runtime,
 * or assembly. */
#include "bench/micro_managed.h"
#include "stackscan/stackscan.h"

/* --- suspend --------------------------------------------------------------- */

struct suspend {
    struct g *self, *target;
    int64_t took;
};

static void suspend_on_g0(void *varg)
{
    struct suspend *s = varg;
    /* Others may wait for this goroutine's stack while we wait for that one. */
    casGToWaiting(s->self, Grunning, WAIT_GC_SELF_SCAN);
    int64_t t = nanotime();
    struct suspendGState st = suspendG(s->target);
    s->took = nanotime() - t;
    resumeG(st);
    casgstatus(s->self, Gwaiting, Grunning);
}

int64_t micro_suspend(tarn_fn fn)
{
    struct suspend s = {getg(), NULL, -1};
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n && s.target == NULL; i++) {
        struct g *gp = allg_at(i);
        if (gp->fn == fn && readgstatus(gp) == Grunning)
            s.target = gp;
    }
    if (s.target != NULL)
        systemstack(suspend_on_g0, &s);
    return s.took;
}

/* --- bare switch ----------------------------------------------------------- */

/* Pushes what a call must keep, leaves the stack pointer in *save and goes on
 * where the one in `to` was left. */
void micro_asm_switch(uintptr_t *save, uintptr_t to);
__asm__(".text\n"
        ".type micro_asm_switch, @function\n"
        ".p2align 4\n"
        "micro_asm_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size micro_asm_switch, . - micro_asm_switch\n");

static uintptr_t here, there;

static __attribute__((noreturn)) void bounce(void)
{
    for (;;)
        micro_asm_switch(&there, here);
}

void micro_switch_stacks(long n)
{
    static uintptr_t stack[1024] CACHE_ALIGNED;
    uintptr_t *sp = stack + ARRAY_LEN(stack) - 1;
    *--sp = (uintptr_t)bounce;
    there = (uintptr_t)(sp - 6);
    for (; n > 0; n -= 2)
        micro_asm_switch(&here, there);
}

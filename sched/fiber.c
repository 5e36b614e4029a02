/* sched/fiber.c - tells AddressSanitizer and ThreadSanitizer of each switch of
 * stacks. Only in their builds; in all others the names below are those of the
 * assembly itself.
 *
 * Each goroutine, and each M's g0, is a "fiber" of the sanitizers. Two things
 * need care:
 *
 *  - AddressSanitizer wants to hear of a switch twice: before it, and first thing
 *    on the other side.
 *  - ThreadSanitizer keeps a call stack for each fiber, pushed and popped where
 *    functions begin and end. Functions on g0 that end in gogo never end, nor do
 *    those that a goroutine exits from. Both go back to the first frame of their
 *    stack by longjmp, which ThreadSanitizer understands, and leave from there.
 *
 * Nothing here may be instrumented itself: it would push on one fiber and pop
 * from another. */
#include "sched/sched.h"

#if TARN_FIBERS

#include <setjmp.h>
#include <stdlib.h>

#if TARN_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if TARN_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* ThreadSanitizer ends the process when it has more threads and fibers than
 * 8128; dead ones count for a while. */
#define MAX_FIBERS 8000

void asm_mcall(void (*fn)(struct g *gp));
void asm_systemstack(void (*fn)(void *arg), void *arg);
void asm_gogo(struct g *gp) __attribute__((noreturn));
void call_on_goroutine(struct g *gp, void (*body)(void *), void *c);
void asm_call_on_goroutine(struct g *gp, void (*body)(void *), void *c);
void asm_mstart_call(struct m *mp, void (*fn)(void));
void asm_mstart_return(struct m *mp) __attribute__((noreturn));

/* Of a goroutine or g0, at g->fiber; made at first use and kept, as Gs are. */
struct fiber {
    void *tsan;
    void *fake_stack;
    /* The stack's first frame. */
    jmp_buf base;
    /* To call on g0; a goroutine's: when it is back at base, to die. */
    void (*fn)(struct g *gp);
    /* g0 only: what AddressSanitizer takes for the stack; what to call first;
     * whom to run when back at base, or NULL to return. */
    const void *bottom;
    size_t size;
    void (*start)(void);
    struct g *next;
    /* Goroutines only. */
    struct start_pair body;
};

static struct fiber *new_fiber(void)
{
    /* Not sys_alloc: no part of what tests of exhausted memory are about. */
    struct fiber *f = calloc(1, sizeof(*f));
    if (f == NULL)
        throw("out of memory for a sanitizer's fiber");
#if TARN_ASAN
    /* Only records of goroutines and threads point there, which it does not search. */
    __lsan_ignore_object(f);
#endif
    return f;
}

/* --- announcing ------------------------------------------------------------ */

/* Before the switch to a stack; save is NULL where nobody will come back. */
NO_SANITIZE static void asan_leave(void **save, const void *bottom, size_t size)
{
#if TARN_ASAN
    __sanitizer_start_switch_fiber(save, bottom, size);
#else
    (void)save, (void)bottom, (void)size;
#endif
}

NO_SANITIZE static void asan_arrive_on_g0(void)
{
#if TARN_ASAN
    struct fiber *f = getg()->fiber;
    __sanitizer_finish_switch_fiber(f->fake_stack, NULL, NULL);
#endif
}

/* We come from g0: the sanitizer tells us where that one's stack is. */
NO_SANITIZE static void asan_arrive_on_goroutine(void)
{
#if TARN_ASAN
    struct g *gp = getg();
    struct fiber *f = gp->fiber, *f0 = gp->m->g0->fiber;
    __sanitizer_finish_switch_fiber(f->fake_stack, &f0->bottom, &f0->size);
#endif
}

NO_SANITIZE static void tsan_switch(struct fiber *f)
{
#if TARN_TSAN
    /* With synchronisation: what one goroutine leaves in its M's fields is
     * there for the next one. */
    __tsan_switch_to_fiber(f->tsan, 0);
#else
    (void)f;
#endif
}

/* --- g0 ------------------------------------------------------------------------ */

NO_SANITIZE void fiber_thread(struct m *mp)
{
#if TARN_ASAN
    if (__asan_get_current_fake_stack() != NULL)
        fatal(
            "AddressSanitizer's detect_stack_use_after_return takes variables "
            "off the stacks, where the collector does not look: put "
            "detect_stack_use_after_return=0 into ASAN_OPTIONS");
#endif
    if (mp->g0->fiber == NULL)
        mp->g0->fiber = new_fiber();
#if TARN_TSAN
    ((struct fiber *)mp->g0->fiber)->tsan = __tsan_get_current_fiber();
#endif
}

/* At the base of g0, which has found something to run. */
__attribute__((noreturn)) NO_SANITIZE static void depart(void)
{
    struct fiber *f0 = getg()->fiber;
    struct g *gp = f0->next;
    if (gp == NULL)
        asm_mstart_return(getg()->m);
    struct fiber *f = gp->fiber;
    if (f == NULL) {
        f = gp->fiber = new_fiber();
#if TARN_TSAN
        static _Atomic uint32_t fibers;
        if (atomic_fetch_add(&fibers, 1) >= MAX_FIBERS)
            fatal("more than %d goroutines at a time, which is more than "
                  "ThreadSanitizer can follow",
                  MAX_FIBERS);
        f->tsan = __tsan_create_fiber(0);
#endif
    }
    asan_leave(&f0->fake_stack, (const void *)gp->stack.lo,
               gp->stack.hi - gp->stack.lo);
    tsan_switch(f);
    asm_gogo(gp);
}

NO_SANITIZE void gogo(struct g *gp)
{
    struct fiber *f0 = getg()->fiber;
    f0->next = gp;
    longjmp(f0->base, 1);
}

NO_SANITIZE void mstart_return(struct m *mp)
{
    struct fiber *f0 = mp->g0->fiber;
    f0->next = NULL;
    longjmp(f0->base, 1);
}

NO_SANITIZE static void base_of_start(void)
{
    struct fiber *f0 = getg()->fiber;
    if (_setjmp(f0->base) == 0)
        f0->start();
    depart();
}

NO_SANITIZE void mstart_call(struct m *mp, void (*fn)(void))
{
    ((struct fiber *)mp->g0->fiber)->start = fn;
    asm_mstart_call(mp, base_of_start);
}

/* --- from a goroutine to g0 and back ---------------------------------------- */

NO_SANITIZE static void base_of_mcall(struct g *gp)
{
    asan_arrive_on_g0();
    struct fiber *f0 = getg()->fiber;
    if (_setjmp(f0->base) == 0)
        f0->fn(gp);
    depart();
}

NO_SANITIZE static void leave(struct g *gp, void (*fn)(struct g *), bool dying)
{
    struct fiber *f = gp->fiber, *f0 = gp->m->g0->fiber;
    f0->fn = fn;
    f->fake_stack = NULL;
    asan_leave(dying ? NULL : &f->fake_stack, f0->bottom, f0->size);
    tsan_switch(f0);
    asm_mcall(base_of_mcall);
    asan_arrive_on_goroutine();
}

NO_SANITIZE void mcall(void (*fn)(struct g *gp))
{
    struct g *gp = getg();
    if (fn == goexit0 || fn == main_exit_m) {
        struct fiber *f = gp->fiber;
#if TARN_ASAN
        /* The functions that it is in will not clean up behind themselves. */
        uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
        __asan_unpoison_memory_region((const void *)sp, gp->stack.hi - sp);
#endif
        f->fn = fn;
        longjmp(f->base, 1);
    }
    leave(gp, fn, false);
}

struct call {
    void (*fn)(void *);
    void *arg;
    struct g *gp;
};

NO_SANITIZE static void call_on_g0(void *vcall)
{
    struct call *c = vcall;
    asan_arrive_on_g0();
    c->fn(c->arg);
    struct fiber *f0 = getg()->fiber;
    asan_leave(&f0->fake_stack, (const void *)c->gp->stack.lo,
               c->gp->stack.hi - c->gp->stack.lo);
}

NO_SANITIZE void systemstack(void (*fn)(void *arg), void *arg)
{
    struct g *gp = getg();
    if (gp == gp->m->g0) {
        fn(arg);
        return;
    }
    struct fiber *f = gp->fiber, *f0 = gp->m->g0->fiber;
    struct call c = {fn, arg, gp};
    asan_leave(&f->fake_stack, f0->bottom, f0->size);
    tsan_switch(f0);
    asm_systemstack(call_on_g0, &c);
    tsan_switch(f);
    asan_arrive_on_goroutine();
}

/* --- from native code on g0 to a goroutine and back ---------------------------- */

struct up_call {
    void (*body)(void *);
    void *c;
    struct g *gp;
};

NO_SANITIZE static void call_up(void *vu)
{
    struct up_call *u = vu;
    struct g *gp = u->gp;
#if TARN_ASAN
    struct fiber *f = gp->fiber, *f0 = gp->m->g0->fiber;
    __sanitizer_finish_switch_fiber(f->fake_stack, &f0->bottom, &f0->size);
#endif
    u->body(u->c);
#if TARN_ASAN
    asan_leave(&f->fake_stack, f0->bottom, f0->size);
#endif
    (void)gp;
}

NO_SANITIZE void call_on_goroutine(struct g *gp, void (*body)(void *), void *c)
{
    struct fiber *f = gp->fiber, *f0 = gp->m->g0->fiber;
    struct up_call u = {body, c, gp};
    asan_leave(&f0->fake_stack, (const void *)gp->stack.lo,
               gp->stack.hi - gp->stack.lo);
    tsan_switch(f);
    asm_call_on_goroutine(gp, call_up, &u);
    tsan_switch(f0);
#if TARN_ASAN
    __sanitizer_finish_switch_fiber(f0->fake_stack, NULL, NULL);
#endif
}

/* --- threads that we did not make -------------------------------------------------- */

/* By the thread itself: its own stack is gp's, mp's g0 has another. */
NO_SANITIZE void fiber_foreign(struct m *mp, struct g *gp)
{
    struct fiber *f0 = mp->g0->fiber, *f = gp->fiber;
    if (f0 == NULL) {
        f0 = mp->g0->fiber = new_fiber();
        f0->bottom = (const void *)mp->g0->stack.lo;
        f0->size = mp->g0->stack.hi - mp->g0->stack.lo;
#if TARN_TSAN
        f0->tsan = __tsan_create_fiber(0);
#endif
    }
    if (f == NULL)
        f = gp->fiber = new_fiber();
#if TARN_TSAN
    f->tsan = __tsan_get_current_fiber();
#endif
}

/* --- a goroutine's first frame ------------------------------------------------ */

NO_SANITIZE static void base_of_goroutine(void *unused)
{
    (void)unused;
    if (_setjmp(((struct fiber *)getg()->fiber)->base) == 0) {
        const struct start_pair *b = &((struct fiber *)getg()->fiber)->body;
        b->fn(b->arg);
        goexit1();
    }
    leave(getg(), ((struct fiber *)getg()->fiber)->fn, true);
    __builtin_unreachable();
}

NO_SANITIZE struct start_pair fiber_begin(struct start_pair body)
{
    asan_arrive_on_goroutine();
    struct fiber *f = getg()->fiber;
    f->body = body;
    return (struct start_pair){base_of_goroutine, NULL};
}

#endif

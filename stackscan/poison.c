/* stackscan/poison.c - what shows that a stack was used that may not be.
 *
 * Debug builds fill the lowest bytes of a copying stack, below everything that
 * may run in the guard zone, and look at them whenever the stack changes hands.
 * Option stackpoison keeps a stack that a goroutine has left from all use for a
 * while: closed, so that a pointer that was not adjusted faults. */
#include "base/options.h"
#include "base/vm.h"
#include "stackscan/stackmem.h"

#define GUARD_BYTE 0xfd
#define QUARANTINE 64u

void stack_poison_guard(struct g *gp)
{
    if (STACK_POISONED != 0 && gp->kind == STACK_COPYING)
        memset((void *)gp->stack.lo, GUARD_BYTE, STACK_POISONED);
}

void stack_check_guard(const struct g *gp)
{
    if (STACK_POISONED == 0 || gp->kind != STACK_COPYING || gp->stack.lo == 0 ||
        gp->resume & RESUME_THAW)
        return;
    const uint8_t *p = (const uint8_t *)gp->stack.lo;
    for (size_t i = STACK_POISONED; i-- > 0;)
        if (unlikely(p[i] != GUARD_BYTE))
            throw("goroutine %llu has used all of its stack's guard zone: "
                  "something wrote at %p, %zu bytes above its end, %zu below "
                  "the guard",
                  (unsigned long long)gp->goid, (const void *)(p + i), i,
                  stack_guard - i);
}

static struct {
    struct mutex lock;
    struct stack s[QUARANTINE];
    uint32_t next;
} quarantine = {.lock = MUTEX_INIT(STACKPOOL)};

bool stack_quarantine(struct stack *s)
{
    memset((void *)(s->hi - OS_PAGE), STACK_POISON_BYTE, OS_PAGE);
    if (!vm_guard((void *)s->lo, s->hi - s->lo))
        return true; /* too many mappings: at least it is overwritten */
    lock(&quarantine.lock);
    struct stack *at = &quarantine.s[quarantine.next++ % QUARANTINE];
    struct stack out = *at;
    *at = *s;
    unlock(&quarantine.lock);
    /* Whose memory cannot be opened again is lost to stacks. */
    if (out.lo == 0 || !vm_commit((void *)out.lo, out.hi - out.lo))
        return false;
    *s = out;
    return true;
}

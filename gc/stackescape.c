/* gc/stackescape.c - looks for words that point into a copying stack from where
 * no move would find them, with the world stopped.
 *
 * In the heap and in globals such a word is a breach of the contract of copying
 * stacks, and the end of the program: only stores put words there. In the stack
 * of another goroutine it may be dead: a frame that is gone has left it, and one
 * that is there now has not written over it. The runtime itself leaves such
 * words, whenever it moves an element from stack to stack. So that is told, and
 * no more.
 *
 * The buffer of a channel is nearly as bad: elements are copied from stacks with
 * the padding in them. Only where an element is one word is that word a pointer
 * that somebody sent.
 *
 * A frozen goroutine has no stack now; who has that of before is in the list. A
 * goroutine in a native call is left out: its stack stands still until it is
 * back, and native code may keep what it was given for as long. */
#include <stdio.h>
#include <stdlib.h>

#include "base/symbol.h"
#include "base/sysmem.h"
#include "gc/gc.h"
#include "sched/chan.h"

#define MAX_REPORTS 20

struct target {
    uintptr_t sp, hi;
    uint64_t goid;
};

struct escape {
    struct target *t; /* sorted, apart */
    size_t n;
    uintptr_t lo, hi; /* all of them lie in here */
    uint32_t breaches, reports;
    /* Where the words under examination stand. */
    const struct objinfo *holder;
    const char *what; /* NULL: in the holder */
    uint64_t id;
};

static const struct target *find(const struct escape *e, uintptr_t v)
{
    if (v - e->lo >= e->hi - e->lo)
        return NULL;
    size_t lo = 0, hi = e->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (v < e->t[mid].sp)
            hi = mid;
        else if (v >= e->t[mid].hi)
            lo = mid + 1;
        else
            return &e->t[mid];
    }
    return NULL;
}

static bool in_stack(const struct escape *e)
{
    return e->holder == NULL && strncmp(e->what, "stack", 5) == 0;
}

/* In an element of a channel that is more than this word? */
static bool in_element(const struct escape *e, uintptr_t slot)
{
    const struct objinfo *o = e->holder;
    if (o == NULL || o->span->type != NULL ||
        o->span->layout != LAYOUT_CONSERVATIVE || o->size < HCHAN_HEADER)
        return false;
    const struct hchan *c = (const struct hchan *)o->base;
    return c->sig == HCHAN_SIG && c->elemsize > sizeof(void *) &&
           slot - o->base - HCHAN_HEADER < c->dataqsiz * c->stride;
}

static void report(struct escape *e, uintptr_t v, uintptr_t slot,
                   const struct target *t, const char *doubt)
{
    char where[256];
    if (e->reports++ >= MAX_REPORTS)
        return;
    if (e->holder != NULL && e->holder->span->layout == LAYOUT_TRACED)
        snprintf(where, sizeof where,
                 "object %#lx (%zu bytes, type %s), by its trace function,",
                 (unsigned long)e->holder->base, e->holder->size,
                 object_type_name(e->holder));
    else if (e->holder != NULL)
        snprintf(where, sizeof where,
                 "slot %#lx, offset %zu of object %#lx (%zu bytes, type %s),",
                 (unsigned long)slot, (size_t)(slot - e->holder->base),
                 (unsigned long)e->holder->base, e->holder->size,
                 object_type_name(e->holder));
    else if (strcmp(e->what, "data segment") == 0) {
        char name[200];
        symbol_at(slot, name, sizeof name);
        snprintf(where, sizeof where, "slot %s in a %s", name, e->what);
    } else
        snprintf(where, sizeof where, "slot %#lx in %s %llu",
                 (unsigned long)slot, e->what, (unsigned long long)e->id);
    tarn_eprintf("stackescape: %s points into the stack of goroutine %llu: "
                 "%#lx, %zu bytes below its top%s\n",
                 where, (unsigned long long)t->goid, (unsigned long)v,
                 (size_t)(t->hi - v), doubt);
}

static void look(uintptr_t v, uintptr_t slot, void *ve)
{
    struct escape *e = ve;
    const struct target *t = find(e, v);
    if (likely(t == NULL))
        return;
    const char *doubt = "";
    if (in_stack(e)) {
        if (t->goid == e->id)
            return;
        doubt = " (perhaps a dead word)";
    } else if (in_element(e, slot)) {
        doubt = " (perhaps padding of a channel's element)";
    }
    e->breaches += *doubt == '\0';
    report(e, v, slot, t, doubt);
}

static void look_at_object(const struct objinfo *o, void *ve)
{
    struct escape *e = ve;
    e->holder = o;
    object_each_pointer(o, look, e);
    e->holder = NULL;
}

static NO_SANITIZE void look_at_root(uintptr_t lo, uintptr_t hi,
                                     const char *what, uint64_t id, void *ve)
{
    struct escape *e = ve;
    e->what = what;
    e->id = id;
    for (const uintptr_t *p = (const uintptr_t *)ALIGN_UP(lo, (uintptr_t)8);
         p + 1 <= (const uintptr_t *)hi; p++)
        if (unlikely(*p - e->lo < e->hi - e->lo) && !on_side_stack(p))
            look(*p, (uintptr_t)p, e);
}

static int by_address(const void *a, const void *b)
{
    const struct target *x = a, *y = b;
    return (x->sp > y->sp) - (x->sp < y->sp);
}

/* False: there is none. */
static bool list_targets(struct escape *e)
{
    size_t n = atomic_load(&allglen);
    e->t = sys_alloc(n * sizeof(*e->t) + 1);
    if (e->t == NULL)
        throw("stackescape: out of memory");
    e->lo = UINTPTR_MAX;
    for (size_t i = 0; i < n; i++) {
        struct g *gp = allg_at(i);
        uint32_t s = readgstatus(gp);
        if (gp->kind != STACK_COPYING || s == Gdead || s == Gidle ||
            gp->resume & (RESUME_START | RESUME_THAW) ||
            __atomic_load_n(&gp->syscallsp, __ATOMIC_ACQUIRE) != 0)
            continue;
        struct target t = {gp->sched_sp, gp->stack.hi, gp->goid};
        e->lo = t.sp < e->lo ? t.sp : e->lo;
        e->hi = t.hi > e->hi ? t.hi : e->hi;
        e->t[e->n++] = t;
    }
    qsort(e->t, e->n, sizeof(*e->t), by_address);
    return e->n > 0;
}

void stackescape(void)
{
    struct escape e = {0};
    if (list_targets(&e)) {
        objects_each_live(look_at_object, &e);
        gc_each_root(look_at_root, &e, false);
    }
    /* What takes this memory next may be a place for registers, of which not
     * all is written and all is scanned. */
    memset(e.t, 0, e.n * sizeof(*e.t));
    sys_free(e.t);
    if (e.reports > MAX_REPORTS)
        tarn_eprintf("stackescape: %u more of them\n", e.reports - MAX_REPORTS);
    if (e.breaches != 0)
        throw("stackescape: in cycle %llu, %u words of the heap and of roots "
              "point into copying stacks: the address of a local was stored "
              "where no move can follow it",
              (unsigned long long)gc.cycles_started, e.breaches);
}

/* stackscan/stackmem.h - stack memory, for the files of this folder: see
 * stackmem.c (where stacks come from) and freeze.c (how goroutines do without). */
#ifndef TARN_STACKSCAN_STACKMEM_H_
#define TARN_STACKSCAN_STACKMEM_H_

#include "stackscan/stackscan.h"

#define STACK_CHUNK ((size_t)4 << 20)
/* From this size on a stack is the upper part of a reservation. */
#define STACK_LARGE (STACK_MIN << STACK_ORDERS)
/* Where so many smallest stacks exist, those of goroutines that have long been
 * waiting are taken before more are made. */
#define STACKS_HOT 16384u

/* Invariant: owner[i] is the G whose stack.lo is lo + i * STACK_MIN, or NULL.
 * Written by who makes or frees that stack; read by the clock hand, which looks
 * again under the G's scan bit. */
struct stack_chunk {
    struct stack_chunk *next; /* of stack_chunks; never freed */
    uintptr_t lo;
    int order;
    struct g *_Atomic owner[STACK_CHUNK / STACK_MIN];
};
extern struct stack_chunk *_Atomic stack_chunks;
/* Those of the smallest stacks: so many, and each of them. */
extern _Atomic uint32_t stack_smallest_count;
struct stack_chunk *stack_smallest(uint32_t i);

/* A reservation: the goroutine's stack is its upper part. */
struct large {
    uintptr_t lo, hi;
    uintptr_t lowest; /* as far down as owner's stack has been */
    struct g *owner;
    struct large *next, *prev; /* by the pool's lock */
};

/* Gives gp a copying stack of this size (a power of two): stack and large are
 * set, nothing else. On g0. False: no memory. */
bool stackmem_alloc(struct g *gp, size_t size);
void stackmem_free(struct stack s, struct large *l);
bool stackmem_ready(void); /* a smallest one is to be had here */
/* The same with guard, poison and checkmark's zeroes. */
bool stack_set(struct g *gp, size_t size);
size_t stack_size_for(size_t used);
/* Where gp's stack may have begun. */
ALWAYS_INLINE uintptr_t stack_base(const struct g *gp)
{
    return gp->large != NULL ? gp->large->lowest : gp->stack.lo;
}
/* False: it has to be copied. */
bool stack_grow_in_place(struct g *gp, size_t newsize);
/* A slice towards newsize; true: there is more. The scan bit is held. */
bool stack_shrink_in_place(struct g *gp, size_t newsize);
/* In turn: so many, then from the first again. NULL: there is none. */
uint32_t stack_large_count(void);
struct g *stack_large_next(void);
void stacks_release_idle(void);

/* freeze.c */
/* gp is about to run and has no stack yet, or is frozen. On g0. */
void stack_resume(struct g *gp);
/* Some smallest stacks for this P, if it can. hard: also of who has run lately. */
void stacks_reclaim(bool hard);
/* gp's runtime records that point into [lo, hi) of its stack, shifted. */
void adjust_records(struct g *gp, uintptr_t lo, uintptr_t hi, intptr_t delta);

/* poison.c */
#define STACK_POISON_BYTE 0xfc
void stack_poison_guard(struct g *gp);
/* The stack may be used no more. False: it is kept from use; true: *s, another
 * one that was kept long enough, or s itself, is free. */
bool stack_quarantine(struct stack *s);

#endif

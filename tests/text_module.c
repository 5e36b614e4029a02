/* tests/text_module.c - a module for dlopen: loops that only a signal stops, and a
 * goroutine of its own.
 *
 * With IMPOSTOR it has a note of the same size as that of tarn/managed.h by another
 * name: compiled without that header and without stack checks, everything lies where
 * it does with the header, but no text is managed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef IMPOSTOR
__asm__(".pushsection .note.tarn.text, \"a\", @note\n"
        ".p2align 2\n"
        ".long 5, 64, 1\n"
        ".asciz \"None\"\n"
        ".p2align 2\n"
        ".skip 64\n"
        ".popsection\n");
#endif
#define WHOLE __attribute__((noinline))

struct module_loop {
    volatile uint64_t turns;
    volatile int32_t end;
    int32_t depth;
    volatile uint64_t result; /* of module_enter */
};

extern const char module_name[];
const char module_name[] = MODULE_NAME;

/* No call. Known by its stack check alone, it must have one. */
#ifdef PROLOGUES
WHOLE
#else
__attribute__((noinline, no_split_stack))
#endif
void module_spin(struct module_loop *loop);
void module_spin(struct module_loop *loop)
{
    __asm__ volatile("1: incq %0\n"
                     "cmpl $0, %1\n"
                     "je 1b\n"
                     : "+m"(loop->turns)
                     : "m"(loop->end)
                     : "cc", "memory");
}

/* As compilers make it. */
WHOLE void module_count(struct module_loop *loop);
void module_count(struct module_loop *loop)
{
    while (!loop->end)
        loop->turns++;
}

/* Grows the stack, then counts in the deepest frame. Calls code without stack
 * checks. */
WHOLE uint64_t module_deep(int depth, struct module_loop *loop);
uint64_t module_deep(int depth, struct module_loop *loop)
{
    volatile uint64_t frame[32];
    for (int i = 0; i < 32; i++)
        frame[i] = (uint64_t)(depth + i);
    uint64_t below = 0;
    char text[16];
    snprintf(text, sizeof text, "%d", depth);
    if (atoi(text) != depth)
        return UINT64_MAX;
    if (depth > 0)
        below = module_deep(depth - 1, loop);
    else
        module_count(loop);
    for (int i = 0; i < 32; i++)
        if (frame[i] != (uint64_t)(depth + i))
            return UINT64_MAX;
    return below == UINT64_MAX ? below : below + 1;
}

/* A goroutine that is the module's from its first frame on. */
WHOLE void module_enter(void *loop);
void module_enter(void *vloop)
{
    struct module_loop *loop = vloop;
    loop->result = module_deep(loop->depth, loop);
}

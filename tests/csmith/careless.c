/* tests/csmith/careless.c - what csmith makes, by hand: a program that has the
 * address of a local in a global. The oracle has to name it; when its stack moves
 * it has to go wrong. */
#include "csmith.h"

static int32_t *volatile g_1 = 0;

static __attribute__((noinline)) int32_t func_2(int32_t p_3)
{
    return (int32_t)safe_add_func_int32_t_s_s(*g_1, p_3);
}

int main(void)
{
    int32_t l_4 = 5;
    g_1 = &l_4;
    printf("checksum = %X\n", (unsigned)func_2(l_4));
    g_1 = 0;
    return 0;
}

/* stackscan/linkcheck.c - compiled with -fsplit-stack (see CMakeLists.txt). lld
 * rewrites the prologue of a split-stack function that calls code without such
 * prologues, so that it asks for more room; other linkers leave it. The first
 * byte of this function tells which one made the program. It never runs. */
#include <stdlib.h>

void linkcheck_probe(void);
__attribute__((noinline, visibility("hidden"))) void linkcheck_probe(void)
{
    /* A tail call would take the probe's prologue away. */
    volatile int x = atoi("1");
    (void)x;
}

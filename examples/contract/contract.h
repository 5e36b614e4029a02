/* examples/contract/contract.h - what the examples have in common. Each has a
 * good() and a bad() form; "heap good" runs one as a goroutine. Both mean to
 * return 42; the bad one may, as long as nothing happens to its stack. */
#ifndef CONTRACT_H_
#define CONTRACT_H_

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <tarn/tarn.h>

static int good(void);
#ifndef ONLY_GOOD
static int bad(void);
#endif

/* Stands for any call: the stack may move in it, or a collection may run. */
__attribute__((noinline, unused)) static void call(void)
{
    tarn_gc();
}

static int (*form)(void) = good;
static int result;

static void start(void *unused)
{
    (void)unused;
    result = form();
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "good";
#ifndef ONLY_GOOD
    if (strcmp(name, "bad") == 0)
        form = bad;
#endif
    if (tarn_main(NULL, start, NULL) != TARN_OK)
        return 2;
    printf("%s: %s, %d\n", name, result == 42 ? "right" : "wrong", result);
    return result != 42;
}

#endif

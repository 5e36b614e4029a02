#include <signal.h>

#include "contract.h"

static volatile sig_atomic_t seen;

/* Begins with a check of a stack on which it does not run. */
static void managed(int sig)
{
    volatile char frame[64];
    frame[sig & 63] = 42;
    seen = frame[sig & 63];
}

__attribute__((no_split_stack)) static void plain(int sig)
{
    volatile char frame[64];
    frame[sig & 63] = 42;
    seen = frame[sig & 63];
}

static int trap(void (*handler)(int))
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGTRAP, &sa, NULL);
    __asm__ volatile("int3");
    return seen;
}

static int bad(void)
{
    return trap(managed);
}

static int good(void)
{
    return trap(plain);
}

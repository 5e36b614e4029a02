#include <setjmp.h>

#include "contract.h"

static __attribute__((noinline)) void fail(jmp_buf *env)
{
    call();
    longjmp(*env, 42); /* to where the stack was */
}

static int bad(void)
{
    jmp_buf env; /* holds rsp, which the C library disguises */
    int code = setjmp(env);
    if (code == 0)
        fail(&env);
    return code;
}

static __attribute__((noinline)) int refuse(void)
{
    call();
    return 42;
}

static int good(void)
{
    int code = refuse();
    if (code != 0)
        return code;
    return 0;
}

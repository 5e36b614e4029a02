/* The tests of test_sched.c on copying stacks. */
#include "test_sched.c"

/* The tests of test_timers.c on copying stacks. */
#include "test_timers.c"

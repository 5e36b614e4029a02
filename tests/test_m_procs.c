/* The tests of test_procs.c on copying stacks. */
#include "test_procs.c"

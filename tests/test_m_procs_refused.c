/* The tests of test_procs_refused.c on copying stacks. */
#include "test_procs_refused.c"

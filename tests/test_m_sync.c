/* The tests of test_sync.c on copying stacks. */
#include "test_sync.c"

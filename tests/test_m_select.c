/* The tests of test_select.c on copying stacks. */
#include "test_select.c"

/* The tests of test_unsafe.c on copying stacks. */
#include "test_unsafe.c"

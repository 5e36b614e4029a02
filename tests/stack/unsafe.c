/* The tests of test_unsafe.c by each compiler at each level. */
#include "../test_unsafe.c"

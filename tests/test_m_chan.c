/* The tests of test_chan.c on copying stacks. */
#include "test_chan.c"

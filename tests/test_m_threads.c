/* tests/test_m_threads.c - the same on copying stacks. */
#include "test_threads.c"

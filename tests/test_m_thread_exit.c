/* tests/test_m_thread_exit.c - the same on copying stacks, in managed text. */
#include "test_thread_exit.c"

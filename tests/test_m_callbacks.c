/* tests/test_m_callbacks.c - the same on copying stacks. */
#include "test_callbacks.c"

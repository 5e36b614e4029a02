/* tests/test_m_weak.c - the same on copying stacks. */
#include "test_weak.c"

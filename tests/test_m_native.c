/* tests/test_m_native.c - the same on copying stacks. */
#include "test_native.c"

/* tests/test_m_final.c - the same on copying stacks. */
#include "test_final.c"

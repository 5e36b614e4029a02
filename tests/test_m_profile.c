/* tests/test_m_profile.c - the same on copying stacks. */
#include "test_profile.c"

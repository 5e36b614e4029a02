/* tests/test_m_syscalls.c - the same on copying stacks. */
#include "test_syscalls.c"

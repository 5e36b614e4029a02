/* tests/test_m_syscalls_block.c - the same on copying stacks. */
#include "test_syscalls_block.c"

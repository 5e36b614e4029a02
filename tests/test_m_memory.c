/* tests/test_m_memory.c - the same on copying stacks. */
#define GOROUTINES 100000
#include "test_memory.c"

/* tests/test_m_gc_moves.c - the same on copying stacks. */
#include "test_gc_moves.c"

/* tests/test_m_gc_shapes.c - the same on copying stacks. */
#include "test_gc_shapes.c"

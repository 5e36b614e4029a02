/* tests/test_m_control.c - the same in managed code. */
#include "test_control.c"

/* tests/test_m_sysmon.c - the same on copying stacks. */
#include "test_sysmon.c"

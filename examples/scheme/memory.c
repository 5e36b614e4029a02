/* memory.c - what is not inline of the chosen memory management; it is not compiled
 * as managed code. */
#define MEMORY_BODY
#include "memory.h"

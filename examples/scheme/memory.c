/* memory.c - what is not inline of the chosen memory management. */
#define MEMORY_BODY
#include "memory.h"

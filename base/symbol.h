/* base/symbol.h - a name for an address, for messages. */
#ifndef TARN_BASE_SYMBOL_H_
#define TARN_BASE_SYMBOL_H_

#include "base/base.h"

/* "0x1234 name+0x12" of a function or variable, or "0x1234 (library.so+0x34)" where the file has no
 * symbol for it, or "0x1234". Reads the module's file: not for signal handlers,
 * nor for small stacks. */
void symbol_at(uintptr_t p, char *buf, size_t len);

struct symbol {
    char name[256]; /* "": not known */
    char file[256]; /* "": no module has the address */
    uintptr_t start;
};
/* The same for who wants the parts. */
void symbol_find(uintptr_t p, struct symbol *s);

#endif

// tests/unsafe_module.cc - a module with inline sequences, for dlopen: in C++,
// position-independent, with a function of a section group.
#include "tarn/tarn.h"

template <typename T> inline __attribute__((noinline)) void store(T **p, T *v)
{
    tarn_store(p, v);
}

extern "C" {
void module_store(void **slot, void *value);
void module_store_null(void **slot);
void module_store_template(void **slot, void *value);
void *module_alloc(tarn_type *type);
void *module_alloc_bytes(void);

void module_store(void **slot, void *value)
{
    tarn_store(slot, value);
}

void module_store_null(void **slot)
{
    tarn_store(slot, nullptr);
}

void module_store_template(void **slot, void *value)
{
    store(reinterpret_cast<char **>(slot), static_cast<char *>(value));
}

void *module_alloc(tarn_type *type)
{
    return tarn_alloc(type);
}

void *module_alloc_bytes(void)
{
    return tarn_alloc_bytes(40);
}
}

/* base/sysmem.h - memory that the collector does not manage: mimalloc behind a
 * fault point. Zeroed. NULL when refused. Type-stable structs (G, M, P, spans)
 * are never freed. */
#ifndef TARN_BASE_SYSMEM_H_
#define TARN_BASE_SYSMEM_H_

#include "base/base.h"

void *sys_alloc(size_t size);
void *sys_alloc_aligned(size_t size, size_t align);
void *sys_realloc(void *p, size_t size); /* growth is not zeroed */
void sys_free(void *p);

/* Where such memory comes from: bytes in memory of all that mimalloc has, free or not. */
struct resident;
size_t sys_resident(struct resident *r);

#endif

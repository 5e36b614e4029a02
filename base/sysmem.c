/* base/sysmem.c - unmanaged memory: mimalloc behind a fault point.
 *
 * Locks: none of ours.
 */
#include "base/sysmem.h"

#include "base/fail.h"

#include <errno.h>
#include <stdlib.h>

/* ThreadSanitizer does not see inside mimalloc: a block freed by one thread and
 * handed to another would look like a race. It does know the C library's. */
#if TARN_TSAN

static void *zalloc(size_t size)
{
    return calloc(1, size ? size : 1);
}

static void *zalloc_aligned(size_t size, size_t align)
{
    void *p = NULL;
    int e = posix_memalign(&p, align < sizeof p ? sizeof p : align,
                           size ? size : 1);
    if (e != 0) {
        errno = e;
        return NULL;
    }
    return memset(p, 0, size);
}

#define mem_realloc(p, size) realloc(p, (size) ? (size) : 1)
#define mem_free free

#else

#include <mimalloc.h>

#define zalloc mi_zalloc
#define zalloc_aligned mi_zalloc_aligned
#define mem_realloc mi_realloc
#define mem_free mi_free

#endif

static bool mem_refused(void)
{
    if (!fail_point(FAIL_MALLOC))
        return false;
    errno = ENOMEM;
    return true;
}

void *sys_alloc(size_t size)
{
    return mem_refused() ? NULL : zalloc(size);
}

void *sys_alloc_aligned(size_t size, size_t align)
{
    ASSERT(align != 0 && (align & (align - 1)) == 0);
    return mem_refused() ? NULL : zalloc_aligned(size, align);
}

void *sys_realloc(void *p, size_t size)
{
    return mem_refused() ? NULL : mem_realloc(p, size);
}

void sys_free(void *p)
{
    mem_free(p);
}

/* base/sysmem.c - unmanaged memory: mimalloc behind a fault point.
 *
 * Locks: none of ours.
 */
#include "base/sysmem.h"

#include "base/fail.h"
#include "base/resident.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

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

/* --- where it lies ---------------------------------------------------------- */

/* mimalloc takes memory from the system in pieces of many MiB and does not say where
 * they are. A byte for each REGION of addresses says that something of ours was in it
 * once; only the few pages of the map that have such bytes are ever touched. */
#define REGION_SHIFT 22
#define REGION ((uintptr_t)1 << REGION_SHIFT)
#define REGIONS ((size_t)1 << (47 - REGION_SHIFT))

static uint8_t *_Atomic regions;

/* Not by base/vm.h, whose fault points tests count: nothing depends on it. */
static COLD uint8_t *regions_make(void)
{
    uint8_t *map = mmap(NULL, REGIONS, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *other = NULL;
    if (map == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong(&regions, &other, map))
        return map;
    munmap(map, REGIONS);
    return other;
}

static void *noted(void *p, size_t size)
{
    if (p == NULL || TARN_TSAN)
        return p;
    uint8_t *map = atomic_load_explicit(&regions, memory_order_acquire);
    if (unlikely(map == NULL) && (map = regions_make()) == NULL)
        return p;
    uintptr_t last = ((uintptr_t)p + (size ? size - 1 : 0)) >> REGION_SHIFT;
    for (uintptr_t i = (uintptr_t)p >> REGION_SHIFT; i <= last; i++)
        if (unlikely(__atomic_load_n(&map[i], __ATOMIC_RELAXED) == 0))
            __atomic_store_n(&map[i], 1, __ATOMIC_RELAXED);
    return p;
}

struct region_sum {
    struct resident *r;
    const uint8_t *map;
    size_t bytes;
};

static void sum_regions(uintptr_t lo, uintptr_t hi, void *vs)
{
    struct region_sum *s = vs;
    uintptr_t map = (uintptr_t)s->map;
    s->bytes += hi - lo; /* the map itself */
    for (uintptr_t i = lo - map; i < hi - map; i++)
        if (s->map[i] != 0)
            s->bytes += resident_bytes(s->r, i << REGION_SHIFT,
                                       (i + 1) << REGION_SHIFT);
}

size_t sys_resident(struct resident *r)
{
    struct region_sum s = {r, atomic_load(&regions), 0};
    if (s.map != NULL)
        resident_runs(r, (uintptr_t)s.map, (uintptr_t)s.map + REGIONS,
                      sum_regions, &s);
    return s.bytes;
}

/* --- the calls -------------------------------------------------------------- */

void *sys_alloc(size_t size)
{
    return mem_refused() ? NULL : noted(zalloc(size), size);
}

void *sys_alloc_aligned(size_t size, size_t align)
{
    ASSERT(align != 0 && (align & (align - 1)) == 0);
    return mem_refused() ? NULL : noted(zalloc_aligned(size, align), size);
}

void *sys_realloc(void *p, size_t size)
{
    return mem_refused() ? NULL : noted(mem_realloc(p, size), size);
}

void sys_free(void *p)
{
    mem_free(p);
}

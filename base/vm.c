/* base/vm.c - address space, by mmap(2), mprotect(2) and madvise(2).
 *
 * Invariants
 *  1. A page that vm_commit makes accessible reads as zero: vm_reserve never
 *     touched it and vm_protect gave its memory back before closing it.
 *  2. A call that fails leaves the range as it was, except that vm_protect may
 *     have given back the memory (whose contents its caller had given up).
 *
 * Locks: none.
 */
#include "base/vm.h"

#include "base/fail.h"

#include <errno.h>
#include <sys/mman.h>

#define ASSERT_PAGES(p, size)                                                  \
    ASSERT((((uintptr_t)(p) | (size)) & (OS_PAGE - 1)) == 0)

/* A fault point, with the errno the kernel would have left. */
static bool vm_refused(enum fail_kind kind)
{
    if (!fail_point(kind))
        return false;
    errno = ENOMEM;
    return true;
}

static void *map(size_t size, int prot, int flags)
{
    flags |= MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, size, prot, flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void *map_aligned(size_t size, size_t align, int prot)
{
    ASSERT(size != 0 && (size & (OS_PAGE - 1)) == 0);
    ASSERT((align & (align - 1)) == 0);
    if (vm_refused(FAIL_MMAP))
        return NULL;
    if (align <= OS_PAGE)
        return map(size, prot, MAP_NORESERVE);
    /* The kernel aligns to a page only: take more and give the ends back. */
    size_t slack = align - OS_PAGE;
    if (size + slack < size) {
        errno = ENOMEM;
        return NULL;
    }
    char *p = map(size + slack, prot, MAP_NORESERVE);
    if (p == NULL)
        return NULL;
    char *start = (char *)ALIGN_UP((uintptr_t)p, align);
    size_t head = (size_t)(start - p);
    if (head > 0)
        vm_release(p, head);
    if (slack > head)
        vm_release(start + size, slack - head);
    return start;
}

void *vm_reserve(size_t size, size_t align)
{
    void *p = map_aligned(size, align, PROT_NONE);
    if (p != NULL)
        vm_dump(p, size, false);
    return p;
}

void *vm_map_lazy(size_t size, size_t align)
{
    return map_aligned(size, align, PROT_READ | PROT_WRITE);
}

bool vm_commit(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    if (vm_refused(FAIL_MPROTECT) ||
        mprotect(p, size, PROT_READ | PROT_WRITE) != 0)
        return false;
    vm_dump(p, size, true);
    return true;
}

void vm_dump(void *p, size_t size, bool wanted)
{
    ASSERT_PAGES(p, size);
    int saved = errno;
    madvise(p, size, wanted ? MADV_DODUMP : MADV_DONTDUMP);
    errno = saved;
}

bool vm_decommit(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    return !vm_refused(FAIL_MADVISE) && madvise(p, size, MADV_DONTNEED) == 0;
}

bool vm_touch(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
#ifdef MADV_POPULATE_WRITE
    return !vm_refused(FAIL_MADVISE) &&
           madvise(p, size, MADV_POPULATE_WRITE) == 0;
#else
    errno = EINVAL;
    return false;
#endif
}

bool vm_protect(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    return !vm_refused(FAIL_MPROTECT) && madvise(p, size, MADV_DONTNEED) == 0 &&
           mprotect(p, size, PROT_NONE) == 0;
}

void vm_release(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    int saved = errno;
    if (munmap(p, size) != 0) {
        /* ENOMEM: cutting a mapping in two would exceed the number of mappings
         * a process may have. The addresses are lost, the memory is not. */
        if (errno != ENOMEM)
            throw("munmap(%p, %zu): error %d", p, size, errno);
        madvise(p, size, MADV_DONTNEED);
    }
    errno = saved;
}

void *vm_map(size_t size)
{
    ASSERT(size != 0 && (size & (OS_PAGE - 1)) == 0);
    return vm_refused(FAIL_MMAP) ? NULL : map(size, PROT_READ | PROT_WRITE, 0);
}

bool vm_guard(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    return !vm_refused(FAIL_MPROTECT) && mprotect(p, size, PROT_NONE) == 0;
}

void vm_nohugepage(void *p, size_t size)
{
    ASSERT_PAGES(p, size);
    /* Refused by kernels built without huge pages, where nothing is lost. */
    int saved = errno;
    madvise(p, size, MADV_NOHUGEPAGE);
    errno = saved;
}

/* base/vm.h - address space: reserve, commit, decommit, guard. Sizes and
 * addresses are multiples of the 4 KiB page. Functions return NULL/false when
 * the kernel refuses and leave errno as it set it; fault points MMAP and
 * MPROTECT cover them. */
#ifndef TARN_BASE_VM_H_
#define TARN_BASE_VM_H_

#include "base/base.h"

#define OS_PAGE ((size_t)4096)

void *vm_reserve(size_t size, size_t align); /* inaccessible, costs nothing */
bool vm_commit(void *p, size_t size);        /* readable, writable, zero */
bool vm_decommit(void *p, size_t size);      /* memory back; next read: zero */
/* Makes committed memory resident without changing it. False also where the
 * kernel cannot (before 5.14). */
bool vm_touch(void *p, size_t size);
bool vm_protect(void *p, size_t size); /* inaccessible, memory back */
void vm_release(void *p, size_t size); /* undo vm_reserve (any part) */
/* Reserve + commit; what is committed counts as used only when touched. */
void *vm_map(size_t size);
/* The same, not counted against what the system may commit: touched or not. */
void *vm_map_lazy(size_t size, size_t align);
/* Whether it shall be in a core file: what is committed is, what is only reserved is
 * not, or debuggers would write a terabyte. Advice. */
void vm_dump(void *p, size_t size, bool wanted);
bool vm_guard(void *p, size_t size);      /* PROT_NONE on part of a mapping */
void vm_nohugepage(void *p, size_t size); /* advice; may be ignored */

#endif

/* tarn/unsafe.h - inline code that must not be left half-way.
 *
 * The runtime may interrupt a goroutine at any instruction of its own code, and
 * other goroutines, a collection, or another thread come in between. A few
 * instructions that test something and then rely on it would go wrong. Such a
 * sequence [lo, hi) is made restartable: if an interruption lands inside, the
 * goroutine goes on at lo.
 *
 * What makes a sequence restartable:
 *   - it is entered at lo only; it may leave anywhere;
 *   - until its last instruction it changes nothing but registers that it sets
 *     anew each time, and memory that it writes again in the same way;
 *   - its last instruction is the one store that makes it happen;
 *   - it does not call, and leaves the stack pointer alone.
 *
 * tarn_store and the inline allocation functions are such sequences. Each adds
 * its bounds to the section tarn_unsafe of the program or library that it was
 * compiled into; a constructor registers the section, a destructor removes it.
 * Generated code registers its own with the functions below.
 */
#ifndef TARN_UNSAFE_H_
#define TARN_UNSAFE_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* One sequence [lo, hi), in bytes at most this long. */
#define TARN_UNSAFE_MAX 4096
/* A sequence. */
struct tarn_unsafe_range {
    const void *lo; /* its first instruction */
    const void *hi; /* behind its last one */
};

/* Adds n sequences, all or none, before the first of them is run. TARN_EINVAL
 * for one that is empty, too long, or overlaps another; TARN_ENOMEM. Takes time
 * in proportion to all that are registered: give those of one piece of
 * generated code in one call. foreign. */
TARN_API tarn_status tarn_unsafe_register(const struct tarn_unsafe_range *r,
                                          size_t n);
/* Removes n sequences, which nobody runs any more, all or none. TARN_EINVAL if
 * one of them is not registered; TARN_ENOMEM. foreign. */
TARN_API tarn_status tarn_unsafe_unregister(const struct tarn_unsafe_range *r,
                                            size_t n);

/* For constructors and destructors only: a table of pairs of 32-bit offsets, of
 * a sequence's lo and hi, each from the place where it stands. A table that
 * cannot be right ends the process. foreign. */
TARN_API void tarn_unsafe_module_add(const int32_t *start, const int32_t *stop);
TARN_API void tarn_unsafe_module_remove(const int32_t *start,
                                        const int32_t *stop);

/* 1: inline functions are restartable sequences. 0: they are C, which
 * ThreadSanitizer understands; Tarn built for it does not interrupt code. The
 * library itself is never interrupted. */
#ifndef TARN_UNSAFE_INLINE
#if defined(TARN_RUNTIME) || defined(__SANITIZE_THREAD__)
#define TARN_UNSAFE_INLINE 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TARN_UNSAFE_INLINE 0
#endif
#endif
#endif
#ifndef TARN_UNSAFE_INLINE
#define TARN_UNSAFE_INLINE 1
#endif

/* Inline assembly of a sequence stands between these two. It is counted as one
 * instruction when the compiler considers to inline its function. */
#define TARN_UNSAFE_ASM_ __asm__ __volatile__ __inline__
#define TARN_UNSAFE_LO_ "771:\n\t"
/* The table's entry is in the section group of the function, if that has one (an
 * inline function of C++): both are kept or dropped. The relocation, which does
 * nothing, makes a linker that drops unused sections keep the table. The first
 * sequence of an object also brings the constructor and the destructor, of which
 * the linker keeps one for each module; they come before those of C++. */
#define TARN_UNSAFE_HI_                                                        \
    "772:\n\t"                                                                 \
    ".pushsection tarn_unsafe, \"a?\", @progbits\n\t"                          \
    ".balign 4\n"                                                              \
    "773:\n\t"                                                                 \
    ".long 771b - .\n\t"                                                       \
    ".long 772b - .\n\t"                                                       \
    ".popsection\n\t"                                                          \
    ".reloc 771b, R_X86_64_NONE, 773b\n\t"                                     \
    ".ifndef .Ltarn_unsafe_add\n\t"                                            \
    ".hidden __start_tarn_unsafe\n\t"                                          \
    ".hidden __stop_tarn_unsafe\n\t"                                           \
    ".pushsection .text.tarn_unsafe_module, \"axG\", @progbits, "              \
    "tarn_unsafe_module, comdat\n"                                             \
    ".Ltarn_unsafe_add:\n\t"                                                   \
    "endbr64\n\t"                                                              \
    "leaq __start_tarn_unsafe(%%rip), %%rdi\n\t"                               \
    "leaq __stop_tarn_unsafe(%%rip), %%rsi\n\t"                                \
    "jmpq *tarn_unsafe_module_add@GOTPCREL(%%rip)\n"                           \
    ".Ltarn_unsafe_remove:\n\t"                                                \
    "endbr64\n\t"                                                              \
    "leaq __start_tarn_unsafe(%%rip), %%rdi\n\t"                               \
    "leaq __stop_tarn_unsafe(%%rip), %%rsi\n\t"                                \
    "jmpq *tarn_unsafe_module_remove@GOTPCREL(%%rip)\n\t"                      \
    ".popsection\n\t"                                                          \
    ".pushsection .init_array.00050, \"awG\", @init_array, "                   \
    "tarn_unsafe_module, comdat\n\t"                                           \
    ".balign 8\n\t"                                                            \
    ".quad .Ltarn_unsafe_add\n\t"                                              \
    ".popsection\n\t"                                                          \
    ".pushsection .fini_array.00050, \"awG\", @fini_array, "                   \
    "tarn_unsafe_module, comdat\n\t"                                           \
    ".balign 8\n\t"                                                            \
    ".quad .Ltarn_unsafe_remove\n\t"                                           \
    ".popsection\n\t"                                                          \
    ".endif\n"

TARN_END_DECLS
#endif

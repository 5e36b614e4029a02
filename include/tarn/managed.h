/* tarn/managed.h - for -include tarn/managed.h: all text of the source file is
 * managed.
 *
 * Functions with a split-stack prologue are recognised by it. But compilers may
 * leave it out: clang does in functions that need no stack, which may loop for
 * ever like any other. So this leaves a note in the object file that says where
 * the file's text begins and ends; the runtime reads the notes of each module.
 * It is the notes of the ELF program header PT_NOTE, so nothing is registered,
 * nothing runs at start, and strip keeps it.
 *
 * The bounds are those of .text and of gcc's .text.unlikely, .text.hot and
 * .text.startup: not of -ffunction-sections, and not of link-time optimisation,
 * which moves functions of other files there: compile with -fno-lto. Assembly
 * within the file counts as managed as well.
 *
 * It may also be included by files that are not compiled with -fsplit-stack: code
 * on fixed stacks can be stopped anywhere, too.
 */
#ifndef TARN_MANAGED_H_
#define TARN_MANAGED_H_

/* In such a file. */
#define TARN_MANAGED_TEXT 1

/* Subsection 8191 comes last in the object's section, subsection 0 is where
 * compilers put functions. */
/* clang-format off */
#define TARN_MANAGED_SECTION_(section, n)                                      \
    ".pushsection " section "\n"                                               \
    ".Ltarn_text_lo" n ":\n"                                                   \
    ".subsection 8191\n"                                                       \
    ".Ltarn_text_hi" n ":\n"                                                   \
    ".popsection\n"                                                            \
    ".quad .Ltarn_text_lo" n " - .\n"                                          \
    ".quad .Ltarn_text_hi" n " - .\n"
/* Name "Tarn", type 1; pairs of distances from each word to the address it
 * stands for. */
__asm__(".pushsection .note.tarn.text, \"a\", @note\n"
        ".p2align 2\n"
        ".long 5, 64, 1\n"
        ".asciz \"Tarn\"\n"
        ".p2align 2\n"
        TARN_MANAGED_SECTION_(".text", "0")
        TARN_MANAGED_SECTION_(".text.unlikely, \"ax\", @progbits", "1")
        TARN_MANAGED_SECTION_(".text.hot, \"ax\", @progbits", "2")
        TARN_MANAGED_SECTION_(".text.startup, \"ax\", @progbits", "3")
        ".popsection\n");
/* clang-format on */

#endif

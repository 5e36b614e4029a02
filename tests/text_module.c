/* tests/text_module.c - for test_modules.c: a module of two functions without
 * stack checks, and a note that calls one of them managed, or none. Of the same
 * size whichever it is. */
/* clang-format off */
#define FUNCTION(name, n)                                                      \
    ".globl " name "\n"                                                        \
    ".type " name ", @function\n"                                              \
    ".p2align 4\n"                                                             \
    name ":\n"                                                                 \
    ".cfi_startproc\n"                                                         \
    "movl $" n ", %eax\n"                                                      \
    "ret\n"                                                                    \
    ".cfi_endproc\n"                                                           \
    ".L" name "_end:\n"                                                        \
    ".size " name ", . - " name "\n"

__asm__(".text\n"
        FUNCTION("first", "1")
        FUNCTION("second", "2"));

#define NOTE(name)                                                             \
    ".pushsection .note.tarn.text, \"a\", @note\n"                             \
    ".p2align 2\n"                                                             \
    ".long 5, 16, 1\n"                                                         \
    ".asciz \"Tarn\"\n"                                                        \
    ".p2align 2\n"                                                             \
    ".quad .L" name "_end - 6 - .\n"                                           \
    ".quad .L" name "_end - .\n"                                               \
    ".popsection\n"
/* clang-format on */

#if TEXT_MODULE_NOTE == 1
__asm__(NOTE("first"));
#elif TEXT_MODULE_NOTE == 2
__asm__(NOTE("second"));
#endif

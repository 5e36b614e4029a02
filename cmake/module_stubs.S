/* For a module that is loaded into a program with the runtime and has code with
 * stack checks of its own. Hidden symbols of the names that compilers use: a linker
 * finds __morestack here, not in libgcc, whose stacks nobody would scan; and lld can
 * send functions that call code without checks to the other entry, which it cannot
 * if that is in another module. Nothing changes on the way but the flags. */
        .macro  STUB name, target
        .globl  \name
        .hidden \name
        .type   \name, @function
        .p2align 4
\name:
        .cfi_startproc
        jmp     *\target@GOTPCREL(%rip)
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .text
        STUB    __morestack, tarn_morestack
        STUB    __morestack_non_split, tarn_morestack_non_split
        STUB    __morestack_allocate_stack_space, tarn_morestack_allocate

        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
        .section .note.GNU-stack, "", @progbits

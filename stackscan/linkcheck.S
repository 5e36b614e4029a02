/* stackscan/linkcheck.S - what a compiler makes of a function with -fsplit-stack
 * that calls code without stack checks. lld rewrites the prologue of such a
 * function, so that it asks for more room; other linkers leave it. The first byte
 * tells which one made the program. It never runs. */
        .text
        .globl  linkcheck_probe
        .hidden linkcheck_probe
        .type   linkcheck_probe, @function
        .p2align 4
linkcheck_probe:
        .cfi_startproc
        cmpq    %fs:0x70, %rsp
        jb      2f
1:      subq    $8, %rsp
        .cfi_def_cfa_offset 16
        xorl    %edi, %edi
        call    *exit@GOTPCREL(%rip)
        addq    $8, %rsp
        .cfi_def_cfa_offset 8
        ret
2:      movl    $8, %r10d
        xorl    %r11d, %r11d
        call    __morestack
        ret
        jmp     1b
        .cfi_endproc
        .size   linkcheck_probe, . - linkcheck_probe

        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-stack, "", @progbits

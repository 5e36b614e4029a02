/* sched/asm_amd64.S - everything that touches a stack pointer by hand.
 *
 * A goroutine that is not running looks like this at g->sched_sp, whoever put
 * it away (mcall, systemstack, __morestack, newproc):
 *
 *      sched_sp ->  r15 r14 r13 r12 rbx rbp  return address
 *
 * so gogo has one way to resume all of them. On g0 %fs:0x70 is 0: code with
 * split-stack prologues always finds room there.
 */

#include "tarn/attrs.h"

#define G_SCHED_SP 0
#define G_STACKGUARD0 8
#define G_M 16
#define G_XREGS 24
#define G_ASYNC_SAFE_POINT 32
#define G_THROWSPLIT 34
#define G_SYSCALLSP 40
#define G_NATIVE_REGS 192
#define G_SYSCALLPC 240
#define M_G0 0
#define M_CURG 8
#define M_XSPARE 16
#define M_MXCSR 24
#define M_FPUCW 28
#define RED_ZONE 128
#define XREGS_HEAD 64

#define GUARD_SLOT %fs:TARN_ATTR_GUARD_FS

/* What a function that calls code without prologue checks needs on top of its
 * own frame (the linker assumes the same number). */
#define NON_SPLIT_ROOM TARN_ATTR_UNCHECKED_ROOM

/* Bytes for eight 64-byte vector registers. */
#define VECTOR_AREA 512

        .macro PUSH_CALLEE_SAVED
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        .endm

        .macro POP_CALLEE_SAVED
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        .endm

        /* For unwinders, behind the pushes: where the registers are that the
         * function itself changes. */
        .macro CFI_SAVED
        .cfi_adjust_cfa_offset 48
        .cfi_offset rbp, -16
        .cfi_offset rbx, -24
        .cfi_offset r12, -32
        .endm

        .macro CFI_RESTORED
        .cfi_adjust_cfa_offset -48
        .cfi_restore rbp
        .cfi_restore rbx
        .cfi_restore r12
        .endm

        .macro FUNC name
        .globl  \name
        .hidden \name
        .type   \name, @function
        .p2align 4
\name:
        .cfi_startproc
        .endm

        /* The plain name is weak: a build for sanitizers puts a wrapper in its
         * place that announces the switch of stacks. */
        .macro WEAK_ALIAS name, target
        .weak   \name
        .hidden \name
        .set    \name, \target
        .endm

        .macro ENDFUNC name
        .cfi_endproc
        .size   \name, . - \name
        .endm

        /* Under checkmark a word on a scanned stack must have been put there by
         * the goroutine itself. What other code left in registers that are
         * dead here would be saved by the next __morestack as if it were an
         * argument: wipe it. */
        .macro SCRUB_DEAD_REGISTERS
        cmpl    $0, tarn_scrub_registers(%rip)
        jne     scrub_registers
        .endm

        .text

        .type   scrub_registers, @function
        .p2align 4
scrub_registers:
        .cfi_startproc
        xorl    %eax, %eax
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        xorl    %esi, %esi
        xorl    %edi, %edi
        xorl    %r8d, %r8d
        xorl    %r9d, %r9d
        xorl    %r10d, %r10d
        xorl    %r11d, %r11d
        cmpl    $1, tarn_vector_level(%rip)
        jb      1f
        vzeroall
        je      2f
        .irp    n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vpxord  %zmm\n, %zmm\n, %zmm\n
        .endr
2:      ret
1:      xorps   %xmm0, %xmm0
        xorps   %xmm1, %xmm1
        xorps   %xmm2, %xmm2
        xorps   %xmm3, %xmm3
        xorps   %xmm4, %xmm4
        xorps   %xmm5, %xmm5
        xorps   %xmm6, %xmm6
        xorps   %xmm7, %xmm7
        ret
ENDFUNC scrub_registers

/* void mcall(void (*fn)(struct g *)) */
FUNC asm_mcall
        PUSH_CALLEE_SAVED
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %fs:(%rdx), %rax
        movq    %rsp, G_SCHED_SP(%rax)
        movq    G_M(%rax), %rcx
        movq    M_G0(%rcx), %rcx
        movq    %rcx, %fs:(%rdx)
        movq    $0, GUARD_SLOT
        movq    G_SCHED_SP(%rcx), %rsp
        movq    %rdi, %rdx
        movq    %rax, %rdi
        xorl    %ebp, %ebp
        .cfi_undefined rip
        /* Not a call: fn does not return, and the processor predicts where ret
         * goes from the calls before it. As things are, the top of its stack
         * is our caller, which is where the goroutine that goes on next, if it
         * parked in the same place, returns to from gogo. */
        pushq   $0
        jmp     *%rdx
ENDFUNC asm_mcall
WEAK_ALIAS mcall, asm_mcall

/* void systemstack(void (*fn)(void *), void *arg) */
FUNC asm_systemstack
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %fs:(%rdx), %rax
        movq    G_M(%rax), %rcx
        movq    M_G0(%rcx), %rcx
        cmpq    %rcx, %rax
        je      1f
        PUSH_CALLEE_SAVED
        CFI_SAVED
        movq    %rsp, G_SCHED_SP(%rax)
        movq    %rax, %rbx
        movq    %rsp, %r12
        movq    %rcx, %fs:(%rdx)
        movq    $0, GUARD_SLOT
        movq    G_SCHED_SP(%rcx), %rsp
        .cfi_def_cfa r12, 56
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        /* fn may have moved the goroutine's stack: take sp from the G. */
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %rbx, %fs:(%rdx)
        movq    G_STACKGUARD0(%rbx), %rcx
        movq    %rcx, GUARD_SLOT
        movq    G_SCHED_SP(%rbx), %rsp
        .cfi_def_cfa rsp, 56
        POP_CALLEE_SAVED
        CFI_RESTORED
        SCRUB_DEAD_REGISTERS
        ret
1:      movq    %rdi, %rax
        movq    %rsi, %rdi
        jmp     *%rax
ENDFUNC asm_systemstack
WEAK_ALIAS systemstack, asm_systemstack

/* void gogo(struct g *gp) */
FUNC asm_gogo
        .cfi_undefined rip
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %rdi, %fs:(%rdx)
        movq    G_STACKGUARD0(%rdi), %rcx
        movq    %rcx, GUARD_SLOT
        movq    G_SCHED_SP(%rdi), %rsp
        POP_CALLEE_SAVED
        SCRUB_DEAD_REGISTERS
        ret
ENDFUNC asm_gogo
WEAK_ALIAS gogo, asm_gogo

/* void asm_wipe_stack(uintptr_t lo): zeroes the stack from there up to the return
 * address, which a function in C could not do without sparing some for itself,
 * and the registers that are dead here, see above. */
FUNC asm_wipe_stack
        addq    $7, %rdi
        andq    $-8, %rdi
        movq    %rsp, %rcx
        subq    %rdi, %rcx
        jbe     1f
        shrq    $3, %rcx
        xorl    %eax, %eax
        cld
        rep stosq
1:      jmp     scrub_registers
ENDFUNC asm_wipe_stack

/* First return address of a new G; rsp is 16-byte aligned here. */
FUNC goroutine_entry
        .cfi_undefined rip
        call    goroutine_begin         /* returns fn in rax, arg in rdx */
        movq    %rdx, %rdi
        xorl    %edx, %edx
        xorl    %ebp, %ebp
        call    *%rax
        call    goexit1
        ud2
ENDFUNC goroutine_entry

/* void mstart_call(struct m *mp, void (*fn)(void)); MAIN_SP comes from C. */
FUNC asm_mstart_call
        PUSH_CALLEE_SAVED
        .cfi_adjust_cfa_offset 48
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        movq    M_G0(%rdi), %rax
        movq    %rsp, G_SCHED_SP(%rax)
        call    *%rsi
        ud2
ENDFUNC asm_mstart_call
WEAK_ALIAS mstart_call, asm_mstart_call

/* void mstart_return(struct m *mp): as if mstart_call returned. */
FUNC asm_mstart_return
        movq    M_G0(%rdi), %rax
        movq    G_SCHED_SP(%rax), %rsp
        addq    $8, %rsp
        POP_CALLEE_SAVED
        ret
ENDFUNC asm_mstart_return
WEAK_ALIAS mstart_return, asm_mstart_return

/* void tarn_native_enter(void): what the caller's registers hold must be found
 * while native code uses them. */
        .globl  tarn_native_enter
        .type   tarn_native_enter, @function
        .p2align 4
tarn_native_enter:
        .cfi_startproc
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %fs:(%rdx), %rdi
        testq   %rdi, %rdi
        jz      1f
        movq    G_M(%rdi), %rcx
        cmpq    M_G0(%rcx), %rdi
        je      1f
        movq    %rbx, G_NATIVE_REGS(%rdi)
        movq    %rbp, G_NATIVE_REGS+8(%rdi)
        movq    %r12, G_NATIVE_REGS+16(%rdi)
        movq    %r13, G_NATIVE_REGS+24(%rdi)
        movq    %r14, G_NATIVE_REGS+32(%rdi)
        movq    %r15, G_NATIVE_REGS+40(%rdi)
        movq    (%rsp), %rax
        movq    %rax, G_SYSCALLPC(%rdi)
        leaq    8(%rsp), %rax
        movq    %rax, G_SYSCALLSP(%rdi)
        jmp     native_enter
1:      jmp     native_enter_misuse
ENDFUNC tarn_native_enter

/* void call_on_goroutine(struct g *gp, void (*body)(void *), void *c): on g0, in
 * a native call of gp. g0 goes on below our frames meanwhile, so that they
 * survive whatever body does; body comes back on this thread, and perhaps on
 * another stack. */
FUNC asm_call_on_goroutine
        PUSH_CALLEE_SAVED
        CFI_SAVED
        movq    G_M(%rdi), %rax
        movq    M_G0(%rax), %rax
        pushq   G_SCHED_SP(%rax)
        .cfi_adjust_cfa_offset 8
        movq    %rsp, G_SCHED_SP(%rax)
        movq    %rdi, %rbx
        movq    %rsp, %rbp
        .cfi_def_cfa rbp, 64
        movq    G_SCHED_SP(%rdi), %rsp
        subq    $8, %rsp                /* seven words lie there: align */
        movq    %rdx, %rdi
        call    *%rsi
        .globl  call_on_goroutine_return
        .hidden call_on_goroutine_return
call_on_goroutine_return:
        addq    $8, %rsp
        movq    %rsp, G_SCHED_SP(%rbx)
        movq    %rsp, G_SYSCALLSP(%rbx)
        movq    $0, GUARD_SLOT
        movq    %rbp, %rsp
        .cfi_def_cfa rsp, 64
        movq    G_M(%rbx), %rax
        movq    M_G0(%rax), %rax
        popq    G_SCHED_SP(%rax)
        .cfi_adjust_cfa_offset -8
        POP_CALLEE_SAVED
        CFI_RESTORED
        ret
ENDFUNC asm_call_on_goroutine
WEAK_ALIAS call_on_goroutine, asm_call_on_goroutine

/* The compiler's prologues come here when the stack pointer is below the guard
 * slot, just after the call of the function that wants to run:
 *
 *      (%rsp)   return into that function's prologue, at a one-byte ret
 *      8(%rsp)  its caller
 *      r10      its frame size, r11 the size of its stack arguments
 *
 * All argument registers are live, rax too (count of vector arguments, static
 * chain). We return one byte further, or five where a GCC varargs function would
 * compute the address of its stack arguments from libgcc's frame. */

        /* Modules have stubs of these names, which come here under others:
         * cmake/module_stubs.S. */
        .macro  FOR_MODULES name, target
        .globl  \name
        .type   \name, @function
        .set    \name, \target
        .endm
        FOR_MODULES tarn_morestack, __morestack
        FOR_MODULES tarn_morestack_non_split, __morestack_non_split

        .macro RETURN_TO_PROLOGUE
        movq    (%rsp), %r10
        cmpl    $0x185d8d4c, 1(%r10)    /* lea 0x18(%rbp), %r11 */
        je      9f
        addq    $8, %rsp
        incq    %r10
        jmp     *%r10
9:      leaq    16(%rsp), %r11
        addq    $8, %rsp
        addq    $5, %r10
        jmp     *%r10
        .endm

        .globl  __morestack_non_split
        .type   __morestack_non_split, @function
        .p2align 4
__morestack_non_split:
        .cfi_startproc
        movq    %rsp, %r11
        subq    %r10, %r11
        subq    $NON_SPLIT_ROOM, %r11
        cmpq    GUARD_SLOT, %r11
        jb      1f
        RETURN_TO_PROLOGUE
1:      addq    $NON_SPLIT_ROOM, %r10
        jmp     __morestack
ENDFUNC __morestack_non_split

        .globl  __morestack
        .type   __morestack, @function
        .p2align 4
__morestack:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_offset rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register rbp
        pushq   %rax
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %r8
        pushq   %r9
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %fs:(%rdx), %rax
        testq   %rax, %rax
        jz      .Lnot_goroutine
        movq    G_M(%rax), %rcx
        movq    M_G0(%rcx), %rcx
        cmpq    %rcx, %rax
        je      .Lnot_goroutine
        subq    $VECTOR_AREA, %rsp
        andq    $-64, %rsp
        movl    tarn_vector_level(%rip), %esi
        cmpl    $1, %esi
        ja      .Lsave_zmm
        je      .Lsave_ymm
        movaps  %xmm0, 0(%rsp)
        movaps  %xmm1, 16(%rsp)
        movaps  %xmm2, 32(%rsp)
        movaps  %xmm3, 48(%rsp)
        movaps  %xmm4, 64(%rsp)
        movaps  %xmm5, 80(%rsp)
        movaps  %xmm6, 96(%rsp)
        movaps  %xmm7, 112(%rsp)
        jmp     .Lsaved
.Lsave_ymm:
        vmovaps %ymm0, 0(%rsp)
        vmovaps %ymm1, 32(%rsp)
        vmovaps %ymm2, 64(%rsp)
        vmovaps %ymm3, 96(%rsp)
        vmovaps %ymm4, 128(%rsp)
        vmovaps %ymm5, 160(%rsp)
        vmovaps %ymm6, 192(%rsp)
        vmovaps %ymm7, 224(%rsp)
        jmp     .Lsaved
.Lsave_zmm:
        vmovaps %zmm0, 0(%rsp)
        vmovaps %zmm1, 64(%rsp)
        vmovaps %zmm2, 128(%rsp)
        vmovaps %zmm3, 192(%rsp)
        vmovaps %zmm4, 256(%rsp)
        vmovaps %zmm5, 320(%rsp)
        vmovaps %zmm6, 384(%rsp)
        vmovaps %zmm7, 448(%rsp)
.Lsaved:
        leaq    .Lresume(%rip), %rsi
        pushq   %rsi
        PUSH_CALLEE_SAVED
        movq    %rsp, G_SCHED_SP(%rax)
        movq    %rcx, %fs:(%rdx)
        movq    $0, GUARD_SLOT
        movq    %rax, %rdi              /* g */
        movq    %r10, %rsi              /* frame size */
        leaq    16(%rbp), %rdx          /* sp when the function was entered */
        movq    8(%rbp), %r8            /* where in it */
        movq    G_SCHED_SP(%rcx), %rsp
        movq    %r8, %rcx
        xorl    %ebp, %ebp
        call    newstack
        ud2
.Lresume:
        movl    tarn_vector_level(%rip), %esi
        cmpl    $1, %esi
        ja      .Lload_zmm
        je      .Lload_ymm
        movaps  0(%rsp), %xmm0
        movaps  16(%rsp), %xmm1
        movaps  32(%rsp), %xmm2
        movaps  48(%rsp), %xmm3
        movaps  64(%rsp), %xmm4
        movaps  80(%rsp), %xmm5
        movaps  96(%rsp), %xmm6
        movaps  112(%rsp), %xmm7
        jmp     .Lloaded
.Lload_ymm:
        vmovaps 0(%rsp), %ymm0
        vmovaps 32(%rsp), %ymm1
        vmovaps 64(%rsp), %ymm2
        vmovaps 96(%rsp), %ymm3
        vmovaps 128(%rsp), %ymm4
        vmovaps 160(%rsp), %ymm5
        vmovaps 192(%rsp), %ymm6
        vmovaps 224(%rsp), %ymm7
        jmp     .Lloaded
.Lload_zmm:
        vmovaps 0(%rsp), %zmm0
        vmovaps 64(%rsp), %zmm1
        vmovaps 128(%rsp), %zmm2
        vmovaps 192(%rsp), %zmm3
        vmovaps 256(%rsp), %zmm4
        vmovaps 320(%rsp), %zmm5
        vmovaps 384(%rsp), %zmm6
        vmovaps 448(%rsp), %zmm7
        jmp     .Lloaded
.Lnot_goroutine:
        /* g0 whose slot a late preemption request hit, a foreign thread; or a
         * goroutine's stack in a native call, which must not get here. */
        testq   %rax, %rax
        jz      2f
        movq    G_M(%rax), %rcx
        movq    M_CURG(%rcx), %rdi
        testq   %rdi, %rdi
        jz      1f
        cmpb    $0, G_THROWSPLIT(%rdi)
        je      1f
        movq    G_SCHED_SP(%rax), %rsp
        xorl    %ebp, %ebp
        call    native_morestack
        ud2
2:      cmpl    $0, tarn_forked(%rip)
        je      1f
        andq    $-16, %rsp
        call    forked_morestack
        ud2
1:      movq    $0, GUARD_SLOT
.Lloaded:
        leaq    -56(%rbp), %rsp
        popq    %r9
        popq    %r8
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
        popq    %rax
        popq    %rbp
        .cfi_def_cfa rsp, 8
        .cfi_restore rbp
        RETURN_TO_PROLOGUE
ENDFUNC __morestack

/* Where the signal handler sends code that it interrupted: as if called from
 * the interrupted instruction, with the address of that on the stack, and the
 * red zone of the interrupted function above it. Every register is live. Those
 * that may hold the only pointer to an object are saved, or saved once more, at
 * multiples of 8, where a scan looks: clang leaves the stack pointer of a
 * function that calls nothing at any multiple of 4. */
FUNC asyncPreempt
        .cfi_signal_frame
        .cfi_def_cfa rsp, RED_ZONE + 8
        .cfi_offset rip, -(RED_ZONE + 8)
        pushfq
        .cfi_adjust_cfa_offset 8
        cld
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register rbp
        pushq   %rbx
        .cfi_offset rbx, -(RED_ZONE + 32)
        andq    $-8, %rsp
        pushq   (%rbp)
        pushq   %rbx
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    tarn_tls_g@gottpoff(%rip), %rdx
        movq    %fs:(%rdx), %rbx
        movq    G_M(%rbx), %rcx
        movq    M_XSPARE(%rcx), %rdi
        movl    tarn_xsave_mask(%rip), %eax
        movl    tarn_xsave_mask+4(%rip), %edx
        testl   %eax, %eax
        jz      1f
        xsave64 (%rdi)
        cmpl    $0, tarn_vector_level(%rip)
        je      2f
        /* Code that mixes SSE and dirty upper halves is slow. */
        vzeroupper
        jmp     2f
1:      fxsave64 (%rdi)
        /* As the next goroutine expects them: an empty x87 stack, and the control
         * words that this thread began with. */
2:      emms
        ldmxcsr M_MXCSR(%rcx)
        fldcw   M_FPUCW(%rcx)
        leaq    asyncPreempt2(%rip), %rdi
        andq    $-16, %rsp
        call    mcall
        /* Maybe on another thread. Only general registers from XRSTOR on. */
        movq    G_XREGS(%rbx), %rdi
        movl    tarn_xsave_mask(%rip), %eax
        movl    tarn_xsave_mask+4(%rip), %edx
        testl   %eax, %eax
        jz      3f
        xrstor64 (%rdi)
        jmp     4f
3:      fxrstor64 (%rdi)
4:      movq    $0, G_XREGS(%rbx)
        movb    $0, G_ASYNC_SAFE_POINT(%rbx)
        movq    G_M(%rbx), %rcx
        cmpq    $0, M_XSPARE(%rcx)
        jne     5f
        movq    %rdi, M_XSPARE(%rcx)
        jmp     7f
5:      movq    tarn_xpool(%rip), %rax
6:      movq    %rax, -XREGS_HEAD(%rdi)
        lock cmpxchgq %rdi, tarn_xpool(%rip)
        jne     6b
7:      leaq    -8(%rbp), %rsp
        andq    $-8, %rsp
        subq    $120, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rax
        leaq    -8(%rbp), %rsp
        popq    %rbx
        .cfi_same_value rbx
        popq    %rbp
        .cfi_def_cfa rsp, RED_ZONE + 16
        .cfi_same_value rbp
        popfq
        .cfi_adjust_cfa_offset -8
        ret     $RED_ZONE
ENDFUNC asyncPreempt

        .section .note.GNU-stack, "", @progbits
/* Code that calls this library needs no extra room for it: public functions
 * stay within the guard zone and do the rest on g0. */
        .section .note.GNU-split-stack, "", @progbits

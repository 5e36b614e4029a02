/* bench/stress_hold.c - assembly that holds a pointer in one place only. Managed:
 * it may be stopped at each of these instructions, and at each one place at least
 * has the pointer: first the slot that it is taken from, then also the register,
 * then the register only.
 *
 * Every other register is cleared before, and the red zone, which is scanned too:
 * what a function that ran earlier left there would keep the object alive. */
#include "bench/stress.h"

/* clang-format off */
#define FUNC(name)                                                             \
    ".p2align 4\n"                                                             \
    ".globl " name "\n"                                                        \
    ".hidden " name "\n"                                                       \
    ".type " name ", @function\n"                                              \
    name ":\n"                                                                 \
    ".cfi_startproc\n"
#define END(name)                                                              \
    "ret\n"                                                                    \
    ".cfi_endproc\n"                                                           \
    ".size " name ", . - " name "\n"

#define PUSH(reg) "pushq %" reg "\n.cfi_adjust_cfa_offset 8\n"
#define POP(reg) "popq %" reg "\n.cfi_adjust_cfa_offset -8\n"
#define PUSH_SAVED                                                             \
    PUSH("rbp") PUSH("rbx") PUSH("r12") PUSH("r13") PUSH("r14") PUSH("r15")
#define POP_SAVED                                                              \
    POP("r15") POP("r14") POP("r13") POP("r12") POP("rbx") POP("rbp")

#define CLEAR_SCRATCH                                                          \
    ".irp r,eax,ecx,edx,r8d,r9d,r10d,r11d\n"                                   \
    "xorl %\\r, %\\r\n"                                                        \
    ".endr\n"                                                                  \
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"                           \
    "pxor %xmm\\n, %xmm\\n\n"                                                  \
    ".endr\n"                                                                  \
    ".irp n,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\n"              \
    "movq $0, -\\n(%rsp)\n"                                                    \
    ".endr\n"
#define CLEAR_ALL                                                              \
    CLEAR_SCRATCH                                                              \
    ".irp r,esi,edi,ebx,ebp,r12d,r13d,r14d,r15d\n"                             \
    "xorl %\\r, %\\r\n"                                                        \
    ".endr\n"

/* (rdi = slot, rsi = until) */
#define LOOP(scratch)                                                          \
    "1: movq stress_epoch(%rip), %" scratch "\n"                               \
    "cmpq (%rsp), %" scratch "\n"                                              \
    "jb 1b\n"

/* --- general registers ------------------------------------------------------- */

#define GENERAL(reg, scratch)                                                  \
    FUNC("stress_in_" reg)                                                     \
    PUSH_SAVED PUSH("rdi") PUSH("rsi")                                         \
    CLEAR_ALL                                                                  \
    "movq 8(%rsp), %" scratch "\n"                                             \
    "movq (%" scratch "), %" reg "\n"                                          \
    "movq $0, (%" scratch ")\n"                                                \
    LOOP(scratch)                                                              \
    "movq 8(%rsp), %" scratch "\n"                                             \
    "movq %" reg ", (%" scratch ")\n"                                          \
    "movq $0, %" reg "\n"                                                      \
    POP("rsi") POP("rdi") POP_SAVED                                            \
    END("stress_in_" reg)

#define GENERAL_REGISTERS(X)                                                   \
    X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rbp) X(r8) X(r9) X(r10)        \
    X(r11) X(r12) X(r13) X(r14) X(r15)

__asm__(".text\n"
    GENERAL("rax", "rcx") GENERAL("rbx", "rax") GENERAL("rcx", "rax")
    GENERAL("rdx", "rax") GENERAL("rsi", "rax") GENERAL("rdi", "rax")
    GENERAL("rbp", "rax") GENERAL("r8", "rax") GENERAL("r9", "rax")
    GENERAL("r10", "rax") GENERAL("r11", "rax") GENERAL("r12", "rax")
    GENERAL("r13", "rax") GENERAL("r14", "rax") GENERAL("r15", "rax"));

/* --- vector registers ----------------------------------------------------------- */

#define VECTOR(name, put, get)                                                 \
    FUNC("stress_in_" name)                                                    \
    PUSH_SAVED PUSH("rdi") PUSH("rsi")                                         \
    CLEAR_ALL                                                                  \
    "movq 8(%rsp), %rdx\n"                                                     \
    "movq (%rdx), %rax\n"                                                      \
    put                                                                        \
    "movq $0, (%rdx)\n"                                                        \
    "xorl %eax, %eax\n"                                                        \
    LOOP("rcx")                                                                \
    get                                                                        \
    "movq 8(%rsp), %rdx\n"                                                     \
    "movq %rax, (%rdx)\n"                                                      \
    CLEAR_ALL                                                                  \
    POP("rsi") POP("rdi") POP_SAVED                                            \
    END("stress_in_" name)

__asm__(".text\n"
    VECTOR("xmm0", "movq %rax, %xmm0\n", "movq %xmm0, %rax\n")
    VECTOR("xmm9", "movq %rax, %xmm9\npslldq $8, %xmm9\n",
           "psrldq $8, %xmm9\nmovq %xmm9, %rax\n")
    VECTOR("xmm15", "movq %rax, %xmm15\n", "movq %xmm15, %rax\n")
    /* In the upper half. */
    VECTOR("ymm5", "vmovq %rax, %xmm5\n"
                   "vpslldq $8, %xmm5, %xmm5\n"
                   "vinsertf128 $1, %xmm5, %ymm1, %ymm5\n",
           "vextractf128 $1, %ymm5, %xmm5\n"
           "vpextrq $1, %xmm5, %rax\n"
           "vzeroupper\n")
    /* In the uppermost quarter of one that only AVX-512 has. */
    VECTOR("zmm20", "vpbroadcastq %rax, %zmm20\n"
                    "movl $0x80, %ecx\n"
                    "kmovw %ecx, %k1\n"
                    "vmovdqa64 %zmm20, %zmm20{%k1}{z}\n",
           "vextracti64x4 $1, %zmm20, %ymm20\n"
           "vextracti64x2 $1, %ymm20, %xmm20\n"
           "vpextrq $1, %xmm20, %rax\n"
           "vpxord %zmm20, %zmm20, %zmm20\n"
           "vzeroupper\n"));

/* --- the red zone ----------------------------------------------------------------- */

#define RED(name, at)                                                          \
    FUNC("stress_in_" name)                                                    \
    CLEAR_SCRATCH                                                              \
    "movq (%rdi), %rax\n"                                                      \
    "movq %rax, " at "(%rsp)\n"                                                \
    "movq $0, (%rdi)\n"                                                        \
    "xorl %eax, %eax\n"                                                        \
    "1: cmpq stress_epoch(%rip), %rsi\n"                                       \
    "ja 1b\n"                                                                  \
    "movq " at "(%rsp), %rax\n"                                                \
    "movq %rax, (%rdi)\n"                                                      \
    "movq $0, " at "(%rsp)\n"                                                  \
    "xorl %eax, %eax\n"                                                        \
    END("stress_in_" name)

__asm__(".text\n"
    RED("red8", "-8") RED("red64", "-64") RED("red128", "-128"));

/* --- argument registers ------------------------------------------------------------ */

/* Called again and again, until one of the prologues stops. The functions give
 * back what they were given. rdi and rsi, which may be the register, are on the
 * stack. */
#define ARGUMENT(name, put, result, fn)                                        \
    FUNC("stress_in_" name)                                                    \
    PUSH("rbp") PUSH("rdi") PUSH("rsi")                                        \
    CLEAR_SCRATCH                                                              \
    "movq (%rdi), %rax\n"                                                      \
    "xorl %esi, %esi\n"                                                        \
    put                                                                        \
    "movq 8(%rsp), %rax\n"                                                     \
    "movq $0, (%rax)\n"                                                        \
    "2: xorl %eax, %eax\n"                                                     \
    "call " fn "\n"                                                            \
    result                                                                     \
    "movq stress_epoch(%rip), %r10\n"                                          \
    "cmpq (%rsp), %r10\n"                                                      \
    "jae 3f\n"                                                                 \
    put                                                                        \
    "jmp 2b\n"                                                                 \
    "3: movq 8(%rsp), %r10\n"                                                  \
    "movq %rax, (%r10)\n"                                                      \
    "xorl %eax, %eax\n"                                                        \
    POP("rsi") POP("rdi") POP("rbp")                                           \
    END("stress_in_" name)

__asm__(".text\n"
    ARGUMENT("arg_rdi", "movq %rax, %rdi\n", "", "stress_pass0")
    ARGUMENT("arg_rdx", "movq %rax, %rdx\nxorl %edi, %edi\n", "",
             "stress_pass2")
    ARGUMENT("arg_r9", "movq %rax, %r9\nxorl %edi, %edi\n", "",
             "stress_pass5")
    ARGUMENT("arg_xmm0", "movq %rax, %xmm0\nxorl %edi, %edi\n",
             "movq %xmm0, %rax\n", "stress_passd0")
    ARGUMENT("arg_xmm7", "movq %rax, %xmm7\nxorl %edi, %edi\n",
             "movq %xmm0, %rax\npxor %xmm0, %xmm0\n", "stress_passd7"));

/* Words: a byte in an unused word, over what a dead pointer left there, would make
 * another pointer. */
#define PASS_BODY(x)                                                           \
    volatile uint64_t frame[25];                                               \
    frame[0] = 1;                                                              \
    (void)frame[0];                                                            \
    return x;
void *stress_pass0(void *a);
void *stress_pass2(void *a, void *b, void *c);
void *stress_pass5(void *a, void *b, void *c, void *d, void *e, void *f);
double stress_passd0(double a);
double stress_passd7(double a, double b, double c, double d, double e, double f,
                     double g, double h);
/* clang-format on */

NI void *stress_pass0(void *a){PASS_BODY(a)} NI
    void *stress_pass2(void *a, void *b, void *c)
{
    (void)a, (void)b;
    PASS_BODY(c)
}
NI void *stress_pass5(void *a, void *b, void *c, void *d, void *e, void *f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e;
    PASS_BODY(f)
}
NI double stress_passd0(double a){PASS_BODY(a)} NI
    double stress_passd7(double a, double b, double c, double d, double e,
                         double f, double g, double h)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g;
    PASS_BODY(h)
}

/* --- callee-saved registers of a caller ----------------------------------------- */

/* clang-format off */
/* hold_callee(rdi = slots, rsi = step, rdx = until) */
__asm__(".text\n"
    FUNC("hold_callee")
    PUSH_SAVED PUSH("rdi") PUSH("rsi") PUSH("rdx")
    CLEAR_SCRATCH
    "movq 0(%rdi), %rbx\n movq $0, 0(%rdi)\n"
    "movq 8(%rdi), %rbp\n movq $0, 8(%rdi)\n"
    "movq 16(%rdi), %r12\n movq $0, 16(%rdi)\n"
    "movq 24(%rdi), %r13\n movq $0, 24(%rdi)\n"
    "movq 32(%rdi), %r14\n movq $0, 32(%rdi)\n"
    "movq 40(%rdi), %r15\n movq $0, 40(%rdi)\n"
    "1: xorl %edi, %edi\n"
    "call *8(%rsp)\n"
    "movq stress_epoch(%rip), %rax\n"
    "cmpq (%rsp), %rax\n"
    "jb 1b\n"
    "movq 16(%rsp), %rdi\n"
    "movq %rbx, 0(%rdi)\n"
    "movq %rbp, 8(%rdi)\n"
    "movq %r12, 16(%rdi)\n"
    "movq %r13, 24(%rdi)\n"
    "movq %r14, 32(%rdi)\n"
    "movq %r15, 40(%rdi)\n"
    POP("rdx") POP("rsi") POP("rdi") POP_SAVED
    END("hold_callee")

/* hold_operand(rdi = slot, rsi = channel) */
    FUNC("hold_operand")
    CLEAR_SCRATCH
    "movq %rdi, %rax\n"
    "movq %rsi, %rdi\n"
    "movq (%rax), %rsi\n"
    "movq $0, (%rax)\n"
    "xorl %eax, %eax\n"
    "jmp tarn_chan_send\n"
    END("hold_operand")

/* hold_moved(rdi = fn): the local is at 8(%rsp) */
    FUNC("hold_moved")
    PUSH_SAVED
    "subq $24, %rsp\n"
    ".cfi_adjust_cfa_offset 24\n"
    "movq $0x5ca1ab1e, 8(%rsp)\n"
    "leaq 8(%rsp), %rbx\n"
    "movq %rbx, %rbp\n"
    "movq %rbx, %r12\n"
    "movq %rbx, %r13\n"
    "movq %rbx, %r14\n"
    "movq %rbx, %r15\n"
    "call *%rdi\n"
    "leaq 8(%rsp), %rax\n"
    "xorq %rax, %rbx\n"
    "xorq %rax, %rbp\n"
    "xorq %rax, %r12\n"
    "xorq %rax, %r13\n"
    "xorq %rax, %r14\n"
    "xorq %rax, %r15\n"
    "movq 8(%rsp), %rax\n"
    "xorq $0x5ca1ab1e, %rax\n"
    "orq %rbx, %rax\n"
    "orq %rbp, %rax\n"
    "orq %r12, %rax\n"
    "orq %r13, %rax\n"
    "orq %r14, %rax\n"
    "orq %r15, %rax\n"
    "addq $24, %rsp\n"
    ".cfi_adjust_cfa_offset -24\n"
    POP_SAVED
    END("hold_moved"));
/* clang-format on */

/* --- tables -------------------------------------------------------------------------- */

#define DECLARE_(reg) void stress_in_##reg(void **slot, uint64_t until);
GENERAL_REGISTERS(DECLARE_)
DECLARE_(xmm0)
DECLARE_(xmm9)
DECLARE_(xmm15)
DECLARE_(ymm5)
DECLARE_(zmm20)
DECLARE_(red8)
DECLARE_(red64)
DECLARE_(red128)
DECLARE_(arg_rdi)
DECLARE_(arg_rdx)
DECLARE_(arg_r9)
DECLARE_(arg_xmm0)
DECLARE_(arg_xmm7)

struct hold {
    hold_fn fn;
    const char *name;
};
#define HOLD_(reg) {stress_in_##reg, #reg},

static hold_fn pick(const struct hold *h, uint32_t n, uint64_t *rng,
                    const char **name)
{
    h += stress_below(rng, n);
    *name = h->name;
    return h->fn;
}

hold_fn hold_general(uint64_t *rng, const char **name)
{
    static const struct hold holds[] = {GENERAL_REGISTERS(HOLD_)};
    return pick(holds, sizeof holds / sizeof holds[0], rng, name);
}

hold_fn hold_vector(uint64_t *rng, const char **name)
{
    static const struct hold holds[] = {HOLD_(xmm0) HOLD_(xmm9) HOLD_(xmm15)
                                            HOLD_(ymm5) HOLD_(zmm20)};
    uint32_t n = 3;
    if (__builtin_cpu_supports("avx"))
        n = 4;
    if (n == 4 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq"))
        n = 5;
    return pick(holds, n, rng, name);
}

hold_fn hold_red_zone(uint64_t *rng, const char **name)
{
    static const struct hold holds[] = {HOLD_(red8) HOLD_(red64) HOLD_(red128)};
    return pick(holds, sizeof holds / sizeof holds[0], rng, name);
}

hold_fn hold_argument(uint64_t *rng, const char **name)
{
    static const struct hold holds[] = {HOLD_(arg_rdi) HOLD_(arg_rdx) HOLD_(
        arg_r9) HOLD_(arg_xmm0) HOLD_(arg_xmm7)};
    return pick(holds, sizeof holds / sizeof holds[0], rng, name);
}

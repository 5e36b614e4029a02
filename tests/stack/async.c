/* Goroutines stopped between any two instructions: at each instruction of a set
 * of functions, one after the other (single steps), and wherever signals happen
 * to hit, ten thousand times and more. Results must not change by a bit. And what
 * the registers of a stopped goroutine hold stays alive. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <immintrin.h>
#include <ucontext.h>

#include "base/options.h"
#include "stackscan/stackscan.h"
#include "tests/gcsuite.h"
#include "tests/pest.h"

#ifdef __clang__
#define NI __attribute__((noinline))
#else
#define NI __attribute__((noinline, noclone))
#endif
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq")))

/* --- what is computed --------------------------------------------------------- */

static uint64_t table[64];

/* Without calls, without a frame. */
NI static uint64_t leaf(uint64_t x, int n)
{
    for (int i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x += table[x & 63];
    }
    return x;
}

/* Locals in the red zone. */
NI static uint64_t red_zone(uint64_t x, int n)
{
    volatile uint64_t a[14];
    for (int i = 0; i < 14; i++)
        a[i] = x + (uint64_t)i;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < 14; i++)
            a[i] = a[i] * 3 + a[(i + 5) % 14];
    return a[0] ^ a[7] ^ a[13];
}

/* The carry flag lives through the whole loop. */
NI static uint64_t carry(uint64_t x, int n)
{
    uint64_t lo = x, count = (uint64_t)n, add = UINT64_C(0x9E3779B97F4A7C15);
    __asm__ volatile("clc\n"
                     "1: adcq %[add], %[lo]\n"
                     "leaq 3(%[add],%[add],4), %[add]\n"
                     "decq %[count]\n"
                     "jnz 1b\n"
                     "adcq $0, %[lo]\n"
                     : [lo] "+r"(lo), [count] "+r"(count), [add] "+r"(add)
                     :
                     : "cc");
    return lo;
}

/* Branches on flags. */
NI static uint64_t branches(uint64_t x, int n)
{
    uint64_t up = 0, down = 0;
    for (int i = 0; i < n; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        if ((int64_t)x < 0)
            up += x >> 60;
        else if (x & 0x100000000)
            down ^= x;
        else
            up -= down;
    }
    return up ^ down;
}

NI static uint64_t fp(uint64_t x, int n)
{
    double a = 1.0 + (double)(x & 0xffff) / 65536.0, b = 0.1, c = 0;
    for (int i = 0; i < n; i++) {
        c += a * b;
        b = b * 0.999 + 1e-3;
        a = a / (1.0 + b);
        a += 1.25;
    }
    uint64_t r;
    c += a;
    memcpy(&r, &c, sizeof r);
    return r;
}

/* The x87 stack; and its control word at single precision meanwhile. */
NI static uint64_t x87(uint64_t x, int n)
{
    long double a = (long double)(x & 0xffffff) + 1, b = 1, c = 3;
    uint16_t old, single;
    __asm__ volatile("fnstcw %0" : "=m"(old));
    single = old & (uint16_t)~0x300;
    __asm__ volatile("fldcw %0" : : "m"(single));
    for (int i = 0; i < n; i++) {
        a = a / c + b;
        b = b * c - a;
        c = c + 0.5L;
        if (b > 1e30L || b < -1e30L)
            b = 1;
    }
    __asm__ volatile("fldcw %0" : : "m"(old));
    double d = (double)(a + b + c);
    uint64_t r;
    memcpy(&r, &d, sizeof r);
    return r;
}

/* Rounds up, where all others round to the nearest. */
NI static uint64_t rounding(uint64_t x, int n)
{
    uint32_t old = _mm_getcsr();
    _mm_setcsr((old & ~0x6000u) | 0x4000u);
    double a = (double)(x & 0xffff) + 1, s = 0;
    for (int i = 0; i < n; i++) {
        s += 1.0 / a;
        a += 0.7;
    }
    uint64_t r;
    memcpy(&r, &s, sizeof r);
    __asm__ volatile("" : "+r"(r));
    _mm_setcsr(old);
    return r;
}

typedef uint64_t v4 __attribute__((vector_size(32)));
typedef uint64_t v8 __attribute__((vector_size(64)));

AVX2 NI static uint64_t avx2(uint64_t x, int n)
{
    v4 a[8];
    for (int i = 0; i < 8; i++)
        a[i] = (v4){x, x + 1, x ^ 2, x * 3} + (uint64_t)i;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < 8; i++)
            a[i] = (a[i] << 5) + (a[(i + 3) & 7] ^ (a[i] >> 3));
    v4 s = a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

AVX512 NI static uint64_t avx512(uint64_t x, int n)
{
    v8 a[16];
    for (int i = 0; i < 16; i++)
        a[i] = (v8){x, x + 1, x ^ 2, x * 3, x, x - 9, ~x, x >> 9} +
               (uint64_t)i * 77;
    __mmask8 m = (__mmask8)x;
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < 16; i++)
            a[i] = (a[i] << 7) + (a[(i + 5) & 15] ^ (a[i] >> 11));
        m = _mm512_cmplt_epu64_mask((__m512i)a[3], (__m512i)a[k & 15]);
        a[9] = (v8)_mm512_mask_add_epi64((__m512i)a[9], m, (__m512i)a[2],
                                         (__m512i)a[1]);
    }
    v8 s = a[0];
    for (int i = 1; i < 16; i++)
        s ^= a[i];
    return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7] ^ m;
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq");
}
static bool always(void)
{
    return true;
}

static struct work {
    const char *name;
    uint64_t (*fn)(uint64_t x, int n);
    bool (*can)(void);
    uint64_t want_long, want_short;
} works[] = {
    {"leaf", leaf, always, 0, 0},
    {"red_zone", red_zone, always, 0, 0},
    {"carry", carry, always, 0, 0},
    {"branches", branches, always, 0, 0},
    {"fp", fp, always, 0, 0},
    {"x87", x87, always, 0, 0},
    {"rounding", rounding, always, 0, 0},
    {"avx2", avx2, has_avx2, 0, 0},
    {"avx512", avx512, has_avx512, 0, 0},
};
#define WORKS (sizeof works / sizeof works[0])

#define LONG 50000
#define SHORT 3
#define SEED UINT64_C(0x123456789abcdef1)

static void expect(void)
{
    for (size_t i = 0; i < 64; i++)
        table[i] = i * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < WORKS; i++)
        if (works[i].can()) {
            works[i].want_long = works[i].fn(SEED, LONG);
            works[i].want_short = works[i].fn(SEED, SHORT);
        }
}

/* --- at each instruction ------------------------------------------------------ */

/* The trap flag raises SIGTRAP after each instruction; the handler does with the
 * steps-th one as the handler of the preemption signal would. */
static long step, step_at;
static int steps_injected, steps_refused;
static bool step_done;

__attribute__((no_split_stack)) static void on_step(int sig, siginfo_t *info,
                                                    void *ctx)
{
    (void)sig, (void)info;
    ucontext_t *uc = ctx;
    if (step++ < step_at)
        return;
    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)0x100;
    step_done = true;
    greg_t pc = uc->uc_mcontext.gregs[REG_RIP];
    struct g *gp = atomic_load(&getg()->m->curg);
    if (gp == NULL) { /* it stopped by itself, at a prologue */
        steps_refused++;
        return;
    }
    atomic_store(&gp->preempt, true);
    doSigPreempt(uc);
    if (uc->uc_mcontext.gregs[REG_RIP] != pc) {
        steps_injected++;
    } else {
        steps_refused++;
        atomic_store(&gp->preempt, false);
    }
}

NI static uint64_t stepped(struct work *w)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n"
                     "pushfq\n"
                     "orq $0x100, (%%rsp)\n"
                     "popfq\n"
                     "leaq 128(%%rsp), %%rsp\n"
                     :
                     :
                     : "memory", "cc");
    uint64_t r = w->fn(SEED, SHORT);
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n"
                     "pushfq\n"
                     "andq $~0x100, (%%rsp)\n"
                     "popfq\n"
                     "leaq 128(%%rsp), %%rsp\n"
                     :
                     :
                     : "memory", "cc");
    return r;
}

static _Atomic bool thrash_end;
static tarn_waitgroup wg;

/* Leaves nothing of what other goroutines had in registers. */
AVX512 NI static void thrash_vectors(void)
{
    __asm__ volatile(
        "vpternlogq $0xff, %%zmm0, %%zmm0, %%zmm0\n"
        ".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,"
        "21,22,23,24,25,26,27,28,29,30,31\n"
        "vmovdqa64 %%zmm0, %%zmm\\n\n"
        ".endr\n"
        "kxnorq %%k0, %%k0, %%k0\n"
        "kmovq %%k0, %%k1\nkmovq %%k0, %%k2\nkmovq %%k0, %%k3\n"
        "kmovq %%k0, %%k4\n"
        :
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
          "memory");
}

static void thrasher(void *unused)
{
    (void)unused;
    uint64_t n = 0;
    while (!atomic_load(&thrash_end)) {
        if (has_avx512())
            thrash_vectors();
        volatile long double x = 1.5L;
        x = x * x + (long double)n++;
        __asm__ volatile("std\n\tcld" ::: "cc");
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_asyncPreempt(void)
{
    struct sigaction sa = {.sa_sigaction = on_step,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK},
                     old;
    CHECK_EQ(sigaction(SIGTRAP, &sa, &old), 0);
    atomic_store(&thrash_end, false);
    tarn_waitgroup_add(&wg, 1);
    go(thrasher, NULL);
    uint64_t rng = seed_of(20);
    for (size_t i = 0; i < WORKS; i++) {
        struct work *w = &works[i];
        if (!w->can())
            continue;
        steps_injected = steps_refused = 0;
        /* Each of the first ones, then some, by the seed: to come to the n-th
         * takes n steps, and the code is a loop. */
        int each = options.stackmove ? 100 : harness_reps(500);
        uint32_t dense = (uint32_t)each / 20;
        for (step_at = 0;;
             step_at +=
             step_at < each ? 1 : 1 + below(&rng, (uint32_t)step_at / dense)) {
            step = 0;
            step_done = false;
            uint64_t got = stepped(w);
            if (got != w->want_short)
                fprintf(stderr, "%s, step %ld\n", w->name, step_at);
            CHECK_EQ(got, w->want_short);
            if (!step_done)
                break;
        }
        printf("%s: %d injected, %d refused\n", w->name, steps_injected,
               steps_refused);
        CHECK_GT(steps_injected, 0);
        /* All of it is managed text. Who is stopped at a prologue as well steps
         * through the scheduler, whose stack moves there through newstack. */
        if (options.stackmove)
            continue;
        CHECK_GT(steps_injected, 10);
        if (options.droppreempt == 100)
            CHECK_LT(steps_refused * 10, steps_injected);
    }
    atomic_store(&thrash_end, true);
    tarn_waitgroup_wait(&wg);
    CHECK_EQ(sigaction(SIGTRAP, &old, NULL), 0);
}

/* --- wherever signals hit ------------------------------------------------------ */

/* The whole number with one P; with more, fewer. */
/* Fewer where every prologue moves the stack or each few allocations collect. */
#define INJECTIONS                                                             \
    ((uint32_t)harness_reps(nprocs == 1 ? 10000 : 1000) /                      \
     (options.stackmove || options.gcstress != 0 ? 20 : 1))

/* Each thread has a timer that sends it the signal while it runs. Where nobody
 * wants the goroutine to stop, the program's own handler of that signal, which
 * comes after the runtime's, asks for it: the next one will find that. */
static _Atomic bool storm;
static timer_t storm_timer[256];
static _Atomic bool storm_has[256];

__attribute__((no_split_stack)) static void
storm_handler(int sig, siginfo_t *info, void *ctx)
{
    (void)sig, (void)info, (void)ctx;
    struct g *self = getg();
    struct g *gp = self && atomic_load(&storm) ? self->m->curg : NULL;
    if (gp != NULL)
        atomic_store(&gp->preempt, true);
}

static void storm_arm(void)
{
    struct m *mp = acquirem();
    if (mp->id < 256 && !atomic_exchange(&storm_has[mp->id], true)) {
        struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID,
                              .sigev_signo = preempt_signal};
        long ns = nprocs == 1 ? 30000 : 100000;
        struct itimerspec every = {{0, ns}, {0, ns}};
        ev._sigev_un._tid = mp->procid;
        CHECK_EQ(timer_create(CLOCK_MONOTONIC, &ev, &storm_timer[mp->id]), 0);
        CHECK_EQ(timer_settime(storm_timer[mp->id], 0, &every, NULL), 0);
    }
    releasem(mp);
}

static void storm_end(void)
{
    atomic_store(&storm, false);
    for (int i = 0; i < 256; i++)
        if (atomic_exchange(&storm_has[i], false))
            CHECK_EQ(timer_delete(storm_timer[i]), 0);
}
static uint64_t injected_at_start;
static uint64_t rounds;

static void worker(void *arg)
{
    struct work *w = arg;
    do {
        storm_arm();
        uint64_t got = w->fn(SEED, LONG);
        if (got != w->want_long)
            fprintf(stderr, "%s\n", w->name);
        CHECK_EQ(got, w->want_long);
        ADD(rounds, 1);
    } while (preempt_stats().injected - injected_at_start < INJECTIONS);
    tarn_waitgroup_done(&wg);
}

static void test_doSigPreempt(void)
{
    injected_at_start = preempt_stats().injected;
    atomic_store(&storm, true);
    for (size_t i = 0; i < WORKS; i++)
        if (works[i].can()) {
            tarn_waitgroup_add(&wg, 1);
            go(worker, &works[i]);
        }
    tarn_waitgroup_wait(&wg);
    storm_end();
    struct tarn_preempt_stats s = preempt_stats();
    printf("%" PRIu64 " injected, %" PRIu64 " rounds, %" PRIu64 " unmanaged\n",
           s.injected - injected_at_start, rounds, s.refused_unmanaged_text);
    CHECK_GE(s.injected - injected_at_start, INJECTIONS);
}

/* --- what registers hold ------------------------------------------------------- */

static volatile uint64_t hidden;
static volatile int held, let_go;

/* Reveals the pointer into reg only, and waits there. */
#define HOLD_AT(name, reg, enter, put, get, leave)                             \
    NI static void name(void)                                                  \
    {                                                                          \
        uint64_t key = HIDE_KEY;                                               \
        __asm__ volatile("movq %[hidden], %%rax\n"                             \
                         "xorq %[key], %%rax\n" enter put "\n"                 \
                         "xorl %%eax, %%eax\n"                                 \
                         "movl $1, %[held]\n"                                  \
                         "1: cmpl $0, %[let_go]\n"                             \
                         "je 1b\n" get "\n"                                    \
                         "xorq %[key], %%rax\n"                                \
                         "movq %%rax, %[hidden]\n"                             \
                         "xorl %%eax, %%eax\n" put "\n" leave                  \
                         : [hidden] "+m"(hidden), [held] "=m"(held)            \
                         : [let_go] "m"(let_go), [key] "S"(key)                \
                         : "rax", reg, "memory", "cc");                        \
    }
#define HOLD(name, reg, put, get) HOLD_AT(name, reg, "", put, get, "")
#define HOLD_GPR(reg)                                                          \
    HOLD(in_##reg, #reg, "movq %%rax, %%" #reg, "movq %%" #reg ", %%rax")
/* clang-format off */
HOLD_GPR(rcx) HOLD_GPR(rdi) HOLD_GPR(r8) HOLD_GPR(r11)
HOLD_GPR(r12) HOLD_GPR(r15)
/* With the stack pointer at a multiple of 4, where clang leaves it in functions
 * that call nothing. */
#define HOLD_ODD(reg, clobber, save, restore)                                  \
    HOLD_AT(odd_##reg, clobber, save "leaq -132(%%rsp), %%rsp\n",              \
            "movq %%rax, %%" #reg, "movq %%" #reg ", %%rax",                   \
            "leaq 132(%%rsp), %%rsp\n" restore)
HOLD_ODD(rcx, "rcx", "", "")
HOLD_ODD(rbx, "rbx", "", "")
HOLD_ODD(rbp, "r9", "movq %%rbp, %%r9\n", "movq %%r9, %%rbp\n")
    /* clang-format on */
    HOLD(in_xmm9, "xmm9", "movq %%rax, %%xmm9", "movq %%xmm9, %%rax")
    /* In the upper quarter of a register that only AVX-512 has. */
    AVX512 HOLD(in_zmm20, "memory",
                "vpbroadcastq %%rax, %%zmm20\n"
                "movl $0x80, %%eax\n"
                "kmovw %%eax, %%k1\n"
                "vmovdqa64 %%zmm20, %%zmm20%{%%k1%}%{z%}",
                "vextracti64x4 $1, %%zmm20, %%ymm21\n"
                "vextracti64x2 $1, %%ymm21, %%xmm21\n"
                "vpextrq $1, %%xmm21, %%rax")

        static struct hold {
    const char *name;
    void (*fn)(void);
    bool (*can)(void);
} holds[] = {
    {"rcx", in_rcx, always},         {"rdi", in_rdi, always},
    {"r8", in_r8, always},           {"r11", in_r11, always},
    {"r12", in_r12, always},         {"r15", in_r15, always},
    {"odd rcx", odd_rcx, always},    {"odd rbx", odd_rbx, always},
    {"odd rbp", odd_rbp, always},    {"xmm9", in_xmm9, always},
    {"zmm20", in_zmm20, has_avx512},
};

static void holder(void *arg)
{
    ((struct hold *)arg)->fn();
    wipe_stack();
    tarn_waitgroup_done(&wg);
}

NI static void make_hidden(void)
{
    void *p = tarn_alloc_conservative(96);
    CHECK(p != NULL);
    hidden = hide(p);
}

static void test_registers_keep_alive(void)
{
    /* The first object of all stays: the runtime's own data, which are data of
     * this program, have the heap's address in them. */
    make_hidden();
    for (size_t i = 0; i < sizeof holds / sizeof holds[0]; i++) {
        if (!holds[i].can())
            continue;
        make_hidden();
        wipe_stack();
        held = let_go = 0;
        tarn_waitgroup_add(&wg, 1);
        go(holder, &holds[i]);
        while (!held)
            tarn_yield();
        for (int k = 0; k < 3; k++) {
            collect();
            if (!alive(hidden))
                fprintf(stderr, "in %s\n", holds[i].name);
            CHECK(alive(hidden));
        }
        let_go = 1;
        tarn_waitgroup_wait(&wg);
        /* And it was that register that kept it. */
        for (int k = 0; k < 20 && alive(hidden); k++) {
            wipe_stack();
            collect();
        }
        if (alive(hidden))
            fprintf(stderr, "after %s\n", holds[i].name);
        CHECK(!alive(hidden));
    }
}

/* --- loops without end ---------------------------------------------------------- */

NI static void for_ever(void)
{
    for (;;) {
    }
}

NI static void for_ever_counting(volatile uint64_t *n)
{
    for (;;)
        ++*n;
}

static volatile uint64_t counters[64];

static void endless(void *arg)
{
    uintptr_t i = (uintptr_t)arg;
    if (i % 2)
        for_ever_counting(&counters[i % 64]);
    else
        for_ever();
}

/* On every P, while the rest goes on: new goroutines, yields, collections. */
static void test_endless(void)
{
    for (uintptr_t i = 0; i < nprocs + 1; i++)
        go(endless, (void *)i);
    for (int k = 0; k < (nprocs > 2 ? 3 : 10); k++) {
        uint64_t before = preempt_stats().injected;
        /* More than once as long as the other Ps have no thread that got as
         * far as running one of them: nobody needs to be stopped then. */
        do {
            collect();
            tarn_yield();
        } while (preempt_stats().injected == before);
    }
    struct tarn_preempt_stats s = preempt_stats();
    CHECK_GT(s.injected, nprocs);
}

static void steps(void *unused)
{
    (void)unused;
    RUN(test_asyncPreempt);
}

static void body(void)
{
    RUN(test_doSigPreempt);
    RUN(test_registers_keep_alive);
    RUN(test_endless);
}

static void steps_body(void)
{
    steps(NULL);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    expect();
    struct sigaction sa = {.sa_sigaction = storm_handler,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK_EQ(sigaction(SIGURG, &sa, NULL), 0);
    /* Steps are those of one thread, and nobody else asks it to stop. */
    gc_run(steps_body, 1, "droppreempt=100");
    gc_run(body, 1, "");
    gc_run(body, 2, "checkmark=1");
    gc_run(body, 16, "");
    return harness_done();
}

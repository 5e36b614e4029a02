/* What a collection must find on a stopped goroutine's stack: objects whose only
 * pointer is in a callee-saved register of a caller, in an argument register at
 * a prologue (vectors too), in an alloca block, inside or one past the end of
 * the object, in the operand of a blocked operation. And what it must not find:
 * the dead part of the stack.
 *
 * Everything else holds pointers with all bits flipped. A collection that has
 * found no pointer frees the object: tarn_object_base then says NULL (or its
 * memory is somebody else's by now, and its marks are gone). */
#include "tests/stack/stackcase.h"

#define HIDE(p) (~(uint64_t)(uintptr_t)(p))
#define OBJECT 48 /* a size class of its own here */
#define MAGIC UINT64_C(0x7461726e6f626a00)

static bool stress; /* moved at every prologue */

/* The arguments of load_and_call, hidden. */
struct args {
    uint64_t rdi, rsi, rdx, rcx, r8, r9;
    uint64_t v[8][8];
    uint64_t level;
};
static struct args args;

/* void load_and_call(void *fn): flips the words of args into the argument
 * registers and calls fn, with no copy left. The frame is unchecked but small.
 * void hold_and_call(uint64_t hidden[6], fn): in the callee-saved registers;
 * stores what they are afterwards back, hidden again. */
__asm__(
    ".text\n"
    ".type load_and_call, @function\n"
    "load_and_call:\n"
    "subq $8, %rsp\n"
    "movq %rdi, %rax\n"
    "leaq args(%rip), %r10\n"
    "movq 560(%r10), %r11\n"
    "cmpq $1, %r11\n"
    "ja 2f\n"
    "je 1f\n"
#define LOAD_XMM(n)                                                            \
    "movdqu 48+64*" #n "(%r10), %xmm" #n "\n"                                  \
    "pxor %xmm8, %xmm" #n "\n"
#define LOAD_YMM(n)                                                            \
    "vmovdqu 48+64*" #n "(%r10), %ymm" #n "\n"                                 \
    "vxorps %ymm8, %ymm" #n ", %ymm" #n "\n"
#define LOAD_ZMM(n)                                                            \
    "vmovdqu64 48+64*" #n "(%r10), %zmm" #n "\n"                               \
    "vpternlogq $0x55, %zmm" #n ", %zmm" #n ", %zmm" #n "\n"
#define EIGHT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
    "pcmpeqd %xmm8, %xmm8\n" EIGHT(
        LOAD_XMM) "jmp 3f\n"
                  "1:\n"
                  "pcmpeqd %xmm8, %xmm8\n"
                  "vinsertf128 $1, %xmm8, %ymm8, %ymm8\n" EIGHT(
                      LOAD_YMM) "jmp 3f\n"
                                "2:\n" EIGHT(
                                    LOAD_ZMM) "3:\n"
                                              "movq 0(%r10), %rdi\n notq %rdi\n"
                                              "movq 8(%r10), %rsi\n notq %rsi\n"
                                              "movq 16(%r10), %rdx\n notq "
                                              "%rdx\n"
                                              "movq 24(%r10), %rcx\n notq "
                                              "%rcx\n"
                                              "movq 32(%r10), %r8\n notq %r8\n"
                                              "movq 40(%r10), %r9\n notq %r9\n"
                                              "xorl %r10d, %r10d\n"
                                              "call *%rax\n"
                                              "addq $8, %rsp\n"
                                              "ret\n"
                                              ".size load_and_call, . - "
                                              "load_and_call\n"
                                              ".type hold_and_call, @function\n"
                                              "hold_and_call:\n"
                                              "pushq %rbp\n pushq %rbx\n pushq "
                                              "%r12\n"
                                              "pushq %r13\n pushq %r14\n pushq "
                                              "%r15\n"
                                              "pushq %rdi\n"
                                              "movq 0(%rdi), %rbx\n notq %rbx\n"
                                              "movq 8(%rdi), %rbp\n notq %rbp\n"
                                              "movq 16(%rdi), %r12\n notq "
                                              "%r12\n"
                                              "movq 24(%rdi), %r13\n notq "
                                              "%r13\n"
                                              "movq 32(%rdi), %r14\n notq "
                                              "%r14\n"
                                              "movq 40(%rdi), %r15\n notq "
                                              "%r15\n"
                                              "xorl %edi, %edi\n"
                                              "call *%rsi\n"
                                              "popq %rdi\n"
                                              "notq %rbx\n movq %rbx, "
                                              "48(%rdi)\n"
                                              "notq %rbp\n movq %rbp, "
                                              "56(%rdi)\n"
                                              "notq %r12\n movq %r12, "
                                              "64(%rdi)\n"
                                              "notq %r13\n movq %r13, "
                                              "72(%rdi)\n"
                                              "notq %r14\n movq %r14, "
                                              "80(%rdi)\n"
                                              "notq %r15\n movq %r15, "
                                              "88(%rdi)\n"
                                              "popq %r15\n popq %r14\n popq "
                                              "%r13\n"
                                              "popq %r12\n popq %rbx\n popq "
                                              "%rbp\n"
                                              "ret\n"
                                              ".size hold_and_call, . - "
                                              "hold_and_call\n");
void load_and_call(void *fn);
void hold_and_call(uint64_t *hidden, void *fn);
_Static_assert(offsetof(struct args, v) == 48, "load_and_call");
_Static_assert(offsetof(struct args, level) == 560, "load_and_call");

/* A new object, hidden; its pointer stays in dead frames at most, and clean()
 * writes over those. */
NI static uint64_t make(uint64_t tag)
{
    uint64_t *p = tarn_alloc_bytes(OBJECT);
    CHECK(p != NULL);
    p[0] = MAGIC + tag;
    return HIDE(p);
}

NI static uint64_t clean(void)
{
    volatile uint64_t a[512];
    for (int i = 0; i < 512; i++)
        a[i] = 0;
    return a[7];
}

NI static uint64_t make_clean(uint64_t tag)
{
    uint64_t h = make(tag);
    return h + clean();
}

NI static bool alive(uint64_t hidden, uint64_t tag)
{
    uint64_t *p = (uint64_t *)(uintptr_t)~hidden;
    bool r = tarn_object_base(p) == p && p[0] == MAGIC + tag;
    p = NULL;
    OPAQUE(p);
    return r;
}

NI static void check_alive(uint64_t hidden, uint64_t tag, const char *what)
{
    if (!alive(hidden, tag))
        fprintf(stderr, "%s: object %d is gone\n", what, (int)tag);
    CHECK(alive(hidden, tag));
}

/* --- two goroutines: one to be scanned, one that collects -------------------- */

static tarn_sema parked, collected, finished;
static struct g *_Atomic subject;
static void (*body)(void);

/* Called by the subject: a collection happens while it is blocked here. */
NI static void collect_here(void)
{
    tarn_sema_release(&parked);
    tarn_sema_acquire(&collected);
}

/* Called by the subject: its next prologue parks it until the collector has
 * scanned it. */
NI static void stop_at_next_prologue(void)
{
    struct g *gp = getg();
    tarn_sema_release(&parked);
    atomic_store(&gp->suspenders, 1); /* us: it parks only for somebody */
    atomic_store(&gp->preemptStop, true);
    atomic_store(&gp->preempt, true);
    set_stackguard(gp, STACK_PREEMPT);
}

static void subject_main(void *unused)
{
    (void)unused;
    atomic_store(&subject, getg());
    body();
    atomic_store(&subject, NULL);
    tarn_sema_release(&finished);
}

/* Runs fn as the subject; n times it says that it is ready for a collection,
 * and is stopped in one of the given states soon after. */
NI static void with_collector(void (*fn)(void), int n, bool preempted)
{
    body = fn;
    CHECK_EQ(tarn_go(subject_main, NULL), TARN_OK);
    for (int i = 0; i < n; i++) {
        tarn_sema_acquire(&parked);
        struct g *gp = atomic_load(&subject);
        while (readgstatus(gp) != (uint32_t)(preempted ? Gpreempted : Gwaiting))
            tarn_yield();
        if (preempted)
            atomic_store(&gp->suspenders, 0);
        CHECK_EQ(tarn_gc(), TARN_OK);
        tarn_sema_release(&collected);
    }
    tarn_sema_acquire(&finished);
}

/* --- callee-saved registers ----------------------------------------------------- */

static uint64_t held[12];

NI static void nothing_else(void *unused)
{
    (void)unused;
    collect_here();
}

static void body_callee_saved(void)
{
    for (uint64_t i = 0; i < 6; i++)
        held[i] = make_clean(i);
    hold_and_call(held, (void *)(uintptr_t)nothing_else);
    for (uint64_t i = 0; i < 6; i++) {
        CHECK_EQ(held[i], held[i + 6]);
        check_alive(held[i], i, "callee-saved register");
    }
}

static void test_callee_saved(void)
{
    with_collector(body_callee_saved, 1, false);
}

/* --- argument registers at a prologue ---------------------------------------------- */

static uint64_t seen[6];

NI static void receive(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    seen[0] = ~a;
    seen[1] = ~b;
    seen[2] = ~c;
    seen[3] = ~d;
    seen[4] = ~e;
    seen[5] = ~f;
    tarn_sema_acquire(&collected); /* until the sweep is done */
}

static void body_arguments(void)
{
    uint64_t n = args.level > 1 ? 8 : args.level > 0 ? 4 : 2;
    uint64_t *h = &args.rdi;
    for (uint64_t i = 0; i < 6; i++)
        h[i] = make_clean(i);
    for (uint64_t i = 0; i < 8; i++)
        for (uint64_t k = 0; k < n; k++)
            args.v[i][k] = make_clean(100 + i * 8 + k);
    stop_at_next_prologue();
    load_and_call((void *)(uintptr_t)receive);
    for (uint64_t i = 0; i < 6; i++) {
        CHECK_EQ(seen[i], h[i]);
        check_alive(h[i], i, "argument register");
    }
    for (uint64_t i = 0; i < 8; i++)
        for (uint64_t k = 0; k < n; k++)
            check_alive(args.v[i][k], 100 + i * 8 + k, "vector argument");
}

static void test_arguments(void)
{
    args.level = __builtin_cpu_supports("avx512f") ? 2
                 : __builtin_cpu_supports("avx")   ? 1
                                                   : 0;
    with_collector(body_arguments, 1, true);
}

/* --- alloca --------------------------------------------------------------------------- */

/* The real one where the compiler calls it, and the function itself always. */
void *__morestack_allocate_stack_space(size_t size);

NI static void reveal(uint64_t **slot, uint64_t hidden)
{
    *slot = (uint64_t *)(uintptr_t)~hidden;
}

static uint64_t in_block[3];

NI static void body_alloca(void)
{
    for (uint64_t i = 0; i < 3; i++)
        in_block[i] = make_clean(i);
    uint64_t **block = __morestack_allocate_stack_space(4096);
    uint64_t **own = __builtin_alloca((seen[0] & 63) * 8 + 800);
    reveal(&block[0], in_block[0]);
    reveal(&block[511], in_block[1]);
    reveal(&own[50], in_block[2]);
    clean();
    collect_here();
    OPAQUE(block);
    OPAQUE(own);
    for (uint64_t i = 0; i < 3; i++)
        check_alive(in_block[i], i, "alloca");
    CHECK_EQ(*block[0], MAGIC + 0);
    CHECK_EQ(*block[511], MAGIC + 1);
    CHECK_EQ(*own[50], MAGIC + 2);
}

static void test_alloca(void)
{
    with_collector(body_alloca, 1, false);
}

/* --- inside, and one past the end ------------------------------------------------------- */

static uint64_t inside[4];

NI static void body_interior(void)
{
    char *volatile p[4];
    for (uint64_t i = 0; i < 4; i++)
        inside[i] = make_clean(i);
    for (int i = 0; i < 4; i++)
        reveal((uint64_t **)(uintptr_t)&p[i], inside[i]);
    p[0] += 1;
    p[1] += OBJECT - 1;
    p[2] += OBJECT; /* one past the end */
    p[3] += OBJECT / 2;
    clean();
    collect_here();
    for (uint64_t i = 0; i < 4; i++)
        check_alive(inside[i], i, "interior pointer");
    CHECK(p[2] - p[0] != 0);
}

static void test_interior(void)
{
    with_collector(body_interior, 1, false);
}

/* --- operands of blocked operations -------------------------------------------------------- */

static tarn_chan *chan;
static uint64_t operand;

/* The channel's copy of the pointer comes from a frame of the sender only. */
NI static void body_send(void)
{
    uint64_t *volatile slot;
    operand = make_clean(0);
    reveal((uint64_t **)(uintptr_t)&slot, operand);
    tarn_sema_release(&parked);
    CHECK_EQ(tarn_chan_send(chan, (void *)(uintptr_t)&slot), TARN_OK);
}

/* The operand itself is in the object: nothing else points to it. */
NI static void body_send_object(void)
{
    operand = make_clean(0);
    tarn_sema_release(&parked);
    CHECK_EQ(tarn_chan_send(chan, (void *)(uintptr_t)~operand), TARN_OK);
}

NI static void receive_one(void (*fn)(void), bool pointer)
{
    uint64_t v[1] = {0};
    chan = tarn_chan_new(8, 0);
    body = fn;
    CHECK_EQ(tarn_go(subject_main, NULL), TARN_OK);
    tarn_sema_acquire(&parked);
    while (readgstatus(atomic_load(&subject)) != Gwaiting)
        tarn_yield();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(tarn_gc(), TARN_OK);
    check_alive(operand, 0, "operand of a blocked send");
    CHECK_EQ(tarn_chan_recv(chan, v), TARN_OK);
    CHECK_EQ(v[0], pointer ? ~operand : MAGIC);
    tarn_sema_acquire(&finished);
}

static void test_operand(void)
{
    receive_one(body_send, true);
    receive_one(body_send_object, false);
}

/* --- arguments of goroutines that have not run --------------------------------------------- */

#define FRESH 300
static uint64_t fresh[FRESH];
static tarn_waitgroup fresh_wg;

static void fresh_main(void *arg)
{
    uint64_t *p = arg, i = p[0] - MAGIC;
    CHECK(i < FRESH && fresh[i] == HIDE(p));
    CHECK(tarn_object_base(p) == p);
    tarn_yield();
    CHECK_EQ(p[0], MAGIC + i);
    tarn_waitgroup_done(&fresh_wg);
}

NI static void start_fresh(uint64_t i)
{
    CHECK_EQ(tarn_go(fresh_main, (void *)(uintptr_t)~fresh[i]), TARN_OK);
}

static void test_fresh(void)
{
    tarn_waitgroup_add(&fresh_wg, FRESH);
    for (uint64_t i = 0; i < FRESH; i++)
        fresh[i] = make(i);
    for (uint64_t i = 0; i < FRESH; i++)
        start_fresh(i);
    clean();
    CHECK_EQ(tarn_gc(), TARN_OK);
    tarn_waitgroup_wait(&fresh_wg);
}

/* --- the dead part ---------------------------------------------------------------------------- */

#define DEAD 2000
static uint64_t dead[DEAD];

/* Pointers in frames of many depths, all dead when it returns. */
NI static uint64_t litter(uint64_t i)
{
    uint64_t *volatile keep[3];
    if (i >= DEAD)
        return 0;
    for (int k = 0; k < 3; k++)
        reveal((uint64_t **)(uintptr_t)&keep[k], dead[i] = make(i));
    uint64_t r = litter(i + 1);
    OPAQUE(r);
    return r + (keep[0] == NULL);
}

static void body_dead(void)
{
    litter(0);
    collect_here();
}

static void test_dead_part(void)
{
    with_collector(body_dead, 1, false);
    int kept = 0;
    for (uint64_t i = 0; i < DEAD; i++)
        kept += alive(dead[i], i);
    printf("%d of %d objects of dead frames kept\n", kept, DEAD);
    CHECK_LT(kept, DEAD / 20);
}

static void run_all(void *unused)
{
    (void)unused;
    uint64_t copies = stack_stats.copies;
    for (int i = 0; i < 3; i++) {
        RUN(test_callee_saved);
        RUN(test_arguments);
        RUN(test_alloca);
        RUN(test_interior);
        RUN(test_operand);
        RUN(test_fresh);
        RUN(test_dead_part);
    }
    if (stress)
        CHECK_GT(stack_stats.copies, copies);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    (void)stack_case_main;
    /* A collection while a pointer is hidden everywhere frees its object: no
     * other collections than ours. */
    unsetenv("TARN");
    __builtin_cpu_init();
    for (int i = 0; i < 4; i++) {
        stress = i & 1;
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            struct tarn_options o;
            alarm(600);
            tarn_options_init(&o);
            o.maxprocs = i < 2 ? 1 : 3;
            o.gcoff = 1;
            o.stackmove = stress;
            o.checkmark = stress;
            CHECK_EQ(tarn_main(&o, run_all, NULL), TARN_OK);
            exit(0);
        }
        int status = 0;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 0);
    }
    harness_passed = 7;
    return harness_done();
}

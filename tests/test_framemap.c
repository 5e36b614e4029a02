/* tests/test_framemap.c - the registry of frame maps against a model, its errors,
 * its readers beside its writers; and the walk by unwind tables against libgcc's,
 * on stacks of every state in which one is scanned. */
#define _GNU_SOURCE
#include <pthread.h>
#include <unwind.h>

#include "gcsuite.h"
#include "stackscan/framemap.h"

/* --- the registry ----------------------------------------------------------- */

/* Nothing is run there. */
#define TEXT ((uintptr_t)0x10000000)

static tarn_status add(uintptr_t lo, uintptr_t hi,
                       const struct tarn_frame_map *maps, size_t n)
{
    return tarn_frame_maps_register(
        &(struct tarn_frame_maps){(const void *)lo, (const void *)hi, maps, n});
}

static tarn_status del(uintptr_t lo, uintptr_t hi)
{
    return tarn_frame_maps_unregister((const void *)lo, (const void *)hi);
}

static bool known(uintptr_t ret)
{
    struct tarn_frame_map m;
    return framemap_find(ret, &m);
}

static void test_register(void)
{
    uint64_t pointers = 0x5, locals = 0x2;
    struct tarn_frame_map m = {.ret = TEXT + 20,
                               .size = 64,
                               .pointers = &pointers,
                               .locals = &locals,
                               .saved = {[UNW_RBX] = 7}};
    struct tarn_frame_map got;
    CHECK(!known(TEXT + 20));
    CHECK_ST(add(TEXT, TEXT + 100, &m, 1), TARN_OK);
    pointers = locals = 0; /* they are copied */
    CHECK(framemap_find(TEXT + 20, &got));
    CHECK_EQ(got.size, 64u);
    CHECK_EQ(got.pointers[0], 0x45u); /* the saved register is in both */
    CHECK_EQ(got.locals[0], 0x42u);
    CHECK_EQ(got.saved[UNW_RBX], 7);
    CHECK(!known(TEXT + 19) && !known(TEXT + 21) && !known(0));
    CHECK_ST(del(TEXT, TEXT + 100), TARN_OK);
    CHECK(!known(TEXT + 20));
    /* A range without maps, and frames without words. */
    struct tarn_frame_map least = {.ret = TEXT + 100, .size = 8};
    CHECK_ST(add(TEXT, TEXT + 50, NULL, 0), TARN_OK);
    CHECK_ST(add(TEXT + 50, TEXT + 100, &least, 1), TARN_OK);
    CHECK(known(TEXT + 100)); /* behind a call at the very end */
    CHECK_ST(del(TEXT, TEXT + 50), TARN_OK);
    CHECK(known(TEXT + 100));
    CHECK_ST(del(TEXT + 50, TEXT + 100), TARN_OK);
}

static void refused(uintptr_t lo, uintptr_t hi,
                    const struct tarn_frame_map *maps, size_t n,
                    const char *why)
{
    CHECK_ST(add(lo, hi, maps, n), TARN_EINVAL);
    if (strstr(tarn_last_error(), why) == NULL)
        fprintf(stderr, "error is \"%s\", lacks \"%s\"\n", tarn_last_error(),
                why);
    CHECK(strstr(tarn_last_error(), why) != NULL);
}

static void test_errors(void)
{
    uint64_t bits = UINT64_C(1) << 7;
    struct tarn_frame_map good = {.ret = TEXT + 20, .size = 64};
    struct tarn_frame_map m[2] = {good, good};
    CHECK_ST(tarn_frame_maps_register(NULL), TARN_EINVAL);
    refused(0, TEXT, m, 1, "no range");
    refused(TEXT, TEXT, m, 1, "no range");
    refused(TEXT, TEXT + 9, NULL, 1, "no range or no maps");
    refused(TEXT, TEXT + 100, m, 2,
            "two maps for the return address 0x10000014");
    m[0].ret = TEXT;
    refused(TEXT, TEXT + 100, m, 1, "does not hold the return address");
    m[0].ret = TEXT + 101;
    refused(TEXT, TEXT + 100, m, 1, "does not hold the return address");
    static const uint32_t sizes[] = {0, 7, 12, TARN_FRAME_SIZE_MAX + 8,
                                     UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        m[0] = good;
        m[0].size = sizes[i];
        refused(TEXT, TEXT + 100, m, 1, "bad size");
    }
    m[0] = good;
    m[0].pointers = &bits; /* 7 words: 0 to 6 */
    refused(TEXT, TEXT + 100, m, 1, "words outside of the frame");
    m[0] = good;
    m[0].locals = &bits;
    refused(TEXT, TEXT + 100, m, 1, "words outside of the frame");
    m[0] = good;
    m[0].saved[UNW_R15] = 8;
    refused(TEXT, TEXT + 100, m, 1, "register outside of the frame");
    CHECK(!known(TEXT + 20));
    CHECK_ST(add(TEXT, TEXT + 100, &good, 1), TARN_OK);
    refused(TEXT + 99, TEXT + 200, NULL, 0, "overlaps the range registered");
    refused(TEXT - 99, TEXT + 1, NULL, 0, "overlaps the range registered");
    refused(TEXT + 5, TEXT + 6, NULL, 0, "overlaps the range registered");
    CHECK_ST(del(TEXT, TEXT + 99), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "is registered");
    CHECK_ST(del(TEXT + 1, TEXT + 100), TARN_EINVAL);
    CHECK_ST(del(TEXT, TEXT + 100), TARN_OK);
    CHECK_ST(del(TEXT, TEXT + 100), TARN_EINVAL);
}

/* Ranges come and go; every answer is as the model's. */
static void test_model(void)
{
    enum { RANGES = 40, MAPS = 50, SPAN = 256 };
    static struct {
        bool there;
        size_t n;
        struct tarn_frame_map maps[MAPS];
        uint64_t bits[MAPS][3];
    } model[RANGES];
    uint64_t rng = seed_of(1);
    for (int round = 0; round < 2000; round++) {
        uint32_t r = below(&rng, RANGES);
        uintptr_t lo = TEXT + (uintptr_t)r * SPAN, hi = lo + SPAN;
        if (model[r].there) {
            CHECK_ST(del(lo, hi), TARN_OK);
        } else {
            model[r].n = below(&rng, MAPS + 1);
            uint32_t at = 0;
            for (size_t i = 0; i < model[r].n; i++) {
                struct tarn_frame_map *m = &model[r].maps[i];
                at += 1 + below(&rng, 5);
                *m = (struct tarn_frame_map){
                    .ret = lo + at, .size = 8 * (1 + below(&rng, 190))};
                for (int k = 0; k < 3; k++)
                    model[r].bits[i][k] = harness_rand(&rng);
                size_t n = m->size / 8 - 1;
                for (int k = 0; k < 3; k++)
                    for (size_t b = 0; b < 64; b++)
                        if ((size_t)k * 64 + b >= n)
                            model[r].bits[i][k] &= ~(UINT64_C(1) << b);
                m->pointers = model[r].bits[i];
                m->locals = below(&rng, 2) ? NULL : model[r].bits[i];
            }
            /* In any order. */
            for (size_t i = model[r].n; i > 1; i--) {
                size_t k = below(&rng, (uint32_t)i);
                struct tarn_frame_map t = model[r].maps[i - 1];
                model[r].maps[i - 1] = model[r].maps[k];
                model[r].maps[k] = t;
            }
            CHECK_ST(add(lo, hi, model[r].maps, model[r].n), TARN_OK);
        }
        model[r].there ^= true;
        for (int probe = 0; probe < 200; probe++) {
            uintptr_t ret = TEXT + below(&rng, RANGES * SPAN + 2);
            const struct tarn_frame_map *want = NULL;
            for (int k = 0; k < RANGES; k++)
                for (size_t i = 0; model[k].there && i < model[k].n; i++)
                    if (model[k].maps[i].ret == ret)
                        want = &model[k].maps[i];
            struct tarn_frame_map got;
            CHECK_EQ(framemap_find(ret, &got), want != NULL);
            if (want == NULL)
                continue;
            CHECK_EQ(got.size, want->size);
            for (size_t w = 0; w < want->size / 8 - 1; w++) {
                uint64_t p = got.pointers[w / 64] >> w % 64 & 1;
                uint64_t l = got.locals[w / 64] >> w % 64 & 1;
                CHECK_EQ(p, want->pointers[w / 64] >> w % 64 & 1);
                CHECK_EQ(l, want->locals ? p : 0);
            }
        }
    }
    for (uint32_t r = 0; r < RANGES; r++) {
        if (model[r].there)
            CHECK_ST(del(TEXT + (uintptr_t)r * SPAN,
                         TEXT + (uintptr_t)(r + 1) * SPAN),
                     TARN_OK);
        model[r].there = false;
    }
}

/* Readers never miss what is there all the time, nor see half of a map. */
static _Atomic bool readers_stop;

static void *reader(void *unused)
{
    (void)unused;
    while (!atomic_load(&readers_stop)) {
        struct tarn_frame_map m;
        CHECK(framemap_find(TEXT + 7, &m));
        CHECK_EQ(m.size, 56u);
        if (framemap_find(TEXT + 1003, &m))
            CHECK(m.ret == TEXT + 1003 && m.size == 80);
    }
    return NULL;
}

static void test_readers(void)
{
    pthread_t t[2];
    struct tarn_frame_map always = {.ret = TEXT + 7, .size = 56};
    struct tarn_frame_map sometimes = {.ret = TEXT + 1003, .size = 80};
    CHECK_ST(add(TEXT, TEXT + 10, &always, 1), TARN_OK);
    atomic_store(&readers_stop, false);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&t[i], NULL, reader, NULL), 0);
    for (int i = 0; i < SUITE_REPEAT(2000); i++) {
        CHECK_ST(add(TEXT + 1000, TEXT + 1010, &sometimes, 1), TARN_OK);
        CHECK_ST(del(TEXT + 1000, TEXT + 1010), TARN_OK);
    }
    atomic_store(&readers_stop, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(t[i], NULL), 0);
    CHECK_ST(del(TEXT, TEXT + 10), TARN_OK);
}

/* --- the walk --------------------------------------------------------------------- */

#define FRAMES 400

struct trace {
    size_t n;
    uintptr_t pc[FRAMES], cfa[FRAMES];
};

static _Unwind_Reason_Code add_frame(struct _Unwind_Context *c, void *vt)
{
    struct trace *t = vt;
    if (t->n == FRAMES)
        return _URC_END_OF_STACK;
    t->pc[t->n] = _Unwind_GetIP(c);
    t->cfa[t->n++] = _Unwind_GetCFA(c);
    return _URC_NO_REASON;
}

/* The goroutine's frames as a scan finds them: by who has them to himself. */
static void our_trace(struct g *gp, struct trace *t)
{
    struct unwind u;
    t->n = 0;
    uintptr_t sp = gp->syscallsp ? gp->syscallsp : gp->sched_sp;
    bool more = unwind_begin(&u, gp, sp, gp->stack.hi, 0);
    CHECK(more);
    while (more && t->n < FRAMES) {
        t->pc[t->n] = u.pc;
        t->cfa[t->n++] = u.sp;
        uintptr_t before = u.sp;
        more = unwind_next(&u);
        CHECK(!more || u.sp > before);
    }
}

static struct trace theirs, ours;

static void take_ours(void *gp)
{
    our_trace(gp, &ours);
}

/* The frames of both from the caller of this function up to the goroutine's first
 * one are the same: return addresses, and where the frames lie. (What libgcc says
 * is a frame's CFA while it stands at it is that of the frame below: its rsp.) */
__attribute__((noinline)) static void compare(size_t least)
{
    theirs.n = 0;
    _Unwind_Backtrace(add_frame, &theirs);
    systemstack(take_ours, getg());
    /* Ours begins with this function. */
    size_t k = 1;
    size_t from = 0;
    while (from < theirs.n && theirs.pc[from] != ours.pc[1])
        from++;
    CHECK_LT(from, theirs.n);
    CHECK_GE(ours.n, least);
    for (size_t i = from; k < ours.n; i++, k++) {
        bool same = i < theirs.n && theirs.pc[i] == ours.pc[k] &&
                    theirs.cfa[i] == ours.cfa[k];
        if (!same)
            fprintf(stderr, "frame %zu of %zu: %#lx/%#lx, libgcc %#lx/%#lx\n",
                    k, ours.n, ours.pc[k], ours.cfa[k],
                    i < theirs.n ? theirs.pc[i] : 0,
                    i < theirs.n ? theirs.cfa[i] : 0);
        CHECK(same);
    }
    /* To the entry of goroutines, which says that it has no caller. */
    CHECK_EQ(ours.pc[ours.n - 1] - (uintptr_t)goroutine_entry < 64, true);
}

__attribute__((noinline)) static int deep(int n)
{
    volatile char pad[16 + 8 * (n % 5)];
    pad[0] = (char)n;
    if (n == 0)
        compare(20);
    else
        deep(n - 1);
    return pad[0];
}

/* rbp for the frame, and the alignment by an expression that ends a walk. */
__attribute__((noinline)) static int with_alloca(int n)
{
    char *p = __builtin_alloca((size_t)n);
    memset(p, n, (size_t)n);
    deep(n % 30 + 20);
    return p[0];
}

static int by_compare(const void *a, const void *b)
{
    static int calls;
    if (calls++ == 3)
        compare(5);
    return *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) static void through_libc(void)
{
    int v[20];
    for (int i = 0; i < 20; i++)
        v[i] = i * 7 % 20;
    qsort(v, 20, sizeof v[0], by_compare);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(v[i], i);
}

/* All callee-saved registers in use, so that they are saved and restored. */
__attribute__((noinline)) static uint64_t registers(uint64_t a, int n)
{
    uint64_t b = a * 3, c = b ^ 5, d = c + a, e = d * 7, f = e - b;
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    if (n == 0)
        compare(10);
    else
        f ^= registers(f, n - 1); /* no loop can do it */
    return a + b + c + d + e + f;
}

static void test_walk(void)
{
    if (TARN_ASAN || TARN_TSAN)
        SKIP("frames of sanitizers are in between");
    deep(19);
    deep(200);
    for (int i = 1; i < 30; i++)
        with_alloca(i * 8);
    through_libc();
    CHECK_NE(registers(3, 12), 0u);
}

/* Registers: what the walk finds for a frame is what the frame has. */
static uintptr_t saved_rbx, saved_r12, found_rbx, found_r12;
static uintptr_t marker_pc;

static void find_marker(void *vgp)
{
    struct unwind u;
    struct g *gp = vgp;
    CHECK(unwind_begin(&u, gp, gp->sched_sp, gp->stack.hi, 0));
    do {
        if (u.pc == marker_pc) {
            CHECK((u.known & 1 << UNW_RBX) && (u.known & 1 << UNW_R12));
            found_rbx = u.reg[UNW_RBX];
            found_r12 = u.reg[UNW_R12];
            for (int i = 0; i < UNW_REGS; i++)
                CHECK(u.at[i] == 0 || *(const uintptr_t *)u.at[i] == u.reg[i]);
            return;
        }
    } while (unwind_next(&u));
}

__attribute__((noinline)) static void below_marker(int n)
{
    volatile int keep = n;
    if (n > 0)
        below_marker(n - 1);
    else
        systemstack(find_marker, getg());
    CHECK_EQ(keep, n);
}

void call_marked(uintptr_t rbx, uintptr_t r12, void (*fn)(int), uintptr_t *pc);
__asm__(".text\n"
        ".type call_marked, @function\n"
        "call_marked:\n"
        ".cfi_startproc\n"
        "pushq %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset rbx, 0\n"
        "pushq %r12\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset r12, 0\n"
        "subq $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "movq %rdi, %rbx\n"
        "movq %rsi, %r12\n"
        "leaq 1f(%rip), %rax\n"
        "movq %rax, (%rcx)\n"
        "movl $9, %edi\n"
        "call *%rdx\n"
        "1: addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "popq %r12\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore r12\n"
        "popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore rbx\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size call_marked, . - call_marked\n");

static void test_walk_registers(void)
{
    saved_rbx = 0x1234567890;
    saved_r12 = 0x9876543210;
    found_rbx = found_r12 = 0;
    call_marked(saved_rbx, saved_r12, below_marker, &marker_pc);
    CHECK_EQ(found_rbx, saved_rbx);
    CHECK_EQ(found_r12, saved_r12);
}

/* Others, in every state in which they are scanned. They are known by their
 * frames. */
#define NOT_A_JUMP __asm__ volatile("")
static _Atomic uint32_t state_ready;
static tarn_chan *state_chan;

static void in_chan(void *unused)
{
    (void)unused;
    int v;
    tarn_chan_recv(state_chan, &v);
}

static void in_loop(void *unused)
{
    (void)unused;
    while (atomic_load(&state_ready) == 0)
        tarn_poll();
}

static void *native_wait(void *unused)
{
    while (atomic_load(&state_ready) == 0)
        futex_wait(&state_ready, 0, -1);
    return unused;
}

static void in_native(void *unused)
{
    tarn_native_call(native_wait, unused);
    NOT_A_JUMP;
}

__attribute__((noinline)) static void in_native_stack(void *unused)
{
    tarn_native_enter();
    native_wait(unused);
    tarn_native_leave();
}

static void callback(void *unused)
{
    (void)unused;
    int v;
    tarn_chan_recv(state_chan, &v);
}

static void *native_calls_back(void *unused)
{
    CHECK_ST(tarn_callback(callback, unused), TARN_OK);
    return NULL;
}

static void in_callback(void *unused)
{
    tarn_native_call(native_calls_back, unused);
    NOT_A_JUMP;
}

static void in_sleep(void *unused)
{
    (void)unused;
    while (atomic_load(&state_ready) == 0)
        tarn_sleep(1000000);
}

static struct {
    const char *name;
    tarn_fn fn;
    int whole, looked;
} states[] = {{"a channel", in_chan, 0, 0},
              {"a loop", in_loop, 0, 0},
              {"a native call", in_native, 0, 0},
              {"a native call on its stack", in_native_stack, 0, 0},
              {"a callback", in_callback, 0, 0},
              {"a sleep", in_sleep, 0, 0}};

static void state_goroutine(void *index)
{
    states[(uintptr_t)index].fn(NULL);
}

static void look_at_others(void *vself)
{
    struct g *self = vself;
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n; i++) {
        struct g *gp = allg_at(i);
        if (gp == self || gp->system || readgstatus(gp) == Gdead)
            continue;
        struct suspendGState st = suspendG(gp);
        if (st.dead)
            continue;
        if (!(gp->resume & (RESUME_START | RESUME_THAW)) && !gp->foreign) {
            static struct trace t;
            our_trace(gp, &t);
            bool whole = t.pc[t.n - 1] - (uintptr_t)goroutine_entry < 64;
            for (size_t f = 0; f < t.n; f++)
                CHECK(t.cfa[f] <= gp->stack.hi);
            for (size_t s = 0; s < ARRAY_LEN(states); s++) {
                uintptr_t fn = (uintptr_t)states[s].fn;
                bool in = false;
                for (size_t f = 0; f < t.n; f++)
                    in |= t.pc[f] - fn < 128;
                states[s].looked += in;
                states[s].whole += in && whole;
            }
        }
        resumeG(st);
    }
}

static void test_walk_others(void)
{
    if (TARN_ASAN || TARN_TSAN)
        SKIP("frames of sanitizers are in between");
    state_chan = new_chan(sizeof(int), 0);
    atomic_store(&state_ready, 0);
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        go(state_goroutine, (void *)i);
    for (int i = 0; i < 200; i++) {
        tarn_sleep(1000000);
        struct m *mp = acquirem();
        struct g *self = getg();
        releasem(mp);
        /* As the collector does: not a user goroutine that runs. */
        casGToWaiting(self, Grunning, WAIT_GC_SELF_SCAN);
        systemstack(look_at_others, self);
        casgstatus(self, Gwaiting, Grunning);
        bool all = true;
        for (size_t s = 0; s < ARRAY_LEN(states); s++)
            all &= states[s].whole > 0;
        if (all)
            break;
    }
    atomic_store(&state_ready, 1);
    futex_wake(&state_ready, UINT32_MAX >> 1);
    tarn_chan_close(state_chan);
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        printf("     %s: %d looked at, %d to the end\n", states[s].name,
               states[s].looked, states[s].whole);
        CHECK_GT(states[s].whole, 0);
        CHECK_EQ(states[s].whole, states[s].looked);
    }
    while (tarn_goroutines() > 1)
        tarn_sleep(1000000);
}

static void body(void)
{
    RUN(test_register);
    RUN(test_errors);
    RUN(test_model);
    RUN(test_readers);
    RUN(test_walk);
    RUN(test_walk_registers);
    RUN(test_walk_others);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_register); /* without a runtime */
    RUN(test_model);
    gc_run(body, 4, "");
    return harness_done();
}

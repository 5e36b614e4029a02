/* Frames with maps between frames without: what a map calls dead keeps nothing
 * alive, what it calls a pointer does; an address in the stack moves with it, a
 * number that looks like one does not change. With the goroutine parked in
 * channels, stopped between two instructions, stopped at a prologue, grown, and
 * in native calls. Without the maps the same program shows the opposite. */
#include "stackscan/framemap.h"
#include "gc/gc.h"
#include "tests/stack/stackcase.h"

#define HIDE(p) (~(uint64_t)(uintptr_t)(p))

struct level;

/* Puts its first four arguments into its frame, the first, second and fourth
 * hidden until then; calls fn(l); stores what it finds then into l->seen, hidden.
 * rbp is something else meanwhile. */
void mapped_call(uint64_t dead, uint64_t live, void *local, uint64_t number,
                 void (*fn)(struct level *), struct level *l);
/* The same without a map, but also without unwind tables: nobody knows what is
 * above. */
void blind_call(uint64_t dead, uint64_t live, void *local, uint64_t number,
                void (*fn)(struct level *), struct level *l);
extern const char mapped_begin[], mapped_return[], mapped_end[];

#define PROLOGUE(size)                                                         \
    "cmpq %fs:0x70, %rsp\n"                                                    \
    "jae 1f\n"                                                                 \
    "movl $" size ", %r10d\n"                                                  \
    "movl $0, %r11d\n"                                                         \
    "call __morestack\n"                                                       \
    "ret\n"                                                                    \
    "1:\n"
#define FILL                                                                   \
    "notq %rdi\n movq %rdi, 0(%rsp)\n"                                         \
    "notq %rsi\n movq %rsi, 8(%rsp)\n"                                         \
    "movq %rdx, 16(%rsp)\n"                                                    \
    "notq %rcx\n movq %rcx, 24(%rsp)\n"                                        \
    "xorl %esi, %esi\n xorl %edx, %edx\n xorl %ecx, %ecx\n"                    \
    "movq $0, 32(%rsp)\n"                                                      \
    "movq %r9, %rbx\n movq %r9, %rdi\n"                                        \
    "movl $0x5a5a, %ebp\n"
#define SEE                                                                    \
    "movq 0(%rsp), %rax\n notq %rax\n movq %rax, 0(%rbx)\n"                    \
    "movq 8(%rsp), %rax\n notq %rax\n movq %rax, 8(%rbx)\n"                    \
    "movq 16(%rsp), %rax\n notq %rax\n movq %rax, 16(%rbx)\n"                  \
    "movq 24(%rsp), %rax\n notq %rax\n movq %rax, 24(%rbx)\n"

__asm__(".text\n"
        ".type mapped_call, @function\n"
        ".globl mapped_begin, mapped_return, mapped_end, mapped_call\n"
        ".globl blind_call\n"
        "mapped_begin:\n"
        "mapped_call:\n"
        ".cfi_startproc\n" PROLOGUE(
            "64") "pushq %rbx\n"
                  ".cfi_adjust_cfa_offset 8\n"
                  ".cfi_rel_offset rbx, 0\n"
                  "pushq %rbp\n"
                  ".cfi_adjust_cfa_offset 8\n"
                  ".cfi_rel_offset rbp, 0\n"
                  "subq $40, %rsp\n"
                  ".cfi_adjust_cfa_offset 40\n" FILL "call *%r8\n"
                  "mapped_return:\n" SEE "addq $40, %rsp\n"
                  ".cfi_adjust_cfa_offset -40\n"
                  "popq %rbp\n"
                  ".cfi_adjust_cfa_offset -8\n"
                  ".cfi_restore rbp\n"
                  "popq %rbx\n"
                  ".cfi_adjust_cfa_offset -8\n"
                  ".cfi_restore rbx\n"
                  "ret\n"
                  ".cfi_endproc\n"
                  "mapped_end:\n"
                  ".size mapped_call, . - mapped_call\n"
                  ".type blind_call, @function\n"
                  "blind_call:\n" PROLOGUE(
                      "64") "pushq %rbx\n"
                            "pushq %rbp\n"
                            "subq $40, %rsp\n" FILL "call *%r8\n" SEE
                            "addq $40, %rsp\n"
                            "popq %rbp\n"
                            "popq %rbx\n"
                            "ret\n"
                            ".size blind_call, . - blind_call\n");

static void maps_on(bool other_rbp)
{
    uint64_t pointers = 1 << 1, locals = 1 << 2;
    struct tarn_frame_map m = {.ret = (uintptr_t)mapped_return,
                               .size = 64,
                               .pointers = &pointers,
                               .locals = &locals,
                               .saved = {[UNW_RBX] = 7, [UNW_RBP] = 6},
                               .rbp = other_rbp};
    CHECK_EQ(tarn_frame_maps_register(
                 &(struct tarn_frame_maps){mapped_begin, mapped_end, &m, 1}),
             TARN_OK);
}

static void maps_off(void)
{
    CHECK_EQ(tarn_frame_maps_unregister(mapped_begin, mapped_end), TARN_OK);
}

/* --- the objects ----------------------------------------------------------------- */

/* A size of their own; none of the program's words holds one that is not
 * hidden. */
#define OBJECT 144

NI static uint64_t new_object(uint64_t id)
{
    /* A pointer to an object keeps the one that ends there too. */
    CHECK(tarn_alloc_bytes(OBJECT) != NULL);
    uint64_t *p = tarn_alloc_bytes(OBJECT);
    CHECK(p != NULL);
    p[3] = id;
    return HIDE(p);
}

/* Is it there, and not another in its place? */
static bool alive(uint64_t hidden, uint64_t id)
{
    uint64_t *p = (uint64_t *)~hidden;
    return tarn_object_base(p) == p && p[3] == id;
}

/* --- the goroutines -------------------------------------------------------------- */

#define LEVELS 4

enum bottom {
    CHAN,
    SELECT,
    PROLOGUE_STOP,
    LOOP,
    GROWN,
    NATIVE,
    ON_STACK,
    CALLBACK,
    BOTTOMS
};
static const char *const bottom_names[] = {"a channel",
                                           "a select",
                                           "a prologue",
                                           "a loop",
                                           "after growth",
                                           "a native call",
                                           "a native call on the stack",
                                           "a callback"};

struct level {
    uint64_t seen[4]; /* known to assembly */
    uint64_t dead, live, number;
    uint32_t g, d;
    bool blind, moved, number_changed;
};

static struct level levels[BOTTOMS][LEVELS];
static bool blind; /* this run: the third level is without tables */
static _Atomic uint32_t let_go;
static _Atomic int at_bottom;
static tarn_chan *gate, *never;
static tarn_waitgroup done;

NI static uint64_t grow(int n)
{
    uint64_t room[64], *p = room, below = 0;
    OPAQUE(p); /* else a compiler makes a loop of it */
    p[0] = (uint64_t)n;
    if (n > 0)
        below = grow(n - 1);
    OPAQUE(p);
    return p[0] + below;
}

static void arrive(void)
{
    atomic_fetch_add(&at_bottom, 1);
}

NI static void wait_at_prologues(void)
{
    while (!atomic_load(&let_go)) {
        yield_at_next_prologue();
        grow(1);
    }
}

static void *native_wait(void *unused)
{
    while (!atomic_load(&let_go))
        futex_wait(&let_go, 0, -1);
    return unused;
}

static void wait_at_gate(void *unused)
{
    (void)unused;
    int v;
    tarn_chan_recv(gate, &v);
}

static void *native_calls_back(void *unused)
{
    CHECK_EQ(tarn_callback(wait_at_gate, unused), TARN_OK);
    return NULL;
}

NI static void stop_here(uint32_t g)
{
    int v = 0;
    struct tarn_select_case cases[2] = {{gate, TARN_SELECT_RECV, &v, 0},
                                        {never, TARN_SELECT_RECV, &v, 0}};
    arrive();
    switch ((enum bottom)g) {
    case SELECT:
        tarn_select(cases, 2, false);
        break;
    case PROLOGUE_STOP:
        wait_at_prologues();
        break;
    case LOOP:
        while (!atomic_load_explicit(&let_go, memory_order_relaxed))
            ;
        break;
    case NATIVE:
        tarn_native_call(native_wait, NULL);
        break;
    case ON_STACK:
        tarn_native_enter();
        while (!atomic_load(&let_go))
            ;
        tarn_native_leave();
        break;
    case CALLBACK:
        tarn_native_call(native_calls_back, NULL);
        break;
    case GROWN:
    case CHAN:
    default:
        wait_at_gate(NULL);
    }
}

NI static void chain(struct level *l);

/* An ordinary frame below a mapped one. */
NI static void between(struct level *l)
{
    uint64_t a[5] = {l->g, l->d, 3, 4, 5};
    OPAQUE(a[2]);
    uint64_t *volatile inside = &a[1];
    if (l->d + 1 < LEVELS)
        chain(l + 1);
    else {
        int deep =
            options.stackmove ? 200 : 1000; /* each call moves all of it */
        if (l->g == GROWN || l->g == CALLBACK)
            grow(deep);
        stop_here(l->g);
        if (l->g == CHAN)
            grow(deep);
    }
    CHECK_EQ(*inside, l->d);
    CHECK_EQ(a[0] + a[2] + a[3] + a[4], l->g + 12);
}

/* And above one. Its variable's address is in the mapped frame, as an address and
 * as a number. */
/* Compilers keep such numbers, across calls too. Inline: a prologue here would
 * move the stack. */
static inline __attribute__((always_inline)) uint64_t hidden_address(void *p)
{
    OPAQUE(p);
    return HIDE(p);
}

NI static void chain(struct level *l)
{
    uint64_t local = 0x1234 + l->d;
    OPAQUE(local);
    l->number = hidden_address(&local);
    if (l->blind)
        blind_call(l->dead, l->live, &local, l->number, between, l);
    else
        mapped_call(l->dead, l->live, &local, l->number, between, l);
    /* The frame's own word has gone wherever the variable has. */
    uint64_t now = hidden_address(&local);
    CHECK_EQ(l->seen[2], now);
    CHECK_EQ(l->seen[1], l->live);
    l->moved = l->number != now;
    l->number_changed = l->seen[3] != l->number;
    CHECK_EQ(local, 0x1234 + l->d);
}

static void goroutine(void *arg)
{
    chain(arg);
    tarn_waitgroup_done(&done);
}

/* --- the runs -------------------------------------------------------------------- */

static uint64_t id_of(const struct level *l, bool live)
{
    return (uint64_t)l->g << 16 | l->d << 8 | live | 0xabc0000000;
}

NI static void make_objects(void)
{
    for (uint32_t g = 0; g < BOTTOMS; g++)
        for (uint32_t d = 0; d < LEVELS; d++) {
            struct level *l = &levels[g][d];
            *l = (struct level){.g = g, .d = d, .blind = blind && d == 2};
            l->dead = new_object(id_of(l, false));
            l->live = new_object(id_of(l, true));
        }
}

NI static void wipe(void)
{
    uint64_t words[400];
    memset(words, 0, sizeof words);
    __asm__ volatile("" : : "r"(words) : "memory");
}

static struct {
    int dead_alive, live_gone, moved, changed;
} result;

static void one_run(bool only_above_blind)
{
    atomic_store(&let_go, 0);
    atomic_store(&at_bottom, 0);
    gate = tarn_chan_new(sizeof(int), 0);
    if (never == NULL)
        never = tarn_chan_new(sizeof(int), 0);
    CHECK(gate != NULL && never != NULL);
    /* Until they hang on goroutines nothing keeps the objects: no cycle may be
     * under way, or asked for. */
    int64_t every = options.gcstress;
    options.gcstress = 0;
    CHECK_EQ(tarn_gc(), TARN_OK);
    make_objects();
    wipe();
    tarn_waitgroup_add(&done, BOTTOMS);
    for (int g = 0; g < BOTTOMS; g++)
        CHECK_EQ(tarn_go(goroutine, &levels[g][0]), TARN_OK);
    while (atomic_load(&at_bottom) != BOTTOMS)
        tarn_yield();
    options.gcstress = every;
    for (int i = 0; i < 3; i++) {
        tarn_sleep(1000000);
        CHECK_EQ(tarn_gc(), TARN_OK);
    }
    memset(&result, 0, sizeof result);
    for (uint32_t g = 0; g < BOTTOMS; g++)
        for (uint32_t d = 0; d < LEVELS; d++) {
            struct level *l = &levels[g][d];
            if (only_above_blind && d > 2)
                continue;
            if (!alive(l->live, id_of(l, true))) {
                fprintf(stderr, "live object of level %u in %s is gone\n", d,
                        bottom_names[g]);
                result.live_gone++;
            }
            if (alive(l->dead, id_of(l, false))) {
                if (getenv("FRAMEMAP_VERBOSE"))
                    fprintf(stderr, "dead object of level %u in %s\n", d,
                            bottom_names[g]);
                result.dead_alive++;
            }
        }
    atomic_store(&let_go, 1);
    futex_wake(&let_go, UINT32_MAX >> 1);
    tarn_chan_close(gate);
    tarn_waitgroup_wait(&done);
    for (uint32_t g = 0; g < BOTTOMS; g++)
        for (uint32_t d = 0; d < LEVELS; d++) {
            if (only_above_blind && d > 2)
                continue;
            result.moved += levels[g][d].moved;
            result.changed += levels[g][d].number_changed;
            if (levels[g][d].number_changed && !levels[g][d].moved)
                CHECK(false);
        }
    printf("     dead objects alive %d, live ones gone %d of %d; frames moved "
           "%d, numbers changed %d\n",
           result.dead_alive, result.live_gone, BOTTOMS * LEVELS, result.moved,
           result.changed);
    CHECK_EQ(result.live_gone, 0);
    /* Else only growth moves, and a stack may be large from the start. */
    if (options.stackmove)
        CHECK_GE(result.moved, 2 * LEVELS - 2);
}

#define ALL (BOTTOMS * LEVELS)

static void with_maps(void)
{
    maps_on(false);
    blind = false;
    one_run(false);
    /* A word left by a frame that is gone may keep one. */
    if (!options.checkmark)
        CHECK_LE(result.dead_alive, 2);
    CHECK_EQ(result.changed, 0);
    maps_off();
}

static void check_without_maps(void)
{
    blind = false;
    one_run(false);
    CHECK_EQ(result.dead_alive, ALL);
    /* Of many moves the last may lead back to where the number was right. */
    if (options.stackmove) {
        CHECK_GT(result.changed, 0);
        CHECK_LE(result.changed, result.moved);
    } else {
        CHECK_EQ(result.changed, result.moved);
    }
}

static void without_maps(void)
{
    check_without_maps();
}

/* Maps that are only true where rbp points into the frame, which it does not. */
static void with_other_rbp(void)
{
    maps_on(true);
    check_without_maps();
    maps_off();
}

/* A frame that cannot be walked, and all above it: as without maps. */
static void with_blind_frame(void)
{
    maps_on(false);
    blind = true;
    one_run(true);
    CHECK_EQ(result.dead_alive, BOTTOMS * (LEVELS - 1));
    /* Moves from before the call of that frame leave the numbers above alone. */
    CHECK_LE(result.changed, result.moved);
    if (!options.stackmove)
        CHECK_EQ(result.changed, result.moved);
    maps_off();
}

static void body(void *unused)
{
    (void)unused;
    CHECK(getg()->kind == STACK_COPYING);
    RUN(with_maps);
    RUN(without_maps);
    RUN(with_other_rbp);
    RUN(with_blind_frame);
    RUN(with_maps);
}

static const char *mode;

static void child(void)
{
    struct tarn_options o;
    alarm(600);
    tarn_options_init(&o);
    CHECK_EQ(tarn_options_parse(&o, mode), TARN_OK);
    o.maxprocs = 4;
    CHECK_EQ(tarn_main(&o, body, NULL), TARN_OK);
}

static char out[65536];

int main(int argc, char **argv)
{
    static const char *const modes[] = {
        "", "stackmove=1", "stackmove=1,gcstress=16",
        "stackmove=1,gcstress=16,checkmark=1", "clobberfree=1" /* long */};
    harness_init(argc, argv);
    size_t n = ARRAY_N(modes) - (getenv("TARN_TEST_LONG") == NULL);
    for (size_t i = 0; i < n; i++) {
        mode = modes[i];
        int st = harness_child(child, NULL, out, sizeof out);
        printf("mode \"%s\":\n%s", mode, out);
        fflush(stdout);
        CHECK_EQ(st, 0);
        harness_passed++;
    }
    return harness_done();
}

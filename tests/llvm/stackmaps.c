/* tests/llvm/stackmaps.c - code that LLVM made of stackmaps.ll, as goroutines, with
 * the maps from its section .llvm_stackmaps and without: it computes what it should
 * while stacks move at each check and collections run at each allocation; what is
 * dead in a frame keeps its object alive without the maps and does not with them;
 * what is live does always. And: a section that was cut or changed is refused or
 * read, but nothing is read that is not there.
 *
 * With LLVM_CODE=copies in the environment nothing is said about dead ones: code
 * that is not optimised has copies of them, other code has them in registers. */
#include <sys/mman.h>

#include "gc/gc.h"
#include "stackscan/framemap.h"
#include "tarn/tarn.h"
#include "tests/harness.h"

#define NI __attribute__((noinline))
#define HIDE(p) (~(uint64_t)(uintptr_t)(p))

struct object {
    uint64_t value;
    struct object *left, *right;
};

/* In stackmaps.ll */
uint64_t dead_and_live(uint64_t id);
struct object *build(uint64_t n);
uint64_t sum(struct object *list);
struct object *tree(uint64_t depth);
uint64_t stack_argument(uint64_t id);
uint64_t pushed_argument(uint64_t id);
uint64_t variable(uint64_t id);
uint64_t dynamic(uint64_t n, uint64_t id);
uint64_t interior(uint64_t id);
uint64_t many(uint64_t x);

/* The section, which the build has given a name that linkers make these for. */
extern const char __start_llvm_stackmaps[], __stop_llvm_stackmaps[];

static tarn_type *object_type;
static bool exact; /* this program's code leaves no copies of what is dead */

/* --- what stackmaps.ll calls ------------------------------------------------------ */

struct object *new_object(uint64_t value);
void link_objects(struct object *o, struct object *left, struct object *right);
void use_object(struct object *o);
void pause_here(uint64_t id);
uint64_t eighth(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                uint64_t f, uint64_t g, struct object *o);
uint64_t value_through(struct object *o);

#define GOROUTINES 32

static struct {
    uint64_t dead, live; /* hidden */
} objects[GOROUTINES];
static uint64_t paused_id; /* ids of pausing goroutines begin here; 0: none */
static _Atomic int paused;
static tarn_chan *gate;
static tarn_waitgroup done;

NI static void wipe(void)
{
    uint64_t words[300];
    memset(words, 0, sizeof words);
    __asm__ volatile("" : : "r"(words) : "memory");
}

/* Not under checkmark: the function leaves addresses of others in registers that
 * are dead, which a prologue saves. */
static void check_object(struct object *o)
{
    CHECK(options.checkmark || tarn_object_base(o) == o);
}

NI static void note(struct object *o, uint64_t id)
{
    if (id % 2 == 0)
        objects[id / 2].dead = HIDE(o);
    else
        objects[id / 2].live = HIDE(o);
}

NI struct object *new_object(uint64_t value)
{
    /* A pointer to an object on a stack keeps the one that ends there too. */
    if (paused_id != 0)
        CHECK(tarn_alloc(object_type) != NULL);
    struct object *o = tarn_alloc(object_type);
    CHECK(o != NULL);
    o->value = value;
    if (value >= paused_id && value - paused_id < 2 * GOROUTINES)
        note(o, value - paused_id);
    return o;
}

NI void link_objects(struct object *o, struct object *left,
                     struct object *right)
{
    tarn_store(&o->left, left);
    tarn_store(&o->right, right);
}

NI void use_object(struct object *o)
{
    check_object(o);
    for (int i = 0; i < 3; i++)
        CHECK(tarn_alloc(object_type) != NULL);
}

NI void pause_here(uint64_t id)
{
    (void)id;
    wipe();
    if (paused_id == 0)
        return;
    atomic_fetch_add(&paused, 1);
    int v;
    tarn_chan_recv(gate, &v);
}

/* Only the argument's word keeps its object: it is looked at in its place. */
NI uint64_t eighth(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, struct object *o)
{
    struct object *volatile *word = &o;
    __asm__ volatile("" : "+r"(word) : : "memory");
    wipe();
    CHECK_EQ(tarn_gc(), TARN_OK);
    for (int i = 0; i < 8; i++)
        CHECK(tarn_alloc(object_type) != NULL);
    CHECK_EQ(a + b + c + d + e + f + g, 28);
    check_object(*word);
    return (*word)->value;
}

NI uint64_t value_through(struct object *o)
{
    for (int i = 0; i < 2; i++)
        CHECK(tarn_alloc(object_type) != NULL);
    check_object(o);
    return o->value;
}

/* --- results ---------------------------------------------------------------------- */

NI static void check_tree(struct object *t, uint64_t depth)
{
    if (depth == 0) {
        CHECK(t == NULL);
        return;
    }
    check_object(t);
    CHECK_EQ(t->value, depth);
    check_tree(t->left, depth - 1);
    check_tree(t->right, depth - 1);
}

static void compute(void *arg)
{
    uint64_t g = (uint64_t)(uintptr_t)arg, n = 60 + g;
    CHECK(getg()->kind == (TARN_ASAN ? STACK_FIXED : STACK_COPYING));
    struct object *list = build(n);
    CHECK_EQ(sum(list), n * (n - 1) / 2);
    check_tree(tree(5), 5);
    CHECK_EQ(stack_argument(100 + g), 101 + g);
    CHECK_EQ(pushed_argument(200 + g), 201 + g);
    CHECK_EQ(variable(300 + g), 300 + g);
    CHECK_EQ(dynamic(g % 5 * 100 + 1, 400 + g), 412 + g);
    CHECK_EQ(interior(g), 9);
    CHECK_EQ(many(g), 123456000 + g * 3 + (g ^ 77) - (g * 3 + (g ^ 77)));
    CHECK_EQ(dead_and_live(600 + g), 601 + g);
    CHECK_EQ(sum(list), n * (n - 1) / 2);
    tarn_waitgroup_done(&done);
}

static void run_all(void)
{
    enum { N = 6 };
    tarn_waitgroup_add(&done, N);
    for (uintptr_t i = 0; i < N; i++)
        CHECK_EQ(tarn_go(compute, (void *)i), TARN_OK);
    tarn_waitgroup_wait(&done);
}

/* --- what is alive ------------------------------------------------------------------ */

static bool alive(uint64_t hidden, uint64_t value)
{
    struct object *o = (struct object *)~hidden;
    return tarn_object_base(o) == o && o->value == value;
}

static void pause_in_ir(void *arg)
{
    uint64_t id = paused_id + 2 * (uint64_t)(uintptr_t)arg;
    CHECK_EQ(dead_and_live(id), id + 1);
    tarn_waitgroup_done(&done);
}

/* How many of the dead objects are still there; the live ones are. */
static int dead_alive(void)
{
    static uint64_t ids = 1000;
    int n = 0;
    atomic_store(&paused, 0);
    gate = tarn_chan_new(sizeof(int), 0);
    CHECK(gate != NULL);
    CHECK_EQ(tarn_gc(), TARN_OK);
    paused_id = ids += 1000;
    tarn_waitgroup_add(&done, GOROUTINES);
    for (uintptr_t i = 0; i < GOROUTINES; i++)
        CHECK_EQ(tarn_go(pause_in_ir, (void *)i), TARN_OK);
    while (atomic_load(&paused) != GOROUTINES)
        tarn_yield();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(tarn_gc(), TARN_OK);
    for (unsigned i = 0; i < GOROUTINES; i++) {
        n += alive(objects[i].dead, paused_id + 2 * i);
        CHECK(alive(objects[i].live, paused_id + 2 * i + 1));
    }
    tarn_chan_close(gate);
    tarn_waitgroup_wait(&done);
    paused_id = 0;
    return n;
}

/* --- the section -------------------------------------------------------------------- */

static tarn_status add(const void *section, size_t size)
{
    return tarn_stackmaps_register(
        &(struct tarn_stackmaps){.section = section, .size = size}, NULL);
}

#define SECTION_SIZE ((size_t)(__stop_llvm_stackmaps - __start_llvm_stackmaps))

static void maps_on(void)
{
    struct tarn_stackmaps_stats st = {.struct_size = sizeof st};
    struct tarn_stackmaps in = {.section = __start_llvm_stackmaps,
                                .size = SECTION_SIZE};
    tarn_status s = tarn_stackmaps_register(&in, &st);
    if (s != TARN_OK)
        fprintf(stderr, "%s\n", tarn_last_error());
    CHECK_EQ(s, TARN_OK);
    printf("     %zu functions, %zu records, %zu maps\n", st.functions,
           st.records, st.mapped);
    CHECK_EQ(st.functions, 11);
    CHECK_GE(st.records, 40);
    /* All but some of the function with the variable frame. */
    CHECK_GE(st.mapped + 8, st.records);
    CHECK_EQ(add(in.section, in.size), TARN_EINVAL);
    CHECK(strstr(tarn_last_error(), "overlaps") != NULL);
}

static void maps_off(void)
{
    CHECK_EQ(tarn_stackmaps_unregister(__start_llvm_stackmaps), TARN_OK);
    CHECK_EQ(tarn_stackmaps_unregister(__start_llvm_stackmaps), TARN_EINVAL);
}

static void test_results_without(void)
{
    run_all();
}

static void test_results(void)
{
    maps_on();
    run_all();
    maps_off();
}

static void test_dead(void)
{
    int without = dead_alive();
    maps_on();
    int with = dead_alive();
    maps_off();
    int again = dead_alive();
    printf("     dead objects alive without maps: %d and %d of %d, with: %d\n",
           without, again, GOROUTINES, with);
    CHECK_EQ(without, GOROUTINES);
    CHECK_EQ(again, GOROUTINES);
    /* A word left by a frame that is gone may keep one. */
    if (exact && !options.checkmark)
        CHECK_LE(with, GOROUTINES / 4);
}

/* A copy that ends where memory does. */
static char *at_the_end(size_t size)
{
    size_t room = (SECTION_SIZE + 4095) / 4096 * 4096;
    static char *base;
    if (base == NULL) {
        base = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(base != MAP_FAILED);
        CHECK_EQ(mprotect(base + room, 4096, PROT_NONE), 0);
    }
    return memcpy(base + room - size, __start_llvm_stackmaps, size);
}

static void test_damaged(void)
{
    /* Between tables it may be cut; there is one. */
    for (size_t n = 1; n < SECTION_SIZE; n++) {
        CHECK_EQ(add(at_the_end(n), n), TARN_EINVAL);
        CHECK(strstr(tarn_last_error(), "too few") != NULL);
    }
    uint64_t rng = harness_seed;
    int refused = 0, read = 0;
    for (int i = 0; i < 20000; i++) {
        size_t n = SECTION_SIZE;
        char *copy = at_the_end(n);
        for (uint64_t k = harness_rand(&rng) % 3 + 1; k > 0; k--)
            copy[harness_rand(&rng) % n] ^= (char)(1 << harness_rand(&rng) % 8);
        tarn_status st = add(copy, n);
        CHECK(st == TARN_OK || st == TARN_EINVAL);
        if (st == TARN_OK) {
            read++;
            CHECK_EQ(tarn_stackmaps_unregister(copy), TARN_OK);
        } else {
            refused++;
            CHECK(strstr(tarn_last_error(), "tarn_stackmaps_register: ") ==
                  tarn_last_error());
        }
    }
    printf("     of 20000 damaged sections %d were refused\n", refused);
    CHECK_GT(refused, 5000);
    CHECK_GT(read, 100);
    CHECK(!framemap_find((uintptr_t)sum, &(struct tarn_frame_map){0}));
    maps_on();
    maps_off();
}

/* --- modes -------------------------------------------------------------------------- */

static const char *mode;

static void body(void *unused)
{
    (void)unused;
    static const uint64_t ptrs = 6;
    object_type = tarn_type_register(&(struct tarn_type_info){
        .name = "object", .size = sizeof(struct object), .ptrmap = &ptrs});
    CHECK(object_type != NULL);
    RUN(test_results_without);
    RUN(test_results);
    RUN(test_dead);
    if (mode[0] == '\0')
        RUN(test_damaged);
}

static void child(void)
{
    struct tarn_options o;
    alarm(240);
    tarn_options_init(&o);
    CHECK_EQ(tarn_options_parse(&o, mode), TARN_OK);
    o.maxprocs = 4;
    CHECK_EQ(tarn_main(&o, body, NULL), TARN_OK);
}

static char out[65536];

int main(int argc, char **argv)
{
    static const char *const modes[] = {"",
                                        "stackmove=1,gcstress=1",
                                        "clobberfree=1,gcstress=4",
                                        "stackshrink=1,gcstress=8,preemptat=4",
                                        "gcpercent=10,heapmin=64KiB",
                                        "stackmove=1,gcstress=16,checkmark=1"};
    harness_init(argc, argv);
    const char *code = getenv("LLVM_CODE");
    exact = code == NULL || strcmp(code, "copies") != 0;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        mode = modes[i];
        int st = harness_child(child, NULL, out, sizeof out);
        printf("mode \"%s\":\n%s", mode, out);
        CHECK_EQ(st, 0);
        harness_passed++;
    }
    return harness_done();
}

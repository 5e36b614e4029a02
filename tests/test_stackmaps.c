/* tests/test_stackmaps.c - the reader of LLVM's stack maps: from sections made here,
 * for functions that never run, to frame maps; what is left conservative; every
 * error; and damaged sections, in memory of exactly their size. tests/llvm has code
 * by LLVM itself. */
#define _GNU_SOURCE
#include <link.h>

#include "gcsuite.h"
#include "stackscan/framemap.h"

/* --- functions --------------------------------------------------------------------- */

/* plain: two calls, the second one with a pushed word. framed: with rbp, and rbx
 * saved. aligned: its frame's address is told by rbx. bare: no unwind table. */
extern const char plain[], plain_1[], plain_2[], plain_end[];
extern const char framed[], framed_1[], framed_2[];
extern const char aligned[], aligned_1[];
extern const char bare[], bare_1[];

__asm__(".text\n"
        ".type plain, @function\n"
        "plain:\n"
        ".cfi_startproc\n"
        "subq $40, %rsp\n"
        ".cfi_adjust_cfa_offset 40\n"
        "call bare\n"
        "plain_1:\n"
        "pushq %rax\n"
        ".cfi_adjust_cfa_offset 8\n"
        "call bare\n"
        "plain_2:\n"
        "addq $48, %rsp\n"
        ".cfi_adjust_cfa_offset -48\n"
        "ret\n"
        ".cfi_endproc\n"
        "plain_end:\n"
        ".size plain, . - plain\n"
        ".type framed, @function\n"
        "framed:\n"
        ".cfi_startproc\n"
        "pushq %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset rbp, -16\n"
        "movq %rsp, %rbp\n"
        ".cfi_def_cfa_register rbp\n"
        "pushq %rbx\n"
        ".cfi_offset rbx, -24\n"
        "subq $24, %rsp\n"
        "call bare\n"
        "framed_1:\n"
        "call bare\n"
        "framed_2:\n"
        "movq -8(%rbp), %rbx\n"
        "leave\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size framed, . - framed\n"
        ".type aligned, @function\n"
        "aligned:\n"
        ".cfi_startproc\n"
        ".cfi_def_cfa rbx, 32\n"
        "call bare\n"
        "aligned_1:\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size aligned, . - aligned\n"
        ".type bare, @function\n"
        "bare:\n"
        "call bare\n"
        "bare_1:\n"
        "ret\n"
        ".size bare, . - bare\n");

/* --- making a section ---------------------------------------------------------------- */

static uint8_t buffer[4096];
static size_t length;

static void w(uint64_t v, size_t n)
{
    memcpy(buffer + length, &v, n);
    length += n;
}

static void header(uint32_t functions, uint32_t constants, uint32_t records)
{
    w(3, 1);
    w(0, 3);
    w(functions, 4);
    w(constants, 4);
    w(records, 4);
}

static void function(const char *fn, uint64_t size, uint64_t records)
{
    w((uintptr_t)fn, 8);
    w(size, 8);
    w(records, 8);
}

struct loc {
    uint8_t kind;
    uint16_t size, reg;
    int32_t value;
};
#define REG(r)                                                                 \
    {                                                                          \
        1, 8, r, 0                                                             \
    }
#define DIRECT(r, at)                                                          \
    {                                                                          \
        2, 8, r, at                                                            \
    }
#define SLOT(r, at)                                                            \
    {                                                                          \
        3, 8, r, at                                                            \
    }
#define CONST(v)                                                               \
    {                                                                          \
        4, 8, 0, v                                                             \
    }
#define RSP 7
#define RBP 6

static void record(const char *fn, const char *ret, const struct loc *l,
                   size_t n, uint16_t live_outs)
{
    w(2882400000, 8);
    w((uint64_t)(ret - fn), 4);
    w(0, 2);
    w(n, 2);
    for (size_t i = 0; i < n; i++) {
        w(l[i].kind, 2);
        w(l[i].size, 2);
        w(l[i].reg, 4);
        w((uint32_t)l[i].value, 4);
    }
    w(0, -length % 8);
    w(0, 2);
    w(live_outs, 2);
    for (int i = 0; i < live_outs; i++)
        w(0x08000003, 4);
    w(0, -length % 8);
}

/* A statepoint with these gc values. */
#define STATEPOINT(fn, ret, ...)                                               \
    do {                                                                       \
        const struct loc l_[] = {CONST(0), CONST(0), CONST(0), __VA_ARGS__};   \
        record(fn, ret, l_, ARRAY_LEN(l_), 0);                                 \
    } while (0)

static struct tarn_stackmaps_stats stats;

static tarn_status add(void)
{
    stats = (struct tarn_stackmaps_stats){.struct_size = sizeof stats};
    return tarn_stackmaps_register(
        &(struct tarn_stackmaps){.section = buffer, .size = length}, &stats);
}

static void remove_it(void)
{
    CHECK_ST(tarn_stackmaps_unregister(buffer), TARN_OK);
}

/* Two slots of pointers, each dead where the other is live. */
static void both_slots(void)
{
    length = 0;
    header(2, 1, 4);
    function(plain, 40, 2);
    function(framed, 40, 2);
    w(UINT64_C(0x123456789abcdef0), 8);
    STATEPOINT(plain, plain_1, SLOT(RSP, 16), SLOT(RSP, 16));
    STATEPOINT(plain, plain_2, SLOT(RSP, 16), SLOT(RSP, 16), {5, 8, 0, 0});
    STATEPOINT(framed, framed_1, SLOT(RSP, 8), SLOT(RSP, 8));
    STATEPOINT(framed, framed_2, SLOT(RBP, -32), SLOT(RBP, -32));
}

static struct tarn_frame_map map_at(const char *ret)
{
    struct tarn_frame_map m;
    CHECK(framemap_find((uintptr_t)ret, &m));
    return m;
}

static bool mapped(const char *ret)
{
    struct tarn_frame_map m;
    return framemap_find((uintptr_t)ret, &m);
}

/* --- maps ------------------------------------------------------------------------------ */

static void check_both_slots(void)
{
    CHECK_EQ(stats.functions, 2);
    CHECK_EQ(stats.records, 4);
    CHECK_EQ(stats.mapped, 4);
    struct tarn_frame_map m = map_at(plain_1);
    CHECK_EQ(m.size, 48);
    CHECK_EQ(m.pointers[0], 0x1d); /* of words 0 to 4 not word 1 */
    CHECK_EQ(m.locals[0], 0x1f);
    CHECK_EQ(m.rbp, 0);
    for (int i = 0; i < UNW_REGS; i++)
        CHECK_EQ(m.saved[i], 0);
    m = map_at(plain_2);
    CHECK_EQ(m.size, 56); /* and not the 40 of the section */
    CHECK_EQ(m.pointers[0], 0x37);
    CHECK_EQ(m.locals[0], 0x3f);
    m = map_at(framed_1);
    CHECK_EQ(m.size, 48);
    CHECK_EQ(m.rbp, 5);
    CHECK_EQ(m.saved[UNW_RBP], 5);
    CHECK_EQ(m.saved[UNW_RBX], 4);
    CHECK_EQ(m.saved[UNW_R12], 0);
    CHECK_EQ(m.pointers[0], 0x1e); /* not word 0 */
    m = map_at(framed_2);
    CHECK_EQ(m.pointers[0], 0x1d); /* not word 1 */
}

static void test_maps(void)
{
    both_slots();
    CHECK_ST(add(), TARN_OK);
    check_both_slots();
    CHECK_ST(add(), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "overlaps");
    remove_it();
    CHECK(!mapped(plain_1) && !mapped(framed_2));
    CHECK_ST(tarn_stackmaps_unregister(buffer), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "is registered");
}

/* A section is no text, even if it lies where text may be. */
static void test_section_in_text(void)
{
    struct tarn_frame_map m = {.ret = (uintptr_t)buffer + 8, .size = 16};
    const struct tarn_frame_maps text = {buffer, buffer + sizeof buffer, &m, 1};
    both_slots();
    CHECK_ST(tarn_frame_maps_register(&text), TARN_OK);
    CHECK_ST(tarn_stackmaps_unregister(buffer), TARN_EINVAL);
    CHECK_ST(add(), TARN_OK);
    CHECK_ST(tarn_frame_maps_unregister(buffer, buffer + length), TARN_EINVAL);
    CHECK_ST(tarn_frame_maps_unregister(text.lo, text.hi), TARN_OK);
    check_both_slots();
    remove_it();
}

/* As linkers put them together. */
static void test_tables(void)
{
    length = 0;
    header(1, 0, 1);
    function(plain, 40, 1);
    STATEPOINT(plain, plain_1, SLOT(RSP, 0), SLOT(RSP, 0));
    header(0, 0, 0);
    header(2, 0, 1);
    function(bare, 8, 0); /* without records nothing is asked of it */
    function(framed, 40, 1);
    STATEPOINT(framed, framed_1, SLOT(RSP, 8), SLOT(RSP, 8));
    CHECK_ST(add(), TARN_OK);
    CHECK_EQ(stats.functions, 3);
    CHECK_EQ(stats.mapped, 2);
    CHECK(mapped(plain_1) && mapped(framed_1));
    remove_it();
}

/* What is known of it too little has no map. */
static void test_conservative(void)
{
    length = 0;
    header(2, 0, 3);
    function(framed, UINT64_MAX, 2); /* of variable size */
    function(aligned, 40, 1);
    STATEPOINT(framed, framed_1, SLOT(RBP, -32), SLOT(RBP, -32));
    STATEPOINT(framed, framed_2, SLOT(RBP, -32), SLOT(RBP, -32));
    STATEPOINT(aligned, aligned_1, SLOT(RSP, 0), SLOT(RSP, 0));
    CHECK_ST(add(), TARN_OK);
    CHECK_EQ(stats.records, 3);
    CHECK_EQ(stats.mapped, 0);
    remove_it();

    /* No statepoints: live registers; no three constants; flags that there are
     * not; more values for deoptimization than locations. Their slots are not
     * those of pointers. */
    static const struct loc live[] = {CONST(0), CONST(0), CONST(0)},
                            first[] = {SLOT(RSP, 0), CONST(0), CONST(0)},
                            flags[] = {CONST(0), CONST(4), CONST(0),
                                       SLOT(RSP, 0)},
                            deopt[] = {CONST(0), CONST(0), CONST(2),
                                       SLOT(RSP, 0)};
    static const struct {
        const struct loc *l;
        size_t n;
        uint16_t live_outs;
    } others[] = {{live, 3, 1},  {live, 2, 0},  {first, 3, 0},
                  {flags, 4, 0}, {deopt, 4, 0}, {NULL, 0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        length = 0;
        header(1, 0, 2);
        function(plain, 40, 2);
        record(plain, plain_1, others[i].l, others[i].n, others[i].live_outs);
        STATEPOINT(plain, plain_2, SLOT(RSP, 16), SLOT(RSP, 16));
        CHECK_ST(add(), TARN_OK);
        CHECK_EQ(stats.mapped, 1);
        CHECK(!mapped(plain_1));
        CHECK_EQ(map_at(plain_2).pointers[0], 0x3f);
        remove_it();
    }

    /* A base that is not understood, at one of two. */
    length = 0;
    header(1, 0, 2);
    function(plain, 40, 2);
    STATEPOINT(plain, plain_1, SLOT(3, 8), SLOT(RSP, 8));
    STATEPOINT(plain, plain_2, SLOT(RSP, 24), SLOT(RSP, 24));
    CHECK_ST(add(), TARN_OK);
    CHECK(!mapped(plain_1) && mapped(plain_2));
    remove_it();
}

static void test_locations(void)
{
    /* Pointers in registers that calls preserve; variables; a vector; what the
     * caller has passed; a value for deoptimization: live, and no slot of a
     * pointer elsewhere. */
    length = 0;
    header(1, 0, 2);
    function(plain, 40, 2);
    const struct loc l[] = {CONST(0),     CONST(1),        CONST(2),
                            SLOT(RSP, 8), REG(0),          REG(12),
                            REG(3),       DIRECT(RSP, 0),  {3, 16, RSP, 24},
                            CONST(0),     {3, 8, RSP, 48}, SLOT(RSP, 48 + 96)};
    record(plain, plain_1, l, ARRAY_LEN(l), 0);
    STATEPOINT(plain, plain_2, DIRECT(RSP, 8), CONST(0));
    CHECK_ST(add(), TARN_OK);
    CHECK_EQ(stats.mapped, 2);
    CHECK_EQ(map_at(plain_1).pointers[0], 0x1f);
    /* The vector's words are k = 3 and 2 from the end: 4 and 5 here. */
    CHECK_EQ(map_at(plain_2).pointers[0], 0x0f);
    remove_it();
}

/* The tables of code that is in no module, here of this program itself. */
struct own {
    const uint8_t *eh_frame;
    size_t size;
};

static int find_own(struct dl_phdr_info *info, size_t size, void *vown)
{
    struct own *o = vown;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_GNU_EH_FRAME)
            continue;
        const uint8_t *h = (const uint8_t *)(info->dlpi_addr + ph->p_vaddr);
        int32_t to;
        memcpy(&to, h + 4, 4);
        o->eh_frame = h + 4 + to;
        uint32_t n;
        for (const uint8_t *p = o->eh_frame;; p += 4 + n) {
            memcpy(&n, p, 4);
            if (n == 0)
                break;
            o->size = (size_t)(p + 4 + n - o->eh_frame);
        }
    }
    return 1; /* the program comes first */
}

static void test_eh_frame(void)
{
    struct own own = {0};
    dl_iterate_phdr(find_own, &own);
    CHECK(own.eh_frame != NULL && own.size > 0);
    both_slots();
    struct tarn_stackmaps in = {.section = buffer,
                                .size = length,
                                .eh_frame = own.eh_frame,
                                .eh_frame_size = own.size};
    stats = (struct tarn_stackmaps_stats){.struct_size = sizeof stats};
    CHECK_ST(tarn_stackmaps_register(&in, &stats), TARN_OK);
    check_both_slots();
    remove_it();
    /* Cut anywhere: functions are not found, or are as they are. */
    for (size_t n = 0; n < own.size; n += 1 + n / 64) {
        uint8_t *copy = malloc(n + 1);
        CHECK(copy != NULL);
        /* Its addresses are relative, so a copy is of other functions. */
        memcpy(copy, own.eh_frame, n);
        in.eh_frame = copy;
        in.eh_frame_size = n;
        CHECK_ST(tarn_stackmaps_register(&in, NULL), TARN_EINVAL);
        CHECK_STR(tarn_last_error(), "no unwind table");
        free(copy);
    }
}

/* --- errors ------------------------------------------------------------------------------ */

static void refused(const char *why)
{
    CHECK_ST(add(), TARN_EINVAL);
    if (strstr(tarn_last_error(), why) == NULL)
        fprintf(stderr, "error is \"%s\"\n", tarn_last_error());
    CHECK(strstr(tarn_last_error(), why) != NULL);
    CHECK(!mapped(plain_1) && !mapped(plain_2));
}

/* One function, one statepoint. */
static void one(const char *fn, const char *ret, struct loc l)
{
    length = 0;
    header(1, 0, 1);
    function(fn, 40, 1);
    STATEPOINT(fn, ret, l);
}

static void test_errors(void)
{
    CHECK_ST(tarn_stackmaps_register(NULL, NULL), TARN_EINVAL);
    CHECK_ST(tarn_stackmaps_register(&(struct tarn_stackmaps){0}, NULL),
             TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "no section");
    both_slots();
    CHECK_ST(tarn_stackmaps_register(
                 &(struct tarn_stackmaps){.section = buffer, .size = length},
                 &(struct tarn_stackmaps_stats){.struct_size = 1}),
             TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "struct_size");

    struct loc good = SLOT(RSP, 8);
    one(plain, plain_1, good);
    buffer[0] = 2;
    refused("table at offset 0 is of version 2, not 3");
    one(plain, plain_1, good);
    w(7, 8);
    w(0, 8);
    refused("is of version 7");
    one(plain, plain_1, good);
    w(0, 4);
    refused("too few");

    length = 0;
    header(UINT32_MAX, 0, 0);
    refused("too few for 4294967295 functions");
    length = 0;
    header(0, UINT32_MAX, 0);
    refused("too few for 4294967295 constants");
    length = 0;
    header(1, 0, UINT32_MAX);
    function(plain, 40, UINT32_MAX);
    refused("too few for 1 record");
    length = 0;
    header(1, 0, 1);
    function(plain, 40, UINT64_MAX);
    STATEPOINT(plain, plain_1, good);
    refused("more than its 1 records");
    length = 0;
    header(1, 0, 2);
    function(plain, 40, 1);
    STATEPOINT(plain, plain_1, good);
    STATEPOINT(plain, plain_2, good);
    refused("1 of the 2 records of the table at offset 0 are of no function");

    one(plain, plain_1, (struct loc){0, 8, RSP, 8});
    refused("location 4 of the record at offset 40 is of kind 0");
    one(plain, plain_1, (struct loc){6, 8, RSP, 8});
    refused("of kind 6");
    one(plain, plain_1, (struct loc){5, 8, 0, 0});
    refused("is constant 0 of 0");
    one(plain, plain_1, (struct loc){5, 8, 0, -1});
    refused("is constant -1 of 0");
    one(plain, plain_1, (struct loc)REG(0));
    refused("pointer in register 0");
    one(plain, plain_1, (struct loc)SLOT(RSP, -8));
    refused("outside of the frame of 40 bytes");
    one(plain, plain_1, (struct loc)SLOT(RSP, 40)); /* the return address */
    refused("outside of the frame of 40 bytes");
    one(plain, plain_1, (struct loc){3, 16, RSP, 32});
    refused("outside of the frame of 40 bytes");
    one(plain, plain_1, (struct loc)SLOT(RSP, INT32_MIN));
    refused("outside of the frame of 40 bytes");

    one(plain, plain_end + 1, good);
    refused("call outside of its function");
    one(plain, plain, good);
    refused("call outside of its function");
    one(bare, bare_1, good);
    refused("no unwind table for the function");
    one(plain + 1, plain_1, good);
    refused("no unwind table for the function");
    one(NULL, (const char *)8, good);
    refused("no unwind table for the function at 0");

    length = 0;
    header(1, 0, 2);
    function(plain, 40, 2);
    STATEPOINT(plain, plain_1, good);
    STATEPOINT(plain, plain_1, good);
    refused("two maps for the return address");

    /* By hand already. */
    struct tarn_frame_map m = {.ret = (uintptr_t)plain_2, .size = 56};
    CHECK_ST(tarn_frame_maps_register(
                 &(struct tarn_frame_maps){plain, plain_end, &m, 1}),
             TARN_OK);
    both_slots();
    CHECK_ST(add(), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "a return address that has one");
    CHECK(!mapped(plain_1) && mapped(plain_2));
    /* The other one is as it was, and both go side by side. */
    one(framed, framed_1, good);
    CHECK_ST(add(), TARN_OK);
    CHECK_ST(tarn_frame_maps_unregister(plain, plain_end), TARN_OK);
    CHECK(mapped(framed_1) && !mapped(plain_2));
    remove_it();
}

/* --- damage -------------------------------------------------------------------------------- */

static void test_damaged(void)
{
    both_slots();
    for (size_t n = 1; n < length; n++) {
        uint8_t *copy = malloc(n);
        CHECK(copy != NULL);
        memcpy(copy, buffer, n);
        CHECK_ST(
            tarn_stackmaps_register(
                &(struct tarn_stackmaps){.section = copy, .size = n}, NULL),
            TARN_EINVAL);
        CHECK_STR(tarn_last_error(), "too few");
        free(copy);
    }
    uint64_t rng = seed_of(2);
    int counts[2] = {0};
    uint8_t *copy = malloc(length);
    CHECK(copy != NULL);
    for (int i = 0; i < SUITE_REPEAT(20000); i++) {
        memcpy(copy, buffer, length);
        for (uint32_t k = below(&rng, 4) + 1; k > 0; k--) {
            uint32_t at = below(&rng, (uint32_t)length);
            if (below(&rng, 4) == 0)
                copy[at] = (uint8_t)harness_rand(&rng);
            else
                copy[at] ^= (uint8_t)(1u << below(&rng, 8));
        }
        tarn_status st = tarn_stackmaps_register(
            &(struct tarn_stackmaps){.section = copy, .size = length}, NULL);
        CHECK(st == TARN_OK || st == TARN_EINVAL);
        counts[st == TARN_OK]++;
        if (st == TARN_OK)
            CHECK_ST(tarn_stackmaps_unregister(copy), TARN_OK);
    }
    free(copy);
    printf("     %d damaged sections refused, %d read\n", counts[0], counts[1]);
    CHECK_GT(counts[0], 0);
    CHECK_GT(counts[1], 0);
    CHECK_ST(add(), TARN_OK);
    check_both_slots();
    remove_it();
}

static void body(void)
{
    RUN(test_maps);
    RUN(test_section_in_text);
    RUN(test_tables);
    RUN(test_conservative);
    RUN(test_locations);
    RUN(test_eh_frame);
    RUN(test_errors);
    RUN(test_damaged);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_maps); /* without a runtime */
    RUN(test_errors);
    gc_run(body, 4, "");
    return harness_done();
}

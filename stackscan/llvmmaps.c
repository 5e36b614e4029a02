/* stackscan/llvmmaps.c - frame maps from LLVM's section .llvm_stackmaps, version 3.
 *
 * What LLVM says of a statepoint is where the pointers are that live over it. What
 * it does not say:
 *
 *   - where the frame ends: "stack size" leaves out arguments that were pushed for
 *     the call;
 *   - which words are outgoing arguments, variables, spilled registers: all of
 *     these may hold what a scan or a move must see;
 *   - where callee-saved registers are.
 *
 * So bounds and registers come from the unwind table, for each return address, and
 * a map calls dead only what is known to be of no other use: the words that are
 * slots of pointers at some statepoint of the function, where they are not named.
 * All others are in both bitmaps. The words of a function with a frame pointer
 * have their place if rbp is where it was when nothing is pushed, which the walk
 * checks (fits). Everything else that is not understood makes a frame that counts
 * whole, or is an error; see tarn/attrs.h. */
#include <stdarg.h>
#include <stdio.h>

#include "base/sysmem.h"
#include "stackscan/framemap.h"

#define VERSION 3
#define NO_SIZE UINT64_MAX /* "stack size" of a frame of variable size */

enum location_kind { REGISTER = 1, DIRECT, INDIRECT, CONSTANT, CONST_INDEX };

struct location {
    uint8_t kind;
    uint16_t size, reg;
    int32_t value;
};
#define LOCATION 12 /* bytes, as written */

/* In a statepoint's record come first: calling convention, flags, the number of
 * locations for deoptimization. */
#define META 3
#define FLAGS_MAX 3

/* One record. */
struct site {
    uintptr_t ret;
    size_t at, fn_at; /* offsets in the section: its own, its function's */
    const uint8_t *locations;
    uint16_t n;
    bool statepoint;
    uint16_t deopt;
    struct tarn_frame_map map; /* size 0: none */
};

struct job {
    const struct tarn_stackmaps *in;
    size_t at; /* offset of what is to be read next */
    struct site *sites;
    size_t nsites, cap;
    struct tarn_frame_map *maps;
    uint64_t *bits; /* of all maps, and those of one function's slots */
    struct tarn_stackmaps_stats stats;
    tarn_status status;
    char why[160];
};

static const char who[] = "tarn_stackmaps_register";

/* --- reading -------------------------------------------------------------------- */

static bool __attribute__((format(printf, 2, 3)))
refuse(struct job *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->why, sizeof j->why, fmt, ap);
    va_end(ap);
    j->status = TARN_EINVAL;
    return false;
}

static size_t left(const struct job *j)
{
    return j->in->size - j->at;
}

static uint64_t get(struct job *j, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, (const uint8_t *)j->in->section + j->at, n);
    j->at += n;
    return v;
}

/* Are there n more, of so many bytes each? */
static bool need(struct job *j, uint64_t n, size_t each, const char *what)
{
    if (n <= left(j) / each)
        return true;
    return refuse(j, "%zu bytes from offset %zu on are too few for %llu %s",
                  left(j), j->at, (unsigned long long)n, what);
}

static bool align(struct job *j)
{
    size_t pad = (8 - j->at % 8) % 8;
    if (!need(j, pad, 1, "bytes of padding"))
        return false;
    j->at += pad;
    return true;
}

static struct location location_at(const struct site *s, unsigned i)
{
    const uint8_t *p = s->locations + (size_t)i * LOCATION;
    struct location l = {.kind = p[0]};
    memcpy(&l.size, p + 2, 2);
    memcpy(&l.reg, p + 4, 2);
    memcpy(&l.value, p + 8, 4);
    return l;
}

static bool is_constant(struct location l)
{
    return l.kind == CONSTANT || l.kind == CONST_INDEX;
}

static bool looks_like_statepoint(const struct site *s, unsigned live_outs)
{
    if (s->n < META || live_outs != 0)
        return false;
    struct location cc = location_at(s, 0), flags = location_at(s, 1),
                    deopt = location_at(s, 2);
    return is_constant(cc) && flags.kind == CONSTANT && flags.value >= 0 &&
           flags.value <= FLAGS_MAX && deopt.kind == CONSTANT &&
           deopt.value >= 0 && deopt.value <= s->n - META;
}

static bool read_record(struct job *j, size_t fn_at, uintptr_t fn,
                        uint32_t constants)
{
    struct site s = {.at = j->at, .fn_at = fn_at};
    if (!need(j, 1, 16, "record"))
        return false;
    j->at += 8; /* its ID */
    s.ret = fn + get(j, 4);
    j->at += 2;
    s.n = (uint16_t)get(j, 2);
    if (!need(j, s.n, LOCATION, "locations"))
        return false;
    s.locations = (const uint8_t *)j->in->section + j->at;
    j->at += (size_t)s.n * LOCATION;
    for (unsigned i = 0; i < s.n; i++) {
        struct location l = location_at(&s, i);
        if (l.kind < REGISTER || l.kind > CONST_INDEX)
            return refuse(j,
                          "location %u of the record at offset %zu is of "
                          "kind %u, which there is not",
                          i + 1, s.at, l.kind);
        if (l.kind == CONST_INDEX &&
            (l.value < 0 || (uint32_t)l.value >= constants))
            return refuse(j,
                          "location %u of the record at offset %zu is "
                          "constant %d of %u",
                          i + 1, s.at, l.value, constants);
    }
    if (!align(j) || !need(j, 1, 4, "number of live registers"))
        return false;
    j->at += 2;
    uint64_t live_outs = get(j, 2);
    if (!need(j, live_outs, 4, "live registers"))
        return false;
    j->at += live_outs * 4;
    if (!align(j))
        return false;
    s.statepoint = looks_like_statepoint(&s, (unsigned)live_outs);
    if (s.statepoint)
        s.deopt = (uint16_t)location_at(&s, 2).value;
    if (j->nsites == j->cap) {
        size_t cap = j->cap ? j->cap * 2 : 64;
        struct site *more = sys_realloc(j->sites, cap * sizeof s);
        if (more == NULL) {
            j->status = TARN_ENOMEM;
            return false;
        }
        j->sites = more;
        j->cap = cap;
    }
    j->sites[j->nsites++] = s;
    return true;
}

/* --- one function ------------------------------------------------------------------ */

/* The frame at the call of s, by the row that holds there: size, saved, rbp.
 * False: it cannot be told. */
static bool find_frame(struct site *s, const struct cfi_row *r, uint64_t size)
{
    struct tarn_frame_map *m = &s->map;
    if (r->signal || r->kind[CFI_RA] != CFI_AT_CFA || r->off[CFI_RA] != -8 ||
        r->cfa_off < 8 || r->cfa_off > TARN_FRAME_SIZE_MAX)
        return false;
    if (r->cfa_reg == CFI_RBP) {
        /* From rsp behind the call to the frame's end, if nothing is pushed. */
        if (size == NO_SIZE || size > TARN_FRAME_SIZE_MAX)
            return false;
        size += 8;
        if (size % 8 != 0 || r->cfa_off % 8 != 0 || size < (uint64_t)r->cfa_off)
            return false;
        m->rbp = (uint16_t)(1 + (size - (uint64_t)r->cfa_off) / 8);
    } else if (r->cfa_reg == CFI_RSP) {
        size = (uint64_t)r->cfa_off;
    } else {
        return false;
    }
    if (size % 8 != 0 || size > TARN_FRAME_SIZE_MAX)
        return false;
    for (unsigned i = 0; i < UNW_REGS; i++) {
        if (r->kind[i] == CFI_SAME)
            continue;
        int64_t at = (int64_t)size + r->off[i];
        if (r->kind[i] != CFI_AT_CFA || at % 8 != 0 || at < 0 ||
            at > (int64_t)size - 16)
            return false;
        m->saved[i] = (uint16_t)(1 + at / 8);
    }
    m->ret = s->ret;
    m->size = (uint32_t)size;
    return true;
}

/* The bytes [*lo, *hi) of the frame, from rsp up, that a location is. False: it
 * cannot be told. */
static bool find_bytes(const struct site *s, struct location l, int64_t *lo,
                       int64_t *hi)
{
    *lo = l.value;
    if (l.reg == CFI_RBP && s->map.rbp != 0)
        *lo += (s->map.rbp - 1) * 8;
    else if (l.reg != CFI_RSP)
        return false;
    *hi = *lo + l.size;
    return true;
}

static bool preserved(uint16_t dwarf)
{
    return dwarf == 3 || dwarf == CFI_RBP || (dwarf >= 12 && dwarf <= 15);
}

/* Can s have a map? An error where no map would do. */
static bool check_site(struct job *j, struct site *s)
{
    bool known = s->map.size != 0;
    for (unsigned i = META; i < s->n; i++) {
        struct location l = location_at(s, i);
        int64_t lo, hi;
        if (l.kind == REGISTER && !preserved(l.reg) &&
            i >= META + (unsigned)s->deopt)
            return refuse(j,
                          "location %u of the record at offset %zu is a "
                          "pointer in register %u, which calls do not preserve",
                          i + 1, s->at, l.reg);
        if (l.kind != INDIRECT || s->map.size == 0)
            continue;
        if (!find_bytes(s, l, &lo, &hi))
            known = false;
        else if (lo < 0 || (lo < s->map.size && hi > s->map.size - 8))
            return refuse(j,
                          "location %u of the record at offset %zu is "
                          "outside of the frame of %u bytes",
                          i + 1, s->at, s->map.size - 8);
    }
    if (!known)
        s->map.size = 0;
    return true;
}

static void set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= UINT64_C(1) << i % 64;
}

static bool get_bit(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

/* Calls fn for the words of the frame that locations are, or begin with: of a
 * variable only its address is said. */
static void each_word(const struct site *s,
                      void (*fn)(const struct site *s, uint64_t *bits,
                                 size_t word, bool pointer),
                      uint64_t *bits)
{
    for (unsigned i = META; i < s->n; i++) {
        struct location l = location_at(s, i);
        int64_t lo, hi;
        if ((l.kind != INDIRECT && l.kind != DIRECT) ||
            !find_bytes(s, l, &lo, &hi) || lo < 0)
            continue;
        /* Above the frame is what the caller has passed, which is its affair. */
        bool pointer = l.kind == INDIRECT && i >= META + (unsigned)s->deopt &&
                       lo % 8 == 0 && l.size % 8 == 0;
        for (int64_t w = lo / 8; w * 8 < hi && w * 8 < s->map.size - 8; w++)
            fn(s, bits, (size_t)w, pointer);
    }
}

/* A slot of the function: by its distance from the frame's end, which is the same
 * wherever rsp is. */
static void add_slot(const struct site *s, uint64_t *slots, size_t word,
                     bool pointer)
{
    if (pointer)
        set_bit(slots, s->map.size / 8 - word);
}

static void add_live(const struct site *s, uint64_t *live, size_t word,
                     bool pointer)
{
    (void)s, (void)pointer;
    set_bit(live, word);
}

#define SLOT_WORDS (TARN_FRAME_SIZE_MAX / 8 / 64 + 1)

static size_t words_of(const struct tarn_frame_map *m)
{
    return m->size / 8 - 1;
}

/* The frames and slots of a function at fn whose records are [first, end). */
static bool find_frames(struct job *j, uintptr_t fn, uint64_t size,
                        size_t first, size_t end)
{
    struct cfi c;
    const struct tarn_stackmaps *in = j->in;
    struct eh_table t = {.base = (uintptr_t)in->eh_frame,
                         .end = (uintptr_t)in->eh_frame + in->eh_frame_size};
    if (first == end)
        return true;
    if (!(in->eh_frame != NULL ? eh_scan(&t, fn, &c) : text_cfi(fn, &c)) ||
        c.start != fn)
        return refuse(j, "there is no unwind table for the function at %#lx",
                      (unsigned long)fn);
    for (size_t i = first; i < end; i++) {
        struct site *s = &j->sites[i];
        struct cfi_row r;
        if (s->ret <= fn || s->ret > c.end)
            return refuse(j,
                          "the record at offset %zu is of a call outside of "
                          "its function at %#lx",
                          s->at, (unsigned long)fn);
        if (!s->statepoint)
            continue;
        if (!cfi_row_at(&c, s->ret - 1, &r) || !find_frame(s, &r, size))
            s->map.size = 0;
        if (!check_site(j, s))
            return false;
        j->stats.mapped += s->map.size != 0;
    }
    return true;
}

/* The maps of these, behind those that are there; their bits from *to on. */
static void make_maps(struct job *j, size_t first, size_t end, uint64_t *slots,
                      uint64_t **to, size_t *n)
{
    memset(slots, 0, SLOT_WORDS * 8);
    for (size_t i = first; i < end; i++)
        if (j->sites[i].map.size != 0)
            each_word(&j->sites[i], add_slot, slots);
    for (size_t i = first; i < end; i++) {
        struct site *s = &j->sites[i];
        if (s->map.size == 0)
            continue;
        size_t words = words_of(&s->map), size = (words + 63) / 64;
        uint64_t *pointers = *to, *locals = *to + size;
        memset(pointers, 0, 2 * size * 8);
        for (size_t w = 0; w < words; w++) {
            set_bit(locals, w);
            if (!get_bit(slots, s->map.size / 8 - w))
                set_bit(pointers, w);
        }
        each_word(s, add_live, pointers);
        s->map.pointers = pointers;
        s->map.locals = locals;
        *to += 2 * size;
        j->maps[(*n)++] = s->map;
    }
}

/* --- the section ---------------------------------------------------------------- */

/* A function's entry in its table, and its records. */
struct function {
    uintptr_t fn;
    uint64_t size, records;
};

static struct function function_at(const struct job *j, size_t at)
{
    struct function f;
    memcpy(&f, (const uint8_t *)j->in->section + at, sizeof f);
    return f;
}

static bool read_table(struct job *j)
{
    size_t start = j->at;
    if (!need(j, 1, 16, "header"))
        return false;
    uint64_t version = get(j, 1);
    if (version != VERSION)
        return refuse(j, "the table at offset %zu is of version %llu, not %d",
                      start, (unsigned long long)version, VERSION);
    j->at += 3;
    uint32_t functions = (uint32_t)get(j, 4), constants = (uint32_t)get(j, 4),
             records = (uint32_t)get(j, 4);
    size_t at = j->at;
    if (!need(j, functions, sizeof(struct function), "functions"))
        return false;
    j->at += (size_t)functions * sizeof(struct function);
    if (!need(j, constants, 8, "constants"))
        return false;
    j->at += (size_t)constants * 8;
    uint64_t rest = records;
    for (uint32_t i = 0; i < functions; i++, at += sizeof(struct function)) {
        struct function f = function_at(j, at);
        if (f.records > rest)
            return refuse(j,
                          "the functions of the table at offset %zu have more "
                          "than its %u records",
                          start, records);
        rest -= f.records;
        size_t first = j->nsites;
        for (uint64_t k = 0; k < f.records; k++)
            if (!read_record(j, at, f.fn, constants))
                return false;
        if (!find_frames(j, f.fn, f.size, first, j->nsites))
            return false;
        j->stats.functions++;
    }
    if (rest != 0)
        return refuse(j,
                      "%llu of the %u records of the table at offset %zu are "
                      "of no function",
                      (unsigned long long)rest, records, start);
    return true;
}

static bool allocate(struct job *j)
{
    size_t bits = SLOT_WORDS;
    for (size_t i = 0; i < j->nsites; i++)
        if (j->sites[i].map.size != 0)
            bits += 2 * ((words_of(&j->sites[i].map) + 63) / 64);
    j->maps = sys_alloc((j->stats.mapped + 1) * sizeof *j->maps);
    j->bits = sys_alloc(bits * 8);
    if (j->maps != NULL && j->bits != NULL)
        return true;
    j->status = TARN_ENOMEM;
    return false;
}

/* Tables were read, and are right: over their functions once more. */
static void make_all_maps(struct job *j)
{
    uint64_t *slots = j->bits, *to = j->bits + SLOT_WORDS;
    size_t n = 0;
    for (size_t first = 0, end; first < j->nsites; first = end) {
        for (end = first;
             end < j->nsites && j->sites[end].fn_at == j->sites[first].fn_at;)
            end++;
        make_maps(j, first, end, slots, &to, &n);
    }
}

static void make(void *vj)
{
    struct job *j = vj;
    text_refresh_now();
    while (j->at < j->in->size && j->status == TARN_OK)
        read_table(j);
    j->stats.records = j->nsites;
    if (j->status == TARN_OK && allocate(j))
        make_all_maps(j);
}

tarn_status tarn_stackmaps_register(const struct tarn_stackmaps *in,
                                    struct tarn_stackmaps_stats *stats)
{
    if (in == NULL || in->section == NULL || in->size == 0 ||
        in->size > UINTPTR_MAX - (uintptr_t)in->section) {
        set_error("%s: no section", who);
        return TARN_EINVAL;
    }
    if (stats != NULL && stats->struct_size != sizeof *stats) {
        set_error("%s: struct_size of the statistics is %zu, not %zu", who,
                  stats->struct_size, sizeof *stats);
        return TARN_EINVAL;
    }
    struct job j = {.in = in, .stats.struct_size = sizeof *stats};
    if (on_goroutine())
        systemstack(make, &j);
    else
        make(&j);
    tarn_status st = j.status;
    if (st == TARN_OK)
        st = framemap_add(who,
                          &(struct tarn_frame_maps){
                              in->section, (const char *)in->section + in->size,
                              j.maps, j.stats.mapped},
                          true);
    else if (st == TARN_EINVAL)
        set_error("%s: section at %p: %s", who, in->section, j.why);
    else
        set_error("%s: out of memory for a section of %zu bytes", who,
                  in->size);
    sys_free(j.sites);
    sys_free(j.maps);
    sys_free(j.bits);
    if (st == TARN_OK && stats != NULL)
        *stats = j.stats;
    return st;
}

tarn_status tarn_stackmaps_unregister(const void *section)
{
    return framemap_remove("tarn_stackmaps_unregister", (uintptr_t)section, 0);
}

/* tests/gcshadow.h - a small graph of managed objects, operations of mutators on
 * it, and a shadow of it in ordinary memory, its addresses hidden, that tells which
 * objects must be there. For test_gc_schedules.c.
 *
 * A mutator's registers are words of a stack (regs). They hold pointers to the
 * second word of an object: one to the first may be the end of the object before.
 */
#ifndef TARN_TESTS_GCSHADOW_H_
#define TARN_TESTS_GCSHADOW_H_

#include <stdarg.h>

#include "gcsuite.h"
#include "tarn/barrier.h"

/* --- objects ------------------------------------------------------------------- */

enum kind { PRECISE, CONSERVATIVE, TRACED, KINDS };

struct obj {
    uint64_t field[2]; /* TRACED: hidden, 0 for NULL */
    uint64_t id, check, pad;
};

static tarn_type *t_precise, *t_traced;

static uint64_t mix(uint64_t id)
{
    return (id + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ UINT64_C(0x1234567);
}

static uint64_t encode(const void *p)
{
    return p != NULL ? hide(p) : 0;
}

static void *decode(uint64_t w)
{
    return w != 0 ? reveal(w) : NULL;
}

static void trace_obj(void *v, tarn_tracer *t)
{
    struct obj *o = v;
    for (int i = 0; i < 2; i++)
        tarn_trace(t, decode(__atomic_load_n(&o->field[i], __ATOMIC_RELAXED)));
}

static void register_types(void)
{
    uint64_t map = 3;
    t_precise = tarn_type_register(
        &(struct tarn_type_info){"precise", sizeof(struct obj), &map, NULL});
    t_traced = tarn_type_register(&(struct tarn_type_info){
        "traced", sizeof(struct obj), NULL, trace_obj});
    CHECK(t_precise != NULL && t_traced != NULL);
    /* The runtime's own variables hold first addresses. */
    CHECK(tarn_alloc(t_precise) != NULL && tarn_alloc(t_traced) != NULL &&
          tarn_alloc_conservative(sizeof(struct obj)) != NULL);
}

/* --- the shadow ------------------------------------------------------------------ */

#define NODES 32
#define NONE (-1)
#define OLD 0 /* the node that is always there */
#define OLD_SIZE (4 * CARD)
#define MUTATORS 2
#define REGS 2

struct shadow {
    uint64_t hidden, id;
    int field[2];
    enum kind kind;
    bool used, dead; /* dead: not reachable when this cycle began */
};

static struct {
    struct shadow node[NODES];
    int reg[MUTATORS][REGS], plain, range;
    uint64_t last_id;
} sh;

static volatile uintptr_t *regs[MUTATORS]; /* on their stacks */
static uintptr_t *plain_cell;              /* a plain root range */
static uintptr_t *range_cell; /* a barriered one; the second is the old one's */

static void *address(int i)
{
    return i != NONE ? reveal(sh.node[i].hidden) : NULL;
}

/* What has been done since the graph was made, for messages. */
static char story[8192];
static size_t story_len;
static uint64_t schedules, steps, operations, freed;

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (story_len < sizeof story - 200)
        story_len += (size_t)vsnprintf(story + story_len, 200, fmt, ap);
    va_end(ap);
}

static void lost(int i, const char *where)
{
    fprintf(stderr,
            "%s\nlost object: node %d, found missing by %s, schedule "
            "%" PRIu64 "\n",
            story, i, where, schedules);
    CHECK(!"lost object");
}

static bool intact(int i)
{
    struct obj *o = address(i);
    return tarn_object_base(o) == o && o->id == sh.node[i].id &&
           o->check == mix(o->id);
}

/* v was loaded; the shadow says that it is node i. */
static void expect(const void *v, int i, const char *where)
{
    if (v != address(i) || (i != NONE && !intact(i)))
        lost(i, where);
}

static void reach(int i, bool *seen)
{
    if (i == NONE || seen[i])
        return;
    seen[i] = true;
    reach(sh.node[i].field[0], seen);
    reach(sh.node[i].field[1], seen);
}

static void reachable(bool *seen)
{
    memset(seen, 0, NODES * sizeof *seen);
    reach(OLD, seen);
    reach(sh.plain, seen);
    reach(sh.range, seen);
    for (int m = 0; m < MUTATORS; m++)
        for (int r = 0; r < REGS; r++)
            reach(sh.reg[m][r], seen);
}

static void cycle_begins(void)
{
    bool seen[NODES];
    reachable(seen);
    for (int i = 0; i < NODES; i++)
        sh.node[i].dead = sh.node[i].used && !seen[i];
}

static bool reused(int i)
{
    for (int k = 0; k < NODES; k++)
        if (k != i && sh.node[k].used && sh.node[k].hidden == sh.node[i].hidden)
            return true;
    return false;
}

static void cycle_ended(void)
{
    bool seen[NODES];
    reachable(seen);
    for (int i = 0; i < NODES; i++) {
        struct shadow *n = &sh.node[i];
        if (!n->used)
            continue;
        if (seen[i]) {
            const struct obj *o = address(i);
            if (!intact(i))
                lost(i, "the end of the cycle");
            for (int f = 0; f < 2; f++)
                expect(n->kind == TRACED ? decode(o->field[f])
                                         : (void *)(uintptr_t)o->field[f],
                       n->field[f], "the end of the cycle");
        } else if (n->dead && heap.full) {
            if (alive(n->hidden) && !reused(i)) {
                fprintf(stderr,
                        "%s\nnode %d is still there, schedule %" PRIu64 "\n",
                        story, i, schedules);
                CHECK(!"garbage was freed");
            }
            n->used = false;
            freed++;
        }
    }
}

/* --- what mutators do --------------------------------------------------------------- */

enum what {
    LOAD,        /* r = s.f */
    LOAD_PLAIN,  /* r = plain */
    LOAD_RANGE,  /* r = range */
    LOAD_OLD,    /* r = the old one */
    STORE,       /* r.f = s */
    STORE_PLAIN, /* plain = r; without a barrier where that is allowed */
    STORE_RANGE, /* range = r */
    UNSET,       /* r.f = NULL */
    UNSET_PLAIN,
    UNSET_RANGE,
    ALLOC,  /* r = new */
    DROP,   /* r = NULL */
    MOVE,   /* r = s */
    CLEAR,  /* all of r, by the bulk barrier */
    COPY,   /* all of s onto r, by the bulk barrier */
    SWAP,   /* r.f and s exchanged */
    FORGET, /* all registers = NULL */
    WHATS
};
#define ONLY(w) (1u << (w))
#define ALL_OPS (ONLY(WHATS) - 1)

struct op {
    uint8_t what, m, r, s, f;
};

static const char *const what_name[WHATS] = {
    "load",        "load plain",  "load range", "load old",    "store",
    "store plain", "store range", "unset",      "unset plain", "unset range",
    "alloc",       "drop",        "move",       "clear",       "copy",
    "swap",        "forget"};

static uint64_t *word_of(int i, int f)
{
    return &((struct obj *)address(i))->field[f];
}

static void *load_field(int i, int f)
{
    uint64_t w = __atomic_load_n(word_of(i, f), __ATOMIC_RELAXED);
    return sh.node[i].kind == TRACED ? decode(w) : (void *)(uintptr_t)w;
}

static void store_field(int i, int f, void *v)
{
    if (sh.node[i].kind == TRACED)
        tarn_store_encoded(word_of(i, f), encode(v), load_field(i, f), v);
    else
        tarn_store(word_of(i, f), v);
}

static void set_reg(int m, int r, const void *p, int i)
{
    regs[m][r] = p != NULL ? (uintptr_t)p + 8 : 0;
    sh.reg[m][r] = i;
}

static void *get_reg(int m, int r)
{
    void *p = regs[m][r] != 0 ? (void *)(regs[m][r] - 8) : NULL;
    expect(p, sh.reg[m][r], "the use of a register");
    return p;
}

/* A store to a global that holds no pointer needs no barrier. */
static void store_plain(void *v, int i)
{
    if (*plain_cell == 0)
        __atomic_store_n(plain_cell, (uintptr_t)v, __ATOMIC_RELAXED);
    else
        tarn_store(plain_cell, v);
    sh.plain = i;
}

static int free_node(void)
{
    for (int i = OLD + 1; i < NODES; i++)
        if (!sh.node[i].used)
            return i;
    return NONE;
}

/* The old one has its cards for itself: whether it is scanned does not depend on
 * what lies beside it. */
static int new_node(enum kind kind, int i)
{
    struct obj *o = i == OLD          ? tarn_alloc_conservative(OLD_SIZE)
                    : kind == PRECISE ? tarn_alloc(t_precise)
                    : kind == TRACED  ? tarn_alloc(t_traced)
                                      : tarn_alloc_conservative(sizeof *o);
    CHECK(o != NULL);
    for (int f = 0; f < 2; f++)
        CHECK_EQ(o->field[f], 0);
    o->id = ++sh.last_id;
    o->check = mix(o->id);
    sh.node[i] =
        (struct shadow){hide(o), o->id, {NONE, NONE}, kind, true, false};
    return i;
}

/* How many kinds there are to be in this graph, and which is next. */
static enum kind next_kind;

static void perform(struct op op)
{
    int m = op.m, r = op.r, f = op.f;
    int ri = sh.reg[m][r], si = sh.reg[m][op.s];
    void *v;
    switch (op.what) {
    case LOAD:
        get_reg(m, op.s);
        v = load_field(si, f);
        expect(v, sh.node[si].field[f], "a load");
        set_reg(m, r, v, sh.node[si].field[f]);
        break;
    case LOAD_PLAIN:
        v = (void *)__atomic_load_n(plain_cell, __ATOMIC_RELAXED);
        expect(v, sh.plain, "a load from the plain range");
        set_reg(m, r, v, sh.plain);
        break;
    case LOAD_RANGE:
        v = (void *)__atomic_load_n(range_cell, __ATOMIC_RELAXED);
        expect(v, sh.range, "a load from the barriered range");
        set_reg(m, r, v, sh.range);
        break;
    case LOAD_OLD:
        set_reg(m, r, (void *)range_cell[1], OLD);
        break;
    case STORE:
        get_reg(m, r);
        store_field(ri, f, get_reg(m, op.s));
        sh.node[ri].field[f] = si;
        break;
    case STORE_PLAIN:
        store_plain(get_reg(m, r), ri);
        break;
    case STORE_RANGE:
        tarn_store(range_cell, get_reg(m, r));
        sh.range = ri;
        break;
    case UNSET:
        get_reg(m, r);
        store_field(ri, f, NULL);
        sh.node[ri].field[f] = NONE;
        break;
    case UNSET_PLAIN:
        tarn_store(plain_cell, NULL);
        sh.plain = NONE;
        break;
    case UNSET_RANGE:
        tarn_store(range_cell, NULL);
        sh.range = NONE;
        break;
    case ALLOC: {
        int i = new_node(next_kind, free_node());
        next_kind = (next_kind + 1) % KINDS;
        set_reg(m, r, address(i), i);
        break;
    }
    case DROP:
        set_reg(m, r, NULL, NONE);
        break;
    case MOVE:
        set_reg(m, r, get_reg(m, op.s), si);
        break;
    case CLEAR:
        get_reg(m, r);
        tarn_clear(word_of(ri, 0), 2 * sizeof(uint64_t));
        sh.node[ri].field[0] = sh.node[ri].field[1] = NONE;
        break;
    case COPY:
        get_reg(m, r);
        get_reg(m, op.s);
        tarn_copy(word_of(ri, 0), word_of(si, 0), 2 * sizeof(uint64_t));
        memcpy(sh.node[ri].field, sh.node[si].field, sizeof sh.node[ri].field);
        break;
    case FORGET:
        for (r = 0; r < REGS; r++)
            set_reg(m, r, NULL, NONE);
        break;
    default:
        get_reg(m, r);
        v = get_reg(m, op.s);
        v = tarn_swap(word_of(ri, f), v);
        expect(v, sh.node[ri].field[f], "an exchange");
        set_reg(m, op.s, v, sh.node[ri].field[f]);
        sh.node[ri].field[f] = si;
    }
}

/* Would it change anything, and is it allowed? The bulk functions do not know a
 * traced object's own form of pointers. */
static bool effective(struct op op)
{
    int ri = sh.reg[op.m][op.r], si = sh.reg[op.m][op.s];
    const struct shadow *rn = ri != NONE ? &sh.node[ri] : NULL;
    const struct shadow *sn = si != NONE ? &sh.node[si] : NULL;
    switch (op.what) {
    case LOAD:
        return sn != NULL && sn->field[op.f] != NONE && sn->field[op.f] != ri;
    case LOAD_PLAIN:
        return sh.plain != NONE && sh.plain != ri;
    case LOAD_RANGE:
        return sh.range != NONE && sh.range != ri;
    case LOAD_OLD:
        return ri != OLD;
    case STORE:
        return rn != NULL && sn != NULL && rn->field[op.f] != si;
    case STORE_PLAIN:
        return rn != NULL && sh.plain != ri;
    case STORE_RANGE:
        return rn != NULL && sh.range != ri;
    case UNSET:
        return rn != NULL && rn->field[op.f] != NONE;
    case UNSET_PLAIN:
        return sh.plain != NONE;
    case UNSET_RANGE:
        return sh.range != NONE;
    case ALLOC:
        return free_node() != NONE;
    case DROP:
        return rn != NULL;
    case MOVE:
        return sn != NULL && ri != si;
    case CLEAR:
        return rn != NULL && rn->kind != TRACED &&
               (rn->field[0] != NONE || rn->field[1] != NONE);
    case COPY:
        return rn != NULL && sn != NULL && rn != sn && rn->kind != TRACED &&
               sn->kind != TRACED &&
               memcmp(rn->field, sn->field, sizeof rn->field) != 0;
    case FORGET:
        for (int r = 0; r < REGS; r++)
            if (sh.reg[op.m][r] != NONE)
                return true;
        return false;
    default:
        return rn != NULL && rn->kind != TRACED && si != rn->field[op.f];
    }
}

static bool uses_s(int what)
{
    return what == LOAD || what == STORE || what == MOVE || what == COPY ||
           what == SWAP;
}

static bool uses_f(int what)
{
    return what == LOAD || what == STORE || what == UNSET || what == SWAP;
}

static bool uses_r(int what)
{
    return what != UNSET_PLAIN && what != UNSET_RANGE && what != FORGET;
}

#define OPS_MOST 256

static int list_ops(struct op *out, int n, int m, uint32_t set, int fields)
{
    for (int what = 0; what < WHATS; what++) {
        if (!(set & ONLY(what)))
            continue;
        for (int r = 0; r < (uses_r(what) ? REGS : 1); r++)
            for (int s = 0; s < (uses_s(what) ? REGS : 1); s++)
                for (int f = 0; f < (uses_f(what) ? fields : 1); f++) {
                    struct op op = {(uint8_t)what, (uint8_t)m, (uint8_t)r,
                                    (uint8_t)s, (uint8_t)f};
                    if (effective(op))
                        out[n++] = op;
                }
    }
    CHECK_LE(n, OPS_MOST);
    return n;
}

#endif

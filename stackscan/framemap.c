/* stackscan/framemap.c - the table of frame maps, and what is done with a frame
 * that is in it. */
#include "stackscan/framemap.h"

#include <stdlib.h>

#include "base/options.h"
#include "base/sysmem.h"
#include "stackscan/epoch.h"

/* What was registered in one call. */
struct region {
    struct region *next;
    uintptr_t lo, hi; /* of its text, or of what it was made from: */
    bool any_text;
    size_t n;
    uint64_t bits[]; /* of all its maps */
};

struct entry {
    struct tarn_frame_map m; /* bitmaps are complete: saved words too */
    const struct region *of;
};

struct table {
    size_t n;
    struct entry e[]; /* by ret */
};

static struct table *_Atomic table; /* NULL: nothing is registered */
static struct region *regions;
static struct mutex framemap_lock = MUTEX_INIT(LEAF);
static struct epoch readers;

static size_t words_of(const struct tarn_frame_map *m)
{
    return m->size / 8 - 1;
}

static size_t bitmap_size(const struct tarn_frame_map *m)
{
    return (words_of(m) + 63) / 64;
}

/* --- lookup ------------------------------------------------------------------------ */

static const struct tarn_frame_map *find(const struct table *t, uintptr_t ret)
{
    size_t lo = 0, hi = t ? t->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ret == t->e[mid].m.ret)
            return &t->e[mid].m;
        if (ret < t->e[mid].m.ret)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

bool framemap_find(uintptr_t ret, struct tarn_frame_map *out)
{
    uint32_t e = read_begin(&readers);
    const struct tarn_frame_map *m = find(atomic_load(&table), ret);
    if (m != NULL)
        *out = *m;
    read_end(&readers, e);
    return m != NULL;
}

/* --- walking ----------------------------------------------------------------------- */

/* Behind asm_call_on_goroutine's call of a callback's body. */
extern const char call_on_goroutine_return[]
    __attribute__((visibility("hidden")));

/* At sp are six registers and a return address, as mcall and its like push them. */
static NO_SANITIZE bool from_pushed(struct unwind *u, uintptr_t sp)
{
    static const uint8_t order[] = {UNW_R15, UNW_R14, UNW_R13,
                                    UNW_R12, UNW_RBX, UNW_RBP};
    if (sp % 8 != 0 || sp > u->hi || u->hi - sp < 56)
        return false;
    const uintptr_t *w = (const uintptr_t *)(sp + u->bias);
    for (unsigned i = 0; i < UNW_REGS; i++) {
        u->reg[order[i]] = w[i];
        u->at[order[i]] = sp + i * 8;
    }
    u->known = (UINT32_C(1) << UNW_REGS) - 1;
    u->pc = w[6];
    u->ra_slot = sp + 48;
    u->sp = u->cfa = sp + 56;
    u->interrupted = false;
    return true;
}

bool unwind_begin(struct unwind *u, struct g *gp, uintptr_t sp, uintptr_t hi,
                  uintptr_t bias)
{
    *u = (struct unwind){.hi = hi, .bias = bias};
    if (gp->foreign || gp->resume & RESUME_START)
        return false;
    if (gp->syscallsp == 0 || !gp->throwsplit)
        return from_pushed(u, sp);
    /* In a native call on this stack. Where it was entered from is overwritten
     * by now, but noted. */
    u->pc = gp->syscallpc;
    u->sp = u->cfa = sp;
    for (unsigned i = 0; i < UNW_REGS; i++) {
        u->reg[i] = gp->native_regs[i];
        u->at[i] = (uintptr_t)&gp->native_regs[i];
    }
    u->known = (UINT32_C(1) << UNW_REGS) - 1;
    return true;
}

bool unwind_next(struct unwind *u)
{
    /* The tables lead to the native code, which is on another stack. What the
     * goroutine left when it went there lies above an alignment word. */
    if (u->pc == (uintptr_t)call_on_goroutine_return && !u->interrupted)
        return from_pushed(u, u->sp + 8);
    return unwind_step(u);
}

/* As unwind_next, by a map. */
static NO_SANITIZE bool step_by_map(struct unwind *u,
                                    const struct tarn_frame_map *m)
{
    uintptr_t slot = u->sp + m->size - 8;
    if (u->hi - u->sp < m->size)
        return false;
    for (unsigned i = 0; i < UNW_REGS; i++) {
        if (m->saved[i] == 0)
            continue;
        uintptr_t at = u->sp + (m->saved[i] - 1u) * 8;
        u->reg[i] = *(const uintptr_t *)(at + u->bias);
        u->at[i] = at;
        u->known |= UINT32_C(1) << i;
    }
    u->pc = *(const uintptr_t *)(slot + u->bias);
    u->ra_slot = slot;
    u->sp = u->cfa = slot + 8;
    u->interrupted = false;
    return true;
}

/* Does the frame look as the map says? */
static bool fits(const struct unwind *u, const struct tarn_frame_map *m)
{
    return m->rbp == 0 || ((u->known >> UNW_RBP & 1) &&
                           u->reg[UNW_RBP] == u->sp + (m->rbp - 1u) * 8);
}

bool unwind_begin_here(struct unwind *u, struct g *gp)
{
    *u = (struct unwind){.hi = gp->stack.hi};
    return from_pushed(u, gp->sched_sp);
}

bool unwind_caller(struct unwind *u)
{
    if (unwind_next(u))
        return true;
    uint32_t e = read_begin(&readers);
    const struct tarn_frame_map *m =
        u->interrupted ? NULL : find(atomic_load(&table), u->pc);
    bool ok = m != NULL && fits(u, m) && step_by_map(u, m);
    read_end(&readers, e);
    return ok;
}

struct visitor {
    void (*words)(uintptr_t lo, uintptr_t hi, void *arg);
    void (*frame)(uintptr_t base, const struct tarn_frame_map *m, void *arg);
    void *arg;
};

/* All of [sp, hi), lowest first. */
static void walk(struct g *gp, uintptr_t sp, uintptr_t hi, uintptr_t bias,
                 const struct visitor *v)
{
    struct unwind u;
    uintptr_t done = sp;
    uint32_t e = read_begin(&readers);
    const struct table *t = atomic_load(&table);
    bool more = unwind_begin(&u, gp, sp, hi, bias);
    while (more) {
        const struct tarn_frame_map *m = u.interrupted ? NULL : find(t, u.pc);
        uintptr_t base = u.sp;
        if (m == NULL || !fits(&u, m)) {
            more = unwind_next(&u);
            continue;
        }
        more = step_by_map(&u, m);
        if (more) {
            v->words(done, base, v->arg);
            v->frame(base, m, v->arg);
            done = u.sp;
        }
    }
    v->words(done, hi, v->arg);
    read_end(&readers, e);
}

/* Calls fn for each run of words that are set. */
static void each_run(uintptr_t base, const uint64_t *bits, size_t n,
                     void (*fn)(uintptr_t lo, uintptr_t hi, void *arg),
                     void *arg)
{
    for (size_t i = 0, j; i < n; i = j + 1) {
        for (j = i; j < n && (bits[j / 64] >> (j % 64) & 1);)
            j++;
        if (j > i)
            fn(base + i * 8, base + j * 8, arg);
    }
}

/* --- scanning ---------------------------------------------------------------------- */

struct scan {
    void (*range)(uintptr_t lo, uintptr_t hi, void *arg);
    void *arg;
    uintptr_t bias;
};

static void scan_words(uintptr_t lo, uintptr_t hi, void *vs)
{
    struct scan *s = vs;
    if (lo < hi)
        s->range(lo + s->bias, hi + s->bias, s->arg);
}

static void scan_frame(uintptr_t base, const struct tarn_frame_map *m, void *vs)
{
    each_run(base, m->pointers, words_of(m), scan_words, vs);
}

void scanstack_frames(struct g *gp, uintptr_t sp, uintptr_t hi,
                      void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                      void *arg)
{
    /* Without the scan bit (the world is stopped, for a check) a thread that has
     * no P may be changing what a walk begins with. */
    if (likely(atomic_load_explicit(&table, memory_order_relaxed) == NULL) ||
        options.checkmark ||
        (!(readgstatus(gp) & Gscan) && !gp->worldstopped)) {
        range(sp, hi, arg);
        return;
    }
    /* A frozen one's frames speak of where they were. */
    uintptr_t bias =
        gp->resume & RESUME_THAW ? gp->stack.hi - gp->frozen.hi : 0;
    struct scan s = {range, arg, bias};
    walk(gp, sp - bias, hi - bias, bias,
         &(struct visitor){scan_words, scan_frame, &s});
}

/* --- moving ------------------------------------------------------------------------ */

struct move {
    uintptr_t lo, hi;
    intptr_t delta;
};

/* The walk is over the old stack, which is as it was. */
static void move_words(uintptr_t lo, uintptr_t hi, void *vm)
{
    struct move *m = vm;
    adjust_words(lo + (uintptr_t)m->delta, hi + (uintptr_t)m->delta, m->lo,
                 m->hi, m->delta);
}

static void move_frame(uintptr_t base, const struct tarn_frame_map *m, void *vm)
{
    each_run(base, m->locals, words_of(m), move_words, vm);
}

void adjust_frames(struct g *gp, uintptr_t sp, uintptr_t hi, uintptr_t lo,
                   uintptr_t old_hi, intptr_t delta, uintptr_t bias)
{
    if (likely(atomic_load_explicit(&table, memory_order_relaxed) == NULL)) {
        adjust_words(sp, hi, lo, old_hi, delta);
        return;
    }
    struct move m = {lo, old_hi, delta};
    walk(gp, sp - (uintptr_t)delta, hi - (uintptr_t)delta, bias,
         &(struct visitor){move_words, move_frame, &m});
}

/* --- changing the table: under the lock ---------------------------------------------- */

struct change {
    const struct tarn_frame_maps *info;
    uintptr_t lo, hi;
    bool any_text;
    tarn_status status;
    const char *why;
    uintptr_t bad;
};

static void refuse(struct change *ch, const char *why, uintptr_t bad)
{
    ch->status = TARN_EINVAL;
    ch->why = why;
    ch->bad = bad;
}

static bool outside(const uint64_t *bits, const struct tarn_frame_map *m)
{
    size_t n = words_of(m);
    return bits != NULL && n % 64 != 0 && bits[n / 64] >> n % 64 != 0;
}

static void check_map(struct change *ch, const struct tarn_frame_map *m)
{
    if (!ch->any_text && (m->ret <= ch->lo || m->ret > ch->hi)) {
        refuse(ch, "does not hold the return address", m->ret);
        return;
    }
    if (m->size < 8 || m->size % 8 != 0 || m->size > TARN_FRAME_SIZE_MAX) {
        refuse(ch, "has a map of a bad size for the return address", m->ret);
        return;
    }
    if (outside(m->pointers, m) || outside(m->locals, m))
        refuse(ch, "has a map with words outside of the frame at", m->ret);
    for (int k = 0; k < UNW_REGS; k++)
        if (m->saved[k] > words_of(m))
            refuse(ch, "has a map with a register outside of the frame at",
                   m->ret);
    /* It may be the word with the caller's return address. */
    if (m->rbp > words_of(m) + 1)
        refuse(ch, "has a map with rbp outside of the frame at", m->ret);
}

static void check(struct change *ch)
{
    for (const struct region *r = regions; r != NULL; r = r->next)
        if (ch->lo < r->hi && r->lo < ch->hi && ch->any_text == r->any_text)
            refuse(ch, "overlaps the range registered at", r->lo);
    for (size_t i = 0; i < ch->info->n && ch->status == TARN_OK; i++)
        check_map(ch, &ch->info->maps[i]);
}

static int by_ret(const void *va, const void *vb)
{
    const struct entry *a = va, *b = vb;
    return (a->m.ret > b->m.ret) - (a->m.ret < b->m.ret);
}

/* A map's own copy of its bits. */
static uint64_t *copy_bits(struct tarn_frame_map *m, uint64_t *to)
{
    size_t n = bitmap_size(m);
    const uint64_t **which[] = {&m->pointers, &m->locals};
    for (size_t i = 0; i < ARRAY_LEN(which); i++) {
        if (*which[i] != NULL)
            memcpy(to, *which[i], n * 8);
        else
            memset(to, 0, n * 8);
        for (int k = 0; k < UNW_REGS; k++)
            if (m->saved[k] != 0)
                to[(m->saved[k] - 1) / 64] |= UINT64_C(1)
                                              << (m->saved[k] - 1) % 64;
        *which[i] = to;
        to += n;
    }
    return to;
}

static void publish(struct table *fresh)
{
    struct table *old = atomic_exchange(&table, fresh);
    wait_for_readers(&readers);
    sys_free(old);
}

static void fill(struct change *ch, struct region *r, const struct table *old,
                 struct table *fresh)
{
    size_t have = old ? old->n : 0, more = ch->info->n;
    uint64_t *to = r->bits;
    for (size_t i = 0; i < more; i++) {
        fresh->e[i] = (struct entry){ch->info->maps[i], r};
        to = copy_bits(&fresh->e[i].m, to);
    }
    if (have > 0)
        memcpy(fresh->e + more, old->e, have * sizeof(struct entry));
    fresh->n = have + more;
    qsort(fresh->e, fresh->n, sizeof(struct entry), by_ret);
    for (size_t i = 1; i < fresh->n; i++)
        if (fresh->e[i].m.ret == fresh->e[i - 1].m.ret)
            refuse(ch,
                   fresh->e[i].of == fresh->e[i - 1].of
                       ? "has two maps for the return address"
                       : "has a map for a return address that has one,",
                   fresh->e[i].m.ret);
}

static void add_maps(void *vch)
{
    struct change *ch = vch;
    lock(&framemap_lock);
    check(ch);
    const struct table *old = atomic_load(&table);
    size_t n = (old ? old->n : 0) + ch->info->n, bits = 0;
    struct region *r = NULL;
    struct table *fresh = NULL;
    if (ch->status == TARN_OK) {
        for (size_t i = 0; i < ch->info->n; i++)
            bits += 2 * bitmap_size(&ch->info->maps[i]);
        r = sys_alloc(sizeof *r + bits * 8);
        fresh = sys_alloc(sizeof *fresh + n * sizeof(struct entry));
        if (r == NULL || fresh == NULL)
            ch->status = TARN_ENOMEM;
    }
    if (ch->status == TARN_OK)
        fill(ch, r, old, fresh);
    if (ch->status == TARN_OK) {
        r->lo = ch->lo;
        r->hi = ch->hi;
        r->any_text = ch->any_text;
        r->n = ch->info->n;
        r->next = regions;
        regions = r;
        publish(fresh);
    } else {
        sys_free(r);
        sys_free(fresh);
    }
    unlock(&framemap_lock);
}

static void remove_maps(void *vch)
{
    struct change *ch = vch;
    lock(&framemap_lock);
    struct region **at = &regions, *r;
    while ((r = *at) != NULL &&
           (r->lo != ch->lo || r->any_text != ch->any_text ||
            (r->hi != ch->hi && !ch->any_text)))
        at = &r->next;
    const struct table *old = atomic_load(&table);
    struct table *fresh = NULL;
    if (r == NULL)
        ch->status = TARN_EINVAL;
    else if (regions->next != NULL &&
             (fresh = sys_alloc(sizeof *fresh +
                                (old->n - r->n) * sizeof(struct entry))) ==
                 NULL)
        ch->status = TARN_ENOMEM;
    if (ch->status == TARN_OK) {
        if (fresh != NULL) {
            fresh->n = 0;
            for (size_t i = 0; i < old->n; i++)
                if (old->e[i].of != r)
                    fresh->e[fresh->n++] = old->e[i];
        }
        *at = r->next;
        publish(fresh);
        sys_free(r);
    }
    unlock(&framemap_lock);
}

static void on_large_stack(void (*fn)(void *), struct change *ch)
{
    if (on_goroutine())
        systemstack(fn, ch);
    else
        fn(ch);
}

tarn_status framemap_add(const char *who, const struct tarn_frame_maps *info,
                         bool any_text)
{
    struct change ch = {.info = info,
                        .lo = (uintptr_t)info->lo,
                        .hi = (uintptr_t)info->hi,
                        .any_text = any_text};
    on_large_stack(add_maps, &ch);
    if (ch.status == TARN_EINVAL)
        set_error("%s: %p..%p %s %#lx", who, info->lo, info->hi, ch.why,
                  (unsigned long)ch.bad);
    else if (ch.status != TARN_OK)
        set_error("%s: out of memory for %zu maps", who, info->n);
    return ch.status;
}

tarn_status framemap_remove(const char *who, uintptr_t lo, uintptr_t hi)
{
    struct change ch = {.lo = lo, .hi = hi, .any_text = hi == 0};
    on_large_stack(remove_maps, &ch);
    if (ch.status == TARN_EINVAL && hi != 0)
        set_error("%s: no range %#lx..%#lx is registered", who,
                  (unsigned long)lo, (unsigned long)hi);
    else if (ch.status == TARN_EINVAL)
        set_error("%s: nothing at %#lx is registered", who, (unsigned long)lo);
    else if (ch.status != TARN_OK)
        set_error("%s: out of memory", who);
    return ch.status;
}

tarn_status tarn_frame_maps_register(const struct tarn_frame_maps *info)
{
    static const char who[] = "tarn_frame_maps_register";
    if (info == NULL || info->lo == NULL ||
        (uintptr_t)info->lo >= (uintptr_t)info->hi ||
        (info->maps == NULL && info->n != 0)) {
        set_error("%s: no range or no maps", who);
        return TARN_EINVAL;
    }
    return framemap_add(who, info, false);
}

tarn_status tarn_frame_maps_unregister(const void *lo, const void *hi)
{
    static const char who[] = "tarn_frame_maps_unregister";
    if (hi == NULL) {
        set_error("%s: no range", who);
        return TARN_EINVAL;
    }
    return framemap_remove(who, (uintptr_t)lo, (uintptr_t)hi);
}

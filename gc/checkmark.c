/* gc/checkmark.c - marks once more, with the world stopped and by the simplest
 * means, and compares.
 *
 * An object that is reached and is not of the live colour was missed by the
 * concurrent mark: somebody stored a pointer without a barrier, or the collector
 * is wrong. Visited objects carry META_CHECK.
 *
 * A concurrent mark owes nothing to what was garbage when it began, and a word of a
 * stack may come to look like a pointer to it: a part of it was written over what a
 * dead pointer had left, or it is a number. So the same is done when the mark begins,
 * and what was reached then carries META_CHECK until it ends. */
#include "base/options.h"
#include "base/sysmem.h"
#include "gc/gc.h"
#include "gc/specials.h"

#define MAX_REPORTS 20

_Atomic uint32_t gc_fault;

static struct {
    uintptr_t *stack;
    size_t n, cap;
    uint32_t missed, doubts; /* MAX_REPORTS of each are told of */
    /* Where the word under examination stands. */
    const char *what;
    uint64_t id;
    uintptr_t holder; /* object, or 0 */
    bool in_stack;
    bool begins; /* the mark begins: nothing is missed yet */
    const struct special_visitor *specials; /* in reach_specials */
    bool more, finals;
} cm;

/* doubt: why it may be no pointer; or NULL. */
static void report(const struct objinfo *o, uintptr_t slot, const char *doubt)
{
    uint32_t *n = doubt == NULL ? &cm.missed : &cm.doubts;
    const char *why = doubt != NULL ? doubt : "";
    if ((*n)++ >= MAX_REPORTS)
        return;
    if (cm.in_stack)
        trace_blame(cm.id);
    struct objinfo h;
    if (cm.holder != 0 && heap_find(cm.holder, &h))
        tarn_eprintf("checkmark: missed object %#lx (%zu bytes, type %s), "
                     "reached from slot %#lx, offset %zu of object %#lx (%zu "
                     "bytes, type %s)%s\n",
                     (unsigned long)o->base, o->size, object_type_name(o),
                     (unsigned long)slot, (size_t)(slot - h.base),
                     (unsigned long)h.base, h.size, object_type_name(&h), why);
    else
        tarn_eprintf("checkmark: missed object %#lx (%zu bytes, type %s), "
                     "reached from slot %#lx in %s %llu%s\n",
                     (unsigned long)o->base, o->size, object_type_name(o),
                     (unsigned long)slot, cm.what, (unsigned long long)cm.id,
                     why);
}

/* The word itself, not what it leads to. */
static bool on_stack(void)
{
    return cm.holder == 0 && cm.in_stack;
}

/* A word of a stack that points at an object may be an end pointer of the one
 * before, made after the stack was scanned by arithmetic on that one: it says
 * nothing about the object that it happens to point at. */
static bool may_be_end_of_live(uintptr_t v)
{
    struct objinfo before;
    return on_stack() && heap_find(v - 1, &before) && !heap_white(before.meta);
}

/* A byte that was written over the low one of a dead pointer, in a word of a frame that
 * nothing else was written to, makes a pointer to whatever lies there, and that may
 * have died only during this mark. What the dead one pointed to was known, and is
 * alive: it is in the same 256 bytes. Bytes that are often written so, and those that
 * no aligned pointer has. */
static bool may_be_byte_in_pointer(uintptr_t v)
{
    struct objinfo near;
    if (!on_stack() || (v % 8 == 0 && (v & 0xff) != 0))
        return false;
    for (uintptr_t p = v & ~(uintptr_t)0xff; p <= (v | 0xff); p += GRANULE)
        if (heap_find(p, &near) && !heap_white(near.meta))
            return true;
    return false;
}

/* A young collection looks at old objects where something was stored. A word of a
 * conservative one that was there before the object that it seems to point to is
 * no pointer. One that was stored without tarn_store looks the same: it is said,
 * and does not end the process. */
static bool may_be_old_number(uintptr_t slot)
{
    struct objinfo h;
    return !heap.full && cm.holder != 0 && heap_find(cm.holder, &h) &&
           h.span->layout == LAYOUT_CONSERVATIVE &&
           (h.meta & META_COLOR) == META_COLOR &&
           *heap_card(slot) != heap.epoch_before &&
           *heap_card(slot) != tarn_cards.epoch;
}

/* A word of a stack for what was garbage when the mark began. */
static bool is_number(uint8_t meta)
{
    return on_stack() && !(meta & META_CHECK);
}

static const char *doubt(uint8_t meta, uintptr_t slot)
{
    if (is_number(meta))
        return " (garbage when the mark began: a number, it seems)";
    return may_be_old_number(slot) ? " (perhaps a number)" : NULL;
}

static void reach(uintptr_t v, uintptr_t slot)
{
    struct objinfo o;
    if (!heap_contains(v) || !heap_find(v, &o))
        return;
    uint8_t *m = heap_meta(o.base);
    uint8_t b = meta_load(m);
    bool missed = !cm.begins && heap_white(b);
    if (missed) {
        if ((v == o.base && may_be_end_of_live(v)) ||
            may_be_byte_in_pointer(v) || (is_number(b) && !options.gctrace))
            return;
        const char *why = doubt(b, slot);
        report(&o, slot, why);
        if (why != NULL)
            return;
        meta_store(m, heap_marked(b) | META_CHECK); /* once is enough */
    } else if (b & META_CHECK) {
        return;
    } else {
        meta_store(m, b | META_CHECK);
    }
    if (o.span->layout == LAYOUT_NOSCAN)
        return;
    if (cm.n == cm.cap) {
        cm.cap = cm.cap ? cm.cap * 2 : 4096;
        cm.stack = sys_realloc(cm.stack, cm.cap * sizeof(*cm.stack));
        if (cm.stack == NULL)
            throw("checkmark: out of memory");
    }
    cm.stack[cm.n++] = o.base;
}

static void reach_from(uintptr_t v, uintptr_t slot, void *unused)
{
    (void)unused;
    reach(v, slot);
}

static void scan(uintptr_t base)
{
    struct objinfo o;
    bool found = heap_find(base, &o);
    ASSERT(found);
    cm.holder = base;
    object_each_pointer(&o, reach_from, NULL);
}

static void drain(void)
{
    while (cm.n > 0) {
        uintptr_t base = cm.stack[--cm.n];
        scan(base);
        if (cm.specials != NULL)
            gc_specials_of(base, cm.specials);
    }
}

static NO_SANITIZE void root(uintptr_t lo, uintptr_t hi, const char *what,
                             uint64_t id, void *unused)
{
    (void)unused;
    cm.in_stack = strncmp(what, "stack", 5) == 0;
    for (const uintptr_t *p = (const uintptr_t *)ALIGN_UP(lo, (uintptr_t)8);
         p + 1 <= (const uintptr_t *)hi; p++) {
        if (!heap_contains(*p))
            continue;
        cm.what = what;
        cm.id = id;
        cm.holder = 0;
        reach(*p, (uintptr_t)p);
        /* The mark takes it for the end of an object, too. */
        if (cm.begins && cm.in_stack && *p % GRANULE == 0)
            reach(*p - 1, (uintptr_t)p);
        drain();
    }
}

/* Of all objects, or of those that are marked. */
static void clear(struct mspan *s, void *marked)
{
    uint32_t n = s->large ? 1 : s->nelems;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *m = heap_meta(s->base + i * s->elemsize);
        uint8_t b = meta_load(m);
        if (marked == NULL || !heap_white(b))
            meta_store(m, b & (uint8_t)~META_CHECK);
    }
}

/* --- specials: what the rules of specials.h keep alive --- */

static bool reached(uintptr_t base)
{
    uint8_t b = meta_load(heap_meta(base));
    return b & META_CHECK && (cm.begins || !heap_white(b));
}

/* Drained later: chains of entries are long. */
static void reach_special(uintptr_t v, const char *what)
{
    cm.what = what;
    cm.id = 0;
    cm.holder = 0;
    cm.in_stack = false;
    reach(v, 0);
}

static void special_root(uintptr_t v, const char *what, void *unused)
{
    (void)unused;
    reach_special(v, what);
}

static void special_held(uintptr_t key, uintptr_t map, uintptr_t value,
                         void *unused)
{
    (void)unused;
    struct objinfo o;
    if (!reached(key) || (map != 0 && !reached(map)) || !heap_find(value, &o) ||
        reached(o.base))
        return;
    reach_special(value, map == 0 ? "weak reference" : "entry of a weak map");
    cm.more = true;
}

static void reach_child(uintptr_t v, uintptr_t slot, void *vobject)
{
    (void)slot;
    const struct objinfo *o = vobject;
    if (v - o->base >= o->size)
        reach_special(v, "object that is due for its finalizer");
}

static void special_final(uintptr_t object, void *unused)
{
    (void)unused;
    struct objinfo o;
    if (!cm.finals || reached(object) || !heap_find(object, &o))
        return;
    object_each_pointer(&o, reach_child, &o);
}

static void reach_specials(void)
{
    const struct special_visitor v = {special_root, special_held, special_final,
                                      NULL};
    cm.specials = &v;
    for (int i = 0; i < 2; i++) {
        cm.finals = i == 1;
        do {
            cm.more = false;
            gc_each_special(&v);
            drain();
        } while (cm.more); /* a map may be reached after its keys */
    }
    cm.specials = NULL;
    cm.finals = false;
}

void checkmark_begin(void)
{
    cm.begins = true;
    gc_each_root(root, NULL, true);
    reach_specials();
    cm.begins = false;
    cm.holder = 0; /* a variable of ours is a root like others */
}

void checkmark(void)
{
    bool marked = true;
    cm.missed = cm.doubts = 0;
    heap_each_span(clear, &marked);
    gc_each_root(root, NULL, false);
    reach_specials();
    heap_each_span(clear, NULL);
    cm.holder = 0;
    if (cm.doubts > MAX_REPORTS)
        tarn_eprintf("checkmark: and %u more that are perhaps numbers\n",
                     cm.doubts - MAX_REPORTS);
    if (cm.missed != 0)
        throw("checkmark: the concurrent mark of cycle %llu missed %u objects: "
              "a store without tarn_store, or a pointer hidden from the "
              "collector",
              (unsigned long long)gc.cycles_started, cm.missed);
}

/* stackscan/text.c - which text is managed: where a goroutine may be stopped
 * between any two instructions.
 *
 * A signal handler asks, so the answer comes from tables that are published
 * whole and from read-only segments of loaded modules. In this order:
 *
 *   1. ranges that were registered (tarn_text_register): managed;
 *   2. the module that holds the address: none, unknown;
 *   3. the notes that tarn/managed.h left in it: managed;
 *   4. its .eh_frame_hdr, a sorted table of all functions, leads to the start of
 *      the function that holds the address: managed if that is a split-stack
 *      prologue, else not.
 *
 * Modules come and go. Their table is made anew outside of handlers when the
 * loader's counts have changed. Until then a handler may know a module that is no
 * more, in whose place there is another one: so it asks the C library too, whose
 * own table (_dl_find_object, glibc 2.35) is made to be read by handlers, and
 * believes in no module whose unwind table is not where it was, or whose program
 * headers and notes are others. It may read those: the module that it asks about
 * is the one that it has interrupted. The program itself is never unloaded.
 *
 * A table is freed when no handler can be reading it (epoch.h).
 *
 * Locks: text_lock (leaf), for writers.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include "base/sysmem.h"
#include "base/vm.h"
#include "stackscan/epoch.h"
#include "stackscan/stackscan.h"
#include "stackscan/unwind.h"
#include "tarn/preempt.h"

struct range {
    uintptr_t lo, hi;
};

struct ranges {
    size_t n;
    struct range r[]; /* sorted, apart */
};

struct module {
    uintptr_t lo, hi;   /* of its executable segments */
    struct eh_table eh; /* hdr 0: none */
    uint64_t print;     /* see fingerprint; 0: of the program, which stays */
    struct ranges *managed; /* by notes; NULL: none */
};

struct modules {
    size_t n;
    unsigned long long adds, subs; /* the loader's counts when it was made */
    struct module m[];             /* sorted by lo */
};

static struct ranges *_Atomic registered;
static struct modules *_Atomic modules;
static struct mutex text_lock = MUTEX_INIT(LEAF);

static struct epoch readers;

static bool in_ranges(const struct ranges *rs, uintptr_t pc)
{
    if (rs == NULL)
        return false;
    size_t lo = 0, hi = rs->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (pc < rs->r[mid].lo)
            hi = mid;
        else if (pc >= rs->r[mid].hi)
            lo = mid + 1;
        else
            return true;
    }
    return false;
}

/* --- the question ---------------------------------------------------------------- */

#ifdef DLFO_STRUCT_HAS_EH_DBASE
#pragma weak _dl_find_object
#endif

static uint32_t get32(uintptr_t p)
{
    uint32_t v;
    memcpy(&v, (const void *)p, sizeof v);
    return v;
}

static uint64_t mix(uint64_t h, uintptr_t p, size_t n)
{
    for (; n >= 4; n -= 4, p += 4)
        h = (h ^ get32(p)) * UINT64_C(0x9E3779B97F4A7C15);
    for (; n > 0; n--, p++)
        h = (h ^ *(const uint8_t *)p) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 32;
}

/* Of all that a struct module is made from, as it lies in memory: where segments
 * are, and what the notes say. map: where the module begins, which is with its ELF
 * header. 1: with something else, of which nothing is believed. */
static uint64_t fingerprint(uintptr_t map)
{
    ElfW(Ehdr) eh;
    memcpy(&eh, (const void *)map, sizeof eh);
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
        eh.e_phentsize != sizeof(ElfW(Phdr)) ||
        eh.e_phoff + eh.e_phnum * sizeof(ElfW(Phdr)) > OS_PAGE)
        return 1;
    uintptr_t table = map + eh.e_phoff;
    uint64_t h = mix(eh.e_phnum, table, eh.e_phnum * sizeof(ElfW(Phdr)));
    const ElfW(Phdr) *ph = (const ElfW(Phdr) *)table;
    uintptr_t base = 0;
    bool loaded = false;
    for (int i = 0; i < eh.e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD && !loaded) {
            base = map - ALIGN_DOWN((uintptr_t)ph[i].p_vaddr, OS_PAGE);
            loaded = true;
        }
    }
    for (int i = 0; i < eh.e_phnum && loaded; i++)
        if (ph[i].p_type == PT_NOTE)
            h = mix(h, base + ph[i].p_vaddr, ph[i].p_memsz);
    return h > 1 ? h : 2;
}

/* Is m still what is loaded at pc? */
static bool still_there(const struct module *m, uintptr_t pc)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object o;
    if (_dl_find_object != NULL) {
        if (_dl_find_object((void *)pc, &o) != 0 ||
            (uintptr_t)o.dlfo_eh_frame != m->eh.hdr)
            return false;
        return m->print == 0 ||
               (m->print != 1 &&
                m->print == fingerprint((uintptr_t)o.dlfo_map_start));
    }
#endif
    (void)m, (void)pc;
    return true;
}

static const struct module *module_at(const struct modules *ms, uintptr_t pc)
{
    size_t lo = 0, hi = ms ? ms->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (pc < ms->m[mid].lo)
            hi = mid;
        else if (pc >= ms->m[mid].hi)
            lo = mid + 1;
        else
            return still_there(&ms->m[mid], pc) ? &ms->m[mid] : NULL;
    }
    return NULL;
}

static enum text_kind kind_in(const struct modules *ms, uintptr_t pc)
{
    const struct module *m = module_at(ms, pc);
    struct cfi cfi;
    if (m == NULL)
        return TEXT_UNKNOWN;
    if (in_ranges(m->managed, pc))
        return TEXT_MANAGED;
    /* Ours is for the linker to look at. */
    if (!eh_find(&m->eh, pc, &cfi) || cfi.start == (uintptr_t)linkcheck_probe ||
        !has_split_prologue((const void *)cfi.start))
        return TEXT_UNMANAGED;
    return TEXT_MANAGED;
}

enum text_kind text_kind(uintptr_t pc)
{
    uint32_t e = read_begin(&readers);
    enum text_kind kind = in_ranges(atomic_load(&registered), pc)
                              ? TEXT_MANAGED
                              : kind_in(atomic_load(&modules), pc);
    read_end(&readers, e);
    return kind;
}

bool text_cfi(uintptr_t pc, struct cfi *out)
{
    uint32_t e = read_begin(&readers);
    const struct module *m = module_at(atomic_load(&modules), pc);
    bool found = m != NULL && eh_find(&m->eh, pc, out);
    read_end(&readers, e);
    return found;
}

/* --- modules ----------------------------------------------------------------------- */

static void free_modules(struct modules *ms)
{
    if (ms == NULL)
        return;
    for (size_t i = 0; i < ms->n; i++)
        sys_free(ms->m[i].managed);
    sys_free(ms);
}

static void sort_ranges(struct range *r, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && r[k].lo < r[k - 1].lo; k--) {
            struct range t = r[k];
            r[k] = r[k - 1];
            r[k - 1] = t;
        }
}

/* Adds the pairs of one note of ours to *rs; false: no memory. */
static bool add_note(struct ranges **rs, uintptr_t desc, size_t size)
{
    size_t have = *rs ? (*rs)->n : 0;
    size_t pairs = size / 16;
    struct ranges *more =
        sys_realloc(*rs, sizeof(*more) + (have + pairs) * sizeof(struct range));
    if (more == NULL)
        return false;
    more->n = have;
    for (size_t i = 0; i < pairs; i++) {
        uintptr_t at = desc + i * 16;
        int64_t lo, hi;
        memcpy(&lo, (const void *)at, 8);
        memcpy(&hi, (const void *)(at + 8), 8);
        struct range r = {at + (uintptr_t)lo, at + 8 + (uintptr_t)hi};
        if (r.lo < r.hi)
            more->r[more->n++] = r;
    }
    *rs = more;
    return true;
}

static bool read_notes(struct module *m, uintptr_t p, uintptr_t end)
{
    while (p + 12 <= end) {
        uint32_t name = get32(p), desc = get32(p + 4), type = get32(p + 8);
        uintptr_t d = p + 12 + ALIGN_UP((uintptr_t)name, (uintptr_t)4);
        uintptr_t next = d + ALIGN_UP((uintptr_t)desc, (uintptr_t)4);
        if (next > end || next < p)
            break;
        if (name == 5 && type == 1 &&
            memcmp((const void *)(p + 12), "Tarn", 5) == 0 &&
            !add_note(&m->managed, d, desc))
            return false;
        p = next;
    }
    return true;
}

struct collect {
    struct modules *ms;
    size_t cap;
    bool known, same, failed; /* known: adds, subs are those of the old one */
    unsigned long long adds, subs;
    bool others; /* the program comes first */
};

static int collect_module(struct dl_phdr_info *info, size_t size, void *vc)
{
    (void)size;
    struct collect *c = vc;
    if (c->known && c->adds == info->dlpi_adds && c->subs == info->dlpi_subs) {
        c->same = true;
        return 1;
    }
    struct module m = {.lo = UINTPTR_MAX};
    uintptr_t map = UINTPTR_MAX;
    bool program = !c->others;
    c->others = true;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && lo < map)
            map = ALIGN_DOWN(lo, OS_PAGE);
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X)) {
            m.lo = lo < m.lo ? lo : m.lo;
            m.hi = lo + ph->p_memsz > m.hi ? lo + ph->p_memsz : m.hi;
        } else if (ph->p_type == PT_GNU_EH_FRAME) {
            m.eh.hdr = lo;
        }
    }
    for (int i = 0; i < info->dlpi_phnum && m.eh.hdr != 0; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && m.eh.hdr - lo < ph->p_memsz) {
            m.eh.base = lo;
            m.eh.end = lo + ph->p_memsz;
        }
    }
    if (m.eh.end == 0)
        m.eh.hdr = 0;
    if (m.lo >= m.hi)
        return 0;
    if (!program)
        m.print = fingerprint(map);
    if (c->ms == NULL || c->ms->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct modules *more =
            sys_realloc(c->ms, sizeof(*more) + cap * sizeof(m));
        if (more == NULL) {
            c->failed = true;
            return 1;
        }
        if (c->ms == NULL)
            more->n = 0;
        c->ms = more;
        c->cap = cap;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_NOTE && ph->p_align <= 4 &&
            !read_notes(&m, lo, lo + ph->p_memsz)) {
            sys_free(m.managed);
            c->failed = true;
            return 1;
        }
    }
    if (m.managed != NULL)
        sort_ranges(m.managed->r, m.managed->n);
    c->ms->adds = info->dlpi_adds;
    c->ms->subs = info->dlpi_subs;
    size_t at = c->ms->n++;
    while (at > 0 && c->ms->m[at - 1].lo > m.lo) {
        c->ms->m[at] = c->ms->m[at - 1];
        at--;
    }
    c->ms->m[at] = m;
    return 0;
}

void text_refresh_now(void)
{
    /* The loader's lock comes before ours, never inside it: who holds it may be
     * about to call us. */
    struct collect c = {0};
    uint32_t e = read_begin(&readers);
    const struct modules *ms = atomic_load(&modules);
    if (ms != NULL) {
        c.known = true;
        c.adds = ms->adds;
        c.subs = ms->subs;
    }
    read_end(&readers, e);
    dl_iterate_phdr(collect_module, &c);
    struct modules *drop = c.ms;
    if (!c.same && !c.failed && c.ms != NULL) {
        lock(&text_lock);
        /* Another thread may have seen more than we did. */
        struct modules *old = atomic_load(&modules);
        if (old == NULL || old->adds + old->subs < c.ms->adds + c.ms->subs) {
            atomic_store(&modules, c.ms);
            wait_for_readers(&readers);
            drop = old;
        }
        unlock(&text_lock);
    }
    /* Without memory the old table stays: unknown text is not managed. */
    free_modules(drop);
}

void text_refresh(void)
{
    static _Atomic bool busy;
    if (atomic_exchange(&busy, true))
        return;
    text_refresh_now();
    atomic_store(&busy, false);
}

/* --- registered ranges ------------------------------------------------------------- */

struct change {
    uintptr_t lo, hi;
    tarn_status status;
};

static size_t first_above(const struct ranges *rs, uintptr_t lo)
{
    size_t i = 0;
    while (rs != NULL && i < rs->n && rs->r[i].lo < lo)
        i++;
    return i;
}

static void publish(struct ranges *fresh)
{
    struct ranges *old = atomic_exchange(&registered, fresh);
    wait_for_readers(&readers);
    sys_free(old);
}

static void add_range(void *vchange)
{
    struct change *ch = vchange;
    lock(&text_lock);
    const struct ranges *old = atomic_load(&registered);
    size_t n = old ? old->n : 0, at = first_above(old, ch->lo);
    struct ranges *fresh = NULL;
    if ((at > 0 && old->r[at - 1].hi > ch->lo) ||
        (at < n && old->r[at].lo < ch->hi))
        ch->status = TARN_EINVAL;
    else if ((fresh = sys_alloc(sizeof(*fresh) +
                                (n + 1) * sizeof(struct range))) == NULL)
        ch->status = TARN_ENOMEM;
    if (fresh != NULL) {
        fresh->n = n + 1;
        if (n > 0) {
            memcpy(fresh->r, old->r, at * sizeof(struct range));
            memcpy(fresh->r + at + 1, old->r + at,
                   (n - at) * sizeof(struct range));
        }
        fresh->r[at] = (struct range){ch->lo, ch->hi};
        publish(fresh);
    }
    unlock(&text_lock);
}

static void remove_range(void *vchange)
{
    struct change *ch = vchange;
    lock(&text_lock);
    const struct ranges *old = atomic_load(&registered);
    size_t n = old ? old->n : 0, at = first_above(old, ch->lo);
    struct ranges *fresh = NULL;
    if (at == n || old->r[at].lo != ch->lo || old->r[at].hi != ch->hi)
        ch->status = TARN_EINVAL;
    else if (n > 1 &&
             (fresh = sys_alloc(sizeof(*fresh) +
                                (n - 1) * sizeof(struct range))) == NULL)
        ch->status = TARN_ENOMEM;
    if (ch->status == TARN_OK) {
        if (fresh != NULL) {
            fresh->n = n - 1;
            memcpy(fresh->r, old->r, at * sizeof(struct range));
            memcpy(fresh->r + at, old->r + at + 1,
                   (n - at - 1) * sizeof(struct range));
        }
        publish(fresh);
    }
    unlock(&text_lock);
}

static void on_large_stack(void (*fn)(void *), struct change *ch)
{
    if (on_goroutine())
        systemstack(fn, ch);
    else
        fn(ch);
}

tarn_status tarn_text_register(const void *lo, const void *hi)
{
    struct change ch = {(uintptr_t)lo, (uintptr_t)hi, TARN_OK};
    if (lo == NULL || ch.lo >= ch.hi) {
        set_error("tarn_text_register: %p..%p is no range", lo, hi);
        return TARN_EINVAL;
    }
    on_large_stack(add_range, &ch);
    if (ch.status == TARN_EINVAL)
        set_error("tarn_text_register: %p..%p overlaps a registered range", lo,
                  hi);
    else if (ch.status != TARN_OK)
        set_error("tarn_text_register: out of memory");
    return ch.status;
}

tarn_status tarn_text_unregister(const void *lo, const void *hi)
{
    struct change ch = {(uintptr_t)lo, (uintptr_t)hi, TARN_OK};
    on_large_stack(remove_range, &ch);
    if (ch.status == TARN_EINVAL)
        set_error("tarn_text_unregister: no range %p..%p is registered", lo,
                  hi);
    else if (ch.status != TARN_OK)
        set_error("tarn_text_unregister: out of memory");
    return ch.status;
}

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
 * loader's counts have changed. Until then a handler may find one in it that is no
 * more, in whose place there is another: of the same name perhaps, or of the same
 * layout. So it asks the C library, whose own table (_dl_find_object, glibc 2.35)
 * is made to be read by handlers, what is loaded there now, and believes our table
 * only if that has the same ELF and program headers, and at the same place a note
 * that says of this text what the one said that we read. All else that decides is
 * read from the module itself. Where the C library cannot be asked, only the
 * program itself is known: nobody can unload that.
 *
 * A table is freed when no handler can be reading it: readers of each of two
 * epochs are counted, writers change the epoch twice and wait for both.
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
#include "stackscan/stackscan.h"
#include "tarn/preempt.h"

struct range {
    uintptr_t lo, hi;
};

struct ranges {
    size_t n;
    struct range r[]; /* sorted, apart */
};

/* What a note says, and where: the note, and the pair in it. */
struct noted {
    uintptr_t lo, hi, note, pair;
};

struct noted_ranges {
    size_t n;
    struct noted r[]; /* sorted, apart */
};

struct module {
    uintptr_t lo, hi; /* of its executable segments */
    uintptr_t start;  /* of all: its ELF header */
    bool program;     /* that cannot be unloaded */
    void *headers;    /* a copy of ELF and program headers; NULL: unusual */
    size_t headers_size;
    uintptr_t eh_hdr;  /* .eh_frame_hdr, 0: none */
    uintptr_t eh_base; /* of the read-only segment that holds the tables */
    uintptr_t eh_end;
    struct noted_ranges *managed; /* by notes; NULL: none */
};

struct modules {
    size_t n;
    unsigned long long adds, subs; /* the loader's counts when it was made */
    struct module m[];             /* sorted by lo */
};

static struct ranges *_Atomic registered;
static struct modules *_Atomic modules;
static struct mutex text_lock = MUTEX_INIT(LEAF);

/* --- readers and writers --------------------------------------------------------- */

static _Atomic uint32_t epoch, readers[2];

static uint32_t read_begin(void)
{
    uint32_t e = atomic_load(&epoch) & 1;
    atomic_fetch_add(&readers[e], 1);
    return e;
}

static void read_end(uint32_t e)
{
    atomic_fetch_sub(&readers[e], 1);
}

/* Until nobody reads what was published before. text_lock held. Twice: a reader
 * may have read the epoch long before it counts itself. */
static void wait_for_readers(void)
{
    for (int i = 0; i < 2; i++) {
        uint32_t e = atomic_fetch_add(&epoch, 1) & 1;
        while (atomic_load(&readers[e]) != 0)
            osyield();
    }
}

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

/* --- .eh_frame_hdr ----------------------------------------------------------------- */

/* How values are encoded; these are what linkers write. */
#define DW_UDATA4 0x03
#define DW_SDATA4 0x0b
#define DW_PCREL 0x10
#define DW_DATAREL 0x30

static uint32_t get32(uintptr_t p)
{
    uint32_t v;
    memcpy(&v, (const void *)p, sizeof v);
    return v;
}

/* The augmentation of the FDE's CIE says how it gives its bounds. "zR", "zPLR" and
 * the like with 4 or 8 bytes relative to where they stand. 0: something else. */
static size_t fde_width(const struct module *m, uintptr_t cie)
{
    if (cie < m->eh_base || cie + 16 > m->eh_end || get32(cie + 4) != 0)
        return 0;
    const uint8_t *p = (const uint8_t *)cie + 9; /* length, id, version */
    const char *aug = (const char *)p;
    if (aug[0] != 'z')
        return 0;
    p += strlen(aug) + 1;
    for (int i = 0; i < 3;
         i++) { /* alignments, return column (version 1 too) */
        while (*p++ & 0x80)
            ;
    }
    while (*p++ & 0x80) /* length of the augmentation's data */
        ;
    for (const char *a = aug + 1; *a != '\0'; a++) {
        switch (*a) {
        case 'R':
            return *p == (DW_PCREL | DW_SDATA4) ? 4 : *p == DW_PCREL ? 8 : 0;
        case 'L':
            p++;
            break;
        case 'P': {
            uint8_t how = *p++ & 0x0f;
            p += how == DW_SDATA4 || how == DW_UDATA4 ? 4 : 8;
            break;
        }
        case 'S':
        case 'B':
            break;
        default:
            return 0;
        }
    }
    return 0;
}

/* Start of the function that holds pc, by the table of m; 0: there is none. */
static uintptr_t function_start(const struct module *m, uintptr_t pc)
{
    uintptr_t h = m->eh_hdr;
    if (h == 0)
        return 0;
    const uint8_t *enc = (const uint8_t *)h;
    if (enc[0] != 1 || enc[1] != (DW_PCREL | DW_SDATA4) ||
        enc[2] != DW_UDATA4 || enc[3] != (DW_DATAREL | DW_SDATA4))
        return 0;
    size_t n = get32(h + 8);
    uintptr_t table = h + 12;
    if (n == 0 || table + n * 8 > m->eh_end)
        return 0;
    /* The last entry that starts at or before pc. */
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (h + (uintptr_t)(int32_t)get32(table + mid * 8) <= pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return 0;
    uintptr_t entry = table + (lo - 1) * 8;
    uintptr_t start = h + (uintptr_t)(int32_t)get32(entry);
    uintptr_t fde = h + (uintptr_t)(int32_t)get32(entry + 4);
    if (fde < m->eh_base || fde + 24 > m->eh_end || get32(fde) == UINT32_MAX)
        return 0;
    size_t width = fde_width(m, fde + 4 - get32(fde + 4));
    uint64_t length = 0;
    if (width == 0)
        return 0;
    memcpy(&length, (const void *)(fde + 8 + width), width);
    return pc - start < length ? start : 0;
}

/* --- the question ---------------------------------------------------------------- */

#ifdef DLFO_STRUCT_HAS_EH_DBASE
#pragma weak _dl_find_object
#endif

/* Is what is loaded at pc laid out like m? Then all that m knows of is there, and
 * can be read. */
static bool still_there(const struct module *m, uintptr_t pc)
{
    if (m->program)
        return true;
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object o;
    if (_dl_find_object != NULL && m->headers != NULL)
        return _dl_find_object((void *)pc, &o) == 0 &&
               (uintptr_t)o.dlfo_map_start == m->start &&
               memcmp((const void *)m->start, m->headers, m->headers_size) == 0;
#endif
    (void)pc;
    return false;
}

#define NOTE_NAME 12 /* its offset, and that of the description */
#define NOTE_DESC 20

static bool is_our_note(uintptr_t note)
{
    return get32(note) == 5 && get32(note + 8) == 1 &&
           memcmp((const void *)(note + NOTE_NAME), "Tarn", 5) == 0;
}

/* Two words, each the distance from itself to the address it stands for. */
static struct range read_pair(uintptr_t at)
{
    int64_t lo, hi;
    memcpy(&lo, (const void *)at, 8);
    memcpy(&hi, (const void *)(at + 8), 8);
    return (struct range){at + (uintptr_t)lo, at + 8 + (uintptr_t)hi};
}

/* Does the note that was read into r still say so? */
static bool note_says(const struct noted *r)
{
    if (!is_our_note(r->note) ||
        r->pair + 16 > r->note + NOTE_DESC + get32(r->note + 4))
        return false;
    struct range now = read_pair(r->pair);
    return now.lo == r->lo && now.hi == r->hi;
}

/* Is pc in text that a note of m calls managed? */
static bool noted(const struct module *m, uintptr_t pc)
{
    size_t lo = 0, hi = m->managed ? m->managed->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct noted *r = &m->managed->r[mid];
        if (pc < r->lo)
            hi = mid;
        else if (pc >= r->hi)
            lo = mid + 1;
        else
            return m->program || note_says(r);
    }
    return false;
}

static enum text_kind kind_in(const struct modules *ms, uintptr_t pc)
{
    size_t lo = 0, hi = ms ? ms->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (pc < ms->m[mid].lo)
            hi = mid;
        else if (pc >= ms->m[mid].hi)
            lo = mid + 1;
        else {
            const struct module *m = &ms->m[mid];
            if (!still_there(m, pc))
                return TEXT_UNKNOWN;
            if (noted(m, pc))
                return TEXT_MANAGED;
            uintptr_t start = function_start(m, pc);
            /* Ours is for the linker to look at. */
            if (start == 0 || start == (uintptr_t)linkcheck_probe ||
                !has_split_prologue((const void *)start))
                return TEXT_UNMANAGED;
            return TEXT_MANAGED;
        }
    }
    return TEXT_UNKNOWN;
}

enum text_kind text_kind(uintptr_t pc)
{
    uint32_t e = read_begin();
    enum text_kind kind = in_ranges(atomic_load(&registered), pc)
                              ? TEXT_MANAGED
                              : kind_in(atomic_load(&modules), pc);
    read_end(e);
    return kind;
}

/* --- modules ----------------------------------------------------------------------- */

static void free_module(struct module *m)
{
    sys_free(m->managed);
    sys_free(m->headers);
}

static void free_modules(struct modules *ms)
{
    if (ms == NULL)
        return;
    for (size_t i = 0; i < ms->n; i++)
        free_module(&ms->m[i]);
    sys_free(ms);
}

static void sort_ranges(struct noted *r, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && r[k].lo < r[k - 1].lo; k--) {
            struct noted t = r[k];
            r[k] = r[k - 1];
            r[k - 1] = t;
        }
}

/* Adds the pairs of a note of ours to *rs; false: no memory. */
static bool add_note(struct noted_ranges **rs, uintptr_t note)
{
    size_t have = *rs ? (*rs)->n : 0;
    size_t pairs = get32(note + 4) / 16;
    struct noted_ranges *more =
        sys_realloc(*rs, sizeof(*more) + (have + pairs) * sizeof(struct noted));
    if (more == NULL)
        return false;
    more->n = have;
    for (size_t i = 0; i < pairs; i++) {
        uintptr_t at = note + NOTE_DESC + i * 16;
        struct range r = read_pair(at);
        if (r.lo < r.hi)
            more->r[more->n++] = (struct noted){r.lo, r.hi, note, at};
    }
    *rs = more;
    return true;
}

static bool read_notes(struct module *m, uintptr_t p, uintptr_t end)
{
    while (p + 12 <= end) {
        uint32_t name = get32(p), desc = get32(p + 4);
        uintptr_t d = p + NOTE_NAME + ALIGN_UP((uintptr_t)name, (uintptr_t)4);
        uintptr_t next = d + ALIGN_UP((uintptr_t)desc, (uintptr_t)4);
        if (next > end || next < p)
            break;
        if (is_our_note(p) && !add_note(&m->managed, p))
            return false;
        p = next;
    }
    return true;
}

/* Copies what tells m from another module in its place. False: no memory. */
static bool copy_headers(struct module *m, const struct dl_phdr_info *info)
{
    m->start = UINTPTR_MAX;
    const ElfW(Phdr) *first = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && lo < m->start) {
            m->start = lo;
            first = ph;
        }
    }
    m->start = ALIGN_DOWN(m->start, (uintptr_t)OS_PAGE);
    if (first == NULL || first->p_offset != 0 || !(first->p_flags & PF_R) ||
        first->p_filesz < sizeof(ElfW(Ehdr)))
        return true;
    const ElfW(Ehdr) *eh = (const ElfW(Ehdr) *)m->start;
    uint64_t n = eh->e_phoff + (uint64_t)eh->e_phnum * sizeof(ElfW(Phdr));
    /* In the first page, of which a handler knows that it can be read. */
    if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || n > first->p_filesz ||
        n > OS_PAGE || eh->e_phoff != sizeof(*eh))
        return true;
    m->headers = sys_alloc(n);
    if (m->headers == NULL)
        return false;
    memcpy(m->headers, eh, n);
    m->headers_size = n;
    return true;
}

/* Do the module's notes lie in memory? */
static bool readable(const struct dl_phdr_info *info, const ElfW(Phdr) * note)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_R) &&
            note->p_vaddr >= ph->p_vaddr &&
            note->p_vaddr + note->p_memsz <= ph->p_vaddr + ph->p_memsz)
            return true;
    }
    return false;
}

struct collect {
    struct modules *ms;
    size_t cap;
    const struct modules *old;
    bool same, failed, later;
};

static int collect_module(struct dl_phdr_info *info, size_t size, void *vc)
{
    (void)size;
    struct collect *c = vc;
    if (c->old != NULL && c->old->adds == info->dlpi_adds &&
        c->old->subs == info->dlpi_subs) {
        c->same = true;
        return 1;
    }
    struct module m = {.lo = UINTPTR_MAX};
    /* It comes first, and its name is empty. */
    m.program = !c->later && info->dlpi_name != NULL && *info->dlpi_name == 0;
    c->later = true;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X)) {
            m.lo = lo < m.lo ? lo : m.lo;
            m.hi = lo + ph->p_memsz > m.hi ? lo + ph->p_memsz : m.hi;
        } else if (ph->p_type == PT_GNU_EH_FRAME) {
            m.eh_hdr = lo;
        }
    }
    for (int i = 0; i < info->dlpi_phnum && m.eh_hdr != 0; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && m.eh_hdr - lo < ph->p_memsz) {
            m.eh_base = lo;
            m.eh_end = lo + ph->p_memsz;
        }
    }
    if (m.eh_end == 0)
        m.eh_hdr = 0;
    if (m.lo >= m.hi)
        return 0;
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
    bool ok = copy_headers(&m, info);
    for (int i = 0; i < info->dlpi_phnum && ok; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_NOTE && ph->p_align <= 4 && readable(info, ph))
            ok = read_notes(&m, lo, lo + ph->p_memsz);
    }
    if (!ok) {
        free_module(&m);
        c->failed = true;
        return 1;
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

void text_refresh(void)
{
    /* The loader's lock comes before ours, never inside it: who holds it may be
     * about to call us. */
    static _Atomic bool busy;
    if (atomic_exchange(&busy, true))
        return;
    struct collect c = {.old = atomic_load(&modules)};
    dl_iterate_phdr(collect_module, &c);
    if (c.same || c.failed || c.ms == NULL) {
        /* Without memory the old table stays: unknown text is not managed. */
        free_modules(c.ms);
    } else {
        lock(&text_lock);
        struct modules *old = atomic_exchange(&modules, c.ms);
        wait_for_readers();
        unlock(&text_lock);
        free_modules(old);
    }
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
    wait_for_readers();
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

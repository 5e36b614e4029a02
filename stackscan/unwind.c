/* stackscan/unwind.c - an interpreter of .eh_frame's call frame instructions, for
 * the registers that matter to a walk.
 *
 * Not understood: expressions (for a register other than the frame's address
 * that costs only the register), versions other than 1 and 3 of the tables,
 * absolute or indirect encodings. */
#include "stackscan/unwind.h"

/* How values are encoded; these are what linkers write. */
#define DW_UDATA2 0x02
#define DW_UDATA4 0x03
#define DW_SDATA2 0x0a
#define DW_SDATA4 0x0b
#define DW_PCREL 0x10
#define DW_DATAREL 0x30

/* --- reading ------------------------------------------------------------------- */

/* Behind the end everything is 0, and bad. */
struct bytes {
    const uint8_t *p, *end;
    bool bad;
};

static const uint8_t *take(struct bytes *b, size_t n)
{
    const uint8_t *p = b->p;
    if ((size_t)(b->end - p) < n) {
        b->bad = true;
        b->p = b->end;
        return NULL;
    }
    b->p += n;
    return p;
}

static uint64_t fixed(struct bytes *b, size_t n)
{
    uint64_t v = 0;
    const uint8_t *p = take(b, n);
    if (p != NULL)
        memcpy(&v, p, n);
    return v;
}

static uint64_t leb(struct bytes *b, bool with_sign)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = (uint8_t)fixed(b, 1);
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80)
            continue;
        if (with_sign && (byte & 0x40) && shift < 57)
            v |= ~UINT64_C(0) << (shift + 7);
        return v;
    }
    b->bad = true;
    return 0;
}

static uint64_t uleb(struct bytes *b)
{
    return leb(b, false);
}

static int64_t sleb(struct bytes *b)
{
    return (int64_t)leb(b, true);
}

static uint32_t get32(uintptr_t p)
{
    uint32_t v;
    memcpy(&v, (const void *)p, sizeof v);
    return v;
}

/* --- finding a function's entry -------------------------------------------------- */

/* The augmentation says how FDEs give their bounds. "zR", "zPLR" and the like,
 * with 4 or 8 bytes relative to where they stand: *width. */
static bool read_cie(const struct eh_table *t, uintptr_t cie, struct cfi *out,
                     size_t *width)
{
    if (cie < t->base || cie > t->end - 16 || get32(cie + 4) != 0 ||
        get32(cie) < 8 || get32(cie) > t->end - cie - 4)
        return false;
    struct bytes b = {(const uint8_t *)cie + 8,
                      (const uint8_t *)cie + 4 + get32(cie), false};
    uint64_t version = fixed(&b, 1);
    const char *aug = (const char *)b.p;
    while (fixed(&b, 1) != 0)
        ;
    if ((version != 1 && version != 3) || b.bad || aug[0] != 'z')
        return false;
    out->code_align = uleb(&b);
    out->data_align = sleb(&b);
    uint64_t ra = version == 1 ? fixed(&b, 1) : uleb(&b);
    size_t n = uleb(&b);
    const uint8_t *data = take(&b, n);
    if (b.bad || ra != 16 || out->code_align != 1)
        return false;
    struct bytes d = {data, data + n, false};
    *width = 0;
    out->signal = false;
    for (const char *a = aug + 1; *a != '\0'; a++) {
        uint64_t how;
        switch (*a) {
        case 'R':
            how = fixed(&d, 1);
            *width = how == (DW_PCREL | DW_SDATA4) ? 4
                     : how == DW_PCREL             ? 8
                                                   : 0;
            break;
        case 'L':
            take(&d, 1);
            break;
        case 'P':
            how = fixed(&d, 1) & 0x0f;
            take(&d, how == DW_SDATA4 || how == DW_UDATA4   ? 4
                     : how == DW_SDATA2 || how == DW_UDATA2 ? 2
                                                            : 8);
            break;
        case 'S':
            out->signal = true;
            break;
        case 'B':
            break;
        default:
            return false;
        }
    }
    out->cie = b.p;
    out->cie_end = b.end;
    return !d.bad && *width != 0;
}

static bool read_fde(const struct eh_table *t, uintptr_t fde, struct cfi *out)
{
    size_t width;
    if (fde < t->base || fde > t->end - 8 || get32(fde) < 13 ||
        get32(fde) > t->end - fde - 4 ||
        !read_cie(t, fde + 4 - get32(fde + 4), out, &width))
        return false;
    struct bytes b = {(const uint8_t *)fde + 8,
                      (const uint8_t *)fde + 4 + get32(fde), false};
    uint64_t start = fixed(&b, width);
    if (width == 4)
        start = (uint64_t)(int32_t)start;
    out->start = fde + 8 + start;
    out->end = out->start + fixed(&b, width);
    take(&b, uleb(&b)); /* augmentation data */
    out->fde = b.p;
    out->fde_end = b.end;
    return !b.bad;
}

bool eh_find(const struct eh_table *t, uintptr_t pc, struct cfi *out)
{
    uintptr_t h = t->hdr;
    if (h == 0)
        return false;
    const uint8_t *enc = (const uint8_t *)h;
    if (enc[0] != 1 || enc[1] != (DW_PCREL | DW_SDATA4) ||
        enc[2] != DW_UDATA4 || enc[3] != (DW_DATAREL | DW_SDATA4))
        return false;
    size_t n = get32(h + 8);
    uintptr_t table = h + 12;
    if (n == 0 || table + n * 8 > t->end)
        return false;
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
        return false;
    uintptr_t entry = table + (lo - 1) * 8;
    uintptr_t fde = h + (uintptr_t)(int32_t)get32(entry + 4);
    return read_fde(t, fde, out) && pc >= out->start && pc < out->end;
}

bool eh_scan(const struct eh_table *t, uintptr_t pc, struct cfi *out)
{
    uintptr_t p = t->base;
    while (t->end - p >= 8) {
        size_t n = get32(p);
        /* 0 ends the section, 0xffffffff begins an entry of 64 bits. */
        if (n < 4 || n > t->end - p - 4)
            return false;
        if (get32(p + 4) != 0 && read_fde(t, p, out) && pc >= out->start &&
            pc < out->end)
            return true;
        p += 4 + n;
    }
    return false;
}

/* --- the instructions ------------------------------------------------------------ */

#define NO_REG UINT8_MAX
#define NO_CFA UINT8_MAX
/* remember_state inside of remember_state: compilers do not. */
#define STATES 4

static unsigned register_of(uint64_t dwarf)
{
    switch (dwarf) {
    case 3:
        return UNW_RBX;
    case 6:
        return UNW_RBP;
    case 12:
    case 13:
    case 14:
    case 15:
        return UNW_R12 + (unsigned)(dwarf - 12);
    case 16:
        return CFI_RA;
    default:
        return NO_REG;
    }
}

static void set_rule(struct cfi_row *r, uint64_t dwarf, enum cfi_kind kind,
                     int64_t off)
{
    unsigned i = register_of(dwarf);
    if (i == NO_REG)
        return;
    bool fits = off >= INT32_MIN && off <= INT32_MAX;
    r->kind[i] = (uint8_t)(fits ? kind : CFI_LOST);
    r->off[i] = (int32_t)off;
}

static void restore_rule(struct cfi_row *r, const struct cfi_row *initial,
                         uint64_t dwarf)
{
    unsigned i = register_of(dwarf);
    if (i == NO_REG)
        return;
    r->kind[i] = initial->kind[i];
    r->off[i] = initial->off[i];
}

static bool set_cfa(struct cfi_row *r, uint64_t reg)
{
    r->cfa_reg = (uint8_t)reg;
    return reg <= 16;
}

/* The row that holds at pc. `loc` is where the instructions begin to speak. */
static bool run(struct bytes b, const struct cfi *c, uintptr_t loc,
                uintptr_t pc, const struct cfi_row *initial, struct cfi_row *r)
{
    struct cfi_row saved[STATES];
    unsigned nsaved = 0;
    bool ok = true;
    while (b.p < b.end && ok && !b.bad) {
        uint8_t op = (uint8_t)fixed(&b, 1), low = op & 0x3f;
        uint64_t reg, step = UINT64_MAX;
        switch (op & 0xc0) {
        case 0x40: /* advance_loc */
            step = low;
            break;
        case 0x80: /* offset */
            set_rule(r, low, CFI_AT_CFA, (int64_t)uleb(&b) * c->data_align);
            continue;
        case 0xc0: /* restore */
            restore_rule(r, initial, low);
            continue;
        }
        switch (step != UINT64_MAX ? 0 : op) {
        case 0x00: /* nop */
            break;
        case 0x02: /* advance_loc1, 2, 4 */
            step = fixed(&b, 1);
            break;
        case 0x03:
            step = fixed(&b, 2);
            break;
        case 0x04:
            step = fixed(&b, 4);
            break;
        case 0x05: /* offset_extended */
            reg = uleb(&b);
            set_rule(r, reg, CFI_AT_CFA, (int64_t)uleb(&b) * c->data_align);
            break;
        case 0x11: /* offset_extended_sf */
            reg = uleb(&b);
            set_rule(r, reg, CFI_AT_CFA, sleb(&b) * c->data_align);
            break;
        case 0x2f: /* GNU_negative_offset_extended */
            reg = uleb(&b);
            set_rule(r, reg, CFI_AT_CFA, -(int64_t)uleb(&b) * c->data_align);
            break;
        case 0x06: /* restore_extended */
            restore_rule(r, initial, uleb(&b));
            break;
        case 0x07: /* undefined */
            set_rule(r, uleb(&b), CFI_LOST, 0);
            break;
        case 0x08: /* same_value */
            set_rule(r, uleb(&b), CFI_SAME, 0);
            break;
        case 0x09: /* register */
        case 0x14: /* val_offset */
        case 0x15: /* val_offset_sf */
            set_rule(r, uleb(&b), CFI_LOST, 0);
            uleb(&b);
            break;
        case 0x10: /* expression */
        case 0x16: /* val_expression */
            set_rule(r, uleb(&b), CFI_LOST, 0);
            take(&b, uleb(&b));
            break;
        case 0x0a: /* remember_state */
            ok = nsaved < STATES;
            if (ok)
                saved[nsaved++] = *r;
            break;
        case 0x0b: /* restore_state */
            ok = nsaved > 0;
            if (ok)
                *r = saved[--nsaved];
            break;
        case 0x0c: /* def_cfa */
            ok = set_cfa(r, uleb(&b));
            r->cfa_off = (int64_t)uleb(&b);
            break;
        case 0x12: /* def_cfa_sf */
            ok = set_cfa(r, uleb(&b));
            r->cfa_off = sleb(&b) * c->data_align;
            break;
        case 0x0d: /* def_cfa_register */
            ok = set_cfa(r, uleb(&b));
            break;
        case 0x0e: /* def_cfa_offset */
            r->cfa_off = (int64_t)uleb(&b);
            break;
        case 0x13: /* def_cfa_offset_sf */
            r->cfa_off = sleb(&b) * c->data_align;
            break;
        case 0x0f: /* def_cfa_expression */
            r->cfa_reg = NO_CFA;
            take(&b, uleb(&b));
            break;
        case 0x2e: /* GNU_args_size */
            uleb(&b);
            break;
        default:
            ok = false;
        }
        if (step != UINT64_MAX) {
            if (step > pc - loc)
                break;
            loc += step;
        }
    }
    return ok && !b.bad;
}

bool cfi_row_at(const struct cfi *c, uintptr_t pc, struct cfi_row *r)
{
    struct cfi_row initial = {.cfa_reg = NO_CFA};
    memset(initial.kind, CFI_SAME, sizeof initial.kind);
    initial.kind[CFI_RA] = CFI_LOST;
    if (!run((struct bytes){c->cie, c->cie_end, false}, c, 0, 0, &initial,
             &initial))
        return false;
    *r = initial;
    r->signal = c->signal;
    return run((struct bytes){c->fde, c->fde_end, false}, c, c->start, pc,
               &initial, r);
}

/* --- a step -------------------------------------------------------------------- */

static bool find_row(struct unwind *u, uintptr_t pc, struct cfi_row *r)
{
    struct cfi c;
    if (pc == 0)
        return false;
    for (unsigned i = 0; i < UNW_CACHE; i++)
        if (u->cache[i].pc == pc) {
            *r = u->cache[i].row;
            return true;
        }
    if (!text_cfi(pc, &c) || !cfi_row_at(&c, pc, r))
        return false;
    unsigned i = u->turn++ % UNW_CACHE;
    u->cache[i].pc = pc;
    u->cache[i].row = *r;
    return true;
}

NO_SANITIZE bool unwind_step(struct unwind *u)
{
    struct cfi_row r;
    /* A call that does not return may be the last instruction of its function. */
    uintptr_t pc = u->interrupted ? u->pc : u->pc - 1;
    if (!find_row(u, pc, &r) || r.cfa_reg == NO_CFA)
        return false;
    uintptr_t base;
    unsigned i = register_of(r.cfa_reg);
    if (r.cfa_reg == CFI_RSP)
        base = u->sp;
    else if (i < UNW_REGS && (u->known >> i & 1))
        base = u->reg[i];
    else
        return false;
    uintptr_t cfa = base + (uintptr_t)r.cfa_off;
    if (cfa % 8 != 0 || cfa <= u->sp || cfa > u->hi ||
        r.kind[CFI_RA] != CFI_AT_CFA)
        return false;
    uintptr_t ra = cfa + (uintptr_t)(intptr_t)r.off[CFI_RA];
    if (ra % 8 != 0 || ra < u->sp || ra > cfa - 8)
        return false;
    for (i = 0; i < UNW_REGS; i++) {
        if (r.kind[i] == CFI_SAME)
            continue;
        uintptr_t at = cfa + (uintptr_t)(intptr_t)r.off[i];
        u->known &= ~(UINT32_C(1) << i);
        u->at[i] = 0;
        if (r.kind[i] != CFI_AT_CFA || at % 8 != 0 || at < u->sp ||
            at > u->hi - 8)
            continue;
        u->known |= UINT32_C(1) << i;
        u->reg[i] = *(const uintptr_t *)(at + u->bias);
        u->at[i] = at;
    }
    u->pc = *(const uintptr_t *)(ra + u->bias);
    u->sp = cfa;
    u->interrupted = r.signal;
    u->ra_slot = ra;
    u->cfa = cfa;
    return true;
}

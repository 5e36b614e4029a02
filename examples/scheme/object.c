/* object.c - making objects, symbols, strings, hash tables, comparison. */
#include "scheme.h"

#include <string.h>

V make_proc(struct code *code, V data)
{
    struct proc *p = mem_words(2);
    mem_init2(p, (V)code, data);
    return (V)p + 4;
}

static V make_items(enum type type, size_t n)
{
    struct vector *v = mem_words(n + 1);
    v->header = (V)type | n << 16;
    return (V)v;
}

V make_vector(size_t n, V fill)
{
    V v = make_items(T_VECTOR, n);
    if (fill == 0)
        return v;
    if (!IS_HEAP(fill) && !IS_PROC(fill)) {
        for (size_t i = 0; i < n; i++)
            VEC(v)->items[i] = fill; /* no reference */
        return v;
    }
    for (size_t i = 0; i < n; i++)
        mem_init(&VEC(v)->items[i], fill);
    return v;
}

V make_vector_of(size_t n, const V *items)
{
    V v = make_items(T_VECTOR, n);
    for (size_t i = 0; i < n; i++)
        mem_init(&VEC(v)->items[i], items[i]);
    return v;
}

V make_values(size_t n, const V *items)
{
    V v = make_items(T_VALUES, n);
    for (size_t i = 0; i < n; i++)
        mem_init(&VEC(v)->items[i], items != NULL ? items[i] : FALSE);
    return v;
}

V make_bytes(size_t n)
{
    struct bytes *b = mem_bytes(sizeof *b + n);
    b->header = T_BYTES | n << 16;
    return (V)b;
}

V make_alias(V id, V scope)
{
    struct alias *a = mem_words(3);
    a->header = T_ALIAS;
    mem_init(&a->id, id);
    mem_init(&a->scope, scope);
    return (V)a;
}

V make_error(int kind, const char *message, V irritants)
{
    V text = string_from(message);
    struct error *e = mem_words(4);
    e->header = T_ERROR;
    e->kind = FIX(kind);
    mem_init(&e->message, text);
    mem_init(&e->irritants, irritants);
    return (V)e;
}

/* Is n a number of things of so many bytes each that one object may have? False with
 * an error. No object takes more than half of the machine's memory: a program that
 * asks for one is told so, where the process would end. */
bool size_ok(C *c, const char *who, V n, size_t unit)
{
    static size_t memory;
    if (!IS_FIX(n) || INT(n) < 0) {
        wrong_type(c, who, n);
        return false;
    }
    if (memory == 0)
        memory = physical_memory();
    if ((size_t)INT(n) <= memory / 2 / unit)
        return true;
    V l = cons(sym(who), cons(n, NIL));
    fail(c, "too large an object for", l);
    return false;
}

/* --- lists ----------------------------------------------------------------- */

V list_of(size_t n, const V *v)
{
    V l = NIL;
    while (n > 0)
        l = cons(v[--n], l);
    return l;
}

intptr_t list_length(V l)
{
    struct circle_check k = CIRCLE_CHECK;
    for (; IS_PAIR(l); l = CDR(l))
        if (closes(&k, l))
            return -1;
    return l == NIL ? (intptr_t)k.n : -1;
}

V reverse(V l)
{
    V r = NIL;
    for (; IS_PAIR(l); l = CDR(l))
        r = cons(CAR(l), r);
    return r;
}

V append2(V a, V b)
{
    if (!IS_PAIR(a))
        return b;
    V first = cons(CAR(a), NIL), last = first;
    for (a = CDR(a); IS_PAIR(a); a = CDR(a)) {
        V p = cons(CAR(a), NIL);
        mem_set(&CDR(last), p);
        last = p;
    }
    mem_set(&CDR(last), b);
    return first;
}

/* --- strings --------------------------------------------------------------- */

struct text *make_text(size_t length, size_t width)
{
    struct text *t = mem_bytes(sizeof *t + length * width);
    t->length = length;
    t->width = width;
    return t;
}

V make_string(struct text *t)
{
    struct string *s = mem_words(2);
    s->header = T_STRING;
    mem_init(&s->text, t);
    return (V)s;
}

void text_put(struct text *t, size_t i, uint32_t c)
{
    if (t->width == 1)
        t->chars[i] = (unsigned char)c;
    else
        ((uint32_t *)(void *)t->chars)[i] = c;
}

void string_set(V s, size_t i, uint32_t c)
{
    struct text *t = STR(s)->text;
    if (c > 0xff && t->width == 1) {
        struct text *wide = make_text(t->length, 4);
        for (size_t k = 0; k < t->length; k++)
            text_put(wide, k, t->chars[k]);
        mem_set(&STR(s)->text, wide);
        t = wide;
    }
    text_put(t, i, c);
}

V substring(V s, size_t from, size_t to)
{
    struct text *t = STR(s)->text;
    struct text *n = make_text(to - from, t->width);
    memcpy(n->chars, t->chars + from * t->width, (to - from) * t->width);
    return make_string(n);
}

size_t utf8_encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* The character at s and how many bytes it has; a byte that is none by itself. */
static uint32_t utf8_decode(const unsigned char *s, size_t n, size_t *used)
{
    uint32_t c = s[0];
    size_t k = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    *used = 1;
    if (k == 1 || k > n)
        return c;
    uint32_t r = c & (0x7fu >> k);
    for (size_t i = 1; i < k; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return c;
        r = r << 6 | (s[i] & 0x3f);
    }
    if (!is_scalar(r))
        return c;
    *used = k;
    return r;
}

V string_from_n(const char *utf8, size_t n)
{
    const unsigned char *s = (const unsigned char *)utf8;
    size_t length = 0, used, width = 1;
    for (size_t i = 0; i < n; i += used, length++)
        if (utf8_decode(s + i, n - i, &used) > 0xff)
            width = 4;
    struct text *t = make_text(length, width);
    length = 0;
    for (size_t i = 0; i < n; i += used)
        text_put(t, length++, utf8_decode(s + i, n - i, &used));
    return make_string(t);
}

V string_from(const char *utf8)
{
    return string_from_n(utf8, strlen(utf8));
}

char *to_utf8(const struct text *t, size_t from, size_t to, size_t *n)
{
    size_t bytes = 0;
    char encoded[4];
    for (size_t i = from; i < to; i++)
        bytes += utf8_encode(text_ref(t, i), encoded);
    char *out = mem_bytes(bytes + 1);
    bytes = 0;
    for (size_t i = from; i < to; i++)
        bytes += utf8_encode(text_ref(t, i), out + bytes);
    if (n != NULL)
        *n = bytes;
    return out;
}

bool string_equal(V a, V b)
{
    const struct text *s = STR(a)->text, *t = STR(b)->text;
    if (s->length != t->length)
        return false;
    if (s->width == 1 && t->width == 1)
        return memcmp(s->chars, t->chars, s->length) == 0;
    for (size_t i = 0; i < s->length; i++)
        if (text_ref(s, i) != text_ref(t, i))
            return false;
    return true;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

uint64_t hash_string(V s)
{
    const struct text *t = STR(s)->text;
    uint64_t h = t->length;
    for (size_t i = 0; i < t->length; i++)
        h = mix(h + text_ref(t, i));
    return h;
}

/* --- symbols --------------------------------------------------------------- */

#define SYMBOLS 4096
static V symbols[SYMBOLS];
static thr_lock symbols_lock;

V intern(V name)
{
    uint64_t h = hash_string(name) & (((uint64_t)1 << 60) - 1);
    V *bucket = &symbols[h % SYMBOLS];
    thr_acquire(&symbols_lock);
    V s = *bucket;
    while (s != 0 &&
           (SYM(s)->hash != FIX(h) || !string_equal(SYM(s)->name, name)))
        s = SYM(s)->next;
    if (s == 0) {
        V own = substring(name, 0, STR(name)->text->length);
        struct symbol *n = mem_words(6);
        n->header = T_SYMBOL;
        n->hash = FIX(h);
        mem_init(&n->name, own);
        mem_init(&n->next, *bucket);
        mem_set(bucket, n);
        s = (V)n;
    }
    thr_release(&symbols_lock);
    return s;
}

V sym(const char *name)
{
    return intern(string_from(name));
}

/* --- comparison -------------------------------------------------------------- */

bool eqv(V a, V b)
{
    if (a == b)
        return true;
    if (!IS_OBJ(a) || !IS_OBJ(b) || a == 0 || b == 0 || TYPE(a) != TYPE(b))
        return false;
    if (TYPE(a) == T_FLONUM)
        return memcmp(&FLO(a), &FLO(b), sizeof(double)) == 0;
    if (TYPE(a) == T_BIGNUM)
        return big_cmp(a, b) == 0;
    if (TYPE(a) == T_RATIO)
        return eqv(RATIO(a)->num, RATIO(b)->num) &&
               eqv(RATIO(a)->den, RATIO(b)->den);
    return false;
}

/* --- hash tables ------------------------------------------------------------- */

static uint64_t hash(V x, bool by_equal, unsigned fuel)
{
    if (IS_FLO(x))
        return mix((uint64_t)(int64_t)FLO(x) + 7);
    if (IS_BIG(x))
        return big_hash(x);
    if (IS_RATIO(x))
        return mix(hash(RATIO(x)->num, false, 0) + 1);
    if (!by_equal || fuel == 0)
        return by_equal ? 1 : mix(x);
    if (IS_STRING(x))
        return hash_string(x);
    if (IS_PAIR(x)) {
        uint64_t h = 17;
        for (; IS_PAIR(x) && fuel > 0; x = CDR(x), fuel--)
            h = mix(h + hash(CAR(x), true, fuel / 2));
        return h;
    }
    if (IS_VECTOR(x)) {
        uint64_t h = LENGTH(x);
        for (size_t i = 0; i < LENGTH(x) && i < fuel; i++)
            h = mix(h + hash(VEC(x)->items[i], true, fuel / 2));
        return h;
    }
    if (IS(x, T_BYTES))
        return HEADER(x);
    return mix(x);
}

V make_table(bool by_equal)
{
    V buckets = make_vector(8, 0);
    struct table *t = mem_words(sizeof *t / sizeof(V));
    t->header = T_TABLE;
    t->count = FIX(0);
    t->equal = BOOL(by_equal);
    mem_init(&t->buckets, buckets);
    return (V)t;
}

enum { ENTRY_KEY, ENTRY_VALUE, ENTRY_HASH, ENTRY_NEXT };
#define ENTRY(e) ((V *)(e))

static V *find(struct table *t, V key, uint64_t *h)
{
    bool by_equal = t->equal == TRUE;
    *h = hash(key, by_equal, 16) >> 4;
    V *slot = &VEC(t->buckets)->items[*h % LENGTH(t->buckets)];
    for (; *slot != 0; slot = &ENTRY(*slot)[ENTRY_NEXT]) {
        V *e = ENTRY(*slot);
        if (e[ENTRY_HASH] == FIX(*h) &&
            (by_equal ? equal(e[ENTRY_KEY], key) : eqv(e[ENTRY_KEY], key)))
            break;
    }
    return slot;
}

static void table_grow(struct table *t)
{
    V old = t->buckets, new = make_vector(LENGTH(old) * 2, 0);
    for (size_t i = 0; i < LENGTH(old); i++)
        for (V e = VEC(old)->items[i], next; e != 0; e = next) {
            next = ENTRY(e)[ENTRY_NEXT];
            V *slot =
                &VEC(new)->items[(V)INT(ENTRY(e)[ENTRY_HASH]) % LENGTH(new)];
            mem_set(&ENTRY(e)[ENTRY_NEXT], *slot);
            mem_set(slot, e);
        }
    mem_set(&t->buckets, new);
}

void table_set(V table, V key, V value)
{
    struct table *t = (struct table *)table;
    uint64_t h;
    thr_acquire(&t->lock);
    V *slot = find(t, key, &h);
    if (*slot != 0) {
        mem_set(&ENTRY(*slot)[ENTRY_VALUE], value);
    } else {
        V *e = mem_words(4);
        e[ENTRY_HASH] = FIX(h);
        mem_init(&e[ENTRY_KEY], key);
        mem_init(&e[ENTRY_VALUE], value);
        mem_set(slot, e);
        t->count = FIX(INT(t->count) + 1);
        if ((V)INT(t->count) > LENGTH(t->buckets) * 2)
            table_grow(t);
    }
    thr_release(&t->lock);
}

V table_get(V table, V key, V otherwise)
{
    struct table *t = (struct table *)table;
    uint64_t h;
    thr_acquire(&t->lock);
    V *slot = find(t, key, &h);
    V v = *slot != 0 ? ENTRY(*slot)[ENTRY_VALUE] : otherwise;
    thr_release(&t->lock);
    return v;
}

R table_delete(C *c, V table, V key)
{
    if (!IS(table, T_TABLE))
        return RET(wrong_type(c, "hash-table-delete!", table));
    struct table *t = (struct table *)table;
    uint64_t h;
    thr_acquire(&t->lock);
    V *slot = find(t, key, &h);
    if (*slot != 0) {
        mem_set(slot, ENTRY(*slot)[ENTRY_NEXT]);
        t->count = FIX(INT(t->count) - 1);
    }
    thr_release(&t->lock);
    return RET(UNSPEC);
}

static R make_equal_table(C *c, size_t n, const V *a)
{
    (void)c;
    bool by_equal = true; /* (make-hash-table [equal? ...]) */
    if (n > 0)
        by_equal =
            a[0] != SYM(sym("eq?"))->value && a[0] != SYM(sym("eqv?"))->value;
    return RET(make_table(by_equal));
}

static R table_p(C *c, V t)
{
    (void)c;
    return RET(BOOL(IS(t, T_TABLE)));
}

static R table_put(C *c, V t, V k, V v)
{
    if (!IS(t, T_TABLE))
        return RET(wrong_type(c, "hash-table-set!", t));
    table_set(t, k, v);
    return RET(UNSPEC);
}

static R table_ref(C *c, V t, V k, V thunk)
{
    if (!IS(t, T_TABLE))
        return RET(wrong_type(c, "hash-table-ref", t));
    V v = table_get(t, k, 0);
    if (v != 0)
        return RET(v);
    if (thunk == DEFAULT)
        return RET(fail1(c, "hash-table-ref: no such key", k));
    return invoke(c, thunk, 0, NULL);
}

static R table_ref_default(C *c, V t, V k, V otherwise)
{
    if (!IS(t, T_TABLE))
        return RET(wrong_type(c, "hash-table-ref/default", t));
    return RET(table_get(t, k, otherwise));
}

static R table_exists(C *c, V t, V k)
{
    if (!IS(t, T_TABLE))
        return RET(wrong_type(c, "hash-table-exists?", t));
    return RET(BOOL(table_get(t, k, 0) != 0));
}

static R table_count(C *c, V t)
{
    if (!IS(t, T_TABLE))
        return RET(wrong_type(c, "hash-table-size", t));
    return RET(((struct table *)t)->count);
}

static R table_alist(C *c, V table)
{
    if (!IS(table, T_TABLE))
        return RET(wrong_type(c, "hash-table->alist", table));
    struct table *t = (struct table *)table;
    V l = NIL;
    thr_acquire(&t->lock);
    V b = t->buckets;
    for (size_t i = 0; i < LENGTH(b); i++)
        for (V e = VEC(b)->items[i]; e != 0; e = ENTRY(e)[ENTRY_NEXT])
            l = cons(cons(ENTRY(e)[ENTRY_KEY], ENTRY(e)[ENTRY_VALUE]), l);
    thr_release(&t->lock);
    return RET(l);
}

static R table_clear(C *c, V table)
{
    if (!IS(table, T_TABLE))
        return RET(wrong_type(c, "hash-table-clear!", table));
    struct table *t = (struct table *)table;
    V b = make_vector(8, 0);
    thr_acquire(&t->lock);
    mem_set(&t->buckets, b);
    t->count = FIX(0);
    thr_release(&t->lock);
    return RET(UNSPEC);
}

void objects_init(void)
{
    static const struct prim table[] = {
        {"make-hash-table", make_equal_table, 0, MANY, 0},
        {"hash-table?", table_p, 1, 1, 0},
        {"hash-table-set!", table_put, 3, 3, 0},
        {"hash-table-ref", table_ref, 2, 3, 0},
        {"hash-table-ref/default", table_ref_default, 3, 3, 0},
        {"hash-table-exists?", table_exists, 2, 2, 0},
        {"hash-table-delete!", table_delete, 2, 2, 0},
        {"hash-table-size", table_count, 1, 1, 0},
        {"hash-table->alist", table_alist, 1, 1, 0},
        {"hash-table-clear!", table_clear, 1, 1, 0},
    };
    PRIMS_ADD(table);
}

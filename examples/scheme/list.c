/* list.c - primitives for pairs, lists, vectors, symbols, comparison. */
#include "scheme.h"

#define SIMPLE1(name, expression)                                              \
    static R name(C *c, V x)                                                   \
    {                                                                          \
        (void)c;                                                               \
        return RET(expression);                                                \
    }
#define SIMPLE2(name, expression)                                              \
    static R name(C *c, V x, V y)                                              \
    {                                                                          \
        (void)c;                                                               \
        return RET(expression);                                                \
    }

SIMPLE1(p_pair_p, BOOL(IS_PAIR(x)))
SIMPLE1(p_null_p, BOOL(x == NIL))
SIMPLE1(p_list_p, BOOL(list_length(x) >= 0))
SIMPLE1(p_symbol_p, BOOL(IS_SYMBOL(x)))
SIMPLE1(p_boolean_p, BOOL(x == TRUE || x == FALSE))
SIMPLE1(p_vector_p, BOOL(IS_VECTOR(x)))
SIMPLE1(p_not, BOOL(x == FALSE))
SIMPLE1(p_eof_object_p, BOOL(x == EOFV))
SIMPLE2(p_cons, cons(x, y))
SIMPLE2(p_eq, BOOL(x == y))
SIMPLE2(p_eqv, BOOL(eqv(x, y)))
SIMPLE2(p_equal, BOOL(equal(x, y)))

/* car, cdr and up to four of them; the path is read from the right. */
static R path(C *c, V x, const char *name)
{
    V v = x;
    size_t n = 0;
    while (name[n + 1] != 'r')
        n++;
    for (; n > 0; n--) {
        if (!IS_PAIR(v))
            return RET(wrong_type(c, name, x));
        v = name[n] == 'a' ? CAR(v) : CDR(v);
    }
    return RET(v);
}

/* clang-format off */
#define PATHS(X)                                                               \
    X(car) X(cdr) X(caar) X(cadr) X(cdar) X(cddr) X(caaar) X(caadr) X(cadar)   \
    X(caddr) X(cdaar) X(cdadr) X(cddar) X(cdddr) X(cadddr) X(cddddr)
/* clang-format on */
#define PATH(name)                                                             \
    static R p_##name(C *c, V x)                                               \
    {                                                                          \
        return path(c, x, #name);                                              \
    }
PATHS(PATH)

static R p_set_car(C *c, V p, V x)
{
    if (!IS_PAIR(p))
        return RET(wrong_type(c, "set-car!", p));
    mem_set(&CAR(p), x);
    return RET(UNSPEC);
}

static R p_set_cdr(C *c, V p, V x)
{
    if (!IS_PAIR(p))
        return RET(wrong_type(c, "set-cdr!", p));
    mem_set(&CDR(p), x);
    return RET(UNSPEC);
}

static R p_list(C *c, size_t n, const V *a)
{
    (void)c;
    return RET(list_of(n, a));
}

static R p_cons_star(C *c, size_t n, const V *a)
{
    (void)c;
    V l = a[n - 1];
    for (size_t i = n - 1; i > 0; i--)
        l = cons(a[i - 1], l);
    return RET(l);
}

static R p_make_list(C *c, V n, V fill)
{
    if (!size_ok(c, "make-list", n, sizeof(struct pair)))
        return RET(UNWIND);
    V l = NIL;
    for (intptr_t i = INT(n); i > 0; i--)
        l = cons(fill == DEFAULT ? FALSE : fill, l);
    return RET(l);
}

static R p_length(C *c, V l)
{
    intptr_t n = list_length(l);
    return RET(n < 0 ? wrong_type(c, "length", l) : FIX(n));
}

static R p_append(C *c, size_t n, const V *a)
{
    if (n == 0)
        return RET(NIL);
    V l = a[n - 1];
    for (size_t i = n - 1; i > 0; i--) {
        if (list_length(a[i - 1]) < 0)
            return RET(wrong_type(c, "append", a[i - 1]));
        l = append2(a[i - 1], l);
    }
    return RET(l);
}

static R p_reverse(C *c, V l)
{
    if (list_length(l) < 0)
        return RET(wrong_type(c, "reverse", l));
    return RET(reverse(l));
}

static R p_list_tail(C *c, V l, V k)
{
    V x = l;
    if (!IS_FIX(k) || INT(k) < 0)
        return RET(wrong_type(c, "list-tail", k));
    for (intptr_t i = INT(k); i > 0; i--, x = CDR(x))
        if (!IS_PAIR(x))
            return RET(wrong_type(c, "list-tail", l));
    return RET(x);
}

static R p_list_ref(C *c, V l, V k)
{
    R r = p_list_tail(c, l, k);
    if (r.v == UNWIND)
        return r;
    return RET(IS_PAIR(r.v) ? CAR(r.v) : wrong_type(c, "list-ref", l));
}

static R p_list_set(C *c, V l, V k, V x)
{
    R r = p_list_tail(c, l, k);
    if (r.v == UNWIND)
        return r;
    if (!IS_PAIR(r.v))
        return RET(wrong_type(c, "list-set!", l));
    mem_set(&CAR(r.v), x);
    return RET(UNSPEC);
}

static R p_list_copy(C *c, V l)
{
    struct circle_check k = CIRCLE_CHECK;
    V end = l;
    for (; IS_PAIR(end); end = CDR(end))
        if (closes(&k, end))
            return RET(wrong_type(c, "list-copy", l));
    return RET(append2(l, end));
}

static R p_last_pair(C *c, V l)
{
    if (!IS_PAIR(l))
        return RET(wrong_type(c, "last-pair", l));
    struct circle_check k = CIRCLE_CHECK;
    V last = l;
    for (V next; next = CDR(last), IS_PAIR(next); last = next)
        if (closes(&k, last))
            return RET(wrong_type(c, "last-pair", l));
    return RET(last);
}

enum { BY_EQ, BY_EQV, BY_EQUAL };

static R find(C *c, const char *who, V x, V l, int by, V proc, bool pairs)
{
    struct circle_check k = CIRCLE_CHECK;
    for (; IS_PAIR(l); l = CDR(l)) {
        V y = CAR(l);
        if (closes(&k, l))
            return RET(wrong_type(c, who, l));
        if (pairs) {
            if (!IS_PAIR(y))
                return RET(wrong_type(c, who, y));
            y = CAR(y);
        }
        bool same;
        if (proc != DEFAULT) {
            V a[2] = {x, y};
            V v = apply(c, proc, 2, a);
            if (v == UNWIND)
                return RET(v);
            same = v != FALSE;
        } else {
            same = by == BY_EQ    ? x == y
                   : by == BY_EQV ? eqv(x, y)
                                  : equal(x, y);
        }
        if (same)
            return RET(pairs ? CAR(l) : l);
    }
    return RET(FALSE);
}

#define FIND(name, text, by, pairs)                                            \
    static R name(C *c, V x, V l, V proc)                                      \
    {                                                                          \
        return find(c, text, x, l, by, proc, pairs);                           \
    }
#define FIND2(name, text, by, pairs)                                           \
    static R name(C *c, V x, V l)                                              \
    {                                                                          \
        return find(c, text, x, l, by, DEFAULT, pairs);                        \
    }
FIND2(p_memq, "memq", BY_EQ, false)
FIND2(p_memv, "memv", BY_EQV, false)
FIND(p_member, "member", BY_EQUAL, false)
FIND2(p_assq, "assq", BY_EQ, true)
FIND2(p_assv, "assv", BY_EQV, true)
FIND(p_assoc, "assoc", BY_EQUAL, true)

/* --- higher order ------------------------------------------------------------- */

/* The next arguments of map and its like, from lists or vectors; false at an end. */
static bool step(size_t n, V *lists, V *args)
{
    for (size_t i = 0; i < n; i++) {
        if (!IS_PAIR(lists[i]))
            return false;
        args[i] = CAR(lists[i]);
        lists[i] = CDR(lists[i]);
    }
    return true;
}

static R p_map(C *c, size_t n, const V *a)
{
    V lists[n], args[n], first = NIL, last = NIL;
    for (size_t i = 1; i < n; i++)
        lists[i - 1] = a[i];
    while (step(n - 1, lists, args)) {
        V v = apply(c, a[0], n - 1, args);
        if (v == UNWIND)
            return RET(v);
        V p = cons(v, NIL);
        if (first == NIL)
            first = p;
        else
            mem_set(&CDR(last), p);
        last = p;
    }
    return RET(first);
}

static R p_for_each(C *c, size_t n, const V *a)
{
    V lists[n], args[n];
    for (size_t i = 1; i < n; i++)
        lists[i - 1] = a[i];
    while (step(n - 1, lists, args))
        if (apply(c, a[0], n - 1, args) == UNWIND)
            return RET(UNWIND);
    return RET(UNSPEC);
}

static R each(C *c, const char *who, size_t n, const V *a, bool collect)
{
    V args[n];
    size_t length = SIZE_MAX;
    for (size_t i = 1; i < n; i++) {
        if (!IS_VECTOR(a[i]))
            return RET(wrong_type(c, who, a[i]));
        if (LENGTH(a[i]) < length)
            length = LENGTH(a[i]);
    }
    V result = collect ? make_vector(length, FALSE) : UNSPEC;
    for (size_t k = 0; k < length; k++) {
        for (size_t i = 1; i < n; i++)
            args[i - 1] = VEC(a[i])->items[k];
        V v = apply(c, a[0], n - 1, args);
        if (v == UNWIND)
            return RET(v);
        if (collect)
            mem_set(&VEC(result)->items[k], v);
    }
    return RET(result);
}

static R p_vector_map(C *c, size_t n, const V *a)
{
    return each(c, "vector-map", n, a, true);
}

static R p_vector_for_each(C *c, size_t n, const V *a)
{
    return each(c, "vector-for-each", n, a, false);
}

/* --- vectors --------------------------------------------------------------------- */

bool range(C *c, const char *who, V from, V to, size_t length, size_t *lo,
           size_t *hi)
{
    *lo = from == DEFAULT ? 0 : (size_t)INT(from);
    *hi = to == DEFAULT ? length : (size_t)INT(to);
    if ((from != DEFAULT && !IS_FIX(from)) || (to != DEFAULT && !IS_FIX(to)) ||
        *hi > length || *lo > *hi) {
        wrong_type(c, who, from == DEFAULT ? to : from);
        return false;
    }
    return true;
}

static R p_make_vector(C *c, V n, V fill)
{
    if (!size_ok(c, "make-vector", n, sizeof(V)))
        return RET(UNWIND);
    return RET(make_vector((size_t)INT(n), fill == DEFAULT ? FALSE : fill));
}

static R p_vector(C *c, size_t n, const V *a)
{
    (void)c;
    return RET(make_vector_of(n, a));
}

static R p_vector_length(C *c, V v)
{
    return RET(IS_VECTOR(v) ? FIX(LENGTH(v))
                            : wrong_type(c, "vector-length", v));
}

static bool index_ok(V v, V i)
{
    return IS_VECTOR(v) && IS_FIX(i) && (V)INT(i) < LENGTH(v);
}

static R out_of_range(C *c, const char *who, V v, V i)
{
    if (!IS_VECTOR(v) || !IS_FIX(i))
        return RET(wrong_type(c, who, IS_VECTOR(v) ? i : v));
    V l = cons(sym(who), cons(i, NIL));
    return RET(fail(c, "index out of range for", l));
}

static R p_vector_ref(C *c, V v, V i)
{
    if (!index_ok(v, i))
        return out_of_range(c, "vector-ref", v, i);
    return RET(VEC(v)->items[INT(i)]);
}

static R p_vector_set(C *c, V v, V i, V x)
{
    if (!index_ok(v, i))
        return out_of_range(c, "vector-set!", v, i);
    mem_set(&VEC(v)->items[INT(i)], x);
    return RET(UNSPEC);
}

static R p_vector_to_list(C *c, V v, V from, V to)
{
    size_t lo, hi;
    if (!IS_VECTOR(v))
        return RET(wrong_type(c, "vector->list", v));
    if (!range(c, "vector->list", from, to, LENGTH(v), &lo, &hi))
        return RET(UNWIND);
    return RET(list_of(hi - lo, VEC(v)->items + lo));
}

static R p_list_to_vector(C *c, V l)
{
    intptr_t n = list_length(l);
    if (n < 0)
        return RET(wrong_type(c, "list->vector", l));
    V v = make_vector((size_t)n, FALSE);
    for (size_t i = 0; IS_PAIR(l) && i < (size_t)n; l = CDR(l))
        mem_set(&VEC(v)->items[i++], CAR(l));
    return RET(v);
}

static R p_vector_fill(C *c, size_t n, const V *a)
{
    size_t lo, hi;
    if (!IS_VECTOR(a[0]))
        return RET(wrong_type(c, "vector-fill!", a[0]));
    if (!range(c, "vector-fill!", n > 2 ? a[2] : DEFAULT,
               n > 3 ? a[3] : DEFAULT, LENGTH(a[0]), &lo, &hi))
        return RET(UNWIND);
    for (; lo < hi; lo++)
        mem_set(&VEC(a[0])->items[lo], a[1]);
    return RET(UNSPEC);
}

static R p_vector_copy(C *c, V v, V from, V to)
{
    size_t lo, hi;
    if (!IS_VECTOR(v))
        return RET(wrong_type(c, "vector-copy", v));
    if (!range(c, "vector-copy", from, to, LENGTH(v), &lo, &hi))
        return RET(UNWIND);
    V r = make_vector(hi - lo, FALSE);
    for (size_t i = lo; i < hi; i++)
        mem_set(&VEC(r)->items[i - lo], VEC(v)->items[i]);
    return RET(r);
}

/* (vector-copy! to at from [start end]) */
static R p_vector_copy_to(C *c, size_t n, const V *a)
{
    size_t lo, hi;
    if (!IS_VECTOR(a[0]) || !IS_VECTOR(a[2]))
        return RET(
            wrong_type(c, "vector-copy!", IS_VECTOR(a[0]) ? a[2] : a[0]));
    if (!range(c, "vector-copy!", n > 3 ? a[3] : DEFAULT,
               n > 4 ? a[4] : DEFAULT, LENGTH(a[2]), &lo, &hi))
        return RET(UNWIND);
    if (!IS_FIX(a[1]) || (V)INT(a[1]) > LENGTH(a[0]) ||
        hi - lo > LENGTH(a[0]) - (V)INT(a[1]))
        return RET(wrong_type(c, "vector-copy!", a[1]));
    V *to = VEC(a[0])->items + INT(a[1]), *from = VEC(a[2])->items + lo;
    if (to < from)
        for (size_t i = 0; i < hi - lo; i++)
            mem_set(&to[i], from[i]);
    else
        for (size_t i = hi - lo; i > 0; i--)
            mem_set(&to[i - 1], from[i - 1]);
    return RET(UNSPEC);
}

static R p_vector_append(C *c, size_t n, const V *a)
{
    size_t length = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        if (!IS_VECTOR(a[i]))
            return RET(wrong_type(c, "vector-append", a[i]));
        length += LENGTH(a[i]);
    }
    V v = make_vector(length, FALSE);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < LENGTH(a[i]); j++)
            mem_set(&VEC(v)->items[k++], VEC(a[i])->items[j]);
    return RET(v);
}

/* --- symbols, equality ------------------------------------------------------------ */

static R p_symbol_to_string(C *c, V s)
{
    if (!IS_SYMBOL(s))
        return RET(wrong_type(c, "symbol->string", s));
    V name = SYM(s)->name;
    return RET(substring(name, 0, STR(name)->text->length));
}

static R p_string_to_symbol(C *c, V s)
{
    return RET(IS_STRING(s) ? intern(s) : wrong_type(c, "string->symbol", s));
}

static R all_same(C *c, const char *who, size_t n, const V *a, bool symbols)
{
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        if (symbols ? !IS_SYMBOL(a[i]) : a[i] != TRUE && a[i] != FALSE)
            return RET(wrong_type(c, who, a[i]));
        same &= a[i] == a[0];
    }
    return RET(BOOL(same));
}

static R p_symbol_eq(C *c, size_t n, const V *a)
{
    return all_same(c, "symbol=?", n, a, true);
}

static R p_boolean_eq(C *c, size_t n, const V *a)
{
    return all_same(c, "boolean=?", n, a, false);
}

void list_init(void)
{
#define PATH_PRIM(name) {#name, p_##name, 1, 1, 0},
    static const struct prim paths[] = {PATHS(PATH_PRIM)};
    static const struct prim table[] = {
        {"car", p_car, 1, 1, P_CAR},
        {"cdr", p_cdr, 1, 1, P_CDR},
        {"cadr", p_cadr, 1, 1, P_CADR},
        {"cddr", p_cddr, 1, 1, P_CDDR},
        {"caar", p_caar, 1, 1, P_CAAR},
        {"pair?", p_pair_p, 1, 1, P_PAIRP},
        {"null?", p_null_p, 1, 1, P_NULLP},
        {"list?", p_list_p, 1, 1, 0},
        {"symbol?", p_symbol_p, 1, 1, 0},
        {"boolean?", p_boolean_p, 1, 1, 0},
        {"vector?", p_vector_p, 1, 1, 0},
        {"eof-object?", p_eof_object_p, 1, 1, 0},
        {"not", p_not, 1, 1, P_NOT},
        {"cons", p_cons, 2, 2, P_CONS},
        {"eq?", p_eq, 2, 2, P_EQ},
        {"eqv?", p_eqv, 2, 2, 0},
        {"equal?", p_equal, 2, 2, 0},
        {"set-car!", p_set_car, 2, 2, P_SET_CAR},
        {"set-cdr!", p_set_cdr, 2, 2, P_SET_CDR},
        {"list", p_list, 0, MANY, 0},
        {"cons*", p_cons_star, 1, MANY, 0},
        {"make-list", p_make_list, 1, 2, 0},
        {"length", p_length, 1, 1, 0},
        {"append", p_append, 0, MANY, 0},
        {"reverse", p_reverse, 1, 1, 0},
        {"list-tail", p_list_tail, 2, 2, 0},
        {"list-ref", p_list_ref, 2, 2, 0},
        {"list-set!", p_list_set, 3, 3, 0},
        {"list-copy", p_list_copy, 1, 1, 0},
        {"last-pair", p_last_pair, 1, 1, 0},
        {"memq", p_memq, 2, 2, 0},
        {"memv", p_memv, 2, 2, 0},
        {"member", p_member, 2, 3, 0},
        {"assq", p_assq, 2, 2, 0},
        {"assv", p_assv, 2, 2, 0},
        {"assoc", p_assoc, 2, 3, 0},
        {"map", p_map, 2, MANY, 0},
        {"for-each", p_for_each, 2, MANY, 0},
        {"vector-map", p_vector_map, 2, MANY, 0},
        {"vector-for-each", p_vector_for_each, 2, MANY, 0},
        {"make-vector", p_make_vector, 1, 2, 0},
        {"vector", p_vector, 0, MANY, 0},
        {"vector-length", p_vector_length, 1, 1, 0},
        {"vector-ref", p_vector_ref, 2, 2, P_VECTOR_REF},
        {"vector-set!", p_vector_set, 3, 3, P_VECTOR_SET},
        {"vector->list", p_vector_to_list, 1, 3, 0},
        {"list->vector", p_list_to_vector, 1, 1, 0},
        {"vector-fill!", p_vector_fill, 2, MANY, 0},
        {"vector-copy", p_vector_copy, 1, 3, 0},
        {"vector-copy!", p_vector_copy_to, 3, MANY, 0},
        {"vector-append", p_vector_append, 0, MANY, 0},
        {"symbol->string", p_symbol_to_string, 1, 1, 0},
        {"string->symbol", p_string_to_symbol, 1, 1, 0},
        {"symbol=?", p_symbol_eq, 1, MANY, 0},
        {"boolean=?", p_boolean_eq, 1, MANY, 0},
    };
    PRIMS_ADD(paths);
    PRIMS_ADD(table);
}

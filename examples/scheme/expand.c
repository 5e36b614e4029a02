/* expand.c - syntax-rules.
 *
 * Hygiene is by renaming: a symbol that a template puts in becomes an alias, a fresh
 * identifier that knows the symbol and the scope of the macro's definition. Bound,
 * it is a variable of its own; free, it means what the symbol means there. */
#include "scheme.h"

static V sym_ellipsis, sym_underscore;

bool is_id(V x)
{
    return IS_SYMBOL(x) || IS(x, T_ALIAS);
}

V make_scope(V parent, bool frame)
{
    struct scope *s = mem_words(5);
    s->header = T_SCOPE;
    mem_init(&s->parent, parent);
    s->bindings = NIL;
    s->slots = FIX(frame ? 1 : 0);
    s->checked = FIX(0);
    return (V)s;
}

static V binding(V id, V bindings)
{
    for (; IS_PAIR(bindings); bindings = CDR(bindings))
        if (CAR(CAR(bindings)) == id)
            return CAR(bindings);
    return 0;
}

enum find lookup(V id, V scope, unsigned *depth, V *what, V *found_scope)
{
    for (V from = scope;;) {
        bool visible = false;
        unsigned d = 0;
        for (V s = scope; s != 0; s = SCOPE(s)->parent) {
            visible |= s == from;
            V b = visible ? binding(id, SCOPE(s)->bindings) : 0;
            if (b != 0) {
                *depth = d;
                *what = CDR(b);
                *found_scope = s;
                return IS_FIX(CDR(b)) ? FOUND_LOCAL : FOUND_MACRO;
            }
            d += SCOPE(s)->slots != FIX(0);
        }
        if (!IS(id, T_ALIAS))
            break;
        from = ALIAS(id)->scope;
        id = ALIAS(id)->id;
    }
    *what = id;
    *found_scope = 0;
    return FOUND_GLOBAL;
}

V syntax_of(V id, V scope)
{
    unsigned depth;
    V what, where;
    switch (lookup(id, scope, &depth, &what, &where)) {
    case FOUND_MACRO:
        return what;
    case FOUND_GLOBAL:
        return SYM(what)->syntax;
    default:
        return 0;
    }
}

bool same_binding(V a, V scope_a, V b, V scope_b)
{
    unsigned depth;
    V what_a, what_b, where_a, where_b;
    enum find fa = lookup(a, scope_a, &depth, &what_a, &where_a);
    enum find fb = lookup(b, scope_b, &depth, &what_b, &where_b);
    return fa == fb && what_a == what_b && where_a == where_b;
}

static bool member(V x, V l)
{
    for (; IS_PAIR(l); l = CDR(l))
        if (CAR(l) == x)
            return true;
    return false;
}

V make_macro(C *c, V spec, V scope)
{
    /* (syntax-rules [ellipsis] (literal ...) (pattern template) ...) */
    if (!IS_PAIR(spec) || !is_id(CAR(spec)) ||
        strip(CAR(spec)) != sym("syntax-rules") || !IS_PAIR(CDR(spec)))
        return fail1(c, "not a syntax-rules form", strip(spec));
    if (circular(spec, 0))
        return fail(c, "a macro with a circle", NIL);
    V rest = CDR(spec), ellipsis = sym_ellipsis;
    if (is_id(CAR(rest))) {
        ellipsis = CAR(rest);
        rest = CDR(rest);
    }
    if (!IS_PAIR(rest) || list_length(CAR(rest)) < 0)
        return fail1(c, "bad syntax-rules", strip(spec));
    struct macro *m = mem_words(5);
    m->header = T_MACRO;
    mem_init(&m->literals, CAR(rest));
    mem_init(&m->rules, CDR(rest));
    mem_init(&m->scope, scope);
    mem_init(&m->ellipsis, ellipsis);
    return (V)m;
}

struct match {
    struct macro *m;
    V use;      /* scope of the form */
    V bindings; /* alist of pattern variables */
    V renames;  /* alist of template symbols and their aliases */
    V ellipsis;
};

static bool is_ellipsis(struct match *m, V x)
{
    if (!is_id(x) || m->ellipsis == 0)
        return false;
    if (member(x, m->m->literals))
        return false;
    return x == m->ellipsis ||
           (m->ellipsis == sym_ellipsis && strip(x) == sym_ellipsis);
}

static bool match(struct match *m, V pattern, V form);

/* How many pairs a list has, which may end with anything; a circle has none. */
static size_t pairs(V l)
{
    struct circle_check k = CIRCLE_CHECK;
    for (; IS_PAIR(l); l = CDR(l))
        if (closes(&k, l))
            return 0;
    return k.n;
}

/* Binds each variable of a pattern that has an ellipsis behind it to what it is in
 * each row (the last one first), as T_VALUES, which no form contains: so it is told
 * from a form that is a list. */
static void bind_lists(struct match *m, V pattern, V rows)
{
    if (is_id(pattern)) {
        if (is_ellipsis(m, pattern) || member(pattern, m->m->literals) ||
            strip(pattern) == sym_underscore)
            return;
        size_t n = pairs(rows);
        V values = make_values(n, NULL);
        for (size_t i = n; i > 0; i--, rows = CDR(rows))
            mem_set(&VEC(values)->items[i - 1],
                    CDR(binding(pattern, CAR(rows))));
        m->bindings = cons(cons(pattern, values), m->bindings);
    } else if (IS_PAIR(pattern)) {
        bind_lists(m, CAR(pattern), rows);
        bind_lists(m, CDR(pattern), rows);
    } else if (IS_VECTOR(pattern)) {
        for (size_t i = 0; i < LENGTH(pattern); i++)
            bind_lists(m, VEC(pattern)->items[i], rows);
    }
}

static V vector_list(V v)
{
    V l = NIL;
    for (size_t i = LENGTH(v); i > 0; i--)
        l = cons(VEC(v)->items[i - 1], l);
    return l;
}

static bool match(struct match *m, V pattern, V form)
{
    if (is_id(pattern)) {
        if (member(pattern, m->m->literals))
            return is_id(form) &&
                   same_binding(form, m->use, pattern, m->m->scope);
        if (strip(pattern) != sym_underscore)
            m->bindings = cons(cons(pattern, form), m->bindings);
        return true;
    }
    if (IS_PAIR(pattern)) {
        if (IS_PAIR(CDR(pattern)) && is_ellipsis(m, CAR(CDR(pattern)))) {
            size_t after = pairs(CDR(CDR(pattern))), have = pairs(form);
            if (have < after)
                return false;
            V outer = m->bindings, rows = NIL;
            for (size_t i = have - after; i > 0; i--, form = CDR(form)) {
                m->bindings = NIL;
                if (!match(m, CAR(pattern), CAR(form)))
                    return false;
                rows = cons(m->bindings, rows);
            }
            m->bindings = outer;
            bind_lists(m, CAR(pattern), rows);
            return match(m, CDR(CDR(pattern)), form);
        }
        return IS_PAIR(form) && match(m, CAR(pattern), CAR(form)) &&
               match(m, CDR(pattern), CDR(form));
    }
    if (IS_VECTOR(pattern))
        return IS_VECTOR(form) &&
               match(m, vector_list(pattern), vector_list(form));
    return equal(pattern, strip(form));
}

/* The variables of a template that are lists at this level. */
static void collect(struct match *m, V template, V *found)
{
    if (is_id(template)) {
        V b = binding(template, m->bindings);
        if (b != 0 && !member(b, *found))
            *found = cons(b, *found);
    } else if (IS_PAIR(template)) {
        collect(m, CAR(template), found);
        collect(m, CDR(template), found);
    } else if (IS_VECTOR(template)) {
        for (size_t i = 0; i < LENGTH(template); i++)
            collect(m, VEC(template)->items[i], found);
    }
}

static V instantiate(C *c, struct match *m, V template);

/* One value of the template for each element of the variables' lists. A variable
 * that is used with fewer ellipses than it was matched with keeps its value. */
static V repeat(C *c, struct match *m, V template, unsigned dots)
{
    V found = NIL, outer = m->bindings, results = NIL;
    collect(m, template, &found);
    size_t n = 0;
    bool any = false;
    for (V l = found; IS_PAIR(l); l = CDR(l)) {
        V v = CDR(CAR(l));
        if (!IS(v, T_VALUES))
            continue;
        size_t k = LENGTH(v);
        n = any && n < k ? n : k;
        any = true;
    }
    if (!any)
        return fail1(c, "no variable to repeat in a template", strip(template));
    for (size_t i = 0; i < n; i++) {
        m->bindings = outer;
        for (V l = found; IS_PAIR(l); l = CDR(l)) {
            V v = CDR(CAR(l));
            if (IS(v, T_VALUES))
                m->bindings =
                    cons(cons(CAR(CAR(l)), VEC(v)->items[i]), m->bindings);
        }
        V one = dots > 1 ? repeat(c, m, template, dots - 1)
                         : instantiate(c, m, template);
        if (one == UNWIND)
            return one;
        if (dots > 1)
            for (; IS_PAIR(one); one = CDR(one))
                results = cons(CAR(one), results);
        else
            results = cons(one, results);
    }
    m->bindings = outer;
    return reverse(results);
}

static V instantiate(C *c, struct match *m, V template)
{
    if (is_id(template)) {
        V b = binding(template, m->bindings);
        if (b != 0 && IS(CDR(b), T_VALUES))
            return fail1(c, "too few ellipses behind", strip(template));
        if (b != 0)
            return CDR(b);
        b = binding(template, m->renames);
        if (b == 0) {
            b = cons(template, make_alias(template, m->m->scope));
            m->renames = cons(b, m->renames);
        }
        return CDR(b);
    }
    if (IS_PAIR(template)) {
        V first = CAR(template), rest = CDR(template);
        if (is_ellipsis(m, first) && IS_PAIR(rest)) {
            V saved = m->ellipsis;
            m->ellipsis = 0;
            V v = instantiate(c, m, CAR(rest));
            m->ellipsis = saved;
            return v;
        }
        unsigned dots = 0;
        for (; IS_PAIR(rest) && is_ellipsis(m, CAR(rest)); rest = CDR(rest))
            dots++;
        V head =
            dots > 0 ? repeat(c, m, first, dots) : instantiate(c, m, first);
        if (head == UNWIND)
            return head;
        V tail = instantiate(c, m, rest);
        if (tail == UNWIND)
            return tail;
        return dots > 0 ? append2(head, tail) : cons(head, tail);
    }
    if (IS_VECTOR(template)) {
        V l = instantiate(c, m, vector_list(template));
        if (l == UNWIND)
            return l;
        V v = make_vector(pairs(l), FALSE);
        for (size_t i = 0; IS_PAIR(l); l = CDR(l), i++)
            mem_set(&VEC(v)->items[i], CAR(l));
        return v;
    }
    return template;
}

V expand_macro(C *c, V macro, V form, V scope)
{
    struct match m = {(struct macro *)macro, scope, NIL, NIL, 0};
    for (V r = m.m->rules; IS_PAIR(r); r = CDR(r)) {
        V rule = CAR(r);
        if (!IS_PAIR(rule) || !IS_PAIR(CAR(rule)) || !IS_PAIR(CDR(rule)))
            return fail1(c, "bad rule of a macro", strip(rule));
        m.bindings = m.renames = NIL;
        m.ellipsis = m.m->ellipsis;
        if (match(&m, CDR(CAR(rule)), CDR(form)))
            return instantiate(c, &m, CAR(CDR(rule)));
    }
    return fail1(c, "no rule of the macro matches", strip(form));
}

void expand_init(void)
{
    sym_ellipsis = sym("...");
    sym_underscore = sym("_");
}

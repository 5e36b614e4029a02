/* compile.c - from data to nodes: references, calls, procedures, bodies. The special
 * forms are in forms.c. A function returns NULL when an error unwinds. */
#include "compile.h"

V current_file = FALSE;

/* Until the prelude has been read: its references to global variables, its macros. */
static V sealed = FALSE, references = NIL, macros = NIL;

N *bad_syntax(C *c, const char *message, V form)
{
    fail1(c, message, strip(form));
    trace_add(c, FALSE, line_of(form), current_file);
    return NULL;
}

N *node_const(C *c, V v)
{
    N *n = node(c, x_const, 1);
    n->op = OP_CONST;
    mem_init(&n->k[0], v);
    return n;
}

N *node_of(C *c, exec_fn exec, size_t k, const V *v)
{
    N *n = node(c, exec, k);
    for (size_t i = 0; i < k; i++)
        mem_init(&n->k[i], v[i]);
    n->index = (uint16_t)k;
    return n;
}

static N *reference(C *c, V id, V scope)
{
    unsigned depth;
    V what, where;
    enum find found = lookup(id, scope, &depth, &what, &where);
    if (found == FOUND_MACRO ||
        (found == FOUND_GLOBAL && SYM(what)->syntax != 0))
        return bad_syntax(c, "syntax used as a variable", id);
    N *n;
    if (found == FOUND_GLOBAL) {
        n = node(c, x_global, 2);
        n->op = OP_GLOBAL;
        mem_init(&n->k[0], what);
        mem_init(&n->k[1], current_file);
        if (sealed == FALSE)
            mem_set(&references, cons((V)n, references));
        return n;
    }
    bool checked = INT(what) >= INT(SCOPE(where)->checked);
    if (depth > UINT8_MAX)
        return bad_syntax(c, "scopes are nested too deep", id);
    n = node(c, checked ? x_local_checked : x_local, 1);
    mem_init(&n->k[0], strip(id));
    n->depth = (uint8_t)depth;
    n->index = (uint16_t)INT(what);
    if (!checked && depth < 2)
        n->op = depth == 0 ? OP_LOCAL0 : OP_LOCAL1;
    return n;
}

N *assign(C *c, V id, N *value, V scope)
{
    unsigned depth;
    V what, where;
    enum find found = lookup(id, scope, &depth, &what, &where);
    if (found == FOUND_MACRO || (found == FOUND_LOCAL && depth > UINT8_MAX))
        return bad_syntax(c, "cannot be assigned", id);
    N *n = node(c, found == FOUND_LOCAL ? x_set_local : x_set_global, 2);
    mem_init(&n->k[0], value);
    if (found == FOUND_LOCAL) {
        n->depth = (uint8_t)depth;
        n->index = (uint16_t)INT(what);
    } else {
        mem_init(&n->k[1], what);
    }
    return n;
}

static N *call(C *c, V x, V scope, bool tail)
{
    static const exec_fn plain[] = {x_call0, x_call1, x_call2, x_call3};
    static const exec_fn tails[] = {x_tail0, x_tail1, x_tail2, x_tail3};
    intptr_t n = list_length(x) - 1;
    if (n < 0 || n > UINT16_MAX - 8)
        return bad_syntax(c, "bad call", x);
    V line = line_of(x);
    N *f = compile(c, CAR(x), scope, false, FALSE);
    if (f == NULL)
        return NULL;
    exec_fn exec = n < 4 ? (tail ? tails : plain)[n] : tail ? x_tailn : x_calln;
    V expected = 0;
    if (f->op == OP_GLOBAL) {
        V v = SYM(f->k[0])->value;
        if (IS_PROC(v) && PROC(v)->code->kind == CODE_PRIM) {
            exec_fn known =
                known_call((unsigned)INT(PROC(v)->code->op), (size_t)n);
            if (known != NULL) {
                exec = known;
                expected = v;
            }
        }
    }
    N *node_ = node(c, exec, (size_t)n + 3);
    mem_init(&node_->k[0], f);
    mem_set(&node_->k[n + 1], current_file);
    mem_set(&node_->k[n + 2], expected);
    node_->index = (uint16_t)n;
    node_->line = (uint32_t)INT(line);
    node_->depth = tail;
    intptr_t i = 1;
    for (V l = CDR(x); IS_PAIR(l); l = CDR(l), i++) {
        N *a = compile(c, CAR(l), scope, false, FALSE);
        if (a == NULL)
            return NULL;
        mem_set(&node_->k[i], a);
    }
    return node_;
}

/* Adds a variable or macro to a scope; the variable's index. */
unsigned scope_add(V scope, V id, V what)
{
    struct scope *s = SCOPE(scope);
    if (what == 0) {
        if (s->slots == FIX(0))
            s->slots = FIX(1);
        what = s->slots;
        s->slots = FIX(INT(s->slots) + 1);
    }
    mem_set(&s->bindings, cons(cons(id, what), s->bindings));
    return (unsigned)INT(what);
}

N *sequence(C *c, V forms, V scope, bool tail)
{
    intptr_t n = list_length(forms);
    if (n < 0)
        return bad_syntax(c, "not a list of expressions", forms);
    if (n == 0)
        return node_const(c, UNSPEC);
    if (n == 1)
        return compile(c, CAR(forms), scope, tail, FALSE);
    if (n > UINT16_MAX)
        return bad_syntax(c, "too many expressions", CAR(forms));
    N *seq = node(c, x_seq, (size_t)n);
    seq->index = (uint16_t)n;
    for (intptr_t i = 0; i < n; i++, forms = CDR(forms)) {
        N *one = compile(c, CAR(forms), scope, tail && i == n - 1, FALSE);
        if (one == NULL)
            return NULL;
        mem_set(&seq->k[i], one);
    }
    return seq;
}

/* The special form (fixnum) or macro at the head of a form. */
static V head(V form, V scope)
{
    return IS_PAIR(form) && is_id(CAR(form)) ? syntax_of(CAR(form), scope) : 0;
}

/* A body: definitions become variables of the scope, in which macros are expanded
 * as far as is needed to find them; then all is compiled in order. */
N *body(C *c, V forms, V scope, bool tail)
{
    V todo = forms, items = NIL; /* of (identifier or #f . expression) */
    if (list_length(forms) <= 0)
        return bad_syntax(c, "empty or improper body", forms);
    mem_set(&SCOPE(scope)->checked,
            INT(SCOPE(scope)->slots) == 0 ? FIX(1) : SCOPE(scope)->slots);
    while (IS_PAIR(todo)) {
        V form = CAR(todo), syntax = head(form, scope);
        todo = CDR(todo);
        if (syntax == 0 || (IS_FIX(syntax) && !is_definition(syntax))) {
            items = cons(cons(FALSE, form), items);
            continue;
        }
        if (list_length(form) < 0)
            return bad_syntax(c, "improper form", form);
        if (!IS_FIX(syntax)) {
            form = expand_macro(c, syntax, form, scope);
            if (form == UNWIND)
                return NULL;
            todo = cons(form, todo);
            continue;
        }
        V id, value;
        switch (definition(c, syntax, form, scope, &id, &value)) {
        case D_BAD:
            return NULL;
        case D_SPLICE:
            todo = append2(value, todo);
            break;
        case D_SYNTAX:
            scope_add(scope, id, value);
            break;
        case D_VARIABLE: {
            bool known = false;
            for (V b = SCOPE(scope)->bindings; IS_PAIR(b); b = CDR(b))
                known |= CAR(CAR(b)) == id;
            if (!known)
                scope_add(scope, id, 0);
            items = cons(cons(id, value), items);
            break;
        }
        }
    }
    if (INT(SCOPE(scope)->slots) > UINT16_MAX)
        return bad_syntax(c, "too many variables", CAR(forms));
    items = reverse(items);
    size_t n = (size_t)list_length(items), i = 0;
    if (n == 0)
        return node_const(c, UNSPEC);
    if (n > UINT16_MAX)
        return bad_syntax(c, "too long a body", CAR(forms));
    N *seq = node(c, x_seq, n);
    seq->index = (uint16_t)n;
    for (; IS_PAIR(items); items = CDR(items), i++) {
        V id = CAR(CAR(items)), value = CDR(CAR(items));
        bool last = i == n - 1 && id == FALSE;
        N *one = compile(c, value, scope, tail && last,
                         id == FALSE ? FALSE : strip(id));
        if (one != NULL && id != FALSE)
            one = assign(c, id, one, scope);
        if (one == NULL)
            return NULL;
        mem_set(&seq->k[i], one);
    }
    return n == 1 ? (N *)seq->k[0] : seq;
}

N *lambda(C *c, V formals, V forms, V scope, V name)
{
    V inner = make_scope(scope, false), l = formals;
    size_t required = 0;
    for (; IS_PAIR(l); l = CDR(l), required++) {
        if (!is_id(CAR(l)))
            return bad_syntax(c, "bad parameter", CAR(l));
        scope_add(inner, CAR(l), 0);
    }
    if (is_id(l))
        scope_add(inner, l, 0);
    else if (l != NIL)
        return bad_syntax(c, "bad parameters", formals);
    if (required > UINT16_MAX - 8)
        return bad_syntax(c, "too many parameters", formals);
    N *b = body(c, forms, inner, true);
    if (b == NULL)
        return NULL;
    struct code *code = mem_words(sizeof *code / sizeof(V));
    code->kind = CODE_LAMBDA;
    code->rest = l != NIL;
    code->required = (uint16_t)required;
    code->slots = (uint16_t)INT(SCOPE(inner)->slots);
    mem_init(&code->name, name);
    mem_init(&code->body, b);
    mem_init(&code->file, current_file);
    N *n = node(c, x_lambda, 1);
    mem_init(&n->k[0], code);
    return n;
}

N *compile(C *c, V x, V scope, bool tail, V name)
{
    for (;;) {
        if (is_id(x))
            return reference(c, x, scope);
        if (!IS_PAIR(x)) {
            if (x == NIL)
                return bad_syntax(c, "() must be quoted", x);
            return node_const(c, strip(x));
        }
        V syntax = head(x, scope);
        if (syntax == 0)
            return call(c, x, scope, tail);
        if (list_length(x) < 0)
            return bad_syntax(c, "improper form", x);
        if (IS_FIX(syntax))
            return special_form(c, syntax, x, scope, tail, name);
        V line = line_of(x);
        V expanded = expand_macro(c, syntax, x, scope);
        if (expanded == UNWIND) {
            trace_add(c, FALSE, line, current_file);
            return NULL;
        }
        x = expanded;
    }
}

N *compile_toplevel(C *c, V x)
{
    return compile(c, x, 0, false, FALSE);
}

/* Forms within a top-level `begin` are compiled one after another, as macros may be
 * defined by one for the next. */
static V eval_form(C *c, V x)
{
    V syntax;
    while ((syntax = head(x, 0)) != 0 && list_length(x) >= 0) {
        if (!IS_FIX(syntax)) {
            x = expand_macro(c, syntax, x, 0);
            if (x == UNWIND)
                return x;
            continue;
        }
        V id, forms;
        if (!is_definition(syntax) || is_variable_definition(syntax))
            break;
        enum definition d = definition(c, syntax, x, 0, &id, &forms);
        if (d == D_BAD)
            return UNWIND;
        if (d == D_SYNTAX) {
            mem_set(&SYM(strip(id))->syntax, forms);
            if (sealed == FALSE)
                mem_set(&macros, cons(forms, macros));
            return UNSPEC;
        }
        V v = UNSPEC;
        for (; IS_PAIR(forms); forms = CDR(forms)) {
            v = eval_form(c, CAR(forms));
            if (v == UNWIND)
                return v;
        }
        return v;
    }
    N *n = compile_toplevel(c, x);
    if (n == NULL)
        return UNWIND;
    return n->exec(c, n, NULL).v;
}

V eval_toplevel(C *c, V x)
{
    if (circular(x, sym("quote")))
        return fail1(c, "a circle that is not quoted", x);
    return eval_form(c, x);
}

/* --- the prelude ---------------------------------------------------------------- */

/* A symbol with the same value, which no program can change. */
static V private_symbol(V copies, V s)
{
    V copy = table_get(copies, s, 0);
    if (copy != 0)
        return copy;
    struct symbol *n = mem_words(6);
    n->header = T_SYMBOL | (V)1 << 16;
    n->hash = SYM(s)->hash;
    mem_init(&n->name, SYM(s)->name);
    mem_init(&n->value, SYM(s)->value);
    mem_init(&n->syntax, SYM(s)->syntax);
    table_set(copies, s, (V)n);
    return (V)n;
}

static void seal_template(V copies, V *slot)
{
    for (; IS_PAIR(*slot); slot = &CDR(*slot))
        seal_template(copies, &CAR(*slot));
    if (IS_SYMBOL(*slot) && SYM(*slot)->value != 0)
        mem_set(slot, private_symbol(copies, *slot));
}

/* From now on what a program defines does not change what the prelude does. */
void seal_prelude(void)
{
    V copies = make_table(false);
    for (V l = references; IS_PAIR(l); l = CDR(l)) {
        N *n = (N *)CAR(l);
        mem_set(&n->k[0], private_symbol(copies, n->k[0]));
    }
    for (V l = macros; IS_PAIR(l); l = CDR(l))
        for (V r = ((struct macro *)CAR(l))->rules; IS_PAIR(r); r = CDR(r))
            seal_template(copies, &CAR(CDR(CAR(r))));
    mem_set(&references, NIL);
    mem_set(&macros, NIL);
    sealed = TRUE;
}

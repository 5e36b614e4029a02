/* forms.c - the special forms. Many are rewritten to simpler ones, of which the names
 * are aliases of global meaning: what the program binds does not matter to them. */
#include "compile.h"

/* clang-format off */
#define FORMS(X)                                                               \
    X(QUOTE, "quote") X(QUASIQUOTE, "quasiquote") X(LAMBDA, "lambda")          \
    X(SET, "set!") X(IF, "if") X(LET, "let") X(LETSTAR, "let*")                \
    X(LETREC, "letrec") X(LETRECSTAR, "letrec*") X(COND, "cond")               \
    X(CASE, "case") X(AND, "and") X(OR, "or") X(WHEN, "when")                  \
    X(UNLESS, "unless") X(DO, "do") X(LETSYNTAX, "let-syntax")                 \
    X(LETRECSYNTAX, "letrec-syntax") X(CASELAMBDA, "case-lambda")              \
    X(DELAY, "delay") X(DELAYFORCE, "delay-force") X(IMPORT, "import")         \
    X(UNQUOTE, "unquote") X(SPLICING, "unquote-splicing") X(ARROW, "=>")       \
    X(ELSE, "else") X(SYNTAXERROR, "syntax-error") X(DEFINE, "define")         \
    X(BEGIN, "begin") X(DEFINESYNTAX, "define-syntax")                         \
    X(RECORD, "define-record-type") X(CONDEXPAND, "cond-expand")
/* clang-format on */

#define FORM_ENUM(name, text) F_##name,
enum form { F_NONE, FORMS(FORM_ENUM) F_END };
static V ids[F_END]; /* aliases of the names */
/* What quasiquote calls, whatever the program defines. */
static V to_vector, list_, append_, cons_;

void syntax_init(void)
{
#define FORM_INIT(name, text)                                                  \
    SYM(sym(text))->syntax = FIX(F_##name);                                    \
    ids[F_##name] = make_alias(sym(text), 0);
    FORMS(FORM_INIT)
    to_vector = SYM(sym("list->vector"))->value;
    list_ = SYM(sym("list"))->value;
    append_ = SYM(sym("append"))->value;
    cons_ = SYM(sym("cons"))->value;
    expand_init();
}

bool is_definition(V syntax)
{
    return INT(syntax) >= F_DEFINE;
}

bool is_variable_definition(V syntax)
{
    return syntax == FIX(F_DEFINE);
}

static bool is_form(V x, V scope, enum form form)
{
    return is_id(x) && syntax_of(x, scope) == FIX(form);
}

#define LIST(...)                                                              \
    list_of(sizeof((V[]){__VA_ARGS__}) / sizeof(V), (V[]){__VA_ARGS__})

static V second(V x)
{
    return CAR(CDR(x));
}

/* --- definitions ------------------------------------------------------------ */

static V record_proc(enum code_kind kind, V name, size_t required, size_t slots,
                     V data)
{
    struct code *code = mem_words(sizeof *code / sizeof(V));
    code->kind = (uint8_t)kind;
    code->required = (uint16_t)required;
    code->slots = (uint16_t)slots;
    mem_init(&code->name, strip(name));
    return make_proc(code, data);
}

static intptr_t field_index(V fields, V name)
{
    for (intptr_t i = 0; IS_PAIR(fields); fields = CDR(fields), i++)
        if (CAR(fields) == name)
            return i;
    return -1;
}

/* Definitions of constants: the type and its procedures; 0: bad syntax. */
static V record_definitions(V x)
{
    V name = second(x), constructor = CAR(CDR(CDR(x)));
    V predicate = second(CDR(CDR(x))), specs = CDR(CDR(CDR(CDR(x))));
    V fields = NIL, definitions = NIL;
    if (IS_PAIR(name))
        name = CAR(name);
    for (V l = specs; IS_PAIR(l); l = CDR(l))
        fields = cons(IS_PAIR(CAR(l)) ? CAR(CAR(l)) : CAR(l), fields);
    fields = reverse(fields);
    size_t count = (size_t)list_length(fields);
    if (count > UINT16_MAX - 2)
        return 0;
    struct record_type *t = mem_words(3);
    t->header = T_RECORD_TYPE;
    mem_init(&t->name, strip(name));
    mem_init(&t->fields, strip(fields));
    definitions = cons(LIST(ids[F_DEFINE], name, (V)t), definitions);
    V type_only = cons((V)t, NIL);
    if (constructor != FALSE) {
        V args = IS_PAIR(constructor) ? CDR(constructor) : fields;
        V make = IS_PAIR(constructor) ? CAR(constructor) : constructor;
        V index = NIL;
        intptr_t given = list_length(args);
        if (given < 0 || given > UINT16_MAX)
            return 0;
        for (V l = args; IS_PAIR(l); l = CDR(l)) {
            intptr_t i = field_index(fields, CAR(l));
            if (i < 0)
                return 0;
            index = cons(FIX(i), index);
        }
        V proc = record_proc(CODE_MAKE, make, (size_t)given, count + 2,
                             cons((V)t, reverse(index)));
        definitions = cons(LIST(ids[F_DEFINE], make, proc), definitions);
    }
    if (predicate != FALSE)
        definitions =
            cons(LIST(ids[F_DEFINE], predicate,
                      record_proc(CODE_TEST, predicate, 1, 0, type_only)),
                 definitions);
    for (V l = specs; IS_PAIR(l); l = CDR(l)) {
        if (!IS_PAIR(CAR(l)))
            continue;
        size_t i = (size_t)field_index(fields, CAR(CAR(l)));
        V names = CDR(CAR(l));
        for (size_t k = 0; k < 2 && IS_PAIR(names); k++, names = CDR(names))
            definitions =
                cons(LIST(ids[F_DEFINE], CAR(names),
                          record_proc(k == 0 ? CODE_REF : CODE_SET, CAR(names),
                                      k + 1, i, type_only)),
                     definitions);
    }
    return reverse(definitions);
}

static bool feature(V x)
{
    if (is_id(x)) {
        static const char *const have[] = {"else", "r7rs", "tarn-scheme",
                                           "exact-closed"};
        V s = strip(x);
        for (size_t i = 0; i < sizeof have / sizeof *have; i++)
            if (s == sym(have[i]))
                return true;
        return false;
    }
    if (!IS_PAIR(x) || !is_id(CAR(x)))
        return false;
    V op = strip(CAR(x)), l = CDR(x);
    if (op == sym("not"))
        return IS_PAIR(l) && !feature(CAR(l));
    if (op == sym("library"))
        return IS_PAIR(l) && IS_PAIR(CAR(l)) &&
               strip(CAR(CAR(l))) == sym("scheme");
    bool all = op == sym("and");
    for (; IS_PAIR(l); l = CDR(l))
        if (feature(CAR(l)) != all)
            return !all;
    return all;
}

enum definition definition(C *c, V syntax, V x, V scope, V *id, V *value)
{
    intptr_t n = list_length(x);
    switch ((enum form)INT(syntax)) {
    case F_BEGIN:
        *value = CDR(x);
        return D_SPLICE;
    case F_DEFINE: {
        if (n < 2)
            break;
        V target = second(x), forms = CDR(CDR(x));
        while (IS_PAIR(target)) {
            /* (define ((f a) b) ...) is a procedure that makes one. */
            forms = LIST(cons(ids[F_LAMBDA], cons(CDR(target), forms)));
            target = CAR(target);
        }
        if (!is_id(target) || list_length(forms) > 1)
            break;
        *id = target;
        *value = forms == NIL ? UNSPEC : CAR(forms);
        return D_VARIABLE;
    }
    case F_DEFINESYNTAX:
        if (n != 3 || !is_id(second(x)))
            break;
        *id = second(x);
        *value = make_macro(c, CAR(CDR(CDR(x))), scope);
        return *value == UNWIND ? D_BAD : D_SYNTAX;
    case F_RECORD:
        if (n < 4)
            break;
        *value = record_definitions(x);
        if (*value == 0)
            break;
        return D_SPLICE;
    case F_CONDEXPAND:
        *value = NIL;
        for (V l = CDR(x); IS_PAIR(l); l = CDR(l))
            if (IS_PAIR(CAR(l)) && feature(CAR(CAR(l)))) {
                *value = CDR(CAR(l));
                break;
            }
        return D_SPLICE;
    default:
        break;
    }
    bad_syntax(c, "bad definition", x);
    return D_BAD;
}

/* --- binding forms ------------------------------------------------------------ */

static bool bindings_ok(V l)
{
    if (list_length(l) < 0)
        return false;
    for (; IS_PAIR(l); l = CDR(l))
        if (list_length(CAR(l)) != 2 || !is_id(CAR(CAR(l))))
            return false;
    return true;
}

static V column(V l, bool values)
{
    V r = NIL;
    for (; IS_PAIR(l); l = CDR(l))
        r = cons(values ? second(CAR(l)) : CAR(CAR(l)), r);
    return reverse(r);
}

static N *let(C *c, V bindings, V forms, V scope, bool tail)
{
    V inner = make_scope(scope, false);
    size_t n = 0;
    V inits = make_vector((size_t)list_length(bindings) + 1, FALSE);
    for (V l = bindings; IS_PAIR(l); l = CDR(l)) {
        N *init = compile(c, second(CAR(l)), scope, false, strip(CAR(CAR(l))));
        if (init == NULL)
            return NULL;
        mem_set(&VEC(inits)->items[++n], init);
    }
    for (V l = bindings; IS_PAIR(l); l = CDR(l))
        scope_add(inner, CAR(CAR(l)), 0);
    N *b = body(c, forms, inner, tail);
    if (b == NULL || SCOPE(inner)->slots == FIX(0))
        return b;
    mem_set(&VEC(inits)->items[0], b);
    N *let = node_of(c, x_let, n + 1, VEC(inits)->items);
    let->index = (uint16_t)n;
    let->line = (uint32_t)INT(SCOPE(inner)->slots);
    return let;
}

static N *let_syntax(C *c, V x, V scope, bool tail, bool recursive)
{
    if (list_length(x) < 3 || !bindings_ok(second(x)))
        return bad_syntax(c, "bad form", x);
    V inner = make_scope(scope, false);
    for (V l = second(x); IS_PAIR(l); l = CDR(l)) {
        V m = make_macro(c, second(CAR(l)), recursive ? inner : scope);
        if (m == UNWIND)
            return NULL;
        scope_add(inner, CAR(CAR(l)), m);
    }
    N *b = let(c, NIL, CDR(CDR(x)), inner, tail);
    return b;
}

/* (do ((var init [step]) ...) (test result ...) command ...) */
static V rewrite_do(V x)
{
    V loop = make_alias(sym("do"), 0), vars = NIL, steps = NIL;
    for (V l = second(x); IS_PAIR(l); l = CDR(l)) {
        V b = CAR(l);
        if (list_length(b) < 2 || !is_id(CAR(b)))
            return FALSE;
        vars = cons(LIST(CAR(b), second(b)), vars);
        steps = cons(IS_PAIR(CDR(CDR(b))) ? second(CDR(b)) : CAR(b), steps);
    }
    V end = second(CDR(x)), commands = CDR(CDR(CDR(x)));
    if (list_length(end) < 1)
        return FALSE;
    V again = cons(loop, reverse(steps));
    V results = CDR(end) == NIL ? UNSPEC : cons(ids[F_BEGIN], CDR(end));
    return LIST(ids[F_LET], loop, reverse(vars),
                LIST(ids[F_IF], CAR(end), results,
                     cons(ids[F_BEGIN], append2(commands, LIST(again)))));
}

/* --- conditionals -------------------------------------------------------------- */

static N *branch(C *c, N *test, N *then, N *otherwise)
{
    if (test == NULL || then == NULL || otherwise == NULL)
        return NULL;
    return node_of(c, x_if, 3, (V[]){(V)test, (V)then, (V)otherwise});
}

static N *cond(C *c, V clauses, V scope, bool tail)
{
    if (clauses == NIL)
        return node_const(c, UNSPEC);
    V clause = CAR(clauses);
    if (list_length(clause) < 1)
        return bad_syntax(c, "bad clause", clause);
    V test = CAR(clause), rest = CDR(clause);
    if (is_form(test, scope, F_ELSE))
        return sequence(c, rest, scope, tail);
    if (rest == NIL) {
        N *a = compile(c, test, scope, false, FALSE);
        N *b = a != NULL ? cond(c, CDR(clauses), scope, tail) : NULL;
        return b == NULL ? NULL : node_of(c, x_or, 2, (V[]){(V)a, (V)b});
    }
    if (is_form(CAR(rest), scope, F_ARROW) && list_length(rest) == 2) {
        V t = make_alias(sym("it"), 0);
        V x = LIST(ids[F_LET], LIST(LIST(t, test)),
                   LIST(ids[F_IF], t, LIST(second(rest), t),
                        cons(ids[F_COND], CDR(clauses))));
        return compile(c, x, scope, tail, FALSE);
    }
    N *a = compile(c, test, scope, false, FALSE);
    N *b = a != NULL ? sequence(c, rest, scope, tail) : NULL;
    return branch(c, a, b,
                  b != NULL ? cond(c, CDR(clauses), scope, tail) : NULL);
}

static N *case_form(C *c, V x, V scope, bool tail)
{
    V key = second(x), clauses = NIL;
    N *otherwise = node_const(c, UNSPEC);
    for (V l = CDR(CDR(x)); IS_PAIR(l); l = CDR(l)) {
        V clause = CAR(l);
        if (list_length(clause) < 2)
            return bad_syntax(c, "bad clause", clause);
        bool arrow = is_form(second(clause), scope, F_ARROW);
        if (arrow && list_length(clause) != 3)
            return bad_syntax(c, "bad clause", clause);
        if (arrow && !is_id(key)) {
            V t = make_alias(sym("key"), 0);
            V again = cons(CAR(x), cons(t, CDR(CDR(x))));
            return compile(c, LIST(ids[F_LET], LIST(LIST(t, key)), again),
                           scope, tail, FALSE);
        }
        N *n = arrow ? compile(c, LIST(second(CDR(clause)), key), scope, tail,
                               FALSE)
                     : sequence(c, CDR(clause), scope, tail);
        if (n == NULL)
            return NULL;
        if (is_form(CAR(clause), scope, F_ELSE))
            otherwise = n;
        else
            clauses = cons(cons(strip(CAR(clause)), (V)n), clauses);
    }
    N *k = compile(c, key, scope, false, FALSE);
    if (k == NULL)
        return NULL;
    return node_of(c, x_case, 3, (V[]){(V)k, reverse(clauses), (V)otherwise});
}

static N *several(C *c, exec_fn exec, V forms, V scope, bool tail)
{
    N *n = sequence(c, forms, scope, tail);
    if (n != NULL && list_length(forms) > 1)
        n->exec = exec;
    return n;
}

/* --- quasiquote ---------------------------------------------------------------- */

static V quasi(V x, V scope, int depth)
{
    if (IS_VECTOR(x)) {
        V l = NIL;
        for (size_t i = LENGTH(x); i > 0; i--)
            l = cons(VEC(x)->items[i - 1], l);
        return LIST(to_vector, quasi(l, scope, depth));
    }
    if (!IS_PAIR(x))
        return LIST(ids[F_QUOTE], x);
    V first = CAR(x);
    bool two = IS_PAIR(CDR(x)) && CDR(CDR(x)) == NIL;
    if (two && is_form(first, scope, F_UNQUOTE)) {
        if (depth == 1)
            return second(x);
        return LIST(list_, LIST(ids[F_QUOTE], first),
                    quasi(second(x), scope, depth - 1));
    }
    if (two && is_form(first, scope, F_QUASIQUOTE))
        return LIST(list_, LIST(ids[F_QUOTE], first),
                    quasi(second(x), scope, depth + 1));
    if (IS_PAIR(first) && is_form(CAR(first), scope, F_SPLICING) &&
        IS_PAIR(CDR(first)) && depth == 1) {
        V rest = quasi(CDR(x), scope, depth);
        return LIST(append_, second(first), rest);
    }
    bool inner = IS_PAIR(first) && is_form(CAR(first), scope, F_SPLICING);
    V head = inner ? LIST(cons_, LIST(ids[F_QUOTE], CAR(first)),
                          quasi(CDR(first), scope, depth - 1))
                   : quasi(first, scope, depth);
    return LIST(cons_, head, quasi(CDR(x), scope, depth));
}

/* --- all of them ----------------------------------------------------------------- */

static N *case_lambda(C *c, V x, V scope, V name)
{
    size_t n = (size_t)list_length(CDR(x));
    if (n > UINT16_MAX)
        return bad_syntax(c, "too many clauses", CAR(x));
    N *node_ = node(c, x_case_lambda, n + 1);
    node_->index = (uint16_t)n;
    size_t i = 0;
    for (V l = CDR(x); IS_PAIR(l); l = CDR(l)) {
        if (list_length(CAR(l)) < 2)
            return bad_syntax(c, "bad clause", CAR(l));
        N *one = lambda(c, CAR(CAR(l)), CDR(CAR(l)), scope, name);
        if (one == NULL)
            return NULL;
        mem_set(&node_->k[i++], one);
    }
    struct code *code = mem_words(sizeof *code / sizeof(V));
    code->kind = CODE_CASE;
    mem_init(&code->name, name);
    mem_set(&node_->k[n], code);
    return node_;
}

static N *delay(C *c, V x, V scope, bool force)
{
    N *n = lambda(c, NIL, CDR(x), scope, sym("promise"));
    if (n != NULL) {
        n->exec = x_delay;
        n->index = force;
    }
    return n;
}

static N *define(C *c, V x, V scope)
{
    V id, value;
    if (scope != 0 && SCOPE(scope)->slots != FIX(0))
        return bad_syntax(c, "definition among expressions", x);
    if (definition(c, FIX(F_DEFINE), x, scope, &id, &value) == D_BAD)
        return NULL;
    N *v = compile(c, value, scope, false, strip(id));
    return v == NULL ? NULL : node_of(c, x_define, 2, (V[]){(V)v, strip(id)});
}

N *special_form(C *c, V syntax, V x, V scope, bool tail, V name)
{
    intptr_t n = list_length(x);
    V rest = CDR(x);
    switch ((enum form)INT(syntax)) {
    case F_QUOTE:
        if (n != 2)
            break;
        return node_const(c, strip(CAR(rest)));
    case F_QUASIQUOTE:
        if (n != 2)
            break;
        return compile(c, quasi(CAR(rest), scope, 1), scope, tail, FALSE);
    case F_LAMBDA:
        if (n < 3)
            break;
        return lambda(c, CAR(rest), CDR(rest), scope, name);
    case F_DEFINE:
        return define(c, x, scope);
    case F_SET: {
        if (n != 3 || !is_id(CAR(rest)))
            break;
        N *v = compile(c, second(rest), scope, false, strip(CAR(rest)));
        return v == NULL ? NULL : assign(c, CAR(rest), v, scope);
    }
    case F_IF: {
        if (n != 3 && n != 4)
            break;
        N *a = compile(c, CAR(rest), scope, false, FALSE);
        N *b = a ? compile(c, second(rest), scope, tail, FALSE) : NULL;
        N *d = b == NULL ? NULL
               : n == 4  ? compile(c, second(CDR(rest)), scope, tail, FALSE)
                         : node_const(c, UNSPEC);
        return branch(c, a, b, d);
    }
    case F_BEGIN:
        return sequence(c, rest, scope, tail);
    case F_LET:
        if (n >= 4 && is_id(CAR(rest))) {
            V bindings = second(rest), forms = CDR(CDR(rest));
            if (!bindings_ok(bindings))
                break;
            V f = cons(ids[F_LAMBDA], cons(column(bindings, false), forms));
            V loop = LIST(ids[F_LETREC], LIST(LIST(CAR(rest), f)), CAR(rest));
            return compile(c, cons(loop, column(bindings, true)), scope, tail,
                           FALSE);
        }
        if (n < 3 || !bindings_ok(CAR(rest)))
            break;
        return let(c, CAR(rest), CDR(rest), scope, tail);
    case F_LETSTAR: {
        if (n < 3 || !bindings_ok(CAR(rest)))
            break;
        V bindings = CAR(rest);
        if (!IS_PAIR(bindings) || CDR(bindings) == NIL)
            return let(c, bindings, CDR(rest), scope, tail);
        V inner = cons(ids[F_LETSTAR], cons(CDR(bindings), CDR(rest)));
        return let(c, LIST(CAR(bindings)), LIST(inner), scope, tail);
    }
    case F_LETREC:
    case F_LETRECSTAR: {
        if (n < 3 || !bindings_ok(CAR(rest)))
            break;
        V forms = NIL;
        for (V l = CAR(rest); IS_PAIR(l); l = CDR(l))
            forms = cons(cons(ids[F_DEFINE], CAR(l)), forms);
        V inner = LIST(cons(ids[F_LET], cons(NIL, CDR(rest))));
        return let(c, NIL, append2(reverse(forms), inner), scope, tail);
    }
    case F_COND:
        return cond(c, rest, scope, tail);
    case F_CASE:
        if (n < 2)
            break;
        return case_form(c, x, scope, tail);
    case F_AND:
        return n == 1 ? node_const(c, TRUE)
                      : several(c, x_and, rest, scope, tail);
    case F_OR:
        return n == 1 ? node_const(c, FALSE)
                      : several(c, x_or, rest, scope, tail);
    case F_WHEN:
    case F_UNLESS: {
        if (n < 2)
            break;
        N *a = compile(c, CAR(rest), scope, false, FALSE);
        N *b = a ? sequence(c, CDR(rest), scope, tail) : NULL;
        N *none = node_const(c, UNSPEC);
        return INT(syntax) == F_WHEN ? branch(c, a, b, none)
                                     : branch(c, a, b ? none : NULL, b);
    }
    case F_DO: {
        V loop = n < 3 ? FALSE : rewrite_do(x);
        if (loop == FALSE)
            break;
        return compile(c, loop, scope, tail, FALSE);
    }
    case F_LETSYNTAX:
    case F_LETRECSYNTAX:
        return let_syntax(c, x, scope, tail, INT(syntax) == F_LETRECSYNTAX);
    case F_CASELAMBDA:
        return case_lambda(c, x, scope, name);
    case F_DELAY:
    case F_DELAYFORCE:
        if (n != 2)
            break;
        return delay(c, x, scope, INT(syntax) == F_DELAYFORCE);
    case F_IMPORT:
        return node_const(c, UNSPEC); /* all there is is there */
    case F_CONDEXPAND: {
        V id, forms;
        definition(c, syntax, x, scope, &id, &forms);
        return sequence(c, forms, scope, tail);
    }
    case F_SYNTAXERROR:
        if (n >= 2 && IS_STRING(CAR(rest))) {
            size_t length;
            char *text = to_utf8(STR(CAR(rest))->text, 0,
                                 STR(CAR(rest))->text->length, &length);
            fail(c, text, strip(CDR(rest)));
            return NULL;
        }
        break;
    default:
        break;
    }
    return bad_syntax(c, "bad form", x);
}

/* control.c - errors and their trace, continuations, dynamic extent, values. */
#include "scheme.h"

#include <stdlib.h>

#define TRACE_MAX 24

C *make_ctx(C *parent)
{
    C *c = mem_words(sizeof *c / sizeof(V));
    c->handlers = c->params = c->trace = NIL;
    c->traced = FIX(0);
    c->main = FALSE;
    c->payload = FALSE;
    if (parent != NULL)
        mem_init(&c->params, parent->params);
    return c;
}

void trace_add(C *c, V name, V line, V file)
{
    if (INT(c->traced) < TRACE_MAX) {
        V entry = cons(name, cons(file, line));
        mem_set(&c->trace, cons(entry, c->trace));
    }
    c->traced = FIX(INT(c->traced) + 1);
}

/* Unwinding to the top, or where `target` says. */
static V unwind(C *c, V target, V payload)
{
    if (payload != c->payload || !IS_OBJ(payload)) {
        mem_set(&c->trace, NIL);
        c->traced = FIX(0);
    }
    mem_set(&c->target, target);
    mem_set(&c->payload, payload);
    return UNWIND;
}

V throw(C * c, V payload, bool continuable)
{
    V handlers = c->handlers;
    c->exit = 0; /* an error on the way out */
    if (handlers == NIL)
        return unwind(c, 0, payload);
    V h = CAR(handlers);
    if (IS(h, T_GUARD))
        return unwind(c, h, payload);
    mem_set(&c->handlers, CDR(handlers));
    V v = apply(c, h, 1, &payload);
    if (v == UNWIND) {
        mem_set(&c->handlers, handlers);
        return v;
    }
    if (!continuable) {
        V l = cons(payload, NIL);
        v = throw(c, make_error(E_ERROR, "handler returned from raise", l),
                  false);
    }
    mem_set(&c->handlers, handlers);
    return v;
}

COLD V fail(C *c, const char *message, V irritants)
{
    return throw(c, make_error(E_ERROR, message, irritants), false);
}

COLD V fail1(C *c, const char *message, V irritant)
{
    return fail(c, message, cons(irritant, NIL));
}

COLD V wrong_type(C *c, const char *who, V what)
{
    V l = cons(sym(who), cons(what, NIL));
    return fail(c, "wrong type of argument for", l);
}

void print_error(C *c, V port)
{
    V e = c->payload;
    if (IS(e, T_ERROR)) {
        port_puts(port, "error: ");
        print(c, ERR(e)->message, port, false, false);
        for (V l = ERR(e)->irritants; IS_PAIR(l); l = CDR(l)) {
            port_puts(port, " ");
            print(c, CAR(l), port, true, false);
        }
    } else {
        port_puts(port, "error: raised ");
        print(c, e, port, true, false);
    }
    port_puts(port, "\n");
    for (V l = reverse(c->trace); IS_PAIR(l); l = CDR(l)) {
        V name = CAR(CAR(l)), file = CAR(CDR(CAR(l))), line = CDR(CDR(CAR(l)));
        if (line == FIX(0) && name == FALSE)
            continue;
        port_puts(port, "  in ");
        if (name == FALSE)
            port_puts(port, "a call");
        else
            print(c, name, port, false, false);
        if (line != FIX(0)) {
            port_puts(port, " at ");
            print(c, file == FALSE ? string_from("-") : file, port, false,
                  false);
            port_puts(port, ":");
            print(c, line, port, false, false);
        }
        port_puts(port, "\n");
    }
    if (INT(c->traced) > TRACE_MAX) {
        port_puts(port, "  and ");
        print(c, FIX(INT(c->traced) - TRACE_MAX), port, false, false);
        port_puts(port, " more\n");
    }
    port_flush(port);
}

void exit_process(C *c, int code)
{
    (void)c;
    port_flush(stdout_port);
    port_flush(stderr_port);
    exit(code);
}

/* --- primitives ------------------------------------------------------------- */

static R p_raise(C *c, V x)
{
    return RET(throw(c, x, false));
}

static R p_raise_continuable(C *c, V x)
{
    return RET(throw(c, x, true));
}

static R p_error(C *c, size_t n, const V *a)
{
    V irritants = list_of(n - 1, a + 1);
    V e = make_error(E_ERROR, "", irritants);
    mem_set(&ERR(e)->message, a[0]);
    return RET(throw(c, e, false));
}

static R p_with_handler(C *c, V handler, V thunk)
{
    if (!IS_PROC(handler))
        return RET(wrong_type(c, "with-exception-handler", handler));
    V saved = c->handlers;
    mem_set(&c->handlers, cons(handler, saved));
    V v = apply(c, thunk, 0, NULL);
    mem_set(&c->handlers, saved);
    return RET(v);
}

static V make_guard(C *c)
{
    struct guard *g = mem_words(3);
    g->header = T_GUARD;
    g->live = TRUE;
    mem_init(&g->ctx, c);
    return (V)g;
}

/* Is what unwinds meant for g? Then it ends here, with the value. */
static bool arrived(C *c, V g, V *v)
{
    if (*v != UNWIND || c->target != g)
        return false;
    *v = c->payload;
    mem_set(&c->target, 0);
    return true;
}

/* (%guard thunk handler): the handler's call is in tail position. */
static R p_guard(C *c, V thunk, V handler)
{
    V g = make_guard(c), saved = c->handlers, params = c->params;
    mem_set(&c->handlers, cons(g, saved));
    V v = apply(c, thunk, 0, NULL);
    mem_set(&c->handlers, saved);
    GUARD(g)->live = FALSE;
    if (!arrived(c, g, &v))
        return RET(v);
    mem_set(&c->params, params);
    return invoke(c, handler, 1, &v);
}

static struct code *continuation_code;

static R p_callcc(C *c, V f)
{
    V g = make_guard(c), handlers = c->handlers, params = c->params;
    V k = make_proc(continuation_code, g);
    V v = apply(c, f, 1, &k);
    GUARD(g)->live = FALSE;
    if (arrived(c, g, &v)) {
        mem_set(&c->handlers, handlers);
        mem_set(&c->params, params);
    }
    return RET(v);
}

static R p_dynamic_wind(C *c, V before, V thunk, V after)
{
    V v = apply(c, before, 0, NULL);
    if (v == UNWIND)
        return RET(v);
    V handlers = c->handlers, params = c->params;
    v = apply(c, thunk, 0, NULL);
    V target = c->target, payload = c->payload, trace = c->trace;
    V traced = c->traced, inner = c->handlers, inner_params = c->params;
    V exit = c->exit;
    mem_set(&c->handlers, handlers);
    mem_set(&c->params, params);
    V a = apply(c, after, 0, NULL);
    if (a == UNWIND)
        return RET(a);
    mem_set(&c->handlers, inner);
    mem_set(&c->params, inner_params);
    mem_set(&c->target, target);
    mem_set(&c->payload, payload);
    mem_set(&c->trace, trace);
    c->traced = traced;
    c->exit = exit;
    return RET(v);
}

static R p_values(C *c, size_t n, const V *a)
{
    (void)c;
    return RET(n == 1 ? a[0] : make_values(n, a));
}

static R p_call_with_values(C *c, V producer, V consumer)
{
    V v = apply(c, producer, 0, NULL);
    if (v == UNWIND)
        return RET(v);
    if (IS(v, T_VALUES))
        return invoke(c, consumer, LENGTH(v), VEC(v)->items);
    return invoke(c, consumer, 1, &v);
}

static R p_apply(C *c, size_t n, const V *a)
{
    intptr_t more = n > 1 ? list_length(a[n - 1]) : 0;
    if (more < 0)
        return RET(wrong_type(c, "apply", a[n - 1]));
    size_t fixed = n > 1 ? n - 2 : 0, i = 0;
    if (fixed + (size_t)more <= 8) {
        V args[8];
        for (; i < fixed; i++)
            args[i] = a[i + 1];
        /* Another goroutine may have made the list longer since. */
        size_t all = fixed + (size_t)more;
        for (V l = a[n - 1]; i < all && IS_PAIR(l); l = CDR(l))
            args[i++] = CAR(l);
        return invoke(c, a[0], i, args);
    }
    V v = make_vector(fixed + (size_t)more, FALSE);
    for (; i < fixed; i++)
        mem_set(&VEC(v)->items[i], a[i + 1]);
    for (V l = a[n - 1]; IS_PAIR(l) && i < LENGTH(v); l = CDR(l))
        mem_set(&VEC(v)->items[i++], CAR(l));
    return invoke(c, a[0], i, VEC(v)->items);
}

static R p_procedure_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS_PROC(x)));
}

/* --- promises, parameters -------------------------------------------------------- */

/* What a promise stands for: #t and the value, or #f (1: `delay-force`) and a thunk.
 * It is in a box that promises share (R7RS, 4.2.5), and replaced as a whole: other
 * goroutines may look at it meanwhile. */
V make_promise(V kind, V value)
{
    V content = cons(kind, value);
    V box = cons(content, NIL);
    struct promise *p = mem_words(2);
    p->header = T_PROMISE;
    mem_init(&p->box, box);
    return (V)p;
}

static R p_make_promise(C *c, V x)
{
    (void)c;
    return RET(IS(x, T_PROMISE) ? x : make_promise(TRUE, x));
}

static R p_force(C *c, V x)
{
    static thr_lock forcing;
    if (!IS(x, T_PROMISE))
        return RET(x);
    struct promise *p = (struct promise *)x;
    for (;;) {
        V content = CAR(p->box);
        if (CAR(content) == TRUE)
            return RET(CDR(content));
        V v = apply(c, CDR(content), 0, NULL);
        if (v == UNWIND)
            return RET(v);
        bool chain = CAR(content) == FIX(1) && IS(v, T_PROMISE);
        V done = chain ? 0 : cons(TRUE, v);
        thr_acquire(&forcing);
        /* Unless somebody has forced it since: the thunk, or another goroutine. */
        if (CAR(p->box) == content && chain) {
            struct promise *other = (struct promise *)v;
            mem_set(&CAR(p->box), CAR(other->box));
            mem_set(&other->box, p->box);
        } else if (CAR(p->box) == content) {
            mem_set(&CAR(p->box), done);
        }
        thr_release(&forcing);
    }
}

static R p_promise_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_PROMISE)));
}

static struct code *parameter_code;

static R p_make_parameter(C *c, V value, V converter)
{
    if (converter != DEFAULT) {
        value = apply(c, converter, 1, &value);
        if (value == UNWIND)
            return RET(value);
    }
    return RET(make_proc(parameter_code, cons(value, converter)));
}

/* (%parameterize ((parameter . value) ...) thunk) */
static R p_parameterize(C *c, V l, V thunk)
{
    V saved = c->params, params = saved;
    for (; IS_PAIR(l); l = CDR(l)) {
        if (!IS_PAIR(CAR(l)))
            return RET(wrong_type(c, "parameterize", CAR(l)));
        V p = CAR(CAR(l)), v = CDR(CAR(l));
        if (!IS_PROC(p) || PROC(p)->code != parameter_code)
            return RET(wrong_type(c, "parameterize", p));
        V converter = CDR(PROC(p)->data);
        if (converter != DEFAULT) {
            v = apply(c, converter, 1, &v);
            if (v == UNWIND)
                return RET(v);
        }
        params = cons(cons(p, v), params);
    }
    mem_set(&c->params, params);
    V v = apply(c, thunk, 0, NULL);
    mem_set(&c->params, saved);
    return RET(v);
}

/* --- conditions, eval, exit ------------------------------------------------------- */

static R p_error_object_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_ERROR)));
}

static R p_error_message(C *c, V x)
{
    if (!IS(x, T_ERROR))
        return RET(wrong_type(c, "error-object-message", x));
    return RET(ERR(x)->message);
}

static R p_error_irritants(C *c, V x)
{
    if (!IS(x, T_ERROR))
        return RET(wrong_type(c, "error-object-irritants", x));
    return RET(append2(ERR(x)->irritants, NIL)); /* ours stays a list */
}

static R p_read_error_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_ERROR) && ERR(x)->kind == FIX(E_READ)));
}

static R p_file_error_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_ERROR) && ERR(x)->kind == FIX(E_FILE)));
}

static R p_eval(C *c, V x, V environment)
{
    (void)environment; /* there is one */
    return RET(eval_toplevel(c, x));
}

static R p_environment(C *c, size_t n, const V *a)
{
    (void)c, (void)n, (void)a;
    return RET(sym("the-environment"));
}

static R p_exit(C *c, V x)
{
    int code = x == DEFAULT || x == TRUE ? 0 : IS_FIX(x) ? (int)INT(x) : 1;
    if (c->main == FALSE)
        exit_process(c, code);
    c->exit = FIX(code);
    return RET(unwind(c, 0, FALSE)); /* runs what dynamic-wind has to */
}

static R p_emergency_exit(C *c, V x)
{
    exit_process(c, x == DEFAULT || x == TRUE ? 0
                    : IS_FIX(x)               ? (int)INT(x)
                                              : 1);
    return RET(UNSPEC);
}

static struct code *plain_code(enum code_kind kind, const char *name)
{
    struct code *code = mem_words(sizeof *code / sizeof(V));
    code->kind = (uint8_t)kind;
    mem_init(&code->name, sym(name));
    return code;
}

void control_init(void)
{
    static const struct prim table[] = {
        {"raise", p_raise, 1, 1, 0},
        {"raise-continuable", p_raise_continuable, 1, 1, 0},
        {"error", p_error, 1, MANY, 0},
        {"with-exception-handler", p_with_handler, 2, 2, 0},
        {"%guard", p_guard, 2, 2, 0},
        {"call-with-current-continuation", p_callcc, 1, 1, 0},
        {"call/cc", p_callcc, 1, 1, 0},
        {"dynamic-wind", p_dynamic_wind, 3, 3, 0},
        {"values", p_values, 0, MANY, 0},
        {"call-with-values", p_call_with_values, 2, 2, 0},
        {"apply", p_apply, 1, MANY, 0},
        {"procedure?", p_procedure_p, 1, 1, 0},
        {"make-promise", p_make_promise, 1, 1, 0},
        {"force", p_force, 1, 1, 0},
        {"promise?", p_promise_p, 1, 1, 0},
        {"make-parameter", p_make_parameter, 1, 2, 0},
        {"%parameterize", p_parameterize, 2, 2, 0},
        {"error-object?", p_error_object_p, 1, 1, 0},
        {"error-object-message", p_error_message, 1, 1, 0},
        {"error-object-irritants", p_error_irritants, 1, 1, 0},
        {"read-error?", p_read_error_p, 1, 1, 0},
        {"file-error?", p_file_error_p, 1, 1, 0},
        {"eval", p_eval, 1, 2, 0},
        {"environment", p_environment, 0, MANY, 0},
        {"interaction-environment", p_environment, 0, MANY, 0},
        {"exit", p_exit, 0, 1, 0},
        {"emergency-exit", p_emergency_exit, 0, 1, 0},
    };
    PRIMS_ADD(table);
    continuation_code = plain_code(CODE_CONTINUATION, "continuation");
    parameter_code = plain_code(CODE_PARAMETER, "parameter");
}

void prims_add(const struct prim *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        V name = sym(p[i].name);
        struct code *code = mem_words(sizeof *code / sizeof(V));
        code->kind = CODE_PRIM;
        code->required = p[i].min;
        code->max = p[i].max;
        code->fn = p[i].fn;
        code->op = FIX(p[i].op);
        mem_init(&code->name, name);
        mem_set(&SYM(name)->value, make_proc(code, 0));
    }
}

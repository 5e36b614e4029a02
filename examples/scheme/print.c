/* print.c - from data to text. */
#include "port.h"

struct printer {
    struct port *p;
    bool write;
    V labels; /* table: #t: has a label, not printed yet; fixnum: its number; or 0 */
    intptr_t next;
};

static void text(struct printer *pr, V string)
{
    struct text *t = STR(string)->text;
    for (size_t i = 0; i < t->length; i++)
        port_put_raw(pr->p, text_ref(t, i));
}

static void hex(struct printer *pr, uint32_t c)
{
    port_puts_raw(pr->p, "x");
    text(pr, number_to_string(FIX(c), 16));
}

static void write_string(struct printer *pr, V s, uint32_t quote)
{
    struct text *t = STR(s)->text;
    port_put_raw(pr->p, quote);
    for (size_t i = 0; i < t->length; i++) {
        uint32_t c = text_ref(t, i);
        if (c == quote || c == '\\') {
            port_put_raw(pr->p, '\\');
            port_put_raw(pr->p, c);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            port_put_raw(pr->p, '\\');
            port_put_raw(pr->p, c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        } else if (c < ' ' || c == 127) {
            port_put_raw(pr->p, '\\');
            hex(pr, c);
            port_put_raw(pr->p, ';');
        } else {
            port_put_raw(pr->p, c);
        }
    }
    port_put_raw(pr->p, quote);
}

static void write_char(struct printer *pr, uint32_t c)
{
    static const struct {
        uint32_t c;
        const char *name;
    } names[] = {{' ', "space"},   {'\n', "newline"}, {'\t', "tab"},
                 {0, "null"},      {'\r', "return"},  {7, "alarm"},
                 {8, "backspace"}, {127, "delete"},   {27, "escape"}};
    port_puts_raw(pr->p, "#\\");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].c == c) {
            port_puts_raw(pr->p, names[i].name);
            return;
        }
    if (c < ' ')
        hex(pr, c);
    else
        port_put_raw(pr->p, c);
}

static bool plain_symbol(V name)
{
    struct text *t = STR(name)->text;
    size_t n;
    if (t->length == 0)
        return false;
    for (size_t i = 0; i < t->length; i++) {
        uint32_t c = text_ref(t, i);
        if (c <= ' ' || c == '(' || c == ')' || c == '"' || c == ';' ||
            c == '\'' || c == '|' || c == '`' || c == ',' || c == 127)
            return false;
    }
    char *s = to_utf8(t, 0, t->length, &n);
    if ((n == 1 && s[0] == '.') || s[0] == '#')
        return false;
    return parse_number(s, n, 10) == FALSE;
}

static void print_one(struct printer *pr, V x);

static void named(struct printer *pr, const char *what, V name)
{
    port_puts_raw(pr->p, "#<");
    port_puts_raw(pr->p, what);
    if (name != 0 && IS_SYMBOL(name)) {
        port_puts_raw(pr->p, " ");
        text(pr, SYM(name)->name);
    }
    port_puts_raw(pr->p, ">");
}

/* Prints the label of x if it has one; true if that is all. */
static bool label(struct printer *pr, V x)
{
    if (pr->labels == 0)
        return false;
    V l = table_get(pr->labels, x, FALSE);
    if (l == FALSE)
        return false;
    bool seen = IS_FIX(l);
    if (!seen) {
        l = FIX(pr->next++);
        table_set(pr->labels, x, l);
    }
    port_puts_raw(pr->p, "#");
    text(pr, number_to_string(l, 10));
    port_puts_raw(pr->p, seen ? "#" : "=");
    return seen;
}

static void print_list(struct printer *pr, V x)
{
    port_puts_raw(pr->p, "(");
    print_one(pr, CAR(x));
    for (x = CDR(x); x != NIL; x = CDR(x)) {
        bool labelled =
            pr->labels != 0 && table_get(pr->labels, x, FALSE) != FALSE;
        if (!IS_PAIR(x) || labelled) {
            port_puts_raw(pr->p, " . ");
            print_one(pr, x);
            break;
        }
        port_puts_raw(pr->p, " ");
        print_one(pr, CAR(x));
    }
    port_puts_raw(pr->p, ")");
}

static void print_record(struct printer *pr, V x)
{
    if (label(pr, x))
        return;
    struct record_type *t = (struct record_type *)REC(x)->type;
    port_puts_raw(pr->p, "#<");
    print_one(pr, t->name);
    size_t i = 0;
    for (V f = t->fields; IS_PAIR(f); f = CDR(f), i++) {
        port_puts_raw(pr->p, " ");
        print_one(pr, CAR(f));
        port_puts_raw(pr->p, ": ");
        print_one(pr, REC(x)->fields[i]);
    }
    port_puts_raw(pr->p, ">");
}

static void print_object(struct printer *pr, V x)
{
    switch (TYPE(x)) {
    case T_SYMBOL:
        if (pr->write && !plain_symbol(SYM(x)->name))
            write_string(pr, SYM(x)->name, '|');
        else
            text(pr, SYM(x)->name);
        break;
    case T_ALIAS:
        print_one(pr, ALIAS(x)->id);
        break;
    case T_STRING:
        if (pr->write)
            write_string(pr, x, '"');
        else
            text(pr, x);
        break;
    case T_FLONUM:
    case T_BIGNUM:
    case T_RATIO:
        text(pr, number_to_string(x, 10));
        break;
    case T_VECTOR:
        if (label(pr, x))
            return;
        port_puts_raw(pr->p, "#(");
        for (size_t i = 0; i < LENGTH(x); i++) {
            if (i > 0)
                port_puts_raw(pr->p, " ");
            print_one(pr, VEC(x)->items[i]);
        }
        port_puts_raw(pr->p, ")");
        break;
    case T_BYTES:
        port_puts_raw(pr->p, "#u8(");
        for (size_t i = 0; i < LENGTH(x); i++) {
            if (i > 0)
                port_puts_raw(pr->p, " ");
            text(pr, number_to_string(FIX(BYTES(x)->data[i]), 10));
        }
        port_puts_raw(pr->p, ")");
        break;
    case T_VALUES:
        for (size_t i = 0; i < LENGTH(x); i++) {
            if (i > 0)
                port_puts_raw(pr->p, " ");
            print_one(pr, VEC(x)->items[i]);
        }
        break;
    case T_RECORD_TYPE:
        named(pr, "record-type", ((struct record_type *)x)->name);
        break;
    case T_RECORD:
        print_record(pr, x);
        break;
    case T_ERROR:
        if (label(pr, x))
            return;
        port_puts_raw(pr->p, "#<error ");
        print_one(pr, ERR(x)->message);
        for (V l = ERR(x)->irritants; IS_PAIR(l); l = CDR(l)) {
            port_puts_raw(pr->p, " ");
            print_one(pr, CAR(l));
        }
        port_puts_raw(pr->p, ">");
        break;
    case T_PROMISE:
        named(pr, "promise", 0);
        break;
    case T_PORT:
        named(pr, "port", 0);
        break;
    case T_TABLE:
        named(pr, "hash-table", 0);
        break;
    case T_WEAK_TABLE:
        named(pr, "weak-table", 0);
        break;
    case T_CHANNEL:
        named(pr, "channel", 0);
        break;
    default:
        named(pr, "object", 0);
        break;
    }
}

static void print_one(struct printer *pr, V x)
{
    if (IS_FIX(x)) {
        text(pr, number_to_string(x, 10));
    } else if (IS_PAIR(x)) {
        if (!label(pr, x))
            print_list(pr, x);
    } else if (IS_PROC(x)) {
        named(pr, "procedure", PROC(x)->code->name);
    } else if (IS_CHAR(x)) {
        if (pr->write)
            write_char(pr, CODEPOINT(x));
        else
            port_put_raw(pr->p, CODEPOINT(x));
    } else if (IS_OBJ(x) && x != 0) {
        print_object(pr, x);
    } else {
        port_puts_raw(pr->p, x == TRUE     ? "#t"
                             : x == FALSE  ? "#f"
                             : x == NIL    ? "()"
                             : x == EOFV   ? "#<eof>"
                             : x == UNSPEC ? "#<unspecified>"
                                           : "#<default>");
    }
}

/* The values in an object that is printed with them; NULL if x is none. */
static V *parts(V x, size_t *n)
{
    if (!IS_OBJ(x))
        return NULL;
    switch (TYPE(x)) {
    case T_VECTOR:
    case T_VALUES:
        *n = LENGTH(x);
        return VEC(x)->items;
    case T_RECORD:
        *n = (size_t)list_length(((struct record_type *)REC(x)->type)->fields);
        return REC(x)->fields;
    case T_ERROR:
        *n = 2; /* message, irritants */
        return &ERR(x)->message;
    default:
        return NULL;
    }
}

/* Counts down; false if a datum is larger than that, or deep, or has a circle. */
static bool small(V x, size_t *fuel, unsigned depth)
{
    for (;;) {
        if (*fuel == 0 || depth == 0)
            return false;
        --*fuel;
        if (!IS_PAIR(x)) {
            size_t n = 0;
            V *part = parts(x, &n);
            for (size_t i = 0; i < n; i++)
                if (!small(part[i], fuel, depth - 1))
                    return false;
            return true;
        }
        if (!small(CAR(x), fuel, depth - 1))
            return false;
        x = CDR(x);
    }
}

/* seen: #f: on the way to here; #t: done, or has a label in `labels`. */
static void find_labels(V x, V seen, V labels, bool shared)
{
    size_t n = 0;
    V *part = IS_PAIR(x) ? NULL : parts(x, &n);
    if (!IS_PAIR(x) && part == NULL)
        return;
    V s = table_get(seen, x, 0);
    if (s != 0) {
        if (s == FALSE || shared)
            table_set(labels, x, TRUE);
        return;
    }
    table_set(seen, x, FALSE);
    if (IS_PAIR(x)) {
        find_labels(CAR(x), seen, labels, shared);
        find_labels(CDR(x), seen, labels, shared);
    } else {
        for (size_t i = 0; i < n; i++)
            find_labels(part[i], seen, labels, shared);
    }
    table_set(seen, x, TRUE);
}

void print(C *c, V x, V port, bool write, bool shared)
{
    (void)c;
    struct printer pr = {PORT(port), write, 0, 0};
    size_t fuel = 100000;
    if (shared || !small(x, &fuel, 400)) {
        pr.labels = make_table(false);
        find_labels(x, make_table(false), pr.labels, shared);
    }
    thr_acquire(&pr.p->lock);
    print_one(&pr, x);
    thr_release(&pr.p->lock);
}

V to_written(V x, bool write)
{
    V port = open_output_string();
    print(NULL, x, port, write, false);
    return port_contents(port);
}

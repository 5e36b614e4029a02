/* read.c - from text to data. */
#include "port.h"

#include <string.h>

/* Where pairs of the program stand: pair to line. */
static V lines;

V line_of(V pair)
{
    return lines != 0 && IS_PAIR(pair) ? table_get(lines, pair, FIX(0))
                                       : FIX(0);
}

void lines_forget(void)
{
    V t = make_table(false);
    mem_set(&lines, t);
}

struct reader {
    struct port *p;
    const char *error;
    V labels; /* alist of number and datum, or placeholder */
};

/* What read_one returns that is no datum. */
#define CLOSE ((V)0x86)
#define DOT ((V)0x96)

static V read_one(struct reader *r);

static V bad(struct reader *r, const char *message)
{
    if (r->error == NULL)
        r->error = message;
    return UNWIND;
}

static bool is_space(int32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0xa0;
}

static bool is_delimiter(int32_t c)
{
    return c < 0 || is_space(c) || c == '(' || c == ')' || c == '"' ||
           c == ';' || c == '[' || c == ']' || c == '\'';
}

static bool skip_block(struct reader *r)
{
    int depth = 1;
    while (depth > 0) {
        int32_t c = port_get_raw(r->p);
        if (c < 0)
            return false;
        int32_t next = port_peek_raw(r->p);
        if (c == '|' && next == '#') {
            port_get_raw(r->p);
            depth--;
        } else if (c == '#' && next == '|') {
            port_get_raw(r->p);
            depth++;
        }
    }
    return true;
}

struct buffer {
    struct text *t;
    size_t n;
};

static void put(struct buffer *b, uint32_t c)
{
    if (b->t == NULL)
        b->t = make_text(28, 4);
    if (b->n == b->t->length) {
        struct text *t = make_text(b->n * 2, 4);
        memcpy(t->chars, b->t->chars, b->n * 4);
        b->t = t;
    }
    text_put(b->t, b->n++, c);
}

static V buffer_string(struct buffer *b)
{
    size_t n;
    if (b->t == NULL)
        return string_from("");
    char *s = to_utf8(b->t, 0, b->n, &n);
    return string_from_n(s, n);
}

static V read_list(struct reader *r, int32_t close)
{
    V first = NIL, last = NIL;
    size_t line = r->p->line;
    for (;;) {
        V x = read_one(r);
        if (x == UNWIND)
            return x;
        if (x == EOFV)
            return bad(r, "end of file in a list");
        if (x == CLOSE)
            break;
        if (x == DOT) {
            if (last == NIL)
                return bad(r, "nothing before a dot");
            x = read_one(r);
            if (x == UNWIND)
                return x;
            if (x == CLOSE || x == EOFV || x == DOT)
                return bad(r, "nothing behind a dot");
            mem_set(&CDR(last), x);
            if (read_one(r) != CLOSE)
                return bad(r, "more than one datum behind a dot");
            break;
        }
        V p = cons(x, NIL);
        if (first == NIL) {
            first = p;
            if (line > 0)
                table_set(lines, p, FIX(line));
        } else {
            mem_set(&CDR(last), p);
        }
        last = p;
    }
    (void)close;
    return first;
}

static V read_string(struct reader *r, int32_t end)
{
    struct buffer b = {NULL, 0};
    for (;;) {
        int32_t c = port_get_raw(r->p);
        if (c < 0)
            return bad(r, "end of file in a string");
        if (c == end)
            return buffer_string(&b);
        if (c != '\\') {
            put(&b, (uint32_t)c);
            continue;
        }
        c = port_get_raw(r->p);
        if (c == 'n') {
            put(&b, '\n');
        } else if (c == 't') {
            put(&b, '\t');
        } else if (c == 'r') {
            put(&b, '\r');
        } else if (c == 'a') {
            put(&b, 7);
        } else if (c == 'b') {
            put(&b, 8);
        } else if (c == 'x' || c == 'X') {
            uint32_t code = 0;
            for (;;) {
                c = port_get_raw(r->p);
                if (c == ';')
                    break;
                int d = c >= '0' && c <= '9' ? c - '0'
                        : (c | 32) >= 'a' && (c | 32) <= 'f'
                            ? (c | 32) - 'a' + 10
                            : -1;
                if (d < 0 || code > 0x10ffff)
                    return bad(r, "bad character in a string");
                code = code * 16 + (uint32_t)d;
            }
            if (!is_scalar(code))
                return bad(r, "bad character in a string");
            put(&b, code);
        } else if (is_space(c)) {
            while (c != '\n' && is_space(c))
                c = port_get_raw(r->p);
            while ((c = port_peek_raw(r->p)) == ' ' || c == '\t')
                port_get_raw(r->p);
        } else {
            put(&b, (uint32_t)c);
        }
    }
}

static V read_char(struct reader *r)
{
    static const struct {
        const char *name;
        uint32_t c;
    } names[] = {{"space", ' '}, {"newline", '\n'}, {"tab", '\t'},
                 {"nul", 0},     {"null", 0},       {"return", '\r'},
                 {"alarm", 7},   {"backspace", 8},  {"delete", 127},
                 {"escape", 27}, {"linefeed", '\n'}};
    struct buffer b = {NULL, 0};
    int32_t c = port_get_raw(r->p);
    if (c < 0)
        return bad(r, "end of file in a character");
    put(&b, (uint32_t)c);
    while (!is_delimiter(port_peek_raw(r->p)))
        put(&b, (uint32_t)port_get_raw(r->p));
    if (b.n == 1)
        return CHAR(text_ref(b.t, 0));
    size_t n;
    char *s = to_utf8(b.t, 0, b.n, &n);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i].name) == 0)
            return CHAR(names[i].c);
    if (s[0] == 'x') {
        V v = parse_number(s + 1, n - 1, 16);
        if (IS_FIX(v) && is_scalar(INT(v)))
            return CHAR(INT(v));
    }
    return bad(r, "no such character");
}

static V read_atom(struct reader *r, int32_t c)
{
    struct buffer b = {NULL, 0};
    bool quoted = false;
    for (;; c = port_get_raw(r->p)) {
        if (c == '|') {
            quoted = true;
            V part = read_string(r, '|');
            if (part == UNWIND)
                return part;
            for (size_t i = 0; i < STR(part)->text->length; i++)
                put(&b, text_ref(STR(part)->text, i));
        } else {
            put(&b, r->p->fold == TRUE ? downcase((uint32_t)c) : (uint32_t)c);
        }
        if (is_delimiter(port_peek_raw(r->p)))
            break;
    }
    size_t n;
    char *s = b.t == NULL ? "" : to_utf8(b.t, 0, b.n, &n);
    if (!quoted) {
        if (b.n == 1 && s[0] == '.')
            return DOT;
        V v = parse_number(s, n, 10);
        if (v != FALSE)
            return v;
    }
    return intern(buffer_string(&b));
}

static V vector_of(V l)
{
    V v = make_vector((size_t)list_length(l), FALSE);
    for (size_t i = 0; IS_PAIR(l); l = CDR(l))
        mem_set(&VEC(v)->items[i++], CAR(l));
    return v;
}

/* Labels in a datum replaced by what they stand for, which is in the place of the
 * placeholder's scope. seen: table of the pairs and vectors that are done. */
static void patch(V *slot, V seen)
{
    for (;;) {
        V x = *slot;
        if (IS(x, T_ALIAS)) {
            while (IS(x, T_ALIAS))
                x = ALIAS(x)->scope;
            mem_set(slot, x);
        }
        if ((!IS_PAIR(x) && !IS_VECTOR(x)) || table_get(seen, x, 0) != 0)
            return;
        table_set(seen, x, TRUE);
        if (IS_VECTOR(x)) {
            for (size_t i = 0; i < LENGTH(x); i++)
                patch(&VEC(x)->items[i], seen);
            return;
        }
        patch(&CAR(x), seen);
        slot = &CDR(x);
    }
}

static V read_label(struct reader *r, int32_t c)
{
    intptr_t n = 0;
    for (; c >= '0' && c <= '9'; c = port_get_raw(r->p)) {
        if (n > INT32_MAX)
            return bad(r, "bad label");
        n = n * 10 + (c - '0');
    }
    if (c == '#') {
        for (V l = r->labels; IS_PAIR(l); l = CDR(l))
            if (CAR(CAR(l)) == FIX(n))
                return CDR(CAR(l));
        return bad(r, "no such label");
    }
    if (c != '=')
        return bad(r, "bad label");
    V placeholder = make_alias(FIX(n), 0);
    V entry = cons(FIX(n), placeholder);
    r->labels = cons(entry, r->labels);
    V x = read_one(r);
    if (x == UNWIND || x == EOFV || x == CLOSE || x == DOT || x == placeholder)
        return bad(r, "no datum behind a label");
    mem_set(&CDR(entry), x);
    mem_set(&ALIAS(placeholder)->scope, x);
    return x;
}

static V read_hash(struct reader *r)
{
    int32_t c = port_peek_raw(r->p);
    if (c == '(') {
        port_get_raw(r->p);
        V l = read_list(r, ')');
        if (l == UNWIND)
            return l;
        return list_length(l) < 0 ? bad(r, "bad vector") : vector_of(l);
    }
    if (c == '\\') {
        port_get_raw(r->p);
        return read_char(r);
    }
    if (c == ';') {
        port_get_raw(r->p);
        V x = read_one(r);
        if (x == UNWIND || x == EOFV || x == CLOSE)
            return bad(r, "no datum behind #;");
        return read_one(r);
    }
    if (c == '|') {
        port_get_raw(r->p);
        return skip_block(r) ? read_one(r) : bad(r, "end of file in a comment");
    }
    if (c >= '0' && c <= '9')
        return read_label(r, port_get_raw(r->p));
    V a = read_atom(r, '#');
    if (!IS_SYMBOL(a))
        return a;
    size_t n;
    struct text *t = STR(SYM(a)->name)->text;
    char *s = to_utf8(t, 0, t->length, &n);
    for (size_t i = 0; i < n && s[1] != '!'; i++)
        if (s[i] >= 'A' && s[i] <= 'Z')
            s[i] += 'a' - 'A';
    if (strcmp(s, "#t") == 0 || strcmp(s, "#true") == 0)
        return TRUE;
    if (strcmp(s, "#f") == 0 || strcmp(s, "#false") == 0)
        return FALSE;
    if (strcmp(s, "#u8") == 0 && port_peek_raw(r->p) == '(') {
        port_get_raw(r->p);
        V l = read_list(r, ')');
        if (l == UNWIND || list_length(l) < 0)
            return bad(r, "bad bytevector");
        V b = make_bytes((size_t)list_length(l));
        for (size_t i = 0; IS_PAIR(l); l = CDR(l), i++) {
            if (!IS_FIX(CAR(l)) || INT(CAR(l)) < 0 || INT(CAR(l)) > 255)
                return bad(r, "no byte");
            BYTES(b)->data[i] = (unsigned char)INT(CAR(l));
        }
        return b;
    }
    if (s[1] == '!') {
        if (strcmp(s, "#!eof") == 0)
            return EOFV;
        if (strcmp(s, "#!fold-case") == 0)
            r->p->fold = TRUE;
        else if (strcmp(s, "#!no-fold-case") == 0)
            r->p->fold = FALSE;
        else /* the line that names the interpreter */
            while (port_peek_raw(r->p) >= 0 && port_peek_raw(r->p) != '\n')
                port_get_raw(r->p);
        return read_one(r);
    }
    return bad(r, "unknown syntax behind #");
}

static V quoted(struct reader *r, const char *name)
{
    size_t line = r->p->line;
    V x = read_one(r);
    if (x == UNWIND)
        return x;
    if (x == EOFV || x == CLOSE || x == DOT)
        return bad(r, "no datum behind a quote");
    V l = cons(sym(name), cons(x, NIL));
    if (line > 0)
        table_set(lines, l, FIX(line));
    return l;
}

static V read_one(struct reader *r)
{
    for (;;) {
        int32_t c = port_get_raw(r->p);
        if (c < 0)
            return EOFV;
        if (is_space(c))
            continue;
        switch (c) {
        case ';':
            while (c >= 0 && c != '\n')
                c = port_get_raw(r->p);
            continue;
        case '(':
        case '[':
            return read_list(r, c == '(' ? ')' : ']');
        case ')':
        case ']':
            return CLOSE;
        case '"':
            return read_string(r, '"');
        case '\'':
            return quoted(r, "quote");
        case '`':
            return quoted(r, "quasiquote");
        case ',':
            if (port_peek_raw(r->p) == '@') {
                port_get_raw(r->p);
                return quoted(r, "unquote-splicing");
            }
            return quoted(r, "unquote");
        case '#':
            return read_hash(r);
        default:
            return read_atom(r, c);
        }
    }
}

V read_datum(C *c, V port)
{
    struct reader r = {PORT(port), NULL, NIL};
    if (lines == 0)
        lines_forget();
    thr_acquire(&r.p->lock);
    V x = read_one(&r);
    size_t line = r.p->line;
    thr_release(&r.p->lock);
    if (r.labels != NIL && x != UNWIND) {
        V box = cons(x, NIL);
        patch(&CAR(box), make_table(false));
    }
    if (x == DOT || x == CLOSE)
        x = bad(&r, x == DOT ? "a dot outside of a list" : "unexpected )");
    if (x != UNWIND)
        return x;
    V where = line > 0 ? cons(FIX(line), NIL) : NIL;
    return throw(c, make_error(E_READ, r.error, where), false);
}

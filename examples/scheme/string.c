/* string.c - primitives for characters, strings and bytevectors. */
#include "scheme.h"

#include <string.h>

#define NEED_STRING(who, x)                                                    \
    if (!IS_STRING(x))                                                         \
    return RET(wrong_type(c, who, x))
#define NEED_CHAR(who, x)                                                      \
    if (!IS_CHAR(x))                                                           \
    return RET(wrong_type(c, who, x))
#define NEED_BYTES(who, x)                                                     \
    if (!IS(x, T_BYTES))                                                       \
    return RET(wrong_type(c, who, x))

/* --- characters: ASCII, Latin-1, Greek and Cyrillic have cases here ------------- */

static uint32_t upcase(uint32_t ch)
{
    if ((ch >= 'a' && ch <= 'z') || (ch >= 0xe0 && ch <= 0xfe && ch != 0xf7) ||
        (ch >= 0x3b1 && ch <= 0x3c9 && ch != 0x3c2) ||
        (ch >= 0x430 && ch <= 0x44f))
        return ch - 32;
    return ch >= 0x450 && ch <= 0x45f ? ch - 80 : ch;
}

uint32_t downcase(uint32_t ch)
{
    if ((ch >= 'A' && ch <= 'Z') || (ch >= 0xc0 && ch <= 0xde && ch != 0xd7) ||
        (ch >= 0x391 && ch <= 0x3a9) || (ch >= 0x410 && ch <= 0x42f))
        return ch + 32;
    return ch >= 0x400 && ch <= 0x40f ? ch + 80 : ch;
}

static bool alphabetic(uint32_t ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
           (ch >= 0xc0 && ch != 0xd7 && ch != 0xf7 && ch < 0x2000);
}

#define CHAR1(name, text, result)                                              \
    static R name(C *c, V x)                                                   \
    {                                                                          \
        NEED_CHAR(text, x);                                                    \
        uint32_t ch = CODEPOINT(x);                                            \
        return RET(result);                                                    \
    }
CHAR1(p_char_to_integer, "char->integer", FIX(ch))
CHAR1(p_char_upcase, "char-upcase", CHAR(upcase(ch)))
CHAR1(p_char_downcase, "char-downcase", CHAR(downcase(ch)))
CHAR1(p_char_alphabetic, "char-alphabetic?", BOOL(alphabetic(ch)))
CHAR1(p_char_numeric, "char-numeric?", BOOL(ch >= '0' && ch <= '9'))
CHAR1(p_char_whitespace, "char-whitespace?",
      BOOL(ch == ' ' || (ch >= 9 && ch <= 13) || ch == 0xa0))
CHAR1(p_char_upper_case, "char-upper-case?",
      BOOL(alphabetic(ch) && downcase(ch) != ch))
CHAR1(p_char_lower_case, "char-lower-case?",
      BOOL(alphabetic(ch) && upcase(ch) != ch))
CHAR1(p_digit_value, "digit-value",
      ch >= '0' && ch <= '9' ? FIX(ch - '0') : FALSE)

static R p_char_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS_CHAR(x)));
}

static R p_integer_to_char(C *c, V x)
{
    if (!IS_FIX(x) || !is_scalar(INT(x)))
        return RET(wrong_type(c, "integer->char", x));
    return RET(CHAR(INT(x)));
}

enum { LT = 1, EQ = 2, GT = 4, CI = 8 };

static R compare_chars(C *c, const char *who, size_t n, const V *a, unsigned by)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        NEED_CHAR(who, a[i]);
        if (i == 0)
            continue;
        uint32_t x = CODEPOINT(a[i - 1]), y = CODEPOINT(a[i]);
        if (by & CI) {
            x = downcase(x);
            y = downcase(y);
        }
        ok &= (by & (x < y ? LT : x == y ? EQ : GT)) != 0;
    }
    return RET(BOOL(ok));
}

static int compare_text(const struct text *s, const struct text *t, bool ci)
{
    for (size_t i = 0; i < s->length && i < t->length; i++) {
        uint32_t x = text_ref(s, i), y = text_ref(t, i);
        if (ci) {
            x = downcase(x);
            y = downcase(y);
        }
        if (x != y)
            return x < y ? LT : GT;
    }
    return s->length < t->length ? LT : s->length == t->length ? EQ : GT;
}

static R compare_strings(C *c, const char *who, size_t n, const V *a,
                         unsigned by)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        NEED_STRING(who, a[i]);
        if (i > 0)
            ok &= (by & (unsigned)compare_text(STR(a[i - 1])->text,
                                               STR(a[i])->text, by & CI)) != 0;
    }
    return RET(BOOL(ok));
}

/* clang-format off */
#define COMPARES(X)                                                            \
    X(lt, "<?", LT) X(gt, ">?", GT) X(le, "<=?", LT | EQ)                      \
    X(ge, ">=?", GT | EQ) X(eq, "=?", EQ) X(ci_eq, "-ci=?", EQ | CI)           \
    X(ci_lt, "-ci<?", LT | CI) X(ci_gt, "-ci>?", GT | CI)
/* clang-format on */
#define COMPARE(name, text, by)                                                \
    static R p_char_##name(C *c, size_t n, const V *a)                         \
    {                                                                          \
        return compare_chars(c, "char" text, n, a, by);                        \
    }                                                                          \
    static R p_string_##name(C *c, size_t n, const V *a)                       \
    {                                                                          \
        return compare_strings(c, "string" text, n, a, by);                    \
    }
COMPARES(COMPARE)

/* --- strings ----------------------------------------------------------------------- */

static R p_string_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS_STRING(x)));
}

static R p_make_string(C *c, V n, V fill)
{
    if (fill == DEFAULT)
        fill = CHAR(' ');
    NEED_CHAR("make-string", fill);
    uint32_t ch = CODEPOINT(fill);
    if (!size_ok(c, "make-string", n, ch > 0xff ? 4 : 1))
        return RET(UNWIND);
    struct text *t = make_text((size_t)INT(n), ch > 0xff ? 4 : 1);
    for (size_t i = 0; i < t->length; i++)
        text_put(t, i, ch);
    return RET(make_string(t));
}

static R p_string(C *c, size_t n, const V *a)
{
    V s = make_string(make_text(n, 1));
    for (size_t i = 0; i < n; i++) {
        NEED_CHAR("string", a[i]);
        string_set(s, i, CODEPOINT(a[i]));
    }
    return RET(s);
}

static R p_string_length(C *c, V s)
{
    NEED_STRING("string-length", s);
    return RET(FIX(STR(s)->text->length));
}

static R bad_index(C *c, const char *who, V i)
{
    if (!IS_FIX(i))
        return RET(wrong_type(c, who, i));
    V l = cons(sym(who), cons(i, NIL));
    return RET(fail(c, "index out of range for", l));
}

static R p_string_ref(C *c, V s, V i)
{
    NEED_STRING("string-ref", s);
    struct text *t = STR(s)->text;
    if (!IS_FIX(i) || (V)INT(i) >= t->length)
        return bad_index(c, "string-ref", i);
    return RET(CHAR(text_ref(t, (size_t)INT(i))));
}

static R p_string_set(C *c, V s, V i, V ch)
{
    NEED_STRING("string-set!", s);
    NEED_CHAR("string-set!", ch);
    if (!IS_FIX(i) || (V)INT(i) >= STR(s)->text->length)
        return bad_index(c, "string-set!", i);
    string_set(s, (size_t)INT(i), CODEPOINT(ch));
    return RET(UNSPEC);
}

static R p_substring(C *c, V s, V from, V to)
{
    size_t lo, hi;
    NEED_STRING("substring", s);
    if (!range(c, "substring", from, to, STR(s)->text->length, &lo, &hi))
        return RET(UNWIND);
    return RET(substring(s, lo, hi));
}

static R p_string_append(C *c, size_t n, const V *a)
{
    size_t length = 0, width = 1, k = 0;
    for (size_t i = 0; i < n; i++) {
        NEED_STRING("string-append", a[i]);
        struct text *t = STR(a[i])->text;
        length += t->length;
        width = t->width > width ? t->width : width;
    }
    struct text *r = make_text(length, width);
    for (size_t i = 0; i < n; i++) {
        struct text *t = STR(a[i])->text;
        /* Another goroutine may have made it wider since. */
        if (t->width == width) {
            memcpy(r->chars + k * width, t->chars, t->length * width);
            k += t->length;
        } else {
            for (size_t j = 0; j < t->length; j++)
                text_put(r, k++, text_ref(t, j));
        }
    }
    return RET(make_string(r));
}

static R p_string_to_list(C *c, V s, V from, V to)
{
    size_t lo, hi;
    NEED_STRING("string->list", s);
    struct text *t = STR(s)->text;
    if (!range(c, "string->list", from, to, t->length, &lo, &hi))
        return RET(UNWIND);
    V l = NIL;
    for (; hi > lo; hi--)
        l = cons(CHAR(text_ref(t, hi - 1)), l);
    return RET(l);
}

static R p_list_to_string(C *c, V l)
{
    intptr_t n = list_length(l);
    if (n < 0)
        return RET(wrong_type(c, "list->string", l));
    V s = make_string(make_text((size_t)n, 1));
    for (size_t i = 0; IS_PAIR(l) && i < (size_t)n; l = CDR(l), i++) {
        NEED_CHAR("list->string", CAR(l));
        string_set(s, i, CODEPOINT(CAR(l)));
    }
    return RET(s);
}

static R p_string_to_vector(C *c, V s, V from, V to)
{
    size_t lo, hi;
    NEED_STRING("string->vector", s);
    struct text *t = STR(s)->text;
    if (!range(c, "string->vector", from, to, t->length, &lo, &hi))
        return RET(UNWIND);
    V v = make_vector(hi - lo, FALSE);
    for (size_t i = lo; i < hi; i++)
        VEC(v)->items[i - lo] = CHAR(text_ref(t, i));
    return RET(v);
}

static R p_vector_to_string(C *c, V v, V from, V to)
{
    size_t lo, hi;
    if (!IS_VECTOR(v))
        return RET(wrong_type(c, "vector->string", v));
    if (!range(c, "vector->string", from, to, LENGTH(v), &lo, &hi))
        return RET(UNWIND);
    V s = make_string(make_text(hi - lo, 1));
    for (size_t i = lo; i < hi; i++) {
        V ch = VEC(v)->items[i];
        NEED_CHAR("vector->string", ch);
        string_set(s, i - lo, CODEPOINT(ch));
    }
    return RET(s);
}

static R p_string_copy(C *c, V s, V from, V to)
{
    return p_substring(c, s, from, to);
}

/* (string-copy! to at from [start end]) */
static R p_string_copy_to(C *c, size_t n, const V *a)
{
    size_t lo, hi;
    NEED_STRING("string-copy!", a[0]);
    NEED_STRING("string-copy!", a[2]);
    if (!range(c, "string-copy!", n > 3 ? a[3] : DEFAULT,
               n > 4 ? a[4] : DEFAULT, STR(a[2])->text->length, &lo, &hi))
        return RET(UNWIND);
    size_t room = STR(a[0])->text->length;
    if (!IS_FIX(a[1]) || (V)INT(a[1]) > room || hi - lo > room - (V)INT(a[1]))
        return bad_index(c, "string-copy!", a[1]);
    V part = substring(a[2], lo, hi);
    for (size_t i = 0; i < hi - lo; i++)
        string_set(a[0], (size_t)INT(a[1]) + i, text_ref(STR(part)->text, i));
    return RET(UNSPEC);
}

static R p_string_fill(C *c, size_t n, const V *a)
{
    size_t lo, hi;
    NEED_STRING("string-fill!", a[0]);
    NEED_CHAR("string-fill!", a[1]);
    if (!range(c, "string-fill!", n > 2 ? a[2] : DEFAULT,
               n > 3 ? a[3] : DEFAULT, STR(a[0])->text->length, &lo, &hi))
        return RET(UNWIND);
    for (; lo < hi; lo++)
        string_set(a[0], lo, CODEPOINT(a[1]));
    return RET(UNSPEC);
}

static R change_case(C *c, const char *who, V s, uint32_t (*f)(uint32_t))
{
    NEED_STRING(who, s);
    V r = substring(s, 0, STR(s)->text->length);
    for (size_t i = 0; i < STR(r)->text->length; i++)
        string_set(r, i, f(text_ref(STR(r)->text, i)));
    return RET(r);
}

static R p_string_upcase(C *c, V s)
{
    return change_case(c, "string-upcase", s, upcase);
}

static R p_string_downcase(C *c, V s)
{
    return change_case(c, "string-downcase", s, downcase);
}

static R string_each(C *c, const char *who, size_t n, const V *a, bool collect)
{
    V args[n];
    size_t length = SIZE_MAX;
    for (size_t i = 1; i < n; i++) {
        NEED_STRING(who, a[i]);
        if (STR(a[i])->text->length < length)
            length = STR(a[i])->text->length;
    }
    V result = collect ? make_string(make_text(length, 1)) : UNSPEC;
    for (size_t k = 0; k < length; k++) {
        for (size_t i = 1; i < n; i++)
            args[i - 1] = CHAR(text_ref(STR(a[i])->text, k));
        V v = apply(c, a[0], n - 1, args);
        if (v == UNWIND)
            return RET(v);
        if (!collect)
            continue;
        NEED_CHAR(who, v);
        string_set(result, k, CODEPOINT(v));
    }
    return RET(result);
}

static R p_string_map(C *c, size_t n, const V *a)
{
    return string_each(c, "string-map", n, a, true);
}

static R p_string_for_each(C *c, size_t n, const V *a)
{
    return string_each(c, "string-for-each", n, a, false);
}

/* --- bytevectors --------------------------------------------------------------------- */

static R p_bytes_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_BYTES)));
}

static bool is_byte(V x)
{
    return IS_FIX(x) && INT(x) >= 0 && INT(x) < 256;
}

static R p_make_bytes(C *c, V n, V fill)
{
    if (!size_ok(c, "make-bytevector", n, 1))
        return RET(UNWIND);
    if (fill != DEFAULT && !is_byte(fill))
        return RET(wrong_type(c, "make-bytevector", fill));
    V b = make_bytes((size_t)INT(n));
    if (fill != DEFAULT)
        memset(BYTES(b)->data, (int)INT(fill), LENGTH(b));
    return RET(b);
}

static R p_bytes(C *c, size_t n, const V *a)
{
    V b = make_bytes(n);
    for (size_t i = 0; i < n; i++) {
        if (!is_byte(a[i]))
            return RET(wrong_type(c, "bytevector", a[i]));
        BYTES(b)->data[i] = (unsigned char)INT(a[i]);
    }
    return RET(b);
}

static R p_bytes_length(C *c, V b)
{
    NEED_BYTES("bytevector-length", b);
    return RET(FIX(LENGTH(b)));
}

static R p_bytes_ref(C *c, V b, V i)
{
    NEED_BYTES("bytevector-u8-ref", b);
    if (!IS_FIX(i) || (V)INT(i) >= LENGTH(b))
        return bad_index(c, "bytevector-u8-ref", i);
    return RET(FIX(BYTES(b)->data[INT(i)]));
}

static R p_bytes_set(C *c, V b, V i, V x)
{
    NEED_BYTES("bytevector-u8-set!", b);
    if (!IS_FIX(i) || (V)INT(i) >= LENGTH(b))
        return bad_index(c, "bytevector-u8-set!", i);
    if (!is_byte(x))
        return RET(wrong_type(c, "bytevector-u8-set!", x));
    BYTES(b)->data[INT(i)] = (unsigned char)INT(x);
    return RET(UNSPEC);
}

static R p_bytes_copy(C *c, V b, V from, V to)
{
    size_t lo, hi;
    NEED_BYTES("bytevector-copy", b);
    if (!range(c, "bytevector-copy", from, to, LENGTH(b), &lo, &hi))
        return RET(UNWIND);
    V r = make_bytes(hi - lo);
    memcpy(BYTES(r)->data, BYTES(b)->data + lo, hi - lo);
    return RET(r);
}

static R p_bytes_copy_to(C *c, size_t n, const V *a)
{
    size_t lo, hi;
    NEED_BYTES("bytevector-copy!", a[0]);
    NEED_BYTES("bytevector-copy!", a[2]);
    if (!range(c, "bytevector-copy!", n > 3 ? a[3] : DEFAULT,
               n > 4 ? a[4] : DEFAULT, LENGTH(a[2]), &lo, &hi))
        return RET(UNWIND);
    size_t room = LENGTH(a[0]);
    if (!IS_FIX(a[1]) || (V)INT(a[1]) > room || hi - lo > room - (V)INT(a[1]))
        return bad_index(c, "bytevector-copy!", a[1]);
    memmove(BYTES(a[0])->data + INT(a[1]), BYTES(a[2])->data + lo, hi - lo);
    return RET(UNSPEC);
}

static R p_bytes_append(C *c, size_t n, const V *a)
{
    size_t length = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        NEED_BYTES("bytevector-append", a[i]);
        length += LENGTH(a[i]);
    }
    V b = make_bytes(length);
    for (size_t i = 0; i < n; k += LENGTH(a[i]), i++)
        memcpy(BYTES(b)->data + k, BYTES(a[i])->data, LENGTH(a[i]));
    return RET(b);
}

static R p_utf8_to_string(C *c, V b, V from, V to)
{
    size_t lo, hi;
    NEED_BYTES("utf8->string", b);
    if (!range(c, "utf8->string", from, to, LENGTH(b), &lo, &hi))
        return RET(UNWIND);
    return RET(string_from_n((const char *)BYTES(b)->data + lo, hi - lo));
}

static R p_string_to_utf8(C *c, V s, V from, V to)
{
    size_t lo, hi, n;
    NEED_STRING("string->utf8", s);
    struct text *t = STR(s)->text;
    if (!range(c, "string->utf8", from, to, t->length, &lo, &hi))
        return RET(UNWIND);
    char *utf8 = to_utf8(t, lo, hi, &n);
    V b = make_bytes(n);
    memcpy(BYTES(b)->data, utf8, n);
    return RET(b);
}

void string_init(void)
{
#define COMPARE_PRIM(name, text, by)                                           \
    {"char" text, p_char_##name, 1, MANY, 0},                                  \
        {"string" text, p_string_##name, 1, MANY, 0},
    static const struct prim compares[] = {COMPARES(COMPARE_PRIM)};
    static const struct prim table[] = {
        {"char?", p_char_p, 1, 1, 0},
        {"char->integer", p_char_to_integer, 1, 1, 0},
        {"integer->char", p_integer_to_char, 1, 1, 0},
        {"char-upcase", p_char_upcase, 1, 1, 0},
        {"char-downcase", p_char_downcase, 1, 1, 0},
        {"char-foldcase", p_char_downcase, 1, 1, 0},
        {"char-alphabetic?", p_char_alphabetic, 1, 1, 0},
        {"char-numeric?", p_char_numeric, 1, 1, 0},
        {"char-whitespace?", p_char_whitespace, 1, 1, 0},
        {"char-upper-case?", p_char_upper_case, 1, 1, 0},
        {"char-lower-case?", p_char_lower_case, 1, 1, 0},
        {"digit-value", p_digit_value, 1, 1, 0},
        {"string?", p_string_p, 1, 1, 0},
        {"make-string", p_make_string, 1, 2, 0},
        {"string", p_string, 0, MANY, 0},
        {"string-length", p_string_length, 1, 1, 0},
        {"string-ref", p_string_ref, 2, 2, 0},
        {"string-set!", p_string_set, 3, 3, 0},
        {"substring", p_substring, 2, 3, 0},
        {"string-append", p_string_append, 0, MANY, 0},
        {"string->list", p_string_to_list, 1, 3, 0},
        {"list->string", p_list_to_string, 1, 1, 0},
        {"string->vector", p_string_to_vector, 1, 3, 0},
        {"vector->string", p_vector_to_string, 1, 3, 0},
        {"string-copy", p_string_copy, 1, 3, 0},
        {"string-copy!", p_string_copy_to, 3, MANY, 0},
        {"string-fill!", p_string_fill, 2, MANY, 0},
        {"string-upcase", p_string_upcase, 1, 1, 0},
        {"string-downcase", p_string_downcase, 1, 1, 0},
        {"string-foldcase", p_string_downcase, 1, 1, 0},
        {"string-map", p_string_map, 2, MANY, 0},
        {"string-for-each", p_string_for_each, 2, MANY, 0},
        {"bytevector?", p_bytes_p, 1, 1, 0},
        {"make-bytevector", p_make_bytes, 1, 2, 0},
        {"bytevector", p_bytes, 0, MANY, 0},
        {"bytevector-length", p_bytes_length, 1, 1, 0},
        {"bytevector-u8-ref", p_bytes_ref, 2, 2, 0},
        {"bytevector-u8-set!", p_bytes_set, 3, 3, 0},
        {"bytevector-copy", p_bytes_copy, 1, 3, 0},
        {"bytevector-copy!", p_bytes_copy_to, 3, MANY, 0},
        {"bytevector-append", p_bytes_append, 0, MANY, 0},
        {"utf8->string", p_utf8_to_string, 1, 3, 0},
        {"string->utf8", p_string_to_utf8, 1, 3, 0},
    };
    PRIMS_ADD(compares);
    PRIMS_ADD(table);
}

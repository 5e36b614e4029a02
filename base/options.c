/* base/options.c - the options: defaults, checks, parser, help.
 *
 * Everything is made from TARN_OPTIONS_TABLE and DEBUG_MODES_TABLE; but for the
 * seed nothing else here names an option.
 *
 * Invariants
 *  1. A struct that leaves this file has every field in its range.
 *  2. A call that fails changes nothing but the error text.
 *
 * Locks: none. `options` is written before the first goroutine runs.
 */
#include "base/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum kind { BOOL, COUNT, SIZE, DURATION, STACKS, OOM };

/* The longest piece of the user's text an error repeats, so that the rest of
 * the sentence fits too. */
enum { QUOTE_MAX = 80 };

struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    int64_t def, min, max;
    const char *help;
};

static const struct option table[] = {
#define OPTION_(name, kind, def, min, max, help)                               \
    {#name, kind, offsetof(struct tarn_options, name), (def), (min),           \
     (max), help},
    TARN_OPTIONS_TABLE(OPTION_)
#undef OPTION_
};

struct tarn_options options = {sizeof(struct tarn_options),
#define DEFAULT_(name, kind, def, min, max, help) (def),
                               TARN_OPTIONS_TABLE(DEFAULT_)
#undef DEFAULT_
};

/* A piece of the text being parsed. */
struct piece {
    const char *p;
    size_t len;
};
#define QUOTE(s) (int)((s).len < QUOTE_MAX ? (s).len : QUOTE_MAX), (s).p

static bool is(struct piece s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.p, word, s.len) == 0;
}

static int64_t *field(struct tarn_options *o, const struct option *d)
{
    return (int64_t *)(void *)((char *)o + d->offset);
}

void tarn_options_init(struct tarn_options *o)
{
    o->struct_size = sizeof *o;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        *field(o, &table[i]) = table[i].def;
}

/* --- values ------------------------------------------------------------ */

enum parsed { PARSED, MALFORMED, TOO_LARGE };

/* Digits, then nothing. */
static enum parsed parse_count(struct piece s, int64_t *out)
{
    int64_t v = 0;
    bool over = false;
    if (s.len == 0)
        return MALFORMED;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return MALFORMED;
        over |= __builtin_mul_overflow(v, 10, &v) ||
                __builtin_add_overflow(v, s.p[i] - '0', &v);
    }
    *out = v;
    return over ? TOO_LARGE : PARSED;
}

static const struct {
    const char *name;
    int shift;
} units[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}};

static enum parsed parse_size(struct piece s, int64_t *out)
{
    int shift = 0;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t n = strlen(units[i].name);
        if (s.len >= n && memcmp(s.p + s.len - n, units[i].name, n) == 0) {
            s.len -= n;
            shift = units[i].shift;
            break;
        }
    }
    enum parsed r = parse_count(s, out);
    if (r == PARSED && __builtin_mul_overflow(*out, INT64_C(1) << shift, out))
        return TOO_LARGE;
    return r;
}

static const struct {
    const char *name;
    int64_t ns;
} times[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};

/* Without a unit: milliseconds. */
static enum parsed parse_duration(struct piece s, int64_t *out)
{
    int64_t ns = 1000000;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        size_t n = strlen(times[i].name);
        if (s.len >= n && memcmp(s.p + s.len - n, times[i].name, n) == 0) {
            s.len -= n;
            ns = times[i].ns;
            break;
        }
    }
    enum parsed r = parse_count(s, out);
    if (r == PARSED && __builtin_mul_overflow(*out, ns, out))
        return TOO_LARGE;
    return r;
}

static const char *const stacks_words[] = {"auto", "copying", "fixed", NULL};
static const char *const oom_words[] = {"null", "throw", NULL};

static const char *const *words_of(enum kind kind)
{
    return kind == STACKS ? stacks_words : kind == OOM ? oom_words : NULL;
}

static enum parsed parse_word(struct piece s, const char *const *words,
                              int64_t *out)
{
    for (int64_t i = 0; words[i] != NULL; i++) {
        if (is(s, words[i])) {
            *out = i;
            return PARSED;
        }
    }
    return MALFORMED;
}

static const char *expected(enum kind kind)
{
    switch (kind) {
    case BOOL:
        return "0 or 1";
    case COUNT:
        return "a whole number";
    case SIZE:
        return "a size: bytes, or with KiB, MiB, GiB or TiB";
    case DURATION:
        return "a time: milliseconds, or with ns, us, ms or s";
    case STACKS:
        return "auto, copying or fixed";
    case OOM:
        return "null or throw";
    }
    return "?";
}

static tarn_status set_value(struct tarn_options *o, const struct option *d,
                             struct piece s)
{
    int64_t v = 0;
    enum parsed r;
    if (words_of(d->kind) != NULL)
        r = parse_word(s, words_of(d->kind), &v);
    else if (d->kind == SIZE)
        r = parse_size(s, &v);
    else if (d->kind == DURATION)
        r = parse_duration(s, &v);
    else
        r = parse_count(s, &v);
    /* For a switch any other number is as wrong as a word. */
    if (d->kind == BOOL && !is(s, "0") && !is(s, "1"))
        r = MALFORMED;
    if (r == MALFORMED) {
        set_error("option %s: \"%.*s\" is not %s", d->name, QUOTE(s),
                  expected(d->kind));
        return TARN_EOPTION;
    }
    if (r == TOO_LARGE || v < d->min || v > d->max) {
        set_error("option %s: %.*s is outside %lld..%lld%s", d->name, QUOTE(s),
                  (long long)d->min, (long long)d->max,
                  d->kind == DURATION ? " ns" : "");
        return TARN_EOPTION;
    }
    *field(o, d) = v;
    return TARN_OK;
}

/* --- lists ------------------------------------------------------------- */

/* Cuts the next part off *text; false at the end. A comma at the end has an
 * empty part behind it, a text of no characters has none. */
static bool next_part(const char **text, struct piece *part)
{
    if (*text == NULL)
        return false;
    const char *comma = strchr(*text, ',');
    part->p = *text;
    part->len = comma ? (size_t)(comma - *text) : strlen(*text);
    *text = comma ? comma + 1 : NULL;
    return true;
}

static tarn_status set_part(struct tarn_options *o, struct piece part)
{
    if (part.len == 0) {
        set_error("TARN: empty option between commas or at an end");
        return TARN_EOPTION;
    }
    const char *eq = memchr(part.p, '=', part.len);
    struct piece name = {part.p, eq ? (size_t)(eq - part.p) : part.len};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!is(name, table[i].name))
            continue;
        if (eq != NULL)
            return set_value(o, &table[i],
                             (struct piece){eq + 1, part.len - name.len - 1});
        set_error("option %s: no value: write %s=VALUE", table[i].name,
                  table[i].name);
        return TARN_EOPTION;
    }
    set_error("TARN: unknown option \"%.*s\"", QUOTE(name));
    return TARN_EOPTION;
}

tarn_status tarn_options_parse(struct tarn_options *o, const char *text)
{
    if (o == NULL || text == NULL) {
        set_error("tarn_options_parse: NULL argument");
        return TARN_EINVAL;
    }
    struct tarn_options fresh = *o;
    struct piece part;
    if (*text == '\0')
        return TARN_OK; /* what `TARN= program` in a shell means */
    while (next_part(&text, &part)) {
        tarn_status s = set_part(&fresh, part);
        if (s != TARN_OK)
            return s;
    }
    *o = fresh;
    return TARN_OK;
}

static bool asks_for_help(const char *text)
{
    struct piece part;
    while (next_part(&text, &part))
        if (is(part, "help"))
            return true;
    return false;
}

/* --- loading ----------------------------------------------------------- */

static tarn_status check_ranges(struct tarn_options *o)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *d = &table[i];
        int64_t v = *field(o, d);
        if (v < d->min || v > d->max) {
            set_error("option %s: %lld is outside %lld..%lld", d->name,
                      (long long)v, (long long)d->min, (long long)d->max);
            return TARN_EOPTION;
        }
    }
    return TARN_OK;
}

tarn_status options_load(const struct tarn_options *from,
                         struct tarn_options *out)
{
    struct tarn_options o;
    tarn_options_init(&o);
    if (from != NULL) {
        size_t size = from->struct_size;
        if (size < sizeof from->struct_size || size > sizeof o) {
            set_error("struct tarn_options: struct_size is %zu, not %zu: call "
                      "tarn_options_init first",
                      size, sizeof o);
            return TARN_EOPTION;
        }
        /* Whole fields only. */
        memcpy(&o, from, ALIGN_DOWN(size, sizeof(int64_t)));
        o.struct_size = sizeof o;
    }
    tarn_status s = check_ranges(&o);
    if (s != TARN_OK)
        return s;
    const char *env = getenv("TARN");
    if (env != NULL) {
        if (asks_for_help(env)) {
            static char text[8192];
            size_t n = options_help(text, sizeof text);
            ASSERT(n < sizeof text);
            fwrite(text, 1, n, stdout);
            exit(0);
        }
        s = tarn_options_parse(&o, env);
        if (s != TARN_OK)
            return s;
    }
    *out = o;
    return TARN_OK;
}

/* --- help -------------------------------------------------------------- */

/* As a user would write it. */
static void format_value(const struct option *d, int64_t v, char buf[32])
{
    if (words_of(d->kind) != NULL) {
        snprintf(buf, 32, "%s", words_of(d->kind)[v]);
        return;
    }
    for (size_t i = 0; d->kind == SIZE && i < ARRAY_LEN(units); i++) {
        if (v != 0 && (v & ((INT64_C(1) << units[i].shift) - 1)) == 0) {
            snprintf(buf, 32, "%lld%s", (long long)(v >> units[i].shift),
                     units[i].name);
            return;
        }
    }
    for (size_t i = ARRAY_LEN(times); d->kind == DURATION && i-- > 0;) {
        if (v != 0 && v % times[i].ns == 0) {
            snprintf(buf, 32, "%lld%s", (long long)(v / times[i].ns),
                     times[i].name);
            return;
        }
    }
    snprintf(buf, 32, "%lld", (long long)v);
}

size_t options_help(char *buf, size_t len)
{
    static const char *const kinds[] = {
        "0|1", "count", "size", "time", "auto|copying|fixed", "null|throw"};
    size_t n = 0;
    /* Counts on past the end of buf, as snprintf does. */
#define OUT(...)                                                               \
    (n += (size_t)snprintf(n < len ? buf + n : NULL, n < len ? len - n : 0,    \
                           __VA_ARGS__))
    OUT("%-12s %-18s %-8s %s\n", "option", "value", "default", "meaning");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *d = &table[i];
        char def[32];
        format_value(d, d->def, def);
        OUT("%-12s %-18s %-8s %s\n", d->name, kinds[d->kind], def, d->help);
    }
    return n;
}

/* --- debug modes --------------------------------------------------------- */

enum {
#define INDEX_(name, kind, def, min, max, help) OPTION_##name,
    TARN_OPTIONS_TABLE(INDEX_)
#undef INDEX_
};

static const struct {
    int option;
    const char *text;
} modes[] = {
#define MODE_(name, text) {OPTION_##name, text},
    DEBUG_MODES_TABLE(MODE_)
#undef MODE_
};

size_t options_debug_modes(const struct tarn_options *o, char *buf, size_t len)
{
    size_t n = 0;
    if (len > 0)
        *buf = '\0';
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        const struct option *d = &table[modes[i].option];
        int64_t v;
        memcpy(&v, (const char *)o + d->offset, sizeof v);
        if (v == d->def)
            continue;
        char value[32];
        format_value(d, v, value);
        OUT("%s=%s (%s), ", d->name, value, modes[i].text);
    }
    if (n > 0)
        OUT("seed=%lld", (long long)o->seed);
#undef OUT
    return n;
}

void options_choose_seed(struct tarn_options *o)
{
    if (o->seed == 0)
        o->seed = nanotime() | 1;
}

/* scheme.h - values, objects and what the parts of the interpreter call of each
 * other.
 *
 * A value is a word:
 *   ...1        fixnum, 63 bits
 *   ..0000      pointer to a pair, or to an object whose first word is a header:
 *               ..1100, which no value is: so a pair needs no header. Most pointers
 *               are plain addresses, which a marker follows fastest.
 *   ..0100      procedure: code and data
 *   ..0110      #f, #t, (), characters, ...
 *   ..1000      only as a result: a call in tail position, to be made by whom it
 *               is returned to. The frame is in the second word.
 *   ..1010      only as a result: unwinding, the context says where to and why
 *
 * Nothing is unwound by longjmp: a stack that moves could not do it. Whoever
 * evaluates anything looks at the result and returns it if it is SPECIAL.
 *
 * A variable lives in a frame: word 0 is the frame around it, the variables follow.
 */
#ifndef SCHEME_H_
#define SCHEME_H_

#include "memory.h"
#include "threads.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COLD __attribute__((cold, noinline))

#define FALSE ((V)0x06)
#define TRUE ((V)0x16)
#define NIL ((V)0x26)
#define UNSPEC ((V)0x36)
#define EOFV ((V)0x46)
#define DEFAULT ((V)0x56)
#define UNWIND ((V)0x0a)

#define SPECIAL(v) UNLIKELY(((v)&9) == 8)
#define IS_TAIL(v) UNLIKELY(((v)&15) == 8)

#define BOOL(x) ((x) ? TRUE : FALSE)
#define IS_FIX(v) ((v)&1)
#define FIX(n) ((V)(n) << 1 | 1)
#define INT(v) ((intptr_t)(v) >> 1)
#define FIX_MAX (INTPTR_MAX >> 1)
#define FIX_MIN (INTPTR_MIN >> 1)
#define IS_CHAR(v) (((v)&0xff) == 0x76)
#define CHAR(c) ((V)(c) << 8 | 0x76)
#define CODEPOINT(v) ((uint32_t)((v) >> 8))

struct object {
    V header; /* type | length << 16; or the car of a pair */
};
#define HEADER(v) (((struct object *)(v))->header)
#define IS_HEAP(v) (((v)&15) == 0)
#define IS_OBJ(v) (IS_HEAP(v) && (HEADER(v) & 15) == 12)
#define TYPE(v) ((enum type)(HEADER(v) & 0xffff))
#define IS(v, t) (IS_HEAP(v) && (HEADER(v) & 0xffff) == (t))
#define LENGTH(v) (HEADER(v) >> 16)

struct pair {
    V car, cdr;
};
#define IS_PAIR(v) (IS_HEAP(v) && (HEADER(v) & 15) != 12)
#define PAIR(v) ((struct pair *)(v))
#define CAR(v) (PAIR(v)->car)
#define CDR(v) (PAIR(v)->cdr)

#define TYPE_WORD(n) ((n) << 4 | 12)
enum type {
    T_RATIO = TYPE_WORD(21), /* an exact fraction */
    T_SYMBOL = TYPE_WORD(1),
    T_ALIAS = TYPE_WORD(2), /* an identifier that a macro has put in */
    T_STRING = TYPE_WORD(3),
    T_VECTOR = TYPE_WORD(4),
    T_BYTES = TYPE_WORD(5), /* bytevector */
    T_FLONUM = TYPE_WORD(6),
    T_BIGNUM = TYPE_WORD(7),
    T_VALUES = TYPE_WORD(8),
    T_RECORD_TYPE = TYPE_WORD(9),
    T_RECORD = TYPE_WORD(10),
    T_ERROR = TYPE_WORD(11),
    T_PROMISE = TYPE_WORD(12),
    T_PORT = TYPE_WORD(13),
    T_TABLE = TYPE_WORD(14),
    T_CHANNEL = TYPE_WORD(15),
    T_MACRO = TYPE_WORD(16),
    T_SCOPE = TYPE_WORD(17),
    T_GUARD = TYPE_WORD(18),
    T_ENVIRONMENT = TYPE_WORD(19),
    T_WEAK_TABLE = TYPE_WORD(20),
};

struct symbol {
    V header; /* length: 1 = uninterned */
    V name;   /* string */
    V value;  /* of the global variable; 0: none */
    V syntax; /* fixnum: a special form; macro; 0 */
    V next;   /* in the table */
    V hash;
};
#define SYM(v) ((struct symbol *)(v))
#define IS_SYMBOL(v) IS(v, T_SYMBOL)

struct alias {
    V header, id, scope;
};
#define ALIAS(v) ((struct alias *)(v))

/* Characters of one or four bytes each. A string gets other data when it gets a
 * character that does not fit, so who has the data has its width and length. */
struct text {
    size_t length;
    size_t width;
    unsigned char chars[];
};
struct string {
    V header;
    struct text *text;
};
#define STR(v) ((struct string *)(v))
#define IS_STRING(v) IS(v, T_STRING)

struct vector {
    V header; /* with the length */
    V items[];
};
#define VEC(v) ((struct vector *)(v))
#define IS_VECTOR(v) IS(v, T_VECTOR)

struct bytes {
    V header;
    unsigned char data[];
};
#define BYTES(v) ((struct bytes *)(v))

struct flonum {
    V header;
    double d;
};
#define FLO(v) (((struct flonum *)(v))->d)
#define IS_FLO(v) IS(v, T_FLONUM)

/* Magnitude of limbs of 32 bits, the lowest first, the highest not 0. */
struct bignum {
    V header; /* with the number of limbs */
    V negative;
    uint32_t limbs[];
};
#define BIG(v) ((struct bignum *)(v))
#define IS_BIG(v) IS(v, T_BIGNUM)

struct ratio {
    V header, num, den; /* without a common factor; den > 1 */
};
#define RATIO(v) ((struct ratio *)(v))
#define IS_RATIO(v) IS(v, T_RATIO)

struct record_type {
    V header, name, fields; /* list of symbols */
};
struct record {
    V header, type, fields[];
};
#define REC(v) ((struct record *)(v))

enum { E_ERROR, E_READ, E_FILE };
struct error {
    V header, kind, message, irritants;
};
#define ERR(v) ((struct error *)(v))

struct promise {
    V header, box;
};

struct port {
    V header;
    V input, binary, open; /* booleans */
    V fd;                  /* -1: a string */
    V fold;                /* #!fold-case was read */
    V failed;              /* what was written is lost, nobody was told yet */
    struct text *text;     /* what is read or has been written */
    size_t pos, length;    /* next to read; used */
    size_t line;
    thr_lock lock;
};
#define PORT(v) ((struct port *)(v))
#define IS_PORT(v) IS(v, T_PORT)

struct table {
    V header;
    V count;
    V buckets; /* vector of chains: vectors of key, value, hash, next */
    V equal;   /* #t: equal?, #f: eqv? */
    thr_lock lock;
};

struct channel {
    V header;
    void *chan;
};
#define CHANNEL(v) ((struct channel *)(v))

struct macro {
    V header, literals, rules, scope, ellipsis;
};

/* What the compiler knows of the identifiers of one frame, or of a let-syntax. */
struct scope {
    V header;
    V parent;   /* scope or 0 */
    V bindings; /* list of (identifier . index or macro), index: fixnum */
    V slots;    /* words of the frame, 0: it makes none */
    V checked;  /* variables from this index on may be used too early */
};
#define SCOPE(v) ((struct scope *)(v))

/* Where unwinding can end: a `guard`, or the call of call/cc. */
struct guard {
    V header;
    V live;
    struct ctx *ctx;
};
#define GUARD(v) ((struct guard *)(v))

/* A goroutine's state. */
struct ctx {
    V handlers; /* list of procedures and guards, innermost first */
    V params;   /* alist of parameters and values */
    V target;   /* unwinding: to a guard or continuation; 0: to the top */
    V payload;  /* with what */
    V trace;    /* list of (name . line), innermost last */
    V traced;   /* its length, fixnum */
    V exit;     /* main only: fixnum once `exit` was called, else 0 */
    V thunk;    /* what a goroutine begins with */
    V main;     /* boolean */
};
typedef struct ctx C;

typedef struct {
    V v;
    V *frame;
} R;

typedef struct node N;
typedef R (*exec_fn)(C *c, N *n, V *env);
/* Part of compiled code. */
struct node {
    exec_fn exec;
    uint8_t op;
    uint8_t depth;
    uint16_t index;
    uint32_t line;
    V k[]; /* operands: nodes, constants */
};
enum { OP_OTHER, OP_LOCAL0, OP_LOCAL1, OP_CONST, OP_GLOBAL };

enum code_kind {
    CODE_LAMBDA,
    CODE_PRIM,
    CODE_CONTINUATION,
    CODE_PARAMETER,
    CODE_MAKE,
    CODE_TEST,
    CODE_REF,
    CODE_SET,
    CODE_CASE
};

/* What procedures have in common that differ in their data only. */
struct code {
    uint8_t kind;
    uint8_t rest; /* takes more arguments than `required` */
    uint16_t required;
    uint16_t slots; /* words of the frame */
    uint16_t max;   /* of primitives: most arguments */
    V name;
    N *body;
    void *fn; /* of primitives, by max: R fn(C *, V, V, V) or with a vector */
    V op;     /* of primitives: how calls are compiled */
    V file;
};
#define SIG(kind, rest, required)                                              \
    ((uint32_t)((kind) | (rest) << 8 | (required) << 16))
#define SIG_OF(code) (*(const uint32_t *)(const void *)(code))

struct proc {
    struct code *code;
    V data;
};
#define IS_PROC(v) (((v)&15) == 4)
#define PROC(v) ((struct proc *)((v)-4))

#define RET(x) ((R){(x), NULL})

/* --- object.c ------------------------------------------------------------- */

static inline V cons(V a, V b)
{
    struct pair *p = mem_words(2);
    mem_init2(p, a, b);
    return (V)p;
}

static inline V flonum(double d)
{
    struct flonum *f = mem_bytes(sizeof *f);
    f->header = T_FLONUM;
    f->d = d;
    return (V)f;
}

V make_proc(struct code *code, V data);
V make_vector(size_t n, V fill);
V make_vector_of(size_t n, const V *items);
V make_values(size_t n, const V *v);
V make_bytes(size_t n);
struct text *make_text(size_t length, size_t width);
V make_string(struct text *t);
V string_from(const char *utf8);
V string_from_n(const char *utf8, size_t n);
static inline uint32_t text_ref(const struct text *t, size_t i)
{
    return t->width == 1 ? t->chars[i]
                         : ((const uint32_t *)(const void *)t->chars)[i];
}
void text_put(struct text *t, size_t i, uint32_t c);
/* Is there a character with this number? */
static inline bool is_scalar(intptr_t c)
{
    return (c >= 0 && c < 0xd800) || (c > 0xdfff && c <= 0x10ffff);
}
void string_set(V s, size_t i, uint32_t c);
V substring(V s, size_t from, size_t to);
/* NUL-terminated UTF-8 in an object; its length to *n if that is not NULL. */
char *to_utf8(const struct text *t, size_t from, size_t to, size_t *n);
size_t utf8_encode(uint32_t c, char *out);
V intern(V name);
V sym(const char *name);
V make_alias(V id, V scope);
bool size_ok(C *c, const char *who, V n, size_t unit);
V make_error(int kind, const char *message, V irritants);
V list_of(size_t n, const V *v);
intptr_t list_length(V l); /* -1: no list */
/* For walks along a list: is this pair one that was passed before? Says so some time
 * after a circle has been entered. */
struct circle_check {
    V before;
    size_t n, next;
};
#define CIRCLE_CHECK                                                           \
    {                                                                          \
        0, 0, 64                                                               \
    }
static inline bool closes(struct circle_check *k, V pair)
{
    if (pair == k->before)
        return true;
    if (++k->n == k->next) {
        k->before = pair;
        k->next *= 2;
    }
    return false;
}
V reverse(V l);
V append2(V a, V b);
bool eqv(V a, V b);
bool string_equal(V a, V b);
uint64_t hash_string(V s);
uint32_t downcase(uint32_t ch);
void table_set(V t, V key, V value);
R table_delete(C *c, V table, V key);
V table_get(V t, V key, V otherwise);
V make_table(bool equal);
void objects_init(void);
void weak_init(void);
/* Optional bounds of a part of something; false with an error. */
bool range(C *c, const char *who, V from, V to, size_t length, size_t *lo,
           size_t *hi);

/* --- circle.c ---------------------------------------------------------------- */

bool equal(V a, V b);
/* Has x a circle? Pairs that begin with `opaque` are not looked into. */
bool circular(V x, V opaque);
V strip(V x); /* aliases in a datum replaced by their symbols */

/* --- number.c, bignum.c ------------------------------------------------------- */

V num_add(C *c, V a, V b);
V num_sub(C *c, V a, V b);
V num_mul(C *c, V a, V b);
int num_cmp(V a, V b); /* -1, 0, 1; 2: not comparable (NaN) */
bool is_number(V v);
bool is_exact_integer(V v);
double to_double(V v);
V parse_number(const char *s, size_t n, int radix); /* FALSE if it is none */
V number_to_string(V v, int radix);
V int_to_value(intptr_t n);

V big_add(V a, V b, bool subtract);
V big_mul(V a, V b);
void big_divide(V a, V b, V *quotient, V *remainder);
int big_cmp(V a, V b);
double big_to_double(V a);
size_t big_bits(V a);
V big_shift(V a, intptr_t n);
V big_from_double(double d);
V big_to_string(V a, int radix);
V big_parse(const char *s, size_t n, int radix);
uint64_t big_hash(V a);

/* --- native.c: on the thread's stack ------------------------------------------- */

void format_double(double d, char *out, size_t size);
double parse_double(const char *s);
/* Whole file, or NULL: *n bytes in a bytevector. */
V read_file(const char *path);
int open_file(const char *path, bool write);
void close_file(int fd);
bool write_all(int fd, const char *s, size_t n);
intptr_t read_some(int fd, char *out, size_t n);
bool file_exists(const char *path);
bool file_delete(const char *path);
double math(int op, double x, double y);
int64_t wall_clock_us(void);
size_t physical_memory(void);
V read_line_edited(const char *prompt); /* string; EOFV */
void history_open(void);
void print_statistics(void);
void lose_no_output(void);
enum {
    M_SQRT,
    M_EXP,
    M_LOG,
    M_SIN,
    M_COS,
    M_TAN,
    M_ASIN,
    M_ACOS,
    M_ATAN,
    M_ATAN2,
    M_POW
};

/* --- read.c, print.c, port.c -------------------------------------------------- */

V read_datum(C *c, V port); /* EOFV at the end; UNWIND */
V line_of(V pair);          /* fixnum; 0 */
void lines_forget(void);
extern V stdin_port, stdout_port, stderr_port;
V open_string_input(V s);
V open_port(int fd, bool input, bool binary);
V open_output_string(void);
int32_t port_get(V port); /* -1: end */
int32_t port_peek(V port);
void port_put(V port, uint32_t ch);
void port_puts(V port, const char *ascii);
void port_flush(V port);
void port_close(V port);
void print(C *c, V x, V port, bool write, bool shared);
V to_written(V x, bool write);
void ports_init(void);

/* --- expand.c, compile.c ------------------------------------------------------ */

V make_macro(C *c, V spec, V scope);
V expand_macro(C *c, V macro, V form, V scope);
V make_scope(V parent, bool frame);
/* What an identifier means where: a macro, special form (fixnum), or 0 */
V syntax_of(V id, V scope);
bool same_binding(V a, V scope_a, V b, V scope_b);
bool is_id(V x);
N *compile_toplevel(C *c, V x);
V eval_toplevel(C *c, V x);
void seal_prelude(void);
void syntax_init(void);
void expand_init(void);
extern V current_file;
enum find { FOUND_GLOBAL, FOUND_LOCAL, FOUND_MACRO };
enum find lookup(V id, V scope, unsigned *depth, V *what, V *found_scope);

/* --- exec.c, control.c --------------------------------------------------------- */

N *node(C *c, exec_fn exec, size_t n);
R invoke(C *c, V f, size_t n, const V *args); /* may return a tail call */
V apply(C *c, V f, size_t n, const V *args);  /* makes it */
R finish_slow(C *c, R r);
V throw(C * c, V payload,
        bool continuable); /* UNWIND, or what a handler returns */
V fail(C *c, const char *message, V irritants);
V fail1(C *c, const char *message, V irritant);
V wrong_type(C *c, const char *who, V what);
void trace_add(C *c, V name, V line, V file);
V make_promise(V kind, V value);
void print_error(C *c, V port); /* of the payload, with the trace */
C *make_ctx(C *parent);
void exit_process(C *c, int code);

/* A primitive of up to three arguments (max), or more: then it gets a vector. */
typedef R (*prim0)(C *);
typedef R (*prim1)(C *, V);
typedef R (*prim2)(C *, V, V);
typedef R (*prim3)(C *, V, V, V);
typedef R (*primn)(C *, size_t, const V *);
#define MANY 0xffff
struct prim {
    const char *name;
    void *fn;
    uint16_t min, max; /* of optional arguments those that lack are DEFAULT */
    uint8_t op;
};
void prims_add(const struct prim *p, size_t n);
#define PRIMS_ADD(table) prims_add(table, sizeof(table) / sizeof *(table))

/* How calls of some primitives are compiled. */
enum {
    P_NONE,
    P_CAR,
    P_CDR,
    P_CONS,
    P_NULLP,
    P_PAIRP,
    P_NOT,
    P_EQ,
    P_ADD,
    P_SUB,
    P_MUL,
    P_LT,
    P_GT,
    P_LE,
    P_GE,
    P_NUMEQ,
    P_ZEROP,
    P_VECTOR_REF,
    P_VECTOR_SET,
    P_CADR,
    P_CDDR,
    P_CAAR,
    P_SET_CAR,
    P_SET_CDR,
    P_REMAINDER,
    P_QUOTIENT,
};

void list_init(void);
void string_init(void);
void number_init(void);
void control_init(void);
void io_init(void);
void thread_init(void);
extern const char prelude[];

#endif

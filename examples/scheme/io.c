/* io.c - primitives for ports, files, time and the collector. */
#include "port.h"

#include <string.h>

static V current_input, current_output, current_error;

static V parameter_value(C *c, V parameter)
{
    return apply(c, parameter, 0, NULL);
}

/* The port that is meant; UNWIND if it is none. */
static V output(C *c, const char *who, V port)
{
    if (port == DEFAULT)
        port = parameter_value(c, current_output);
    if (!IS_PORT(port) || PORT(port)->input == TRUE ||
        PORT(port)->open == FALSE)
        return wrong_type(c, who, port);
    return port;
}

/* After what may have written to a file: has it? */
static R written(C *c, V port)
{
    if (PORT(port)->failed == FALSE)
        return RET(UNSPEC);
    PORT(port)->failed = FALSE;
    V l = cons(port, NIL);
    return RET(throw(c, make_error(E_FILE, "cannot write to", l), false));
}

static V input(C *c, const char *who, V port)
{
    if (port == DEFAULT)
        port = parameter_value(c, current_input);
    if (!IS_PORT(port) || PORT(port)->input == FALSE ||
        PORT(port)->open == FALSE)
        return wrong_type(c, who, port);
    return port;
}

#define OUTPUT(who)                                                            \
    port = output(c, who, port);                                               \
    if (port == UNWIND)                                                        \
    return RET(port)
#define INPUT(who)                                                             \
    port = input(c, who, port);                                                \
    if (port == UNWIND)                                                        \
    return RET(port)

static R p_write(C *c, V x, V port)
{
    OUTPUT("write");
    print(c, x, port, true, false);
    return written(c, port);
}

static R p_write_shared(C *c, V x, V port)
{
    OUTPUT("write-shared");
    print(c, x, port, true, true);
    return written(c, port);
}

static R p_display(C *c, V x, V port)
{
    OUTPUT("display");
    print(c, x, port, false, false);
    return written(c, port);
}

static R p_newline(C *c, V port)
{
    OUTPUT("newline");
    port_put(port, '\n');
    return written(c, port);
}

static R p_write_char(C *c, V ch, V port)
{
    OUTPUT("write-char");
    if (!IS_CHAR(ch))
        return RET(wrong_type(c, "write-char", ch));
    port_put(port, CODEPOINT(ch));
    return written(c, port);
}

static R p_write_u8(C *c, V x, V port)
{
    OUTPUT("write-u8");
    if (!IS_FIX(x) || INT(x) < 0 || INT(x) > 255)
        return RET(wrong_type(c, "write-u8", x));
    port_put(port, (uint32_t)INT(x));
    return written(c, port);
}

static R p_write_string(C *c, V s, V port)
{
    OUTPUT("write-string");
    if (!IS_STRING(s))
        return RET(wrong_type(c, "write-string", s));
    print(c, s, port, false, false);
    return written(c, port);
}

static R p_flush(C *c, V port)
{
    OUTPUT("flush-output-port");
    port_flush(port);
    return written(c, port);
}

static R p_read(C *c, V port)
{
    INPUT("read");
    return RET(read_datum(c, port));
}

static R p_read_char(C *c, V port)
{
    INPUT("read-char");
    int32_t ch = port_get(port);
    return RET(ch < 0 ? EOFV : CHAR(ch));
}

static R p_peek_char(C *c, V port)
{
    INPUT("peek-char");
    int32_t ch = port_peek(port);
    return RET(ch < 0 ? EOFV : CHAR(ch));
}

static R p_read_u8(C *c, V port)
{
    INPUT("read-u8");
    int32_t ch = port_get(port);
    return RET(ch < 0 ? EOFV : FIX(ch));
}

static R p_peek_u8(C *c, V port)
{
    INPUT("peek-u8");
    int32_t ch = port_peek(port);
    return RET(ch < 0 ? EOFV : FIX(ch));
}

static R p_char_ready(C *c, V port)
{
    INPUT("char-ready?");
    return RET(TRUE);
}

/* Characters up to `limit`, or to the end of the line. */
static R read_text(V port, intptr_t limit, bool line)
{
    V to = open_output_string();
    intptr_t n = 0;
    int32_t ch = 0;
    for (; n < limit && (ch = port_get(port)) >= 0; n++) {
        if (line && ch == '\n')
            break;
        port_put(to, (uint32_t)ch);
    }
    if (n == 0 && ch < 0)
        return RET(EOFV);
    return RET(port_contents(to));
}

static R p_read_line(C *c, V port)
{
    INPUT("read-line");
    return read_text(port, INTPTR_MAX, true);
}

static R p_read_string(C *c, V k, V port)
{
    INPUT("read-string");
    if (!IS_FIX(k) || INT(k) < 0)
        return RET(wrong_type(c, "read-string", k));
    return read_text(port, INT(k), false);
}

/* --- making ports ------------------------------------------------------------------ */

static R p_open_input_string(C *c, V s)
{
    if (!IS_STRING(s))
        return RET(wrong_type(c, "open-input-string", s));
    return RET(open_string_input(substring(s, 0, STR(s)->text->length)));
}

static R p_open_output_string(C *c)
{
    (void)c;
    return RET(open_output_string());
}

static R p_get_output_string(C *c, V port)
{
    if (!IS_PORT(port) || PORT(port)->fd != FIX(-1) ||
        PORT(port)->input == TRUE)
        return RET(wrong_type(c, "get-output-string", port));
    return RET(port_contents(port));
}

static R p_open_input_bytes(C *c, V b)
{
    if (!IS(b, T_BYTES))
        return RET(wrong_type(c, "open-input-bytevector", b));
    return RET(open_bytes(b, true));
}

static R p_open_output_bytes(C *c)
{
    (void)c;
    return RET(open_bytes(0, false));
}

static R p_get_output_bytes(C *c, V port)
{
    if (!IS_PORT(port) || PORT(port)->fd != FIX(-1) ||
        PORT(port)->input == TRUE)
        return RET(wrong_type(c, "get-output-bytevector", port));
    struct text *t = STR(port_contents(port))->text;
    V b = make_bytes(t->length);
    for (size_t i = 0; i < t->length; i++)
        BYTES(b)->data[i] = (unsigned char)text_ref(t, i);
    return RET(b);
}

static R no_file(C *c, const char *what, V path)
{
    V l = cons(path, NIL);
    return RET(throw(c, make_error(E_FILE, what, l), false));
}

/* For the system; NULL: no file has such a name. */
static const char *file_name(V path)
{
    struct text *t = STR(path)->text;
    size_t n;
    const char *s = to_utf8(t, 0, t->length, &n);
    return memchr(s, 0, n) == NULL ? s : NULL;
}

static R open_path(C *c, const char *who, V path, bool in, bool binary)
{
    if (!IS_STRING(path))
        return RET(wrong_type(c, who, path));
    const char *name = file_name(path);
    int fd = name != NULL ? open_file(name, !in) : -1;
    if (fd < 0)
        return no_file(c, "cannot open", path);
    return RET(open_port(fd, in, binary));
}

static R p_open_input_file(C *c, V path)
{
    return open_path(c, "open-input-file", path, true, false);
}

static R p_open_output_file(C *c, V path)
{
    return open_path(c, "open-output-file", path, false, false);
}

static R p_open_binary_input_file(C *c, V path)
{
    return open_path(c, "open-binary-input-file", path, true, true);
}

static R p_open_binary_output_file(C *c, V path)
{
    return open_path(c, "open-binary-output-file", path, false, true);
}

static R p_close(C *c, V port)
{
    if (!IS_PORT(port))
        return RET(wrong_type(c, "close-port", port));
    port_close(port);
    return written(c, port);
}

#define PORT_TEST(name, condition)                                             \
    static R name(C *c, V x)                                                   \
    {                                                                          \
        (void)c;                                                               \
        return RET(BOOL(IS_PORT(x) && (condition)));                           \
    }
PORT_TEST(p_port_p, true)
PORT_TEST(p_input_port_p, PORT(x)->input == TRUE)
PORT_TEST(p_output_port_p, PORT(x)->input == FALSE)
PORT_TEST(p_textual_port_p, PORT(x)->binary == FALSE)
PORT_TEST(p_binary_port_p, PORT(x)->binary == TRUE)
PORT_TEST(p_input_open_p, PORT(x)->input == TRUE && PORT(x)->open == TRUE)
PORT_TEST(p_output_open_p, PORT(x)->input == FALSE && PORT(x)->open == TRUE)

static R p_eof_object(C *c)
{
    (void)c;
    return RET(EOFV);
}

static R p_file_exists(C *c, V path)
{
    if (!IS_STRING(path))
        return RET(wrong_type(c, "file-exists?", path));
    const char *name = file_name(path);
    return RET(BOOL(name != NULL && file_exists(name)));
}

static R p_delete_file(C *c, V path)
{
    if (!IS_STRING(path))
        return RET(wrong_type(c, "delete-file", path));
    const char *name = file_name(path);
    if (name == NULL || !file_delete(name))
        return no_file(c, "cannot delete", path);
    return RET(UNSPEC);
}

/* --- programs, time, collector ------------------------------------------------------ */

V load_port(C *c, V port, V name)
{
    V outer = current_file, v = UNSPEC;
    mem_set(&current_file, name);
    PORT(port)->line = 1;
    for (;;) {
        lines_forget();
        V x = read_datum(c, port);
        if (x == EOFV)
            break;
        v = x == UNWIND ? x : eval_toplevel(c, x);
        if (v == UNWIND)
            break;
    }
    mem_set(&current_file, outer);
    return v;
}

static R p_load(C *c, V path, V environment)
{
    (void)environment;
    R port = open_path(c, "load", path, true, false);
    if (port.v == UNWIND)
        return port;
    V v = load_port(c, port.v, path);
    port_close(port.v);
    return RET(v);
}

static R p_current_jiffy(C *c)
{
    (void)c;
    return RET(FIX(thr_now() / 1000));
}

static R p_jiffies(C *c)
{
    (void)c;
    return RET(FIX(1000000));
}

static R p_current_second(C *c)
{
    (void)c;
    return RET(flonum((double)wall_clock_us() / 1e6));
}

static R p_gc(C *c)
{
    (void)c;
    mem_gc();
    return RET(UNSPEC);
}

/* An alist: collections, pauses, longest and median pause in microseconds, bytes of
 * heap and stacks. */
static R p_gc_stats(C *c)
{
    (void)c;
    struct mem_stats s;
    mem_stats(&s);
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"stack-bytes", s.stack_bytes},
               {"heap-bytes", s.heap_bytes},
               {"pause-median", s.pause_p50_ns / 1000},
               {"pause-longest", s.pause_max_ns / 1000},
               {"pauses", s.pauses},
               {"collections", s.collections}};
    V l = NIL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        l = cons(cons(sym(all[i].name), FIX(all[i].value)), l);
    return RET(l);
}

static R p_collector(C *c)
{
    (void)c;
    return RET(sym(MEM_NAME));
}

static V parameter(const char *name, V value)
{
    V make = SYM(sym("make-parameter"))->value;
    V p = ((prim2)PROC(make)->code->fn)(NULL, value, DEFAULT).v;
    mem_set(&SYM(sym(name))->value, p);
    return p;
}

void io_init(void)
{
    static const struct prim table[] = {
        {"write", p_write, 1, 2, 0},
        {"write-simple", p_write, 1, 2, 0},
        {"write-shared", p_write_shared, 1, 2, 0},
        {"display", p_display, 1, 2, 0},
        {"newline", p_newline, 0, 1, 0},
        {"write-char", p_write_char, 1, 2, 0},
        {"write-u8", p_write_u8, 1, 2, 0},
        {"write-string", p_write_string, 1, 2, 0},
        {"flush-output-port", p_flush, 0, 1, 0},
        {"read", p_read, 0, 1, 0},
        {"read-char", p_read_char, 0, 1, 0},
        {"peek-char", p_peek_char, 0, 1, 0},
        {"read-u8", p_read_u8, 0, 1, 0},
        {"peek-u8", p_peek_u8, 0, 1, 0},
        {"char-ready?", p_char_ready, 0, 1, 0},
        {"u8-ready?", p_char_ready, 0, 1, 0},
        {"read-line", p_read_line, 0, 1, 0},
        {"read-string", p_read_string, 1, 2, 0},
        {"open-input-string", p_open_input_string, 1, 1, 0},
        {"open-output-string", p_open_output_string, 0, 0, 0},
        {"get-output-string", p_get_output_string, 1, 1, 0},
        {"open-input-bytevector", p_open_input_bytes, 1, 1, 0},
        {"open-output-bytevector", p_open_output_bytes, 0, 0, 0},
        {"get-output-bytevector", p_get_output_bytes, 1, 1, 0},
        {"open-input-file", p_open_input_file, 1, 1, 0},
        {"open-output-file", p_open_output_file, 1, 1, 0},
        {"open-binary-input-file", p_open_binary_input_file, 1, 1, 0},
        {"open-binary-output-file", p_open_binary_output_file, 1, 1, 0},
        {"close-port", p_close, 1, 1, 0},
        {"close-input-port", p_close, 1, 1, 0},
        {"close-output-port", p_close, 1, 1, 0},
        {"port?", p_port_p, 1, 1, 0},
        {"input-port?", p_input_port_p, 1, 1, 0},
        {"output-port?", p_output_port_p, 1, 1, 0},
        {"textual-port?", p_textual_port_p, 1, 1, 0},
        {"binary-port?", p_binary_port_p, 1, 1, 0},
        {"input-port-open?", p_input_open_p, 1, 1, 0},
        {"output-port-open?", p_output_open_p, 1, 1, 0},
        {"eof-object", p_eof_object, 0, 0, 0},
        {"file-exists?", p_file_exists, 1, 1, 0},
        {"delete-file", p_delete_file, 1, 1, 0},
        {"load", p_load, 1, 2, 0},
        {"current-jiffy", p_current_jiffy, 0, 0, 0},
        {"jiffies-per-second", p_jiffies, 0, 0, 0},
        {"current-second", p_current_second, 0, 0, 0},
        {"gc", p_gc, 0, 0, 0},
        {"gc-stats", p_gc_stats, 0, 0, 0},
        {"collector", p_collector, 0, 0, 0},
    };
    PRIMS_ADD(table);
    current_input = parameter("current-input-port", stdin_port);
    current_output = parameter("current-output-port", stdout_port);
    current_error = parameter("current-error-port", stderr_port);
}

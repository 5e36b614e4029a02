/* main.c - the program: files, expressions, a prompt. */
#include "port.h"

#include <stdio.h>
#include <string.h>

static struct {
    int argc;
    char **argv;
    int status;
} start;

V load_port(C *c, V port, V name);

static const char usage[] =
    "usage: scheme [--stats] [-e EXPRESSION | FILE]... [-i]\n"
    "  no file and no expression, or -i: a prompt\n"
    "  --stats: statistics of the collector on stderr at the end\n";

/* After something has been evaluated: false when the program is to end. */
static bool settle(C *c, V v)
{
    if (v != UNWIND)
        return true;
    if (c->exit != 0) {
        start.status = (int)INT(c->exit);
        return false;
    }
    port_flush(stdout_port);
    print_error(c, stderr_port);
    start.status = 1;
    mem_set(&c->handlers, NIL);
    mem_set(&c->params, NIL);
    return false;
}

static bool load_file(C *c, const char *path)
{
    V bytes = read_file(path);
    if (bytes == 0) {
        port_puts(stderr_port, "scheme: cannot read ");
        port_puts(stderr_port, path);
        port_puts(stderr_port, "\n");
        start.status = 1;
        return false;
    }
    V text = string_from_n((const char *)BYTES(bytes)->data, LENGTH(bytes));
    return settle(c, load_port(c, open_string_input(text), string_from(path)));
}

static void show(C *c, V v)
{
    if (v != UNSPEC && v != UNWIND) {
        print(c, v, stdout_port, true, false);
        port_puts(stdout_port, "\n");
    }
}

/* How many parentheses are open, to ask for more lines; -1: inside of a string. */
static int open_parens(V s)
{
    struct text *t = STR(s)->text;
    int depth = 0;
    for (size_t i = 0; i < t->length; i++) {
        uint32_t ch = text_ref(t, i);
        if (ch == ';') {
            while (i < t->length && text_ref(t, i) != '\n')
                i++;
        } else if (ch == '"' || ch == '|') {
            for (i++; i < t->length && text_ref(t, i) != ch; i++)
                if (text_ref(t, i) == '\\')
                    i++;
            if (i >= t->length)
                return -1;
        } else if (ch == '#' && i + 2 < t->length &&
                   text_ref(t, i + 1) == '\\') {
            i += 2;
        } else if (ch == '(' || ch == '[') {
            depth++;
        } else if (ch == ')' || ch == ']') {
            depth--;
        }
    }
    return depth > 0 ? depth : 0;
}

static V join(V a, V b)
{
    V port = open_output_string();
    print(NULL, a, port, false, false);
    port_puts(port, "\n");
    print(NULL, b, port, false, false);
    return port_contents(port);
}

static void prompt(C *c)
{
    bool terminal = is_terminal(0);
    if (terminal)
        port_puts(stdout_port,
                  "Scheme on " MEM_NAME ". End with (exit) or Ctrl-D.\n");
    port_flush(stdout_port);
    history_open();
    for (;;) {
        V text = read_line_edited(terminal ? "> " : "");
        while (text != EOFV && open_parens(text) != 0) {
            V more = read_line_edited(terminal ? "  " : "");
            if (more == EOFV)
                break;
            text = join(text, more);
        }
        if (text == EOFV)
            break;
        V port = open_string_input(text);
        PORT(port)->line = 1;
        for (;;) {
            lines_forget();
            V x = read_datum(c, port);
            if (x == EOFV)
                break;
            V v = x == UNWIND ? x : eval_toplevel(c, x);
            show(c, v);
            if (!settle(c, v))
                break;
        }
        port_flush(stdout_port);
        if (c->exit != 0)
            return;
        start.status = 0;
    }
    if (terminal)
        port_puts(stdout_port, "\n");
}

static void run(void *unused)
{
    (void)unused;
    C *c = make_ctx(NULL);
    c->main = TRUE;
    ports_init();
    list_init();
    string_init();
    number_init();
    objects_init();
    weak_init();
    control_init();
    io_init();
    thread_init();
    syntax_init();
    V text = string_from(prelude);
    if (!settle(c,
                load_port(c, open_string_input(text), string_from("prelude"))))
        return;
    seal_prelude();
    bool interactive = true, stats = false, going = true;
    for (int i = 1; i < start.argc && going; i++) {
        const char *a = start.argv[i];
        if (strcmp(a, "-i") == 0) {
            interactive = true;
        } else if (strcmp(a, "--stats") == 0) {
            stats = true;
        } else if (strcmp(a, "-e") == 0 && i + 1 < start.argc) {
            interactive = false;
            V port = open_string_input(string_from(start.argv[++i]));
            V v = load_port(c, port, string_from("-e"));
            show(c, v);
            going = settle(c, v);
        } else {
            interactive = false;
            going = load_file(c, a);
        }
    }
    if (going && interactive)
        prompt(c);
    port_flush(stdout_port);
    port_flush(stderr_port);
    if (PORT(stdout_port)->failed == TRUE) {
        port_puts(stderr_port, "scheme: cannot write the output\n");
        port_flush(stderr_port);
        start.status = 1;
    }
    if (stats)
        print_statistics();
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-' && strcmp(argv[i], "-i") != 0 &&
            strcmp(argv[i], "-e") != 0 && strcmp(argv[i], "--stats") != 0 &&
            strcmp(argv[i - 1], "-e") != 0) {
            fputs(usage, stderr);
            return 2;
        }
    start.argc = argc;
    start.argv = argv;
    lose_no_output();
    int status = mem_run(run, NULL);
    stdout_port = 0;
    return status != 0 ? status : start.status;
}

/* native.c - what needs the C library: it may block or use much stack, so it runs as
 * native calls. This file is not compiled as managed code. */
#include "scheme.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_EDITLINE
#include <editline/readline.h>
#endif

struct format {
    double d;
    char *out;
    size_t size;
};

static void *do_format(void *arg)
{
    struct format *f = arg;
    if (isnan(f->d)) {
        snprintf(f->out, f->size, "+nan.0");
        return NULL;
    }
    if (isinf(f->d)) {
        snprintf(f->out, f->size, "%cinf.0", f->d < 0 ? '-' : '+');
        return NULL;
    }
    char digits[40];
    int precision = 1;
    for (; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, f->d);
        if (strtod(digits, NULL) == f->d)
            break;
    }
    snprintf(digits, sizeof digits, "%.*e", precision - 1, f->d);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= 21 || exponent < -6) {
        /* As d.ddde10 */
        char *e = strchr(digits, 'e');
        *e = 0;
        snprintf(f->out, f->size, "%s%se%d", digits,
                 strchr(digits, '.') ? "" : ".0", exponent);
        return NULL;
    }
    int after = precision - 1 - exponent;
    if (after >= 1) {
        snprintf(f->out, f->size, "%.*f", after, f->d);
        return NULL;
    }
    /* All digits that matter, then zeros. */
    char *to = f->out;
    for (const char *from = digits; *from != 'e'; from++)
        if (*from != '.')
            *to++ = *from;
    for (; after < 0; after++)
        *to++ = '0';
    strcpy(to, ".0");
    return NULL;
}

void format_double(double d, char *out, size_t size)
{
    struct format f = {d, out, size};
    mem_native(do_format, &f);
}

static void *do_parse(void *arg)
{
    struct format *f = arg;
    f->d = strtod(f->out, NULL);
    return NULL;
}

double parse_double(const char *s)
{
    struct format f = {0, (char *)(uintptr_t)s, 0};
    mem_native(do_parse, &f);
    return f.d;
}

struct math {
    int op;
    double x, y;
};

static void *do_math(void *arg)
{
    struct math *m = arg;
    switch (m->op) {
    case M_EXP:
        m->x = exp(m->x);
        break;
    case M_LOG:
        m->x = log(m->x);
        break;
    case M_SIN:
        m->x = sin(m->x);
        break;
    case M_COS:
        m->x = cos(m->x);
        break;
    case M_TAN:
        m->x = tan(m->x);
        break;
    case M_ASIN:
        m->x = asin(m->x);
        break;
    case M_ACOS:
        m->x = acos(m->x);
        break;
    case M_ATAN:
        m->x = atan(m->x);
        break;
    case M_ATAN2:
        m->x = atan2(m->x, m->y);
        break;
    default:
        m->x = pow(m->x, m->y);
        break;
    }
    return NULL;
}

double math(int op, double x, double y)
{
    struct math m = {op, x, y};
    mem_native(do_math, &m);
    return m.x;
}

struct io {
    const char *path;
    char *data;
    size_t n;
    intptr_t result;
    int fd;
    bool write;
};

static void *do_open(void *arg)
{
    struct io *io = arg;
    struct stat st;
    io->fd = open(io->path, io->write ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY,
                  0666);
    if (io->fd >= 0 && fstat(io->fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(io->fd);
        io->fd = -1;
    }
    return NULL;
}

int open_file(const char *path, bool write)
{
    struct io io = {.path = path, .write = write};
    mem_native(do_open, &io);
    return io.fd;
}

static void *do_close(void *arg)
{
    close(((struct io *)arg)->fd);
    return NULL;
}

void close_file(int fd)
{
    struct io io = {.fd = fd};
    mem_native(do_close, &io);
}

static void *do_write(void *arg)
{
    struct io *io = arg;
    while (io->n > 0) {
        ssize_t n = write(io->fd, io->data, io->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        io->data += n;
        io->n -= (size_t)n;
    }
    return NULL;
}

bool write_all(int fd, const char *s, size_t n)
{
    struct io io = {.fd = fd, .data = (char *)(uintptr_t)s, .n = n};
    mem_native(do_write, &io);
    return io.n == 0;
}

static void *do_read(void *arg)
{
    struct io *io = arg;
    io->result = read(io->fd, io->data, io->n);
    return NULL;
}

intptr_t read_some(int fd, char *out, size_t n)
{
    struct io io = {.fd = fd, .data = out, .n = n};
    mem_native(do_read, &io);
    return io.result;
}

static void *do_read_file(void *arg)
{
    struct io *io = arg;
    FILE *f = fopen(io->path, "rb");
    io->data = NULL;
    if (f == NULL)
        return NULL;
    size_t size = 0;
    for (;;) {
        char *more = realloc(io->data, size + 65536);
        if (more == NULL)
            break;
        io->data = more;
        size_t n = fread(io->data + size, 1, 65536, f);
        if (n == 0)
            break;
        size += n;
    }
    io->n = size;
    fclose(f);
    return NULL;
}

V read_file(const char *path)
{
    struct io io = {.path = path};
    mem_native(do_read_file, &io);
    if (io.data == NULL)
        return 0;
    V b = make_bytes(io.n);
    memcpy(BYTES(b)->data, io.data, io.n);
    free(io.data);
    return b;
}

static void *do_stat(void *arg)
{
    struct io *io = arg;
    struct stat st;
    io->result = io->write ? unlink(io->path) : stat(io->path, &st);
    return NULL;
}

bool file_exists(const char *path)
{
    struct io io = {.path = path};
    mem_native(do_stat, &io);
    return io.result == 0;
}

bool file_delete(const char *path)
{
    struct io io = {.path = path, .write = true};
    mem_native(do_stat, &io);
    return io.result == 0;
}

int64_t wall_clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

size_t physical_memory(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

bool is_terminal(int fd)
{
    return isatty(fd);
}

/* --- the prompt ---------------------------------------------------------------- */

static const char *prompt_text;

static void *do_line(void *arg)
{
    struct io *io = arg;
#ifdef HAVE_EDITLINE
    io->data = readline(prompt_text);
    if (io->data != NULL && io->data[0] != 0)
        add_history(io->data);
#else
    size_t size = 0;
    fputs(prompt_text, stdout);
    fflush(stdout);
    io->data = NULL;
    ssize_t n = getline(&io->data, &size, stdin);
    if (n < 0) {
        free(io->data);
        io->data = NULL;
    } else if (n > 0 && io->data[n - 1] == '\n') {
        io->data[n - 1] = 0;
    }
#endif
    return NULL;
}

void history_open(void)
{
#ifdef HAVE_EDITLINE
    using_history();
#endif
}

V read_line_edited(const char *prompt)
{
    struct io io = {0};
    prompt_text = prompt;
    mem_native(do_line, &io);
    if (io.data == NULL)
        return EOFV;
    V s = string_from(io.data);
    free(io.data);
    return s;
}

static void *do_statistics(void *unused)
{
    struct mem_stats s;
    mem_stats(&s);
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    fprintf(stderr,
            "stats: collector %s collections %llu pauses %llu median_us %.1f "
            "longest_us %.1f heap_mb %.1f peak_mb %.1f\n",
            MEM_NAME, (unsigned long long)s.collections,
            (unsigned long long)s.pauses, (double)s.pause_p50_ns / 1e3,
            (double)s.pause_max_ns / 1e3, (double)s.heap_bytes / 1e6,
            (double)r.ru_maxrss / 1e3);
    return unused;
}

void print_statistics(void)
{
    mem_native(do_statistics, NULL);
}

/* --- the end ------------------------------------------------------------------- */

/* What waits in standard output, for a process that ends without the interpreter:
 * out of memory, of stack, at a deadlock. Nobody else may be waited for by then. */
static void last_words(void)
{
    if (stdout_port == 0)
        return;
    struct port *p = PORT(stdout_port);
    struct io io = {
        .fd = STDOUT_FILENO, .data = (char *)p->text->chars, .n = p->length};
    p->length = 0;
    do_write(&io);
}

void lose_no_output(void)
{
    atexit(last_words);
    mem_at_fatal(last_words);
}

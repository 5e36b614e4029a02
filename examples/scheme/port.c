/* port.c - ports: strings, files, the terminal. What a port holds is protected by
 * its lock; functions that end in _raw are called with it. */
#include "port.h"

#include <string.h>

V stdin_port, stdout_port, stderr_port;

static V make_port(bool input, bool binary, int fd)
{
    struct port *p = mem_words((sizeof *p + 7) / sizeof(V));
    p->header = T_PORT;
    p->input = BOOL(input);
    p->binary = BOOL(binary);
    p->open = TRUE;
    p->fold = FALSE;
    p->failed = FALSE;
    p->fd = FIX(fd);
    return (V)p;
}

V open_string_input(V s)
{
    V port = make_port(true, false, -1);
    mem_set(&PORT(port)->text, STR(s)->text);
    PORT(port)->length = STR(s)->text->length;
    return port;
}

V open_port(int fd, bool input, bool binary)
{
    V port = make_port(input, binary, fd);
    mem_set(&PORT(port)->text, make_text(input ? 0 : 4096, 1));
    return port;
}

V open_output_string(void)
{
    V port = make_port(false, false, -1);
    mem_set(&PORT(port)->text, make_text(60, 1));
    return port;
}

V open_bytes(V bytes, bool input)
{
    V port = make_port(input, true, -1);
    size_t n = input ? LENGTH(bytes) : 0;
    mem_set(&PORT(port)->text, make_text(input ? n : 60, 1));
    if (input)
        memcpy(PORT(port)->text->chars, BYTES(bytes)->data, n);
    PORT(port)->length = n;
    return port;
}

/* --- input ----------------------------------------------------------------------- */

/* More of a file; false at its end. Characters are not cut in two. */
static bool refill(struct port *p)
{
    if (p->fd == FIX(-1) || p->open == FALSE)
        return false;
    if (p == PORT(stdin_port))
        port_flush(stdout_port);
    char *buffer = mem_bytes(4100);
    intptr_t n = read_some((int)INT(p->fd), buffer, 4096);
    if (n <= 0)
        return false;
    if (p->binary == TRUE) {
        mem_set(&p->text, make_text((size_t)n, 1));
        memcpy(p->text->chars, buffer, (size_t)n);
    } else {
        for (int more = 3; more > 0; more--) {
            /* Does the last character lack bytes? */
            intptr_t start = n - 1;
            while (start > 0 && start > n - 4 && (buffer[start] & 0xc0) == 0x80)
                start--;
            unsigned char first = (unsigned char)buffer[start];
            intptr_t wants = first < 0xc0   ? 1
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                                            : 4;
            if (n - start >= wants ||
                read_some((int)INT(p->fd), buffer + n, 1) != 1)
                break;
            n++;
        }
        V s = string_from_n(buffer, (size_t)n);
        mem_set(&p->text, STR(s)->text);
    }
    p->pos = 0;
    p->length = p->text->length;
    return true;
}

int32_t port_peek_raw(struct port *p)
{
    if (p->pos >= p->length && !refill(p))
        return -1;
    return (int32_t)text_ref(p->text, p->pos);
}

int32_t port_get_raw(struct port *p)
{
    int32_t c = port_peek_raw(p);
    if (c >= 0)
        p->pos++;
    if (c == '\n' && p->line > 0)
        p->line++;
    return c;
}

int32_t port_get(V port)
{
    thr_acquire(&PORT(port)->lock);
    int32_t c = port_get_raw(PORT(port));
    thr_release(&PORT(port)->lock);
    return c;
}

int32_t port_peek(V port)
{
    thr_acquire(&PORT(port)->lock);
    int32_t c = port_peek_raw(PORT(port));
    thr_release(&PORT(port)->lock);
    return c;
}

/* --- output ---------------------------------------------------------------------- */

static void flush_raw(struct port *p)
{
    if (p->fd != FIX(-1) && p->input == FALSE && p->length > 0) {
        if (!write_all((int)INT(p->fd), (char *)p->text->chars, p->length))
            p->failed = TRUE;
        p->length = 0;
    }
}

static void room(struct port *p, uint32_t ch)
{
    struct text *t = p->text;
    size_t width = ch > 0xff ? 4 : t->width;
    if (p->length < t->length && width <= t->width)
        return;
    size_t n = p->length < t->length ? t->length : t->length * 2;
    struct text *bigger = make_text(n, width);
    if (width == t->width)
        memcpy(bigger->chars, t->chars, p->length * width);
    else
        for (size_t i = 0; i < p->length; i++)
            text_put(bigger, i, text_ref(t, i));
    mem_set(&p->text, bigger);
}

void port_put_raw(struct port *p, uint32_t ch)
{
    if (p->fd == FIX(-1)) {
        room(p, ch);
        text_put(p->text, p->length++, ch);
        return;
    }
    if (p->length + 4 > p->text->length)
        flush_raw(p);
    if (p->binary == TRUE)
        p->text->chars[p->length++] = (unsigned char)ch;
    else
        p->length += utf8_encode(ch, (char *)p->text->chars + p->length);
}

void port_puts_raw(struct port *p, const char *s)
{
    for (; *s != 0; s++)
        port_put_raw(p, (unsigned char)*s);
}

void port_put(V port, uint32_t ch)
{
    thr_acquire(&PORT(port)->lock);
    port_put_raw(PORT(port), ch);
    thr_release(&PORT(port)->lock);
}

void port_puts(V port, const char *s)
{
    thr_acquire(&PORT(port)->lock);
    port_puts_raw(PORT(port), s);
    thr_release(&PORT(port)->lock);
}

void port_flush(V port)
{
    thr_acquire(&PORT(port)->lock);
    flush_raw(PORT(port));
    thr_release(&PORT(port)->lock);
}

void port_close(V port)
{
    struct port *p = PORT(port);
    thr_acquire(&p->lock);
    flush_raw(p);
    if (p->open == TRUE && INT(p->fd) > 2)
        close_file((int)INT(p->fd));
    if (p->open == TRUE && p->fd != FIX(-1) && INT(p->fd) > 2)
        p->fd = FIX(-1);
    p->open = FALSE;
    thr_release(&p->lock);
}

V port_contents(V port)
{
    struct port *p = PORT(port);
    thr_acquire(&p->lock);
    struct text *t = make_text(p->length, p->text->width);
    memcpy(t->chars, p->text->chars, p->length * t->width);
    thr_release(&p->lock);
    return make_string(t);
}

void ports_init(void)
{
    stdin_port = open_port(0, true, false);
    stdout_port = open_port(1, false, false);
    stderr_port = open_port(2, false, false);
}

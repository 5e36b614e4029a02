/* heap/mksizeclasses.c - makes heap/sizeclasses.h and heap/sizeclasses.c.
 *
 *   mksizeclasses [DIR]            writes both files into DIR, or heap
 *   mksizeclasses --check [DIR]    exits 1 if those there differ
 *
 * The rules, which check() holds every result against:
 *  1. Class sizes are multiples of 16 up to 32768, and of 128 above 1024, so
 *     that two small tables map a size to its class. Every power of two is a
 *     class: buffers of such sizes are common.
 *  2. Up to 128 each multiple of 16 is a class. Above, the largest waste of a
 *     class, its size less the smallest request it serves, is at most 1/8 of
 *     its size; there are as few classes as that allows.
 *  3. What is left at the end of a span is at most 1/8 of the span.
 *  4. A span has 16 objects or more where 128 KiB hold that many, so that the
 *     cost of taking one is shared; never more than 128 KiB.
 *  5. (offset * magic) >> 32 == offset / size for 0 <= offset <= span bytes.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 8192u
#define MAX_PAGES 16u
#define MAX_SMALL 32768u
#define FINE_LIMIT 1024u
#define FINE 16u
#define COARSE 128u
#define WANT_OBJECTS 16u
#define MAX_CLASSES 128

static uint32_t size_of[MAX_CLASSES], pages_of[MAX_CLASSES],
    objs_of[MAX_CLASSES], magic_of[MAX_CLASSES];
static uint32_t nclasses = 1; /* class 0 is not used */

static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("mksizeclasses: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static uint32_t next_size(uint32_t prev)
{
    if (prev < 128)
        return prev + 16;
    /* size - (prev + 1) <= size / 8 */
    uint32_t step = prev < FINE_LIMIT ? FINE : COARSE;
    uint32_t size = (prev + 1) * 8 / 7 / step * step;
    for (uint32_t pow2 = 256; pow2 <= MAX_SMALL; pow2 *= 2)
        if (prev < pow2 && size > pow2)
            size = pow2;
    return size;
}

static uint32_t tail(uint32_t size, uint32_t pages)
{
    return pages * PAGE % size;
}

static uint32_t choose_pages(uint32_t size)
{
    uint32_t want = WANT_OBJECTS;
    if (want * size > MAX_PAGES * PAGE) {
        /* As many as 128 KiB hold; less if the tail would be too long. */
        for (want = MAX_PAGES * PAGE / size; want > 1; want--) {
            uint32_t p = (want * size + PAGE - 1) / PAGE;
            if (tail(size, p) * 8 <= p * PAGE)
                break;
        }
    }
    uint32_t first = (want * size + PAGE - 1) / PAGE, best = 0;
    uint32_t last = first * 2 < MAX_PAGES ? first * 2 : MAX_PAGES;
    for (uint32_t p = first; p <= last; p++) {
        if (tail(size, p) * 8 > p * PAGE)
            continue;
        /* A longer span only for a clearly smaller tail: 1/64 of it. */
        if (best == 0 ||
            tail(size, p) * 64 / p + PAGE < tail(size, best) * 64 / best)
            best = p;
    }
    if (best == 0)
        die("no span length for objects of %u bytes", size);
    return best;
}

static void make(void)
{
    for (uint32_t prev = 0; prev < MAX_SMALL;) {
        uint32_t size = next_size(prev);
        if (size <= prev || nclasses >= MAX_CLASSES)
            die("no class after %u", prev);
        size_of[nclasses] = size;
        pages_of[nclasses] = choose_pages(size);
        objs_of[nclasses] = pages_of[nclasses] * PAGE / size;
        magic_of[nclasses] =
            (uint32_t)(((UINT64_C(1) << 32) + size - 1) / size);
        nclasses++;
        prev = size;
    }
}

static void check(void)
{
    for (uint32_t c = 1; c < nclasses; c++) {
        uint32_t size = size_of[c], span = pages_of[c] * PAGE;
        uint32_t step = size > FINE_LIMIT ? COARSE : FINE;
        if (size % step != 0 || size <= size_of[c - 1])
            die("class %u: size %u", c, size);
        if (size > 128 && (size - (size_of[c - 1] + 1)) * 8 > size)
            die("class %u: wastes more than 1/8 of %u", c, size);
        if ((span - objs_of[c] * size) * 8 > span || span > MAX_PAGES * PAGE)
            die("class %u: a span of %u pages", c, pages_of[c]);
        for (uint64_t off = 0; off <= span; off++)
            if ((off * magic_of[c]) >> 32 != off / size)
                die("class %u: magic fails at %u", c, (uint32_t)off);
    }
    if (size_of[nclasses - 1] != MAX_SMALL)
        die("the last class is %u", size_of[nclasses - 1]);
}

static uint32_t class_for(uint32_t size)
{
    uint32_t c = 1;
    while (size_of[c] < size)
        c++;
    return c;
}

/* --- output --------------------------------------------------------------- */

struct text {
    char buf[65536];
    size_t len;
};

static void out(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->buf + t->len, sizeof t->buf - t->len, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof t->buf - t->len)
        die("output too long");
    t->len += (size_t)n;
}

static void out_table(struct text *t, const char *decl, const uint32_t *v,
                      uint32_t n)
{
    out(t, "%s = {", decl);
    size_t col = 80;
    for (uint32_t i = 0; i < n; i++) {
        char num[16];
        int len = snprintf(num, sizeof num, "%u,", v[i]);
        if (col + 1 + (size_t)len > 79) {
            out(t, "\n   ");
            col = 3;
        }
        out(t, " %s", num);
        col += 1 + (size_t)len;
    }
    out(t, "\n};\n");
}

static uint32_t fine_len(void)
{
    return FINE_LIMIT / FINE + 1;
}
static uint32_t coarse_len(void)
{
    return (MAX_SMALL - FINE_LIMIT) / COARSE + 1;
}

static void make_header(struct text *t)
{
    out(t,
        "/* heap/sizeclasses.h - size classes of small objects.\n"
        " * Generated by heap/mksizeclasses.c, which says how they are "
        "chosen:\n"
        " * change that and run it. */\n"
        "#ifndef TARN_HEAP_SIZECLASSES_H_\n"
        "#define TARN_HEAP_SIZECLASSES_H_\n"
        "\n"
        "#include <stddef.h>\n"
        "#include <stdint.h>\n"
        "\n"
        "#define NUM_CLASSES %u /* with class 0, which is not used */\n"
        "\n"
        "extern const uint32_t class_size[NUM_CLASSES];  /* bytes */\n"
        "extern const uint8_t class_pages[NUM_CLASSES];  /* of a span */\n"
        "extern const uint16_t class_objs[NUM_CLASSES];  /* in a span */\n"
        "/* (off * magic) >> 32 == off / size, for 0 <= off <= span bytes */\n"
        "extern const uint32_t class_divmagic[NUM_CLASSES];\n"
        "\n"
        "/* By size in steps of %u up to %u, then in steps of %u. */\n"
        "extern const uint8_t class_of_fine[%u];\n"
        "extern const uint8_t class_of_coarse[%u];\n"
        "\n"
        "/* The smallest class that holds size bytes; 1 <= size <= %u. */\n"
        "static inline uint32_t size_to_class(size_t size)\n"
        "{\n"
        "    if (size <= %u)\n"
        "        return class_of_fine[(size + %u) / %u];\n"
        "    return class_of_coarse[(size - %u) / %u];\n"
        "}\n"
        "\n"
        "#endif\n",
        nclasses, FINE, FINE_LIMIT, COARSE, fine_len(), coarse_len(), MAX_SMALL,
        FINE_LIMIT, FINE - 1, FINE, FINE_LIMIT - (COARSE - 1), COARSE);
}

static void make_source(struct text *t)
{
    static uint32_t v[512];
    out(t, "/* heap/sizeclasses.c - generated by heap/mksizeclasses.c.\n"
           " *\n"
           " * class   size  span KiB  objects  tail %%  waste %%, at most\n");
    for (uint32_t c = 1; c < nclasses; c++)
        out(t, " * %5u %6u %9u %8u %7.1f %17.1f\n", c, size_of[c],
            pages_of[c] * PAGE / 1024, objs_of[c],
            100.0 * tail(size_of[c], pages_of[c]) / (pages_of[c] * PAGE),
            100.0 * (size_of[c] - size_of[c - 1] - 1) / size_of[c]);
    out(t, " */\n#include \"heap/sizeclasses.h\"\n\n");
    out_table(t, "const uint32_t class_size[NUM_CLASSES]", size_of, nclasses);
    out_table(t, "const uint8_t class_pages[NUM_CLASSES]", pages_of, nclasses);
    out_table(t, "const uint16_t class_objs[NUM_CLASSES]", objs_of, nclasses);
    out_table(t, "const uint32_t class_divmagic[NUM_CLASSES]", magic_of,
              nclasses);
    char decl[64];
    for (uint32_t i = 0; i < fine_len(); i++)
        v[i] = class_for(i == 0 ? 1 : i * FINE);
    snprintf(decl, sizeof decl, "const uint8_t class_of_fine[%u]", fine_len());
    out_table(t, decl, v, fine_len());
    for (uint32_t i = 0; i < coarse_len(); i++)
        v[i] = class_for(FINE_LIMIT + i * COARSE);
    snprintf(decl, sizeof decl, "const uint8_t class_of_coarse[%u]",
             coarse_len());
    out_table(t, decl, v, coarse_len());
}

static void put(const struct text *t, const char *dir, const char *name,
                bool compare)
{
    static char have[sizeof t->buf + 1];
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        die("path too long: %s", dir);
    FILE *f = fopen(path, compare ? "rb" : "wb");
    if (f == NULL)
        die("cannot open %s", path);
    if (compare) {
        size_t n = fread(have, 1, sizeof have, f);
        if (n != t->len || memcmp(have, t->buf, n) != 0)
            die("%s is not what this program makes", path);
    } else if (fwrite(t->buf, 1, t->len, f) != t->len) {
        die("cannot write %s", path);
    }
    if (fclose(f) != 0)
        die("cannot close %s", path);
}

int main(int argc, char **argv)
{
    bool compare = argc > 1 && strcmp(argv[1], "--check") == 0;
    const char *dir = argc > 1 + compare ? argv[1 + compare] : "heap";
    if (argc > 2 + compare || dir[0] == '-') {
        fputs("usage: mksizeclasses [--check] [DIR]\n", stderr);
        return 2;
    }
    static struct text header, source;
    make();
    check();
    make_header(&header);
    make_source(&source);
    put(&header, dir, "sizeclasses.h", compare);
    put(&source, dir, "sizeclasses.c", compare);
    return 0;
}

/* gc/pprof.c - the heap profile in pprof's format: one message of protocol buffers, not
 * compressed (github.com/google/pprof, proto/profile.proto).
 *
 * Messages are made in memory, each in that of the one around it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/symbol.h"
#include "base/sysmem.h"
#include "gc/profile.h"

/* Numbers of fields. */
enum {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_DROP_FRAMES = 7,
    PROFILE_TIME = 9,
    PROFILE_DURATION = 10,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_DEFAULT_TYPE = 14,
    TYPE_TYPE = 1,
    TYPE_UNIT = 2,
    SAMPLE_LOCATION = 1,
    SAMPLE_VALUE = 2,
    SAMPLE_LABEL = 3,
    LABEL_KEY = 1,
    LABEL_NUM = 3,
    LABEL_UNIT = 4,
    MAPPING_ID = 1,
    MAPPING_START = 2,
    MAPPING_LIMIT = 3,
    MAPPING_OFFSET = 4,
    MAPPING_FILE = 5,
    MAPPING_HAS_FUNCTIONS = 7,
    LOCATION_ID = 1,
    LOCATION_MAPPING = 2,
    LOCATION_ADDRESS = 3,
    LOCATION_LINE = 4,
    LINE_FUNCTION = 1,
    FUNCTION_ID = 1,
    FUNCTION_NAME = 2,
    FUNCTION_SYSTEM_NAME = 3,
    FUNCTION_FILE = 4,
};

struct bytes {
    char *p;
    size_t n, cap;
    bool failed;
};

struct mapping {
    uintptr_t lo, hi;
};

struct pprof {
    uint32_t profile; /* whose numbers are told */
    uint64_t interval;
    int64_t began_unix, began;
    struct bytes out, one,
        inner;          /* the profile, a message in it, one in that */
    struct bytes names; /* strings, each with its end */
    uint64_t nnames;
    uintptr_t *pc; /* all return addresses, once each, in order */
    size_t npc, cap_pc;
    struct mapping *map;
    size_t nmap;
    uintptr_t *fn; /* functions, by where they begin */
    size_t nfn;
    bool failed;
};

/* --- encoding ------------------------------------------------------------------------ */

static bool reserve(struct bytes *b, size_t n)
{
    if (b->failed || b->cap - b->n >= n)
        return !b->failed;
    size_t cap = 2 * b->cap + n + 64;
    char *p = sys_realloc(b->p, cap);
    b->failed = p == NULL;
    if (p != NULL) {
        b->p = p;
        b->cap = cap;
    }
    return p != NULL;
}

static void varint(struct bytes *b, uint64_t v)
{
    if (!reserve(b, 10))
        return;
    for (; v >= 0x80; v >>= 7)
        b->p[b->n++] = (char)(v | 0x80);
    b->p[b->n++] = (char)v;
}

static void number(struct bytes *b, uint32_t field, uint64_t v)
{
    varint(b, field << 3);
    varint(b, v);
}

static void put_bytes(struct bytes *b, uint32_t field, const void *p, size_t n)
{
    varint(b, field << 3 | 2);
    varint(b, n);
    if (n != 0 && reserve(b, n)) {
        memcpy(b->p + b->n, p, n);
        b->n += n;
    }
}

/* What was made in `from` becomes a field. */
static void message(struct bytes *b, uint32_t field, struct bytes *from)
{
    put_bytes(b, field, from->p, from->n);
    b->failed |= from->failed;
    from->n = 0;
}

/* The index of a string. */
static uint64_t name(struct pprof *w, const char *s)
{
    size_t n = strlen(s) + 1;
    uint64_t i = 0;
    for (size_t at = 0; at < w->names.n; i++) {
        if (strcmp(w->names.p + at, s) == 0)
            return i;
        at += strlen(w->names.p + at) + 1;
    }
    if (reserve(&w->names, n)) {
        memcpy(w->names.p + w->names.n, s, n);
        w->names.n += n;
        w->nnames++;
    }
    return i;
}

static void type(struct pprof *w, uint32_t field, const char *what,
                 const char *unit)
{
    number(&w->one, TYPE_TYPE, name(w, what));
    number(&w->one, TYPE_UNIT, name(w, unit));
    message(&w->out, field, &w->one);
}

/* --- samples ------------------------------------------------------------------------- */

static int by_address(const void *va, const void *vb)
{
    const uintptr_t *a = va, *b = vb;
    return (*a > *b) - (*a < *b);
}

static bool add_pc(struct pprof *w, uintptr_t pc)
{
    if (w->npc == w->cap_pc) {
        size_t cap = w->cap_pc ? 2 * w->cap_pc : 1024;
        uintptr_t *more = sys_realloc(w->pc, cap * sizeof *more);
        if (more == NULL)
            return false;
        w->pc = more;
        w->cap_pc = cap;
    }
    w->pc[w->npc++] = pc;
    return true;
}

/* Those of sites that are added while we look are not told of. */
static void list_addresses(struct pprof *w, const struct profile_site *first)
{
    for (const struct profile_site *s = first; s != NULL;
         s = atomic_load(&s->next))
        for (uint32_t i = 0; i < s->n; i++)
            if (!add_pc(w, s->pc[i])) {
                w->failed = true;
                return;
            }
    if (w->npc == 0)
        return;
    qsort(w->pc, w->npc, sizeof *w->pc, by_address);
    size_t kept = 1;
    for (size_t i = 1; i < w->npc; i++)
        if (w->pc[i] != w->pc[kept - 1])
            w->pc[kept++] = w->pc[i];
    w->npc = kept;
}

static uint64_t location_of(const struct pprof *w, uintptr_t pc)
{
    const uintptr_t *at =
        bsearch(&pc, w->pc, w->npc, sizeof *w->pc, by_address);
    return (uint64_t)(at - w->pc) + 1;
}

static uint64_t scaled(uint64_t n, double by)
{
    return (uint64_t)((double)n * by + 0.5);
}

static void put_sample(struct pprof *w, const struct profile_site *s)
{
    lock(&profile.lock);
    uint64_t allocs = s->profile == w->profile ? s->allocs : 0;
    uint64_t frees = s->frees;
    unlock(&profile.lock);
    if (allocs == 0)
        return;
    double each = 1 / sample_probability(w->interval, s->size);
    uint64_t made = scaled(allocs, each), used = scaled(allocs - frees, each);
    for (uint32_t i = 0; i < s->n; i++)
        varint(&w->inner, location_of(w, s->pc[i]));
    message(&w->one, SAMPLE_LOCATION, &w->inner);
    const uint64_t values[] = {made, made * s->size, used, used * s->size};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        varint(&w->inner, values[i]);
    message(&w->one, SAMPLE_VALUE, &w->inner);
    number(&w->inner, LABEL_KEY, name(w, "bytes"));
    number(&w->inner, LABEL_NUM, s->size);
    number(&w->inner, LABEL_UNIT, name(w, "bytes"));
    message(&w->one, SAMPLE_LABEL, &w->inner);
    message(&w->out, PROFILE_SAMPLE, &w->one);
}

/* --- mappings, locations, functions ------------------------------------------------------ */

static void put_mapping(struct pprof *w, const char *line)
{
    unsigned long lo, hi, offset;
    char flags[8], file[512] = "";
    if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %511[^\n]", &lo, &hi, flags,
               &offset, file) < 4 ||
        flags[2] != 'x')
        return;
    struct mapping *more = sys_realloc(w->map, (w->nmap + 1) * sizeof(*w->map));
    if (more == NULL) {
        w->failed = true;
        return;
    }
    w->map = more;
    w->map[w->nmap++] = (struct mapping){lo, hi};
    number(&w->one, MAPPING_ID, w->nmap);
    number(&w->one, MAPPING_START, lo);
    number(&w->one, MAPPING_LIMIT, hi);
    number(&w->one, MAPPING_OFFSET, offset);
    number(&w->one, MAPPING_FILE, name(w, file));
    number(&w->one, MAPPING_HAS_FUNCTIONS, 1);
    message(&w->out, PROFILE_MAPPING, &w->one);
}

static void put_mappings(struct pprof *w)
{
    char line[1024];
    FILE *f = fopen("/proc/self/maps", "re");
    if (f == NULL)
        return; /* addresses are left as they are */
    while (fgets(line, sizeof line, f) != NULL)
        put_mapping(w, line);
    fclose(f);
}

static uint64_t mapping_of(const struct pprof *w, uintptr_t pc)
{
    for (size_t i = 0; i < w->nmap; i++)
        if (pc - w->map[i].lo < w->map[i].hi - w->map[i].lo)
            return i + 1;
    return 0;
}

/* The number of the function; 0: nobody knows it. */
static uint64_t function_of(struct pprof *w, uintptr_t pc)
{
    struct symbol s;
    symbol_find(pc, &s);
    if (s.name[0] == '\0')
        return 0;
    for (size_t i = w->nfn; i-- > 0;)
        if (w->fn[i] == s.start)
            return i + 1;
    uintptr_t *more = sys_realloc(w->fn, (w->nfn + 1) * sizeof(*w->fn));
    if (more == NULL) {
        w->failed = true;
        return 0;
    }
    w->fn = more;
    w->fn[w->nfn++] = s.start;
    number(&w->inner, FUNCTION_ID, w->nfn);
    number(&w->inner, FUNCTION_NAME, name(w, s.name));
    number(&w->inner, FUNCTION_SYSTEM_NAME, name(w, s.name));
    number(&w->inner, FUNCTION_FILE, name(w, s.file));
    message(&w->out, PROFILE_FUNCTION, &w->inner);
    return w->nfn;
}

static void put_locations(struct pprof *w)
{
    for (size_t i = 0; i < w->npc; i++) {
        /* In the call, not behind it: that may be another function's. */
        uintptr_t pc = w->pc[i] - 1;
        uint64_t fn = function_of(w, pc), map = mapping_of(w, pc);
        number(&w->one, LOCATION_ID, i + 1);
        if (map != 0)
            number(&w->one, LOCATION_MAPPING, map);
        number(&w->one, LOCATION_ADDRESS, pc);
        if (fn != 0) {
            number(&w->inner, LINE_FUNCTION, fn);
            message(&w->one, LOCATION_LINE, &w->inner);
        }
        message(&w->out, PROFILE_LOCATION, &w->one);
    }
}

static void put_strings(struct pprof *w)
{
    for (size_t at = 0; at < w->names.n;) {
        size_t n = strlen(w->names.p + at);
        put_bytes(&w->out, PROFILE_STRING, w->names.p + at, n);
        at += n + 1;
    }
}

/* --- the file --------------------------------------------------------------------------- */

static void make(struct pprof *w)
{
    lock(&profile.lock);
    w->profile = atomic_load(&profile.number);
    w->interval = profile.interval;
    w->began_unix = profile.began_unix;
    w->began = profile.began;
    unlock(&profile.lock);
    const struct profile_site *first =
        atomic_load_explicit(&profile.sites, memory_order_acquire);
    name(w, "");
    type(w, PROFILE_SAMPLE_TYPE, "alloc_objects", "count");
    type(w, PROFILE_SAMPLE_TYPE, "alloc_space", "bytes");
    type(w, PROFILE_SAMPLE_TYPE, "inuse_objects", "count");
    type(w, PROFILE_SAMPLE_TYPE, "inuse_space", "bytes");
    list_addresses(w, first);
    if (w->failed)
        return;
    for (const struct profile_site *s = first; s != NULL;
         s = atomic_load(&s->next))
        put_sample(w, s);
    put_mappings(w);
    put_locations(w);
    number(&w->out, PROFILE_DROP_FRAMES, name(w, "tarn_alloc.*"));
    number(&w->out, PROFILE_TIME, (uint64_t)w->began_unix);
    number(&w->out, PROFILE_DURATION, (uint64_t)(nanotime() - w->began));
    type(w, PROFILE_PERIOD_TYPE, "space", "bytes");
    number(&w->out, PROFILE_PERIOD, w->interval);
    number(&w->out, PROFILE_DEFAULT_TYPE, name(w, "inuse_space"));
    put_strings(w);
    w->failed |=
        w->out.failed || w->one.failed || w->inner.failed || w->names.failed;
}

static int write_file(const char *path, const struct bytes *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int error = 0;
    if (fd < 0)
        return errno;
    for (size_t at = 0; at < b->n && error == 0;) {
        ssize_t n = write(fd, b->p + at, b->n - at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 ? EIO : errno;
    }
    if (close(fd) != 0 && error == 0)
        error = errno;
    return error;
}

static void release(struct pprof *w)
{
    sys_free(w->out.p);
    sys_free(w->one.p);
    sys_free(w->inner.p);
    sys_free(w->names.p);
    sys_free(w->pc);
    sys_free(w->map);
    sys_free(w->fn);
}

int profile_write(const char *path)
{
    struct pprof w = {.failed = false};
    make(&w);
    /* Where the next one has begun meanwhile, some of its places have lost what they
     * knew of this one. */
    while (!w.failed && w.profile != atomic_load(&profile.number)) {
        release(&w);
        w = (struct pprof){.failed = false};
        make(&w);
    }
    int error = w.failed ? ENOMEM : write_file(path, &w.out);
    release(&w);
    return error;
}

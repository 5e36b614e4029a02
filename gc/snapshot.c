/* gc/snapshot.c - tarn_heap_snapshot: the heap as V8's .heapsnapshot, a file of JSON
 * with nodes, edges and strings.
 *
 * Nodes come before edges, and an edge names its target by the target's place among the
 * nodes; native code may write to objects and globals meanwhile, so nothing may be
 * counted first and written later. So each object is looked at once: its edges go to a
 * second file that is appended at the end, its node to the first, whose head, with the
 * counts, is written last. The place of an object follows from its address: for each
 * KiB of the heap an array has how many objects begin below, the rest is counted in the
 * meta bytes.
 *
 * Nodes, in this order: the root; data segments, root ranges, handles, timers;
 * goroutines; finalizers; objects. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/symbol.h"
#include "base/sysmem.h"
#include "base/vm.h"
#include "gc/walk.h"
#include "tarn/native.h"

#define NODE_FIELDS 7u
#define BUFFER ((size_t)64 << 10)
#define HEAD_SIZE 4096u
#define OFFSETS 512u /* so many fields have names; further ones have numbers */
#define GLOBALS 256u /* and so many words of data segments */

/* Indices into the format's lists of types. */
enum { NODE_ARRAY = 1, NODE_OBJECT = 3, NODE_NATIVE = 8, NODE_SYNTHETIC = 9 };
enum { EDGE_ELEMENT = 1, EDGE_PROPERTY = 2, EDGE_INTERNAL = 3, EDGE_WEAK = 6 };

static const char head_format[] =
    "{\"snapshot\":{\"meta\":{\"node_fields\":[\"type\",\"name\",\"id\","
    "\"self_size\",\"edge_count\",\"trace_node_id\",\"detachedness\"],"
    "\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\",\"code\","
    "\"closure\",\"regexp\",\"number\",\"native\",\"synthetic\","
    "\"concatenated string\",\"sliced string\",\"symbol\",\"bigint\"],"
    "\"string\",\"number\",\"number\",\"number\",\"number\",\"number\"],"
    "\"edge_fields\":[\"type\",\"name_or_index\",\"to_node\"],"
    "\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\","
    "\"hidden\",\"shortcut\",\"weak\"],\"string_or_number\",\"node\"],"
    "\"trace_function_info_fields\":[\"function_id\",\"name\","
    "\"script_name\",\"script_id\",\"line\",\"column\"],"
    "\"trace_node_fields\":[\"id\",\"function_info_index\",\"count\","
    "\"size\",\"children\"],\"sample_fields\":[\"timestamp_us\","
    "\"last_assigned_id\"],\"location_fields\":[\"object_index\","
    "\"script_id\",\"line\",\"column\"]},\"node_count\":%llu,"
    "\"edge_count\":%llu,\"trace_function_count\":0}";

/* The strings that are always there; behind them the names of OFFSETS fields, of
 * words of data segments, of goroutines, and of types, each with one for arrays. */
static const char *const fixed[] = {
    "",
    "(roots)",
    "(data segments)",
    "(root ranges)",
    "(handles)",
    "(timers)",
    "(finalizers)",
    "(bytes)",
    "(conservative)",
    "(traced)",
    "weak reference",
    "value by weak key",
    "root",
};
enum {
    STR_EMPTY,
    STR_ROOTS,
    STR_SEGMENTS,
    STR_FINALIZERS = STR_SEGMENTS + 4,
    STR_BYTES,
    STR_CONSERVATIVE,
    STR_TRACED,
    STR_WEAK,
    STR_ENTRY,
    STR_ROOT,
    STR_FIELDS,
    STR_GLOBALS = STR_FIELDS + OFFSETS,
    STR_GOROUTINES = STR_GLOBALS + GLOBALS,
};
_Static_assert(ARRAY_LEN(fixed) == STR_FIELDS, "a name for each");

struct out {
    int fd, error; /* error: errno of the first failure */
    char *buf;
    size_t n;
};

struct snapshot {
    const char *path;
    struct out nodes, edges;
    uint32_t *below; /* for each KiB of the heap: objects that begin below it */
    size_t nbelow;
    struct g **stacks; /* that are roots */
    uint64_t *goid;    /* theirs: for when the world runs again */
    uint64_t stack;    /* whose edges are being written */
    uintptr_t global[GLOBALS];
    uint32_t nglobals;
    uint64_t nstacks, first_object; /* nodes before objects */
    uint64_t nnodes, nedges;        /* written */
    uint32_t ntypes;                /* seen: strings for so many */
    const struct tarn_type **types; /* by id */
    /* The node whose edges are being written. */
    uint64_t node_edges;
    tarn_status status;
};

/* --- output ----------------------------------------------------------------------- */

static void flush(struct out *o)
{
    for (size_t at = 0; at < o->n && o->error == 0;) {
        ssize_t w = write(o->fd, o->buf + at, o->n - at);
        if (w > 0)
            at += (size_t)w;
        else if (w == 0 || errno != EINTR)
            o->error = w == 0 ? EIO : errno;
    }
    o->n = 0;
}

static char *room(struct out *o, size_t n)
{
    if (BUFFER - o->n < n)
        flush(o);
    return o->buf + o->n;
}

static void put_char(struct out *o, char c)
{
    *room(o, 1) = c;
    o->n++;
}

static void put_text(struct out *o, const char *s)
{
    for (; *s != '\0'; s++)
        put_char(o, *s);
}

static void put_number(struct out *o, uint64_t v)
{
    char digits[20], *to = room(o, sizeof digits);
    size_t n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    o->n += n;
    while (n > 0)
        *to++ = digits[--n];
}

/* A string of JSON. Bytes that are not ASCII are taken for Latin-1, so that the file
 * is good UTF-8 whatever the name is. */
static void put_string(struct out *o, const char *s, const char *suffix)
{
    static const char hex[] = "0123456789abcdef";
    put_char(o, '"');
    for (const unsigned char *c = (const unsigned char *)s; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            put_char(o, '\\');
            put_char(o, (char)*c);
        } else if (*c < 0x20 || *c >= 0x7f) {
            put_text(o, "\\u00");
            put_char(o, hex[*c >> 4]);
            put_char(o, hex[*c & 15]);
        } else {
            put_char(o, (char)*c);
        }
    }
    put_text(o, suffix);
    put_char(o, '"');
}

/* --- nodes and edges ---------------------------------------------------------------- */

/* Objects that begin in the granules of n meta bytes; n is at most 64. */
static uint32_t colored(const uint8_t *m, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += (m[i] & META_COLOR) != 0;
    return found;
}

#define STEP ((size_t)1024)

static uint64_t node_of(const struct snapshot *s, const void *object)
{
    uintptr_t base = (uintptr_t)object, from = ALIGN_DOWN(base, STEP);
    return s->first_object + s->below[(from - heap.lo) / STEP] +
           colored(heap_meta(from), (base - from) / GRANULE);
}

static void put_edge(struct snapshot *s, uint32_t type, uint64_t name,
                     uint64_t to)
{
    if (s->nedges++ != 0)
        put_text(&s->edges, ",\n");
    put_number(&s->edges, type);
    put_char(&s->edges, ',');
    put_number(&s->edges, name);
    put_char(&s->edges, ',');
    put_number(&s->edges, to * NODE_FIELDS);
    s->node_edges++;
}

/* The node whose edges were written since the last one. */
static void put_node(struct snapshot *s, uint32_t type, uint64_t name,
                     uint64_t id, uint64_t size)
{
    struct out *o = &s->nodes;
    if (s->nnodes++ != 0)
        put_text(o, ",\n");
    const uint64_t fields[] = {type, name, id, size, s->node_edges};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        put_number(o, fields[i]);
        put_char(o, ',');
    }
    put_text(o, "0,0");
    s->node_edges = 0;
}

/* --- roots ---------------------------------------------------------------------------- */

#define GROUPS 4u /* segments, ranges, handles, timers */

struct root_state {
    struct snapshot *s;
    uint32_t group; /* whose edges are being written */
};

static void put_synthetic(struct snapshot *s, uint64_t name)
{
    put_node(s, NODE_SYNTHETIC, name, 2 * s->nnodes + 1, 0);
}

static void next_group(struct root_state *r)
{
    put_synthetic(r->s, STR_SEGMENTS + r->group++);
}

static bool group_edge(const struct tarn_root *root, void *vr)
{
    struct root_state *r = vr;
    while (r->group < (uint32_t)root->kind)
        next_group(r);
    struct snapshot *s = r->s;
    uint64_t to = node_of(s, root->target);
    if (root->kind == TARN_ROOT_SEGMENT && s->nglobals < GLOBALS) {
        s->global[s->nglobals] = (uintptr_t)root->slot;
        put_edge(s, EDGE_PROPERTY, STR_GLOBALS + s->nglobals++, to);
    } else {
        put_edge(s, EDGE_INTERNAL, STR_ROOT, to);
    }
    return true;
}
_Static_assert(TARN_ROOT_SEGMENT == 0 && TARN_ROOT_TIMER == GROUPS - 1,
               "groups are kinds");

static bool root_edge(const struct tarn_root *root, void *vs)
{
    struct snapshot *s = vs;
    /* A thread may have ended since stacks were listed, and another one begun. */
    if (root->kind == TARN_ROOT_STACK && root->id != s->goid[s->stack])
        return true;
    put_edge(s, EDGE_INTERNAL, STR_ROOT, node_of(s, root->target));
    return true;
}

static void put_roots(struct snapshot *s)
{
    for (uint64_t i = 1; i < s->first_object; i++)
        put_edge(s, EDGE_ELEMENT, i, i);
    put_synthetic(s, STR_ROOTS);
    struct root_state r = {s, 0};
    walk_other_roots(group_edge, &r);
    while (r.group < GROUPS)
        next_group(&r);
    for (s->stack = 0; s->stack < s->nstacks; s->stack++) {
        walk_stack(s->stacks[s->stack], root_edge, s);
        put_synthetic(s, STR_GOROUTINES + s->stack);
    }
    walk_finalizers(root_edge, s);
    put_synthetic(s, STR_FINALIZERS);
    ASSERT(s->nnodes == s->first_object);
}

/* --- objects -------------------------------------------------------------------------- */

static bool object_edge(const struct tarn_object_pointer *p, void *vs)
{
    struct snapshot *s = vs;
    uint64_t to = node_of(s, p->target), field = p->offset / 8;
    switch (p->kind) {
    case TARN_POINTER_FIELD:
        if (field < OFFSETS)
            put_edge(s, EDGE_PROPERTY, STR_FIELDS + field, to);
        else
            put_edge(s, EDGE_ELEMENT, p->offset, to);
        break;
    case TARN_POINTER_TRACED:
        put_edge(s, EDGE_INTERNAL, STR_TRACED, to);
        break;
    case TARN_POINTER_WEAK:
        put_edge(s, EDGE_INTERNAL, STR_WEAK, to);
        break;
    case TARN_POINTER_ENTRY:
        put_edge(s, EDGE_INTERNAL, STR_ENTRY, to);
        break;
    }
    return true;
}

static bool see_type(struct snapshot *s, const struct tarn_type *t)
{
    if (t->id >= s->ntypes) {
        uint32_t n = 2 * t->id + 16;
        const struct tarn_type **more =
            sys_realloc(s->types, n * sizeof(*more));
        if (more == NULL)
            return false;
        memset(more + s->ntypes, 0, (n - s->ntypes) * sizeof(*more));
        s->types = more;
        s->ntypes = n;
    }
    s->types[t->id] = t;
    return true;
}

static bool put_object(const struct objinfo *o, void *vs)
{
    struct snapshot *s = vs;
    const struct mspan *span = o->span;
    const struct tarn_type *t = span->type;
    uint64_t name =
        span->layout == LAYOUT_NOSCAN ? STR_BYTES : STR_CONSERVATIVE;
    uint32_t type = NODE_NATIVE;
    if (t != NULL) {
        if (!see_type(s, t)) {
            s->status = TARN_ENOMEM;
            return false;
        }
        bool array =
            span->large ? o->size >= 2 * t->size : heap.slots[span->slot].array;
        name = STR_GOROUTINES + s->nstacks + 2 * (uint64_t)t->id + array;
        type = array ? NODE_ARRAY : NODE_OBJECT;
    }
    walk_pointers(o, object_edge, s);
    /* The same for the same object in each snapshot; synthetic ones are odd. */
    put_node(s, type, name, 2 * ((o->base - heap.lo) / GRANULE) + 2, o->size);
    return s->nodes.error == 0 && s->edges.error == 0;
}

/* --- strings -------------------------------------------------------------------------- */

static void put_strings(struct snapshot *s)
{
    struct out *o = &s->nodes;
    char text[48];
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (i != 0)
            put_text(o, ",\n");
        put_string(o, fixed[i], "");
    }
    for (uint32_t i = 0; i < OFFSETS; i++) {
        snprintf(text, sizeof text, "+%u", i * 8);
        put_text(o, ",\n");
        put_string(o, text, "");
    }
    for (uint32_t i = 0; i < GLOBALS; i++) {
        struct symbol g = {.name = ""};
        text[0] = '\0';
        if (i < s->nglobals) {
            symbol_find(s->global[i], &g);
            snprintf(text, sizeof text, g.name[0] != '\0' ? "+%#lx" : "%#lx",
                     (unsigned long)(s->global[i] - g.start));
            if (s->global[i] == g.start)
                text[0] = '\0';
        }
        put_text(o, ",\n");
        put_string(o, g.name, text);
    }
    for (uint64_t i = 0; i < s->nstacks; i++) {
        snprintf(text, sizeof text, "goroutine %llu",
                 (unsigned long long)s->goid[i]);
        put_text(o, ",\n");
        put_string(o, text, "");
    }
    for (uint32_t i = 0; i < s->ntypes; i++)
        for (int array = 0; array < 2; array++) {
            put_text(o, ",\n");
            put_string(o, s->types[i] != NULL ? s->types[i]->name : "",
                       array && s->types[i] != NULL ? "[]" : "");
        }
}

/* --- all of it ------------------------------------------------------------------------ */

/* How many objects begin below each KiB. */
static bool count_objects(struct snapshot *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->nbelow; i++) {
        if (n > UINT32_MAX / NODE_FIELDS)
            return false;
        s->below[i] = (uint32_t)n;
        n += colored(heap_meta(heap.lo + i * STEP), STEP / GRANULE);
    }
    return true;
}

/* The stacks that are roots now: threads may come and go. */
static bool list_stacks(struct snapshot *s)
{
    size_t n = atomic_load(&allglen);
    s->stacks = sys_alloc(n * sizeof(*s->stacks));
    s->goid = sys_alloc(n * sizeof(*s->goid));
    if (s->stacks == NULL || s->goid == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        if (gc_stack_is_root(allg_at(i))) {
            s->goid[s->nstacks] = allg_at(i)->goid;
            s->stacks[s->nstacks++] = allg_at(i);
        }
    s->first_object = 1 + GROUPS + s->nstacks + 1;
    return true;
}

static void append(struct out *to, struct out *from)
{
    flush(from);
    if (from->error == 0 && lseek(from->fd, 0, SEEK_SET) != 0)
        from->error = errno;
    while (to->error == 0 && from->error == 0) {
        flush(to);
        ssize_t n = read(from->fd, to->buf, BUFFER);
        if (n > 0)
            to->n = (size_t)n;
        else if (n == 0)
            break;
        else if (errno != EINTR)
            from->error = errno;
    }
}

/* The head as long as it will be: JSON does not mind the spaces. */
static void put_head(struct snapshot *s)
{
    struct out *o = &s->nodes;
    char *text = room(o, HEAD_SIZE);
    int n =
        snprintf(text, HEAD_SIZE, head_format, (unsigned long long)s->nnodes,
                 (unsigned long long)s->nedges);
    ASSERT(n > 0 && (unsigned)n < HEAD_SIZE);
    memset(text + n, ' ', HEAD_SIZE - (unsigned)n - 1);
    text[HEAD_SIZE - 1] = '\n';
    o->n += HEAD_SIZE;
}

static void put_nodes(struct snapshot *s)
{
    put_head(s);
    put_text(&s->nodes, ",\"nodes\":[");
    put_roots(s);
    walk_objects(put_object, s);
}

/* What does not need the heap. */
static void put_rest(struct snapshot *s)
{
    put_text(&s->nodes, "],\n\"edges\":[");
    append(&s->nodes, &s->edges);
    put_text(&s->nodes, "],\n\"trace_function_infos\":[],\"trace_tree\":[],"
                        "\"samples\":[],\"locations\":[],\n\"strings\":[");
    put_strings(s);
    put_text(&s->nodes, "]}\n");
    flush(&s->nodes);
    if (s->nodes.error == 0 && lseek(s->nodes.fd, 0, SEEK_SET) != 0)
        s->nodes.error = errno;
    put_head(s);
    flush(&s->nodes);
}

static void snapshot_stopped(void *vs)
{
    struct snapshot *s = vs;
    heap_settle();
    uintptr_t used =
        atomic_load_explicit(&heap.used_hi, memory_order_acquire) - heap.lo;
    s->nbelow = used / STEP;
    size_t size = ALIGN_UP(s->nbelow * sizeof(*s->below) + 1, OS_PAGE);
    s->below = vm_map(size);
    if (s->below == NULL || !list_stacks(s))
        s->status = TARN_ENOMEM;
    else if (!count_objects(s))
        s->status = TARN_EOVERFLOW;
    else
        put_nodes(s);
    if (s->below != NULL)
        vm_release(s->below, size);
}

/* A file without a name, beside path, for the edges. */
static int open_second(const char *path)
{
    size_t n = strlen(path) + 32;
    char *name = sys_alloc(n);
    if (name == NULL) {
        errno = ENOMEM;
        return -1;
    }
    snprintf(name, n, "%s.edges-%d", path, (int)getpid());
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        unlink(name);
    int saved = errno;
    sys_free(name);
    errno = saved;
    return fd;
}

static void open_files(struct snapshot *s)
{
    s->nodes.buf = sys_alloc(BUFFER);
    s->edges.buf = sys_alloc(BUFFER);
    if (s->nodes.buf == NULL || s->edges.buf == NULL) {
        s->status = TARN_ENOMEM;
        return;
    }
    /* Nobody waits for the reader of a pipe while the world is stopped. */
    s->nodes.fd = open(
        s->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
    if (s->nodes.fd < 0) {
        s->nodes.error = errno;
        return;
    }
    s->edges.fd = open_second(s->path);
    if (s->edges.fd < 0)
        s->edges.error = errno;
}

static void close_files(struct snapshot *s)
{
    if (s->nodes.fd >= 0 && close(s->nodes.fd) != 0 && s->nodes.error == 0)
        s->nodes.error = errno;
    if (s->edges.fd >= 0)
        close(s->edges.fd);
    sys_free(s->nodes.buf);
    sys_free(s->edges.buf);
}

static bool good(const struct snapshot *s)
{
    return s->status == TARN_OK && s->nodes.error == 0 && s->edges.error == 0;
}

/* On g0: the stack need not have room for the C library, and errno is the thread's. */
static void first_part(void *vs)
{
    struct snapshot *s = vs;
    open_files(s);
    if (good(s))
        snapshot_stopped(s);
}

static void second_part(void *vs)
{
    struct snapshot *s = vs;
    if (good(s))
        put_rest(s);
    close_files(s);
    sys_free(s->stacks);
    sys_free(s->goid);
    sys_free(s->types);
}

static void *second_part_native(void *vs)
{
    second_part(vs);
    return NULL;
}

static tarn_status say(const struct snapshot *s, const char *path)
{
    int error = s->nodes.error != 0 ? s->nodes.error : s->edges.error;
    if (error != 0) {
        set_error("tarn_heap_snapshot: cannot write %.150s: %s", path,
                  strerror(error));
        return error == ENOMEM ? TARN_ENOMEM : TARN_ESYS;
    }
    if (s->status == TARN_ENOMEM)
        set_error("tarn_heap_snapshot: out of memory");
    else if (s->status == TARN_EOVERFLOW)
        set_error("tarn_heap_snapshot: more than %u objects",
                  UINT32_MAX / NODE_FIELDS);
    return s->status;
}

tarn_status tarn_heap_snapshot(const char *path, unsigned flags)
{
    if (!require_goroutine("tarn_heap_snapshot"))
        return TARN_ESTATE;
    if (path == NULL || (flags & ~(unsigned)TARN_SNAPSHOT_COLLECT) != 0) {
        set_error("tarn_heap_snapshot: no path, or flags %#x", flags);
        return TARN_EINVAL;
    }
    bool stopped = getg()->worldstopped;
    if (flags & TARN_SNAPSHOT_COLLECT) {
        if (stopped) {
            set_error("tarn_heap_snapshot: no collection while the caller has "
                      "stopped the world");
            return TARN_ESTATE;
        }
        tarn_status st = tarn_gc();
        if (st != TARN_OK)
            return st;
    }
    /* Not on the stack, which may move, or be taken for a root. */
    struct snapshot *s = sys_alloc(sizeof *s);
    if (s == NULL) {
        set_error("tarn_heap_snapshot: out of memory");
        return TARN_ENOMEM;
    }
    s->nodes.fd = s->edges.fd = -1;
    tarn_status st = stopped ? TARN_OK : tarn_world_stop();
    if (st == TARN_OK) {
        /* It may be in our stack, which has moved perhaps, and does so no more. */
        s->path = path;
        systemstack(first_part, s);
        if (stopped) {
            systemstack(second_part, s);
        } else {
            tarn_world_start();
            tarn_native_call(second_part_native, s);
        }
        st = say(s, path);
    }
    sys_free(s);
    return st;
}

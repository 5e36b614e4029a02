/* bench/mark_engines.c - ways to mark, over our own heap, one thread:
 *
 *   fifo    pointers wait in a short FIFO behind a prefetch of mark byte and
 *           object; what comes out is marked and scanned
 *   two     two FIFOs: the first behind a prefetch of the mark byte alone; only
 *           what turns out to be unmarked has its object prefetched
 *   rot     the same as two rings that always turn: no counts
 *   span    a pointer marks its object and queues its span; a span that comes
 *           out has all its objects scanned that were marked and not scanned
 *   finger  one pass over the heap in address order scans what is marked;
 *           a pointer behind the finger is pushed, and popped at once
 *
 *   mark_engines [-m million nodes, 10] [-c (huge pages)] [engine...]
 *
 * Nodes are of 32 bytes with three links. random: to anywhere; window: to one of
 * the 64 before or after; tree: to two children, made depth first. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "heap/heap.h"

#define LINKS 3
#define REPEAT 3

struct node {
    struct node *link[LINKS];
    uint64_t word;
};

static struct mcache cache;
static struct node **nodes;
static size_t nnodes;
static uint64_t rng = 1;
static uint32_t color;

static struct node *new_node(void)
{
    uint32_t slot = SLOT_CONSERVATIVE(size_to_class(sizeof(struct node)));
    uintptr_t p = mcache_alloc(&cache, slot);
    if (p == 0) {
        if (mcache_refill(&cache, slot) == 0)
            exit(1);
        p = mcache_alloc(&cache, slot);
    }
    return (struct node *)p;
}

/* --- graphs ----------------------------------------------------------------- */

static void make_random(void)
{
    for (size_t i = 0; i < nnodes; i++)
        nodes[i] = new_node();
    for (size_t i = 0; i < nnodes; i++)
        for (int k = 0; k < LINKS; k++)
            nodes[i]->link[k] =
                nodes[((rng = rng * UINT64_C(6364136223846793005) + 1) >> 20) %
                      nnodes];
    /* All of it from the first. */
    for (size_t i = 0; i + 1 < nnodes; i++)
        if (i % 3 == 0)
            nodes[i]->link[2] = nodes[(i / 3 * 2654435761u + 1) % nnodes];
}

static void make_window(void)
{
    for (size_t i = 0; i < nnodes; i++)
        nodes[i] = new_node();
    for (size_t i = 0; i < nnodes; i++)
        for (int k = 0; k < LINKS; k++) {
            size_t to = i + rand_below(&rng, 129);
            nodes[i]->link[k] = nodes[to < 64            ? 0
                                      : to - 64 < nnodes ? to - 64
                                                         : nnodes - 1];
        }
    for (size_t i = 0; i + 1 < nnodes; i++)
        nodes[i]->link[0] = nodes[i + 1];
}

static struct node *tree(int depth)
{
    struct node *n = new_node();
    if (nnodes < SIZE_MAX)
        nnodes++;
    if (depth > 0) {
        n->link[0] = tree(depth - 1);
        n->link[1] = tree(depth - 1);
    }
    return n;
}

static void make_tree(void)
{
    int depth = 0;
    while ((size_t)2 << (depth + 1) <= nnodes)
        depth++;
    nnodes = 0;
    nodes[0] = tree(depth);
}

/* --- the stack of all ---------------------------------------------------------- */

static uintptr_t *stack;
static size_t depth, room;

static inline void push(uintptr_t p)
{
    if (depth == room) {
        room = room ? room * 2 : 1 << 20;
        stack = realloc(stack, room * sizeof *stack);
        if (stack == NULL)
            abort();
    }
    stack[depth++] = p;
}

static inline bool is_marked(uintptr_t p)
{
    return (meta_load(heap_meta(p)) & META_COLOR) == color;
}

static inline void mark(uintptr_t p)
{
    uint8_t *m = heap_meta(p);
    meta_store(m, (uint8_t)((*m & ~META_COLOR) | color));
}

/* --- engines: each returns how many it marked ------------------------------------ */

static inline void scan_words(uintptr_t p, void (*found)(uintptr_t))
{
    uint8_t *m = heap_meta(p);
    for (uint8_t b = *m;; b = *++m, p += GRANULE) {
        uintptr_t v;
        if (b & META_PTR0 && heap_markable(v = *(uintptr_t *)p))
            found(v);
        if (b & META_PTR1 && heap_markable(v = *(uintptr_t *)(p + 8)))
            found(v);
        if (b & META_END)
            return;
    }
}

#define FIFO 16u
static unsigned fifo_len = FIFO;

static size_t run_fifo(void)
{
    uintptr_t fifo[64];
    uint32_t head = 0, n = 0;
    size_t marked = 0;
    for (;;) {
        if (n < fifo_len && depth > 0) {
            uintptr_t p = stack[--depth];
            __builtin_prefetch(heap_meta(p), 1);
            __builtin_prefetch((const void *)p);
            fifo[(head + n++) & 63] = p;
            continue;
        }
        if (n == 0)
            return marked;
        uintptr_t p = fifo[head++ & 63];
        n--;
        if (is_marked(p))
            continue;
        mark(p);
        marked++;
        scan_words(p, push);
    }
}

static size_t run_two(void)
{
    uintptr_t a[64], b[64];
    uint32_t ha = 0, na = 0, hb = 0, nb = 0;
    size_t marked = 0;
    for (;;) {
        if (na < fifo_len && depth > 0) {
            uintptr_t p = stack[--depth];
            __builtin_prefetch(heap_meta(p), 1);
            a[(ha + na++) & 63] = p;
            continue;
        }
        if (na > 0) {
            uintptr_t p = a[ha++ & 63];
            na--;
            if (!is_marked(p)) {
                mark(p);
                marked++;
                __builtin_prefetch((const void *)p);
                b[(hb + nb++) & 63] = p;
            }
            if (nb < fifo_len)
                continue;
        }
        if (nb == 0)
            return marked;
        uintptr_t p = b[hb++ & 63];
        nb--;
        scan_words(p, push);
    }
}

static size_t run_rot(void)
{
    uintptr_t a[FIFO] = {0}, b[FIFO] = {0};
    uint32_t i = 0, j = 0, idle = 0;
    size_t marked = 0;
    while (idle < 2 * FIFO + 2) {
        uintptr_t p = 0;
        if (depth > 0) {
            p = stack[--depth];
            __builtin_prefetch(heap_meta(p), 1);
            idle = 0;
        } else {
            idle++;
        }
        uintptr_t q = a[i % FIFO];
        a[i++ % FIFO] = p;
        if (q != 0) {
            uint8_t *m = heap_meta(q);
            uint8_t v = meta_load(m);
            if ((v & META_COLOR) == color)
                continue;
            meta_store(m, (uint8_t)((v & ~META_COLOR) | color));
            marked++;
            __builtin_prefetch((const void *)q);
        } else if (depth > 0) {
            continue;
        }
        uintptr_t r = b[j % FIFO];
        b[j++ % FIFO] = q;
        if (r != 0)
            scan_words(r, push);
    }
    return marked;
}

/* Marks at once; the colour says marked, CHECK scanned. A queue of spans. */
static uint8_t *queued;
static size_t span_marked;

static void span_found(uintptr_t p)
{
    if (is_marked(p))
        return;
    mark(p);
    span_marked++;
    size_t page = (p - heap.lo) >> PAGE_SHIFT;
    if (!queued[page]) {
        queued[page] = 1;
        push(page);
    }
}

static size_t run_span(void)
{
    uintptr_t first = stack[--depth];
    size_t head = 0;
    span_marked = 0;
    span_found(first);
    while (head < depth) {
        size_t page = stack[head++];
        if (head + 4 < depth)
            __builtin_prefetch(
                heap_meta(heap.lo + (stack[head + 4] << PAGE_SHIFT)));
        queued[page] = 0;
        uintptr_t p = heap.lo + (page << PAGE_SHIFT);
        uintptr_t end = p + PAGE_SIZE;
        for (; p < end; p += sizeof(struct node)) {
            uint8_t *m = heap_meta(p);
            if ((*m & META_COLOR) != color || *m & META_CHECK)
                continue;
            *m |= META_CHECK;
            scan_words(p, span_found);
        }
        if (head > 1 << 20 && head * 2 > depth) {
            memmove(stack, stack + head, (depth - head) * sizeof *stack);
            depth -= head;
            head = 0;
        }
    }
    depth = 0;
    return span_marked;
}

static uintptr_t finger;

static void finger_found(uintptr_t p)
{
    if (is_marked(p))
        return;
    mark(p);
    span_marked++;
    if (p < finger)
        push(p);
}

static size_t run_finger(void)
{
    uintptr_t first = stack[--depth];
    span_marked = 0;
    finger = heap.lo;
    finger_found(first);
    uintptr_t end = heap.lo + heap.mark_size;
    for (; finger < end;) {
        uintptr_t p = finger;
        uint8_t *m = heap_meta(p);
        finger += sizeof(struct node);
        if ((*m & META_COLOR) == color)
            scan_words(p, finger_found);
        while (depth > 0) {
            p = stack[--depth];
            scan_words(p, finger_found);
        }
    }
    return span_marked;
}

/* --- measuring ------------------------------------------------------------------- */

static const struct engine {
    const char *name;
    size_t (*run)(void);
} engines[] = {{"fifo", run_fifo},
               {"two", run_two},
               {"rot", run_rot},
               {"span", run_span},
               {"finger", run_finger}};

static void clear_check(struct mspan *s, void *unused)
{
    (void)unused;
    for (uintptr_t p = s->base; p < s->limit; p += s->elemsize)
        *heap_meta(p) &= (uint8_t)~META_CHECK;
}

static void collapse(uintptr_t lo, uintptr_t hi)
{
    size_t two = (size_t)2 << 20;
    lo = ALIGN_UP(lo, two);
    hi = ALIGN_DOWN(hi, two);
    if (lo < hi && (madvise((void *)lo, hi - lo, MADV_HUGEPAGE) != 0 ||
                    madvise((void *)lo, hi - lo, 25 /* MADV_COLLAPSE */) != 0))
        perror("collapse");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*make)(void);
    } graphs[] = {
        {"random", make_random}, {"window", make_window}, {"tree", make_tree}};
    size_t million = 10;
    int huge = 0, opt;
    while ((opt = getopt(argc, argv, "m:cf:")) != -1) {
        if (opt == 'm')
            million = strtoul(optarg, NULL, 0);
        else if (opt == 'f')
            fifo_len = (unsigned)atoi(optarg) & 63;
        else if (opt == 'c')
            huge = 1;
        else
            return 2;
    }
    if (!heap_init(64 * GiB) || !mcache_init(&cache))
        return 1;
    nodes = malloc(million * 1000000 * sizeof *nodes);
    queued = calloc(1 << 23, 1);
    printf("%zu million nodes, ns a node marked%s\n", million,
           huge ? ", huge pages" : "");
    for (size_t g = 0; g < ARRAY_LEN(graphs); g++) {
        nnodes = million * 1000000;
        graphs[g].make();
        mcache_flush(&cache);
        if (huge) {
            uintptr_t hi = atomic_load(&heap.used_hi);
            collapse((uintptr_t)heap_meta(heap.lo), (uintptr_t)heap_meta(hi));
            collapse(heap.lo, hi);
        }
        for (size_t e = 0; e < ARRAY_LEN(engines); e++) {
            bool wanted = optind == argc;
            for (int i = optind; i < argc; i++)
                wanted |= strcmp(argv[i], engines[e].name) == 0;
            if (!wanted)
                continue;
            double best = 0;
            size_t marked = 0;
            for (int r = 0; r < REPEAT; r++) {
                heap_flip_color(true);
                color = atomic_load(&heap.color);
                push((uintptr_t)nodes[0]);
                int64_t t = nanotime();
                marked = engines[e].run();
                double ns = (double)(nanotime() - t) / (double)marked;
                if (best == 0 || ns < best)
                    best = ns;
                if (engines[e].run == run_span)
                    heap_each_span(clear_check, NULL);
                /* What was not reached goes, so that the next flip finds one
                 * colour. */
                heap_sweep_start();
                while (heap_sweep_one() > 0)
                    ;
            }
            printf("%-8s %-8s %8.2f   (%zu of %zu)\n", graphs[g].name,
                   engines[e].name, best, marked, nnodes);
        }
        /* All of it dies. */
        heap_flip_color(true);
        heap_sweep_start();
        while (heap_sweep_one() > 0)
            ;
    }
    return 0;
}

/* memory_boehm.h - memory.h on Boehm's collector. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define GC_THREADS
#include <gc/gc.h>
#include <gc/gc_mark.h>

#define MEM_NAME "boehm"
#define MEM_WEAK 0
#define MEM_STACK (INT64_C(4) << 30)

void mem_fail(void) __attribute__((noreturn, cold));

static inline void *mem_words(size_t n)
{
    void *p = GC_MALLOC(n * sizeof(V));
    if (__builtin_expect(p == NULL, 0))
        mem_fail();
    return p;
}

void *mem_bytes(size_t n);
#define mem_set(slot, v) (*(V *)(slot) = (V)(v))
#define mem_init(slot, v) (*(V *)(slot) = (V)(v))
#define mem_init2(slot, a, b) (mem_init(slot, a), mem_init((V *)(slot) + 1, b))
#define mem_gc() GC_gcollect()
#define mem_native(fn, p) (fn)(p)
#define mem_at_fatal(fn) (void)(fn)

void mem_stats(struct mem_stats *s);
int mem_run(void (*fn)(void *), void *arg);

#ifdef MEMORY_BODY
#include <string.h>

void mem_fail(void)
{
    fprintf(stderr, "scheme: out of memory\n");
    exit(1);
}

void *mem_bytes(size_t n)
{
    void *p = GC_MALLOC_ATOMIC(n);
    return p == NULL ? mem_fail(), p : memset(p, 0, n);
}

/* Written with the allocation lock held. */
static uint64_t pause_start, pauses;
static uint32_t
    pause_us[1 << 16]; /* the first ones; the longest is kept anyway */
static uint64_t pause_max;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void GC_CALLBACK on_event(GC_EventType event)
{
    if (event == GC_EVENT_PRE_STOP_WORLD)
        pause_start = now();
    if (event != GC_EVENT_POST_START_WORLD)
        return;
    uint64_t ns = now() - pause_start;
    if (pauses < 1 << 16)
        pause_us[pauses] = (uint32_t)(ns / 1000);
    pauses++;
    if (ns > pause_max)
        pause_max = ns;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void mem_stats(struct mem_stats *s)
{
    size_t n = pauses < 1 << 16 ? pauses : 1 << 16;
    uint32_t *copy = malloc((n + 1) * sizeof *copy);
    copy[0] = 0;
    memcpy(copy, pause_us, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_value);
    *s = (struct mem_stats){
        GC_get_gc_no(),     pauses, copy[n / 2] * UINT64_C(1000), pause_max,
        GC_get_heap_size(), 0};
    free(copy);
}

static struct {
    void (*fn)(void *);
    void *arg;
} program;

static void *run(void *unused)
{
    program.fn(program.arg);
    return unused;
}

int mem_run(void (*fn)(void *), void *arg)
{
    GC_set_all_interior_pointers(0); /* else each object has a byte more */
    GC_INIT();
    GC_register_displacement(4); /* the tag of procedures */
    GC_start_mark_threads();
    GC_set_on_collection_event(on_event);
    program.fn = fn;
    program.arg = arg;
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, MEM_STACK);
    if (pthread_create(&thread, &attr, run, NULL) != 0)
        return 1;
    return pthread_join(thread, NULL);
}
#endif

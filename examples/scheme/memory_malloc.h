/* memory_malloc.h - memory.h on malloc, without any free. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MEM_NAME "malloc"
#define MEM_WEAK 0
#define MEM_STACK (INT64_C(4) << 30)

void mem_fail(void) __attribute__((noreturn, cold));

static inline void *mem_bytes(size_t n)
{
    void *p = calloc(1, n);
    if (__builtin_expect(p == NULL, 0))
        mem_fail();
    return p;
}

#define mem_words(n) mem_bytes((n) * sizeof(V))
#define mem_set(slot, v) (*(V *)(slot) = (V)(v))
#define mem_init(slot, v) (*(V *)(slot) = (V)(v))
#define mem_init2(slot, a, b) (mem_init(slot, a), mem_init((V *)(slot) + 1, b))
#define mem_gc() (void)0
#define mem_native(fn, p) (fn)(p)
#define mem_at_fatal(fn) (void)(fn)

void mem_stats(struct mem_stats *s);
int mem_run(void (*fn)(void *), void *arg);

#ifdef MEMORY_BODY
void mem_fail(void)
{
    fprintf(stderr, "scheme: out of memory\n");
    exit(1);
}

void mem_stats(struct mem_stats *s)
{
    *s = (struct mem_stats){0};
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

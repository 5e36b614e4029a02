/* threads.c - see threads.h. */
#include "threads.h"

#include <stdlib.h>

#ifdef MEMORY_TARN

int64_t thr_now(void)
{
    return tarn_now();
}

int thr_select(struct thr_case *cases, size_t n, bool has_default)
{
    struct tarn_select_case t[n == 0 ? 1 : n];
    for (size_t i = 0; i < n; i++)
        t[i] = (struct tarn_select_case){
            cases[i].chan, cases[i].send ? TARN_SELECT_SEND : TARN_SELECT_RECV,
            &cases[i].value, TARN_OK};
    int chosen = tarn_select(t, n, has_default);
    if (chosen >= 0)
        cases[chosen].closed = t[chosen].status == TARN_ECLOSED;
    return chosen;
}

struct after {
    void *chan;
    V value;
};

static void fire(void *arg)
{
    struct after *a = arg;
    chan_send(a->chan, a->value);
}

void *thr_after(int64_t ns, V value)
{
    struct after *a = mem_words(2);
    void *c = chan_new(1);
    mem_init(&a->chan, c);
    mem_init(&a->value, value);
    if (c == NULL || tarn_timer_start(ns, fire, a) == NULL)
        mem_fail();
    return c;
}

#else

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* A value that is on its way; the sender waits on the channel's condition until
 * it is taken, if the channel has no room. */
struct item {
    struct item *next;
    V value;
    bool taken;
};

struct chan {
    struct item *first, *last;
    size_t capacity, length, receivers;
    bool closed;
    pthread_cond_t changed;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t any_changed = PTHREAD_COND_INITIALIZER;
static size_t selects;
static atomic_size_t threads = 1;

static void changed(struct chan *c)
{
    pthread_cond_broadcast(&c->changed);
    if (selects > 0)
        pthread_cond_broadcast(&any_changed);
}

void *chan_new(size_t capacity)
{
    struct chan *c = mem_words((sizeof *c + 7) / 8);
    c->capacity = capacity;
    pthread_cond_init(&c->changed, NULL);
    return c;
}

static struct item *enqueue(struct chan *c, V v)
{
    struct item *it = mem_words(3);
    it->value = v;
    if (c->first == NULL)
        c->first = it;
    else
        c->last->next = it;
    c->last = it;
    c->length++;
    changed(c);
    return it;
}

static V dequeue(struct chan *c)
{
    struct item *it = c->first;
    c->first = it->next;
    c->length--;
    it->taken = true;
    changed(c);
    return it->value;
}

int chan_send(void *chan, V v)
{
    struct chan *c = chan;
    int status = THR_CLOSED;
    pthread_mutex_lock(&mutex);
    while (!c->closed && c->capacity > 0 && c->length >= c->capacity)
        pthread_cond_wait(&c->changed, &mutex);
    if (!c->closed) {
        struct item *it = enqueue(c, v);
        while (c->capacity == 0 && !it->taken && !c->closed)
            pthread_cond_wait(&c->changed, &mutex);
        if (c->capacity > 0 || it->taken)
            status = THR_OK;
    }
    pthread_mutex_unlock(&mutex);
    return status;
}

int chan_recv(void *chan, V *v)
{
    struct chan *c = chan;
    pthread_mutex_lock(&mutex);
    c->receivers++;
    changed(c);
    while (c->first == NULL && !c->closed)
        pthread_cond_wait(&c->changed, &mutex);
    c->receivers--;
    int status = c->first != NULL ? THR_OK : THR_CLOSED;
    *v = status == THR_OK ? dequeue(c) : 0;
    pthread_mutex_unlock(&mutex);
    return status;
}

int chan_close(void *chan)
{
    struct chan *c = chan;
    pthread_mutex_lock(&mutex);
    int status = c->closed ? THR_CLOSED : THR_OK;
    c->closed = true;
    changed(c);
    pthread_mutex_unlock(&mutex);
    return status;
}

static bool try_case(struct thr_case *k)
{
    struct chan *c = k->chan;
    if (k->send) {
        size_t room = c->capacity > 0 ? c->capacity : c->receivers;
        if (!c->closed && c->length >= room)
            return false;
        k->closed = c->closed;
        if (!c->closed)
            enqueue(c, k->value);
        return true;
    }
    if (c->first == NULL && !c->closed)
        return false;
    k->closed = c->first == NULL;
    k->value = k->closed ? 0 : dequeue(c);
    return true;
}

int thr_select(struct thr_case *cases, size_t n, bool has_default)
{
    int chosen = -1;
    pthread_mutex_lock(&mutex);
    selects++;
    while (chosen < 0) {
        size_t first = n > 0 ? (size_t)rand() % n : 0;
        for (size_t i = 0; i < n && chosen < 0; i++)
            if (try_case(&cases[(first + i) % n]))
                chosen = (int)((first + i) % n);
        if (chosen >= 0 || has_default)
            break;
        pthread_cond_wait(&any_changed, &mutex);
    }
    selects--;
    pthread_mutex_unlock(&mutex);
    return chosen;
}

struct start {
    void (*fn)(void *);
    void *arg;
};

static void *begin(void *arg)
{
    struct start *s = arg;
    s->fn(s->arg);
    atomic_fetch_sub(&threads, 1);
    return NULL;
}

int thr_go(void (*fn)(void *), void *arg)
{
    struct start *s = mem_words(2);
    s->fn = fn;
    s->arg = arg;
    pthread_t t;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 20);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&threads, 1);
    int e = pthread_create(&t, &attr, begin, s);
    pthread_attr_destroy(&attr);
    if (e != 0)
        atomic_fetch_sub(&threads, 1);
    return e == 0 ? THR_OK : THR_FAILED;
}

void thr_yield(void)
{
    sched_yield();
}

void thr_sleep(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    while (ns > 0 && nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

size_t thr_count(void)
{
    return atomic_load(&threads);
}

size_t thr_parallel(void)
{
    return (size_t)sysconf(_SC_NPROCESSORS_ONLN);
}

int64_t thr_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct after {
    int64_t ns;
    void *chan;
    V value;
};

static void fire(void *arg)
{
    struct after *a = arg;
    thr_sleep(a->ns);
    chan_send(a->chan, a->value);
}

void *thr_after(int64_t ns, V value)
{
    struct after *a = mem_words(3);
    a->ns = ns;
    a->chan = chan_new(1);
    a->value = value;
    if (thr_go(fire, a) != THR_OK)
        mem_fail();
    return a->chan;
}

#endif

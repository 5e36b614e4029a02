/* What tests/gdb.sh looks at from a debugger: goroutines parked, running, in native
 * calls and not started yet, in functions of known names; so many objects of a type.
 * Stops in stop_here; goes on to its end when it is let go. */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <tarn/tarn.h>
#include <unistd.h>

enum { WIDGETS = 1234, BLOB = 100000 };

struct widget {
    struct widget *next;
    uint64_t value[3];
};

static tarn_type *widget_type, *blob_type;
static tarn_chan *never;
static void *blob;
static int ends[2]; /* of a pipe */
static uint32_t spinning, in_native, reading, attached, leave;
static tarn_waitgroup done;

__attribute__((noinline)) void stop_here(void *first_widget)
{
    __asm__ volatile("" : : "r"(first_widget) : "memory");
}

/* Frames whose callers' registers are found by rbp, and registers to restore. */
__attribute__((noinline)) static int waits_here(int depth)
{
    int elem = 0;
    if (depth > 0) {
        int *p = &elem;
        __asm__ volatile("" : "+r"(p) : : "memory");
        int r = waits_here(depth - 1);
        return r + *p + depth;
    }
    return tarn_chan_recv(never, &elem) == TARN_ECLOSED ? 1 : 100;
}

__attribute__((noinline)) static void parked(void *arg)
{
    int *sum = arg;
    __atomic_fetch_add(sum, waits_here(3), __ATOMIC_RELAXED);
    tarn_waitgroup_done(&done);
}

static void spins_here(void *arg)
{
    (void)arg;
    __atomic_store_n(&spinning, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE)) {
#ifndef INTERRUPTED /* stopped anywhere, else here */
        tarn_poll();
#endif
    }
    tarn_waitgroup_done(&done);
}

static void *sleeps_here(void *arg)
{
    __atomic_store_n(&in_native, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE))
        poll(NULL, 0, 1);
    return arg;
}

static void calls_native(void *arg)
{
    tarn_native_call(sleeps_here, arg);
    tarn_waitgroup_done(&done);
}

/* On the goroutine's own stack, unlike what tarn_native_call calls. */
static void reads_here(void *arg)
{
    char c;
    (void)arg;
    __atomic_store_n(&reading, 1, __ATOMIC_RELEASE);
    long n = tarn_read(ends[0], &c, 1);
    if (n != 0)
        printf("read: %ld\n", n);
    tarn_waitgroup_done(&done);
}

/* A thread that the runtime has not made, on a stack of its own. */
__attribute__((noinline)) static void attached_here(void)
{
    tarn_native_enter();
    __atomic_store_n(&attached, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE))
        poll(NULL, 0, 1);
    tarn_native_leave();
    tarn_waitgroup_done(&done);
}

static void *attached_thread(void *arg)
{
    if (tarn_thread_attach() == TARN_OK)
        attached_here();
    return arg;
}

static void never_started(void *arg)
{
    (void)arg;
    tarn_waitgroup_done(&done);
}

static struct widget *widgets(void)
{
    struct widget *list = NULL;
    for (int i = 0; i < WIDGETS; i++) {
        struct widget *w = tarn_alloc(widget_type);
        if (w == NULL)
            return NULL;
        w->value[0] = (uint64_t)i;
        tarn_store(&w->next, list);
        list = w;
    }
    return list;
}

static int sum;

static void wait_for(const uint32_t *flag)
{
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE))
        tarn_yield();
}

static void first(void *arg)
{
    int *status = arg;
    struct widget *list = widgets();
    tarn_store(&blob, tarn_alloc_array(blob_type, BLOB / 8));
    tarn_store(&never, tarn_chan_new(sizeof(int), 2));
    tarn_waitgroup_add(&done, 7);
    tarn_go(parked, &sum);
    tarn_go(parked, &sum);
    tarn_go(calls_native, NULL);
    wait_for(&in_native);
    pthread_t thread;
    if (pipe(ends) != 0 ||
        pthread_create(&thread, NULL, attached_thread, NULL) != 0)
        return;
    wait_for(&attached);
    tarn_go(reads_here, NULL);
    wait_for(&reading);
    tarn_gc();
    tarn_go(spins_here, NULL);
    wait_for(&spinning);
    tarn_go(never_started, NULL);
    stop_here(list);
    __atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
    tarn_chan_close(never);
    close(ends[1]);
    tarn_waitgroup_wait(&done);
    pthread_detach(thread);
    *status = sum == 2 * (1 + 1 + 2 + 3) && list != NULL ? 0 : 1;
}

int main(void)
{
    static const uint64_t pointers[] = {TARN_PTR(struct widget, next)};
    static const struct tarn_type_info widget_info = {
        .name = "widget", .size = sizeof(struct widget), .ptrmap = pointers};
    static const struct tarn_type_info blob_info = {.name = "blob", .size = 8};
    static int status = 1;
    widget_type = tarn_type_register(&widget_info);
    blob_type = tarn_type_register(&blob_info);
    if (tarn_main(NULL, first, &status) != TARN_OK) {
        fprintf(stderr, "%s\n", tarn_last_error());
        return 1;
    }
    printf("%d\n", status);
    return status;
}

/* gc/events.c - listeners.
 *
 * All of them are one list, replaced as a whole. Who tells them counts as a reader
 * meanwhile, so that the old list is freed, and a removal returns, when nobody is in a
 * function of it. */
#include "gc/events.h"

#include "base/sysmem.h"
#include "stackscan/epoch.h"

struct list {
    uint32_t n;
    struct {
        uint32_t id;
        struct tarn_listener l;
    } at[TARN_LISTENERS_MAX];
};

_Atomic uint32_t gc_listeners;
static struct list *_Atomic list;
static struct mutex list_lock = MUTEX_INIT(LEAF);
static uint32_t last_id;
static struct epoch telling;
static _Atomic uint64_t mapped_told;

/* With the lock. */
static void publish(struct list *fresh)
{
    atomic_store(&gc_listeners, fresh->n);
    atomic_store(&sched_hooks.go_event, event_go);
    struct list *old = atomic_exchange(&list, fresh);
    wait_for_readers(&telling);
    sys_free(old);
}

static struct list *copy_of_list(void)
{
    struct list *fresh = sys_alloc(sizeof *fresh), *old = atomic_load(&list);
    if (fresh != NULL && old != NULL)
        *fresh = *old;
    return fresh;
}

tarn_status tarn_listener_add(const struct tarn_listener *l, uint32_t *id)
{
    if (l == NULL || id == NULL || l->struct_size != sizeof *l) {
        set_error("tarn_listener_add: %s",
                  l == NULL    ? "no listener"
                  : id == NULL ? "no place for its number"
                               : "struct_size is not that of this library");
        return TARN_EINVAL;
    }
    tarn_status s = TARN_OK;
    lock(&list_lock);
    struct list *fresh = copy_of_list();
    if (fresh == NULL) {
        s = TARN_ENOMEM;
    } else if (fresh->n == TARN_LISTENERS_MAX) {
        sys_free(fresh);
        s = TARN_ELIMIT;
    } else {
        fresh->at[fresh->n].id = *id = ++last_id;
        fresh->at[fresh->n++].l = *l;
        publish(fresh);
    }
    unlock(&list_lock);
    if (s == TARN_ENOMEM)
        set_error("tarn_listener_add: out of memory");
    else if (s == TARN_ELIMIT)
        set_error("tarn_listener_add: there are %d already",
                  TARN_LISTENERS_MAX);
    return s;
}

tarn_status tarn_listener_remove(uint32_t id)
{
    tarn_status s = TARN_EINVAL;
    lock(&list_lock);
    struct list *fresh = copy_of_list();
    if (fresh == NULL) {
        s = TARN_ENOMEM;
    } else {
        for (uint32_t i = 0; i < fresh->n; i++)
            if (fresh->at[i].id == id) {
                for (uint32_t k = i; k + 1 < fresh->n; k++)
                    fresh->at[k] = fresh->at[k + 1];
                fresh->n--;
                s = TARN_OK;
                break;
            }
        if (s == TARN_OK)
            publish(fresh);
        else
            sys_free(fresh);
    }
    unlock(&list_lock);
    if (s == TARN_EINVAL)
        set_error("tarn_listener_remove: there is no listener %u", id);
    else if (s == TARN_ENOMEM)
        set_error("tarn_listener_remove: out of memory");
    return s;
}

/* --- telling -------------------------------------------------------------------------- */

/* A reader who is to go on: else a change of the list, which waits for it with the
 * P in its hands, might wait for ever. */
static struct m *hold(void)
{
    return on_goroutine() ? acquirem() : NULL;
}

static void let_go(struct m *mp)
{
    if (mp != NULL)
        releasem(mp);
}

#define TELL(field, ...)                                                       \
    do {                                                                       \
        struct m *held_ = hold();                                              \
        uint32_t e_ = read_begin(&telling);                                    \
        const struct list *l_ = atomic_load(&list);                            \
        for (uint32_t i_ = 0; l_ != NULL && i_ < l_->n; i_++)                  \
            if (l_->at[i_].l.field != NULL)                                    \
                l_->at[i_].l.field(l_->at[i_].l.arg, __VA_ARGS__);             \
        read_end(&telling, e_);                                                \
        let_go(held_);                                                         \
    } while (0)

void event_gc(enum gc_event which, bool forced)
{
    struct tarn_gc_event e = {
        .cycle = gc.cycles_started,
        .full = heap.full,
        .forced = forced,
        .heap_bytes = atomic_load(&heap.live),
        .goal_bytes = atomic_load(&gc.goal),
    };
    switch (which) {
    case EVENT_BEGIN:
        TELL(gc_begin, &e);
        break;
    case EVENT_MARKED:
        TELL(gc_marked, &e);
        break;
    case EVENT_END:
        TELL(gc_end, &e);
        break;
    }
}

void event_stopped(enum tarn_stop_kind kind, int64_t ns, int64_t stopping_ns)
{
    TELL(stopped, kind, ns, stopping_ns);
}

void event_resized(uint64_t least)
{
    uint64_t now = atomic_load(&heap.mapped);
    uint64_t told = atomic_load(&mapped_told);
    uint64_t by = now > told ? now - told : told - now;
    if (by != 0 && by >= least &&
        atomic_compare_exchange_strong(&mapped_told, &told, now))
        TELL(resized, now);
}

void event_go(uint64_t goid, bool begins)
{
    if (begins)
        TELL(go_begin, goid);
    else
        TELL(go_end, goid);
}

void event_alloc_failed(size_t size)
{
    TELL(alloc_failed, size);
}

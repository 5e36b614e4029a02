/* gc/memory.c - tarn_memory_stats. */
#include "tarn/memory.h"
#include "base/sysmem.h"
#include "gc/gc.h"

static size_t thread_stacks(struct resident *r)
{
    size_t n = 0;
    for (const struct m *mp = atomic_load(&allm); mp != NULL;
         mp = mp->alllink) {
        /* An attached thread's own stack is the program's. */
        const struct stack *s = mp->foreign ? &mp->g0->stack : &mp->own;
        n += resident_bytes(r, s->lo, s->hi);
    }
    return n;
}

/* Of all that mimalloc has, n bytes are of a kind of their own. */
static uint64_t part(uint64_t *all, uint64_t n)
{
    n = n < *all ? n : *all;
    *all -= n;
    return n;
}

struct measure {
    struct tarn_memory_stats s;
    bool ok;
};

static void measure(void *vm)
{
    struct measure *k = vm;
    struct tarn_memory_stats *s = &k->s;
    struct resident r;
    struct heap_memory h;
    struct stack_memory st;
    resident_open(&r);
    k->ok = heap_memory(&r, &h);
    if (k->ok) {
        stacks_memory(&r, &st);
        s->object_bytes = h.objects;
        s->free_place_bytes = h.free_places;
        s->free_page_bytes = h.free_pages;
        s->stack_bytes = st.inuse;
        s->free_stack_bytes = st.unused;
        s->thread_stack_bytes = thread_stacks(&r);
        uint64_t rest = sys_resident(&r);
        s->heap_metadata_bytes =
            h.metadata - h.structs + part(&rest, h.structs);
        s->frozen_bytes = part(&rest, atomic_load(&stack_stats.frozen_bytes));
        s->goroutine_bytes =
            part(&rest, atomic_load(&allglen) * sizeof(struct g));
        lock(&gc.buflock);
        uint64_t bufs = gc.nbufs * sizeof(struct workbuf);
        unlock(&gc.buflock);
        s->mark_buffer_bytes = part(&rest, bufs);
        s->other_bytes = rest;
        s->total_bytes =
            s->object_bytes + s->free_place_bytes + s->free_page_bytes +
            s->heap_metadata_bytes + s->stack_bytes + s->free_stack_bytes +
            s->frozen_bytes + s->goroutine_bytes + s->thread_stack_bytes +
            s->mark_buffer_bytes + s->other_bytes;
    }
    resident_close(&r);
}

tarn_status tarn_memory_stats(struct tarn_memory_stats *out)
{
    if (!require_goroutine("tarn_memory_stats"))
        return TARN_ESTATE;
    if (out == NULL || out->struct_size == 0 ||
        out->struct_size > sizeof(*out)) {
        set_error("tarn_memory_stats: struct_size is %zu, not %zu",
                  out ? out->struct_size : 0, sizeof(*out));
        return TARN_EINVAL;
    }
    struct measure k = {.s = {.struct_size = out->struct_size}};
    bool stopped = getg()->worldstopped;
    tarn_status st = stopped ? TARN_OK : tarn_world_stop();
    if (st != TARN_OK)
        return st;
    systemstack(measure, &k);
    if (!stopped)
        tarn_world_start();
    if (!k.ok) {
        set_error("tarn_memory_stats: out of memory");
        return TARN_ENOMEM;
    }
    memcpy(out, &k.s, out->struct_size);
    return TARN_OK;
}

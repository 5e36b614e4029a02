/* tests/gcnodes.h - for tests of what stays reachable: nodes that can be checked,
 * and when the mark is met. */
#ifndef TARN_TESTS_GCNODES_H_
#define TARN_TESTS_GCNODES_H_

#include "gcsuite.h"

/* --- nodes ----------------------------------------------------------------- */

struct node {
    struct node *next, *other;
    uint64_t id, check;
};

static tarn_type *t_node;

static uint64_t mix(uint64_t id)
{
    return (id + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ UINT64_C(0x1234567);
}

static void register_types(void)
{
    uint64_t map = TARN_PTR(struct node, next) | TARN_PTR(struct node, other);
    struct tarn_type_info info = {"node", sizeof(struct node), &map, NULL};
    t_node = tarn_type_register(&info);
    CHECK(t_node != NULL);
}

__attribute__((noinline)) static struct node *new_node(uint64_t id)
{
    struct node *n = tarn_alloc(t_node);
    CHECK(n != NULL);
    CHECK(n->next == NULL && n->other == NULL && n->id == 0 && n->check == 0);
    n->id = id;
    n->check = mix(id);
    return n;
}

static void check_node(const struct node *n, uint64_t id)
{
    CHECK(n != NULL);
    CHECK_EQ(n->check, mix(id));
    CHECK_EQ(n->id, id);
    CHECK(tarn_object_base(n) == n);
}

/* --- meeting the mark --------------------------------------------------------- */

__attribute__((unused)) static bool marking(void)
{
    return atomic_load(&gc.phase) == GC_MARK;
}

__attribute__((unused)) static bool is_white(const void *p)
{
    return heap_white(meta_load(heap_meta((uintptr_t)p)));
}

/* My stack has been scanned in this mark: it is black. */
__attribute__((unused)) static bool stack_black(void)
{
    return marking() && gc_stack_scanned(getg());
}

/* A safe point; where there is but one P, others run. */
__attribute__((unused)) static void pause_briefly(void)
{
    if (nprocs > 1)
        tarn_poll();
    else
        tarn_yield();
}

/* A goroutine whose stack is one more root job, until the channel is closed. */
__attribute__((unused)) static void parked(void *vc)
{
    uint64_t v;
    tarn_chan_recv(vc, &v);
}

#endif

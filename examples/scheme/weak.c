/* weak.c - tables that do not keep their keys, where the memory management has them;
 * else the keys live as long as the table.
 *
 * Keys are compared by eq?. Numbers, characters and the like never die: they are in an
 * ordinary table beside the weak one. */
#include "scheme.h"

struct weak_table {
    V header;
    V others; /* table, for keys that are no objects */
    void *map;
};
#define WEAK(v) ((struct weak_table *)(v))

#if MEM_WEAK
/* The object that a value points to, or NULL. */
static void *object_of(V key)
{
    V tag = key & 15;
    return tag == 0 || tag == 4 ? (void *)(key & ~(V)15) : NULL;
}
#else
#define object_of(key) ((void)(key), (void *)NULL)
#define mem_weak_set(map, key, value) (void)0
#define mem_weak_get(map, key, value) false
#define mem_weak_remove(map, key) (void)0
#define mem_weak_count(map) 0
#define mem_weak_new() NULL
#endif

static R make_weak(C *c, size_t n, const V *a)
{
    (void)c, (void)n, (void)a;
    V others = make_table(false);
    struct weak_table *t = mem_words(sizeof *t / sizeof(V));
    t->header = T_WEAK_TABLE;
    mem_init(&t->others, others);
    void *map = mem_weak_new();
    mem_set(&t->map, map);
    return RET((V)t);
}

static R weak_p(C *c, V t)
{
    (void)c;
    return RET(BOOL(IS(t, T_WEAK_TABLE)));
}

static R weak_put(C *c, V t, V k, V v)
{
    if (!IS(t, T_WEAK_TABLE))
        return RET(wrong_type(c, "weak-table-set!", t));
    if (object_of(k) != NULL)
        mem_weak_set(WEAK(t)->map, object_of(k), v);
    else
        table_set(WEAK(t)->others, k, v);
    return RET(UNSPEC);
}

static R weak_ref(C *c, V t, V k, V otherwise)
{
    if (!IS(t, T_WEAK_TABLE))
        return RET(wrong_type(c, "weak-table-ref/default", t));
    if (object_of(k) == NULL)
        return RET(table_get(WEAK(t)->others, k, otherwise));
    V v = otherwise;
    return RET(mem_weak_get(WEAK(t)->map, object_of(k), &v) ? v : otherwise);
}

static R weak_delete(C *c, V t, V k)
{
    if (!IS(t, T_WEAK_TABLE))
        return RET(wrong_type(c, "weak-table-delete!", t));
    if (object_of(k) == NULL)
        return table_delete(c, WEAK(t)->others, k);
    mem_weak_remove(WEAK(t)->map, object_of(k));
    return RET(UNSPEC);
}

static R weak_count(C *c, V t)
{
    if (!IS(t, T_WEAK_TABLE))
        return RET(wrong_type(c, "weak-table-size", t));
    V others = ((struct table *)WEAK(t)->others)->count;
    return RET(FIX(INT(others) + (intptr_t)mem_weak_count(WEAK(t)->map)));
}

void weak_init(void)
{
    static const struct prim table[] = {
        {"make-weak-table", make_weak, 0, MANY, 0},
        {"weak-table?", weak_p, 1, 1, 0},
        {"weak-table-set!", weak_put, 3, 3, 0},
        {"weak-table-ref/default", weak_ref, 3, 3, 0},
        {"weak-table-delete!", weak_delete, 2, 2, 0},
        {"weak-table-size", weak_count, 1, 1, 0},
    };
    PRIMS_ADD(table);
}

/* Goroutines that build lists by recursion while the heap is collected. Says how much
 * went wrong, also with its exit status. */
#include <stdio.h>
#include <tarn/tarn.h>

enum { WORKERS = 10, NODES = 1000 };

struct node {
    struct node *next;
    uint64_t value;
};

static tarn_type *node_type;
static tarn_waitgroup done;
static uint64_t sums[WORKERS];

/* A linked list of 0 .. n-1, built by recursion, so that the stack grows. */
static struct node *build(uint64_t n)
{
    if (n == 0)
        return NULL;
    struct node *rest = build(n - 1);
    struct node *head = tarn_alloc(node_type);
    if (head == NULL)
        return NULL;
    head->value = n - 1;
    tarn_store(&head->next, rest);
    return head;
}

static void worker(void *arg)
{
    uint64_t *sum = arg;
    struct node *list = build(NODES);
    tarn_yield();
    for (struct node *n = list; n != NULL; n = n->next)
        *sum += n->value;
    tarn_waitgroup_done(&done);
}

static void first(void *arg)
{
    int *failures = arg;
    tarn_waitgroup_add(&done, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        if (tarn_go(worker, &sums[i]) != TARN_OK)
            ++*failures;
    *failures += tarn_gc() != TARN_OK;
    tarn_waitgroup_wait(&done);
    for (int i = 0; i < WORKERS; i++)
        *failures += sums[i] != (uint64_t)NODES * (NODES - 1) / 2;
}

int main(void)
{
    static const uint64_t pointers[] = {TARN_PTR(struct node, next)};
    static const struct tarn_type_info info = {
        .name = "node", .size = sizeof(struct node), .ptrmap = pointers};
    static int failures;
    node_type = tarn_type_register(&info);
    if (tarn_main(NULL, first, &failures) != TARN_OK) {
        fprintf(stderr, "tarn_main: %s\n", tarn_last_error());
        return 1;
    }
    printf("%d failures\n", failures);
    return failures != 0;
}

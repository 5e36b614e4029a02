/* bench/stress_graph.c - what all goroutines share. Managed.
 *
 * The board: squares, each with a structure or empty; structures move between
 * squares through locals of goroutines. The list: LIST nodes that are taken out
 * deep inside and put back in front, where the marker has been already. Mail:
 * structures that change hands through channels. */
#include "bench/stress.h"

/* --- board ------------------------------------------------------------------------- */

#define SQUARES 48
#define PIECES 32

static struct square {
    tarn_mutex lock;
    uint64_t id; /* 0: empty */
} squares[SQUARES];
/* A managed array: stores into it need the barrier. */
static void **board;

static void square_put(uint32_t i, void *const *slot, uint64_t id)
{
    tarn_store(&board[i], *slot);
    squares[i].id = id;
}

/* 0: it was empty. */
NI static uint64_t square_take(uint32_t i, void **slot)
{
    tarn_mutex_lock(&squares[i].lock);
    uint64_t id = squares[i].id;
    if (id != 0) {
        *slot = board[i];
        squares[i].id = 0;
        tarn_store(&board[i], NULL);
    }
    tarn_mutex_unlock(&squares[i].lock);
    return id;
}

NI static bool square_fill(uint32_t i, void *const *slot, uint64_t id)
{
    tarn_mutex_lock(&squares[i].lock);
    bool empty = squares[i].id == 0;
    if (empty)
        square_put(i, slot, id);
    tarn_mutex_unlock(&squares[i].lock);
    return empty;
}

static void board_init(void)
{
    board = tarn_alloc_conservative(SQUARES * sizeof(void *));
    if (board == NULL)
        stress_fail("allocation", tarn_last_error(), 0, NULL);
    for (uint32_t i = 0; i < PIECES; i++) {
        void *slot = NULL;
        uint64_t id = i + 1; /* the first numbers: nobody else has any yet */
        if (shape_id() != id)
            stress_fail("board", "the numbers do not begin with 1", id, NULL);
        shape_build(&slot, id);
        square_put(i, &slot, id);
    }
}

static void move_piece(uint64_t *rng)
{
    void *slot = NULL;
    uint64_t id = square_take(stress_below(rng, SQUARES), &slot);
    if (id == 0)
        return;
    shape_check(&slot, id, "taken from the board");
    if (stress_below(rng, 8) == 0)
        wait_until(hold_end(), rng);
    if (stress_below(rng, 4) == 0) /* another one like it */
        shape_build(&slot, id);
    uint32_t to;
    do
        to = stress_below(rng, SQUARES);
    while (!square_fill(to, &slot, id));
}

static void board_check(void)
{
    bool seen[PIECES] = {false};
    uint32_t n = 0;
    for (uint32_t i = 0; i < SQUARES; i++) {
        uint64_t id = squares[i].id;
        if (id == 0)
            continue;
        if (id > PIECES || seen[id - 1])
            stress_fail("board", "a piece is there twice", id, board[i]);
        seen[id - 1] = true;
        n++;
        shape_check(&board[i], id, "on the board, at the end");
    }
    if (n != PIECES)
        stress_fail("board", "pieces are missing", n, NULL);
}

/* --- list -------------------------------------------------------------------------------- */

#define LIST 4000

struct link {
    uint64_t magic, id;
    struct link *next;
    uint64_t check;
};
#define LINK_MAGIC UINT64_C(0x6c696e6b2d2d2d2d)

static tarn_mutex list_lock;
static struct link *list; /* the head, which stays */
static tarn_type *link_type;

static void check_link(const struct link *l, const char *where)
{
    if (l == NULL || tarn_object_base(l) != l)
        stress_fail(where, "it was freed, or the list is cut", 0, l);
    if (l->magic != LINK_MAGIC || l->check != stress_mix(LINK_MAGIC, l->id))
        stress_fail(where, "something else is in its place", l->id, l);
}

NI static struct link *new_link(uint64_t id)
{
    struct link *l = tarn_alloc(link_type);
    if (l == NULL)
        stress_fail("allocation", tarn_last_error(), id, NULL);
    l->magic = LINK_MAGIC;
    l->id = id;
    l->check = stress_mix(LINK_MAGIC, id);
    return l;
}

static void list_init(void)
{
    static const uint64_t map[1] = {TARN_PTR(struct link, next)};
    link_type = tarn_type_register(&(struct tarn_type_info){
        .name = "stress_link", .size = sizeof(struct link), .ptrmap = map});
    if (link_type == NULL)
        stress_fail("type", tarn_last_error(), 0, NULL);
    list = new_link(LIST);
    for (uint64_t i = 0; i < LIST; i++) {
        struct link *l = new_link(i);
        tarn_store(&l->next, list->next);
        tarn_store(&list->next, l);
    }
}

static void store(struct link **slot, struct link *value, bool bulk)
{
    if (bulk)
        tarn_copy(slot, &value, sizeof value);
    else
        tarn_store(slot, value);
}

/* The n-th comes to the front; or is replaced by a new one there. */
NI static void list_move(uint32_t n, bool renew, bool bulk)
{
    tarn_mutex_lock(&list_lock);
    struct link *before = list;
    for (; n > 0; n--) {
        before = before->next;
        check_link(before, "in the list");
    }
    struct link *l = before->next;
    if (l != NULL) {
        check_link(l, "in the list");
        store(&before->next, l->next, bulk);
        if (renew)
            l = new_link(l->id);
        store(&l->next, list->next, bulk);
        store(&list->next, l, bulk);
    }
    tarn_mutex_unlock(&list_lock);
}

static void list_check(void)
{
    static bool seen[LIST];
    uint64_t n = 0;
    for (uint64_t i = 0; i < LIST; i++)
        seen[i] = false;
    for (const struct link *l = list->next; l != NULL; l = l->next, n++) {
        check_link(l, "in the list, at the end");
        if (l->id >= LIST || seen[l->id])
            stress_fail("list", "a link is there twice", l->id, l);
        seen[l->id] = true;
    }
    if (n != LIST)
        stress_fail("list", "links are missing", n, NULL);
}

void behave_graph(uint64_t *rng)
{
    for (int i = 0; i < 4; i++) {
        list_move(stress_below(rng, LIST), stress_below(rng, 4) == 0,
                  stress_below(rng, 3) == 0);
        tarn_yield();
    }
    for (int i = 0; i < 8; i++)
        move_piece(rng);
}

/* --- mail ---------------------------------------------------------------------------------- */

struct letter {
    void *shape;
    uint64_t id;
};
static tarn_chan *boxes[3]; /* of different capacity */

void block_init(void)
{
    static const size_t cap[3] = {1, 4, 16};
    for (int i = 0; i < 3; i++) {
        boxes[i] = tarn_chan_new(sizeof(struct letter), cap[i]);
        if (boxes[i] == NULL)
            stress_fail("channel", tarn_last_error(), 0, NULL);
    }
}

NI static void check_letter(struct letter *l)
{
    shape_check(&l->shape, l->id, "sent through a channel");
    l->shape = NULL;
}

/* Sends one letter and receives one, in whichever order it goes. */
NI static void exchange(tarn_chan *c)
{
    struct letter out = {NULL, shape_id()}, in = {NULL, 0};
    shape_build(&out.shape, out.id);
    struct tarn_select_case cases[2] = {
        {c, TARN_SELECT_SEND, &out, TARN_OK},
        {c, TARN_SELECT_RECV, &in, TARN_OK},
    };
    for (int done = 0; done < 2; done++) {
        int i = tarn_select(cases, 2, false);
        if (i < 0 || cases[i].status != TARN_OK)
            stress_fail("select", tarn_last_error(), out.id, NULL);
        cases[i].chan = NULL;
        if (i == 0)
            out.shape = NULL;
        else
            check_letter(&in);
    }
}

/* A structure that is handed on under a mutex, with a semaphore of two. */
static tarn_mutex hand_lock;
static tarn_sema hand_sema = {2, {0, 0, NULL, NULL}};
static void **hand;
static uint64_t hand_id;

NI static void hand_on(void)
{
    void *slot = NULL;
    uint64_t id = shape_id();
    shape_build(&slot, id);
    tarn_sema_acquire(&hand_sema);
    tarn_mutex_lock(&hand_lock);
    void *had = *hand;
    uint64_t had_id = hand_id;
    tarn_store(hand, slot);
    hand_id = id;
    if (id % 16 == 0)
        tarn_yield(); /* others have to wait */
    tarn_mutex_unlock(&hand_lock);
    tarn_sema_release(&hand_sema);
    if (had != NULL)
        shape_check(&had, had_id, "handed on under a mutex");
}

void behave_block(uint64_t *rng)
{
    for (int i = 0; i < 4; i++) {
        exchange(boxes[stress_below(rng, 3)]);
        hand_on();
    }
    if (stress_below(rng, 8) == 0)
        tarn_sleep(stress_below(rng, 200000));
}

/* --- begin and end --------------------------------------------------------------------------- */

void graph_init(void)
{
    board_init();
    list_init();
    hand = tarn_alloc_conservative(sizeof *hand);
    if (hand == NULL)
        stress_fail("allocation", tarn_last_error(), 0, NULL);
}

void graph_check(void)
{
    struct letter l;
    for (int i = 0; i < 3; i++)
        while (tarn_chan_try_recv(boxes[i], &l) == TARN_OK)
            check_letter(&l);
    if (*hand != NULL)
        shape_check(hand, hand_id, "handed on, at the end");
    board_check();
    list_check();
}

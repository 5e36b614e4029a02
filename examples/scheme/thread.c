/* thread.c - primitives for goroutines and channels. */
#include "scheme.h"

static void begin(void *arg)
{
    C *c = arg;
    V thunk = c->thunk;
    mem_set(&c->thunk, 0);
    if (apply(c, thunk, 0, NULL) != UNWIND)
        return;
    port_flush(stdout_port);
    port_puts(stderr_port, "in a goroutine: ");
    print_error(c, stderr_port);
}

static R p_go(C *c, V thunk)
{
    if (!IS_PROC(thunk))
        return RET(wrong_type(c, "go", thunk));
    C *new = make_ctx(c);
    mem_init(&new->thunk, thunk);
    if (thr_go(begin, new) != THR_OK)
        return RET(fail(c, "cannot start another goroutine", NIL));
    return RET(UNSPEC);
}

static R p_yield(C *c)
{
    (void)c;
    thr_yield();
    return RET(UNSPEC);
}

static bool seconds(V x, int64_t *ns)
{
    if (!is_number(x))
        return false;
    double d = to_double(x) * 1e9;
    *ns = d > 0 && d < 9e18 ? (int64_t)d : 0;
    return true;
}

static R p_sleep(C *c, V x)
{
    int64_t ns;
    if (!seconds(x, &ns))
        return RET(wrong_type(c, "sleep", x));
    thr_sleep(ns);
    return RET(UNSPEC);
}

static V wrap(void *chan)
{
    if (chan == NULL)
        mem_fail();
    struct channel *ch = mem_words(2);
    ch->header = T_CHANNEL;
    mem_init(&ch->chan, chan);
    return (V)ch;
}

static R p_make_channel(C *c, V capacity)
{
    if (capacity == DEFAULT)
        capacity = FIX(0);
    if (!IS_FIX(capacity) || INT(capacity) < 0 || INT(capacity) > 1 << 28)
        return RET(wrong_type(c, "make-channel", capacity));
    return RET(wrap(chan_new((size_t)INT(capacity))));
}

/* (after seconds): a channel that gets #t then. */
static R p_after(C *c, V x)
{
    int64_t ns;
    if (!seconds(x, &ns))
        return RET(wrong_type(c, "after", x));
    return RET(wrap(thr_after(ns, TRUE)));
}

static R p_send(C *c, V ch, V x)
{
    if (!IS(ch, T_CHANNEL))
        return RET(wrong_type(c, "channel-send!", ch));
    if (chan_send(CHANNEL(ch)->chan, x) != THR_OK)
        return RET(fail(c, "channel-send!: the channel is closed", NIL));
    return RET(UNSPEC);
}

/* The end-of-file object when the channel is closed and empty. */
static R p_recv(C *c, V ch)
{
    V x;
    if (!IS(ch, T_CHANNEL))
        return RET(wrong_type(c, "channel-receive", ch));
    return RET(chan_recv(CHANNEL(ch)->chan, &x) == THR_OK ? x : EOFV);
}

static R p_close(C *c, V ch)
{
    if (!IS(ch, T_CHANNEL))
        return RET(wrong_type(c, "channel-close!", ch));
    chan_close(CHANNEL(ch)->chan);
    return RET(UNSPEC);
}

static R p_channel_p(C *c, V x)
{
    (void)c;
    return RET(BOOL(IS(x, T_CHANNEL)));
}

/* (%select ((channel) | (channel . (value)) ...) default?): the index and what came */
static R p_select(C *c, V l, V has_default)
{
    intptr_t n = list_length(l);
    if (n < 0 || n > 1000)
        return RET(wrong_type(c, "select", l));
    struct thr_case cases[n == 0 ? 1 : n];
    intptr_t i = 0;
    /* What is looked at is read once: another goroutine may change the lists. */
    for (; i < n && IS_PAIR(l); l = CDR(l), i++) {
        V k = CAR(l), ch = IS_PAIR(k) ? CAR(k) : FALSE;
        if (!IS(ch, T_CHANNEL))
            return RET(wrong_type(c, "select", k));
        V value = CDR(k);
        bool send = IS_PAIR(value);
        cases[i] = (struct thr_case){CHANNEL(ch)->chan, send,
                                     send ? CAR(value) : FALSE, false};
    }
    int chosen = thr_select(cases, (size_t)i, has_default != FALSE);
    if (chosen < 0)
        return RET(cons(FIX(-1), FALSE));
    struct thr_case *k = &cases[chosen];
    if (k->send && k->closed)
        return RET(fail(c, "select: the channel is closed", NIL));
    return RET(cons(FIX(chosen), k->send     ? UNSPEC
                                 : k->closed ? EOFV
                                             : k->value));
}

static R p_count(C *c)
{
    (void)c;
    return RET(FIX(thr_count()));
}

static R p_parallel(C *c)
{
    (void)c;
    return RET(FIX(thr_parallel()));
}

void thread_init(void)
{
    static const struct prim table[] = {
        {"go", p_go, 1, 1, 0},
        {"yield", p_yield, 0, 0, 0},
        {"sleep", p_sleep, 1, 1, 0},
        {"make-channel", p_make_channel, 0, 1, 0},
        {"after", p_after, 1, 1, 0},
        {"channel-send!", p_send, 2, 2, 0},
        {"channel-receive", p_recv, 1, 1, 0},
        {"channel-close!", p_close, 1, 1, 0},
        {"channel?", p_channel_p, 1, 1, 0},
        {"%select", p_select, 2, 2, 0},
        {"goroutines", p_count, 0, 0, 0},
        {"processors", p_parallel, 0, 0, 0},
    };
    PRIMS_ADD(table);
}

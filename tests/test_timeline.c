/* tests/test_timeline.c - the file that tarn_trace_start makes: that it is JSON, that
 * what begins ends, on each track in the order of time, and that what the program
 * did is in it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* program_invocation_short_name */
#endif
#include <ctype.h>

#include "gcsuite.h"
#include "tarn/native.h"
#include "tarn/trace.h"

static char path[64];
static char out[65536];

/* --- reading -------------------------------------------------------------------- */

struct event {
    char ph, name[100], then[60];
    int tid;
    double ts;
    uint64_t goid, number;
    bool has_ts;
};

static struct event *events;
static size_t nevents;
static const char *at;

static void blank(void)
{
    while (isspace((unsigned char)*at))
        at++;
}

static void want(char c)
{
    blank();
    if (*at != c)
        fprintf(stderr, "want '%c' at: %.60s\n", c, at);
    CHECK_EQ(*at, c);
    at++;
}

/* Unescaped, cut at len. */
static void read_string(char *to, size_t len)
{
    size_t n = 0;
    want('"');
    while (*at != '"') {
        unsigned c = (unsigned char)*at++;
        CHECK_GE(c, 0x20u);
        if (c == '\\') {
            char e = *at++;
            if (e == 'u') {
                char hex[5] = {at[0], at[1], at[2], at[3], 0}, *end;
                c = (unsigned)strtoul(hex, &end, 16);
                CHECK(end == hex + 4);
                at += 4;
            } else {
                CHECK(e == '"' || e == '\\' || e == '/');
                c = (unsigned char)e;
            }
        }
        if (n + 1 < len)
            to[n++] = (char)c;
    }
    to[n] = '\0';
    at++;
}

static double read_number(void)
{
    char *end;
    blank();
    CHECK(*at == '-' || isdigit((unsigned char)*at));
    double v = strtod(at, &end);
    at = end;
    return v;
}

static void read_object(struct event *e)
{
    want('{');
    for (blank(); *at != '}'; blank()) {
        char key[32], value[100];
        read_string(key, sizeof key);
        want(':');
        blank();
        if (*at == '{') {
            read_object(e);
        } else if (*at == '"') {
            read_string(value, sizeof value);
            if (strcmp(key, "ph") == 0)
                e->ph = value[0];
            else if (strcmp(key, "name") == 0)
                snprintf(e->name, sizeof e->name, "%.99s", value);
            else if (strcmp(key, "then") == 0)
                snprintf(e->then, sizeof e->then, "%.59s", value);
        } else {
            double v = read_number();
            if (strcmp(key, "tid") == 0)
                e->tid = (int)v;
            else if (strcmp(key, "ts") == 0)
                e->ts = v, e->has_ts = true;
            else if (strcmp(key, "goroutine") == 0)
                e->goid = (uint64_t)v;
            else
                e->number = (uint64_t)v;
        }
        blank();
        if (*at == ',')
            at++;
        else
            CHECK_EQ(*at, '}');
    }
    at++;
}

static void read_file(void)
{
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    CHECK_EQ(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    CHECK_GT(size, 0);
    rewind(f);
    char *text = malloc((size_t)size + 1);
    CHECK(text != NULL);
    CHECK_EQ(fread(text, 1, (size_t)size, f), (size_t)size);
    text[size] = '\0';
    fclose(f);
    size_t room = 0;
    nevents = 0;
    at = text;
    want('[');
    for (blank(); *at != ']'; blank()) {
        if (nevents == room) {
            room = room * 2 + 1000;
            events = realloc(events, room * sizeof *events);
            CHECK(events != NULL);
        }
        memset(&events[nevents], 0, sizeof *events);
        read_object(&events[nevents++]);
        blank();
        if (*at == ',')
            at++;
        else
            CHECK_EQ(*at, ']');
    }
    at++;
    blank();
    CHECK_EQ(*at, '\0');
    free(text);
}

/* Stable: within a track the order is that of the file. */
static void sort_by_track(void)
{
    struct event *sorted = malloc(nevents * sizeof *sorted);
    size_t n = 0;
    CHECK(sorted != NULL);
    int *tids = malloc(nevents * sizeof *tids);
    size_t ntids = 0;
    CHECK(tids != NULL);
    for (size_t i = 0; i < nevents; i++) {
        size_t k = 0;
        while (k < ntids && tids[k] != events[i].tid)
            k++;
        if (k == ntids)
            tids[ntids++] = events[i].tid;
    }
    for (size_t k = 0; k < ntids; k++)
        for (size_t i = 0; i < nevents; i++)
            if (events[i].tid == tids[k])
                sorted[n++] = events[i];
    CHECK_EQ(n, nevents);
    free(tids);
    free(events);
    events = sorted;
}

/* Each begin has its end, and times do not go back. */
static void check_tracks(void)
{
    sort_by_track();
    int depth = 0;
    double last = 0;
    for (size_t i = 0; i < nevents; i++) {
        const struct event *e = &events[i];
        if (i == 0 || e->tid != events[i - 1].tid) {
            CHECK_EQ(depth, 0);
            last = 0;
        }
        CHECK(strchr("BEiCM", e->ph) != NULL && e->ph != '\0');
        CHECK(e->has_ts);
        if (e->ph != 'E')
            CHECK_GT(strlen(e->name), 0);
        if (e->ph == 'M')
            continue;
        CHECK_GE(e->ts, last);
        last = e->ts;
        depth += e->ph == 'B' ? 1 : e->ph == 'E' ? -1 : 0;
        CHECK_GE(depth, 0);
        CHECK_LE(depth, 3);
    }
    CHECK_EQ(depth, 0);
}

static size_t count(char ph, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < nevents; i++)
        n += events[i].ph == ph && strcmp(events[i].name, name) == 0;
    return n;
}

static size_t count_then(const char *then)
{
    size_t n = 0;
    for (size_t i = 0; i < nevents; i++)
        n += strcmp(events[i].then, then) == 0;
    return n;
}

/* --- a known program -------------------------------------------------------------- */

static uint64_t worker_goid[3];

__attribute__((noinline)) static void timeline_worker(void *c)
{
    uint64_t v;
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    worker_goid[v] = tarn_self();
    tarn_nanosleep(1000);
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
}

static void do_things(void)
{
    size_t others = tarn_goroutines();
    tarn_chan *c = new_chan(8, 0);
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t v = i;
        go(timeline_worker, c);
        CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
        collect();
    }
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    while (tarn_goroutines() > others)
        tarn_yield();
}

static void check_things(void)
{
    check_tracks();
    CHECK_GE(count('B', "full collection"), 3);
    for (size_t i = 0, open = 0; i < nevents; i++)
        if (events[i].ph == 'B' && strcmp(events[i].name, "mark") == 0) {
            CHECK_EQ(events[i - 1].ph, 'B');
            CHECK(strstr(events[i - 1].name, " collection") != NULL);
            CHECK_GT(events[i - 1].number, open);
            open = events[i - 1].number;
        }
    CHECK_GE(count('B', "mark"), 3);
    CHECK_GE(count('B', "mark termination"), 3);
    CHECK_GE(count('B', "sweep"), 3);
    CHECK_GE(count('B', "world stopped"), 7);
    CHECK_EQ(count('B', "world stopped"), count('B', "stopping"));
    CHECK_GE(count('B', "timeline_worker"), 3);
    CHECK_GE(count('B', "native call"), 3);
    /* One of the two waits, whoever comes first. */
    CHECK_GE(count_then("chan receive") + count_then("chan send"), 6);
    CHECK_GE(count_then("ended"), 3);
    CHECK_GE(count('C', "heap bytes"), 1);
    CHECK_GE(count('C', "heap goal"), 1);
    CHECK_GE(count('C', "goroutines"), 1);
    for (int k = 0; k < 3; k++) {
        size_t ran = 0;
        for (size_t i = 0; i < nevents; i++)
            ran += events[i].ph == 'B' && events[i].goid == worker_goid[k] &&
                   strcmp(events[i].name, "timeline_worker") == 0;
        CHECK_GT(ran, 0);
    }
}

static void known_program(void)
{
    char quoted[] = "a \"quoted\\ name\n\x01\xff";
    char *name = program_invocation_short_name;
    program_invocation_short_name = quoted;
    CHECK_ST(tarn_trace_start(path), TARN_OK);
    CHECK_ST(tarn_trace_start(path), TARN_ESTATE);
    do_things();
    CHECK_ST(tarn_trace_stop(), TARN_OK);
    program_invocation_short_name = name;
    CHECK_ST(tarn_trace_stop(), TARN_ESTATE);
    read_file();
    check_things();
    bool named = false;
    for (size_t i = 0; i < nevents; i++)
        named |= events[i].ph == 'M' && strcmp(events[i].name, quoted) == 0;
    CHECK(named);
}

/* --- a lot at once ------------------------------------------------------------------ */

static tarn_waitgroup busy;

__attribute__((noinline)) static void yielder(void *unused)
{
    (void)unused;
    for (int i = 0; i < SUITE_REPEAT(100000); i++)
        tarn_yield();
    tarn_waitgroup_done(&busy);
}

/* Begun and ended amid all; buffers are turned often, perhaps some are lost. */
static void busy_program(void)
{
    garbage_start(2);
    tarn_waitgroup_add(&busy, 4);
    for (int i = 0; i < 4; i++)
        go(yielder, NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_ST(tarn_trace_start(path), TARN_OK);
        collect();
        for (int k = 0; k < 2000; k++)
            tarn_yield();
        collect();
        if (i == 2)
            tarn_waitgroup_wait(&busy);
        CHECK_ST(tarn_trace_stop(), TARN_OK);
        read_file();
        check_tracks();
        CHECK_GE(count('B', "full collection"), 2);
    }
    printf("     %zu events, %zu times some were lost\n", nevents,
           count('i', "events lost"));
    garbage_end();
}

/* --- failures ----------------------------------------------------------------------- */

static void failures(void)
{
    CHECK_ST(tarn_trace_start("/nowhere/at/all"), TARN_ESYS);
    CHECK(strstr(tarn_last_error(), "/nowhere/at/all") != NULL);
    CHECK_ST(tarn_trace_stop(), TARN_ESTATE);
    CHECK_ST(tarn_trace_start(NULL), TARN_EINVAL);
    CHECK_ST(tarn_trace_start("/dev/full"), TARN_OK);
    do_things();
    CHECK_ST(tarn_trace_stop(), TARN_ESYS);
    CHECK(strstr(tarn_last_error(), "/dev/full") != NULL);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_trace_start(path), TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_ST(tarn_trace_start(path), TARN_OK);
    CHECK_ST(tarn_trace_stop(), TARN_OK);
    read_file();
    check_tracks();
}

/* Ps come and go while it is recorded: each has one track, once it ran something. */
#define MORE_PS 9
static _Atomic uint32_t seen_on[MORE_PS];
static _Atomic bool seen_all;

static void *brief_native(void *unused)
{
    usleep_os(20);
    return unused;
}

static void seen_worker(void *done)
{
    while (!atomic_load(&seen_all)) {
        struct m *mp = acquirem();
        uint32_t id = mp->p->id;
        releasem(mp);
        CHECK_LT(id, MORE_PS);
        atomic_fetch_add(&seen_on[id], 1);
        tarn_native_call(brief_native, NULL);
        tarn_yield();
    }
    tarn_waitgroup_done(done);
}

static void test_procs_change(void)
{
    static tarn_waitgroup done;
    int was = (int)tarn_procs();
    atomic_store(&seen_all, false);
    for (int i = 0; i < MORE_PS; i++)
        atomic_store(&seen_on[i], 0);
    CHECK_ST(tarn_trace_start(path), TARN_OK);
    tarn_waitgroup_add(&done, 2 * MORE_PS);
    for (int i = 0; i < 2 * MORE_PS; i++)
        go(seen_worker, &done);
    for (int round = 0; round < 3; round++) {
        CHECK_ST(tarn_set_procs(MORE_PS), TARN_OK);
        for (int i = 0; i < MORE_PS; i++)
            for (uint32_t n = atomic_load(&seen_on[i]);
                 atomic_load(&seen_on[i]) == n;)
                tarn_nanosleep(100000);
        CHECK_ST(tarn_set_procs(1 + round), TARN_OK);
        collect();
    }
    atomic_store(&seen_all, true);
    tarn_waitgroup_wait(&done);
    CHECK_ST(tarn_trace_stop(), TARN_OK);
    CHECK_ST(tarn_set_procs(was), TARN_OK);
    read_file();
    check_tracks();
    for (int i = 0; i < MORE_PS; i++) {
        char name[16];
        snprintf(name, sizeof name, "P %d", i);
        CHECK_EQ(count('M', name), 1u);
    }
    CHECK_GE(count('B', "seen_worker"), (size_t)2 * MORE_PS);
}

static void body(void)
{
    RUN(known_program);
    RUN(busy_program);
    RUN(failures);
    RUN(test_procs_change);
}

/* --- TARN_TRACEFILE -------------------------------------------------------------------- */

static void things_main(void *unused)
{
    (void)unused;
    do_things();
    /* One that is left when tarn_main ends. */
    go(timeline_worker, new_chan(8, 0));
    tarn_yield();
}

static void file_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = 2;
    CHECK_ST(tarn_main(&o, things_main, NULL), TARN_OK);
    if (strcmp(getenv("TARN_TRACEFILE"), path) == 0) {
        read_file();
        check_things();
        /* Again, over the old one. */
        CHECK_ST(tarn_main(&o, things_main, NULL), TARN_OK);
        read_file();
        check_things();
    }
    puts("done");
    fflush(stdout);
}

static void with_file(const char *file, const char *says)
{
    char env[100];
    snprintf(env, sizeof env, "TARN_TRACEFILE=%s", file);
    int st = harness_child(file_child, env, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "%s\n", out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    CHECK_STR(out, "done");
    CHECK(strstr(out, says) != NULL);
}

static void test_environment(void)
{
    with_file(path, "");
    with_file("/nowhere/at/all", "tarn: TARN_TRACEFILE: ");
    with_file("/dev/full", "tarn: tarn_trace_stop: cannot write /dev/full");
}

static void test_off_goroutine(void)
{
    CHECK_ST(tarn_trace_start(path), TARN_ESTATE);
    CHECK_ST(tarn_trace_stop(), TARN_ESTATE);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    snprintf(path, sizeof path, "/tmp/tarn_timeline.%d.json", (int)getpid());
    RUN(test_off_goroutine);
    RUN(test_environment);
    suite_run(body, 1);
    suite_run(body, 4);
    unlink(path);
    return harness_done();
}

/* tests/test_base_options.c - defaults, every kind, every error text, loading.
 */
#include "base/options.h"

#include "tests/harness.h"

/* The enum is unsigned, its names are ints. */
#define CHECK_STATUS(e, want) CHECK_EQ((int)(e), (int)(want))

#define X_DEFAULT(name, kind, def, min, max, help)                             \
    CHECK_EQ(o.name, (int64_t)(def));

static struct tarn_options fresh(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    return o;
}

static void check_defaults(struct tarn_options o)
{
    CHECK_EQ(o.struct_size, sizeof o);
    TARN_OPTIONS_TABLE(X_DEFAULT)
}

/* The text is refused, with exactly this error, and nothing changes. */
static void refuse(const char *text, const char *error)
{
    struct tarn_options o;
    memset(&o, 0x5a, sizeof o);
    o.struct_size = sizeof o;
    struct tarn_options before = o;
    CHECK_STATUS(tarn_options_parse(&o, text), TARN_EOPTION);
    if (strcmp(tarn_last_error(), error) != 0) {
        fprintf(stderr, "\"%s\": error is\n  %s\nnot\n  %s\n", text,
                tarn_last_error(), error);
        CHECK(false);
    }
    CHECK_EQ(memcmp(&o, &before, sizeof o), 0);
}

static struct tarn_options parse(const char *text)
{
    struct tarn_options o = fresh();
    tarn_status s = tarn_options_parse(&o, text);
    if (s != TARN_OK)
        fprintf(stderr, "\"%s\": %s\n", text, tarn_last_error());
    CHECK_STATUS(s, TARN_OK);
    return o;
}

static void test_defaults(void)
{
    check_defaults(fresh());
    check_defaults(options);
    check_defaults(parse(""));
}

static void test_count(void)
{
    CHECK_EQ(parse("maxprocs=8").maxprocs, 8);
    CHECK_EQ(parse("maxprocs=0").maxprocs, 0);
    CHECK_EQ(parse("maxprocs=1024").maxprocs, 1024);
    CHECK_EQ(parse("maxprocs=0007").maxprocs, 7);
    CHECK_EQ(parse("seed=9223372036854775807").seed, INT64_MAX);
    refuse("maxprocs=abc", "option maxprocs: \"abc\" is not a whole number");
    refuse("maxprocs=", "option maxprocs: \"\" is not a whole number");
    refuse("maxprocs=-1", "option maxprocs: \"-1\" is not a whole number");
    refuse("maxprocs=+1", "option maxprocs: \"+1\" is not a whole number");
    refuse("maxprocs=0x10", "option maxprocs: \"0x10\" is not a whole number");
    refuse("maxprocs=1.5", "option maxprocs: \"1.5\" is not a whole number");
    refuse("maxprocs=1KiB", "option maxprocs: \"1KiB\" is not a whole number");
    refuse("maxprocs=1=2", "option maxprocs: \"1=2\" is not a whole number");
    refuse("maxprocs=1025", "option maxprocs: 1025 is outside 0..1024");
    refuse("gcpercent=5", "option gcpercent: 5 is outside 10..100000");
    refuse("gcpercent=100001",
           "option gcpercent: 100001 is outside 10..100000");
    refuse("seed=9223372036854775808",
           "option seed: 9223372036854775808 is outside "
           "0..9223372036854775807");
    refuse("gcpercent=18446744073709551716", /* 100 more than 2^64 */
           "option gcpercent: 18446744073709551716 is outside 10..100000");
}

static void test_bool(void)
{
    CHECK_EQ(parse("gcoff=1").gcoff, 1);
    CHECK_EQ(parse("deadlock=0").deadlock, 0);
    refuse("gcoff=2", "option gcoff: \"2\" is not 0 or 1");
    refuse("gcoff=", "option gcoff: \"\" is not 0 or 1");
    refuse("gcoff=true", "option gcoff: \"true\" is not 0 or 1");
    refuse("gcoff=01", "option gcoff: \"01\" is not 0 or 1");
    refuse("gcoff=99999999999999999999",
           "option gcoff: \"99999999999999999999\" is not 0 or 1");
}

#define NOT_A_TIME "\" is not a time: milliseconds, or with ns, us, ms or s"

static void test_duration(void)
{
    CHECK_EQ(parse("stwwatch=0").stwwatch, 0);
    CHECK_EQ(parse("stwwatch=10").stwwatch, 10000000);
    CHECK_EQ(parse("stwwatch=10ms").stwwatch, 10000000);
    CHECK_EQ(parse("stwwatch=10us").stwwatch, 10000);
    CHECK_EQ(parse("stwwatch=10ns").stwwatch, 10);
    CHECK_EQ(parse("stwwatch=3s").stwwatch, INT64_C(3000000000));
    refuse("stwwatch=", "option stwwatch: \"" NOT_A_TIME);
    refuse("stwwatch=10m", "option stwwatch: \"10m" NOT_A_TIME);
    refuse("stwwatch=ms", "option stwwatch: \"ms" NOT_A_TIME);
    refuse("stwwatch=-1", "option stwwatch: \"-1" NOT_A_TIME);
    refuse("stwwatch=1.5s", "option stwwatch: \"1.5s" NOT_A_TIME);
    refuse("stwwatch=2h", "option stwwatch: \"2h" NOT_A_TIME);
    refuse("stwwatch=3601s",
           "option stwwatch: 3601s is outside 0..3600000000000 ns");
    refuse("stwwatch=99999999999s",
           "option stwwatch: 99999999999s is outside 0..3600000000000 ns");
}

#define NOT_A_SIZE "\" is not a size: bytes, or with KiB, MiB, GiB or TiB"

static void test_size(void)
{
    CHECK_EQ(parse("heapmin=65536").heapmin, 65536);
    CHECK_EQ(parse("heapmin=64KiB").heapmin, 65536);
    CHECK_EQ(parse("heapmin=3MiB").heapmin, INT64_C(3) << 20);
    CHECK_EQ(parse("heapmax=5GiB").heapmax, INT64_C(5) << 30);
    CHECK_EQ(parse("heapmax=16TiB").heapmax, INT64_C(16) << 40);
    CHECK_EQ(parse("heapmin=9223372036854775807").heapmin, INT64_MAX);
    CHECK_EQ(parse("heapmin=8388607TiB").heapmin, INT64_C(8388607) << 40);
    refuse("heapmin=", "option heapmin: \"" NOT_A_SIZE);
    refuse("heapmin=4m", "option heapmin: \"4m" NOT_A_SIZE);
    refuse("heapmin=4MB", "option heapmin: \"4MB" NOT_A_SIZE);
    refuse("heapmin=4mib", "option heapmin: \"4mib" NOT_A_SIZE);
    refuse("heapmin=4 MiB", "option heapmin: \"4 MiB" NOT_A_SIZE);
    refuse("heapmin=MiB", "option heapmin: \"MiB" NOT_A_SIZE);
    refuse("heapmin=4KiBMiB", "option heapmin: \"4KiBMiB" NOT_A_SIZE);
    refuse("heapmin=4MiBx", "option heapmin: \"4MiBx" NOT_A_SIZE);
    refuse("heapmin=1KiB",
           "option heapmin: 1KiB is outside 65536..9223372036854775807");
    refuse("heapmin=8388608TiB",
           "option heapmin: 8388608TiB is outside 65536..9223372036854775807");
    refuse("heapmax=17TiB",
           "option heapmax: 17TiB is outside 16777216..17592186044416");
    /* Wraps to 16 MiB, which would do, if the shift were not checked. */
    refuse("heapmax=18446744073726328832",
           "option heapmax: 18446744073726328832 is outside "
           "16777216..17592186044416");
    refuse("heapmax=16777217TiB",
           "option heapmax: 16777217TiB is outside 16777216..17592186044416");
}

static void test_words(void)
{
    CHECK_EQ(parse("stacks=auto").stacks, TARN_STACKS_AUTO);
    CHECK_EQ(parse("stacks=copying").stacks, TARN_STACKS_COPYING);
    CHECK_EQ(parse("stacks=fixed").stacks, TARN_STACKS_FIXED);
    CHECK_EQ(parse("oom=null").oom, TARN_OOM_NULL);
    CHECK_EQ(parse("oom=throw").oom, TARN_OOM_THROW);
    refuse("stacks=1", "option stacks: \"1\" is not auto, copying or fixed");
    refuse("stacks=Auto",
           "option stacks: \"Auto\" is not auto, copying or fixed");
    refuse("stacks=", "option stacks: \"\" is not auto, copying or fixed");
    refuse("oom=0", "option oom: \"0\" is not null or throw");
    refuse("oom=nul", "option oom: \"nul\" is not null or throw");
    refuse("oom=nulls", "option oom: \"nulls\" is not null or throw");
}

static void test_lists(void)
{
    struct tarn_options o =
        parse("gcpercent=200,gctrace=1,stacks=fixed,gcpercent=300");
    CHECK_EQ(o.gcpercent, 300); /* the last one */
    CHECK_EQ(o.gctrace, 1);
    CHECK_EQ(o.stacks, TARN_STACKS_FIXED);
    o.gcpercent = o.stacks = 0;
    o.gcpercent = 100;
    o.gctrace = 0;
    o.stacks = TARN_STACKS_AUTO;
    check_defaults(o);

    const char *empty = "TARN: empty option between commas or at an end";
    refuse(",", empty);
    refuse("gcoff=1,", empty);
    refuse(",gcoff=1", empty);
    refuse("gcoff=1,,gctrace=1", empty);
    refuse(" gcoff=1", "TARN: unknown option \" gcoff\"");
    refuse("gcoff =1", "TARN: unknown option \"gcoff \"");
    refuse("gcoff=1 ", "option gcoff: \"1 \" is not 0 or 1");
    refuse("gcoff= 1", "option gcoff: \" 1\" is not 0 or 1");
    refuse("gcoff=1, gctrace=1", "TARN: unknown option \" gctrace\"");
    refuse(" ", "TARN: unknown option \" \"");
    refuse("foo", "TARN: unknown option \"foo\"");
    refuse("foo=1", "TARN: unknown option \"foo\"");
    refuse("=1", "TARN: unknown option \"\"");
    refuse("gco=1", "TARN: unknown option \"gco\"");
    refuse("gcofff=1", "TARN: unknown option \"gcofff\"");
    refuse("GCOFF=1", "TARN: unknown option \"GCOFF\"");
    refuse("struct_size=1", "TARN: unknown option \"struct_size\"");
    refuse("gcoff", "option gcoff: no value: write gcoff=VALUE");
    refuse("gcoff=1;gctrace=1", "option gcoff: \"1;gctrace=1\" is not 0 or 1");
    /* A good part before a bad one is not applied either. */
    refuse("gcoff=1,bar=2", "TARN: unknown option \"bar\"");
    /* Only the environment asks for help. */
    refuse("help", "TARN: unknown option \"help\"");

    CHECK_STATUS(tarn_options_parse(NULL, ""), TARN_EINVAL);
    CHECK_STATUS(tarn_options_parse(&o, NULL), TARN_EINVAL);
}

static void test_long_text(void)
{
    char text[1000];
    struct tarn_options o = fresh();
    memset(text, '9', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK_STATUS(tarn_options_parse(&o, text), TARN_EOPTION);
    CHECK_STR(tarn_last_error(), "9\"");
    memcpy(text, "heapmin=", 8);
    CHECK_STATUS(tarn_options_parse(&o, text), TARN_EOPTION);
    CHECK_STR(tarn_last_error(), "9 is outside 65536..9223372036854775807");
}

/* Random texts from the alphabet of options: never a crash, never a value out
 * of its range, never a change by a refused text. */
static void test_random_texts(void)
{
    static const char *const words[] = {
        "gcoff",
        "heapmax",
        "oom",
        "stacks",
        "seed",
        "gcpercent",
        "=",
        "=",
        "=",
        ",",
        "0",
        "1",
        "2",
        "99",
        "65536",
        "KiB",
        "TiB",
        "null",
        "fixed",
        " ",
        "-",
        "help",
        "9223372036854775807",
    };
    uint64_t rng = harness_seed;
    int accepted = 0;
    for (int i = 0; i < 200000; i++) {
        char text[256] = "";
        size_t n = 1 + harness_rand(&rng) % 9;
        while (n-- > 0)
            strcat(text, words[(harness_rand(&rng) >> 8) % ARRAY_LEN(words)]);
        struct tarn_options o = fresh(), before = o;
        if (tarn_options_parse(&o, text) != TARN_OK) {
            CHECK_EQ(memcmp(&o, &before, sizeof o), 0);
            continue;
        }
        accepted++;
#define X_RANGE(name, kind, def, min, max, help)                               \
    CHECK(o.name >= (min) && o.name <= (max));
        TARN_OPTIONS_TABLE(X_RANGE)
    }
    CHECK_GT(accepted, 0);
}

/* --- loading ------------------------------------------------------------- */

static void test_load_defaults(void)
{
    struct tarn_options out;
    memset(&out, 0, sizeof out);
    CHECK_STATUS(options_load(NULL, &out), TARN_OK);
    check_defaults(out);
    struct tarn_options in = fresh();
    in.maxprocs = 3;
    CHECK_STATUS(options_load(&in, &in), TARN_OK); /* in place */
    CHECK_EQ(in.maxprocs, 3);
}

static void refuse_load(const struct tarn_options *in, const char *error)
{
    struct tarn_options out, before;
    memset(&out, 0x33, sizeof out);
    before = out;
    CHECK_STATUS(options_load(in, &out), TARN_EOPTION);
    if (strcmp(tarn_last_error(), error) != 0) {
        fprintf(stderr, "error is\n  %s\nnot\n  %s\n", tarn_last_error(),
                error);
        CHECK(false);
    }
    CHECK_EQ(memcmp(&out, &before, sizeof out), 0);
}

static void test_load_checks_ranges(void)
{
    struct tarn_options in = fresh();
    in.gcpercent = 5;
    refuse_load(&in, "option gcpercent: 5 is outside 10..100000");
    in = fresh();
    in.maxprocs = -1;
    refuse_load(&in, "option maxprocs: -1 is outside 0..1024");
    in = fresh();
    in.stacks = 3;
    refuse_load(&in, "option stacks: 3 is outside 0..2");
    in = fresh();
    in.deadlock = 2;
    refuse_load(&in, "option deadlock: 2 is outside 0..1");
    /* Each option is looked at. */
#define X_BELOW(name, kind, def, min, max, help)                               \
    in = fresh();                                                              \
    in.name = (int64_t)(min)-1;                                                \
    CHECK_STATUS(options_load(&in, &in), TARN_EOPTION);                        \
    CHECK_STR(tarn_last_error(), "option " #name ": ");
    TARN_OPTIONS_TABLE(X_BELOW)
}

static void test_struct_size(void)
{
    struct tarn_options in = fresh(), out;
    char text[128];
    size_t wrong[] = {0, sizeof in.struct_size - 1, sizeof in + 1,
                      sizeof in + 8, SIZE_MAX};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        in.struct_size = wrong[i];
        snprintf(text, sizeof text,
                 "struct tarn_options: struct_size is %zu, not %zu: call "
                 "tarn_options_init first",
                 wrong[i], sizeof in);
        refuse_load(&in, text);
    }
    /* The struct of an older version ends after gcpercent; what lies behind it
     * is not ours to read. */
    in = fresh();
    in.maxprocs = 7;
    in.gcpercent = 50;
    in.gcoff = 1;
    in.heapmin = -77;
    for (size_t extra = 0; extra < 8; extra++) {
        in.struct_size = offsetof(struct tarn_options, gcoff) + extra;
        CHECK_STATUS(options_load(&in, &out), TARN_OK);
        CHECK_EQ(out.maxprocs, 7);
        CHECK_EQ(out.gcpercent, 50);
        out.maxprocs = 0;
        out.gcpercent = 100;
        check_defaults(out);
    }
    in.struct_size = sizeof in.struct_size;
    CHECK_STATUS(options_load(&in, &out), TARN_OK);
    check_defaults(out);
}

static char out_text[65536];

static void do_env_overrides(void)
{
    struct tarn_options in = fresh(), out;
    in.gcpercent = 150;
    in.maxprocs = 2;
    CHECK_STATUS(options_load(&in, &out), TARN_OK);
    CHECK_EQ(out.gcpercent, 300);
    CHECK_EQ(out.maxprocs, 2);
    CHECK_EQ(out.heapmin, INT64_C(8) << 20);
    CHECK_STATUS(options_load(NULL, &out), TARN_OK);
    CHECK_EQ(out.gcpercent, 300);
    CHECK_EQ(out.maxprocs, 0);
}

static void test_env_overrides(void)
{
    int st = harness_child(do_env_overrides, "TARN=gcpercent=300,heapmin=8MiB",
                           out_text, sizeof out_text);
    if (st != 0)
        fputs(out_text, stderr);
    CHECK_EQ(st, 0);
}

static void do_env_refused(void)
{
    refuse_load(NULL, "option gcpercent: 3 is outside 10..100000");
}

static void test_env_refused(void)
{
    CHECK_EQ(harness_child(do_env_refused, "TARN=gctrace=1,gcpercent=3",
                           out_text, sizeof out_text),
             0);
}

static void do_env_empty(void)
{
    struct tarn_options out;
    CHECK_STATUS(options_load(NULL, &out), TARN_OK);
    check_defaults(out);
}

static void test_env_empty(void)
{
    CHECK_EQ(harness_child(do_env_empty, "TARN=", out_text, sizeof out_text),
             0);
}

static void do_load(void)
{
    struct tarn_options out;
    (void)options_load(NULL, &out);
    _exit(9);
}

static void test_help(void)
{
    static const char *const asks[] = {"TARN=help", "TARN=gcoff=1,help",
                                       "TARN=help,nonsense,,x="};
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        int st = harness_child(do_load, asks[i], out_text, sizeof out_text);
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), 0);
#define X_HELP(name, kind, def, min, max, help)                                \
    CHECK_STR(out_text, "\n" #name " ");                                       \
    CHECK_STR(out_text, help);
        TARN_OPTIONS_TABLE(X_HELP)
        CHECK_STR(out_text, "4MiB");
        CHECK_STR(out_text, "1TiB");
        CHECK_STR(out_text, "auto|copying|fixed auto ");
    }
    int st = harness_child(do_load, "TARN=help=1", out_text, sizeof out_text);
    CHECK_EQ(WEXITSTATUS(st), 9);
}

/* As snprintf: the whole length whatever the room, never a byte beyond it. */
static void test_help_in_small_buffers(void)
{
    char whole[8192], part[8192];
    size_t n = options_help(whole, sizeof whole);
    CHECK_LT(n, sizeof whole);
    CHECK_EQ(strlen(whole), n);
    CHECK_EQ(options_help(NULL, 0), n);
    for (size_t len = 1; len <= n + 1; len += 7) {
        memset(part, '#', sizeof part);
        CHECK_EQ(options_help(part, len), n);
        CHECK_EQ(memcmp(part, whole, len - 1), 0);
        CHECK_EQ(part[len - 1], '\0');
        CHECK_EQ(part[len], '#');
    }
}

/* --- debug modes --------------------------------------------------------- */

static void modes_are(const char *text, const char *want)
{
    struct tarn_options o = parse(text);
    char got[2048];
    size_t n = options_debug_modes(&o, got, sizeof got);
    if (strcmp(got, want) != 0)
        fprintf(stderr, "\"%s\": modes are\n  %s\nnot\n  %s\n", text, got,
                want);
    CHECK_EQ(strcmp(got, want), 0);
    CHECK_EQ(n, strlen(want));
    /* As snprintf. */
    CHECK_EQ(options_debug_modes(&o, NULL, 0), n);
    char part[64];
    memset(part, '#', sizeof part);
    CHECK_EQ(options_debug_modes(&o, part, 17), n);
    CHECK_EQ(strncmp(part, want, 16), 0);
    CHECK(part[16] == '\0' || n < 16);
    CHECK_EQ(part[17], '#');
}

static void test_debug_modes(void)
{
    modes_are("", "");
    modes_are("seed=5,gctrace=1,maxprocs=16,stackmove=0,gcstress=0", "");
    modes_are("stackmove=1,seed=123",
              "stackmove=1 (every prologue that checks moves the stack), "
              "seed=123");
    modes_are(
        "stackmove=1,delays=20,gcstress=64",
        "gcstress=64 (allocations between two collections), stackmove=1 "
        "(every prologue that checks moves the stack), delays=20 (longest "
        "random delay in us; debug builds only), seed=0");
    /* Each of the table is told, with its text. */
#define X_MODE(name, text)                                                     \
    {                                                                          \
        struct tarn_options o = fresh();                                       \
        char got[2048];                                                        \
        o.name = !o.name;                                                      \
        o.seed = 77;                                                           \
        CHECK_GT(options_debug_modes(&o, got, sizeof got), 0);                 \
        CHECK_EQ(strncmp(got, #name "=", sizeof #name), 0);                    \
        CHECK_STR(got, " (" text "), seed=77");                                \
    }
    DEBUG_MODES_TABLE(X_MODE)
}

static void test_choose_seed(void)
{
    struct tarn_options o = parse("seed=9");
    options_choose_seed(&o);
    CHECK_EQ(o.seed, 9);
    o = fresh();
    options_choose_seed(&o);
    CHECK_GT(o.seed, 0);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
    RUN(test_defaults);
    RUN(test_count);
    RUN(test_duration);
    RUN(test_bool);
    RUN(test_size);
    RUN(test_words);
    RUN(test_lists);
    RUN(test_long_text);
    RUN(test_random_texts);
    RUN(test_load_defaults);
    RUN(test_load_checks_ranges);
    RUN(test_struct_size);
    RUN(test_env_overrides);
    RUN(test_env_refused);
    RUN(test_env_empty);
    RUN(test_help);
    RUN(test_help_in_small_buffers);
    RUN(test_debug_modes);
    RUN(test_choose_seed);
    return harness_done();
}

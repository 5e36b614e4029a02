/* bench/stress_modes.c - the names in options, and what they stand for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stress.h"
#include "gc/gc.h"

const char *const behaviour_names[DO_COUNT] = {
#define BEHAVIOUR_NAME_(name, what) #name,
    BEHAVIOURS(BEHAVIOUR_NAME_)
#undef BEHAVIOUR_NAME_
};
static const char *const behaviour_whats[DO_COUNT] = {
#define BEHAVIOUR_WHAT_(name, what) what,
    BEHAVIOURS(BEHAVIOUR_WHAT_)
#undef BEHAVIOUR_WHAT_
};

/* The options of the runtime that make rare things frequent, with the values to
 * choose from. One that this runtime does not have is not offered. Weight: of a
 * hundred random rounds, in how many it is on. */
static const struct mode {
    const char *name;
    uint32_t weight;
    int64_t min, max;
} modes[] = {
    {"stackmove", 30, 1, 1},     {"gcstress", 25, 20, 400},
    {"checkmark", 30, 1, 1},     {"delays", 20, 20, 200},
    {"droppreempt", 20, 10, 60}, {"stackpoison", 30, 1, 1},
    {"stackshrink", 30, 1, 1},   {"preemptat", 20, 1, 100},
    {"clobberfree", 40, 1, 1},   {"stackescape", 15, 1, 1},
    {"barriercheck", 15, 1, 1},
};
#define MODES (sizeof modes / sizeof modes[0])

/* What the runtime says of its options. */
static const struct option {
    const char *name;
    int64_t min, max;
} runtime_options[] = {
#define OPTION_(name, kind, def, min, max, help) {#name, (min), (max)},
    TARN_OPTIONS_TABLE(OPTION_)
#undef OPTION_
};

static const struct option *option_of(const struct mode *m)
{
    for (size_t i = 0; i < sizeof runtime_options / sizeof runtime_options[0];
         i++)
        if (strcmp(runtime_options[i].name, m->name) == 0)
            return &runtime_options[i];
    return NULL;
}

static uint32_t modes_available(void)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < MODES; i++)
        if (option_of(&modes[i]) != NULL)
            bits |= UINT32_C(1) << i;
    return bits;
}

/* --- lists --------------------------------------------------------------------- */

static bool next_part(const char **list, char *part, size_t len)
{
    if (*list == NULL)
        return false;
    size_t n = strcspn(*list, ",");
    snprintf(part, len, "%.*s", (int)n, *list);
    *list = (*list)[n] == ',' ? *list + n + 1 : NULL;
    return true;
}

bool modes_parse(const char *list, uint32_t *bits, bool *random,
                 const char **bad)
{
    static char part[64];
    *bits = 0;
    *random = false;
    while (next_part(&list, part, sizeof part)) {
        size_t i = 0;
        if (strcmp(part, "all") == 0) {
            *bits = modes_available();
            continue;
        }
        if (strcmp(part, "none") == 0)
            continue;
        if (strcmp(part, "random") == 0) {
            *random = true;
            continue;
        }
        while (i < MODES && strcmp(part, modes[i].name) != 0)
            i++;
        *bad = part;
        if (i == MODES || option_of(&modes[i]) == NULL)
            return false;
        *bits |= UINT32_C(1) << i;
    }
    return true;
}

bool behaviours_parse(const char *list, uint32_t *bits, const char **bad)
{
    static char part[64];
    *bits = 0;
    while (next_part(&list, part, sizeof part)) {
        uint32_t i = 0;
        if (strcmp(part, "all") == 0) {
            *bits = (UINT32_C(1) << DO_COUNT) - 1;
            continue;
        }
        while (i < DO_COUNT && strcmp(part, behaviour_names[i]) != 0)
            i++;
        *bad = part;
        if (i == DO_COUNT)
            return false;
        *bits |= UINT32_C(1) << i;
    }
    return true;
}

static void add_name(char *buf, size_t len, const char *name)
{
    size_t n = strlen(buf);
    snprintf(buf + n, len - n, "%s%s", n == 0 ? "" : ",", name);
}

void modes_names(uint32_t bits, char *buf, size_t len)
{
    *buf = '\0';
    for (size_t i = 0; i < MODES; i++)
        if (bits >> i & 1)
            add_name(buf, len, modes[i].name);
    if (*buf == '\0')
        snprintf(buf, len, "none");
}

void behaviours_names(uint32_t bits, char *buf, size_t len)
{
    *buf = '\0';
    if (bits == (UINT32_C(1) << DO_COUNT) - 1) {
        snprintf(buf, len, "all");
        return;
    }
    for (uint32_t i = 0; i < DO_COUNT; i++)
        if (bits >> i & 1)
            add_name(buf, len, behaviour_names[i]);
}

void modes_list(void)
{
    printf("Modes, options of the runtime (TARN=help explains them)\n ");
    for (size_t i = 0; i < MODES; i++)
        if (option_of(&modes[i]) != NULL)
            printf(" %s", modes[i].name);
    printf("\nBehaviours\n");
    for (int i = 0; i < DO_COUNT; i++)
        printf("  %-10s %s\n", behaviour_names[i], behaviour_whats[i]);
}

/* --- a round ------------------------------------------------------------------- */

uint32_t modes_random(uint64_t *rng)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < MODES; i++)
        if (stress_below(rng, 100) < modes[i].weight &&
            option_of(&modes[i]) != NULL)
            bits |= UINT32_C(1) << i;
    return bits;
}

void modes_options(uint32_t bits, uint64_t seed, char *buf, size_t len)
{
    *buf = '\0';
    for (size_t i = 0; i < MODES; i++) {
        const struct option *o = option_of(&modes[i]);
        /* Whatever else is on, a mode has the same value. */
        uint64_t rng = stress_mix(seed, 0x0de + i) | 1;
        int64_t v =
            modes[i].min +
            stress_below(&rng, (uint32_t)(modes[i].max - modes[i].min) + 1);
        if (!(bits >> i & 1) || o == NULL)
            continue;
        char one[64];
        snprintf(one, sizeof one, "%s=%lld", modes[i].name,
                 (long long)(v > o->max   ? o->max
                             : v < o->min ? o->min
                                          : v));
        add_name(buf, len, one);
    }
}

/* --- breakages ------------------------------------------------------------------- */

static const struct breakage {
    const char *name;
    enum { SCAN, COLLECTOR, PROCESS } of;
    uint32_t fault; /* of enum scan_fault, gc_fault or stress_end */
    const char *what;
} breakages[] = {
    {"rbx", SCAN, SCAN_FAULT_RBX, "the rbx that a parked goroutine pushed"},
    {"xsave", SCAN, SCAN_FAULT_XREGS,
     "the vector registers of an interrupted goroutine"},
    {"general", SCAN, SCAN_FAULT_GENERAL,
     "the general registers of an interrupted goroutine"},
    {"redzone", SCAN, SCAN_FAULT_RED_ZONE,
     "what lies below the stack pointer of an interrupted goroutine"},
    {"page", SCAN, SCAN_FAULT_PAGE, "the oldest 4 KiB of each stack"},
    {"interior", SCAN, SCAN_FAULT_INTERIOR, "pointers into objects"},
    {"pastend", COLLECTOR, GC_FAULT_PAST_END, "pointers one past the end"},
    {"native", SCAN, SCAN_FAULT_NATIVE,
     "registers of goroutines in native code on their own stack"},
    {"operand", SCAN, SCAN_FAULT_OPERAND, "operands of blocked operations"},
    {"alloca", SCAN, SCAN_FAULT_ALLOCA, "alloca blocks"},
    {"move", SCAN, SCAN_FAULT_MOVE,
     "rbx, when the pointers of a moved stack are adjusted"},
    {"barrier", COLLECTOR, GC_FAULT_BARRIER, "the write barrier"},
    {"flush", COLLECTOR, GC_FAULT_FLUSH, "what the write barrier has noted"},
    {"bulk", COLLECTOR, GC_FAULT_BULK,
     "the write barrier of channels and of tarn_copy"},
    {"cards", COLLECTOR, GC_FAULT_CARDS,
     "old objects that point to young ones"},
    {"stacks", COLLECTOR, GC_FAULT_STACKS, "all stacks"},
    {"timers", COLLECTOR, GC_FAULT_TIMERS, "running timers"},
    {"barriered", COLLECTOR, GC_FAULT_BARRIERED, "barriered root ranges"},
    {"crash", PROCESS, END_CRASH, "nothing; a goroutine reads address 8"},
    {"kill", PROCESS, END_KILL, "nothing; the round is killed"},
    {"hang", PROCESS, END_HANG, "nothing; a round does not end"},
};
#define BREAKAGES (sizeof breakages / sizeof breakages[0])

int breakage_by_name(const char *name)
{
    for (size_t i = 0; i < BREAKAGES; i++)
        if (strcmp(breakages[i].name, name) == 0)
            return (int)i;
    return -1;
}

const char *breakage_name(int b)
{
    return b < 0 ? "none" : breakages[b].name;
}

void breakages_list(void)
{
    printf("--break leaves out, on purpose:\n");
    for (size_t i = 0; i < BREAKAGES; i++)
        printf("  %-10s %s\n", breakages[i].name, breakages[i].what);
}

void breakage_apply(int b)
{
    if (b < 0)
        return;
    if (breakages[b].of == COLLECTOR)
        atomic_store(&gc_fault, breakages[b].fault);
    else if (breakages[b].of == SCAN)
        atomic_store(&scan_fault, breakages[b].fault);
    else
        stress_end = breakages[b].fault;
}

/* base/options.h - the options in force, and how they are read.
 * The table itself is public: tarn/options.h. */
#ifndef TARN_BASE_OPTIONS_H_
#define TARN_BASE_OPTIONS_H_

#include "base/base.h"
#include "tarn/options.h"

extern struct tarn_options options; /* in force; defaults before tarn_main */

/* Options that make the program another one, slower or harsher: a run says at its
 * start which of them it has, so that a report of a fault says it too. One line
 * here makes an option such a mode: X(name, "what it does"). */
#define DEBUG_MODES_TABLE(X)                                                   \
    X(checkmark, "each mark is checked with the world stopped")                \
    X(clobberfree, "freed objects are filled with 0xdeadbeefdeadbeef")         \
    X(gcstress, "allocations between two collections")                         \
    X(stackmove, "every prologue that checks moves the stack")                 \
    X(stackpoison, "a stack that was left is closed for a while")              \
    X(stackshrink, "every scan freezes or shrinks")                            \
    X(preemptat, "one of so many prologues yields")                            \
    X(stackescape, "after each mark: no pointer into a copying stack")         \
    X(barriercheck, "after each mark: no pointer stored without a barrier")    \
    X(droppreempt, "percent of requests to preempt are lost")                  \
    X(delays, "longest random delay in us; debug builds only")

/* Checks *from (NULL: defaults; struct_size may be of an older, smaller struct:
 * the missing fields take defaults; 0 or larger than ours: error), applies the
 * environment variable TARN over it, stores the result in *out. With TARN=help
 * (or help among the parts) prints the table to stdout and exits 0. */
tarn_status options_load(const struct tarn_options *from,
                         struct tarn_options *out);
/* The table as text, for help and docs: name, kind, default, help. */
size_t options_help(char *buf, size_t len);
/* "stackmove=1 (...), gcstress=64 (...), seed=123": the modes of the table above
 * that are not as by default, and the seed. Nothing if there are none. As
 * snprintf. */
size_t options_debug_modes(const struct tarn_options *o, char *buf, size_t len);
/* A seed, if the options leave it to the clock: one for the whole run, which can
 * be told and given again. */
void options_choose_seed(struct tarn_options *o);

#endif

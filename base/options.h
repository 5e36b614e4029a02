/* base/options.h - the options in force, and how they are read.
 * The table itself is public: tarn/options.h. */
#ifndef TARN_BASE_OPTIONS_H_
#define TARN_BASE_OPTIONS_H_

#include "base/base.h"
#include "tarn/options.h"

extern struct tarn_options options; /* in force; defaults before tarn_main */

/* Checks *from (NULL: defaults; struct_size may be of an older, smaller struct:
 * the missing fields take defaults; 0 or larger than ours: error), applies the
 * environment variable TARN over it, stores the result in *out. With TARN=help
 * (or help among the parts) prints the table to stdout and exits 0. */
tarn_status options_load(const struct tarn_options *from,
                         struct tarn_options *out);
/* The table as text, for help and docs: name, kind, default, help. */
size_t options_help(char *buf, size_t len);

#endif

/* tarn/trace.h - a timeline of what the runtime does, in a file that
 * ui.perfetto.dev and chrome://tracing open (docs/debugging.md).
 *
 * One track for each P: which goroutine runs on it, native calls, assists,
 * preemptions; one for the collector's phases; one for stops of the world;
 * counters of heap, goal and goroutines. An event is kept in a buffer of the P; a
 * thread of the runtime writes full buffers to the file. Where it cannot keep up,
 * events are left out and counted; no goroutine waits for the file.
 *
 * The environment variable TARN_TRACEFILE=path has one made of the whole of
 * tarn_main.
 */
#ifndef TARN_TRACE_H_
#define TARN_TRACE_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Begins to record, into a new file or over an old one. blocks, preempts;
 * goroutines only. TARN_EINVAL (no path); TARN_ESTATE: one is being made; the
 * world is stopped by the caller; not on a goroutine. TARN_ESYS, TARN_ENOMEM: no
 * such file, thread or memory. */
TARN_API tarn_status tarn_trace_start(const char *path);

/* Ends it; the file is complete on return. So does the end of tarn_main; exit and
 * crashes leave a file without its end, which can be read all the same. TARN_ESYS
 * if something could not be written; TARN_ESTATE: none is being made. blocks,
 * preempts; goroutines only. */
TARN_API tarn_status tarn_trace_stop(void);

TARN_END_DECLS
#endif

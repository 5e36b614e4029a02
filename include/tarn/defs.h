/* tarn/defs.h - linkage, status codes and the error text of the last failure.
 *
 * Words used in every header here:
 *   allocates  may take memory from the managed heap, and so may start a
 *              collection or do a bounded amount of its work;
 *   blocks     may park the calling goroutine (never the thread under it);
 *   preempts   is a safe point: another goroutine may run before it returns,
 *              and the caller may continue on another thread;
 *   moves      may move the calling goroutine's copying stack;
 *   foreign    may be called by a thread that is not running a goroutine;
 *   signal     may be called from a signal handler.
 * What is not said to hold does not hold.
 */
#ifndef TARN_DEFS_H_
#define TARN_DEFS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Around declarations, so that C++ takes them as C. */
#ifdef __cplusplus
#define TARN_BEGIN_DECLS extern "C" {
#define TARN_END_DECLS }
#else
#define TARN_BEGIN_DECLS
#define TARN_END_DECLS
#endif

/* What the library exports. */
#define TARN_API __attribute__((visibility("default")))

/* Of these headers, to be compared with the preprocessor. */
#define TARN_VERSION_MAJOR 0
#define TARN_VERSION_MINOR 1
#define TARN_VERSION_PATCH 0

TARN_BEGIN_DECLS

/* The body of a goroutine. Ordinary C linkage, runs until it returns. */
typedef void (*tarn_fn)(void *arg);

/* What calls that may fail return. */
typedef enum tarn_status {
    TARN_OK = 0,        /* it is done */
    TARN_EINVAL = 1,    /* an argument is out of its documented range */
    TARN_ENOMEM = 2,    /* the heap limit or the kernel refused memory */
    TARN_EOVERFLOW = 3, /* a size or count does not fit */
    TARN_ESTATE = 4,    /* not on a goroutine, or the runtime is not running */
    TARN_ECLOSED = 5,   /* the channel is closed */
    TARN_EAGAIN = 6,    /* would block (the try_ forms) */
    TARN_ELIMIT = 7,    /* a configured limit is reached */
    TARN_EOPTION = 8,   /* an option is unknown or malformed */
    TARN_ESYS = 9,      /* the kernel refused something other than memory */
} tarn_status;

/* Text of the last failure of a tarn_ call on this goroutine (on this thread
 * when not on a goroutine); "" if none. Owned by the runtime and valid until
 * the next failing call there. foreign. */
TARN_API const char *tarn_last_error(void);

/* A constant name for a status, never NULL. foreign, signal. */
TARN_API const char *tarn_status_name(tarn_status s);

TARN_END_DECLS
#endif

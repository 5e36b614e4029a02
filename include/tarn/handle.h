/* tarn/handle.h - roots that come and go one at a time.
 *
 * A handle holds one pointer to a managed object, and keeps the object alive, until it
 * is dropped. It is memory of the runtime's, not a managed object, and may be kept
 * where the collector never looks: in malloc'ed structs, in a native library, in
 * files of another language. Objects never move, so there is no pinning: what a handle
 * gave may be used by native code as long as the handle lives.
 *
 * All may be called by any goroutine, attached threads among them, on any handle; two
 * that set, drop or read the same one at the same time are as right as with any
 * variable. None blocks the goroutine, preempts it or moves its stack. Use of a handle
 * after it was dropped ends the process with a message, unless it is in use again.
 */
#ifndef TARN_HANDLE_H_
#define TARN_HANDLE_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Eight bytes of the runtime's memory. */
typedef struct tarn_handle tarn_handle;

/* A new handle to object, which may be NULL, or a pointer into one. NULL: no memory,
 * or not on a goroutine. */
TARN_API tarn_handle *tarn_handle_new(void *object)
    __attribute__((warn_unused_result));
/* What the handle holds. */
TARN_API void *tarn_handle_get(const tarn_handle *handle);
/* Holds object from now on. */
TARN_API void tarn_handle_set(tarn_handle *handle, void *object);
/* The end of the handle. NULL is fine. */
TARN_API void tarn_handle_drop(tarn_handle *handle);
/* How many there are. foreign. */
TARN_API size_t tarn_handles(void);

TARN_END_DECLS
#endif

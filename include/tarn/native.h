/* tarn/native.h - native calls, callbacks from them, foreign and locked threads.
 *
 * Native code is code that the scheduler cannot stop and that may block its
 * thread: system calls, foreign libraries, long computations that have no safe
 * points. Told of it, the runtime gives the thread's processor to other
 * goroutines if the call takes long, and collects and stops the world meanwhile.
 *
 * In a native call
 *  - no function of Tarn may be called but those of this header that say so, and
 *    those marked foreign: they refuse, or end the process with a message;
 *  - what the goroutine reaches through its stack stays alive, and so does the
 *    argument of tarn_native_call; what native code keeps elsewhere does not;
 *  - pointers to managed objects are not stored into managed objects;
 *  - the goroutine's stack does not move.
 */
#ifndef TARN_NATIVE_H_
#define TARN_NATIVE_H_

#include "tarn/defs.h"

struct timespec;

TARN_BEGIN_DECLS

/* Runs fn(arg) as native code on the thread's own stack (hundreds of KiB), and
 * returns what it returns. In a native call made by this function: just calls
 * fn. Anything else that is not on a goroutine ends the process. blocks,
 * preempts. */
TARN_API void *tarn_native_call(void *(*fn)(void *), void *arg);

/* What comes between the two is native code on the goroutine's stack, in the
 * function that calls both. It may call code without split-stack checks only
 * (any other ends the process), which finds 16 KiB. The pair costs some
 * nanoseconds. They do not nest; misuse ends the process. tarn_native_leave
 * blocks, preempts. */
TARN_API void tarn_native_enter(void);
TARN_API void tarn_native_leave(void);

/* Is this thread in a native call? foreign, signal. */
TARN_API bool tarn_in_native(void);

/* From native code, runs fn(arg) as the goroutine that made the call; returns
 * when fn does. fn may do everything but end the goroutine or detach, native
 * calls with callbacks of their own included; the goroutine stays on this thread
 * until the outermost native call is over. On a goroutine that is in no native
 * call: just calls fn. On a thread that the runtime does not know: attaches it,
 * calls fn, detaches it; see tarn_thread_attach for what it returns then.
 * TARN_EINVAL: no fn. TARN_ESTATE: this thread is the one that called tarn_main,
 * which is about to return (and waits for the native call to end). foreign,
 * blocks, preempts, moves. */
TARN_API tarn_status tarn_callback(tarn_fn fn, void *arg);

/* --- system calls ------------------------------------------------------------
 *
 * As those of the C library, as native calls; errors are returned as -errno,
 * since errno belongs to a thread and a goroutine may continue on another one.
 * Not restarted after EINTR unless it says so. Memory given to them must not lie
 * on a copying stack that other goroutines look at, and may be managed memory
 * that is kept alive. They block the goroutine, and preempt. */

/* Any system call by its number (SYS_... of <sys/syscall.h>). */
TARN_API long tarn_syscall(long number, long a, long b, long c, long d, long e,
                           long f);
/* As read(2), write(2), pread(2), pwrite(2). */
TARN_API long tarn_read(int fd, void *buf, size_t n);
TARN_API long tarn_write(int fd, const void *buf, size_t n);
TARN_API long tarn_pread(int fd, void *buf, size_t n, int64_t offset);
TARN_API long tarn_pwrite(int fd, const void *buf, size_t n, int64_t offset);
/* As open(2): flags, and mode where they create a file. */
TARN_API long tarn_open(const char *path, int flags, unsigned mode);
/* As close(2). */
TARN_API long tarn_close(int fd);
struct pollfd;
/* As poll(2). */
TARN_API long tarn_poll_fds(struct pollfd *fds, unsigned long n,
                            int timeout_ms);
/* Blocks the thread; tarn_sleep blocks just the goroutine. Goes on after EINTR.
 * 0 or -errno. */
TARN_API long tarn_nanosleep(int64_t ns);
/* futex(2), private: waits while *addr == value, at most ns nanoseconds (< 0: no
 * limit): 0, -EAGAIN, -ETIMEDOUT or -EINTR. Wakes up to n: how many. */
TARN_API long tarn_futex_wait(uint32_t *addr, uint32_t value, int64_t ns);
TARN_API long tarn_futex_wake(uint32_t *addr, uint32_t n);

/* --- threads ------------------------------------------------------------------- */

/* Makes the calling thread, which the runtime did not create, a goroutine of its
 * own: from here on it may call whatever a goroutine may, its stack is scanned,
 * and it runs only while it has a processor. It stays on its thread, is a safe
 * point only where it calls Tarn (or code that is preempted asynchronously), and
 * must enclose all that blocks or takes long in native calls. A thread that ends
 * attached is detached. When tarn_main returns it goes on in a native call only,
 * and where it leaves that waits for the next tarn_main. TARN_ESTATE: no tarn_main
 * is running, or the thread runs goroutines, is attached already or is about to
 * end; TARN_ELIMIT: option maxthreads, less what the runtime itself needs;
 * TARN_ENOMEM; TARN_ESYS: also where it is not on the thread's own stack.
 * While a thread is or has been attached no deadlock is reported. foreign,
 * blocks. */
TARN_API tarn_status tarn_thread_attach(void);
/* Ends that goroutine; the thread goes on. TARN_ESTATE: not attached, in a native
 * call, in a callback, has stopped the world. */
TARN_API tarn_status tarn_thread_detach(void);
/* Does this thread have a goroutine by tarn_thread_attach? foreign, signal. */
TARN_API bool tarn_thread_attached(void);

/* Binds the calling goroutine to its thread: it runs there, and nothing else
 * does, until as many calls of tarn_unlock_thread. A goroutine that ends locked
 * takes its thread with it (but the one that called tarn_main). TARN_ESTATE: not
 * on a goroutine; not locked. */
TARN_API tarn_status tarn_lock_thread(void);
TARN_API tarn_status tarn_unlock_thread(void);

TARN_END_DECLS
#endif

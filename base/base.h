/* base/base.h - the machine and the operating system, for every layer.
 *
 * Owns: compiler idioms, assertions and throw, locks and notes, virtual memory,
 * the clock, options, histograms, random numbers, fault points. Knows nothing
 * of goroutines: what throw prints of G, M and P comes through a hook.
 *
 * Invariants
 *  1. Nothing here allocates managed memory, and only options and histograms
 *     allocate at all (mimalloc).
 *  2. Every kernel call that can be refused goes through a function here that
 *     has a fault point (base/fail.h), so that a test can make it fail.
 *  3. A thread takes locks in increasing rank (base/lock.h lists the ranks);
 *     debug builds check it at each acquisition.
 *  4. A failed assertion and throw print through write(2) from a static buffer:
 *     they need no heap, no stdio and no lock.
 *
 * Locks: none of its own; the list of all ranks is in base/lock.h.
 */
#ifndef TARN_BASE_BASE_H_
#define TARN_BASE_BASE_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((cold, noinline))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define CACHE_LINE 64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

#if defined(__SANITIZE_ADDRESS__)
#define TARN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TARN_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TARN_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TARN_TSAN 1
#endif
#endif
#ifndef TARN_ASAN
#define TARN_ASAN 0
#endif
#ifndef TARN_TSAN
#define TARN_TSAN 0
#endif

/* For code that reads memory it does not own on purpose: conservative scans; and
 * for code that changes stacks under the sanitizers' feet. clang leaves atomics
 * and the notes of where functions begin and end in place unless told twice. */
#if defined(__clang__)
#define NO_SANITIZE                                                            \
    __attribute__((no_sanitize("address", "thread", "undefined"),              \
                   disable_sanitizer_instrumentation))
#else
#define NO_SANITIZE                                                            \
    __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, field)                                           \
    ((type *)((char *)(p)-offsetof(type, field)))
#define ALIGN_UP(x, a) (((x) + ((a)-1)) & ~(__typeof__(x))((a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~(__typeof__(x))((a)-1))

#define KiB ((size_t)1 << 10)
#define MiB ((size_t)1 << 20)
#define GiB ((size_t)1 << 30)

/* Ends the process: one line "tarn: fatal: <text>", then G, M and P, then a
 * stack trace, then abort. Any thread, any stack with 2 KiB left. */
void throw_(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4)
    __attribute__((noreturn, cold));
#define throw(...) throw_(__FILE__, __LINE__, __VA_ARGS__)
/* As throw without the trace and with exit status 2: the program's fault, said
 * as a message to its author ("all goroutines are asleep - deadlock!"). */
void fatal(const char *fmt, ...) PRINTF_LIKE(1, 2)
    __attribute__((noreturn, cold));

/* Formats into a static-size buffer and writes it to stderr in one write(2).
 * Understands what vsnprintf does. */
void tarn_eprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Does p point into one of the static stacks on which messages are formatted?
 * What lies there is dead, or a message's own. */
bool on_side_stack(const void *p);

/* Static data of the runtime's own that no collection shall look through for
 * references: what is large, and what holds addresses of objects that it does not keep
 * alive. OWN_DATA(x) beside the definition of x. */
#define OWN_DATA_MAX 16u
struct own_range {
    uintptr_t lo, hi;
};
extern struct own_range own_data[OWN_DATA_MAX]; /* ascending */
extern size_t own_data_count;
void own_data_add(const void *p, size_t n); /* before main */
#define OWN_DATA(x)                                                            \
    __attribute__((constructor)) static void own_data_##x(void)                \
    {                                                                          \
        own_data_add(&(x), sizeof(x));                                         \
    }

/* Assertion levels. TARN_CHECKS: 1 = release (only ASSERT), 2 = debug, 3 = debug
 * with the expensive ones.
 *   ASSERT   a compare or two on data at hand: always on
 *   DASSERT  cheap, but on hot paths: debug builds
 *   XASSERT  walks structures: TARN_CHECKS >= 3 */
#ifndef TARN_CHECKS
#define TARN_CHECKS 1
#endif
void assert_failed(const char *expr, const char *file, int line)
    __attribute__((noreturn, cold));
#define ASSERT(e) (likely(e) ? (void)0 : assert_failed(#e, __FILE__, __LINE__))
#if TARN_CHECKS >= 2
#define DASSERT(e) ASSERT(e)
#else
#define DASSERT(e) ((void)sizeof(!(e)))
#endif
#if TARN_CHECKS >= 3
#define XASSERT(e) ASSERT(e)
#else
#define XASSERT(e) ((void)sizeof(!(e)))
#endif

/* Installed by sched: writes "g=12 m=3 p=1" or the like of the calling thread;
 * async-signal-safe. And on the way out, whatever helps (rings, lists). */
struct base_hooks {
    size_t (*describe)(char *buf, size_t len);
    void (*crash_report)(void);
    void (*_Atomic last)(void); /* the program's, when all is said */
};
extern struct base_hooks base_hooks;

/* The error text behind tarn_last_error. set_error formats into the buffer that
 * error_buffer() hands out: the hook's (a goroutine's own) or the thread's. */
#define ERROR_TEXT_SIZE 256
/* NULL result: use the thread's. */
extern char *(*_Atomic error_buffer_hook)(void);
void set_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Monotonic clock, ns. */
int64_t nanotime(void);
ALWAYS_INLINE void procyield(uint32_t n)
{
    while (n-- > 0)
        __builtin_ia32_pause();
}
void osyield(void);
void usleep_os(uint32_t us); /* nanosleep of this thread, EINTR resumed */
uint32_t cpu_count(void);    /* in this process's affinity mask, >= 1 */
int32_t gettid_os(void);

/* A state for one of many generators of a run: what those of near streams yield
 * has nothing in common. */
ALWAYS_INLINE uint64_t rand_state(uint64_t seed, uint64_t stream)
{
    uint64_t x = seed + (stream + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    return x != 0 ? x : 1;
}
/* xorshift64*; state must not be 0. */
ALWAYS_INLINE uint64_t rand_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}
/* In [0, n), n > 0. */
ALWAYS_INLINE uint32_t rand_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(((rand_next(state) >> 32) * n) >> 32);
}

#endif

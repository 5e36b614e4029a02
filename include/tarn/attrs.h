/* tarn/attrs.h - what generated code must know of the runtime: for JIT compilers
 * and for front ends of LLVM. docs/codegen.md has the whole story and an example.
 *
 * Offsets and sizes are constants. Addresses and what depends on the process come
 * from the tarn_attr_ functions; none of these changes before the process ends,
 * so generated code may have them as immediates. They are inline, allocate
 * nothing and may be called from anywhere: foreign, signal.
 *
 * 1. Stack check. A function compares, before it touches its stack, the lowest
 *    rsp that it will have with the word at fs:TARN_ATTR_GUARD_FS; if that is
 *    above, it calls tarn_attr_morestack() with the frame's size in r10 and the
 *    size of its stack arguments in r11. Behind the call stands a ret of one
 *    byte, behind that the function's body, where the call comes back to, with
 *    all argument registers and perhaps another rsp:
 *
 *            cmpq %fs:0x70, %rsp         or leaq -size(%rsp), %r11
 *            jae 1f                         cmpq %fs:0x70, %r11
 *            movl $size, %r10d
 *            movl $0, %r11d
 *            call __morestack
 *            ret
 *       1:
 *
 *    The runtime itself needs no more. Before a call of code that has no such
 *    checks TARN_ATTR_UNCHECKED_ROOM is added to the size.
 * 2. Stores of pointers: tarn/barrier.h, whose inline sequence tests the word at
 *    tarn_attr_barrier_flag(), notes the card, stores; or calls
 *    tarn_attr_store_slow().
 * 3. Allocation: tarn/heap.h, "inline allocation".
 * 4. Sequences that must not be left half-way: tarn/unsafe.h.
 * 5. Text in which a goroutine may be stopped: tarn/preempt.h.
 * 6. Frame maps, below: optional, they make scans exact.
 */
#ifndef TARN_ATTRS_H_
#define TARN_ATTRS_H_

/* The first of these are known to assembly of the library too. */
#define TARN_ATTR_GUARD_FS 0x70
/* A frame of fewer bytes may compare rsp itself. */
#define TARN_ATTR_SMALL_FRAME 256
#define TARN_ATTR_UNCHECKED_ROOM 0x4000

#ifndef __ASSEMBLER__

#include "tarn/barrier.h"
#include "tarn/defs.h"
#include "tarn/heap.h"
#include "tarn/preempt.h"
#include "tarn/unsafe.h"

TARN_BEGIN_DECLS

/* --- stack check ------------------------------------------------------------- */

/* __morestack, by a name that modules and dlsym find too. Not to be called from
 * C. */
TARN_API void tarn_morestack(void);
static inline const void *tarn_attr_morestack(void)
{
    return (const void *)(uintptr_t)tarn_morestack;
}

/* --- stores ------------------------------------------------------------------ */

/* A uint32_t: not zero means that tarn_attr_store_slow(slot, value) is called
 * instead of storing; a normal C call that does not block or move the stack. */
static inline const void *tarn_attr_barrier_flag(void)
{
    return &tarn_barrier_on;
}
static inline const void *tarn_attr_store_slow(void)
{
    return (const void *)(uintptr_t)tarn_store_slow;
}

/* struct tarn_cards: the byte at *(table) + (uint32_t)slot >> CARD_SHIFT becomes
 * the byte epoch. Both are read anew for each store. */
#define TARN_ATTR_CARDS_TABLE 0
#define TARN_ATTR_CARDS_EPOCH 8
#define TARN_ATTR_CARD_SHIFT 9
static inline const void *tarn_attr_cards(void)
{
    return &tarn_cards;
}

/* --- allocation -------------------------------------------------------------- */

/* The word at fs + this is the address of the cache, or 0. Within int32_t. */
static inline intptr_t tarn_attr_cache_fs(void)
{
    intptr_t offset;
    __asm__("movq tarn_local@gottpoff(%%rip), %0" : "=r"(offset));
    return offset;
}

/* struct tarn_cache_head, at the start of the cache */
#define TARN_ATTR_CACHE_META 0
#define TARN_ATTR_CACHE_COLOR 8
/* The byte that speaks of the object at a: meta + (a >> META_SHIFT). */
#define TARN_ATTR_META_SHIFT 4
/* struct tarn_cache_entry */
#define TARN_ATTR_ENTRY_PTR 0
#define TARN_ATTR_ENTRY_END 8
#define TARN_ATTR_ENTRY_SIZE 16
#define TARN_ATTR_ENTRY_STARTBITS 18
#define TARN_ATTR_ENTRY_BYTES 40 /* of an entry */

/* The distance from the start of the cache to the entry for objects of a type; of
 * n bytes without pointers; of n conservative bytes. 0: there is none, as for
 * sizes above TARN_CACHE_BYTES_MAX. (That of a large type is always empty.) */
static inline uint32_t tarn_attr_type_entry(const tarn_type *type)
{
    return *(const uint32_t *)(const void *)type;
}
static inline uint32_t tarn_attr_bytes_entry(size_t n)
{
    if (n > TARN_CACHE_BYTES_MAX)
        return 0;
    return (TARN_CACHE_BYTES + (n == 0 ? 1 : (uint32_t)(n + 15) / 16)) *
           TARN_ATTR_ENTRY_BYTES;
}
static inline uint32_t tarn_attr_conservative_entry(size_t n)
{
    if (n > TARN_CACHE_BYTES_MAX)
        return 0;
    return (TARN_CACHE_CONSERVATIVE + (n == 0 ? 1 : (uint32_t)(n + 15) / 16)) *
           TARN_ATTR_ENTRY_BYTES;
}

/* Whom to call when the cache has nothing: normal C calls, that may block and move
 * the stack; the argument is the type or the size. */
static inline const void *tarn_attr_alloc_slow(void)
{
    return (const void *)(uintptr_t)tarn_alloc_call;
}
static inline const void *tarn_attr_alloc_bytes_slow(void)
{
    return (const void *)(uintptr_t)tarn_alloc_bytes_call;
}
static inline const void *tarn_attr_alloc_conservative_slow(void)
{
    return (const void *)(uintptr_t)tarn_alloc_conservative_call;
}

/* --- restartable sequences in object files ------------------------------------- */

/* A compiler that writes object files may describe its sequences in a table and
 * give it to tarn_unsafe_module_add from a constructor: for each sequence two
 * int32_t, the distances from where each of them stands to lo and to hi. What is
 * in the section TARN_ATTR_UNSAFE_SECTION of a module in which some C file uses
 * an inline function of Tarn is registered by that file's constructor. */
#define TARN_ATTR_UNSAFE_SECTION "tarn_unsafe"
#define TARN_ATTR_UNSAFE_PAIR 8

/* --- frame maps -----------------------------------------------------------------
 *
 * Without maps every word of a frame may be a pointer, and may be an address in
 * the stack: nothing has to be told, but what is dead may be kept alive, and a
 * number may be changed that looks like an address in the stack. A map tells what
 * the words are while a call of that frame is under way:
 *
 *          | slot of the caller's return address  |  <- slot of ret + size
 *          | word size/8 - 2                      |
 *          |  ...                                 |
 *          | word 0                               |  <- rsp behind the call
 *          | slot that holds ret                  |
 *
 * Whoever registers promises:
 *  1. At ret every word that holds the address of an object that this frame will
 *     still use is in `pointers`; every word that holds an address in this
 *     goroutine's own stack, in `locals`. One word may be in both. Other words
 *     are neither looked at nor changed.
 *  2. Outgoing arguments on the stack belong to who is called, who may keep
 *     anything there: their words are in both.
 *  3. A callee-saved register that the function has changed is in `saved`: the
 *     word holds its caller's value, which may be anything and is treated so.
 *     What the function itself holds in such registers at ret is found where the
 *     functions below have saved it, and treated so too: nothing has to be told.
 *  4. A map is there before its code runs, until no frame of it is left.
 *  5. Where the function calls __morestack, before it has a frame, a map of size 8
 *     for that return address lets a walk of the stack go on if there are no
 *     unwind tables.
 *
 * A walk goes from frame to frame by maps and by the unwind tables (.eh_frame) of
 * loaded modules. Where it meets a frame that has neither, that frame and all
 * above it count whole. Under option checkmark maps are not used. */

/* Callee-saved registers, as `saved` has them. */
enum tarn_saved_reg {
    TARN_SAVED_RBX,  /* rbx */
    TARN_SAVED_RBP,  /* rbp */
    TARN_SAVED_R12,  /* r12 */
    TARN_SAVED_R13,  /* r13 */
    TARN_SAVED_R14,  /* r14 */
    TARN_SAVED_R15,  /* r15 */
    TARN_SAVED_REGS, /* how many there are */
};

/* The largest frame that may have a map, in bytes. */
#define TARN_FRAME_SIZE_MAX ((uint32_t)256 << 10)

/* A frame as it is at one return address. */
struct tarn_frame_map {
    uintptr_t ret; /* the return address: behind the call */
    uint32_t size; /* from the slot of ret to the caller's, in bytes */
    uint16_t saved[TARN_SAVED_REGS]; /* 1 + the word that holds the caller's
                                        value; 0: the register is as it was */
    uint16_t rbp; /* 1 + the word that rbp points to at ret, where it does: the
                     frame is then believed to be of this map only if so; 0: not
                     told */
    const uint64_t
        *pointers;          /* bit i%64 of word i/64 for word i of the frame */
    const uint64_t *locals; /* both: NULL = none */
};

/* The maps of the code in [lo, hi), in any order. */
struct tarn_frame_maps {
    const void *lo;                    /* the code begins here */
    const void *hi;                    /* and ends before this */
    const struct tarn_frame_map *maps; /* its maps, as many as n says */
    size_t n;                          /* how many */
};

/* Copies all of it. TARN_EINVAL, with the offender named: a range that is empty or
 * overlaps a registered one, a return address that is outside of it or has a map,
 * a size that is no multiple of 8 or is above TARN_FRAME_SIZE_MAX, a word outside
 * of its frame. TARN_ENOMEM. Then nothing is registered. Takes time in proportion
 * to all that is registered: give the maps of one piece of code in one call.
 * foreign; may precede tarn_main. */
TARN_API tarn_status
tarn_frame_maps_register(const struct tarn_frame_maps *maps);
/* With the bounds of a registered range; TARN_EINVAL if there is none. TARN_ENOMEM:
 * it stays. foreign. */
TARN_API tarn_status tarn_frame_maps_unregister(const void *lo, const void *hi);

/* --- LLVM's stack maps ------------------------------------------------------------
 *
 * Frame maps made from the section .llvm_stackmaps (version 3) that LLVM writes
 * for functions with gc.statepoint. From it is known which words of a function's
 * frames hold pointers to objects ("gc" values) over some statepoint, and which of
 * these are live at each one. A word that is such a slot elsewhere in the function,
 * but is not named at the statepoint, is dead there. All other words (variables,
 * spilled registers, arguments of calls) count as if there were no map, for
 * scanning and for moving.
 *
 * Where the frame's bounds and the saved registers are comes from unwind tables:
 * functions need the attribute uwtable unless they may throw, as LLVM has it by
 * default. A record whose frame cannot be told (alloca of variable size, a base
 * register, a frame above TARN_FRAME_SIZE_MAX) gets no map: its frames count
 * whole. So do those of calls that are no statepoints.
 *
 * Whoever registers promises that over a statepoint the function needs no object
 * but those that are gc values (or values for deoptimization on the stack) of that
 * statepoint, whatever else was in their slots; and that records of
 * llvm.experimental.patchpoint in the same functions do not begin with three
 * constants, as those of statepoints do. */

/* The section, and what belongs to it. */
struct tarn_stackmaps {
    const void *section; /* as it was loaded: addresses are relocated */
    size_t size; /* several tables one after another, as linkers put them
                            together, are read one by one */
    const void *eh_frame; /* the section .eh_frame of code that is in no loaded
                             module, as an in-process linker has it; else NULL */
    size_t eh_frame_size; /* of that, in bytes */
};

/* What became of it. */
struct tarn_stackmaps_stats {
    size_t struct_size; /* set by the caller: sizeof(*stats) */
    size_t functions;   /* with statepoints or without */
    size_t records;     /* of calls */
    size_t mapped;      /* of these, with a map now; the others count whole */
};

/* Reads the section (and .eh_frame) during the call only. stats may be NULL.
 * TARN_EINVAL, with what is wrong and its offset in the section named: whatever is
 * not of this format; a function without unwind table; a location outside of its
 * frame; a pointer in a register that calls do not preserve; an address that has
 * a map; a section that is registered. TARN_ENOMEM. Then nothing is registered.
 * foreign; may precede tarn_main. */
TARN_API tarn_status tarn_stackmaps_register(
    const struct tarn_stackmaps *maps, struct tarn_stackmaps_stats *stats);
/* With the address of a registered section, of whose functions no frame is left;
 * TARN_EINVAL if it is not registered. TARN_ENOMEM: it stays. foreign. */
TARN_API tarn_status tarn_stackmaps_unregister(const void *section);

TARN_END_DECLS
#endif
#endif

/* tarn/barrier.h - storing pointers into managed objects.
 *
 * Every store of a pointer into a managed object, or into memory that was added
 * as a barriered root range, goes through one of these. So does every store to a
 * global (or a plain root range) that overwrites a pointer to a managed object,
 * also with NULL; a store to a global that holds none yet may be plain. Stores
 * to a goroutine's own stack need none. The first stores into an object that the
 * last call of any tarn_ function allocated need none either if the stored
 * pointer is NULL or points into that object itself; one to an object of before
 * that call needs one. TARN=barriercheck=1 finds those that are missing.
 *
 * None of these allocate, block or move the stack. On a goroutine only.
 */
#ifndef TARN_BARRIER_H_
#define TARN_BARRIER_H_

#include "tarn/defs.h"
#include "tarn/unsafe.h"

TARN_BEGIN_DECLS

/* Not zero while stores have to do more than note their card. Read it through
 * tarn_store only. */
TARN_API extern uint32_t tarn_barrier_on;
/* What tarn_store does then. For generated code. */
TARN_API void tarn_store_slow(void *slot, const void *value);

/* Each store is noted in a byte for 512 bytes of addresses, so that a collection
 * that looks at young objects only knows which old ones may point to them:
 * table[(slot mod 4 GiB) / 512] = epoch, before the store. */
struct tarn_cards {
    uint8_t *table; /* a byte for each 512 bytes of 4 GiB */
    uint8_t epoch;  /* what a store writes there; changes with collections */
};
/* The one that there is; read by tarn_store and by generated code. */
TARN_API extern struct tarn_cards tarn_cards;

/* *(void **)slot = value. The store is a relaxed atomic. Test, note and store are
 * one restartable sequence: no collection begins between them. */
static inline void tarn_store(void *slot, const void *value)
{
#if TARN_UNSAFE_INLINE
    TARN_UNSAFE_ASM_ goto(TARN_UNSAFE_LO_ "cmpl $0, %0\n\t"
                                          "jne %l[slow]\n\t"
                                          "movl %k1, %%eax\n\t"
                                          "shrl $9, %%eax\n\t"
                                          "addq %3, %%rax\n\t"
                                          "movzbl %4, %%edx\n\t"
                                          "movb %%dl, (%%rax)\n\t"
                                          "movq %2, (%1)\n" TARN_UNSAFE_HI_
                          :
                          : "m"(tarn_barrier_on), "r"(slot),
                            "er"((uintptr_t)value), "m"(tarn_cards.table),
                            "m"(tarn_cards.epoch)
                          : "memory", "cc", "rax", "rdx"
                          : slow);
    return;
slow:
    tarn_store_slow(slot, value);
#else
    if (__builtin_expect(
            __atomic_load_n(&tarn_barrier_on, __ATOMIC_RELAXED) != 0, 0)) {
        tarn_store_slow(slot, value);
    } else {
        __atomic_store_n(&tarn_cards.table[(uint32_t)(uintptr_t)slot >> 9],
                         tarn_cards.epoch, __ATOMIC_RELAXED);
        __atomic_store_n((void **)slot, (void *)(uintptr_t)value,
                         __ATOMIC_RELAXED);
    }
#endif
}

/* Compare and swap of a pointer slot, sequentially consistent: stores desired
 * if *slot == *expected and returns true, else loads *slot into *expected. */
TARN_API bool tarn_cas(void *slot, void **expected, const void *desired);
/* Stores value and returns what was there; sequentially consistent. */
TARN_API void *tarn_swap(void *slot, const void *value);
/* *slot = word, for words of a traced type that are pointers in a form of the
 * embedder's own: old and value are the pointers that its trace function sees there
 * before and after, NULL if none. The store is a relaxed atomic. */
TARN_API void tarn_store_encoded(uint64_t *slot, uint64_t word, const void *old,
                                 const void *value);
/* memmove of n bytes onto (part of) a managed object. Word by word where both
 * ends are 8-byte aligned, so that a marker never sees half a pointer. */
TARN_API void tarn_copy(void *dst, const void *src, size_t n);
/* Zeroes n bytes of a managed object, word by word as tarn_copy. */
TARN_API void tarn_clear(void *dst, size_t n);

TARN_END_DECLS
#endif

/* stackscan/unwind.h - from a frame to its caller's, by the tables that compilers
 * write for exceptions and debuggers (.eh_frame).
 *
 * Allocates nothing, takes no lock, reads only the stack between two given
 * addresses and the tables of loaded modules: for signal handlers and for
 * collectors that look at the stacks of others. What it does not understand ends
 * the walk; it never guesses. */
#ifndef TARN_STACKSCAN_UNWIND_H_
#define TARN_STACKSCAN_UNWIND_H_

#include "base/base.h"

/* The registers that a function keeps for its caller, in the order of
 * g->native_regs. */
enum { UNW_RBX, UNW_RBP, UNW_R12, UNW_R13, UNW_R14, UNW_R15, UNW_REGS };

/* The caller's value of a register: where it was; at the frame's address + off;
 * not to be found. */
enum cfi_kind { CFI_SAME, CFI_AT_CFA, CFI_LOST };
#define CFI_RA UNW_REGS /* the rule of the return address is the last one */
/* DWARF's numbers */
#define CFI_RBP 6
#define CFI_RSP 7

/* What the tables say of one instruction. */
struct cfi_row {
    uint8_t cfa_reg; /* DWARF's number */
    uint8_t kind[UNW_REGS + 1];
    bool signal;
    int32_t off[UNW_REGS + 1]; /* the last one is the return address */
    int64_t cfa_off;
};

/* Recursion comes to the same few places again and again. */
#define UNW_CACHE 4

struct unwind {
    /* Where this frame goes on, and its rsp there. */
    uintptr_t pc, sp;
    bool interrupted; /* not behind a call: between any two instructions */
    uint32_t known;   /* bit i: the register's value in this frame is reg[i] */
    uintptr_t reg[UNW_REGS];
    uintptr_t at[UNW_REGS]; /* the address where a frame below, or whoever
                               stopped the goroutine, has saved it; 0: nobody */
    uintptr_t hi;           /* words of [sp, hi) may be read */
    uintptr_t bias;         /* so far above their addresses */
    /* Set by a step, of the frame it has left: where its return address is, and
     * the rsp of its caller. */
    uintptr_t ra_slot, cfa;
    struct {
        uintptr_t pc; /* 0: none */
        struct cfi_row row;
    } cache[UNW_CACHE];
    uint32_t turn;
};

/* To the caller's frame; false: this is the last one that can be told, and *u is
 * as before. Each step moves sp up. */
bool unwind_step(struct unwind *u);

/* The tables of one module. */
struct eh_table {
    uintptr_t hdr;  /* .eh_frame_hdr; 0: none */
    uintptr_t base; /* of the read-only segment that holds the tables */
    uintptr_t end;
};

/* What they say of one function. */
struct cfi {
    uintptr_t start, end;                         /* its text */
    const uint8_t *cie, *cie_end, *fde, *fde_end; /* instructions */
    uint64_t code_align;
    int64_t data_align;
    bool signal; /* its caller was interrupted by it */
};

/* Of the function that holds pc; false: there is none that can be read. */
bool eh_find(const struct eh_table *t, uintptr_t pc, struct cfi *out);
/* The same in an .eh_frame without a sorted table: [base, end) of t; takes time. */
bool eh_scan(const struct eh_table *t, uintptr_t pc, struct cfi *out);
/* The same over all modules (text.c). Signal-safe. */
bool text_cfi(uintptr_t pc, struct cfi *out);
/* What holds at pc, of that function. */
bool cfi_row_at(const struct cfi *c, uintptr_t pc, struct cfi_row *r);

#endif

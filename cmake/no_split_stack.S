/* Part of the one object that the archive holds. An object that bears the mark
 * .note.GNU-split-stack (see sched/asm_amd64.S) says that its callers need no
 * extra stack for it. This second mark says that it has functions without
 * stack checks in their prologues: without it linkers refuse those that call
 * code of other libraries. */
        .section .note.GNU-no-split-stack, "", @progbits
        .section .note.GNU-stack, "", @progbits

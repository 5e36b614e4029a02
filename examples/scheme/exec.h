/* exec.h - the kinds of nodes, for the compiler. */
#ifndef SCHEME_EXEC_H_
#define SCHEME_EXEC_H_

#include "scheme.h"

/* clang-format off */
#define NODES(X)                                                               \
    X(const) X(local) X(local_checked) X(global) X(set_local) X(set_global)    \
    X(define) X(if) X(seq) X(and) X(or) X(lambda) X(case_lambda) X(let)        \
    X(case) X(delay) X(call0) X(call1) X(call2) X(call3) X(calln) X(tail0)     \
    X(tail1) X(tail2) X(tail3) X(tailn)
/* clang-format on */
#define NODES_DECLARE(name) R x_##name(C *c, N *n, V *env);
NODES(NODES_DECLARE)
exec_fn known_call(unsigned op, size_t args);

#endif

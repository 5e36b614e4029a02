/* compile.h - between compile.c and forms.c. */
#ifndef SCHEME_COMPILE_H_
#define SCHEME_COMPILE_H_

#include "exec.h"

/* name: of the procedure, if x makes one; #f */
N *compile(C *c, V x, V scope, bool tail, V name);
N *sequence(C *c, V forms, V scope, bool tail);
N *body(C *c, V forms, V scope, bool tail);
N *lambda(C *c, V formals, V forms, V scope, V name);
N *assign(C *c, V id, N *value, V scope);
N *node_const(C *c, V v);
N *node_of(C *c, exec_fn exec, size_t k, const V *v);
N *bad_syntax(C *c, const char *message, V form);
unsigned scope_add(V scope, V id, V what);

N *special_form(C *c, V syntax, V x, V scope, bool tail, V name);
/* define, begin, define-syntax and such. What one does: */
enum definition {
    D_BAD,
    D_SPLICE,   /* the forms of *value */
    D_SYNTAX,   /* *id is the macro *value */
    D_VARIABLE, /* *id is a variable with the value of expression *value */
};
bool is_definition(V syntax);
bool is_variable_definition(V syntax);
enum definition definition(C *c, V syntax, V x, V scope, V *id, V *value);

#endif

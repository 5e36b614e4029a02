/* circle.c - walks over data that may have circles. A walk is plain as long as it is
 * short and not deep; one that is not is begun again, with a table of what it has
 * met. */
#include "scheme.h"

#include <string.h>

#define STEPS 100000

enum answer { NO, YES, UNKNOWN };

struct walk {
    size_t steps; /* of a plain walk: that are left */
    V seen;       /* table, or 0: a plain walk */
};

/* Has x been met? A plain walk does not know, and ends at some time. */
static enum answer met(struct walk *w, V x)
{
    if (w->seen == 0)
        return w->steps-- == 0 ? UNKNOWN : NO;
    if (table_get(w->seen, x, 0) != 0)
        return YES;
    table_set(w->seen, x, TRUE);
    return NO;
}

/* --- comparison -------------------------------------------------------------- */

/* What has been compared is in sets of equal objects: of each, but for one, the table
 * has another one of its set. */
static V member_of(V sets, V x)
{
    V up, next;
    while ((up = table_get(sets, x, 0)) != 0) {
        if ((next = table_get(sets, up, 0)) != 0)
            table_set(sets, x, next);
        x = up;
    }
    return x;
}

/* Are a and b in one set? From now on they are. */
static bool joined(V sets, V a, V b)
{
    a = member_of(sets, a);
    b = member_of(sets, b);
    if (a == b)
        return true;
    table_set(sets, a, b);
    return false;
}

static enum answer compare(struct walk *w, V a, V b, size_t depth)
{
    for (;;) {
        if (eqv(a, b))
            return YES;
        bool pairs = IS_PAIR(a) && IS_PAIR(b);
        if (!pairs) {
            if (!IS_OBJ(a) || !IS_OBJ(b) || TYPE(a) != TYPE(b))
                return NO;
            if (IS_STRING(a))
                return string_equal(a, b) ? YES : NO;
            if (HEADER(a) != HEADER(b))
                return NO;
            if (IS(a, T_BYTES))
                return memcmp(BYTES(a)->data, BYTES(b)->data, LENGTH(a)) == 0
                           ? YES
                           : NO;
            if (!IS_VECTOR(a))
                return NO;
        }
        if (w->seen == 0 ? w->steps-- == 0 || depth == STEPS
                         : joined(w->seen, a, b))
            return w->seen == 0 ? UNKNOWN : YES;
        if (pairs) {
            enum answer same = compare(w, CAR(a), CAR(b), depth + 1);
            if (same != YES)
                return same;
            a = CDR(a);
            b = CDR(b);
            continue;
        }
        for (size_t i = 0; i < LENGTH(a); i++) {
            enum answer same =
                compare(w, VEC(a)->items[i], VEC(b)->items[i], depth + 1);
            if (same != YES)
                return same;
        }
        return YES;
    }
}

bool equal(V a, V b)
{
    struct walk w = {100 * STEPS, 0};
    enum answer same = compare(&w, a, b, 0);
    if (same == UNKNOWN) {
        w.seen = make_table(false);
        same = compare(&w, a, b, 0);
    }
    return same == YES;
}

/* --- forms of the program ------------------------------------------------------ */

static bool ends(V x, V opaque, size_t *steps)
{
    for (;; x = CDR(x)) {
        if (*steps == 0)
            return false;
        --*steps;
        if (IS_VECTOR(x)) {
            for (size_t i = 0; i < LENGTH(x); i++)
                if (!ends(VEC(x)->items[i], opaque, steps))
                    return false;
            return true;
        }
        if (!IS_PAIR(x) || CAR(x) == opaque)
            return true;
        if (!ends(CAR(x), opaque, steps))
            return false;
    }
}

/* seen: #f: on the way to here; #t: done. */
static bool on_circle(V x, V opaque, V seen)
{
    if (!IS_VECTOR(x) && (!IS_PAIR(x) || CAR(x) == opaque))
        return false;
    V s = table_get(seen, x, 0);
    if (s != 0)
        return s == FALSE;
    table_set(seen, x, FALSE);
    if (IS_PAIR(x)) {
        if (on_circle(CAR(x), opaque, seen) || on_circle(CDR(x), opaque, seen))
            return true;
    } else {
        for (size_t i = 0; i < LENGTH(x); i++)
            if (on_circle(VEC(x)->items[i], opaque, seen))
                return true;
    }
    table_set(seen, x, TRUE);
    return false;
}

bool circular(V x, V opaque)
{
    size_t steps = STEPS;
    return !ends(x, opaque, &steps) && on_circle(x, opaque, make_table(false));
}

static enum answer has_alias(struct walk *w, V x)
{
    for (;; x = CDR(x)) {
        if (IS(x, T_ALIAS))
            return YES;
        if (!IS_PAIR(x) && !IS_VECTOR(x))
            return NO;
        enum answer a = met(w, x);
        if (a != NO)
            return a == YES ? NO : UNKNOWN;
        if (IS_VECTOR(x)) {
            for (size_t i = 0; i < LENGTH(x); i++)
                if ((a = has_alias(w, VEC(x)->items[i])) != NO)
                    return a;
            return NO;
        }
        if ((a = has_alias(w, CAR(x))) != NO)
            return a;
    }
}

/* copies: table of what was copied, or 0: there are no circles. */
static V strip_copy(V x, V copies)
{
    while (IS(x, T_ALIAS))
        x = ALIAS(x)->id;
    if (!IS_PAIR(x) && !IS_VECTOR(x))
        return x;
    V copy = copies != 0 ? table_get(copies, x, 0) : 0;
    if (copy != 0)
        return copy;
    copy = IS_PAIR(x) ? cons(FALSE, NIL) : make_vector(LENGTH(x), FALSE);
    if (copies != 0)
        table_set(copies, x, copy);
    if (IS_PAIR(x)) {
        mem_set(&CAR(copy), strip_copy(CAR(x), copies));
        mem_set(&CDR(copy), strip_copy(CDR(x), copies));
    } else {
        for (size_t i = 0; i < LENGTH(x); i++)
            mem_set(&VEC(copy)->items[i], strip_copy(VEC(x)->items[i], copies));
    }
    return copy;
}

V strip(V x)
{
    struct walk w = {STEPS, 0};
    enum answer a = has_alias(&w, x);
    if (a == UNKNOWN) {
        w.seen = make_table(false);
        a = has_alias(&w, x);
    }
    if (a == NO)
        return x;
    size_t steps = STEPS;
    return strip_copy(x, ends(x, 0, &steps) ? 0 : make_table(false));
}

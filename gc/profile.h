/* gc/profile.h - the heap profile: what was noted (profile.c), and as a file
 * (pprof.c). */
#ifndef TARN_GC_PROFILE_H_
#define TARN_GC_PROFILE_H_

#include "gc/gc.h"

#define SITE_DEPTH 64u

/* Where objects of one size were allocated. Never freed; in a list that only grows. */
struct profile_site {
    struct profile_site *same_hash, *_Atomic next;
    uint64_t hash;
    size_t size; /* of each object's place */
    uint32_t n;
    /* Of the profile that is being made: by profile.lock. */
    uint32_t profile;
    uint64_t allocs, frees;
    uintptr_t pc[]; /* return addresses, the innermost first */
};

struct profile {
    struct mutex lock;
    struct profile_site *_Atomic sites;
    _Atomic uint32_t number; /* of the profile; 0: none was begun */
    uint64_t interval;
    int64_t began_unix, began; /* ns */
};
extern struct profile profile;

/* Writes it. On a thread's stack. 0, or an errno. */
int profile_write(const char *path);

#endif

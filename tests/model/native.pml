/* tests/model/native.pml - native calls and thieves.
 *
 * NG goroutines make ACTS native calls each and end. A call of goroutine 0 lasts
 * until the other one has ended: unless somebody takes its P, which may be the
 * only one, that never happens. THIEVES threads do what sysmon does; a collector
 * holds scan bits for a while (SCANS times).
 *
 * Shown: each P is in exactly one place and wired to at most one M, in both
 * directions; code of a goroutine runs only with a P, which nobody takes
 * meanwhile; every goroutine comes to its end, every P to the idle list; every
 * run ends.
 *
 * Seeded bugs (-DBUG=n):
 *  1 leave reads m->p before its CAS
 *  2 the thief does not look again once it has the scan bit
 *  3 takeP without the scan bit
 *  7 the thief keeps the P that it took: no handoffp
 *  8 enter changes the status before the registers are saved
 */
#ifndef NM
#define NM 3
#endif
#ifndef NG
#define NG 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef ACTS
#define ACTS 1
#endif
#ifndef THIEVES
#define THIEVES 1
#endif
#ifndef SCANS
#define SCANS 1
#endif
#define MS NM
#define THEFTS 0
#define EXITS
#define YIELDS

#include "status.pmlh"

inline native_call()
{
    if
    :: NG == 1 || gp != 0 || status[NG - 1] == Gdead -> skip
    fi
}

#include "proc.pmlh"

proctype Rest()
{
    byte i;

end_rest:
    timeout ->
    atomic {
        i = 0;
        do
        :: i < NG -> assert(status[i] == Gdead); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < NP -> assert(where[i] == InList && pm[i] == NONE); i++
        :: else -> break
        od
    }
}

init {
    byte i, i_tmp, m2;

    atomic {
        init_procs(0);
        i = 0;
        do
        :: i < THIEVES -> run Thief(1); i++
        :: else -> break
        od;
#if SCANS > 0
        run Scanner(SCANS);
#endif
        run Rest();
        i = 0
    };
    i = 0;
    do
    :: i < NP -> startm_idle(i_tmp, m2); i++
    :: else -> break
    od
}

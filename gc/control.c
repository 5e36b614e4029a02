/* gc/control.c - settings while the program runs, collection in steps, memory that
 * objects own elsewhere. */
#include "base/options.h"
#include "gc/gc.h"

/* --- settings ----------------------------------------------------------------------- */

static bool in_bounds(const char *what, int64_t v, const char *name)
{
    int64_t min = 0, max = 0;
#define BOUNDS_(n, kind, def, lo, hi, help)                                    \
    if (strcmp(name, #n) == 0) {                                               \
        min = (lo);                                                            \
        max = (hi);                                                            \
    }
    TARN_OPTIONS_TABLE(BOUNDS_)
#undef BOUNDS_
    if (v >= min && v <= max)
        return true;
    set_error("%s: %lld is not within %lld to %lld", what, (long long)v,
              (long long)min, (long long)max);
    return false;
}

/* The driver sets trigger and goal anew, between two cycles. */
static void tell_driver(void)
{
    lock(&gc.lock);
    gc.changed = true;
    struct g *driver = gc_driver_parked();
    unlock(&gc.lock);
    if (driver != NULL)
        ready(driver, true);
}

tarn_status tarn_set_gcpercent(int64_t percent)
{
    if (!require_goroutine("tarn_set_gcpercent"))
        return TARN_ESTATE;
    if (!in_bounds("tarn_set_gcpercent", percent, "gcpercent"))
        return TARN_EINVAL;
    __atomic_store_n(&options.gcpercent, percent, __ATOMIC_RELAXED);
    tell_driver();
    return TARN_OK;
}

tarn_status tarn_set_memlimit(int64_t bytes)
{
    if (!require_goroutine("tarn_set_memlimit"))
        return TARN_ESTATE;
    if (!in_bounds("tarn_set_memlimit", bytes, "memlimit"))
        return TARN_EINVAL;
    __atomic_store_n(&options.memlimit, bytes, __ATOMIC_RELAXED);
    if (bytes == 0)
        atomic_store_explicit(&heap.mapped_most, 0, memory_order_relaxed);
    tell_driver();
    return TARN_OK;
}

bool gc_is_off(void)
{
    return options.gcoff ||
           atomic_load_explicit(&gc.disabled, memory_order_relaxed) != 0;
}

int64_t tarn_gcpercent(void)
{
    return setting(&options.gcpercent);
}

int64_t tarn_memlimit(void)
{
    return setting(&options.memlimit);
}

tarn_status tarn_gc_disable(void)
{
    if (!require_goroutine("tarn_gc_disable"))
        return TARN_ESTATE;
    atomic_fetch_add(&gc.disabled, 1);
    tell_driver();
    return TARN_OK;
}

tarn_status tarn_gc_enable(void)
{
    if (!require_goroutine("tarn_gc_enable"))
        return TARN_ESTATE;
    uint32_t n = atomic_load(&gc.disabled);
    do {
        if (n == 0) {
            set_error("tarn_gc_enable: it is enabled");
            return TARN_EINVAL;
        }
    } while (!atomic_compare_exchange_weak(&gc.disabled, &n, n - 1));
    tell_driver();
    return TARN_OK;
}

/* --- steps ----------------------------------------------------------------------------
 *
 * The driver parks where a step ends, and whoever takes the next one readies it and
 * parks until then. All with gc.lock. */

static struct {
    struct g *stepper; /* parked, waits for the end of a step */
    bool driver_at_step;
    enum tarn_step did;
} st;

/* With gc.lock; the driver if it is parked at the end of a step, off the hook now. */
struct g *gc_step_driver(void)
{
    struct g *gp = st.driver_at_step ? gc.driver : NULL;
    st.driver_at_step = false;
    return gp;
}

void gc_step_end(enum tarn_step did)
{
    lock(&gc.lock);
    /* One that came when this cycle had been given up waits for the next. */
    struct g *stepper = gc.step_wanted ? NULL : st.stepper;
    if (stepper != NULL)
        st.stepper = NULL;
    st.did = did;
    if (did == TARN_STEP_DONE)
        atomic_store(&gc.stepping, false);
    if (!atomic_load(&gc.stepping) || did == TARN_STEP_DONE) {
        unlock(&gc.lock);
        if (stepper != NULL)
            ready(stepper, true);
        return;
    }
    st.driver_at_step = true;
    if (stepper != NULL)
        ready(stepper, true);
    goparkunlock(&gc.lock, WAIT_GC_WAIT);
}

tarn_status tarn_gc_step(size_t work, enum tarn_step *did)
{
    if (!require_goroutine("tarn_gc_step"))
        return TARN_ESTATE;
    if (getg()->worldstopped) {
        set_error("tarn_gc_step: the caller has stopped the world");
        return TARN_ESTATE;
    }
    lock(&gc.lock);
    if (st.stepper != NULL) {
        unlock(&gc.lock);
        set_error("tarn_gc_step: another goroutine is taking a step");
        return TARN_ESTATE;
    }
    gc.step_work = work > 0 ? work : 1;
    struct g *driver = gc_step_driver();
    if (!atomic_load(&gc.stepping)) {
        /* If a cycle is under way this waits for the first step of the next. */
        gc.step_wanted = true;
        driver = gc_driver_parked();
    }
    st.stepper = getg();
    if (driver != NULL)
        ready(driver, true);
    goparkunlock(&gc.lock, WAIT_GC_WAIT);
    if (did != NULL)
        *did = st.did;
    return TARN_OK;
}

/* --- memory elsewhere ----------------------------------------------------------------- */

/* So that sums with it do not overflow. */
#define EXTERNAL_MOST ((uint64_t)1 << 56)

/* Counted in heap.live, and what is freed as swept: so all that is computed from these
 * two, base, goal, survival, follows. */
tarn_status tarn_external_bytes(int64_t delta)
{
    if (!require_goroutine("tarn_external_bytes"))
        return TARN_ESTATE;
    if (delta > 0 && getg()->worldstopped) {
        set_error("tarn_external_bytes: the caller has stopped the world");
        return TARN_ESTATE;
    }
    uint64_t have = atomic_load(&heap.external);
    if (delta >= 0) {
        do {
            if ((uint64_t)delta > EXTERNAL_MOST - have) {
                set_error("tarn_external_bytes: %lld bytes more than the %llu "
                          "that there are",
                          (long long)delta, (unsigned long long)have);
                return TARN_EINVAL;
            }
        } while (!atomic_compare_exchange_weak(&heap.external, &have,
                                               have + (uint64_t)delta));
        atomic_fetch_add(&heap.live, (uint64_t)delta);
        preempt_check();
        if (delta > 0)
            gc_allocated((size_t)delta);
        return TARN_OK;
    }
    uint64_t less = 0 - (uint64_t)delta;
    do {
        if (less > have) {
            set_error("tarn_external_bytes: %llu bytes less than the %llu that "
                      "there are",
                      (unsigned long long)less, (unsigned long long)have);
            return TARN_EINVAL;
        }
    } while (!atomic_compare_exchange_weak(&heap.external, &have, have - less));
    atomic_fetch_sub(&heap.live, less);
    atomic_fetch_add(&heap.swept_bytes, less);
    return TARN_OK;
}

/* heap/types.c - registered types and the table of slots.
 *
 * Slots are numbered once and for all: the table only grows, in reserved
 * memory, so that a slot number is good for indexing without a lock as soon as
 * somebody has been handed it. A number travels either through a release store
 * (tarn_type.array_slot) or together with the type, whose publication is the
 * embedder's business.
 *
 * Locks: RANK_TYPES for everything that grows.
 */
#include "base/sysmem.h"
#include "base/vm.h"
#include "heap/internal.h"

static struct {
    struct mutex lock;
    size_t committed; /* bytes of heap.slots */
    uint32_t ntypes;
} types = {.lock = MUTEX_INIT(TYPES)};

/* `words` is 32 bits wide. */
#define MAX_TYPE_SIZE ((size_t)UINT32_MAX * 8)

/* Under the lock. */
static struct slot_info *slot_new(uint32_t *id)
{
    uint32_t n = atomic_load_explicit(&heap.nslots, memory_order_relaxed);
    if (n == MAX_SLOTS) {
        set_error("heap: too many types and array sizes of types");
        return NULL;
    }
    size_t need = (n + 1) * sizeof heap.slots[0];
    if (need > types.committed) {
        if (!vm_commit((char *)heap.slots + types.committed,
                       SLOT_COMMIT_STEP)) {
            set_error("heap: no memory for the slot table");
            return NULL;
        }
        types.committed += SLOT_COMMIT_STEP;
        atomic_fetch_add_explicit(&heap.mapped, SLOT_COMMIT_STEP,
                                  memory_order_relaxed);
    }
    *id = n;
    struct slot_info *si = &heap.slots[n];
    mutex_init(&si->lock, RANK_CENTRAL);
    return si;
}

static void slot_publish(void)
{
    atomic_fetch_add_explicit(&heap.nslots, 1, memory_order_release);
}

static bool slot_add(uint32_t class_, enum layout layout,
                     struct tarn_type *type, bool array, uint32_t *id)
{
    struct slot_info *si = slot_new(id);
    if (si == NULL)
        return false;
    si->class_ = class_;
    si->layout = (uint8_t)layout;
    si->type = type;
    si->array = array;
    si->startbits = slot_static_meta(si, 0);
    slot_publish();
    return true;
}

static bool slots_init_locked(void)
{
    uint32_t id;
    if (heap.slots == NULL) {
        heap.slots = vm_reserve(
            ALIGN_UP(MAX_SLOTS * sizeof heap.slots[0], SLOT_COMMIT_STEP),
            OS_PAGE);
        if (heap.slots == NULL) {
            set_error("heap: no address space for the slot table");
            return false;
        }
    }
    /* A failed attempt has left some of them. */
    while ((id = atomic_load(&heap.nslots)) < SLOT_FIRST_TYPED) {
        uint32_t class_ = id < NUM_CLASSES  ? id
                          : id < SLOT_LARGE ? id - NUM_CLASSES
                                            : 0;
        if (!slot_add(class_,
                      id < NUM_CLASSES ? LAYOUT_NOSCAN : LAYOUT_CONSERVATIVE,
                      NULL, false, &id))
            return false;
    }
    return true;
}

bool slots_init(void)
{
    lock(&types.lock);
    bool ok = slots_init_locked();
    unlock(&types.lock);
    return ok;
}

static bool info_valid(const struct tarn_type_info *info)
{
    if (info == NULL) {
        set_error("tarn_type_register: info is NULL");
    } else if (info->name == NULL) {
        set_error("tarn_type_register: name is NULL");
    } else if (info->size == 0) {
        set_error("tarn_type_register: type %.64s has size 0", info->name);
    } else if (info->size > MAX_TYPE_SIZE) {
        set_error("tarn_type_register: type %.64s is too large (%zu bytes)",
                  info->name, info->size);
    } else if (info->ptrmap != NULL && info->trace != NULL) {
        set_error("tarn_type_register: type %.64s has both ptrmap and trace",
                  info->name);
    } else if ((info->ptrmap != NULL || info->trace != NULL) &&
               info->size % 8 != 0) {
        set_error("tarn_type_register: type %.64s has pointers, but its size "
                  "%zu is not a multiple of 8",
                  info->name, info->size);
    } else if (info->ptrmap != NULL && info->size / 8 % 64 != 0 &&
               info->ptrmap[info->size / 512] >> (info->size / 8 % 64) != 0) {
        set_error("tarn_type_register: ptrmap of type %.64s has a pointer "
                  "behind its size %zu",
                  info->name, info->size);
    } else {
        return true;
    }
    return false;
}

static bool ptrmap_empty(const uint64_t *map, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (map[i] != 0)
            return false;
    return true;
}

tarn_type *tarn_type_register(const struct tarn_type_info *info)
{
    if (!info_valid(info))
        return NULL;
    size_t mapwords = info->ptrmap != NULL ? (info->size / 8 + 63) / 64 : 0;
    if (ptrmap_empty(info->ptrmap, mapwords))
        mapwords = 0;
    size_t namelen = strlen(info->name) + 1;
    struct tarn_type *t = sys_alloc(sizeof *t + mapwords * 8 + namelen);
    if (t == NULL) {
        set_error("tarn_type_register: no memory for type %.64s", info->name);
        return NULL;
    }
    uint64_t *map = (uint64_t *)(t + 1);
    memcpy(map + mapwords, info->name, namelen);
    t->name = (char *)(map + mapwords);
    t->size = info->size;
    t->words = (uint32_t)(info->size / 8);
    t->slot = NO_SLOT;
    for (uint32_t c = 0; c < NUM_CLASSES; c++)
        atomic_store_explicit(&t->array_slot[c], NO_SLOT, memory_order_relaxed);
    if (info->trace != NULL) {
        t->layout = LAYOUT_TRACED;
        t->trace = info->trace;
    } else if (mapwords > 0) {
        t->layout = LAYOUT_PRECISE;
        memcpy(map, info->ptrmap, mapwords * 8);
        t->ptrmap = map;
    } else {
        t->layout = LAYOUT_NOSCAN;
    }
    lock(&types.lock);
    bool ok = slots_init_locked();
    if (ok && t->size <= MAX_SMALL)
        ok = slot_add(size_to_class(t->size), t->layout, t, false, &t->slot);
    if (ok) {
        t->id = types.ntypes++;
        t->entry = (t->slot != NO_SLOT ? t->slot : SLOT_LARGE) *
                   (uint32_t)sizeof(struct mcache_entry);
    }
    unlock(&types.lock);
    if (!ok) {
        sys_free(t);
        return NULL;
    }
    return t;
}

uint32_t type_array_slot(struct tarn_type *type, uint32_t class_)
{
    DASSERT(class_ > 0 && class_ < NUM_CLASSES);
    uint32_t slot =
        atomic_load_explicit(&type->array_slot[class_], memory_order_acquire);
    if (likely(slot != NO_SLOT))
        return slot;
    lock(&types.lock);
    slot =
        atomic_load_explicit(&type->array_slot[class_], memory_order_relaxed);
    if (slot == NO_SLOT && slot_add(class_, type->layout, type, true, &slot))
        atomic_store_explicit(&type->array_slot[class_], slot,
                              memory_order_release);
    unlock(&types.lock);
    return slot;
}

const char *tarn_type_name(const tarn_type *type)
{
    return type != NULL ? type->name : "";
}

/* Compiled by consumer.sh against an installed library: are a program's inline
 * sequences registered before main? */
#include <stdio.h>
#include <tarn/tarn.h>

/* The constructor has registered this program's inline sequences: the first of
 * them cannot be added once more. */
extern const int32_t __start_tarn_unsafe[]
    __attribute__((visibility("hidden")));

static int sequences_unknown(void)
{
    const int32_t *e = __start_tarn_unsafe;
    struct tarn_unsafe_range r = {(const char *)&e[0] + e[0],
                                  (const char *)&e[1] + e[1]};
    return tarn_unsafe_register(&r, 1) != TARN_EINVAL;
}

void store(void *slot, void *value); /* an inline sequence, at least */
void store(void *slot, void *value)
{
    tarn_store(slot, value);
}

int main(void)
{
    int unknown = sequences_unknown();
    printf("sequences %s\n", unknown ? "unknown" : "registered");
    return unknown;
}

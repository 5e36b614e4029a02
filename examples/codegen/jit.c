/* examples/codegen/jit.c - a code generator for Tarn that knows one function:
 *
 *     struct node *push(struct node *list, uint64_t n)
 *     {
 *         if (n == 0)
 *             return list;
 *         struct node *o = tarn_alloc(node_type);
 *         if (o == NULL)
 *             return NULL;
 *         o->value = n;
 *         tarn_store(&o->next, list);
 *         struct node *all = push(o, n - 1);
 *         o->value++;
 *         return all;
 *     }
 *
 * with a stack check, allocation and store inline, frame maps, and text in which
 * goroutines may be stopped. Goroutines run it and count what they get. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tarn/tarn.h>

struct node {
    struct node *next;
    uint64_t value;
};

static tarn_type *node_type;

/* --- writing instructions ---------------------------------------------------- */

static uint8_t *text, *at;
#define TEXT_SIZE 4096

/* Instructions as hexadecimal digits: "48 89 3c 24". */
static void put(const char *hex)
{
    char *end;
    for (;; hex = end) {
        unsigned long byte = strtoul(hex, &end, 16);
        if (end == hex)
            return;
        *at++ = (uint8_t)byte;
    }
}

static void put32(const char *hex, int32_t value)
{
    put(hex);
    memcpy(at, &value, 4);
    at += 4;
}

static void put64(const char *hex, const void *value)
{
    put(hex);
    memcpy(at, &value, 8);
    at += 8;
}

/* A jump or call with a distance of 32 bits; to where is said later, or now. */
static uint8_t *jump(const char *hex)
{
    put32(hex, 0);
    return at;
}

static void lands(const uint8_t *behind_jump, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - behind_jump);
    memcpy((uint8_t *)behind_jump - 4, &distance, 4);
}

/* --- the function -------------------------------------------------------------- */

/* The frame: list at 0(%rsp), n at 8(%rsp), o at 16(%rsp). */
#define FRAME 24
#define LIST (1 << 0)
#define O (1 << 2)

typedef struct node *(*push_fn)(struct node *list, uint64_t n);

static struct tarn_unsafe_range sequences[2];
static struct tarn_frame_map maps[4];
static uint64_t live[4];

/* Behind a call: which words of the frame hold pointers that are still used. None
 * holds an address in the stack, no register is saved. */
static void map(int i, uint32_t frame, uint64_t pointers)
{
    live[i] = pointers;
    maps[i] = (struct tarn_frame_map){
        .ret = (uintptr_t)at, .size = frame + 8, .pointers = &live[i]};
}

static void generate(void)
{
    at = text;
    put32("64 48 3b 24 25", TARN_ATTR_GUARD_FS); /* cmpq %fs:0x70, %rsp */
    uint8_t *enough = jump("0f 83");             /* jae */
    put32("41 ba", FRAME);                       /* movl $FRAME, %r10d */
    put32("41 bb", 0);                           /* movl $0, %r11d */
    put64("48 b8", tarn_attr_morestack());       /* movabsq $., %rax */
    put("ff d0");                                /* call *%rax */
    map(0, 0, 0);
    put("c3"); /* ret */
    lands(enough, at);
    put("48 83 ec 18");           /* subq $FRAME, %rsp */
    put("48 89 3c 24");           /* movq %rdi, (%rsp) */
    put("48 89 74 24 08");        /* movq %rsi, 8(%rsp) */
    put("48 85 f6");              /* testq %rsi, %rsi */
    uint8_t *end = jump("0f 84"); /* jz */

    /* o = tarn_alloc(node_type): restartable */
    sequences[0].lo = at;
    put32("64 48 8b 0c 25",
          (int32_t)tarn_attr_cache_fs()); /* mov %fs:., %rcx */
    put("48 85 c9");                      /* testq %rcx, %rcx */
    uint8_t *no_cache = jump("0f 84");    /* jz */
    /* leaq .(%rcx), %rdx */
    put32("48 8d 91", (int32_t)tarn_attr_type_entry(node_type));
    put("48 8b 02");                /* movq (%rdx), %rax: ptr */
    put("48 3b 42 08");             /* cmpq 8(%rdx), %rax: end */
    uint8_t *empty = jump("0f 83"); /* jae */
    put("0f b6 72 12");             /* movzbl 18(%rdx), %esi: startbits */
    put("40 0a 71 08");             /* orb 8(%rcx), %sil: color */
    put("49 89 c0");                /* movq %rax, %r8 */
    put("49 c1 e8 04");             /* shrq $4, %r8 */
    put("4c 03 01");                /* addq (%rcx), %r8: meta */
    put("41 88 30");                /* movb %sil, (%r8) */
    put("0f b7 72 10");             /* movzwl 16(%rdx), %esi: size */
    put("48 01 c6");                /* addq %rax, %rsi */
    put("48 89 32");                /* movq %rsi, (%rdx): now it is ours */
    sequences[0].hi = at;
    uint8_t *have_object = at;
    put("48 89 44 24 10"); /* movq %rax, 16(%rsp): o */
    put("48 8b 4c 24 08"); /* movq 8(%rsp), %rcx: n */
    put("48 89 48 08");    /* movq %rcx, 8(%rax): o->value */
    put("48 89 c7");       /* movq %rax, %rdi: &o->next */
    put("48 8b 34 24");    /* movq (%rsp), %rsi: list */

    /* tarn_store(&o->next, list): restartable */
    sequences[1].lo = at;
    put64("48 b9", tarn_attr_barrier_flag()); /* movabsq $., %rcx */
    put("83 39 00");                          /* cmpl $0, (%rcx) */
    uint8_t *marking = jump("0f 85");         /* jne */
    put64("48 b9", tarn_attr_cards());        /* movabsq $., %rcx */
    put("89 fa");                             /* movl %edi, %edx */
    put("c1 ea 09");                          /* shrl $9, %edx */
    put("48 03 11");                          /* addq (%rcx), %rdx: table */
    put("0f b6 49 08");                       /* movzbl 8(%rcx), %ecx: epoch */
    put("88 0a");                             /* movb %cl, (%rdx) */
    put("48 89 37");                          /* movq %rsi, (%rdi) */
    sequences[1].hi = at;
    uint8_t *stored = at;

    put("48 8b 7c 24 10");   /* movq 16(%rsp), %rdi: o */
    put("48 8b 74 24 08");   /* movq 8(%rsp), %rsi: n */
    put("48 ff ce");         /* decq %rsi */
    lands(jump("e8"), text); /* call push */
    map(1, FRAME, O);
    put("48 8b 4c 24 10");      /* movq 16(%rsp), %rcx */
    put("48 ff 41 08");         /* incq 8(%rcx): o->value */
    uint8_t *done = jump("e9"); /* jmp */
    lands(end, at);
    put("48 8b 04 24"); /* movq (%rsp), %rax */
    uint8_t *leave = at;
    lands(done, leave);
    put("48 83 c4 18"); /* addq $FRAME, %rsp */
    put("c3");          /* ret */

    /* The calls, out of the way. */
    lands(no_cache, at);
    lands(empty, at);
    put64("48 bf", node_type);              /* movabsq $., %rdi */
    put64("48 b8", tarn_attr_alloc_slow()); /* movabsq $., %rax */
    put("ff d0");                           /* call *%rax */
    map(2, FRAME, LIST);
    put("48 85 c0");                /* testq %rax, %rax */
    lands(jump("0f 84"), leave);    /* jz */
    lands(jump("e9"), have_object); /* jmp */
    lands(marking, at);
    put64("48 b8", tarn_attr_store_slow()); /* movabsq $., %rax */
    put("ff d0");                           /* call *%rax */
    map(3, FRAME, O);
    lands(jump("e9"), stored); /* jmp */
}

/* --- giving it to the runtime ---------------------------------------------------- */

static void check(tarn_status st)
{
    if (st != TARN_OK) {
        fprintf(stderr, "%s\n", tarn_last_error());
        exit(1);
    }
}

static void load(void)
{
    text = mmap(NULL, TEXT_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (text == MAP_FAILED)
        exit(1);
    generate();
    if (mprotect(text, TEXT_SIZE, PROT_READ | PROT_EXEC) != 0)
        exit(1);
    /* Before anything of it runs. */
    check(tarn_unsafe_register(sequences, 2));
    check(
        tarn_frame_maps_register(&(struct tarn_frame_maps){text, at, maps, 4}));
    check(tarn_text_register(text, at));
}

static void unload(void)
{
    /* When nothing of it runs any more. */
    check(tarn_text_unregister(text, at));
    check(tarn_frame_maps_unregister(text, at));
    check(tarn_unsafe_unregister(sequences, 2));
    munmap(text, TEXT_SIZE);
}

/* --- its use ----------------------------------------------------------------------- */

#define GOROUTINES 8
#define ROUNDS 20
#define LENGTH 1000

static tarn_waitgroup done;
static int wrong;

static void goroutine(void *unused)
{
    push_fn push = (push_fn)(uintptr_t)text;
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        struct node *all = push(NULL, LENGTH);
        uint64_t n = 0, sum = 0;
        for (struct node *o = all; o != NULL; o = o->next) {
            sum += o->value;
            n++;
        }
        if (n != LENGTH || sum != LENGTH * (LENGTH + 3) / 2)
            __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
    }
    tarn_waitgroup_done(&done);
}

static void first(void *unused)
{
    static const uint64_t pointers = TARN_PTR(struct node, next);
    (void)unused;
    node_type = tarn_type_register(&(struct tarn_type_info){
        .name = "node", .size = sizeof(struct node), .ptrmap = &pointers});
    load();
    tarn_waitgroup_add(&done, GOROUTINES);
    for (int i = 0; i < GOROUTINES; i++)
        check(tarn_go(goroutine, NULL));
    tarn_waitgroup_wait(&done);
    unload();
}

int main(void)
{
    check(tarn_main(NULL, first, NULL));
    puts(wrong ? "wrong" : "right");
    return wrong;
}

/* base/symbol.c - finds the name of a function or a variable in the file of its
 * module: the whole symbol table, since the part that is loaded has exported names only.
 *
 * Locks: the loader's, inside dl_iterate_phdr. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/symbol.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct where {
    uintptr_t pc, base;
    char file[256];
    bool found;
};

static int find_module(struct dl_phdr_info *info, size_t size, void *vw)
{
    (void)size;
    struct where *w = vw;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_LOAD ||
            w->pc - (info->dlpi_addr + ph->p_vaddr) >= ph->p_memsz)
            continue;
        w->base = info->dlpi_addr;
        w->found = true;
        /* The program itself has no name. */
        const char *name = info->dlpi_name;
        snprintf(w->file, sizeof w->file, "%s",
                 name != NULL && *name != '\0' ? name : "/proc/self/exe");
        return 1;
    }
    return 0;
}

static const void *map_file(const char *file, size_t *size)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *p = MAP_FAILED;
    if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(ElfW(Ehdr))) {
        *size = (size_t)st.st_size;
        p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

/* What holds address at by section sh (a symbol table). */
static const char *find_in(const char *elf, size_t size, const ElfW(Shdr) * sh,
                           const ElfW(Shdr) * strings, uintptr_t at,
                           uintptr_t *start)
{
    if (sh->sh_offset + sh->sh_size > size ||
        strings->sh_offset + strings->sh_size > size)
        return NULL;
    const ElfW(Sym) *sym =
        (const ElfW(Sym) *)(const void *)(elf + sh->sh_offset);
    for (size_t n = sh->sh_size / sizeof(*sym); n-- > 0; sym++)
        if ((ELF64_ST_TYPE(sym->st_info) == STT_FUNC ||
             ELF64_ST_TYPE(sym->st_info) == STT_OBJECT) &&
            at >= sym->st_value && at - sym->st_value < sym->st_size &&
            sym->st_name < strings->sh_size) {
            *start = sym->st_value;
            return elf + strings->sh_offset + sym->st_name;
        }
    return NULL;
}

static bool find_symbol(const char *elf, size_t size, const struct where *w,
                        struct symbol *s)
{
    const ElfW(Ehdr) *eh = (const ElfW(Ehdr) *)(const void *)elf;
    if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
        eh->e_shentsize != sizeof(ElfW(Shdr)) ||
        eh->e_shoff + (size_t)eh->e_shnum * sizeof(ElfW(Shdr)) > size)
        return false;
    const ElfW(Shdr) *sh =
        (const ElfW(Shdr) *)(const void *)(elf + eh->e_shoff);
    for (int i = 0; i < eh->e_shnum; i++) {
        if ((sh[i].sh_type != SHT_SYMTAB && sh[i].sh_type != SHT_DYNSYM) ||
            sh[i].sh_link >= eh->e_shnum)
            continue;
        uintptr_t start, at = w->pc - w->base;
        const char *name =
            find_in(elf, size, &sh[i], &sh[sh[i].sh_link], at, &start);
        if (name != NULL) {
            snprintf(s->name, sizeof s->name, "%s", name);
            s->start = w->base + start;
            return true;
        }
    }
    return false;
}

static void find(struct where *w, struct symbol *s)
{
    *s = (struct symbol){0};
    dl_iterate_phdr(find_module, w);
    if (!w->found)
        return;
    memcpy(s->file, w->file, sizeof s->file);
    size_t size = 0;
    const char *elf = map_file(w->file, &size);
    if (elf == NULL)
        return;
    find_symbol(elf, size, w, s);
    munmap((void *)(uintptr_t)elf, size);
}

void symbol_find(uintptr_t p, struct symbol *s)
{
    struct where w = {.pc = p};
    find(&w, s);
}

void symbol_at(uintptr_t pc, char *buf, size_t len)
{
    struct where w = {.pc = pc};
    struct symbol s;
    find(&w, &s);
    if (!w.found)
        snprintf(buf, len, "%#lx", (unsigned long)pc);
    else if (s.name[0] != '\0')
        snprintf(buf, len, "%#lx %s+0x%lx", (unsigned long)pc, s.name,
                 (unsigned long)(pc - s.start));
    else
        snprintf(buf, len, "%#lx (%s+0x%lx)", (unsigned long)pc, w.file,
                 (unsigned long)(pc - w.base));
}

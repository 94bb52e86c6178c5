/*
 * sys/kern/link_elf.c (14.0): the kernel itself and ET_DYN modules. Its struct elf_file has the tag of another structure
 * in link_elf_obj.c.
 */
#include "kernel.h"
#include <sys/link_elf.h>

typedef struct elf_file {
	struct linker_file lf;
	int preloaded;
	caddr_t address;
	Elf_Dyn *dynamic;
	Elf_Hashelt nbuckets;
	Elf_Hashelt nchains;
	const Elf_Hashelt *buckets;
	const Elf_Hashelt *chains;
	caddr_t hash;
	caddr_t strtab;
	int strsz;
	const Elf_Sym *symtab;
	Elf_Addr *got;
	const Elf_Rel *pltrel;
	int pltrelsize;
	const Elf_Rela *pltrela;
	int pltrelasize;
	const Elf_Rel *rel;
	int relsize;
	const Elf_Rela *rela;
	int relasize;
	caddr_t modptr;
	const Elf_Sym *ddbsymtab;
	long ddbsymcnt;
	caddr_t ddbstrtab;
	long ddbstrcnt;
	caddr_t symbase;
	caddr_t strbase;
	caddr_t ctftab;
	long ctfcnt;
	caddr_t ctfoff;
	caddr_t typoff;
	long typlen;
	Elf_Addr pcpu_start;
	Elf_Addr pcpu_stop;
	Elf_Addr pcpu_base;
	Elf_Addr vnet_start;
	Elf_Addr vnet_stop;
	Elf_Addr vnet_base;
} *elf_file_t;

struct elf_set {
	Elf_Addr es_start;
	Elf_Addr es_stop;
	Elf_Addr es_base;
	TAILQ_ENTRY(elf_set) es_link;
};
TAILQ_HEAD(elf_set_head, elf_set);
static struct elf_set_head set_pcpu_list __used = TAILQ_HEAD_INITIALIZER(set_pcpu_list);
static struct elf_set_head set_vnet_list __used = TAILQ_HEAD_INITIALIZER(set_vnet_list);

FUNCTION(link_elf_lookup_symbol);
static kobj_method_t link_elf_methods[] = {
	{ .func = POINTER(link_elf_lookup_symbol) },
	KOBJMETHOD_END
};
static struct linker_class link_elf_class __used = {
	.name = ELF_TARG_CLASS == ELFCLASS32 ? "elf32" : "elf64",
	.methods = link_elf_methods,
	.size = sizeof(struct elf_file),
};

void
link_elf_types(void *pointer)
{
	RETAIN(struct elf_file);
}

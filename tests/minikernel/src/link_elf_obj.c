/* sys/kern/link_elf_obj.c (14.0): ET_REL modules, on amd64. */
#include "kernel.h"
#include <sys/link_elf.h>

typedef struct {
	void *addr;
	Elf_Off size;
	int flags;
	int sec;
	char *name;
} Elf_progent;
typedef struct {
	Elf_Rel *rel;
	int nrel;
	int sec;
} Elf_relent;
typedef struct {
	Elf_Rela *rela;
	int nrela;
	int sec;
} Elf_relaent;

typedef struct elf_file {
	struct linker_file lf;
	int preloaded;
	caddr_t address;
	vm_object_t object;
	Elf_Shdr *e_shdr;
	Elf_progent *progtab;
	u_int nprogtab;
	Elf_relaent *relatab;
	u_int nrelatab;
	Elf_relent *reltab;
	int nreltab;
	Elf_Sym *ddbsymtab;
	long ddbsymcnt;
	caddr_t ddbstrtab;
	long ddbstrcnt;
	caddr_t shstrtab;
	long shstrcnt;
	caddr_t ctftab;
	long ctfcnt;
	caddr_t ctfoff;
	caddr_t typoff;
	long typlen;
} *elf_file_t;

FUNCTION(link_elf_obj_lookup_symbol);
static kobj_method_t link_elf_methods[] = {
	{ .func = POINTER(link_elf_obj_lookup_symbol) },
	KOBJMETHOD_END
};
static struct linker_class link_elf_class __used = {
	.name = ELF_TARG_CLASS == ELFCLASS32 ? "elf32_obj" : "elf64_obj",
	.methods = link_elf_methods,
	.size = sizeof(struct elf_file),
};

void
link_elf_obj_types(void *pointer)
{
	RETAIN(struct elf_file);
}

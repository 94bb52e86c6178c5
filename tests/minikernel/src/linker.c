/* Kernel modules: the lists of kern_linker.c and kern_module.c. Both private "struct elf_file" are in units of their own. */
#include "kernel.h"

/* --- sys/kern/kern_linker.c (14.0) --- */

linker_file_t linker_kernel_file;
static linker_file_list_t linker_files __used = TAILQ_HEAD_INITIALIZER(linker_files);
static linker_class_list_t classes __used = TAILQ_HEAD_INITIALIZER(classes);
static int next_file_id __used = 1;
static int linker_no_more_classes __used;
static int loadcnt __used;
static struct sx kld_sx __used;
struct modlist {
	TAILQ_ENTRY(modlist) link;
	linker_file_t container;
	const char *name;
	int version;
};
typedef struct modlist *modlist_t;
static TAILQ_HEAD(modlisthead, modlist) found_modules __used = TAILQ_HEAD_INITIALIZER(found_modules);
static TAILQ_HEAD(, linker_file) depended_files __used = TAILQ_HEAD_INITIALIZER(depended_files);
static char linker_path[MAXPATHLEN] __used = "/boot/kernel;/boot/modules";
int kld_debug;

/* --- sys/kern/kern_module.c (14.0) --- */

struct module {
	TAILQ_ENTRY(module) link;
	TAILQ_ENTRY(module) flink;
	struct linker_file *file;
	int refs;
	int id;
	char *name;
	modeventhand_t handler;
	void *arg;
	modspecific_t data;
};
typedef TAILQ_HEAD(, module) modulelist_t;
static modulelist_t modules __used = TAILQ_HEAD_INITIALIZER(modules);
struct sx modules_sx;
static int nextid __used = 1;

/* --- sys/kern/subr_kobj.c, subr_module.c (14.0) --- */

static int kobj_next_id __used = 1;
caddr_t preload_metadata, preload_kmdp;
vm_offset_t preload_addr_relocate = 0;
const char preload_modtype[] = "elf module";
const char preload_kerntype[] = "elf kernel";
const char preload_modtype_obj[] = "elf obj module";

void
linker_types(void *pointer)
{
	RETAIN(struct modlist);
	RETAIN(struct module);
}

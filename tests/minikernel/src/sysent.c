/*
 * System calls and the ABIs that use them. syscalls.inc is made by the builder from sys/syscall.h and sys/sysproto.h of the
 * same headers: one SYSTEM_CALL(number, name, handler, arguments) for each number that is in use.
 */
#include "kernel.h"

FUNCTION(nosys);
#define SYSTEM_CALL(number, name, handler, arguments) FUNCTION(handler);
#include "syscalls.inc"
#undef SYSTEM_CALL

/* --- sys/kern/init_sysent.c, syscalls.c (14.0: sy_call comes first) --- */

#define WORDS(type) (sizeof(type) / sizeof(syscallarg_t))
#define SYSTEM_CALL(number, name, handler, arguments) \
	[number] = { .sy_call = POINTER(handler), .sy_narg = WORDS(struct arguments), .sy_thrcnt = SY_THR_STATIC },
struct sysent sysent[SYS_MAXSYSCALL] = {
	[0 ... SYS_MAXSYSCALL - 1] = { .sy_call = POINTER(nosys), .sy_thrcnt = SY_THR_ABSENT },
#include "syscalls.inc"
};
#ifdef __amd64__
/* sys/compat/freebsd32/freebsd32_sysent.c: here with the native handlers. */
struct sysent freebsd32_sysent[SYS_MAXSYSCALL] = {
	[0 ... SYS_MAXSYSCALL - 1] = { .sy_call = POINTER(nosys), .sy_thrcnt = SY_THR_ABSENT },
#include "syscalls.inc"
};
#endif
#undef SYSTEM_CALL
#define SYSTEM_CALL(number, name, handler, arguments) [number] = #name,
const char *syscallnames[SYS_MAXSYSCALL] = {
	[0 ... SYS_MAXSYSCALL - 1] = "#",
#include "syscalls.inc"
};
#undef SYSTEM_CALL
struct sysent nosys_sysent = { .sy_call = POINTER(nosys), .sy_thrcnt = SY_THR_STATIC };
systrace_probe_func_t systrace_probe_func;
bool systrace_enabled;

/* --- each architecture's elf_machdep.c, kern/init_main.c --- */

FUNCTION(sendsig);
FUNCTION(exec_setregs);
FUNCTION(cpu_fetch_syscall_args);
FUNCTION(cpu_set_syscall_retval);
FUNCTION(exec_copyout_strings);
FUNCTION(elf_freebsd_fixup);
FUNCTION(elf_coredump);
FUNCTION(syscallname);
FUNCTION(null_fetch_syscall_args);
FUNCTION(null_set_syscall_retval);
FUNCTION(null_set_fork_retval);

struct sysentvec null_sysvec = {
	.sv_name = "null",
	.sv_fetch_syscall_args = POINTER(null_fetch_syscall_args),
	.sv_set_syscall_retval = POINTER(null_set_syscall_retval),
	.sv_flags = SV_TIMEKEEP,
};

#ifndef PS_STRINGS
#define PS_STRINGS 0
#endif
#define ABI(vector, table, title, stack, bits) \
	struct sysentvec vector = { \
		.sv_size = SYS_MAXSYSCALL, \
		.sv_table = table, \
		.sv_name = title, \
		.sv_fixup = POINTER(elf_freebsd_fixup), \
		.sv_sendsig = POINTER(sendsig), \
		.sv_coredump = POINTER(elf_coredump), \
		.sv_minsigstksz = MINSIGSTKSZ, \
		.sv_minuser = VM_MIN_ADDRESS, \
		.sv_maxuser = stack, \
		.sv_usrstack = stack, \
		.sv_psstrings = stack - sizeof(struct ps_strings), \
		.sv_psstringssz = sizeof(struct ps_strings), \
		.sv_stackprot = VM_PROT_ALL, \
		.sv_copyout_strings = POINTER(exec_copyout_strings), \
		.sv_setregs = POINTER(exec_setregs), \
		.sv_flags = SV_ABI_FREEBSD | SV_ASLR | SV_TIMEKEEP | (bits), \
		.sv_set_syscall_retval = POINTER(cpu_set_syscall_retval), \
		.sv_fetch_syscall_args = POINTER(cpu_fetch_syscall_args), \
		.sv_syscallnames = syscallnames, \
	}

#if defined(__amd64__)
ABI(elf64_freebsd_sysvec_la48, sysent, "FreeBSD ELF64", USRSTACK_LA48, SV_LP64);
ABI(elf64_freebsd_sysvec_la57, sysent, "FreeBSD ELF64", USRSTACK_LA57, SV_LP64);
ABI(ia32_freebsd_sysvec, freebsd32_sysent, "FreeBSD ELF32", 0xffffdfffUL, SV_ILP32);
#elif defined(__powerpc64__)
ABI(elf64_freebsd_sysvec_v2, sysent, "FreeBSD ELF64 V2", USRSTACK, SV_LP64);
#elif defined(__LP64__)
ABI(elf64_freebsd_sysvec, sysent, "FreeBSD ELF64", USRSTACK, SV_LP64);
#else
ABI(elf32_freebsd_sysvec, sysent, "FreeBSD ELF32", USRSTACK, SV_ILP32);
#endif

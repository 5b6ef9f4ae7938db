/*
 * xstate.c - lets user-mode Linux 6.1 run on processors whose register state is larger than it knows (those
 * with AMX), where its first process dies otherwise. Preloaded by rig.sh.
 *
 * It keeps 2696 bytes of NT_X86_XSTATE for each of its tasks, and Linux takes the state of a task only whole. What
 * is behind belongs to instructions that a program must ask for first (arch_prctl ARCH_REQ_XCOMP_PERM), which
 * the guest's kernel does not know either: its bits in the state's header are clear, and zeros will do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*ptrace_fn)(enum __ptrace_request, pid_t, void *, void *);

/* The guest's kernel has one processor and is not preempted: it is in here once at a time. */
static char whole[1 << 16] __attribute__((aligned(64)));
static size_t whole_len;

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_fn real;
	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!real)
		real = (ptrace_fn)dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
		return real(request, pid, address, data);
	const struct iovec *given = data;
	if (!whole_len) {
		struct iovec all = { whole, sizeof(whole) };
		if (real(PTRACE_GETREGSET, pid, address, &all) != 0)
			return real(request, pid, address, data);
		whole_len = all.iov_len;
		memset(whole, 0, sizeof(whole));
	}
	if (given->iov_len >= whole_len)
		return real(request, pid, address, data);
	memcpy(whole, given->iov_base, given->iov_len);
	struct iovec padded = { whole, whole_len };
	return real(request, pid, address, &padded);
}

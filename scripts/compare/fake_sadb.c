/* A library for LD_PRELOAD, for compare.sh: the stand-in for the kernel's IPsec under OpenIKED (PF_KEY) and
 * libreswan (NETLINK_XFRM), which agrees to everything and forgets it. Such a socket becomes a datagram socket that
 * is connected to itself: what the daemon writes to it is turned into the kernel's answer, and that is what it then
 * reads, in the same process and without another's turn. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/netlink.h>
#include <linux/pfkeyv2.h>
#include <linux/xfrm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS 4096
#define MESSAGE 16384
/* The abstract name of a socket of ours begins with this, then comes its kind. */
static const char mark[] = "\0fake-sadb-";
enum kind { NONE = 0, PF_KEY_ONE = 'k', XFRM_ONE = 'x' };

/* What is known of a descriptor. One that came from another process is found by its name. */
static unsigned char kinds[FDS];
static uint32_t spi = 0x01000000;

#define REAL(name) ((__typeof__(&name))next_of(#name))

static void *next_of(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static enum kind kind_of(int fd)
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name);
	int before = errno;
	enum kind kind = NONE;

	if (fd < 0 || fd >= FDS)
		return NONE;
	if (kinds[fd])
		return kinds[fd];
	if (getsockname(fd, (struct sockaddr *)&name, &len) == 0 && name.sun_family == AF_UNIX &&
	    len > offsetof(struct sockaddr_un, sun_path) + sizeof(mark) - 1 &&
	    memcmp(name.sun_path, mark, sizeof(mark) - 1) == 0)
		kind = kinds[fd] = name.sun_path[sizeof(mark) - 1];
	errno = before;
	return kind;
}

int socket(int domain, int type, int protocol)
{
	static __typeof__(&socket) real;
	static unsigned number;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t len;
	enum kind kind = NONE;
	int fd;

	if (!real)
		real = REAL(socket);
	if (domain == AF_KEY)
		kind = PF_KEY_ONE;
	else if (domain == AF_NETLINK && protocol == NETLINK_XFRM)
		kind = XFRM_ONE;
	if (!kind)
		return real(domain, type, protocol);
	fd = real(AF_UNIX, SOCK_DGRAM | (type & (SOCK_CLOEXEC | SOCK_NONBLOCK)), 0);
	if (fd < 0 || fd >= FDS)
		return fd;
	memcpy(name.sun_path, mark, sizeof(mark) - 1);
	len = offsetof(struct sockaddr_un, sun_path) + sizeof(mark) - 1;
	len += snprintf(name.sun_path + sizeof(mark) - 1, 32, "%c%d-%u", kind, getpid(), number++);
	if (REAL(bind)(fd, (struct sockaddr *)&name, len) != 0 || connect(fd, (struct sockaddr *)&name, len) != 0) {
		REAL(close)(fd);
		return -1;
	}
	kinds[fd] = kind;
	return fd;
}

int close(int fd)
{
	static __typeof__(&close) real;

	if (!real)
		real = REAL(close);
	if (fd >= 0 && fd < FDS)
		kinds[fd] = NONE;
	return real(fd);
}

int bind(int fd, const struct sockaddr *name, socklen_t len)
{
	static __typeof__(&bind) real;

	if (!real)
		real = REAL(bind);
	return kind_of(fd) ? 0 : real(fd, name, len);
}

/* That a socket's own datagrams go past IPsec is granted as well. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	static __typeof__(&setsockopt) real;

	if (!real)
		real = REAL(setsockopt);
	if ((level == IPPROTO_IP && (name == IP_IPSEC_POLICY || name == IP_XFRM_POLICY)) ||
	    (level == IPPROTO_IPV6 && (name == IPV6_IPSEC_POLICY || name == IPV6_XFRM_POLICY)))
		return 0;
	return real(fd, level, name, value, len);
}

/* Turns a PF_KEY message into its answer: the same again, or an SPI where one is asked for. */
static size_t answer_key(unsigned char *message, size_t len)
{
	struct sadb_msg *head = (struct sadb_msg *)message;
	struct sadb_sa *sa = (struct sadb_sa *)(head + 1);

	if (len < sizeof(*head))
		return 0;
	head->sadb_msg_errno = 0;
	if (head->sadb_msg_type == SADB_GETSPI) {
		memset(sa, 0, sizeof(*sa));
		sa->sadb_sa_len = sizeof(*sa) / 8;
		sa->sadb_sa_exttype = SADB_EXT_SA;
		sa->sadb_sa_spi = htonl(++spi);
		len = sizeof(*head) + sizeof(*sa);
		head->sadb_msg_len = len / 8;
	}
	return len;
}

/* Turns a request of XFRM into its answer; 0: there is none. */
static size_t answer_xfrm(unsigned char *message, size_t len)
{
	struct nlmsghdr *head = (struct nlmsghdr *)message, asked = *head;
	struct nlmsgerr *error = NLMSG_DATA(head);

	if (len < sizeof(*head))
		return 0;
	head->nlmsg_flags = 0;
	if (asked.nlmsg_type == XFRM_MSG_ALLOCSPI) {
		struct xfrm_userspi_info *wanted = NLMSG_DATA(head);

		wanted->info.id.spi = htonl(++spi);
		head->nlmsg_type = XFRM_MSG_NEWSA;
		head->nlmsg_len = NLMSG_LENGTH(sizeof(wanted->info));
		return head->nlmsg_len;
	}
	if (!(asked.nlmsg_flags & NLM_F_ACK) && asked.nlmsg_type != XFRM_MSG_GETSA && asked.nlmsg_type != XFRM_MSG_GETPOLICY)
		return 0;
	head->nlmsg_type = NLMSG_ERROR;
	head->nlmsg_len = NLMSG_LENGTH(sizeof(*error));
	/* Nothing is kept, so nothing can be shown. */
	error->error = asked.nlmsg_type == XFRM_MSG_GETSA || asked.nlmsg_type == XFRM_MSG_GETPOLICY ? -ESRCH : 0;
	error->msg = asked;
	return head->nlmsg_len;
}

static ssize_t answer(int fd, enum kind kind, const struct iovec *parts, size_t count)
{
	static __typeof__(&send) real;
	_Alignas(16) unsigned char message[MESSAGE + 256];
	size_t len = 0, answered;

	if (!real)
		real = REAL(send);
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len > MESSAGE - len) {
			errno = EMSGSIZE;
			return -1;
		}
		memcpy(message + len, parts[i].iov_base, parts[i].iov_len);
		len += parts[i].iov_len;
	}
	answered = kind == PF_KEY_ONE ? answer_key(message, len) : answer_xfrm(message, len);
	if (answered && real(fd, message, answered, 0) < 0)
		return -1;
	return len;
}

ssize_t write(int fd, const void *data, size_t len)
{
	static __typeof__(&write) real;
	struct iovec part = { (void *)data, len };
	enum kind kind = kind_of(fd);

	if (!real)
		real = REAL(write);
	return kind ? answer(fd, kind, &part, 1) : real(fd, data, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	static __typeof__(&writev) real;
	enum kind kind = kind_of(fd);

	if (!real)
		real = REAL(writev);
	return kind ? answer(fd, kind, parts, count) : real(fd, parts, count);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	static __typeof__(&send) real;
	struct iovec part = { (void *)data, len };
	enum kind kind = kind_of(fd);

	if (!real)
		real = REAL(send);
	return kind ? answer(fd, kind, &part, 1) : real(fd, data, len, flags);
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *name, socklen_t name_len)
{
	static __typeof__(&sendto) real;
	struct iovec part = { (void *)data, len };
	enum kind kind = kind_of(fd);

	if (!real)
		real = REAL(sendto);
	return kind ? answer(fd, kind, &part, 1) : real(fd, data, len, flags, name, name_len);
}

/* libreswan wants to know that it was the kernel who answered. */
ssize_t recvfrom(int fd, void *data, size_t len, int flags, struct sockaddr *name, socklen_t *name_len)
{
	static __typeof__(&recvfrom) real;
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t got;

	if (!real)
		real = REAL(recvfrom);
	if (kind_of(fd) != XFRM_ONE || !name || !name_len || *name_len < sizeof(kernel))
		return real(fd, data, len, flags, name, name_len);
	got = real(fd, data, len, flags, NULL, NULL);
	memcpy(name, &kernel, sizeof(kernel));
	*name_len = sizeof(kernel);
	return got;
}

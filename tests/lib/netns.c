// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Namespaces are made by ip(8) and removed by system calls, so that a signal handler can. */
#include "netns.h"
#include "report.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NETNS_DIR   "/run/netns"
#define NAME_PREFIX "xh" /* and our process id: what is left behind can be told from what is used */

enum {
	MAX_NETNS = 64,
	MAX_CHILDREN = 256,
	COMMAND_SIZE = 4096,
	SAID_SIZE = 8 << 20,
};

struct child {
	pid_t pid; /* 0: free */
	bool of_case;
	const struct netns *ns;
};

static struct netns *spaces[MAX_NETNS];
static struct child children[MAX_CHILDREN];
static pid_t owner; /* forked children must not clean up */
static int home = -1;
static char said[SAID_SIZE];

int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t now_ms(void)
{
	return now_us() / 1000;
}

void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static bool verbose(void)
{
	const char *v = getenv("VERBOSE");

	return v && *v && strcmp(v, "0") != 0;
}

/* System calls only: a signal handler calls this. */
static void remove_netns(const char *path)
{
	umount2(path, MNT_DETACH);
	unlink(path);
}

static void kill_children(bool of_case_only)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		pid_t pid = children[i].pid;

		if (!pid || (of_case_only && !children[i].of_case))
			continue;
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		children[i].pid = 0;
	}
}

static void clean_up(void)
{
	if (getpid() != owner)
		return;
	kill_children(false);
	for (int i = 0; i < MAX_NETNS; i++) {
		if (spaces[i])
			remove_netns(spaces[i]->path);
	}
}

static void on_signal(int sig)
{
	clean_up();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void case_ends(void)
{
	if (home >= 0 && setns(home, CLONE_NEWNET))
		_exit(1);
	kill_children(true);
	for (int i = 0; i < MAX_NETNS; i++) {
		if (spaces[i] && spaces[i]->of_case)
			netns_delete(spaces[i]);
	}
}

static void remove_stale(void)
{
	struct dirent *entry;
	DIR *dir = opendir(NETNS_DIR);

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		char path[sizeof(NETNS_DIR) + sizeof(entry->d_name)];
		int pid, end = 0;

		if (sscanf(entry->d_name, NAME_PREFIX "%d-%n", &pid, &end) != 1 || !end)
			continue;
		if (kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		snprintf(path, sizeof(path), NETNS_DIR "/%s", entry->d_name);
		remove_netns(path);
	}
	closedir(dir);
}

static void begin(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal };

	if (owner)
		return;
	owner = getpid();
	home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	REQUIRE(home >= 0, "own namespace: %s", strerror(errno));
	atexit(clean_up);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	report_at_case_end(case_ends);
	remove_stale();
}

void netns_enter(const struct netns *ns)
{
	begin();
	if (setns(ns ? ns->fd : home, CLONE_NEWNET)) {
		perror("setns");
		_exit(1);
	}
}

int netns_call(const struct netns *ns, int (*fn)(void *), void *arg)
{
	int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int result;

	netns_enter(ns);
	result = fn(arg);
	if (before < 0 || setns(before, CLONE_NEWNET)) {
		perror("setns");
		_exit(1);
	}
	close(before);
	return result;
}

/* Children */

static struct child *new_child(const struct netns *ns)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		if (!children[i].pid) {
			children[i].of_case = report_in_case();
			children[i].ns = ns;
			return &children[i];
		}
	}
	REQUIRE(false, "more than %d processes at once", MAX_CHILDREN);
	return NULL;
}

/*
 * Forks into the namespace; the child returns 0. Signals wait until the parent has noted the
 * child, or one that comes between would leave it behind.
 */
static pid_t fork_into(const struct netns *ns)
{
	struct child *child;
	sigset_t all, before;
	pid_t pid;

	begin();
	child = new_child(ns);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGALRM };

		setpgid(0, 0);
		/* Should we be killed by what no handler sees. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
			signal(signals[i], SIG_DFL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		netns_enter(ns);
		return 0;
	}
	if (pid > 0) {
		setpgid(pid, pid);
		child->pid = pid;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	REQUIRE(pid > 0, "fork: %s", strerror(errno));
	return pid;
}

static void forget_child(pid_t pid)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		if (children[i].pid == pid)
			children[i].pid = 0;
	}
}

static int shell_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int netns_stop(pid_t pid, int sig, int ms)
{
	int status = 0;
	pid_t got = 0;

	if (sig)
		kill(pid, sig);
	if (!WAIT_FOR((got = waitpid(pid, &status, WNOHANG)) != 0, ms)) {
		kill(-pid, SIGKILL);
		got = waitpid(pid, &status, 0);
	}
	/* What the command itself had started. */
	kill(-pid, SIGKILL);
	forget_child(pid);
	return got == pid ? shell_status(status) : -1;
}

static void show_command(const struct netns *ns, const char *command, const char *tail)
{
	if (verbose())
		fprintf(stderr, "[%s] %s%s\n", ns ? ns->tag : "-", command, tail);
}

/*
 * Reads until the shell has ended, not until its output is closed: something left in the
 * background by the command may hold that open.
 */
static int run(const struct netns *ns, const char *command)
{
	size_t size = 0;
	int fds[2], status = 0;
	bool ended = false;
	pid_t pid;

	show_command(ns, command, "");
	REQUIRE(pipe2(fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
	pid = fork_into(ns);
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(fds[1]);
	for (;;) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		char rest[4096];
		ssize_t n;

		if (poll(&p, 1, ended ? 0 : 2) > 0) {
			bool room = size < sizeof(said) - 1;

			n = read(fds[0], room ? said + size : rest,
				 room ? sizeof(said) - 1 - size : sizeof(rest));
			if (n > 0 && room)
				size += (size_t)n;
			if (n > 0)
				continue;
			if (!ended)
				waitpid(pid, &status, 0);
			break;
		}
		if (ended)
			break;
		ended = waitpid(pid, &status, WNOHANG) == pid;
	}
	close(fds[0]);
	forget_child(pid);
	said[size] = '\0';
	if (verbose() && size)
		fprintf(stderr, "%s%s", said, said[size - 1] == '\n' ? "" : "\n");
	return shell_status(status);
}

#define FORMAT_COMMAND(command, fmt)                                                                       \
	do {                                                                                               \
		va_list args_;                                                                             \
		int n_;                                                                                    \
		va_start(args_, fmt);                                                                      \
		n_ = vsnprintf(command, sizeof(command), fmt, args_);                                      \
		va_end(args_);                                                                             \
		REQUIRE(n_ >= 0 && (size_t)n_ < sizeof(command), "command too long");                      \
	} while (0)

int netns_sh(const struct netns *ns, const char *fmt, ...)
{
	char command[COMMAND_SIZE];

	FORMAT_COMMAND(command, fmt);
	return run(ns, command);
}

void netns_must(const struct netns *ns, const char *fmt, ...)
{
	char command[COMMAND_SIZE];
	int status;

	FORMAT_COMMAND(command, fmt);
	status = run(ns, command);
	REQUIRE(status == 0, "[%s] %s: exit status %d: %s", ns ? ns->tag : "-", command, status, said);
}

const char *netns_output(const struct netns *ns, const char *fmt, ...)
{
	char command[COMMAND_SIZE];
	size_t len;

	FORMAT_COMMAND(command, fmt);
	if (run(ns, command))
		return NULL;
	len = strlen(said);
	if (len && said[len - 1] == '\n')
		said[len - 1] = '\0';
	return said;
}

const char *netns_said(void)
{
	return said;
}

pid_t netns_spawn(const struct netns *ns, const char *output, const char *fmt, ...)
{
	/* The shell makes way for the command, or signals would stop at the shell. */
	char command[COMMAND_SIZE], with_exec[COMMAND_SIZE + 8];
	pid_t pid;

	FORMAT_COMMAND(command, fmt);
	show_command(ns, command, " &");
	snprintf(with_exec, sizeof(with_exec), "exec %s", command);
	pid = fork_into(ns);
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		dup2(null, STDIN_FILENO);
		if (output) {
			int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);

			dup2(fd, STDOUT_FILENO);
			dup2(fd, STDERR_FILENO);
		}
		execl("/bin/sh", "sh", "-c", with_exec, NULL);
		_exit(127);
	}
	return pid;
}

pid_t netns_fork(const struct netns *ns, int (*fn)(void *), void *arg)
{
	pid_t pid = fork_into(ns);

	if (pid == 0) {
		int status = fn(arg);

		fflush(stdout);
		_exit(status);
	}
	return pid;
}

/* Namespaces and devices */

struct netns *netns_new(const char *tag)
{
	static unsigned int serial;
	struct netns *ns;
	int slot = 0;

	begin();
	while (slot < MAX_NETNS && spaces[slot])
		slot++;
	REQUIRE(slot < MAX_NETNS, "more than %d namespaces", MAX_NETNS);
	ns = calloc(1, sizeof(*ns));
	REQUIRE(ns);
	snprintf(ns->tag, sizeof(ns->tag), "%s", tag);
	snprintf(ns->name, sizeof(ns->name), NAME_PREFIX "%d-%u-%.8s", (int)owner, ++serial, tag);
	snprintf(ns->path, sizeof(ns->path), NETNS_DIR "/%s", ns->name);
	ns->fd = -1;
	ns->of_case = report_in_case();
	spaces[slot] = ns;
	netns_must(NULL, "ip netns add %s", ns->name);
	ns->fd = open(ns->path, O_RDONLY | O_CLOEXEC);
	REQUIRE(ns->fd >= 0, "%s: %s", ns->path, strerror(errno));
	netns_must(ns, "ip link set lo up");
	return ns;
}

void netns_delete(struct netns *ns)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		if (children[i].pid && children[i].ns == ns)
			netns_stop(children[i].pid, SIGKILL, 1000);
	}
	for (int i = 0; i < MAX_NETNS; i++) {
		if (spaces[i] == ns)
			spaces[i] = NULL;
	}
	remove_netns(ns->path);
	if (ns->fd >= 0)
		close(ns->fd);
	free(ns);
}

struct sysctl {
	const char *name;
	const char *value; /* NULL: read */
	char *read;
	size_t size;
};

/* What /proc/sys/net shows is the namespace of whoever opens it. */
static int sysctl_in_ns(void *arg)
{
	struct sysctl *s = arg;
	char path[256];
	bool dots = !strchr(s->name, '/');
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/%s", s->name);
	for (char *c = path; dots && *c; c++) {
		if (*c == '.')
			*c = '/';
	}
	fd = open(path, s->value ? O_WRONLY : O_RDONLY);
	if (fd < 0)
		return -errno;
	n = s->value ? write(fd, s->value, strlen(s->value)) : read(fd, s->read, s->size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (!s->value && n >= 0) {
		s->read[n] = '\0';
		s->read[strcspn(s->read, "\n")] = '\0';
	}
	return n < 0 ? (int)n : 0;
}

void netns_sysctl(const struct netns *ns, const char *name, const char *value)
{
	struct sysctl s = { .name = name, .value = value };
	char shown[256];
	int err = netns_call(ns, sysctl_in_ns, &s);

	snprintf(shown, sizeof(shown), "%s=%s", name, value);
	show_command(ns, "sysctl ", shown);
	REQUIRE(err == 0, "sysctl %s=%s: %s", name, value, strerror(-err));
}

const char *netns_sysctl_get(const struct netns *ns, const char *name)
{
	static char value[256];
	struct sysctl s = { .name = name, .read = value, .size = sizeof(value) };
	int err = netns_call(ns, sysctl_in_ns, &s);

	REQUIRE(err == 0, "sysctl %s: %s", name, strerror(-err));
	return value;
}

static int ifindex_in_ns(void *arg)
{
	return (int)if_nametoindex(arg);
}

int netns_ifindex(const struct netns *ns, const char *ifname)
{
	int ifindex = netns_call(ns, ifindex_in_ns, (void *)ifname);

	REQUIRE(ifindex > 0, "no device %s in [%s]", ifname, ns ? ns->tag : "-");
	return ifindex;
}

struct xdp_arg {
	int ifindex;
	int fd;
};

static int xdp_in_ns(void *arg)
{
	struct xdp_arg *x = arg;

	/* Held by the device, not by us: it goes with the namespace and not with this process. */
	return bpf_xdp_attach(x->ifindex, x->fd, XDP_FLAGS_DRV_MODE, NULL);
}

void netns_xdp(const struct netns *ns, const char *ifname, int verdict)
{
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct xdp_arg x = { .ifindex = netns_ifindex(ns, ifname) };
	/* Or a device with an MTU above a page would refuse it. */
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = BPF_F_XDP_HAS_FRAGS);
	int err;

	x.fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "test_verdict", "GPL", program,
			     sizeof(program) / sizeof(program[0]), &opts);
	REQUIRE(x.fd >= 0, "loading an XDP program: %s", strerror(errno));
	err = netns_call(ns, xdp_in_ns, &x);
	close(x.fd);
	REQUIRE(err == 0, "attaching to %s: %s", ifname, strerror(-err));
}

struct ethtool_arg {
	const char *ifname;
	uint32_t command;
	uint32_t value; /* in and out */
};

static int ethtool_in_ns(void *arg)
{
	struct ethtool_arg *e = arg;
	struct ethtool_value v = { .cmd = e->command, .data = e->value };
	struct ifreq request = { .ifr_data = (void *)&v };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", e->ifname);
	err = ioctl(fd, SIOCETHTOOL, &request) ? -errno : 0;
	close(fd);
	e->value = v.data;
	return err;
}

static uint32_t ethtool(const struct netns *ns, const char *ifname, uint32_t command, uint32_t value,
			const char *what)
{
	struct ethtool_arg e = { .ifname = ifname, .command = command, .value = value };
	int err = netns_call(ns, ethtool_in_ns, &e);

	/* Of a feature that is fixed for now; the caller sees by its value whether that matters. */
	REQUIRE(err == 0 || err == -EOPNOTSUPP, "ethtool, %s of %s: %s", what, ifname, strerror(-err));
	return e.value;
}

void netns_offloads_off(const struct netns *ns, const char *ifname)
{
	static const struct {
		uint32_t set;
		uint32_t get;
		const char *what;
	} offloads[] = {
		{ ETHTOOL_STSO, ETHTOOL_GTSO, "TSO" },
		{ ETHTOOL_SGSO, ETHTOOL_GGSO, "GSO" },
		{ ETHTOOL_SGRO, ETHTOOL_GGRO, "GRO" },
		{ ETHTOOL_SSG, ETHTOOL_GSG, "scatter-gather" },
		{ ETHTOOL_STXCSUM, ETHTOOL_GTXCSUM, "transmit checksums" },
	};

	show_command(ns, ifname, ": offloads off");
	for (size_t i = 0; i < sizeof(offloads) / sizeof(offloads[0]); i++) {
		ethtool(ns, ifname, offloads[i].set, 0, offloads[i].what);
		/* Where XDP keeps a feature off, asking for that is refused. */
		REQUIRE(!ethtool(ns, ifname, offloads[i].get, 0, offloads[i].what), "%s of %s stays on",
			offloads[i].what, ifname);
	}
}

void netns_vlan_offload(const struct netns *ns, const char *ifname, bool rx, bool tx)
{
	uint32_t flags = ethtool(ns, ifname, ETHTOOL_GFLAGS, 0, "flags");

	flags &= ~(uint32_t)(ETH_FLAG_RXVLAN | ETH_FLAG_TXVLAN);
	flags |= rx ? ETH_FLAG_RXVLAN : 0;
	flags |= tx ? ETH_FLAG_TXVLAN : 0;
	ethtool(ns, ifname, ETHTOOL_SFLAGS, flags, "VLAN offload");
}

void netns_neighbour(const struct netns *ns, const char *ifname, const char *ip, const char *mac)
{
	netns_must(ns, "ip neigh replace %s lladdr %s dev %s nud permanent", ip, mac, ifname);
}

void netns_veth(const struct netns *a, const char *a_if, const char *a_mac, const struct netns *b,
		const char *b_if, const char *b_mac, const struct veth_spec *spec)
{
	unsigned int queues = spec && spec->queues ? spec->queues : 1;
	unsigned int mtu = spec && spec->mtu ? spec->mtu : 1500;
	/*
	 * As many receive as transmit queues, or native XDP is refused. No link-local addresses, so
	 * that nothing but the test is heard.
	 */
#define VETH_END "mtu %u numtxqueues %u numrxqueues %u%s%s"
	netns_must(NULL, "ip link add %s netns %s " VETH_END " type veth peer name %s netns %s " VETH_END,
		   a_if, a->name, mtu, queues, queues, a_mac ? " address " : "", a_mac ? a_mac : "", b_if,
		   b->name, mtu, queues, queues, b_mac ? " address " : "", b_mac ? b_mac : "");
#undef VETH_END
	netns_must(a, "ip link set %s addrgenmode none && ip link set %s up", a_if, a_if);
	netns_must(b, "ip link set %s addrgenmode none && ip link set %s up", b_if, b_if);
}

static void quiet(const struct netns *ns)
{
	static const char *const zero[] = {
		"net.ipv6.conf.all.accept_ra",	  "net.ipv6.conf.default.accept_ra",
		"net.ipv6.conf.all.accept_dad",	  "net.ipv6.conf.default.accept_dad",
		"net.ipv6.conf.all.autoconf",	  "net.ipv6.conf.default.router_solicitations",
		"net.ipv6.conf.default.autoconf",
	};

	for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
		netns_sysctl(ns, zero[i], "0");
}

struct pair pair_new(const struct pair_spec *spec)
{
	static const struct pair_spec plain;
	struct pair pair = { .client = netns_new("client"), .server = netns_new("server") };

	spec = spec ? spec : &plain;
	quiet(pair.client);
	quiet(pair.server);
	if (spec->relay) {
		pair.relay = netns_new("relay");
		netns_sysctl(pair.relay, "net.ipv6.conf.all.disable_ipv6", "1");
		netns_sysctl(pair.relay, "net.ipv6.conf.default.disable_ipv6", "1");
		netns_veth(pair.client, CLIENT_IF, CLIENT_MAC, pair.relay, RELAY_CLIENT_IF, NULL,
			   &spec->veth);
		netns_veth(pair.relay, RELAY_SERVER_IF, NULL, pair.server, SERVER_IF, SERVER_MAC,
			   &spec->veth);
		netns_xdp(pair.relay, RELAY_SERVER_IF, XDP_PASS);
		netns_offloads_off(pair.client, CLIENT_IF);
		netns_offloads_off(pair.relay, RELAY_CLIENT_IF);
		netns_offloads_off(pair.relay, RELAY_SERVER_IF);
		netns_offloads_off(pair.server, SERVER_IF);
	} else {
		netns_veth(pair.client, CLIENT_IF, CLIENT_MAC, pair.server, SERVER_IF, SERVER_MAC,
			   &spec->veth);
		if (!spec->no_client_xdp)
			netns_xdp(pair.client, CLIENT_IF, XDP_PASS);
	}
	netns_must(pair.client,
		   "ip addr add " CLIENT_IP4 "/24 dev " CLIENT_IF " && ip addr add " CLIENT_IP6
		   "/64 dev " CLIENT_IF " nodad"
		   " && ip route add default via " SERVER_IP4 " && ip route add default via " SERVER_IP6);
	netns_must(pair.server, "ip addr add " SERVER_IP4 "/24 dev " SERVER_IF " && ip addr add " SERVER_IP6
				"/64 dev " SERVER_IF " nodad"
				" && ip route add " FAKE_NET4 " via " CLIENT_IP4
				" && ip route add " FAKE_NET6 " via " CLIENT_IP6);
	netns_neighbour(pair.client, CLIENT_IF, SERVER_IP4, SERVER_MAC);
	netns_neighbour(pair.client, CLIENT_IF, SERVER_IP6, SERVER_MAC);
	netns_neighbour(pair.server, SERVER_IF, CLIENT_IP4, CLIENT_MAC);
	netns_neighbour(pair.server, SERVER_IF, CLIENT_IP6, CLIENT_MAC);
	return pair;
}

static bool listed(const char *path, int port)
{
	FILE *f = fopen(path, "re");
	char line[512];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		static const char format[] = " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x";
		unsigned int local, state;

		/* "  0: 0100007F:1F90 00000000:0000 0A ..."; 10 is LISTEN. */
		if (sscanf(line, format, &local, &state) == 2)
			found = (int)local == port && state == 10;
	}
	fclose(f);
	return found;
}

static int listens_in_ns(void *arg)
{
	int port = *(int *)arg;

	return listed("/proc/thread-self/net/tcp", port) || listed("/proc/thread-self/net/tcp6", port);
}

bool netns_listens(const struct netns *ns, int port)
{
	return netns_call(ns, listens_in_ns, &port);
}

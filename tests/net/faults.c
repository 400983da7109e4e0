// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What may befall the loader and what it has left in the kernel: killed at any moment, devices and
 *namespaces that go, pins that vanish, maps that others write to, two loaders at once, no memory, another
 *layout of the maps. Four connections, made before the first attach and by it, over IPv4 and IPv6, live
 *through all of it.
 *
 * Loading takes seconds, most of them the verifier's. So one attachment serves all cases, each of which
 *takes it as the one before has left it and leaves it attached; and a few of an attach's steps, chosen by
 *chance, stand for all of them:
 *
 *	build/tests/net/faults full [PART OF A CASE'S NAME]...	kills at every step, which takes a quarter
 *of an hour
 *	FAULTS_SEED=N						the choice of an earlier run, which each run
 *prints
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <net/if.h>

#include <linux/bpf.h>
#include <linux/ptrace.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi.h"
#include "product.h"

#define SANITIZED "build/tests/loader/sanitized"
#define OTHER	  "build/tests/loader/other"

enum {
	PORT = 8080,
	EPOCH_MS = 1000,
	TCX_INGRESS = 46, /* include/uapi/linux/bpf.h of Linux 6.6 */
	TCX_EGRESS = 47,
	TALKS = 4,
};

static const char *const server_ip[] = { SERVER_IP4, SERVER_IP6 };

/* One connection, both of its ends. */
struct talk {
	int client, server;
};

static struct product product;
static int listener;
static struct talk talks[TALKS]; /* of IPv4 and IPv6 by turns; the last two have been promoted */
static bool full;
static unsigned int seed;
static bool kill_fresh;		     /* of the first two cases, one, by chance: each costs an attach */
static uint16_t client_port = 20000; /* of handshakes by hand: never twice */

#define ATTACH_OF(program, ports)                                                                          \
	program " attach " SERVER_IF " --port " ports " --epoch 1 --connections 4096 --firewall-checked"
#define ATTACH_OPTIONS(ports)                                                                              \
	"attach " SERVER_IF " --port " ports " --epoch 1 --connections 4096 --firewall-checked"
#define ATTACH ATTACH_OPTIONS("8080")

static unsigned int any_of(unsigned int number)
{
	return (unsigned int)rand_r(&seed) % number;
}

/* ---- connections ---- */

static struct talk talk_begin(int family)
{
	struct talk talk = { .server = -1 };

	talk.client = tcp_connect(product.pair.client, server_ip[family], PORT, 3000);
	if (talk.client >= 0)
		talk.server = tcp_accept(listener, 3000);
	return talk;
}

static void talk_end(struct talk *talk)
{
	if (talk->client >= 0)
		close(talk->client);
	if (talk->server >= 0)
		close(talk->server);
	talk->client = talk->server = -1;
}

/* A byte from the one to the other. */
static bool byte_comes(const char *whose, int from, int to)
{
	const bool written = write(from, "a", 1) == 1;
	const int64_t began = now_ms();
	char byte;

	if (written && tcp_read(to, &byte, 1, 5000) == 1)
		return true;
	printf("# the %s's byte %s: %s, %lld ms\n", whose, written ? "does not come" : "is not taken",
	       written ? "waited for" : strerror(errno), (long long)(now_ms() - began));
	for (int side = 0; side < 2; side++)
		printf("# %s: %s\n", side ? "server" : "client",
		       netns_output(side ? product.pair.server : product.pair.client,
				    "ss -tinoH | grep -A1 :%d; ip -s link; ip route; ip neigh", PORT));
	return false;
}

/* One there and one back. */
static bool talk_goes_on(const struct talk *talk)
{
	return talk->client >= 0 && talk->server >= 0 && byte_comes("client", talk->client, talk->server) &&
	       byte_comes("server", talk->server, talk->client);
}

/* What all of this is about: connections that exist live, and there are new ones. */
static bool alive(const char *when)
{
	bool all = true;

	for (int i = 0; i < TALKS; i++)
		/* The last two are not there yet in the first case. */
		if (talks[i].client >= 0 &&
		    !EXPECT(talk_goes_on(&talks[i]), "%s: connection %d, of long ago, is dead", when, i)) {
			talk_end(&talks[i]);
			talks[i] = talk_begin(i & 1); /* for the cases to come */
			all = false;
		}
	for (int family = 0; family < 2; family++) {
		struct talk talk = talk_begin(family);

		all &= EXPECT(talk_goes_on(&talk), "%s: no new connection to %s: %s", when,
			      server_ip[family], strerror(errno));
		talk_end(&talk);
	}
	return all;
}

/* ---- the truth about a device, by the kernel alone ---- */

struct truth {
	char xdp[16]; /* the name of its XDP program */
	bool promotes, learns;
};

static void name_of(__u32 id, char name[16])
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	*name = '\0';
	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &length))
		snprintf(name, 16, "%s", info.name);
	if (fd >= 0)
		close(fd);
}

static bool carries(int ifindex, int hook, const char *wanted)
{
	__u32 ids[64], count = 64, flags;
	bool found = false;
	char name[16];

	if (bpf_prog_query(ifindex, hook, 0, &flags, ids, &count))
		return false;
	for (__u32 i = 0; i < count; i++) {
		name_of(ids[i], name);
		found |= !strcmp(name, wanted);
	}
	return found;
}

static int truth_in_ns(void *context)
{
	int ifindex = (int)if_nametoindex(SERVER_IF);
	struct truth *truth = context;
	__u32 id = 0;

	if (!ifindex)
		return 0;
	bpf_xdp_query_id(ifindex, 0, &id);
	if (id)
		name_of(id, truth->xdp);
	truth->promotes = carries(ifindex, TCX_INGRESS, "tc_promote");
	truth->learns = carries(ifindex, TCX_EGRESS, "tc_learn");
	return 0;
}

static struct truth truth_now(void)
{
	struct truth truth = {};

	netns_call(product.pair.server, truth_in_ns, &truth);
	return truth;
}

/* What the last command said is one line of ours. */
static bool one_line(void)
{
	const char *newline = strchr(netns_said(), '\n');

	return !strncmp(netns_said(), "xdp-handshake: ", 15) && (!newline || !newline[1]);
}

/*
 * `status` says what is so: by the state of the one interface, or in one line that nothing is attached. At
 * no time does anybody answer what nobody promotes.
 */
static void expect_true_status(const char *when)
{
	const struct truth truth = truth_now();
	const bool answering = !strcmp(truth.xdp, "xdp_handshake"),
		   drains = !strcmp(truth.xdp, "xdp_drain");
	const char *state = "nothing";
	json_t *top = NULL;

	EXPECT(!answering || truth.promotes, "%s: handshakes are answered that nobody promotes", when);
	if (product_run(&product, "status --json 2>&1")) {
		EXPECT(one_line() && strstr(netns_said(), "nothing is attached"), "%s: status: %s", when,
		       netns_said());
	} else {
		const json_t *row;

		top = json_loads(netns_said(), 0, NULL);
		row = json_array_get(json_object_get(top, "interfaces"), 0);
		if (row)
			state = json_string_value(json_object_get(row, "state"));
		EXPECT(top && state, "%s: status: %s", when, netns_said());
	}
	EXPECT_EQ(!strcmp(state, "answering"), answering, "%s: %s is on, status says %s", when, truth.xdp,
		  state);
	EXPECT_EQ(!strcmp(state, "draining"), drains, "%s: %s is on, status says %s", when, truth.xdp,
		  state);
	json_decref(top);
}

static void expect_clean(const char *when)
{
	const struct truth truth = truth_now();

	EXPECT(!*truth.xdp && !truth.promotes && !truth.learns, "%s: programs are left", when);
	EXPECT(access(product.pins, F_OK), "%s: pins are left: %s", when,
	       netns_output(NULL, "ls -R %s", product.pins));
}

static void attach_ours(const char *when)
{
	EXPECT_EQ(product_run(&product, ATTACH), 0, "%s: attach: %s", when, netns_said());
	expect_true_status(when);
}

/* A new connection, and whether the driver has answered its SYN. */
static bool is_answered(int family)
{
	const long long before = counter(&product, "syn_answered");
	struct talk talk = talk_begin(family);

	talk_end(&talk);
	return counter(&product, "syn_answered") > before;
}

/* The driver answers, by both families, as soon as a canary or two have been answered, a second apart. */
static void expect_answers(const char *when)
{
	for (int family = 0; family < 2; family++)
		EXPECT(WAIT_FOR(is_answered(family), 10000), "%s: %s is not admitted: %s", when,
		       server_ip[family],
		       netns_output(product.pair.server, PROGRAM " listeners --pin-path %s", product.pins));
}

/* Each case finds it attached, whatever has become of the one before. */
static void attached(void)
{
	if (strcmp(truth_now().xdp, "xdp_handshake") || product_run(&product, "status")) {
		product_run(&product, "detach --all --now");
		attach_ours("to begin with");
	}
	if (talks[2].client < 0) {
		expect_answers("to begin with");
		for (int i = 2; i < TALKS; i++)
			talks[i] = talk_begin(i & 1);
	}
}

/* ---- where all of it happens ---- */

static void remove_ours(void)
{
	if (*product.pins)
		netns_sh(NULL, PROGRAM " detach --all --now --pin-path %s", product.pins);
}

/*
 * Mounts are our own from here on: one of the cases takes the bpf file system away, and that of the host is
 * none of ours.
 */
static void begin(void)
{
	const char *given = getenv("FAULTS_SEED");

	seed = given ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)now_us() & 0xffffff;
	printf("# FAULTS_SEED=%u\n", seed);
	kill_fresh = any_of(2);
	REQUIRE(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
			!mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"),
		"a bpf file system of our own: %s", strerror(errno));
	snprintf(product.pins, sizeof(product.pins), "/sys/fs/bpf/xdp-handshake-faults-%d", getpid());
	product.pair = pair_new(NULL);
	atexit(remove_ours);
	/* What goes by TIME-WAIT is no matter of faults. */
	netns_sysctl(product.pair.client, "net.ipv4.tcp_max_tw_buckets", "0");
	listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	for (int i = 0; i < TALKS; i++)
		talks[i] = i < 2 ? talk_begin(i) : (struct talk){ -1, -1 };
}

/* ---- a loader under our hands ---- */

/* Runs a command step by step: a step is a system call that changes something that stays. */
struct loader {
	pid_t pid;
	int steps;
	int status; /* when ended */
	bool ended;
	bool in_call; /* stopped at a system call's beginning */
	bool step;    /* and it is one that may change something */
	int repeated; /* writes to maps in a row */
	char what[64];
	char output[64];
	char command[256];
};

static int loader_child(void *context)
{
	const struct loader *loader = context;
	int fd = open(loader->output, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	execl("/bin/sh", "sh", "-c", loader->command, NULL);
	return 127;
}

static void loader_wait(struct loader *loader)
{
	int status;

	if (waitpid(loader->pid, &status, 0) != loader->pid || WIFEXITED(status) || WIFSIGNALED(status)) {
		loader->ended = true;
		loader->status = status;
	}
}

static struct loader *loader_start(const char *arguments)
{
	static struct loader loader;

	memset(&loader, 0, sizeof(loader));
	snprintf(loader.output, sizeof(loader.output), "build/tests/faults-%d.out", getpid());
	snprintf(loader.command, sizeof(loader.command), "exec " PROGRAM " %s --pin-path %s", arguments,
		 product.pins);
	loader.pid = netns_fork(product.pair.server, loader_child, &loader);
	loader_wait(&loader);
	REQUIRE(!loader.ended);
	ptrace(PTRACE_SETOPTIONS, loader.pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	return &loader;
}

/* Whether a system call may change what stays. Of many writes to a map in a row, two are as good as all. */
static bool is_step(struct loader *loader, const struct ptrace_syscall_info *info)
{
	static const struct {
		int command;
		const char *name;
	} commands[] = {
		{ BPF_MAP_DELETE_ELEM, "map delete" }, { BPF_OBJ_PIN, "pin" },
		{ BPF_LINK_CREATE, "link create" },    { BPF_LINK_UPDATE, "link update" },
		{ BPF_LINK_DETACH, "link detach" },
	};
	const char *name = NULL;

	switch (info->entry.nr) {
	case SYS_bpf:
		if (info->entry.args[0] == BPF_MAP_UPDATE_ELEM) {
			loader->repeated++;
			if (loader->repeated == 1 || loader->repeated == 300)
				name = "map update";
			break;
		}
		for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
			if (info->entry.args[0] == (__u64)commands[i].command)
				name = commands[i].name;
		break;
#ifdef SYS_mkdir
	case SYS_mkdir: name = "mkdir"; break;
	case SYS_rmdir: name = "rmdir"; break;
	case SYS_unlink: name = "unlink"; break;
	case SYS_rename: name = "rename"; break;
	case SYS_chmod: name = "chmod"; break;
#endif
	case SYS_mkdirat: name = "mkdir"; break;
	case SYS_unlinkat: name = "unlink"; break;
	case SYS_renameat2: name = "rename"; break;
	case SYS_fchmodat: name = "chmod"; break;
	}
	if (!name)
		return false;
	if (strcmp(name, "map update"))
		loader->repeated = 0;
	snprintf(loader->what, sizeof(loader->what), "%s", name);
	return true;
}

/* On to the end of the next step that was one. False: the command has ended. */
static bool loader_step(struct loader *loader)
{
	struct ptrace_syscall_info info;

	while (!loader->ended) {
		ptrace(PTRACE_SYSCALL, loader->pid, NULL, NULL);
		loader_wait(loader);
		if (loader->ended || ptrace(PTRACE_GET_SYSCALL_INFO, loader->pid, sizeof(info), &info) <= 0)
			continue;
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			loader->step = is_step(loader, &info);
		} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && loader->step) {
			loader->step = false;
			if (info.exit.rval < 0)
				continue;
			loader->steps++;
			return true;
		}
	}
	return false;
}

static void loader_kill(struct loader *loader)
{
	if (!loader->ended)
		netns_stop(loader->pid, SIGKILL, 5000);
	unlink(loader->output);
}

/* What it said; one line of ours if it failed. */
static void loader_done(struct loader *loader, const char *when)
{
	EXPECT(loader->ended && WIFEXITED(loader->status) && !WEXITSTATUS(loader->status),
	       "%s: status %x: %s", when, loader->status, netns_output(NULL, "cat %s", loader->output));
	netns_stop(loader->pid, 0, 0);
	unlink(loader->output);
}

/*
 * Lets a command stand still after each of its steps, and looks around; kills it after the step number
 * @last, if it has that many. Yields how many there were.
 */
static int walk(const char *arguments, const char *name, int last)
{
	struct loader *loader = loader_start(arguments);
	char when[96] = "";

	while (loader_step(loader)) {
		snprintf(when, sizeof(when), "%s, step %d, %s", name, loader->steps, loader->what);
		if (loader->steps == last) {
			loader_kill(loader);
			snprintf(when, sizeof(when), "%s, killed at step %d, %s", name, last, loader->what);
			alive(when);
			expect_true_status(when);
			return last;
		}
		alive(when);
		/* What is not pinned yet dies with it. */
		if (strcmp(loader->what, "link create"))
			expect_true_status(when);
	}
	loader_done(loader, name);
	return loader->steps;
}

CASE("a first attach killed as soon as its program is on the device: a plain detach takes all of it off")
{
	struct loader *loader;

	product_run(&product, "detach --all --now");
	loader = loader_start(ATTACH);
	/* Pinned, or it would die with the loader. */
	while (loader_step(loader) && (strcmp(loader->what, "pin") || strcmp(truth_now().xdp, "xdp_drain")))
		;
	REQUIRE(!loader->ended);
	loader_kill(loader);
	expect_true_status("killed");
	EXPECT_EQ(product_run(&product, "detach " SERVER_IF), 0, "%s", netns_said());
	expect_clean("killed, then detached");
	alive("killed, then detached");
}

enum {
	FRESH_STEPS = 48, /* of a first attach, and of one over another, or some more */
	OVER_STEPS = 32,
};

CASE("attach, stopped at each of its steps, and killed at one of them: another one, or detach, takes over")
{
	const int rounds = full ? 2 * FRESH_STEPS : kill_fresh;
	int steps;

	report_case_limit(full ? 3600 : 300);
	for (int i = 0; i < rounds; i++) {
		walk(ATTACH, "attach", full ? i / 2 + 1 : 2 + (int)any_of(FRESH_STEPS - 2));
		if (full ? i & 1 : any_of(2)) {
			EXPECT_EQ(product_run(&product, "detach --all --now"), 0, "%s", netns_said());
			expect_clean("after half an attach");
			alive("after half an attach");
		} else if (full) {
			attach_ours("after half an attach");
			product_must(&product, "detach --all --now");
		}
	}
	steps = walk(ATTACH, "attach after that", 0);
	EXPECT(steps > 10, "%d steps", steps);
	expect_true_status("attached");
	expect_answers("attached");
	for (int i = 2; i < TALKS; i++) {
		const long long promoted = counter(&product, "promoted");

		talks[i] = talk_begin(i & 1);
		EXPECT_EQ(counter(&product, "promoted"), promoted + 1, "connection %d", i);
	}
	alive("attached");
}

CASE("attach over a running one, the same, with another port, or there would be nothing to drain")
{
	const int rounds = full ? OVER_STEPS : !kill_fresh;
	int steps;

	report_case_limit(full ? 3600 : 300);
	attached();
	for (int i = 0; i < rounds; i++)
		walk(i & 1 ? ATTACH : ATTACH_OPTIONS("8080,8081"), "attach over",
		     full ? i + 1 : 1 + (int)any_of(OVER_STEPS));
	steps = walk(ATTACH_OPTIONS("8080,8082"), "attach over that", 0);
	EXPECT(steps > 10, "%d steps", steps);
	expect_true_status("attached over");
	expect_answers("attached over");
}

static const char *policy_now(void)
{
	json_t *rows = product_json(&product, "listeners");
	static char policy[16];
	size_t i;
	json_t *row;

	*policy = '\0';
	json_array_foreach (rows, i, row)
		snprintf(policy, sizeof(policy), "%s", json_string_value(json_object_get(row, "policy")));
	json_decref(rows);
	return policy;
}

static int open_map(const char *name, struct bpf_map_info *info)
{
	__u32 length = sizeof(*info);
	char path[128];
	int fd;

	memset(info, 0, sizeof(*info));
	snprintf(path, sizeof(path), "%s/%s", product.pins, name);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0 && !bpf_obj_get_info_by_fd(fd, info, &length), "%s: %s", path, strerror(errno));
	return fd;
}

static struct settings read_settings(void)
{
	const __u32 zero = 0;
	struct bpf_map_info info;
	int fd = open_map("settings", &info);
	struct settings set;

	REQUIRE(info.value_size == sizeof(set) && !bpf_map_lookup_elem(fd, &zero, &set));
	close(fd);
	return set;
}

static bool is_protected(int port)
{
	char path[128];
	__u32 word = (__u32)port / 64;
	__u64 bits = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/ports", product.pins);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0 && !bpf_map_lookup_elem(fd, &word, &bits));
	close(fd);
	return bits >> (port % 64) & 1;
}

/* On to where a port has become one of the protected ones. */
static void step_to_port(struct loader *loader, int port)
{
	while (loader_step(loader) && !is_protected(port))
		;
	REQUIRE(!loader->ended, "%s", netns_output(NULL, "cat %s", loader->output));
}

#define ATTACH_SECOND(devices, port) "attach " devices " --port " port " --mode generic --firewall-checked"

static void second_new(void)
{
	netns_must(product.pair.server,
		   "ip link add second type veth peer name third && ip link set second up");
}

CASE("a new port comes with another interface: those that are attached answer when the filter is filled")
{
	struct loader *loader;

	report_case_limit(300);
	attached();
	second_new();
	loader = loader_start(ATTACH_SECOND("second", "8083"));
	step_to_port(loader, 8083);
	EXPECT_STR(truth_now().xdp, "xdp_drain", "8083 is protected, its connections are not known yet");
	alive("not known yet");
	loader_kill(loader);
	expect_true_status("killed");
	EXPECT_STR(truth_now().xdp, "xdp_drain", "killed");
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	product_must(&product, ATTACH_SECOND("second", "8084"));
	expect_true_status("attached");
	EXPECT_STR(truth_now().xdp, "xdp_handshake", "attached");
	expect_answers("attached");
	/* It was the only one of generic XDP, for which tc validates. */
	EXPECT(read_settings().flags & SETTING_TC_VALIDATES);
	product_must(&product, "detach second --now");
	EXPECT(!(read_settings().flags & SETTING_TC_VALIDATES));
	product_must(&product, "status");
	EXPECT(!strstr(netns_said(), "XDP metadata"), "%s", netns_said());
	expect_answers("without it");
	netns_must(product.pair.server, "ip link del second");
}

CASE("an attach fails late: all is as it was, and what has connected meanwhile is known")
{
	struct loader *loader;
	struct talk talk;
	long long looked_up;

	report_case_limit(300);
	attached();
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	expect_answers("before");
	second_new();
	/* In the place of 8080, and another policy. */
	loader = loader_start("attach second " SERVER_IF " --port 8085 --policy shadow --firewall-checked");
	step_to_port(loader, 8085);
	talk = talk_begin(0);
	netns_must(product.pair.server, "ip link del second");
	while (loader_step(loader))
		;
	EXPECT(WIFEXITED(loader->status) && WEXITSTATUS(loader->status) == 1, "status %x",
	       (unsigned int)loader->status);
	EXPECT(file_says(loader->output, "cannot begin to answer on second"), "%s",
	       netns_output(NULL, "cat %s", loader->output));
	loader_kill(loader);
	expect_true_status("failed");
	EXPECT_STR(truth_now().xdp, "xdp_handshake", "failed");
	EXPECT(is_protected(8080) && !is_protected(8085));
	EXPECT_STR(policy_now(), "always");
	looked_up = counter(&product, "ack_connected");
	EXPECT(talk_goes_on(&talk));
	EXPECT_EQ(counter(&product, "ack_connected"), looked_up, "it is not known");
	talk_end(&talk);
	expect_answers("failed");
	product_must(&product, "status --json");
	EXPECT(!strstr(netns_said(), "second"), "%s", netns_said());
}

/* Kills a command after a step of its. Returns false if it has none of that number, and has ended. */
static bool killed_at(const char *arguments, int step, char when[96])
{
	struct loader *loader = loader_start(arguments);

	while (loader->steps < step && loader_step(loader))
		;
	snprintf(when, 96, "killed at step %d, %s", loader->steps, loader->what);
	if (loader->ended) {
		loader_done(loader, arguments);
		return false;
	}
	loader_kill(loader);
	return true;
}

CASE("set and key rotate, killed at each of their steps: the old or the new, nothing between")
{
	static const char *const policies[] = { "set *:8080 policy=shadow", "set *:8080 policy=always" };
	char when[96];

	attached();
	expect_answers("before");
	for (int i = 0; i < 2; i++)
		for (int step = 1; killed_at(policies[i], step, when) && step < 20; step++) {
			alive(when);
			expect_true_status(when);
		}
	for (int step = 1; killed_at("key rotate", step, when) && step < 20; step++)
		alive(when);
	/* Killed at any moment. */
	for (int i = 0; i < 50; i++) {
		pid_t pid = netns_spawn(product.pair.server, "/dev/null", PROGRAM " %s --pin-path %s",
					i % 3 == 2 ? "key rotate" : policies[i & 1], product.pins);

		usleep(any_of(15000));
		netns_stop(pid, SIGKILL, 5000);
		snprintf(when, sizeof(when), "round %d", i);
		alive(when);
	}
	product_must(&product, "set *:8080 policy=always");
	expect_true_status("after 50 rounds");
	expect_answers("after 50 rounds");
}

/* ---- two at once ---- */

#define RUN "run " SERVER_IF " --turn 1 --epoch 1 --connections 4096 --firewall-checked --port "

static pid_t run_start(const char *ports, const char *output)
{
	return netns_spawn(product.pair.server, output, PROGRAM " " RUN "%s --pin-path %s", ports,
			   product.pins);
}

static bool turns(const char *output)
{
	return !netns_sh(NULL, "grep -q 'turning the filter' %s", output);
}

static long long generation_turned(void)
{
	const char *said = netns_output(NULL,
					"bpftool -j map dump pinned %s/settings | jq "
					".[0].formatted.value.turned_ms",
					product.pins);

	return said ? atoll(said) : 0;
}

CASE("run twice at once: one waits for the other, the later one's ports hold; both killed, run takes over")
{
	char output[2][64], when[96];
	long long turned;
	pid_t run[2];

	report_case_limit(full ? 600 : 300);
	attached();
	for (int i = 0; i < 2; i++) {
		snprintf(output[i], sizeof(output[i]), "build/tests/faults-run-%d-%d", getpid(), i);
		netns_sh(NULL, "rm -f %s", output[i]);
		run[i] = run_start(i ? "8080,8081" : "8080", output[i]);
	}
	for (int i = 0; !turns(output[0]) || !turns(output[1]); i++) {
		alive("while two are starting");
		REQUIRE(i < 60000);
	}
	product_must(&product, "status --json");
	EXPECT(strstr(netns_said(), "\"ports\": \"8080\"") ||
		       strstr(netns_said(), "\"ports\": \"8080-8081\""),
	       "%s", netns_said());
	expect_true_status("two of them");
	/* Either turns the filter, again and again. */
	turned = generation_turned();
	EXPECT(WAIT_FOR(generation_turned() > turned, 10000), "nobody turns the filter");
	/* At a random moment of a turn, whose longest part is a wait of 200 ms. */
	for (int i = 0; i < 2; i++) {
		const int64_t until = now_ms() + any_of(1200);

		while (now_ms() < until)
			alive("two of them");
		netns_stop(run[i], SIGKILL, 5000);
		snprintf(when, sizeof(when), "%d of two killed", i + 1);
		alive(when);
		expect_true_status(when);
	}
	for (int i = 0; i < (full ? 20 : 0); i++) {
		run[0] = run_start(i & 1 ? "8080,8081" : "8080", output[0]);
		usleep(any_of(6000000));
		netns_stop(run[0], SIGKILL, 5000);
		alive("run killed while it starts, or turns");
		expect_true_status("run killed while it starts, or turns");
	}
	run[0] = run_start("8080", output[0]);
	REQUIRE(WAIT_FOR(turns(output[0]), 60000), "%s", netns_output(NULL, "cat %s", output[0]));
	turned = generation_turned();
	EXPECT(WAIT_FOR(generation_turned() > turned, 10000), "it does not turn the filter");
	expect_true_status("taken over");
	expect_answers("taken over");
	EXPECT_EQ(netns_stop(run[0], SIGTERM, 5000), 0, "run at SIGTERM");
	/* While another has the lock, it can be ended like any command. */
	run[1] = netns_spawn(NULL, "/dev/null", "flock %s sleep 60", product.pins);
	REQUIRE(WAIT_FOR(netns_sh(NULL, "flock -n %s true", product.pins), 3000));
	run[0] = run_start("8080", output[0]);
	poll(NULL, 0, 500);
	EXPECT_EQ(netns_stop(run[0], SIGTERM, 3000), 128 + SIGTERM, "run at SIGTERM, waiting for the lock");
	netns_stop(run[1], SIGKILL, 3000);
	netns_sh(NULL, "rm -f %s %s", output[0], output[1]);
}

/* Two commands at once, whose outputs are one line each at the most. Their exit statuses. */
static void both(const char *first, const char *second, int status[2])
{
	const char *const commands[] = { first, second };
	char output[2][64];
	pid_t pids[2];

	for (int i = 0; i < 2; i++) {
		snprintf(output[i], sizeof(output[i]), "build/tests/faults-both-%d-%d", getpid(), i);
		pids[i] = netns_spawn(product.pair.server, output[i], PROGRAM " %s --pin-path %s",
				      commands[i], product.pins);
	}
	for (int i = 0; i < 2; i++) {
		status[i] = netns_stop(pids[i], 0, 60000);
		netns_sh(NULL, "cat %s; rm %s", output[i], output[i]);
		EXPECT(!*netns_said() || one_line(), "%s beside %s: %s", commands[i], commands[!i],
		       netns_said());
		EXPECT(status[i] == 0 || (status[i] == 1 && *netns_said()), "%s beside %s: exit status %d",
		       commands[i], commands[!i], status[i]);
	}
}

CASE("set beside set, key rotate beside key rotate, each beside the other, 50 times: one after the other")
{
	int status[2];

	attached();
	expect_answers("before");
	for (int i = 0; i < 50; i++) {
		const char *policy;

		both("set *:8080 policy=shadow", "set *:8080 policy=flood", status);
		EXPECT(!status[0] && !status[1], "round %d", i);
		policy = policy_now();
		EXPECT(!strcmp(policy, "shadow") || !strcmp(policy, "flood"), "round %d: policy %s", i,
		       policy);
		/* At an epoch of a second there are soon more keys than slots for them, which is refused.
		 */
		both("key rotate", i & 1 ? "key rotate" : "set *:8080 policy=always", status);
		EXPECT(i & 1 || !status[1], "round %d", i);
		alive("two at once");
	}
	product_must(&product, "set *:8080 policy=always");
	product_must(&product, "key show");
	expect_answers("after that");
}

CASE("detach beside detach, and attach beside detach: what the one or the other would have left last")
{
	char before[64], when[64];
	int status[2];
	pid_t waiting;

	report_case_limit(300);
	attached();
	/* One waits for handshakes in flight, another one does not; meanwhile a third attaches anew. */
	waiting = netns_spawn(product.pair.server, "/dev/null", PROGRAM " detach --all --pin-path %s",
			      product.pins);
	REQUIRE(WAIT_FOR(!strcmp(truth_now().xdp, "xdp_drain"), 3000));
	expect_true_status("while one waits");
	both("detach --all --now", "detach --all --now", status);
	EXPECT(!status[0] || !status[1], "neither of two has detached");
	expect_clean("detached twice");
	attach_ours("while one waits");
	EXPECT_EQ(netns_stop(waiting, 0, 5000), 0, "the one that waited");
	expect_true_status("after the one that waited");
	EXPECT_STR(truth_now().xdp, "xdp_handshake", "it has detached what was attached later");
	alive("after the one that waited");

	/* At a random moment of an attach, which holds the lock for most of its time. */
	snprintf(before, sizeof(before), "build/tests/faults-attach-%d", getpid());
	waiting = netns_spawn(product.pair.server, before, PROGRAM " " ATTACH " --pin-path %s",
			      product.pins);
	usleep(any_of(1500000));
	EXPECT_EQ(product_run(&product, "detach --all --now"), 0, "%s", netns_said());
	EXPECT_EQ(netns_stop(waiting, 0, 60000), 0, "%s", netns_output(NULL, "cat %s", before));
	netns_sh(NULL, "rm %s", before);
	snprintf(when, sizeof(when), "attach beside detach");
	alive(when);
	expect_true_status(when);
	if (*truth_now().xdp)
		expect_answers(when);
	else
		expect_clean(when);
}

/* ---- maps that others write to ---- */

static void fill(void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((unsigned char *)bytes)[i] = (unsigned char)any_of(256);
}

/* What `bpftool map update` and `delete` can do to a map, with whatever comes to mind. */
static void tamper(const char *name)
{
	static unsigned char key[256], next[256], value[1 << 16];
	struct bpf_map_info info;
	int fd = open_map(name, &info), seen = 0;
	size_t size = info.value_size;
	bool more = !bpf_map_get_next_key(fd, NULL, next);

	if (info.type == BPF_MAP_TYPE_PERCPU_ARRAY)
		size = (size + 7) / 8 * 8 * (size_t)libbpf_num_possible_cpus();
	REQUIRE(info.key_size <= sizeof(key) && size <= sizeof(value));
	for (; more && seen < 4096; seen++) {
		const unsigned int from = any_of((unsigned int)size);

		memcpy(key, next, info.key_size);
		more = !bpf_map_get_next_key(fd, key, next);
		if (bpf_map_lookup_elem(fd, key, value))
			continue;
		/* All of it, a part of it, all ones, nothing; of a hash, also gone. */
		switch (any_of(5)) {
		case 0: fill(value, size); break;
		case 1: fill(value + from, size - from < 8 ? size - from : 8); break;
		case 2: memset(value, 0xff, size); break;
		case 3: memset(value, 0, size); break;
		default: bpf_map_delete_elem(fd, key); continue;
		}
		bpf_map_update_elem(fd, key, value, BPF_ANY);
	}
	for (int i = 0; i < 8 && info.type == BPF_MAP_TYPE_HASH; i++) {
		fill(key, info.key_size);
		fill(value, size);
		bpf_map_update_elem(fd, key, value, BPF_ANY);
	}
	close(fd);
}

/* What reads maps, built with sanitizers: says something that can be read, or in one line why not. */
static void expect_readable(const char *when)
{
	static const char *const commands[] = {
		"status",	    "listeners",	  "connections",  "stats",   "status --json",
		"listeners --json", "connections --json", "stats --json", "key show"
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		const char *said;
		json_t *value;
		int status = netns_sh(product.pair.server, SANITIZED " %s --pin-path %s 2>&1", commands[i],
				      product.pins);

		said = netns_said();
		EXPECT(status == 0 || (status == 1 && one_line()), "%s: %s: exit status %d: %.1000s", when,
		       commands[i], status, said);
		for (const char *c = said; *c; c++)
			if (!EXPECT((*c >= 0x20 && *c < 0x7f) || *c == '\n',
				    "%s: %s prints the byte %d: %.200s", when, commands[i], *c, c))
				break;
		if (status || !strstr(commands[i], "--json"))
			continue;
		value = json_loads(said, 0, NULL);
		EXPECT(value, "%s: %s is no JSON: %.1000s", when, commands[i], said);
		json_decref(value);
	}
}

/* Settings, but for the layout: what has another one is another matter. */
static void tamper_settings(void)
{
	const __u32 zero = 0;
	struct bpf_map_info info;
	struct settings set;
	int fd = open_map("settings", &info);
	size_t from = 4 + any_of(sizeof(set) - 4), size = 1 + any_of(16);

	REQUIRE(info.value_size == sizeof(set) && !bpf_map_lookup_elem(fd, &zero, &set));
	if (from + size > sizeof(set))
		size = sizeof(set) - from;
	switch (any_of(4)) {
	case 0: memset((char *)&set + from, 0, size); break;
	case 1: memset((char *)&set + 4, 0, sizeof(set) - 4); break;
	case 2: fill((char *)&set + 4, sizeof(set) - 4); break;
	default: fill((char *)&set + from, size);
	}
	bpf_map_update_elem(fd, &zero, &set, BPF_ANY);
	close(fd);
}

/* Only of what nobody has to be told. */
static void expect_old_ones_live(const char *when)
{
	for (int i = 0; i < TALKS; i++)
		EXPECT(talk_goes_on(&talks[i]), "%s: connection %d, of long ago, is dead", when, i);
}

CASE("maps that others write to: nothing crashes, connections live, and attach puts right what it must")
{
	/* Of these, what is lost is learned, or looked up, anew. */
	static const char *const harmless[] = { "services",    "connections",  "known_tuples",
						"known_notes", "used_cookies", "counters",
						"forgings",    "own_addresses" };
	struct master_key key = { .set = 1 };
	const __u32 zero = 0;
	struct bpf_map_info info;
	struct settings set;
	char when[96];
	__u32 layout;
	int fd;

	report_case_limit(300);
	attached();
	expect_answers("before");
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++) {
			snprintf(when, sizeof(when), "%s, round %d", harmless[i], round);
			tamper(harmless[i]);
			alive(when);
			expect_readable(when);
			alive(when);
		}
	/* No key, or none that applies: said, with a remedy that helps. */
	fd = open_map("keys", &info);
	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		struct master_key none = { .set = slot & 1, .from_epoch = 0xfffffff0 };

		bpf_map_update_elem(fd, &slot, &none, BPF_ANY);
	}
	close(fd);
	alive("no key");
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "no master key applies") && strstr(netns_said(), "key rotate"), "%s",
	       netns_said());
	expect_readable("no key");
	product_must(&product, "key rotate");
	EXPECT(WAIT_FOR(!product_run(&product, "key show"), 5 * EPOCH_MS), "rotated, and no key: %s",
	       netns_said());
	for (int round = 0; round < 6; round++) {
		static const char *const others[] = { "keys", "ports", "interfaces" };

		snprintf(when, sizeof(when), "keys, ports, interfaces, settings, round %d", round);
		if (round & 1)
			tamper_settings();
		else
			for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
				tamper(others[i]);
		expect_old_ones_live(when);
		expect_readable(when);
		for (int i = 0; i < 2; i++) {
			struct talk talk = talk_begin(i);

			talk_end(&talk);
		}
	}
	/* All that settings cannot be; and any key, which is as good as another. */
	fd = open_map("settings", &info);
	REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set));
	memset((char *)&set + sizeof(set.layout), 0xff, sizeof(set) - sizeof(set.layout));
	set.epoch_ms = EPOCH_MS;
	set.mark = 0;
	REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_ANY));
	close(fd);
	fd = open_map("keys", &info);
	fill(&key.key, sizeof(key.key));
	REQUIRE(!bpf_map_update_elem(fd, &zero, &key, BPF_ANY));
	close(fd);
	expect_readable("settings that cannot be");
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "xdp-handshake attach puts them right"), "%s", netns_said());
	EXPECT_EQ(netns_sh(product.pair.server, ATTACH_OF(SANITIZED, "8080") " --pin-path %s",
			   product.pins),
		  0, "%s", netns_said());
	tcp_accept_all(listener);
	expect_true_status("attached over it");
	alive("attached over it");
	product_must(&product, "status --json");
	EXPECT(strstr(netns_said(), "\"ports\": \"8080\"") && !strstr(netns_said(), "never set") &&
		       !strstr(netns_said(), "gone"),
	       "%s", netns_said());
	expect_answers("attached over it");

	/* And another layout, by its number. */
	fd = open_map("settings", &info);
	REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set));
	layout = set.layout;
	set.layout = any_of(1 << 30);
	REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_ANY));
	expect_readable("of another layout");
	EXPECT_EQ(product_run(&product, ATTACH), 1);
	EXPECT(one_line() && strstr(netns_said(), "have layout") &&
		       strstr(netns_said(), "xdp-handshake detach --all"),
	       "%s", netns_said());
	set.layout = layout;
	REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_ANY));
	close(fd);
	/* And a pin taken away. */
	netns_must(NULL, "rm %s/keys", product.pins);
	EXPECT_EQ(product_run(&product, ATTACH), 1);
	EXPECT(one_line() && strstr(netns_said(), "half an instance") &&
		       strstr(netns_said(), "xdp-handshake detach --all"),
	       "%s", netns_said());
	EXPECT_EQ(netns_sh(product.pair.server, SANITIZED " detach --all --pin-path %s", product.pins), 0,
		  "%s", netns_said());
	expect_clean("half an instance");
	alive("half an instance");
}

static void write_settings(const struct settings *set)
{
	const __u32 zero = 0;
	struct bpf_map_info info;
	int fd = open_map("settings", &info);

	REQUIRE(info.value_size == sizeof(*set) && !bpf_map_update_elem(fd, &zero, set, BPF_ANY));
	close(fd);
}

CASE("settings by which marks are looked for elsewhere: attach alone puts them right, and fills the filter "
     "first")
{
	struct settings damaged, right;
	struct loader *loader;
	char output[64];
	bool drained = false;
	pid_t run;

	report_case_limit(300);
	attached();
	right = damaged = read_settings();
	damaged.known_mask = 63;
	write_settings(&damaged);
	EXPECT_EQ(product_run(&product, "explain --live --wait 1"), 1);
	EXPECT(one_line() && strstr(netns_said(), "xdp-handshake attach puts them right"), "%s",
	       netns_said());
	EXPECT_EQ(read_settings().known_mask, 63, "explain has written them");
	loader = loader_start(ATTACH);
	while (loader_step(loader)) {
		const bool answers = !strcmp(truth_now().xdp, "xdp_handshake");

		drained |= !answers;
		EXPECT(!answers || drained || read_settings().known_mask == 63,
		       "step %d, %s: right again, and answering without a mark", loader->steps,
		       loader->what);
	}
	loader_done(loader, "attach over it");
	EXPECT(drained);
	expect_true_status("attach over it");
	EXPECT_EQ(read_settings().known_mask, right.known_mask);

	/* And a daemon goes on, but not by these. */
	snprintf(output, sizeof(output), "build/tests/faults-run-%d", getpid());
	netns_sh(NULL, "rm -f %s", output);
	run = run_start("8080", output);
	REQUIRE(WAIT_FOR(turns(output), 60000), "%s", netns_output(NULL, "cat %s", output));
	right = read_settings();
	/* Between two turns. */
	REQUIRE(WAIT_FOR(read_settings().turned_ms != right.turned_ms, 5000));
	right = damaged = read_settings();
	damaged.known_mask = 63;
	write_settings(&damaged);
	EXPECT(WAIT_FOR(file_says(output, "the filter is not turned"), 5000));
	EXPECT_EQ(read_settings().known_mask, 63, "run has written them");
	expect_old_ones_live("by other settings");
	attach_ours("over other settings");
	EXPECT(WAIT_FOR(read_settings().turned_ms != right.turned_ms, 5000), "the filter does not turn");
	EXPECT_EQ(netns_stop(run, SIGTERM, 5000), 0, "run at SIGTERM: %s",
		  netns_output(NULL, "cat %s", output));
	netns_sh(NULL, "rm -f %s", output);
	expect_answers("at the end");
}

/* ---- devices, namespaces, pins that go ---- */

/* What goes with a device, or with its being down. */
static void addresses(const struct netns *ns, bool server)
{
	netns_must(ns, server ? "ip addr replace " SERVER_IP4 "/24 dev " SERVER_IF
				" && ip addr replace " SERVER_IP6 "/64 dev " SERVER_IF " nodad"
			      : "ip addr replace " CLIENT_IP4 "/24 dev " CLIENT_IF
				" && ip addr replace " CLIENT_IP6 "/64 dev " CLIENT_IF " nodad");
	netns_neighbour(ns, server ? SERVER_IF : CLIENT_IF, server ? CLIENT_IP4 : SERVER_IP4,
			server ? CLIENT_MAC : SERVER_MAC);
	netns_neighbour(ns, server ? SERVER_IF : CLIENT_IF, server ? CLIENT_IP6 : SERVER_IP6,
			server ? CLIENT_MAC : SERVER_MAC);
}

static void fake_routes(void)
{
	netns_must(product.pair.server, "ip route replace " FAKE_NET4 " via " CLIENT_IP4
					" && ip -6 route replace " FAKE_NET6 " via " CLIENT_IP6);
}

CASE("the interface down and up: connections live, and a handshake that was under way is completed")
{
	struct wire *wire;
	struct hand hands[2];

	attached();
	expect_answers("before");
	wire = wire_open(product.pair.client, CLIENT_IF);
	for (int family = 0; family < 2; family++) {
		hands[family] = hand_new(wire, 6, client_port++, server_ip[family], PORT, true);
		REQUIRE(hand_syn(&hands[family]));
	}
	netns_must(product.pair.server, "ip link set " SERVER_IF " down");
	expect_true_status("down");
	poll(NULL, 0, 200);
	netns_must(product.pair.server, "ip link set " SERVER_IF " up");
	addresses(product.pair.server, true);
	fake_routes();
	for (int family = 0; family < 2; family++) {
		int fd;

		wire_send(wire, &hands[family].spec);
		fd = tcp_accept(listener, 2000);
		EXPECT(fd >= 0, "%s: the handshake is lost", server_ip[family]);
		close(fd);
	}
	wire_close(wire);
	alive("up again");
	expect_true_status("up again");
	expect_answers("up again");
	product_must(&product, "status");
	EXPECT(!strstr(netns_said(), "gone"), "%s", netns_said());
}

CASE("the interface deleted, and made again with the same name: status says so, and what to do")
{
	const char *said;

	report_case_limit(300);
	attached();
	netns_must(product.pair.server, "ip link del " SERVER_IF);
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "gone") &&
		       strstr(netns_said(), "xdp-handshake detach " SERVER_IF " forgets it"),
	       "%s", netns_said());
	EXPECT(!strstr(netns_said(), "ruleset"), "%s", netns_said());
	netns_veth(product.pair.client, CLIENT_IF, CLIENT_MAC, product.pair.server, SERVER_IF, SERVER_MAC,
		   NULL);
	netns_xdp(product.pair.client, CLIENT_IF, 2);
	addresses(product.pair.client, false);
	addresses(product.pair.server, true);
	netns_must(product.pair.client, "ip route replace default via " SERVER_IP4
					" && ip -6 route replace default via " SERVER_IP6);
	fake_routes();
	alive("made again");
	product_must(&product, "status");
	said = netns_said();
	EXPECT(strstr(said,
		      "another one has its name now: xdp-handshake attach " SERVER_IF " protects that"),
	       "%s", said);
	/* As it says: and there is one row of that name, and the warning is gone. */
	second_new();
	product_must(&product, "attach " SERVER_IF " second --port 8080 --firewall-checked");
	expect_true_status("made again");
	product_must(&product, "status");
	EXPECT(!strstr(netns_said(), "gone"), "%s", netns_said());
	alive("attached again");
	expect_answers("attached again");
	/* One that is gone is none for which ports are kept, and forgotten with the others. */
	netns_must(product.pair.server, "ip link del second");
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "interface second is gone: xdp-handshake detach second forgets it"),
	       "%s", netns_said());
	product_must(&product, "attach " SERVER_IF " --port 8081");
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "8081\n") && !strstr(netns_said(), "8080"), "%s", netns_said());
	EXPECT_EQ(product_run(&product, "detach --all"), 0, "%s", netns_said());
	expect_clean("one of two was gone");
}

CASE("the network namespace deleted: said from outside, and detach does not wait for anybody")
{
	struct product gone = product_new(NULL, "--port 8080");
	const int index = netns_ifindex(gone.pair.server, SERVER_IF);
	char command[256];
	int64_t began;

	snprintf(command, sizeof(command),
		 "test -e %s/links/track && bpftool link show pinned %s/links/*/xdp", gone.pins, gone.pins);
	netns_must(NULL, "%s", command);
	netns_delete(gone.pair.client);
	netns_delete(gone.pair.server);
	gone.pair = product.pair;
	/* The kernel takes namespaces apart in its own time. */
	REQUIRE(WAIT_FOR(product_run(&gone, "status") && strstr(netns_said(), "interfaces are gone"),
			 10000),
		"%s", netns_said());
	EXPECT(one_line() && strstr(netns_said(), "xdp-handshake detach --all"), "%s", netns_said());
	EXPECT_EQ(product_run(&gone, "attach " SERVER_IF " --port 8080 --firewall-checked"), 1);
	EXPECT(one_line() && strstr(netns_said(), "xdp-handshake detach --all"), "%s", netns_said());
	/* A device of here is another one, even if it has its number. */
	if (netns_sh(product.pair.server, "ip -o link | grep -q '^%d:'", index)) {
		netns_must(product.pair.server, "ip link add other index %d type veth peer name another",
			   index);
		EXPECT_EQ(product_run(&gone, "detach other"), 1);
		EXPECT(one_line() && strstr(netns_said(), "other is not attached"), "%s", netns_said());
		netns_must(product.pair.server, "ip link del other");
	}
	began = now_ms();
	EXPECT_EQ(product_run(&gone, "detach " SERVER_IF), 0, "%s", netns_said());
	EXPECT(now_ms() - began < 10000, "%lld ms, with an epoch of 16 s", (long long)(now_ms() - began));
	EXPECT(access(gone.pins, F_OK), "pins are left");
	alive("another namespace is gone");
}

static void mount_bpffs(void)
{
	REQUIRE(!mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"), "%s", strerror(errno));
}

static int stay_inside(void *context)
{
	(void)context;
	if (chdir(product.pins))
		return 1;
	for (;;)
		pause();
}

CASE("the bpf file system unmounted, and somebody in it: what is still on the devices is named, and how to "
     "take "
     "it off")
{
	unsigned int id;
	const char *at;
	pid_t inside;

	report_case_limit(300);
	attached();
	/* Somebody is in there, so that it stays, out of reach. */
	inside = netns_fork(NULL, stay_inside, NULL);
	REQUIRE(WAIT_FOR(!netns_sh(NULL, "readlink /proc/%d/cwd | grep -q %s", inside, product.pins),
			 3000));
	REQUIRE(!umount2("/sys/fs/bpf", MNT_DETACH), "%s", strerror(errno));
	EXPECT_STR(truth_now().xdp, "xdp_handshake");
	alive("unmounted, and in use");
	EXPECT_EQ(product_run(&product, "status"), 1);
	EXPECT(one_line() && strstr(netns_said(), "but " SERVER_IF " carries our program"), "%s",
	       netns_said());
	EXPECT_EQ(product_run(&product, ATTACH), 1);
	EXPECT(one_line(), "%s", netns_said());
	mount_bpffs();
	EXPECT_EQ(product_run(&product, ATTACH), 1);
	at = strstr(netns_said(), "bpftool link detach id ");
	EXPECT(one_line() && at, "%s", netns_said());
	REQUIRE(at && sscanf(at, "bpftool link detach id %u", &id) == 1);
	netns_must(NULL, "bpftool link detach id %u", id);
	alive("taken off");
	attach_ours("mounted again");
	expect_answers("mounted again");
	netns_stop(inside, SIGKILL, 3000);
	alive("the old one is gone at last");
	expect_true_status("the old one is gone at last");
}

CASE("detach, killed at each of its steps: another one goes on from there, to the end")
{
	char when[96] = "";
	int kills = 0;

	attached();
	/* To take a link off again that is off is a step, too. */
	while (!access(product.pins, F_OK) && kills < 100) {
		if (!killed_at("detach --all --now", 1 + (kills & 1), when))
			break;
		kills++;
		alive(when);
		expect_true_status(when);
	}
	EXPECT(kills > 15, "only %d steps", kills);
	expect_clean("detach in pieces");
}

/* ---- another layout of the maps ---- */

/* One program has attached, the other one comes: it refuses, and takes off when it is told to. */
static void expect_other_layout(const char *program, const char *name)
{
	static const char *const refused[] = { ATTACH,	"status",     "listeners",	  "connections",
					       "stats", "key rotate", "detach " SERVER_IF };
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand hands[2];
	char when[96];
	pid_t detach;

	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		EXPECT_EQ(netns_sh(product.pair.server, "%s %s --pin-path %s", program, refused[i],
				   product.pins),
			  1, "%s: %s", name, refused[i]);
		EXPECT(one_line() && strstr(netns_said(), "have layout") &&
			       strstr(netns_said(), "xdp-handshake detach --all"),
		       "%s: %s: %s", name, refused[i], netns_said());
	}
	EXPECT_STR(truth_now().xdp, "xdp_handshake", "%s", name);
	for (int family = 0; family < 2; family++) {
		hands[family] = hand_new(wire, 6, client_port++, server_ip[family], PORT, true);
		REQUIRE(hand_syn(&hands[family]));
	}
	detach = netns_spawn(product.pair.server, "/dev/null", "%s detach --all --pin-path %s", program,
			     product.pins);
	REQUIRE(WAIT_FOR(!strcmp(truth_now().xdp, "xdp_drain"), 3000), "%s: %s is on", name,
		truth_now().xdp);
	for (int family = 0; family < 2; family++) {
		int fd;

		wire_send(wire, &hands[family].spec);
		fd = tcp_accept(listener, 2000);
		EXPECT(fd >= 0, "%s: %s: a handshake in flight is lost", name, server_ip[family]);
		close(fd);
	}
	snprintf(when, sizeof(when), "%s: draining", name);
	alive(when);
	EXPECT_EQ(netns_stop(detach, 0, 10000), 0, "%s: detach", name);
	expect_clean(name);
	alive(name);
	wire_close(wire);
}

CASE("a build with another layout of the maps comes, and one goes: no handshake is lost on the way")
{
	report_case_limit(300);
	product_run(&product, "detach --all --now");
	REQUIRE(!netns_sh(product.pair.server, ATTACH_OF(OTHER, "8080") " --pin-path %s", product.pins),
		"%s", netns_said());
	/* Learned, and confirmed. */
	for (int i = 0; i < 4; i++)
		alive("another build");
	expect_other_layout(PROGRAM, "upgrade");
	attach_ours("upgraded");
	expect_answers("upgraded");
	expect_other_layout(OTHER, "downgrade");
}

static pid_t detach_start(void)
{
	pid_t pid = netns_spawn(product.pair.server, "/dev/null", PROGRAM " detach --all --pin-path %s",
				product.pins);

	REQUIRE(WAIT_FOR(!strcmp(truth_now().xdp, "xdp_drain"), 3000), "%s is on", truth_now().xdp);
	return pid;
}

CASE("detach of another layout waits, and meanwhile it is detached, or attached and detached, by its own "
     "build")
{
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	int64_t started = 0;
	pid_t waiting, own;
	struct hand hand;
	int fd;

	report_case_limit(300);
	product_run(&product, "detach --all --now");
	REQUIRE(!netns_sh(product.pair.server, ATTACH_OF(OTHER, "8080") " --pin-path %s", product.pins),
		"%s", netns_said());
	waiting = detach_start();
	netns_must(product.pair.server, OTHER " detach --all --now --pin-path %s", product.pins);
	EXPECT_EQ(netns_stop(waiting, 0, 10000), 0, "detached by its own build");

	for (int i = 0; i < 2; i++) {
		netns_must(product.pair.server,
			   OTHER " attach " SERVER_IF " --port 8080 --epoch 2 --canary once "
				 "--connections 4096 --firewall-checked --pin-path %s",
			   product.pins);
		/* Learned, and confirmed. */
		for (int j = 0; j < 4; j++)
			alive("another build");
		if (i)
			break;
		waiting = detach_start();
		started = now_ms();
		/* However long it takes to attach. Not while it has the lock, which nobody else would get.
		 */
		REQUIRE(!kill(-waiting, SIGSTOP));
		while (netns_sh(NULL, "flock -n %s true", product.pins)) {
			REQUIRE(!kill(-waiting, SIGCONT));
			nap();
			REQUIRE(!kill(-waiting, SIGSTOP));
		}
	}
	/* It has waited long enough for what it found, two epochs, and ends as soon as it may go on. */
	while (now_ms() - started < 5000)
		nap();
	hand = hand_new(wire, 6, client_port++, SERVER_IP4, PORT, true);
	REQUIRE(hand_syn(&hand));
	own = netns_spawn(product.pair.server, "/dev/null", OTHER " detach --all --pin-path %s",
			  product.pins);
	REQUIRE(WAIT_FOR(!strcmp(truth_now().xdp, "xdp_drain"), 3000), "%s is on", truth_now().xdp);
	REQUIRE(!kill(-waiting, SIGCONT));
	EXPECT_EQ(netns_stop(waiting, 0, 10000), 0, "the one that waited");
	wire_send(wire, &hand.spec);
	fd = tcp_accept(listener, 2000);
	EXPECT(fd >= 0, "a handshake in flight is lost");
	close(fd);
	EXPECT_EQ(netns_stop(own, 0, 10000), 0, "its own detach");
	expect_clean("detached by its own build");
	wire_close(wire);
}

/* ---- a memory limit ---- */

/* A control group of our own: of version 2 where that has the memory, else of version 1. */
static struct {
	char path[80];
	const char *limit, *usage; /* names of its files */
} group;

static void remove_group(void)
{
	if (*group.path)
		rmdir(group.path);
}

static bool make_group(void)
{
	char parent[64];
	const char *said;

	if (!netns_sh(NULL, "grep -qw memory /sys/fs/cgroup/cgroup.controllers")) {
		strcpy(parent, "/sys/fs/cgroup");
		netns_sh(NULL, "echo +memory > %s/cgroup.subtree_control", parent);
		group.limit = "memory.max";
		group.usage = "memory.current";
	} else {
		said = netns_output(NULL, "awk '$3 == \"cgroup\" && $4 ~ /(^|,)memory(,|$)/ { print $2; "
					  "exit }' /proc/mounts");
		if (!said || !*said)
			return false;
		snprintf(parent, sizeof(parent), "%.60s", said);
		group.limit = "memory.limit_in_bytes";
		group.usage = "memory.usage_in_bytes";
	}
	snprintf(group.path, sizeof(group.path), "%.60s/xdph-%d", parent, getpid());
	if (mkdir(group.path, 0700)) {
		*group.path = '\0';
		return false;
	}
	atexit(remove_group);
	return !netns_sh(NULL, "test -e %s/%s", group.path, group.limit);
}

/* In the group, with so much memory. */
static int limited(long long bytes, const char *arguments)
{
	/* What was in there before is freed in the kernel's own time. */
	REQUIRE(WAIT_FOR(!netns_sh(NULL, "echo %lld > %s/%s", bytes, group.path, group.limit), 5000), "%s",
		netns_said());
	return netns_sh(product.pair.server,
			"echo $$ > %s/cgroup.procs && exec " PROGRAM " %s --pin-path %s", group.path,
			arguments, product.pins);
}

CASE("a memory limit: said when it is too low to attach; met later, nothing is lost to it")
{
	enum { HELD = 8000 };
	long long promoted;
	pid_t load, server;
	char output[64];
	int status;

	report_case_limit(300);
	product_run(&product, "detach --all --now");
	if (!make_group())
		SKIP("no control group for memory");
	/* The tables alone are more than 200 MB. */
	EXPECT_EQ(limited(64 << 20,
			  "attach " SERVER_IF " --port 8080 --connections 1000000 --firewall-checked"),
		  1);
	EXPECT(one_line() && strstr(netns_said(), "--connections N"), "%s", netns_said());
	expect_clean("refused for want of memory");
	/* Not even room for the loader itself: it is killed, like anybody. */
	status = limited(6 << 20, ATTACH);
	EXPECT(status == 1 || status == 128 + SIGKILL, "exit status %d: %s", status, netns_said());
	expect_clean("killed for want of memory");
	alive("no room for the loader");

	EXPECT_EQ(limited(1 << 30,
			  "attach " SERVER_IF " --port 8080 --connections 65536 --firewall-checked"),
		  0, "%s", netns_said());
	expect_true_status("with room");
	expect_answers("with room");
	netns_must(NULL, "cat %s/%s > %s/%s", group.path, group.usage, group.path, group.limit);
	close(listener);
	server = netns_spawn(product.pair.server, "/dev/null",
			     "build/tests/tools/respond --port %d --backlog 4096 --quiet --echo", PORT);
	REQUIRE(WAIT_FOR(netns_listens(product.pair.server, PORT), 3000));
	snprintf(output, sizeof(output), "build/tests/faults-load-%d", getpid());
	promoted = counter(&product, "promoted");
	load = netns_spawn(
		product.pair.client, output,
		"build/tests/tools/churn --connect " SERVER_IP4
		" --port %d --deadline 20 --payload 10 --expect-echo --hold --concurrency %d --count %d",
		PORT, HELD, HELD);
	REQUIRE(WAIT_FOR(!netns_sh(NULL, "grep -q ^ok= %s", output), 60000));
	EXPECT(!netns_sh(NULL, "grep -q 'failed=0 ' %s", output), "%s",
	       netns_output(NULL, "cat %s", output));
	promoted = counter(&product, "promoted") - promoted;
	EXPECT(promoted > HELD * 9 / 10, "few were promoted");
	/* The table has its memory from the beginning: all of them are recorded. */
	EXPECT_EQ(counter(&product, "connections_full"), 0);
	EXPECT_EQ(atoll(netns_output(NULL, "bpftool -j map dump pinned %s/connections | jq length",
				     product.pins)
				?: ""),
		  promoted);
	netns_stop(load, SIGTERM, 10000);
	netns_stop(server, SIGTERM, 10000);
	netns_sh(NULL, "rm -f %s", output);
	listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	alive("at the end");
}

CASE("the bpf file system unmounted, and nobody in it: what was pinned goes, and the stack does all by "
     "itself")
{
	report_case_limit(300);
	attached();
	REQUIRE(!umount2("/sys/fs/bpf", 0), "%s", strerror(errno));
	REQUIRE(WAIT_FOR(!*truth_now().xdp, 3000), "%s is on", truth_now().xdp);
	REQUIRE(WAIT_FOR(!truth_now().promotes && !truth_now().learns, 3000), "tcx programs are on");
	alive("unmounted");
	EXPECT_EQ(product_run(&product, "status"), 1);
	EXPECT(one_line() && strstr(netns_said(), "nothing is attached"), "%s", netns_said());
	mount_bpffs();
	EXPECT_EQ(product_run(&product, "status"), 1);
	EXPECT(one_line() && strstr(netns_said(), "nothing is attached"), "%s", netns_said());
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "full")) {
		full = true;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return report_main(argc, argv, begin);
}

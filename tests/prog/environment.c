// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "environment.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

enum {
	SOON_MS = 1000,
	VLAN_INNER = 5,
};

struct environment env;

const char *const counter_names[COUNTERS + 1] = {
#define COUNTER(name, sentence) #name,
#include "counters.def"
#undef COUNTER
	"no counter",
};

/* ---- places ---- */

struct ip_addr client_ip(enum place place, unsigned int n)
{
	switch (place) {
	case IPV4: return ip_n(FAKE_IP4, n);
	case IPV6: return ip_n(FAKE_IP6, n);
	case IPV4_VLAN: return ip("10.77.5.2");
	default: return ip("10.77.6.2");
	}
}

struct ip_addr server_ip(enum place place)
{
	switch (place) {
	case IPV4: return ip(SERVER_IP4);
	case IPV6: return ip(SERVER_IP6);
	default: return ip("10.77.5.1");
	}
}

struct tcp_spec place_syn(enum place place, uint16_t sport, uint16_t dport)
{
	struct tcp_spec syn = syn_spec(client_ip(place, 1), sport, server_ip(place), dport);

	if (place == IPV4_VLAN) {
		syn.vlans = 1;
		syn.vlan[0] = VLAN_INNER;
	}
	return syn;
}

struct tcp_spec own_syn(enum place place, uint16_t sport, uint16_t dport)
{
	struct tcp_spec syn = place_syn(place, sport, dport);

	syn.saddr = ip(place == IPV6 ? CLIENT_IP6 : CLIENT_IP4);
	return syn;
}

static socklen_t sockaddr_of(struct sockaddr_storage *storage, const struct ip_addr *address, uint16_t port)
{
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)storage;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)storage;

	memset(storage, 0, sizeof(*storage));
	storage->ss_family = address->family;
	if (address->family == AF_INET) {
		ipv4->sin_port = htons(port);
		ipv4->sin_addr = address->v4;
		return sizeof(*ipv4);
	}
	ipv6->sin6_port = htons(port);
	ipv6->sin6_addr = address->v6;
	return sizeof(*ipv6);
}

static int connect_in_ns(void *context)
{
	const struct tcp_spec *syn = context;
	const struct timeval patience = { .tv_sec = 3 };
	struct sockaddr_storage from, to;
	socklen_t length = sockaddr_of(&from, &syn->saddr, syn->sport);
	int fd = socket(from.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sockaddr_of(&to, &syn->daddr, syn->dport);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (fd < 0 || bind(fd, (struct sockaddr *)&from, length) ||
	    connect(fd, (struct sockaddr *)&to, length))
		return -errno;
	return fd;
}

int own_connect(const struct tcp_spec *syn)
{
	struct tcp_spec mine = *syn;
	const int client = netns_call(env.pair.client, connect_in_ns, &mine);

	REQUIRE(client >= 0, "connecting to port %u of %s: %s", syn->dport, ip_text(&syn->daddr),
		strerror(-client));
	return client;
}

/* Not every kernel has VLAN devices. So the addresses of the tagged places are the device's own. */
void vlan_synack(const struct tcp_spec *syn, struct tcp_frame *synack)
{
	static struct wire *wire;
	static uint8_t frame[FRAME_MAX];
	struct tcp_spec answer = {
		.vlans = syn->vlans,
		.saddr = syn->daddr,
		.daddr = syn->saddr,
		.ttl = 61,
		.tos = 0x20,
		.sport = syn->dport,
		.dport = syn->sport,
		.seq = 1,
		.ack = syn->seq + 1,
		.flags = SYN | ACK | ECE,
		.window = 65160,
		.options = options_text("mss 1300, sack, ts 1 2, nop, ws 9"),
	};
	static struct run run;
	size_t length = frame_build(syn, frame, sizeof(frame));

	if (!wire)
		wire = wire_open(env.pair.server, SERVER_IF);
	run_frame(env.xdp, frame, length, &run);
	REQUIRE(run.verdict == XDP_PASS, "%s", counted_text(&run));
	memcpy(answer.src_mac, frame, 6);
	memcpy(answer.dst_mac, frame + 6, 6);
	memcpy(answer.vlan, syn->vlan, sizeof(answer.vlan));
	wire_send(wire, &answer);
	length = frame_build(&answer, frame, sizeof(frame));
	REQUIRE(frame_parse(frame, length, synack));
}

/* ---- sockets ---- */

struct listen_arg {
	uint16_t port;
	int backlog;
	void (*prepare)(int fd);
};

static int listen_in_ns(void *context)
{
	const struct listen_arg *arg = context;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(arg->port) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), off = 0, on = 1;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd >= 0 && arg->prepare)
		arg->prepare(fd);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, arg->backlog))
		return -errno;
	return fd;
}

int listen_on(uint16_t port, int backlog, void (*prepare)(int fd))
{
	struct listen_arg arg = { port, backlog, prepare };
	int fd = netns_call(env.pair.server, listen_in_ns, &arg);

	REQUIRE(fd >= 0, "listening on port %u: %s", port, strerror(-fd));
	return fd;
}

bool native_synack(const struct tcp_spec *syn, struct tcp_frame *synack)
{
	struct tcp_spec reset = *syn;
	bool answered;

	wire_send(env.wire, syn);
	answered = wire_recv_flags(env.wire, syn, SYN | ACK, RST, SOON_MS, synack);
	reset.flags = RST;
	reset.seq = syn->seq + 1;
	reset.options = options_none();
	wire_send(env.wire, &reset);
	return answered;
}

void admit(enum place place, uint16_t port, struct facts *facts)
{
	static uint16_t sport = 20000;
	struct facts mine;

	facts = facts ? facts : &mine;
	/* The first SYN has the service learned, the second is its canary. */
	for (int i = 0; i < 2; i++) {
		struct tcp_spec syn = place_syn(place, sport++, port);

		syn.flags |= ECE | CWR;
		if (syn.vlans)
			vlan_synack(&syn, &facts->native);
		else
			REQUIRE(native_synack(&syn, &facts->native), "no answer from port %u of %s", port,
				ip_text(&syn.daddr));
	}
	facts->admitted = true;
}

/* ---- maps and programs ---- */

int open_pin(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", env.pins, name);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static int program_of_link(const char *name)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	int link = open_pin(name), program;

	REQUIRE(!bpf_obj_get_info_by_fd(link, &info, &length), "%s: %s", name, strerror(errno));
	program = bpf_prog_get_fd_by_id(info.prog_id);
	REQUIRE(program >= 0, "%s: %s", name, strerror(errno));
	close(link);
	return program;
}

void settings_store(void)
{
	const __u32 zero = 0;

	REQUIRE(!bpf_map_update_elem(env.settings, &zero, &env.set, BPF_ANY), "settings: %s",
		strerror(errno));
}

static void detach(void)
{
	netns_sh(env.pair.server, PROGRAM " detach --all --now --pin-path %s", env.pins);
}

void environment_new(void)
{
	const __u32 zero = 0;
	char name[64];
	cpu_set_t one;

	/* Counters, budgets and keys in use are a CPU's own. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	REQUIRE(!sched_setaffinity(0, sizeof(one), &one));

	env.pair = pair_new(NULL);
	netns_must(env.pair.server, "ip addr add 10.77.5.1/24 dev " SERVER_IF
				    " && ip addr add fd77:5::1/64 dev " SERVER_IF " nodad");
	snprintf(env.pins, sizeof(env.pins), "/sys/fs/bpf/xdp-handshake-prog-%d", getpid());
	atexit(detach);
	netns_must(env.pair.server,
		   PROGRAM " attach " SERVER_IF
			   " --port %d-%d --canary once --guard off --firewall-checked --pin-path %s",
		   PORT, PORT_LAST, env.pins);
	env.ifindex = (unsigned int)netns_ifindex(env.pair.server, SERVER_IF);
	snprintf(name, sizeof(name), "links/%u/xdp", env.ifindex);
	env.xdp = program_of_link(name);
	snprintf(name, sizeof(name), "links/%u/ingress", env.ifindex);
	env.promote = program_of_link(name);
	snprintf(name, sizeof(name), "links/%u/egress", env.ifindex);
	env.learn = program_of_link(name);
	env.drain = open_pin("programs/xdp_drain");
	env.services = open_pin("services");
	env.settings = open_pin("settings");
	env.keys = open_pin("keys");
	env.known_tuples = open_pin("known_tuples");
	env.known_notes = open_pin("known_notes");
	env.own_addresses = open_pin("own_addresses");
	env.counters = open_pin("counters");
	REQUIRE(!bpf_map_lookup_elem(env.settings, &zero, &env.set));
	env.set.pass_budget = env.set.held_budget = PLENTY;
	env.set.forging_rate = PLENTY;
	settings_store();

	env.wire = wire_open(env.pair.client, CLIENT_IF);
	env.listener = listen_on(PORT, 128, NULL);
	for (int place = 0; place < PLACES; place++)
		admit((enum place)place, PORT, &env.facts[place]);
}

/* ---- counters ---- */

static const struct counters *counters_of_cpus(int *cpus)
{
	static struct counters *per_cpu;
	static int possible;
	const __u32 zero = 0;

	if (!per_cpu) {
		possible = libbpf_num_possible_cpus();
		per_cpu = calloc((size_t)possible, sizeof(*per_cpu));
	}
	REQUIRE(per_cpu && !bpf_map_lookup_elem(env.counters, &zero, per_cpu), "counters: %s",
		strerror(errno));
	*cpus = possible;
	return per_cpu;
}

void counters_read(__u64 value[COUNTERS])
{
	int cpus;
	const struct counters *per_cpu = counters_of_cpus(&cpus);

	memset(value, 0, COUNTERS * sizeof(*value));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (int i = 0; i < COUNTERS; i++)
			value[i] += ((const __u64 *)&per_cpu[cpu])[i];
}

void counters_read_here(__u64 value[COUNTERS])
{
	int cpus;

	memcpy(value, &counters_of_cpus(&cpus)[sched_getcpu()], COUNTERS * sizeof(*value));
}

bool counted_only(const struct run *run, enum counter counter)
{
	for (int i = 0; i < COUNTERS; i++) {
		const bool of_syn = !strncmp(counter_names[counter], "syn_", 4);
		const __u64 expected = i == (int)counter || (of_syn && i == COUNTER_syn_received);

		if (run->counted[i] != expected)
			return false;
	}
	return true;
}

const char *counted_text(const struct run *run)
{
	static char text[1024];
	size_t at = 0;

	strcpy(text, "nothing");
	for (int i = 0; i < COUNTERS; i++)
		if (run->counted[i] && at < sizeof(text))
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s +%llu", at ? ", " : "",
					       counter_names[i], (unsigned long long)run->counted[i]);
	return text;
}

/* ---- running ---- */

static uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int try_xdp(int program, const void *frame, size_t length, size_t linear, struct run *run)
{
	static uint8_t out[RUN_MAX + sizeof(struct handshake_metadata)];
	struct xdp_md in = { .data_end = (__u32)linear, .ingress_ifindex = env.ifindex }, meta = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (__u32)length,
		    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &in, .ctx_size_in = sizeof(in),
		    .ctx_out = &meta, .ctx_size_out = sizeof(meta), .repeat = 1);
	size_t ahead;
	int error;

	run->before_ms = monotonic_ms();
	error = bpf_prog_test_run_opts(program, &opts);
	run->after_ms = monotonic_ms();
	if (error)
		return error;
	run->verdict = opts.retval;
	ahead = meta.data - meta.data_meta;
	run->length = opts.data_size_out - ahead;
	memcpy(run->bytes, out + ahead, run->length);
	run->handed = ahead != 0;
	if (ahead) {
		EXPECT_EQ(ahead, sizeof(run->metadata));
		memcpy(&run->metadata, out, sizeof(run->metadata));
	}
	return 0;
}

void run_xdp(int program, const void *frame, size_t length, size_t linear, struct run *run)
{
	const int error = try_xdp(program, frame, length, linear, run);

	REQUIRE(!error, "BPF_PROG_RUN of %zu bytes: %s", length, strerror(-error));
}

bool run_chooses_linear(void)
{
	static uint8_t frame[64];
	static struct run run;

	return !try_xdp(env.xdp, frame, sizeof(frame), sizeof(frame) / 2, &run);
}

bool run_tc(int program, const void *frame, size_t length, unsigned int ingress_ifindex, struct run *run)
{
	struct __sk_buff in = { .ingress_ifindex = ingress_ifindex, .ifindex = env.ifindex }, seen = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (__u32)length,
		    .data_out = run->bytes, .data_size_out = sizeof(run->bytes), .ctx_in = &in,
		    .ctx_size_in = sizeof(in), .ctx_out = &seen, .ctx_size_out = sizeof(seen), .repeat = 1);
	int error;

	run->before_ms = monotonic_ms();
	error = bpf_prog_test_run_opts(program, &opts);
	run->after_ms = monotonic_ms();
	/* More than a page, less than an IP header: kernels differ in what they make of it. */
	if (error == -EINVAL)
		return false;
	REQUIRE(!error, "BPF_PROG_RUN of %zu bytes: %s", length, strerror(-error));
	run->verdict = opts.retval;
	run->length = opts.data_size_out;
	run->mark = seen.mark;
	run->handed = false;
	return true;
}

static uint64_t tick_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void tick_over(void)
{
	const uint64_t tick = tick_now();

	while (tick_now() == tick)
		usleep(100);
}

bool flooding(void)
{
	enum { ENOUGH = 70 }; /* bpf/clock.h: CLOCK_FLOOD, and some */
	static struct run answer;
	static uint64_t flooded;
	const uint64_t tick = tick_now();
	uint8_t frame[RUN_MAX];

	if (tick == flooded)
		return true;
	for (int i = 0; i < ENOUGH; i++)
		for (int place = 0; place < (i + 2 < ENOUGH ? 1 : PLACES); place++) {
			const struct tcp_spec syn = place_syn((enum place)place, (uint16_t)(20000 + i),
							      PORT);

			run_frame(env.xdp, frame, frame_build(&syn, frame, sizeof(frame)), &answer);
		}
	/* Of each common layout the answer is kept (bpf/quick.h). */
	for (int place = 0; place < PLACES; place++) {
		const uint16_t mss = place == IPV6 ? 1440 : 1460;
		const struct tcp_options layouts[] = { options_windows(mss, 8), options_macos(mss, 1, 6),
						       options_linux_no_ts(mss, 7), options_mss(mss) };

		for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
			struct tcp_spec syn = place_syn((enum place)place, (uint16_t)(20100 + i), PORT);

			syn.options = layouts[i];
			run_frame(env.xdp, frame, frame_build(&syn, frame, sizeof(frame)), &answer);
		}
	}
	if (tick_now() != tick)
		return false;
	flooded = tick;
	return true;
}

void run_frame(int program, const void *frame, size_t length, struct run *run)
{
	run_split_frame(program, frame, length, length, run);
}

void run_split_frame(int program, const void *frame, size_t length, size_t linear, struct run *run)
{
	__u64 before[COUNTERS], after[COUNTERS];

	/* The device is looked for in the namespace of who calls, and the end of a case changes that. */
	netns_enter(env.pair.server);
	counters_read(before);
	run_xdp(program, frame, length, linear, run);
	counters_read(after);
	for (int i = 0; i < COUNTERS; i++)
		run->counted[i] = after[i] - before[i];
}

const char *verdict_text(unsigned int verdict)
{
	static const char *const names[] = { "XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX",
					     "XDP_REDIRECT" };

	return verdict < sizeof(names) / sizeof(*names) ? names[verdict] : "no verdict";
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/if_link.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* What bpf/maps.h and the BPF headers give to the programs: bpf/known.h itself marks what is held. */
#define XDPH_MAPS_H
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
static struct known_word *marked;
static struct known_note *known_notes;
#define known_tuples		      marked
#define bpf_map_lookup_elem(map, key) (&(*(map))[*(key)])
#include "../../bpf/known.h"
#undef bpf_map_lookup_elem
#undef known_tuples

/* ---- ours ---- */

static int open_pin(const struct row *row, const char *name)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", row->product.pins, name);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static int program_of_link(const struct row *row, const char *name)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	char path[64];
	int link, program;

	snprintf(path, sizeof(path), "links/%u/%s", row->server_ifindex, name);
	link = open_pin(row, path);
	REQUIRE(!bpf_obj_get_info_by_fd(link, &info, &length), "%s", strerror(errno));
	program = bpf_prog_get_fd_by_id(info.prog_id);
	REQUIRE(program >= 0, "%s", strerror(errno));
	close(link);
	return program;
}

static struct settings settings_of(const struct row *row)
{
	const __u32 zero = 0;
	struct settings set;

	REQUIRE(!bpf_map_lookup_elem(row->settings, &zero, &set), "%s", strerror(errno));
	return set;
}

void row_canaries(const struct row *row, bool on)
{
	struct settings set;
	const __u32 zero = 0;

	if (row->answerer != ANSWERER_OURS)
		return;
	set = settings_of(row);
	set.flags &= ~(__u32)SETTING_CANARY_ONCE;
	set.flags |= on ? 0 : SETTING_CANARY_ONCE;
	REQUIRE(!bpf_map_update_elem(row->settings, &zero, &set, BPF_ANY), "%s", strerror(errno));
}

/* The @n-th of the tuples that are held: of other addresses than those that SYNs come from. */
static struct tuple held_tuple(int n)
{
	struct tuple tuple = {
		.remote_port = be16_from((uint16_t)(1024 + n % 60000)),
		.local_port = be16_from(BENCH_PORT),
	};

	address_map_ipv4(&tuple.remote, be32_from((uint32_t)(0x0a600000 + n / 60000 * 7 + n % 251)));
	address_map_ipv4(&tuple.local, ip(SERVER_IP4).v4.s_addr);
	return tuple;
}

static void fill_filter(struct row *row)
{
	const struct settings set = settings_of(row);
	const int fd = open_pin(row, "known_tuples");

	row->words = 2 * ((size_t)set.known_mask + 1);
	row->filter = mmap(NULL, row->words * sizeof(*row->filter), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
	REQUIRE(row->filter != MAP_FAILED, "%s", strerror(errno));
	close(fd);
	memset(row->filter, 0, row->words * sizeof(*row->filter));
	marked = row->filter;
	for (int i = 0; i < row->held; i++) {
		const struct tuple tuple = held_tuple(i);

		known_mark(&set, tuple_hash(&tuple, set.hash_seed));
	}
	row->filled = calloc(row->words, sizeof(*row->filled));
	REQUIRE(row->filled);
	memcpy(row->filled, row->filter, row->words * sizeof(*row->filled));
}

void row_refill(struct row *row)
{
	for (size_t i = 0; row->answerer == ANSWERER_OURS && i < row->words; i++)
		if (row->filter[i].bits != row->filled[i].bits)
			row->filter[i] = row->filled[i];
}

uint64_t row_counter(const struct row *row, size_t offset)
{
	static struct counters *per_cpu;
	static int cpus;
	const __u32 zero = 0;
	uint64_t sum = 0;

	if (!per_cpu) {
		cpus = libbpf_num_possible_cpus();
		per_cpu = calloc((size_t)cpus, sizeof(*per_cpu));
	}
	REQUIRE(per_cpu && !bpf_map_lookup_elem(row->counters, &zero, per_cpu), "%s", strerror(errno));
	for (int cpu = 0; cpu < cpus; cpu++)
		sum += *(const __u64 *)((const char *)&per_cpu[cpu] + offset);
	return sum;
}

static unsigned int run_program(const struct row *row, const struct tcp_spec *spec)
{
	static uint8_t frame[FRAME_MAX], out[FRAME_MAX];
	struct xdp_md in = { .data_end = (__u32)frame_build(spec, frame, sizeof(frame)),
			     .ingress_ifindex = row->server_ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = in.data_end, .data_out = out,
		    .data_size_out = sizeof(out), .ctx_in = &in, .ctx_size_in = sizeof(in), .repeat = 1);

	netns_enter(row->product.pair.server);
	REQUIRE(!bpf_prog_test_run_opts(row->program, &opts), "%s", strerror(errno));
	netns_enter(NULL);
	return opts.retval;
}

/* That what was marked is known to the programs. */
static void check_filter(const struct row *row)
{
	const uint64_t before = row_counter(row, offsetof(struct counters, ack_known));
	const int step = row->held / 64;

	for (int i = 0; step && i < row->held; i += step) {
		const struct tuple tuple = held_tuple(i);
		struct tcp_spec ack = syn_spec(ip("10.96.0.0"), host16(tuple.remote_port), ip(SERVER_IP4),
					       BENCH_PORT);

		ack.saddr.v4.s_addr = tuple.remote.word[3];
		ack.flags = ACK;
		ack.options = options_none();
		run_program(row, &ack);
	}
	if (step)
		REQUIRE(row_counter(row, offsetof(struct counters, ack_known)) - before >= 64,
			"what is held is not known");
}

/*
 * Not every kernel has VLAN devices. So a raw socket sends the stack's answers to two tagged SYNs, which
 * have the service learned and admitted; tc_learn cannot tell.
 */
static void admit_vlan(const struct row *row)
{
	struct wire *wire = wire_open(row->product.pair.server, SERVER_IF);
	struct tcp_spec syn = syn_spec(ip("10.77.5.2"), 20000, ip(BENCH_VLAN_IP4), BENCH_PORT);

	syn.vlans = 1;
	syn.vlan[0] = BENCH_VLAN;
	for (int i = 0; i < 2; i++) {
		struct tcp_spec answer = {
			.vlans = syn.vlans,
			.saddr = syn.daddr,
			.daddr = syn.saddr,
			.sport = syn.dport,
			.dport = ++syn.sport,
			.seq = 1,
			.ack = syn.seq + 1,
			.flags = SYN | ACK,
			.window = 65160,
			.options = options_text("mss 1460, sack, ts 1 2, nop, ws 7"),
		};
		uint8_t frame[FRAME_MAX];

		REQUIRE(run_program(row, &syn) == XDP_PASS);
		frame_build(&syn, frame, sizeof(frame));
		memcpy(answer.dst_mac, frame + 6, 6);
		memcpy(answer.src_mac, frame, 6);
		answer.vlan[0] = BENCH_VLAN;
		wire_send(wire, &answer);
	}
	syn.sport++;
	REQUIRE(run_program(row, &syn) == XDP_TX, "the service on a VLAN is not admitted");
	wire_close(wire);
}

static void make_ours(struct row *row)
{
	char arguments[128];

	snprintf(arguments, sizeof(arguments), "--port %d,%d", BENCH_PORT, BENCH_PORT_CLOSES);
	if (row->connections)
		snprintf(arguments + strlen(arguments), sizeof(arguments) - strlen(arguments),
			 " --connections %d", row->connections);
	netns_must(row->product.pair.server,
		   PROGRAM " attach " SERVER_IF " --firewall-checked --pin-path %s %s", row->product.pins,
		   arguments);
	row->program = program_of_link(row, "xdp");
	row->counters = open_pin(row, "counters");
	row->settings = open_pin(row, "settings");
	product_admit(&row->product, SERVER_IP4, BENCH_PORT);
	product_admit(&row->product, SERVER_IP6, BENCH_PORT);
	admit_vlan(row);
	fill_filter(row);
	check_filter(row);
}

/* ---- all of them ---- */

struct xdp_arg {
	uint32_t ifindex;
	int fd;
};

static int attach_in_ns(void *context)
{
	const struct xdp_arg *arg = context;

	return bpf_xdp_attach((int)arg->ifindex, (uint32_t)arg->fd, XDP_FLAGS_DRV_MODE, NULL);
}

/* In the place of what may be there. */
static void attach(const struct netns *ns, uint32_t ifindex, int program)
{
	struct xdp_arg arg = { ifindex, program };
	const int err = netns_call(ns, attach_in_ns, &arg);

	REQUIRE(!err, "attaching: %s", strerror(-err));
}

static int open_dev(const struct netns *ns)
{
	int fd;

	netns_enter(ns);
	fd = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
	netns_enter(NULL);
	REQUIRE(fd >= 0, "%s", strerror(errno));
	return fd;
}

long row_received(const struct row *row, bool server)
{
	char text[2048], *at;
	ssize_t length = pread(server ? row->server_dev : row->client_dev, text, sizeof(text) - 1, 0);
	long packets = -1;

	if (length > 0) {
		text[length] = '\0';
		at = strstr(text, server ? SERVER_IF ":" : CLIENT_IF ":");
		if (at)
			sscanf(strchr(at, ':') + 1, "%*d %ld", &packets);
	}
	REQUIRE(packets >= 0, "no such device in /proc/net/dev");
	return packets;
}

static int udp_socket(const struct netns *ns)
{
	struct sockaddr_storage storage;
	const socklen_t length = tcp_address(&storage, SERVER_IP4, BENCH_UDP);
	int fd;

	netns_enter(ns);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	netns_enter(NULL);
	REQUIRE(fd >= 0 && !bind(fd, (void *)&storage, length), "%s", strerror(errno));
	return fd;
}

/*
 * man 8 nft, "synproxy statement": SYNs bypass conntrack, and come back as connections. Without timestamps,
 * which is a little less work: with them, a listener of the same host takes synproxy's final ACK for a
 * stranger's (Linux 6.18, TcpExtTSEcrRejected), and every connection waits a second for its SYN-ACK to be
 * sent again.
 */
static void make_synproxy(const struct netns *ns)
{
#define PORTS "{ %d, %d }"
	netns_sysctl(ns, "net.netfilter.nf_conntrack_tcp_loose", "0");
	netns_must(ns,
		   "nft 'table inet bench {"
		   " chain raw { type filter hook prerouting priority raw; policy accept;"
		   " iifname " SERVER_IF " tcp dport " PORTS " tcp flags syn notrack; };"
		   " chain in { type filter hook input priority filter; policy accept;"
		   " iifname " SERVER_IF " tcp dport " PORTS
		   " ct state invalid,untracked synproxy mss 1460 sack-perm;"
		   " iifname " SERVER_IF " tcp dport " PORTS " ct state invalid drop; }; }'",
		   BENCH_PORT, BENCH_PORT_CLOSES, BENCH_PORT, BENCH_PORT_CLOSES, BENCH_PORT,
		   BENCH_PORT_CLOSES);
#undef PORTS
}

void row_make(struct row *row, const struct generator *generator, const char *sink)
{
	static const char *const programs[] = {
		[ANSWERER_DROP] = "drop",     [ANSWERER_MIRROR] = "mirror", [ANSWERER_HASH] = "hash",
		[ANSWERER_STACK] = "pass",    [ANSWERER_OURS] = NULL,	    [ANSWERER_COOKIES] = "pass",
		[ANSWERER_SYNPROXY] = "pass",
	};
	const struct pair_spec spec = { .veth.queues = row->queues };
	const struct netns *server;
	char number[16];

	row->product = product_new(&spec, NULL);
	server = row->product.pair.server;
	row->client_ifindex = (uint32_t)netns_ifindex(row->product.pair.client, CLIENT_IF);
	row->server_ifindex = (uint32_t)netns_ifindex(server, SERVER_IF);
	row->client_dev = open_dev(row->product.pair.client);
	row->server_dev = open_dev(server);
	snprintf(number, sizeof(number), "%d", BENCH_BACKLOG);
	netns_sysctl(server, "net.core.somaxconn", number);
	netns_sysctl(server, "net.ipv4.tcp_max_syn_backlog", number);
	netns_must(server, "ip route add " BENCH_NET4 "/12 via " CLIENT_IP4 " && ip route add " BENCH_NET6
			   "/64 via " CLIENT_IP6 " && ip addr add " BENCH_VLAN_IP4 "/24 dev " SERVER_IF);
	row->listener = tcp_listen(server, NULL, BENCH_PORT, BENCH_BACKLOG);
	row->udp = udp_socket(server);
	if (row->answerer == ANSWERER_OURS) {
		make_ours(row);
	} else {
		row->program = generator_program(generator, programs[row->answerer]);
		attach(server, row->server_ifindex, row->program);
	}
	/*
	 * As on any server; and nftables' synproxy takes the checksum of an IPv6 SYN for wrong where nobody
	 * has looked at it before.
	 */
	netns_must(server, "ethtool -K " SERVER_IF " gro on");
	if (row->answerer == ANSWERER_COOKIES)
		netns_sysctl(server, "net.ipv4.tcp_syncookies", "2");
	if (row->answerer == ANSWERER_SYNPROXY)
		make_synproxy(server);
	tcp_accept_all(row->listener);
	attach(row->product.pair.client, row->client_ifindex, generator_program(generator, sink));
}

long row_drain(const struct row *row)
{
	const struct linger reset = { .l_onoff = 1 };
	long drained = 0;
	int fd;

	while ((fd = accept4(row->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		drained++;
	}
	return drained;
}

struct run_time row_run_time(const struct row *row)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	REQUIRE(!bpf_obj_get_info_by_fd(row->program, &info, &length));
	return (struct run_time){ (double)info.run_time_ns, (double)info.run_cnt };
}

bool row_accounted(const struct row *row, struct generator *generator, struct run_time before)
{
	bool was = false;

	for (;;) {
		const struct run_time now = row_run_time(row);

		if (now.runs == before.runs)
			return was;
		if (!was)
			printf("# the kernel accounts for programs' run time, for somebody else: "
			       "waiting\n");
		was = true;
		before = now;
		usleep(500000);
		netns_enter(row->product.pair.client);
		generator_run(generator, row->client_ifindex, 64);
		netns_enter(NULL);
	}
}

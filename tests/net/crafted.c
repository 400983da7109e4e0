// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Floods of crafted SYNs: of whatever makes us pass a SYN to the stack. What the stack gets to see of them
 * stays within the budget for passing, whoever behaves connects all along, no admission ends, and nothing
 * is learned that is not so.
 *
 * What has reached the stack the server's own netfilter counts, not we. There is a row for each reason to
 * pass (counters.def), but for those that no SYN brings about:
 *
 * - not_learned has no budget: what the stack has not been seen to answer is not ours. Rows show that tags
 *   are no way round a service that is learned.
 * - other_mac has none: the stack drops such a frame at first sight, as a row shows, or it is for somebody
 *   behind us, whose frames are none of our business.
 * - refused has none: the service is the stack's alone. Only what is promoted can bring that about.
 * - canary is one a second of each service by itself.
 * - no_key, draining, shadow are the administrator's doing, and shadow drops nothing (prog/table).
 * - no_room: no frame of veth's is without room (prog/table).
 *
 * That listeners with DCTCP see their SYNs net/listeners shows; the budget is that of all kinds of
 * listener.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi.h"
#include "product.h"

enum {
	STEADY = 8080, /* a port that is not flooded */
	FIRST = 8081,
	LAST = 8179,
	ETH = 14,
	FRAME = 512,
	TEMPLATES = 24,
	TICK_US = 500,
	AT_ONCE = 64,	     /* frames in a tick at most: the device has room for 256 */
	SECOND_MS = 1024,    /* of the budgets */
	PASS_BUDGET = 4096,  /* what attach sets; */
	SMALL_BUDGET = 1024, /* with less, a flood that spends it several times over is shorter */
	PLENTY = 1 << 30,
	FACTOR = 3, /* so many times what may pass is sent */
	RATE = 40000,
	FLOOD_MS_MAX = 20000,
	CONNECT_MS = 1000,    /* a client whose first SYN is lost takes longer, */
	SECOND_SYN_MS = 2500, /* and one whose second is lost longer than this */
	GIVE_UP_MS = 3500,
};

static const char *address_of(int family)
{
	return family == 4 ? SERVER_IP4 : SERVER_IP6;
}

/* ---- frames ---- */

/* A SYN, of which each frame sent has another source and ISN. */
struct template
{
	uint8_t bytes[FRAME];
	size_t length;
	size_t ip;
	size_t tcp;
	bool ipv6;
	bool same;	     /* all frames are this very one */
	uint16_t first;	     /* the source's last 16 bits (IPv4: 8) are at least this, */
	uint16_t span;	     /* and by less than that more; 0: they are as they are */
	bool every_mss;	     /* the MSS, its first option, is any number */
	uint16_t fragment;   /* in two fragments, the first with so many bytes of TCP; 0: whole */
	size_t fragment_pad; /* bytes behind the first one, as Ethernet pads short frames */
};

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static size_t insert(uint8_t *frame, size_t length, size_t at, const void *bytes, size_t size)
{
	REQUIRE(length + size <= FRAME);
	memmove(frame + at + size, frame + at, length - at);
	memcpy(frame + at, bytes, size);
	return length + size;
}

/* A word becomes another one, and with it the checksums at these places, 0: none (RFC 1624). */
static void change16(uint8_t *frame, size_t at, uint16_t value, size_t sum1, size_t sum2)
{
	const uint32_t difference = (uint32_t)(uint16_t)~get16(frame + at) + value;
	const size_t sums[] = { sum1, sum2 };

	put16(frame + at, value);
	for (int i = 0; i < 2; i++) {
		uint32_t sum = (uint16_t)~get16(frame + sums[i]) + difference;

		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		if (sums[i])
			put16(frame + sums[i], ~sum & 0xffff);
	}
}

/* SplitMix64: the same flood each time. */
static uint64_t any(void)
{
	static uint64_t state = 4711;
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The next of a template's frames. Wrong checksums stay wrong. */
static void vary(const struct template *template, uint8_t *frame)
{
	const size_t tcp = template->tcp, ip = template->ip, sum = tcp + 16;
	const size_t ip_sum = template->ipv6 ? 0 : ip + 10, source = ip + (template->ipv6 ? 22 : 14);
	const uint64_t a = any(), b = any();

	memcpy(frame, template->bytes, template->length);
	if (template->same)
		return;
	if (template->span)
		change16(frame, source,
			 (uint16_t)((get16(frame + source) & (template->ipv6 ? 0 : 0xff00)) +
				    template->first + (a >> 48) % template->span),
			 sum, ip_sum);
	change16(frame, tcp, (uint16_t)(1024 + (a & 0xffff) % 64000), sum, 0);
	change16(frame, tcp + 4, (uint16_t)b, sum, 0);
	change16(frame, tcp + 6, (uint16_t)(b >> 16), sum, 0);
	if (template->every_mss)
		change16(frame, tcp + 22, (uint16_t)(b >> 32), sum, 0);
	if (!template->ipv6)
		change16(frame, ip + 4, (uint16_t)(b >> 48), ip_sum, 0);
}

static void send_frame(int fd, const uint8_t *frame, size_t length)
{
	while (send(fd, frame, length, 0) < 0)
		REQUIRE(errno == ENOBUFS || errno == EAGAIN, "%s", strerror(errno));
}

/* Both halves are sent, so that the stack has all of the SYN. */
static void send_fragments(int fd, const struct template *template, const uint8_t *frame)
{
	const size_t ip = template->ip, tcp = template->tcp, cut = tcp + template->fragment;

	for (int i = 0; i < 2; i++) {
		const size_t begin = i ? cut : tcp, size = (i ? template->length : cut) - begin;
		uint8_t half[FRAME] = {}, header[8] = { IPPROTO_TCP };
		size_t length = tcp + size;

		memcpy(half, frame, tcp);
		memcpy(half + tcp, frame + begin, size);
		if (template->ipv6) {
			put16(header + 2, i ? template->fragment : 1);
			memcpy(header + 4, frame + tcp + 4, 4); /* an id that no other SYN has */
			length = insert(half, length, tcp, header, sizeof(header));
			half[ip + 6] = IPPROTO_FRAGMENT;
			put16(half + ip + 4, length - ip - 40);
		} else {
			change16(half, ip + 2, (uint16_t)(length - ip), ip + 10, 0);
			change16(half, ip + 6, i ? template->fragment / 8 : 0x2000, ip + 10, 0);
		}
		send_frame(fd, half, length + (i ? 0 : template->fragment_pad));
	}
}

/* ---- the flood ---- */

struct progress {
	long sent;
	int64_t began;
	int64_t ended; /* 0: it goes on */
};

struct flood {
	struct template templates[TEMPLATES]; /* sent by turns */
	int count;
	int rate;
	int ms;	    /* at least, */
	int budget; /* and until FACTOR times what that lets pass has been sent; 0: no longer */
	int ifindex;
	struct progress *progress; /* shared with the child that sends */
};

/* What a CPU's budget lets pass in so long a time, whenever in its second that begins. */
static long may_pass(long budget, int64_t ms)
{
	return budget * (ms / SECOND_MS + 2);
}

static bool flood_over(const struct flood *flood)
{
	const int64_t ms = now_ms() - flood->progress->began;

	if (ms < flood->ms || ms >= FLOOD_MS_MAX)
		return ms >= FLOOD_MS_MAX;
	return !flood->budget || flood->progress->sent >= FACTOR * may_pass(flood->budget, ms);
}

/* In a child. */
static int flood_run(void *context)
{
	const struct flood *flood = context;
	struct progress *progress = flood->progress;
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = flood->ifindex };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), next = 0;
	static uint8_t frame[FRAME];

	REQUIRE(fd >= 0 && !bind(fd, (struct sockaddr *)&to, sizeof(to)), "%s", strerror(errno));
	progress->began = now_ms();
	while (!flood_over(flood)) {
		const int64_t tick = (now_us() / TICK_US + 1) * TICK_US;
		const struct timespec until = { tick / 1000000, tick % 1000000 * 1000 };
		long due = (long)((now_ms() - progress->began) * flood->rate / 1000) - progress->sent;

		/* What is late is not made up for all at once. */
		for (due = due > AT_ONCE ? AT_ONCE : due; due > 0; due--) {
			const struct template *template = &flood->templates[next++ % flood->count];

			vary(template, frame);
			if (template->fragment)
				send_fragments(fd, template, frame);
			else
				send_frame(fd, frame, template->length);
			progress->sent++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
	progress->ended = now_ms();
	return 0;
}

static pid_t flood_start(struct flood *flood, const struct netns *ns)
{
	flood->ifindex = netns_ifindex(ns, CLIENT_IF);
	memset(flood->progress, 0, sizeof(*flood->progress));
	return netns_fork(ns, flood_run, flood);
}

/* Yields how long it took. */
static int64_t flood_end(const struct flood *flood, pid_t pid)
{
	EXPECT_EQ(netns_stop(pid, 0, 2 * FLOOD_MS_MAX), 0);
	return flood->progress->ended - flood->progress->began;
}

/* One more template. @first, @span: of its sources. */
static struct template *flood_add(struct flood *flood, const struct tcp_spec *syn, uint16_t first,
				  uint16_t span)
{
	struct template *template = &flood->templates[flood->count++];

	REQUIRE(flood->count <= TEMPLATES);
	memset(template, 0, sizeof(*template));
	template->length = frame_build(syn, template->bytes, FRAME);
	template->ipv6 = syn->saddr.family == AF_INET6;
	template->ip = ETH;
	template->tcp = ETH + (template->ipv6 ? 40 : 20) + syn->ip_options_len;
	template->first = first;
	template->span = span;
	return template;
}

/* ---- the product, and who looks on ---- */

struct bench {
	struct product product;
	struct flood flood;
	int counters; /* the pinned maps */
	int settings;
	int steady; /* its listener */
	/*
	 * Budgets are a CPU's own. What is sent is received on the same CPU, so everything is done on one;
	 * and on another the next time, whose budget is not spent.
	 */
	int cpus[2];
	int64_t spent[2]; /* the second in which it was */
	int turns;
	/* What clients have seen. */
	int connections;
	int slow; /* longer than CONNECT_MS */
	int64_t slowest;
};

/* From the map itself: there is no time for a command. */
static struct counters counters_now(const struct bench *bench)
{
	static struct counters of_cpu[1024];
	const __u32 zero = 0;
	struct counters sum = {};

	REQUIRE(libbpf_num_possible_cpus() <= 1024 && !bpf_map_lookup_elem(bench->counters, &zero, of_cpu));
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		for (size_t i = 0; i < sizeof(sum) / sizeof(__u64); i++)
			((__u64 *)&sum)[i] += ((__u64 *)&of_cpu[cpu])[i];
	return sum;
}

static void budgets(const struct bench *bench, __u32 budget)
{
	const __u32 zero = 0;
	struct settings set;

	REQUIRE(!bpf_map_lookup_elem(bench->settings, &zero, &set));
	set.pass_budget = set.held_budget = budget;
	REQUIRE(!bpf_map_update_elem(bench->settings, &zero, &set, BPF_ANY));
}

static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	REQUIRE(!sched_setaffinity(0, sizeof(one), &one), "CPU %d: %s", cpu, strerror(errno));
}

static void take_turn(struct bench *bench, __u32 budget)
{
	const int turn = ++bench->turns & 1;

	stay_on(bench->cpus[turn]);
	/* The programs go by a clock that may be a tick behind. */
	REQUIRE(WAIT_FOR((now_ms() - 10) / SECOND_MS > bench->spent[turn], 2000));
	budgets(bench, budget);
}

static void end_turn(struct bench *bench)
{
	bench->spent[bench->turns & 1] = now_ms() / SECOND_MS;
	budgets(bench, PLENTY);
}

/*
 * What the stack sees: SYNs that came in, before it looks whether they are its own, and behind that, where
 * fragments have been put together. Frames for another MAC, or with a tag of a VLAN that there is not, are
 * gone by then.
 */
#define SEEN(chain)                                                                                        \
	"add counter inet seen " chain "; add chain inet seen " chain " { type filter hook " chain         \
	" priority -300; }; add rule inet seen " chain " tcp dport %d-%d"                                  \
	" tcp flags & (fin | syn | rst | ack) == syn counter name " chain "; "

static void watch(const struct bench *bench, int first, int last)
{
	netns_must(bench->product.pair.server,
		   "nft 'add table inet seen; " SEEN("prerouting") SEEN("input") "'", first, last, first,
		   last);
}

struct seen {
	long at[2];
};

static struct seen seen_now(const struct bench *bench)
{
	const char *said = netns_output(bench->product.pair.server,
					"nft list counters table inet seen | awk '/packets/ { print $2 }'");
	struct seen seen = {};

	REQUIRE(said && sscanf(said, "%ld %ld", &seen.at[0], &seen.at[1]) == 2, "%s", netns_said());
	return seen;
}

static long seen_since(const struct bench *bench, const struct seen *before)
{
	const struct seen now = seen_now(bench);
	const long a = now.at[0] - before->at[0], b = now.at[1] - before->at[1];

	return a > b ? a : b;
}

/* What `listeners` shows of a service. */
struct learned {
	bool admitted, sack, timestamps;
	json_int_t mss, wscale, window, ttl, tos;
};

static struct learned learned_in(const json_t *rows, const char *address, int port)
{
	struct learned learned = {};
	const json_t *row;
	char local[64];
	size_t i;

	snprintf(local, sizeof(local), strchr(address, ':') ? "[%s]:%d" : "%s:%d", address, port);
	json_array_foreach (rows, i, row) {
		if (strcmp(json_string_value(json_object_get(row, "local")) ?: "", local))
			continue;
		learned.admitted = json_is_true(json_object_get(row, "admitted"));
		learned.sack = json_is_true(json_object_get(row, "sack"));
		learned.timestamps = json_is_true(json_object_get(row, "timestamps"));
		learned.mss = json_integer_value(json_object_get(row, "mss"));
		learned.wscale = json_integer_value(json_object_get(row, "rcv_wscale"));
		learned.window = json_integer_value(json_object_get(row, "window"));
		learned.ttl = json_integer_value(json_object_get(row, "ttl"));
		learned.tos = json_integer_value(json_object_get(row, "tos"));
	}
	return learned;
}

static struct learned learned_of(const struct bench *bench, const char *address, int port)
{
	json_t *rows = product_json(&bench->product, "listeners");
	struct learned learned = learned_in(rows, address, port);

	json_decref(rows);
	return learned;
}

static void expect_same(const struct learned *now, const struct learned *before, const char *name)
{
	EXPECT_EQ(now->mss, before->mss, "%s", name);
	EXPECT_EQ(now->wscale, before->wscale, "%s", name);
	EXPECT_EQ(now->window, before->window, "%s", name);
	EXPECT_EQ(now->ttl, before->ttl, "%s", name);
	EXPECT_EQ(now->tos, before->tos, "%s", name);
	EXPECT(now->sack == before->sack && now->timestamps == before->timestamps, "%s", name);
}

/* A client that behaves: connects, and is heard. */
static void talk(struct bench *bench, const char *address, int port, int listener, const char *during)
{
	const int64_t began = now_ms();
	int client = tcp_connect(bench->product.pair.client, address, port, GIVE_UP_MS), server;
	const int64_t took = now_ms() - began;
	char byte;

	bench->connections++;
	bench->slow += took > CONNECT_MS;
	if (took > bench->slowest)
		bench->slowest = took;
	if (!EXPECT(client >= 0, "%s: a client of port %d: %s", during, port, strerror(errno)))
		return;
	server = tcp_accept(listener, 1000);
	EXPECT(server >= 0 && write(client, "x", 1) == 1 && tcp_read(server, &byte, 1, 1000) == 1,
	       "%s: a client of port %d connects, and is not heard", during, port);
	close(client);
	close(server);
}

/* Connects until the driver answers. */
static void admit(struct bench *bench, const char *address, int port, int listener)
{
	const __u64 answered = counters_now(bench).syn_answered;

	for (int i = 0; i < 10 && counters_now(bench).syn_answered == answered; i++)
		talk(bench, address, port, listener, "before the flood");
	REQUIRE(counters_now(bench).syn_answered > answered, "port %d is not admitted", port);
}

/* Frames of the client's that found no room in the device: no fault of the server's. */
static long lost_on_the_wire(const struct bench *bench)
{
	char line[256];
	long lost = -1;
	FILE *file;

	netns_enter(bench->product.pair.client);
	file = fopen("/proc/thread-self/net/dev", "r");
	netns_enter(NULL);
	/* Eight numbers of what was received; then bytes, packets, errors and drops of what was sent. */
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, " " CLIENT_IF ": %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld", &lost);
	if (file)
		fclose(file);
	REQUIRE(lost >= 0);
	return lost;
}

static void bench_new(struct bench *bench)
{
	const struct netns *server;
	cpu_set_t cpus;
	int found = 0;

	memset(bench, 0, sizeof(*bench));
	REQUIRE(!sched_getaffinity(getppid(), sizeof(cpus), &cpus));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus))
			bench->cpus[found++ & 1] = cpu;
	if (found == 1)
		bench->cpus[1] = bench->cpus[0];
	bench->product = product_new(NULL, "--port 8080-8179");
	server = bench->product.pair.server;
	bench->counters = product_pin(&bench->product, "counters");
	bench->settings = product_pin(&bench->product, "settings");
	bench->flood.rate = RATE;
	bench->flood.progress = mmap(NULL, sizeof(struct progress), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(bench->flood.progress != MAP_FAILED);
	netns_sysctl(server, "net.core.somaxconn", "8192");
	budgets(bench, PLENTY);
	bench->steady = tcp_listen(server, NULL, STEADY, 512);
	for (int family = 4; family <= 6; family += 2)
		admit(bench, address_of(family), STEADY, bench->steady);
}

static void bench_end(struct bench *bench)
{
	munmap(bench->flood.progress, sizeof(struct progress));
	close(bench->counters);
	close(bench->settings);
	close(bench->steady);
}

/* ---- one flood for each reason to pass ---- */

enum kind {
	PLAIN,
	FAST_OPEN,
	SPEAKS_FIRST,
	SAVE_SYN,
	DEFER_ACCEPT,
	SIGNED,
	MULTIPATH,
};

enum above {
	DROPPED,  /* above the budget: the stack alone could answer */
	ANSWERED, /* with what can be carried, or is known */
	NOT_SEEN, /* no budget: the stack drops it at first sight */
};

enum source {
	REACHED,   /* answers leave, to nobody */
	SILENT,	   /* on the link, and nobody says where: no answer leaves */
	AS_IT_IS,  /* the template's, but for port and ISN */
	ONE_TUPLE, /* over and over */
};

struct row {
	const char *name;
	size_t reason; /* the counter that rises */
	int family;
	enum above above;
	void (*spec)(struct tcp_spec *syn);
	void (*patch)(struct template *template);
	void (*begin)(struct bench *bench, const struct row *row, int port, int *listener);
	void (*end)(struct bench *bench);
	enum source source;
	enum kind kind; /* of listener */
	bool unserved;	/* no client connects to the flooded port: it is none that we answer for, */
	bool nobody;	/* nor to any other */
	int budget;	/* 0: SMALL_BUDGET */
	int tolerated;	/* so many more may pass */
};

#define SPEC(name, ...)                                                                                    \
	static void name(struct tcp_spec *syn)                                                             \
	{                                                                                                  \
		__VA_ARGS__;                                                                               \
	}
#define PATCH(name, ...)                                                                                   \
	static void name(struct template *template)                                                        \
	{                                                                                                  \
		__VA_ARGS__;                                                                               \
	}

/* clang-format off */
SPEC(ip_options, memset(syn->ip_options, 1, 4); syn->ip_options_len = 4)
SPEC(destination_options, memcpy(syn->ip_options, "\0\0\x01\x04\0\0\0\0", 8); syn->ip_options_len = 8;
     syn->ip_options_type = IPPROTO_DSTOPTS)
SPEC(other_mac, memcpy(syn->dst_mac, "\x02\x77\0\0\0\x09", 6))
SPEC(from_loopback, syn->saddr = ip("127.0.0.1"))
SPEC(from_ourselves, syn->saddr = syn->daddr)
SPEC(no_length, syn->options = options_text("mss 1460, sack, ts 1 0, raw 0500"))
SPEC(data, syn->payload = "GET"; syn->payload_len = 3)
SPEC(wrong_checksum, syn->tcp_checksum_xor = 0x0100)
SPEC(accurate_ecn, syn->flags |= AE | CWR | ECE)
SPEC(md5, syn->options = options_text("mss 1460, nop, nop, raw 131200112233445566778899aabbccddeeff"))
SPEC(small_mss, syn->options = options_linux(syn->saddr.family == AF_INET ? 535 : 1219, 7, 7))
SPEC(windows, syn->options = options_windows(1460, 8))
SPEC(windows_scale_3, syn->options = options_windows(1460, 3))
SPEC(ecn, syn->flags |= ECE | CWR)
SPEC(fast_open, syn->options = options_text("mss 1460, sack, ts 5 0, nop, ws 7, fastopen"))

PATCH(fragments, template->fragment = 24)
PATCH(fragments_of_8, template->fragment = 8)
PATCH(fragments_of_16, template->fragment = 16)
PATCH(fragments_of_8_padded, template->fragment = 8; template->fragment_pad = 18)
/* clang-format on */

static void tag(struct template *template, const char tag[4])
{
	template->length = insert(template->bytes, template->length, 12, tag, 4);
	template->ip += 4;
	template->tcp += 4;
}

static void foreign_vlan(struct template *template)
{
	tag(template, "\x81\0\0\x09");
}

static void priority_tag(struct template *template)
{
	tag(template, "\x81\0\xe0\0");
}

static void priority_tags(struct template *template)
{
	for (int i = 0; i < 9; i++)
		tag(template, i & 1 ? "\x81\0\x20\0" : "\x88\xa8\0\0");
}

static void many_headers(struct template *template)
{
	static const uint8_t header[8] = { IPPROTO_DSTOPTS, 0, 1, 4 };
	uint8_t *ip = template->bytes + template->ip;

	for (int i = 0; i < 40; i++) {
		template->length = insert(template->bytes, template->length, template->tcp, header, 8);
		template->tcp += sizeof(header);
	}
	ip[6] = IPPROTO_DSTOPTS;
	template->bytes[template->tcp - sizeof(header)] = IPPROTO_TCP;
	put16(ip + 4, template->length - template->ip - 40);
}

/* As of a jumbogram, but without its option: the stack then goes by the frame's own length. */
static void no_length_at_all(struct template *template)
{
	static const uint8_t header[8] = { IPPROTO_TCP, 0, 1, 4 };
	uint8_t *ip = template->bytes + template->ip;

	template->length = insert(template->bytes, template->length, template->tcp, header, 8);
	template->tcp += sizeof(header);
	ip[6] = IPPROTO_HOPOPTS;
	put16(ip + 4, 0);
}

static void set_int(int fd, int level, int name, int value)
{
	REQUIRE(!setsockopt(fd, level, name, &value, sizeof(value)), "%s", strerror(errno));
}

static int multipath_listener(const struct netns *ns, int port)
{
	struct sockaddr_storage storage;
	socklen_t length = tcp_address(&storage, NULL, port);
	int fd;

	netns_enter(ns);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 262 /* IPPROTO_MPTCP */);
	netns_enter(NULL);
	REQUIRE(fd >= 0 && !bind(fd, (void *)&storage, length) && !listen(fd, 512), "%s", strerror(errno));
	return fd;
}

static int listener_of(const struct bench *bench, enum kind kind, int port)
{
	const struct netns *server = bench->product.pair.server;
	struct tcp_md5sig key = { .tcpm_keylen = 6, .tcpm_key = "secret" };
	int fd = kind == MULTIPATH ? multipath_listener(server, port)
				   : tcp_listen(server, NULL, port, kind == SPEAKS_FIRST ? 8192 : 512);

	if (kind == FAST_OPEN)
		set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, 16);
	if (kind == SAVE_SYN)
		set_int(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
	if (kind == DEFER_ACCEPT)
		set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
	if (kind == SIGNED) {
		tcp_address(&key.tcpm_addr, "fd77::99", 0); /* nobody's */
		REQUIRE(!setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key)), "%s", strerror(errno));
	}
	return fd;
}

static void close_listener(struct bench *bench, const struct row *row, int port, int *listener)
{
	(void)row;
	close(*listener);
	*listener = -1;
	REQUIRE(WAIT_FOR(!netns_listens(bench->product.pair.server, port), 1000));
}

static void change_listener(struct bench *bench, const struct row *row, int port, int *listener)
{
	(void)bench, (void)row, (void)port;
	set_int(*listener, SOL_SOCKET, SO_RCVBUF, 20000);
}

static void cookies_off(struct bench *bench, const struct row *row, int port, int *listener)
{
	(void)row, (void)port, (void)listener;
	netns_sysctl(bench->product.pair.server, "net.ipv4.tcp_syncookies", "0");
}

static void cookies_on(struct bench *bench)
{
	netns_sysctl(bench->product.pair.server, "net.ipv4.tcp_syncookies", "1");
}

static void policy_flood(struct bench *bench, const struct row *row, int port, int *listener)
{
	char command[80];

	(void)row, (void)listener;
	snprintf(command, sizeof(command), "set " SERVER_IP4 ":%d policy=flood", port);
	product_must(&bench->product, command);
}

static void write_forging(const struct bench *bench, uint64_t until_ms)
{
	const struct forging forging = { .since_ms = 1, .until_ms = until_ms };
	const __u32 zero = 0;
	const int fd = product_pin(&bench->product, "forgings");

	REQUIRE(!bpf_map_update_elem(fd, &zero, &forging, BPF_ANY), "%s", strerror(errno));
	close(fd);
}

/* As if somebody tried cookies without timestamps: SYNs without them are the stack's then. */
static void forge(struct bench *bench, const struct row *row, int port, int *listener)
{
	(void)row, (void)port, (void)listener;
	write_forging(bench, (uint64_t)now_ms() + 60000);
}

static void forge_no_more(struct bench *bench)
{
	write_forging(bench, 0);
}

/* The flood's one tuple is in SYN-RECEIVED: its first SYN had data, which is the stack's to answer. */
static void hold(struct bench *bench, const struct row *row, int port, int *listener)
{
	struct wire *wire = wire_open(bench->product.pair.client, CLIENT_IF);
	struct hand hand = hand_new(wire, 1, 1234, address_of(row->family), (uint16_t)port, true);

	(void)listener;
	hand.spec.payload = "x";
	hand.spec.payload_len = 1;
	REQUIRE(hand_syn(&hand));
	wire_close(wire);
}

/* Connections whose first word is the server's. One of them may be a canary, which shows nothing of that.
 */
static void speak_first(struct bench *bench, const struct row *row, int port, int *listener)
{
	for (int i = 0; i < 2; i++) {
		int client = tcp_connect(bench->product.pair.client, address_of(row->family), port,
					 GIVE_UP_MS);
		int server = tcp_accept(*listener, 1000);
		char byte;

		REQUIRE(client >= 0 && server >= 0);
		REQUIRE(write(server, "x", 1) == 1 && tcp_read(client, &byte, 1, 1000) == 1);
		close(client);
		close(server);
	}
}

#define REASON(name) offsetof(struct counters, syn_passed_##name)

static const struct row rows[] = {
	/* This one for longer, and with the budget that attach has set. */
	{ "IP options, the whole budget", REASON(ip_options), 4, DROPPED, .spec = ip_options,
	  .budget = PASS_BUDGET },
	{ "a fragment", REASON(fragment), 4, DROPPED, .patch = fragments },
	{ "a fragment that ends before the control bits", REASON(fragment), 4, DROPPED,
	  .patch = fragments_of_8 },
	{ "a fragment that ends within the TCP header", REASON(fragment), 4, DROPPED,
	  .patch = fragments_of_16 },
	{ "a fragment that ends before the control bits, padded", REASON(fragment), 4, DROPPED,
	  .patch = fragments_of_8_padded },
	{ "a priority tag", REASON(priority_tag), 4, DROPPED, .patch = priority_tag },
	{ "nine priority tags", REASON(priority_tag), 4, DROPPED, .patch = priority_tags },
	{ "a VLAN of nobody's", REASON(not_learned), 4, NOT_SEEN, .patch = foreign_vlan },
	{ "another MAC", REASON(other_mac), 4, NOT_SEEN, .spec = other_mac },
	{ "from loopback", REASON(source), 4, DROPPED, .spec = from_loopback, .source = AS_IT_IS },
	{ "an option of no length", REASON(malformed), 4, DROPPED, .spec = no_length },
	{ "data", REASON(payload), 4, DROPPED, .spec = data },
	{ "a wrong checksum", REASON(checksum), 4, DROPPED, .spec = wrong_checksum },
	{ "AccECN", REASON(control_bits), 4, DROPPED, .spec = accurate_ecn },
	{ "TCP-MD5", REASON(signature), 4, DROPPED, .spec = md5 },
	{ "no timestamps, while cookies of that kind are tried", REASON(forging), 4, DROPPED,
	  .spec = windows, .begin = forge, .end = forge_no_more },
	{ "a small MSS", REASON(mss), 4, DROPPED, .spec = small_mss },
	{ "options that no cookie carries", REASON(option_uncarried), 4, ANSWERED,
	  .spec = windows_scale_3 },
	{ "an option that is never shown", REASON(option_unlearned), 4, ANSWERED, .spec = ecn,
	  .source = SILENT },
	{ "fast open", REASON(fast_open), 4, ANSWERED, .spec = fast_open, .kind = FAST_OPEN },
	{ "a server that speaks first", REASON(speaks_first), 4, ANSWERED, .begin = speak_first,
	  .kind = SPEAKS_FIRST, .budget = SMALL_BUDGET / 8 },
	{ "a listener with TCP_SAVE_SYN", REASON(listener_kind), 4, DROPPED, .kind = SAVE_SYN,
	  .unserved = true },
	{ "a listener with TCP_DEFER_ACCEPT", REASON(listener_kind), 4, DROPPED, .kind = DEFER_ACCEPT,
	  .unserved = true },
	{ "a listener with TCP-MD5", REASON(listener_kind), 4, DROPPED, .kind = SIGNED, .unserved = true },
	{ "a listener of MPTCP", REASON(listener_kind), 4, DROPPED, .kind = MULTIPATH, .unserved = true },
	{ "a service that waits for its canary", REASON(not_admitted), 4, DROPPED, .source = SILENT,
	  .unserved = true },
	{ "a listener whose options have changed", REASON(not_admitted), 4, ANSWERED,
	  .begin = change_listener, .source = SILENT, .unserved = true },
	{ "a port that is closed", REASON(listener_gone), 4, DROPPED, .begin = close_listener,
	  .unserved = true },
	/* As natively without cookies: clients are dropped with the others. */
	{ "no cookies allowed", REASON(syncookies_off), 4, DROPPED, .begin = cookies_off, .end = cookies_on,
	  .unserved = true, .nobody = true },
	{ "a tuple in SYN-RECEIVED", REASON(held), 4, DROPPED, .begin = hold, .source = ONE_TUPLE },
	/* Asleep it passes what comes in some milliseconds, which wakes it. */
	{ "IP options, policy flood", REASON(dormant), 4, DROPPED, .spec = ip_options,
	  .begin = policy_flood, .tolerated = 2000 },
	{ "a fragment", REASON(fragment), 6, DROPPED, .patch = fragments },
	{ "a fragment that ends before the control bits", REASON(fragment), 6, DROPPED,
	  .patch = fragments_of_8 },
	{ "an extension header", REASON(ip_options), 6, DROPPED, .spec = destination_options },
	{ "forty extension headers", REASON(ip_options), 6, DROPPED, .patch = many_headers },
	{ "hop-by-hop options and no length", REASON(ip_options), 6, DROPPED, .patch = no_length_at_all },
	{ "from our own address", REASON(source), 6, DROPPED, .spec = from_ourselves, .source = AS_IT_IS },
	{ "a small MSS", REASON(mss), 6, DROPPED, .spec = small_mss },
};

/* A flood of the row's SYNs alone. */
static void row_flood(struct flood *flood, const struct row *row, int port)
{
	const bool v4 = row->family == 4, silent = row->source == SILENT;
	struct tcp_spec syn = syn_spec(ip_n(v4 ? FAKE_IP4 : FAKE_IP6, 1), 1234, ip(address_of(row->family)),
				       (uint16_t)port);
	struct template *template;

	if (silent)
		syn.saddr = ip(v4 ? "10.77.0.0" : "fd77::");
	if (row->spec)
		row->spec(&syn);
	flood->count = 0;
	template = flood_add(flood, &syn, silent ? 100 : 1, silent ? 150 : 250);
	if (row->source == AS_IT_IS)
		template->span = 0;
	template->same = row->source == ONE_TUPLE;
	if (row->patch)
		row->patch(template);
}

static __u64 rise(const struct counters *from, const struct counters *to, size_t counter)
{
	return *(const __u64 *)((const char *)to + counter) -
	       *(const __u64 *)((const char *)from + counter);
}

static void run_row(struct bench *bench, const struct row *row, int port)
{
	const int budget = row->budget ?: SMALL_BUDGET,
		  smallest = budget < SMALL_BUDGET ? SMALL_BUDGET : budget;
	const char *address = address_of(row->family), *name = row->name;
	struct flood *flood = &bench->flood;
	int listener = listener_of(bench, row->kind, port), fd;
	struct learned before, after;
	long reached, limit, lost, sent;
	struct counters begin, end;
	struct seen seen;
	int64_t ms;
	pid_t pid;

	if (row->unserved && !row->begin) {
		fd = tcp_connect(bench->product.pair.client, address, port, GIVE_UP_MS);
		REQUIRE(fd >= 0, "%s: %s", name, strerror(errno));
		close(fd);
	} else {
		admit(bench, address, port, listener);
	}
	if (row->begin)
		row->begin(bench, row, port, &listener);
	row_flood(flood, row, port);
	flood->budget = budget;
	flood->ms = budget == PASS_BUDGET ? 1000 : 200;
	before = learned_of(bench, address, port);

	take_turn(bench, smallest);
	begin = counters_now(bench);
	lost = lost_on_the_wire(bench);
	seen = seen_now(bench);
	bench->slowest = bench->connections = bench->slow = 0;
	pid = flood_start(flood, bench->product.pair.client);
	while (!flood->progress->ended && !row->nobody) {
		talk(bench, address, STEADY, bench->steady, name);
		if (!row->unserved)
			talk(bench, address, port, listener, name);
		poll(NULL, 0, 5);
	}
	ms = flood_end(flood, pid);
	sent = flood->progress->sent;
	reached = seen_since(bench, &seen);
	end = counters_now(bench);
	end_turn(bench);

	/* Canaries of the two services, and the clients, whom one reason or another may have passed as
	 * well. */
	limit = row->above == NOT_SEEN ? 0 : may_pass(budget, ms) + row->tolerated;
	limit += bench->connections + 2 * (ms / 1000 + 2);
	printf("# IPv%d, %s: %ld of %ld reached the stack in %lld ms, %ld may; %d connections, the slowest "
	       "in "
	       "%lld ms\n",
	       row->family, name, reached, sent, (long long)ms, limit, bench->connections,
	       (long long)bench->slowest);
	EXPECT(ms < FLOOD_MS_MAX, "%s: this machine is too slow", name);
	EXPECT(reached <= limit, "%s: %ld of %ld reached the stack, %ld may", name, reached, sent, limit);
	EXPECT(bench->slow == 0 || lost_on_the_wire(bench) > lost, "%s: %d clients waited, up to %lld ms",
	       name, bench->slow, (long long)bench->slowest);
	/* That it was the flood which it is called, and went on above the budget. */
	EXPECT(rise(&begin, &end, row->reason) > (__u64)(row->above == NOT_SEEN ? sent * 9 / 10
							 : row->tolerated	? 0
										: budget / 2),
	       "%s: its counter has risen by %lld", name, rise(&begin, &end, row->reason));
	if (row->above == DROPPED)
		EXPECT(end.syn_dropped_over_budget - begin.syn_dropped_over_budget > (__u64)sent / FACTOR,
		       "%s", name);
	if (row->above == ANSWERED)
		EXPECT(end.syn_answered - begin.syn_answered > (__u64)sent / FACTOR, "%s", name);

	if (row->end)
		row->end(bench);
	if (!row->unserved) {
		talk(bench, address, port, listener, name);
		after = learned_of(bench, address, port);
		EXPECT(after.admitted, "%s: no longer admitted", name);
		expect_same(&after, &before, name);
	}
	talk(bench, address, STEADY, bench->steady, name);
	close(listener);
}

CASE("no crafted SYN gets through: a flood of each kind that is passed stays within the budget")
{
	struct bench bench;

	bench_new(&bench);
	watch(&bench, FIRST, LAST);
	netns_sysctl(bench.product.pair.server, "net.ipv4.tcp_fastopen", "3");
	/* What is left of SYNs whose first fragments were dropped leaves room for others. */
	netns_sysctl(bench.product.pair.server, "net.ipv4.ipfrag_high_thresh", "100000000");
	netns_sysctl(bench.product.pair.server, "net.ipv6.ip6frag_high_thresh", "100000000");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		run_row(&bench, &rows[i], FIRST + (int)i);
	bench_end(&bench);
}

/* ---- floods that are meant to end admissions, or to teach what is not so ---- */

struct siege {
	const char *name;
	int family;
	void (*add)(struct bench *bench, struct flood *flood, int port, int listener);
};

static void siege_add(struct flood *flood, const char *source, int port, uint16_t first, uint16_t span)
{
	struct tcp_spec syn = syn_spec(ip(source), 1234, ip(strchr(source, ':') ? SERVER_IP6 : SERVER_IP4),
				       (uint16_t)port);

	flood_add(flood, &syn, first, span)->same = !span;
}

/* On the link, and nobody says where: the stack asks in vain, and no SYN-ACK leaves. */
static void add_silent(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)bench, (void)listener;
	siege_add(flood, "10.77.0.0", port, 100, 150);
}

static void add_silent6(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)bench, (void)listener;
	/* Not more than the table of neighbours has room for: it is one for all namespaces. */
	siege_add(flood, "fd77::", port, 0x100, 200);
}

static void add_not_let_out(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)listener;
	netns_must(bench->product.pair.server,
		   "nft 'add table ip out; add chain ip out c { type filter hook output priority 0; }; "
		   "add rule ip out c tcp sport %d ip daddr " FAKE_NET4 " drop'",
		   port);
	siege_add(flood, FAKE_IP4 "0", port, 1, 250);
}

static void add_not_let_in(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)listener;
	netns_must(bench->product.pair.server,
		   "nft 'add table ip in; add chain ip in c { type filter hook input priority 0; }; "
		   "add rule ip in c tcp dport %d ip saddr " FAKE_NET4 " drop'",
		   port);
	siege_add(flood, FAKE_IP4 "0", port, 1, 250);
}

/* Neighbours' addresses: what they are answered goes to them, and not to where the SYN came from. */
static void add_by_another_way(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)listener;
	for (int i = 50; i < 60; i++) {
		char address[16];

		snprintf(address, sizeof(address), "10.77.0.%d", i);
		netns_neighbour(bench->product.pair.server, SERVER_IF, address, "02:77:00:00:00:50");
	}
	siege_add(flood, "10.77.0.0", port, 50, 10);
}

static void add_odd_options(struct bench *bench, struct flood *flood, int port, int listener)
{
	static const char *const options[] = {
		"mss 1460, sack, ts 1 0", /* no scale */
		"mss 1460, nop, nop, sack, nop, ws 7",
		"mss 1460, ts 1 0, nop, ws 14",
		"mss 1460, nop, ws 0",
		"mss 1460",
		"sack, ts 1 0, nop, ws 15",
		"mss 1, sack, ts 1 0, nop, ws 7",
		"mss 536, sack, ts 1 0, nop, ws 7",
		"mss 65535, sack, ts 4294967295 4294967295, nop, ws 1",
		"raw fd0645524143, mss 1460, raw 22020000",
	};
	struct tcp_spec syn = syn_spec(ip(FAKE_IP4 "0"), 1234, ip(SERVER_IP4), (uint16_t)port);

	(void)bench, (void)listener;
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
		syn.options = options_text(options[i]);
		flood_add(flood, &syn, 1, 250);
	}
	syn.options = options_none();
	flood_add(flood, &syn, 1, 250);
	syn.options = options_text("mss 1460, sack, ts 1 0, nop, ws 7");
	syn.zero_window = true;
	flood_add(flood, &syn, 1, 250)->every_mss = true;
}

static void add_ecn(struct bench *bench, struct flood *flood, int port, int listener)
{
	struct tcp_spec syn = syn_spec(ip(FAKE_IP4 "0"), 1234, ip(SERVER_IP4), (uint16_t)port);

	(void)bench, (void)listener;
	syn.flags |= ECE | CWR;
	syn.tos = 0xb8;
	syn.ttl = 1;
	flood_add(flood, &syn, 1, 250);
}

/* One tuple: the first of its SYNs to be a canary has the stack hold it, and the others are its copies. */
static void add_one_tuple(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)bench, (void)listener;
	siege_add(flood, FAKE_IP4 "253", port, 0, 0);
}

static void add_one_silent_tuple(struct bench *bench, struct flood *flood, int port, int listener)
{
	(void)bench, (void)listener;
	siege_add(flood, "10.77.0.99", port, 0, 0);
}

/*
 * The tuple of a connection that the server has closed: SYNs that are older than it, which the stack
 * refuses, so that it stays in TIME-WAIT; and of another one, SYNs that begin a new connection.
 */
static void add_time_wait(struct bench *bench, struct flood *flood, int port, int listener)
{
	struct wire *wire = wire_open(bench->product.pair.client, CLIENT_IF);

	for (int i = 0; i < 2; i++) {
		struct hand hand = hand_new(wire, 251 + i, 1234, SERVER_IP4, (uint16_t)port, true);
		struct tcp_spec syn = hand.spec;
		struct tcp_frame fin;
		char byte;
		int fd;

		REQUIRE(hand_syn(&hand));
		hand.spec = hand_data(&hand, 0, "x", 1);
		wire_send(wire, &hand.spec);
		fd = tcp_accept(listener, 1000);
		/* With data unread it would reset. */
		REQUIRE(fd >= 0 && tcp_read(fd, &byte, 1, 1000) == 1);
		close(fd);
		REQUIRE(wire_recv_flags(wire, &hand.spec, FIN, RST, 1000, &fin));
		hand.spec.flags = FIN | ACK;
		hand.spec.seq++;
		hand.spec.ack = fin.seq + 1;
		hand.spec.payload_len = 0;
		wire_send(wire, &hand.spec);
		syn.seq += i ? 1000000u : -1000000u;
		syn.options = options_linux(1460, i ? 2000000 : 1, 7);
		flood_add(flood, &syn, 0, 0)->same = true;
	}
	REQUIRE(WAIT_FOR(!netns_sh(bench->product.pair.server,
				   "test $(ss -Htan state time-wait sport = :%d | wc -l) = 2", port),
			 1000));
	wire_close(wire);
}

static const struct siege sieges[] = {
	{ "silent sources", 4, add_silent },
	{ "silent sources", 6, add_silent6 },
	{ "sources that no SYN-ACK is let out to", 4, add_not_let_out },
	{ "sources that are not let in", 4, add_not_let_in },
	{ "sources that are answered by another way", 4, add_by_another_way },
	{ "odd options", 4, add_odd_options },
	{ "ECN", 4, add_ecn },
	/* Held by the stack: another budget's. */
	{ "one tuple", 4, add_one_tuple },
	{ "one silent tuple", 4, add_one_silent_tuple },
	{ "tuples in TIME-WAIT", 4, add_time_wait },
};

enum {
	SIEGES = sizeof(sieges) / sizeof(*sieges),
	SIEGES_HELD = 3,
	SIEGE_MS = 4000, /* longer than a canary is waited for, and than two in a row */
};

/* The clients of each service, and what `listeners` shows meanwhile; counts when it is admitted. */
static void visit(struct bench *bench, const int listeners[SIEGES], const struct learned before[SIEGES],
		  int admitted[SIEGES])
{
	json_t *listed;

	for (int i = 0; i < SIEGES; i++)
		talk(bench, address_of(sieges[i].family), FIRST + i, listeners[i], sieges[i].name);
	listed = product_json(&bench->product, "listeners");
	for (int i = 0; i < SIEGES; i++) {
		const struct learned now = learned_in(listed, address_of(sieges[i].family), FIRST + i);

		admitted[i] += now.admitted;
		expect_same(&now, &before[i], sieges[i].name);
	}
	json_decref(listed);
}

static void besiege(struct bench *bench, const int listeners[SIEGES], const struct learned before[SIEGES],
		    int rate)
{
	struct flood *flood = &bench->flood;
	const struct counters counters = counters_now(bench);
	const struct seen seen = seen_now(bench);
	int visits = 0, admitted[SIEGES] = {};
	long limit, reached;
	int64_t ms;
	pid_t pid;

	flood->rate = rate;
	bench->slowest = bench->connections = bench->slow = 0;
	pid = flood_start(flood, bench->product.pair.client);
	for (; !flood->progress->ended; visits++)
		visit(bench, listeners, before, admitted);
	ms = flood_end(flood, pid);
	reached = seen_since(bench, &seen);
	limit = may_pass(SMALL_BUDGET, ms) + bench->connections + SIEGES * (ms / 1000 + 2);
	printf("# %ld of %ld reached the stack in %lld ms, %ld may; %lld answered; %d connections, the "
	       "slowest in "
	       "%lld ms\n",
	       reached, flood->progress->sent, (long long)ms, limit,
	       counters_now(bench).syn_answered - counters.syn_answered, bench->connections,
	       (long long)bench->slowest);
	EXPECT(bench->slowest < SECOND_SYN_MS, "a client waited for %lld ms", (long long)bench->slowest);
	EXPECT(reached <= limit, "%ld reached the stack, %ld may", reached, limit);
	for (int i = 0; i < SIEGES; i++)
		EXPECT(admitted[i] >= visits * 9 / 10, "IPv%d, %s: admitted in %d of %d looks",
		       sieges[i].family, sieges[i].name, admitted[i], visits);

	/* When it is over: at the latest when a canary is due again. */
	memset(admitted, 0, sizeof(admitted));
	visit(bench, listeners, before, admitted);
	poll(NULL, 0, 1100);
	memset(admitted, 0, sizeof(admitted));
	visit(bench, listeners, before, admitted);
	for (int i = 0; i < SIEGES; i++)
		EXPECT(admitted[i], "IPv%d, %s: no longer admitted", sieges[i].family, sieges[i].name);
	EXPECT(bench->slowest < SECOND_SYN_MS, "a client waited for %lld ms", (long long)bench->slowest);
}

CASE("no flood ends an admission, and none teaches what is not so: sources that cannot be answered, odd "
     "options, tuples that the stack holds")
{
	struct learned before[SIEGES];
	int listeners[SIEGES];
	struct bench bench;

	bench_new(&bench);
	bench.flood.ms = SIEGE_MS;
	for (int i = 0; i < SIEGES; i++) {
		const char *address = address_of(sieges[i].family);

		listeners[i] = tcp_listen(bench.product.pair.server, NULL, FIRST + i, 512);
		admit(&bench, address, FIRST + i, listeners[i]);
		sieges[i].add(&bench, &bench.flood, FIRST + i, listeners[i]);
		before[i] = learned_of(&bench, address, FIRST + i);
		REQUIRE(before[i].admitted, "%s", sieges[i].name);
	}
	watch(&bench, FIRST, FIRST + SIEGES - SIEGES_HELD - 1);
	take_turn(&bench, SMALL_BUDGET);
	/* Far above the budget, and far below it. */
	besiege(&bench, listeners, before, 20000);
	besiege(&bench, listeners, before, 400);
	for (int i = 0; i < SIEGES; i++)
		close(listeners[i]);
	bench_end(&bench);
}

CASE("clients whom the firewall rejects do not end an admission")
{
	struct product product = product_new(NULL, "--port 8080");
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	int listener = tcp_listen(product.pair.server, NULL, STEADY, 512);

	netns_must(product.pair.server,
		   "nft 'add table inet r; add chain inet r c { type filter hook input priority 0; }; "
		   "add rule inet r c ip saddr " FAKE_NET4 " reject with tcp reset; "
		   "add rule inet r c ip6 saddr " FAKE_NET6 " reject with tcp reset'");
	for (int family = 4; family <= 6; family += 2) {
		product_admit(&product, address_of(family), STEADY);
		for (int i = 1; i <= 6; i++) {
			struct hand hand = hand_new(wire, i, 1234, address_of(family), STEADY, true);
			struct tcp_frame reset;

			REQUIRE(hand_syn(&hand), "IPv%d: client %d is not answered", family, i);
			wire_send(wire, &hand.spec);
			EXPECT(wire_recv_flags(wire, &hand.spec, RST, 0, 1000, &reset),
			       "IPv%d: not rejected", family);
		}
	}
	EXPECT_EQ(counter(&product, "promote_reset"), 0);
	EXPECT_EQ(counter(&product, "syn_passed_refused"), 0);
	wire_close(wire);
	close(listener);
}

CASE("a stack that answers with cookies of its own, as under a flood, is learned from, and its canaries "
     "count")
{
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, STEADY, 512);

	netns_sysctl(server, "net.ipv4.tcp_syncookies", "2");
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	for (int family = 4; family <= 6; family += 2)
		product_admit(&product, address_of(family), STEADY);
	EXPECT_EQ(counter(&product, "service_learned"), 2);
	EXPECT_EQ(counter(&product, "canary_answered"), 2);
	close(listener);
}

CASE("what a canary shows is the answer to its own SYN, not to another source's with its port and number")
{
	struct product product = product_new(NULL, "--port 8080");
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	int listener = tcp_listen(product.pair.server, NULL, STEADY, 512);

	for (int family = 4; family <= 6; family += 2) {
		const bool v6 = family == 6;
		/* On the link, and nobody answers for it: its SYN-ACK never leaves. */
		struct tcp_spec silent = syn_spec(ip(v6 ? "fd77::99" : "10.77.0.99"), 5555,
						  ip(address_of(family)), STEADY);
		struct tcp_spec bare = syn_spec(ip(v6 ? FAKE_IP6 "98" : FAKE_IP4 "98"), 5555,
						ip(address_of(family)), STEADY);
		struct tcp_spec client = syn_spec(ip(v6 ? FAKE_IP6 "97" : FAKE_IP4 "97"), 5556,
						  ip(address_of(family)), STEADY);
		struct tcp_frame synack;

		product_admit(&product, address_of(family), STEADY);
		client.options = silent.options = options_linux(v6 ? 1440 : 1460, 7, 7);
		/* With data, it is the stack that answers. */
		bare.options = options_text(v6 ? "mss 1440" : "mss 1460");
		bare.payload = "x";
		bare.payload_len = 1;
		for (int i = 0; i < 300; i++) {
			bare.seq = silent.seq = 1000 + (uint32_t)i;
			wire_send(wire, &silent);
			wire_send(wire, &bare);
			poll(NULL, 0, 10);
		}
		wire_send(wire, &client);
		REQUIRE(wire_recv_flags(wire, &client, SYN | ACK, RST, 1000, &synack), "IPv%d: no answer",
			family);
		EXPECT(synack.wscale >= 0 && synack.sack_ok && synack.timestamps,
		       "IPv%d: a client's options are not granted any more", family);
	}
	wire_close(wire);
	close(listener);
}

/* ---- floods that are to keep others from being admitted ---- */

CASE("while a flood spends the budget, another service is learned and admitted at once, restarted as well")
{
	const struct row row = { .family = 4, .spec = ip_options };
	struct counters counters;
	struct bench bench;
	pid_t pid;

	bench_new(&bench);
	bench.flood.ms = 2500;
	row_flood(&bench.flood, &row, STEADY);
	take_turn(&bench, SMALL_BUDGET);
	counters = counters_now(&bench);
	bench.slowest = 0;
	pid = flood_start(&bench.flood, bench.product.pair.client);
	REQUIRE(WAIT_FOR(counters_now(&bench).syn_dropped_over_budget >
				 counters.syn_dropped_over_budget + 1000,
			 5000));
	for (int i = 0; i < 2; i++) {
		int listener = tcp_listen(bench.product.pair.server, NULL, FIRST, 512);

		/* To be learned, to be the canary; and the third one is answered. */
		for (int j = 0; j < 3; j++)
			talk(&bench, SERVER_IP4, FIRST, listener, "a new service");
		EXPECT(learned_of(&bench, SERVER_IP4, FIRST).admitted, "listener %d", i);
		close(listener);
		REQUIRE(WAIT_FOR(!netns_listens(bench.product.pair.server, FIRST), 1000));
	}
	EXPECT(bench.slowest < SECOND_SYN_MS, "a client waited for %lld ms", (long long)bench.slowest);
	flood_end(&bench.flood, pid);
	bench_end(&bench);
}

/*
 * Canaries are then the flood's. Of the clients some are within the budget: here one in five or so, so that
 * of fifty not one was is a matter of 0.8^50.
 */
CASE("a service that is flooded from silent sources since it began to listen is admitted all the same")
{
	const struct row row = { .family = 4, .source = SILENT };
	struct wire *wire;
	struct bench bench;
	int listener;
	pid_t pid;

	bench_new(&bench);
	listener = tcp_listen(bench.product.pair.server, NULL, FIRST, 512);
	bench.flood.ms = 2500;
	bench.flood.rate = SMALL_BUDGET * 5;
	row_flood(&bench.flood, &row, FIRST);
	take_turn(&bench, SMALL_BUDGET);
	wire = wire_open(bench.product.pair.client, CLIENT_IF);
	pid = flood_start(&bench.flood, bench.product.pair.client);
	for (int i = 0; i < 50; i++) {
		struct hand hand = hand_new(wire, 1 + i, 1234, SERVER_IP4, FIRST, true);

		wire_send(wire, &hand.spec);
		poll(NULL, 0, 40);
	}
	EXPECT(learned_of(&bench, SERVER_IP4, FIRST).admitted);
	bench.slowest = 0;
	talk(&bench, SERVER_IP4, FIRST, listener, "flooded from the beginning");
	EXPECT(bench.slowest < CONNECT_MS, "a client waited for %lld ms", (long long)bench.slowest);
	flood_end(&bench.flood, pid);
	wire_close(wire);
	close(listener);
	bench_end(&bench);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}

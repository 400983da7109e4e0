// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What learning costs a segment that leaves, and what tracking costs a connection, on real traffic: by the
 * kernel's own accounting of programs' run time (kernel.bpf_stats_enabled), net of what an empty program
 * on the same hook is accounted for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../net/product.h"

enum {
	PORT = 8080,
	BULK_MB = 400,
	CONNECTIONS = 20000,
};

struct usage {
	double ns;
	double runs;
};

static int empty_program(enum bpf_prog_type type)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 /* TCX_NEXT */ },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(type, "empty", "GPL", code, 2, NULL);

	REQUIRE(fd >= 0, "an empty program does not load");
	return fd;
}

static struct usage usage_of(int program)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	REQUIRE(!bpf_obj_get_info_by_fd(program, &info, &length));
	return (struct usage){ (double)info.run_time_ns, (double)info.run_cnt };
}

static struct usage since(int program, struct usage before)
{
	const struct usage now = usage_of(program);

	return (struct usage){ now.ns - before.ns, now.runs - before.runs };
}

/* The program behind a pinned link. */
static int program_of(const struct product *product, const char *link_name)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	char path[160];
	int link;

	snprintf(path, sizeof(path), "%s/links/%s", product->pins, link_name);
	link = bpf_obj_get(path);
	REQUIRE(link >= 0 && !bpf_obj_get_info_by_fd(link, &info, &length), "%s", path);
	close(link);
	return bpf_prog_get_fd_by_id(info.prog_id);
}

/* The empty program on the server's egress, beside ours. */
static int attach_empty(const struct product *product)
{
	enum { TCX_EGRESS = 47 }; /* BPF_TCX_EGRESS, which older headers do not name */
	int program = empty_program(BPF_PROG_TYPE_SCHED_CLS), link;

	netns_enter(product->pair.server);
	link = bpf_link_create(program, netns_ifindex(product->pair.server, SERVER_IF),
			       (enum bpf_attach_type)TCX_EGRESS, NULL);
	netns_enter(NULL);
	REQUIRE(link >= 0, "cannot attach an empty program");
	return program;
}

CASE("the cost of learning and tracking")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), client, server;
	int learn, track, empty = attach_empty(&product), stats;
	struct usage learned, tracked, emptied;
	static char bytes[1 << 16];
	char ifindex[32];

	report_case_limit(200);
	snprintf(ifindex, sizeof(ifindex), "%d/egress", netns_ifindex(product.pair.server, SERVER_IF));
	learn = program_of(&product, ifindex);
	track = program_of(&product, "track");
	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	REQUIRE(stats >= 0, "the kernel does not account for programs' run time");

	/* Segments that carry data, from the server to the client. */
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	server = tcp_accept(listener, 1000);
	REQUIRE(client >= 0 && server >= 0);
	learned = usage_of(learn);
	emptied = usage_of(empty);
	for (long i = 0; i < BULK_MB * 16; i++) {
		REQUIRE(send(server, bytes, sizeof(bytes), 0) > 0);
		REQUIRE(tcp_read(client, bytes, sizeof(bytes), 1000) > 0);
	}
	learned = since(learn, learned);
	emptied = since(empty, emptied);
	printf("# learning, a segment that is no SYN-ACK: %.0f ns, an empty program %.0f: net %.1f ns "
	       "(%.0f "
	       "segments)\n",
	       learned.ns / learned.runs, emptied.ns / emptied.runs,
	       learned.ns / learned.runs - emptied.ns / emptied.runs, learned.runs);
	close(client);
	close(server);

	/* Whole connections: first segments, last ones, and the event at the end. */
	learned = usage_of(learn);
	tracked = usage_of(track);
	emptied = usage_of(empty);
	for (int i = 0; i < CONNECTIONS; i++) {
		client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		server = tcp_accept(listener, 1000);
		REQUIRE(client >= 0 && server >= 0);
		REQUIRE(write(client, "x", 1) == 1 && tcp_read(server, bytes, 1, 1000) == 1);
		REQUIRE(write(server, "y", 1) == 1 && tcp_read(client, bytes, 1, 1000) == 1);
		close(client);
		close(server);
	}
	learned = since(learn, learned);
	tracked = since(track, tracked);
	emptied = since(empty, emptied);
	printf("# tracking, a connection's life: %.0f ns in %.1f segments that leave, %.0f ns in %.1f "
	       "events "
	       "at its end (ours and the client's), of which %.0f ns are the accounting itself\n",
	       learned.ns / CONNECTIONS, learned.runs / CONNECTIONS, tracked.ns / CONNECTIONS,
	       tracked.runs / CONNECTIONS,
	       (learned.runs + tracked.runs) / CONNECTIONS * emptied.ns / emptied.runs);
	close(stats);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}

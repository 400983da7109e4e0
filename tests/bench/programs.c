// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the programs cost for a frame that they pass, by BPF_PROG_RUN: nanoseconds, net of what an empty
 * program costs there; medians of several rounds, all rows by turns. Frames that are answered or handed
 * over are changed by it, and have to be measured on real packets.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/if_link.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../prog/environment.h"

enum {
	ROUNDS = 15,
	REPEAT = 200000,
	UNPROTECTED = 7000,
	DORMANT = 8123, /* of policy flood, and nothing wakes it */
	FRAMES = 8,
};

struct frame {
	const char *name;
	uint8_t bytes[FRAME_MAX];
	size_t length;
	int program;
	double ns[ROUNDS];
};

static struct frame frames[FRAMES];
static int count;

static int empty_program(void)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "empty", "GPL", code, 2, NULL);
}

static int program_of(const char *link_name)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	char path[128];
	int link;

	snprintf(path, sizeof(path), "%s/links/%u/%s", env.pins, env.ifindex, link_name);
	link = bpf_obj_get(path);
	REQUIRE(link >= 0 && !bpf_obj_get_info_by_fd(link, &info, &length));
	close(link);
	return bpf_prog_get_fd_by_id(info.prog_id);
}

static struct frame *add(const char *name, int program, const struct tcp_spec *spec)
{
	struct frame *frame = &frames[count++];

	frame->name = name;
	frame->program = program;
	frame->length = frame_build(spec, frame->bytes, sizeof(frame->bytes));
	return frame;
}

static void measure(struct frame *frame, int round)
{
	struct xdp_md in = { .data_end = (__u32)frame->length, .ingress_ifindex = env.ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->bytes, .data_size_in = (__u32)frame->length,
		    .repeat = REPEAT);

	if (frame->program != frames[count - 1].program) {
		opts.ctx_in = &in;
		opts.ctx_size_in = sizeof(in);
	}
	netns_enter(env.pair.server);
	REQUIRE(!bpf_prog_test_run_opts(frame->program, &opts), "%s", frame->name);
	frame->ns[round] = opts.duration;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static char payload[1200];
static int accepted;

/* A connection by @syn, whose tuple the stack then holds. Yields a segment of it. */
static struct tcp_spec connection(const struct tcp_spec *syn)
{
	struct tcp_spec data = *syn;
	struct tcp_frame synack;

	wire_send(env.wire, syn);
	REQUIRE(wire_recv_flags(env.wire, syn, SYN | ACK, RST, 300, &synack));
	data.flags = ACK;
	data.seq = syn->seq + 1;
	data.ack = synack.seq + 1;
	data.options = options_ts(1000, synack.tsval);
	wire_send(env.wire, &data);
	REQUIRE(WAIT_FOR((accepted = accept4(env.listener, NULL, NULL, SOCK_NONBLOCK)) >= 0, 1000));
	data.flags = ACK | PSH;
	data.seq += 70000;
	data.ack += 70000;
	data.payload = payload;
	data.payload_len = sizeof(payload);
	return data;
}

CASE("cost of the programs on frames that they pass")
{
	struct tcp_spec syn = place_syn(IPV4, 30000, PORT), data, settled, away = syn, dormant = syn, out;
	static struct run run;
	uint8_t bytes[FRAME_MAX];

	report_case_limit(300);
	data = connection(&syn);
	settled = place_syn(IPV4, 30001, PORT);
	settled = connection(&settled);
	/* What the server says settles it: no cookie is looked for in its segments from then on. */
	for (int i = 0; i < 2; i++)
		REQUIRE(write(accepted, "a", 1) == 1);
	usleep(10000);
	env.set.policy = POLICY_FLOOD;
	env.set.flood_rate = 100000000;
	settings_store();
	listen_on(DORMANT, 16, NULL);
	dormant.dport = DORMANT;
	admit(IPV4, DORMANT, NULL);
	run_frame(env.xdp, bytes, frame_build(&dormant, bytes, sizeof(bytes)), &run);
	REQUIRE(counted_only(&run, COUNTER_syn_passed_dormant), "%s", counted_text(&run));
	away.dport = UNPROTECTED;

	add("an empty program", empty_program(), &away);
	add("SYN to a tuple that is held", env.xdp, &syn);
	add("data of a connection", env.xdp, &settled);
	add("before the server has said a word", env.xdp, &data);
	add("SYN to a dormant service", env.xdp, &dormant);
	data.saddr = client_ip(IPV4, 2);
	add("an orphan with data", env.xdp, &data);
	add("a port that is not protected", env.xdp, &away);
	data = away;
	data.flags = ACK;
	data.sport = 50000;
	out = data;
	out.saddr = syn.daddr;
	out.daddr = syn.saddr;
	out.sport = PORT;
	out.dport = 30000;
	out.payload = payload;
	out.payload_len = 500;
	add("outgoing data (tc)", program_of("egress"), &out);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < count; i++)
			measure(&frames[i], round);
	for (int i = 0; i < count; i++)
		qsort(frames[i].ns, ROUNDS, sizeof(double), compare);
	for (int i = 0; i < count; i++)
		printf("# %-32s %6.0f ns (%.0f to %.0f), net %.0f\n", frames[i].name,
		       frames[i].ns[ROUNDS / 2], frames[i].ns[0], frames[i].ns[ROUNDS - 1],
		       frames[i].ns[ROUNDS / 2] - frames[0].ns[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, environment_new);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both ends of what is measured, and what it is measured against. `generate` is run by BPF_PROG_RUN over
 * live frames, each of which leaves by the device that the context names; `sink` takes what comes back
 * there. Whatever answers, these two are the same program on the same frames.
 */
#include "traffic.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum {
	SYN_ACK = 0x12,
	TIMESTAMPS = 0x080a, /* kind and length */
};

struct traffic traffic;
struct traffic_answer answers[TRAFFIC_CHAIN_MAX];
__u32 recording;
__u32 staying; /* what is generated is dropped at once: what generating itself takes */

/* SplitMix64. */
static __u64 mix(__u64 z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static __u64 words(__u32 v)
{
	return (v >> 16) + (v & 0xffff);
}

static __be16 checksum(__u64 sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return bpf_htons((__u16)~sum);
}

struct __attribute__((packed)) tcp_fields {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__be16 flags;
	__be16 window;
	__be16 check;
};

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	const __u32 group_bits = traffic.group_bits & 31, turn_bits = traffic.turn_bits & 31;
	const __u64 frame = traffic.next++;
	const __u64 turn = frame >> group_bits & ((1ULL << turn_bits) - 1);
	const __u64 n = frame >> (group_bits + turn_bits) << group_bits |
			(frame & ((1ULL << group_bits) - 1));
	const __u64 a = mix(traffic.seed + n * 0x9e3779b97f4a7c15);
	const __u32 host = (__u32)(a >> 32) & traffic.hosts;
	const __u32 sport = 1024 + (((__u32)a & 0xffff) * (65536 - 1024) >> 16);
	const __u32 seq = traffic.isn + (__u32)n + traffic.ahead + (__u32)turn * traffic.turn_ahead;
	const __u32 length = traffic.length;
	__u32 ack = 0, tsecr = 0;
	struct tcp_fields *tcp;
	void *data, *end, *at;
	__u64 sum;

	if (traffic.ack == TRAFFIC_RIGHT_ACK) {
		const struct traffic_answer *answer = &answers[n & (TRAFFIC_CHAIN_MAX - 1)];

		ack = answer->isn + 1;
		tsecr = answer->tsval;
	} else if (traffic.ack == TRAFFIC_RANDOM_ACK) {
		ack = (__u32)mix(a);
		tsecr = ~ack;
	}
	/*
	 * A page that comes back keeps the length and the metadata that the receiver gave it, unless the
	 * context was changed (net/bpf/test_run.c:reset_ctx()). So the frame is made a byte shorter.
	 */
	if (length < ETH_HLEN || length > TRAFFIC_HEADERS_MAX || bpf_xdp_adjust_tail(ctx, -1) ||
	    bpf_xdp_store_bytes(ctx, 0, traffic.headers, length))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;

	at = data + (traffic.saddr & (TRAFFIC_HEADERS_MAX - 1));
	if (at + sizeof(__be32) > end)
		return XDP_ABORTED;
	*(__be32 *)at = bpf_htonl(traffic.network | host);
	if (traffic.ip) {
		at = data + (traffic.ip & (TRAFFIC_HEADERS_MAX - 1));
		if (at + sizeof(struct iphdr) > end)
			return XDP_ABORTED;
		((struct iphdr *)at)->check = checksum(traffic.ip_sum + words(host));
	}
	tcp = data + (traffic.l4 & (TRAFFIC_HEADERS_MAX - 1));
	if (traffic.udp) {
		if ((void *)tcp + sizeof(__be16) > end)
			return XDP_ABORTED;
		tcp->sport = bpf_htons((__u16)sport);
		return staying ? XDP_DROP : XDP_TX;
	}
	if (traffic.tsecr) {
		at = data + (traffic.tsecr & (TRAFFIC_HEADERS_MAX - 1));
		if (at + sizeof(__be32) > end)
			return XDP_ABORTED;
		*(__be32 *)at = bpf_htonl(tsecr);
	} else {
		tsecr = 0;
	}
	if ((void *)(tcp + 1) > end)
		return XDP_ABORTED;
	tcp->sport = bpf_htons((__u16)sport);
	tcp->seq = bpf_htonl(seq);
	tcp->ack = bpf_htonl(ack);
	sum = traffic.tcp_sum + words(host) + sport + words(seq) + words(ack) + words(tsecr);
	tcp->check = checksum(sum);
	return staying ? XDP_DROP : XDP_TX;
}

/* Where the answers end. They have the headers of what they answer, so all lies where it lay. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct traffic_answer *answer;
	struct tcp_fields *tcp;
	__be16 *option;

	if (!recording)
		return XDP_DROP;
	tcp = data + (traffic.l4 & (TRAFFIC_HEADERS_MAX - 1));
	if ((void *)(tcp + 1) > end || (bpf_ntohs(tcp->flags) & 0x3f) != SYN_ACK)
		return XDP_DROP;
	answer = &answers[(bpf_ntohl(tcp->ack) - 1 - traffic.isn) & (TRAFFIC_CHAIN_MAX - 1)];
	answer->isn = bpf_ntohl(tcp->seq);
	answer->seen = 1;
	/* Behind the MSS, and behind SACK or two NOPs. */
	option = (void *)tcp + 20 + 4 + 2;
	if ((void *)(option + 3) <= end && option[0] == bpf_htons(TIMESTAMPS))
		answer->tsval = (__u32)bpf_ntohs(option[1]) << 16 | bpf_ntohs(option[2]);
	return XDP_DROP;
}

/* ---- rows ---- */

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_DROP;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp")
int mirror(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

/* SipHash-2-4 of 16 bytes, several times, each of what the one before gave. */
struct siphash_key hash_key;
__u64 hashed;

SEC("xdp")
int hash(struct xdp_md *ctx)
{
	const __u64 *word = (const __u64 *)((void *)(long)ctx->data + ETH_HLEN + 8);
	const struct siphash_key key = hash_key;
	__u64 a, b;

	if ((void *)(word + 2) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	a = word[0];
	b = word[1];
	for (int i = 0; i < TRAFFIC_HASHES; i++) {
		struct siphash_state state;

		siphash_start(&state, &key);
		siphash_word(&state, a);
		siphash_word(&state, b);
		siphash_word(&state, siphash_last(0, 16));
		a = siphash_finish(&state);
	}
	hashed = a;
	return XDP_DROP;
}

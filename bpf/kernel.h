/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few types of the running kernel that we read, with the few fields that we read of them. Offsets are
 * relocated when the programs are loaded (CO-RE), so neither order nor completeness matters.
 */
#ifndef XDPH_KERNEL_H
#define XDPH_KERNEL_H

#include <linux/bpf.h>
#include <linux/in6.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct netns_ipv4 {
	__u8 sysctl_tcp_ecn;
	__u8 sysctl_tcp_reflect_tos;
	__u8 sysctl_tcp_sack;
	__u8 sysctl_tcp_syncookies;
	__u8 sysctl_tcp_timestamps;
	__u8 sysctl_tcp_window_scaling;
	__u32 sysctl_tcp_fastopen; /* signed in kernels: only unsigned ones may turn out to be smaller */
};

struct nf_hook_entries;

struct netns_nf {
	struct nf_hook_entries *hooks_bridge[1]; /* the first: of what comes in */
};

struct net {
	__u64 net_cookie;
	struct netns_ipv4 ipv4;
	struct netns_nf nf;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	unsigned long priv_flags;
	possible_net_t nd_net;
};

/* include/net/xdp.h */
struct xdp_buff {
	__u32 flags;
};

struct dst_entry {
	struct net_device *dev;
};

/* What dst_entry begins: a route of IPv4. */
struct rtable {
	__u32 rt_pmtu : 31;
};

/* And of IPv6. */
struct rt6_info {
	__u32 rt6i_flags;
};

struct sk_buff {
	struct net_device *dev;
	unsigned long _skb_refdst;
	__u16 network_header; /* where it is, from head */
	unsigned char *head;
	unsigned char *data;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};

struct sock_reuseport {
	__u16 num_socks;
};

struct inode {
	unsigned long i_ino;
};

struct socket {
	int type;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	int sk_rcvbuf;
	struct sock_reuseport *sk_reuseport_cb;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct fastopen_queue {
	int max_qlen;
};

struct request_sock_queue {
	__u8 rskq_defer_accept;
	atomic_t qlen;
	struct fastopen_queue fastopenq;
};

struct tcp_congestion_ops {
	__u32 flags;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct request_sock_queue icsk_accept_queue;
	const struct tcp_congestion_ops *icsk_ca_ops;
};

struct tcp_options_received {
	__u16 user_mss;
};

struct tcp_md5sig_info;
struct tcp_ao_info;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 segs_out;
	__u32 snd_una;
	__u32 rcv_nxt;
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 window_clamp;
	__u8 scaling_ratio;
	__u8 save_syn : 2;
	bool is_mptcp;
	struct tcp_options_received rx_opt;
	struct tcp_md5sig_info *md5sig_info;
	struct tcp_ao_info *ao_info;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	unsigned int uid;
};

/* include/net/tcp.h; what the cookie knows of a connection, for the request socket. Zero what is unused. */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

#pragma clang attribute pop

enum kernel_constants {
	KERNEL_TCP_ESTABLISHED = 1,
	KERNEL_TCP_FIN_WAIT1 = 4,
	KERNEL_TCP_TIME_WAIT = 6,
	KERNEL_TCP_CLOSE = 7,
	KERNEL_TCP_LISTEN = 10,
	KERNEL_TCP_NEW_SYN_RECV = 12,
	KERNEL_AF_INET = 2,
	KERNEL_AF_INET6 = 10,
	KERNEL_TCP_CONG_NEEDS_ECN = 2,
	KERNEL_IFF_BRIDGE_PORT = 1 << 9,
	KERNEL_TFO_SERVER_ENABLE = 2,
	KERNEL_SKB_DST_NOREF = 1,
	KERNEL_RTF_CACHE = 0x01000000,
	KERNEL_XDP_FLAGS_HAS_FRAGS = 1 << 0,
};

extern int LINUX_KERNEL_VERSION __kconfig;

/*
 * Hands a request socket to the segment in @skb: its connection is then established as if the SYN had been
 * the stack's (net/core/filter.c). Kernel 6.9 and later; the loader looks for it before it loads anything.
 */
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym;
/* What is believed to be of a type, to be read: reads never fault. */
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym;
/* The struct sk_buff, or xdp_buff, behind a context. */
extern void *bpf_cast_to_kern_ctx(void *context) __ksym;

/*
 * A kernel object that the verifier trusts, to be read and no more. For each pointer that is read through a
 * trusted one, it searches the names of all the kernel's types for whether that is to be trusted as well
 * (kernel/bpf/verifier.c:btf_nested_type_is_trusted()), each time that it comes by: most of an attachment's
 * time.
 */
#define KERNEL_READ_ONLY(object)                                                                           \
	((typeof(object))bpf_rdonly_cast(object, bpf_core_type_id_kernel(typeof(*(object)))))

/* Whether a frame lies in more than one buffer. */
static __always_inline bool xdp_has_frags(struct xdp_md *ctx)
{
	const struct xdp_buff *kernel_xdp = bpf_cast_to_kern_ctx(ctx);

	return kernel_xdp->flags & KERNEL_XDP_FLAGS_HAS_FRAGS;
}

/* bpf_xdp_get_buff_len(), with no call for most. */
static __always_inline __u32 xdp_length(struct xdp_md *ctx)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;

	return xdp_has_frags(ctx) ? bpf_xdp_get_buff_len(ctx) : end - data;
}

#endif

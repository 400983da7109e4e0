// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Watches how many frames each NAPI poll of one device has taken. */
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct napi_struct {
	struct net_device *dev;
};
#pragma clang attribute pop

const volatile int watched_ifindex;
const volatile unsigned int watched_netns;

__u32 n_polls;
__u32 polls[64];

SEC("tp_btf/napi_poll")
int watch_polls(__u64 *ctx)
{
	struct napi_struct *napi = (void *)ctx[0];
	struct net_device *dev = napi->dev;
	int work = (int)ctx[1];
	__u32 at;

	if (!dev || dev->ifindex != watched_ifindex || dev->nd_net.net->ns.inum != watched_netns)
		return 0;
	if (work <= 0)
		return 0;
	at = __sync_fetch_and_add(&n_polls, 1);
	if (at < 64)
		polls[at] = (__u32)work;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

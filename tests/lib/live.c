// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "live.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	FRAME_MAX_SIZE = 2048,
};

/* In the new namespace. */
static int attach(int prog_fd)
{
	unsigned int ifindex;

	/* Of the devices that need no hardware, veth has native XDP. */
	if (system("ip link add hold0 type veth peer name hold1"))
		return -ENODEV;
	ifindex = if_nametoindex("hold0");
	if (!ifindex)
		return -errno;
	return bpf_xdp_attach((int)ifindex, (uint32_t)prog_fd, XDP_FLAGS_DRV_MODE, NULL);
}

int live_hold(int prog_fd)
{
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), hold = -1, err = 0;

	if (home < 0)
		return -errno;
	if (unshare(CLONE_NEWNET)) {
		err = -errno;
	} else {
		hold = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		err = hold < 0 ? -errno : attach(prog_fd);
		/* Anything else would leave the caller in the wrong namespace. */
		if (setns(home, CLONE_NEWNET))
			abort();
	}
	close(home);
	if (err && hold >= 0)
		close(hold);
	return err ? err : hold;
}

int live_run(int prog_fd, uint32_t ifindex, uint32_t size, uint32_t n, uint32_t batch)
{
	static uint8_t room[FRAME_MAX_SIZE];
	struct xdp_md ctx = {
		.data_end = size,
		.ingress_ifindex = ifindex,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = room, .data_size_in = size, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = (int)n, .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		    .batch_size = batch < n ? batch : n);

	if (size > sizeof(room))
		return -EMSGSIZE;
	return bpf_prog_test_run_opts(prog_fd, &opts);
}

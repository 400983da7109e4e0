// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "netdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_vlan.h>
#include <linux/sockios.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static bool ask_ethtool(int fd, const struct netdev *dev, void *command)
{
	struct ifreq request = { .ifr_data = command };

	memcpy(request.ifr_name, dev->name, sizeof(request.ifr_name));
	return !ioctl(fd, SIOCETHTOOL, &request);
}

/* The first VLAN device whose frames go by @dev. */
static void find_vlan_device(int fd, struct netdev *dev)
{
	struct if_nameindex *names = if_nameindex();

	for (struct if_nameindex *name = names; name && name->if_index && !*dev->vlan_device; name++) {
		struct vlan_ioctl_args args = { .cmd = GET_VLAN_REALDEV_NAME_CMD };

		snprintf(args.device1, sizeof(args.device1), "%s", name->if_name);
		if (!ioctl(fd, SIOCGIFVLAN, &args) && !strcmp(args.u.device2, dev->name))
			snprintf(dev->vlan_device, sizeof(dev->vlan_device), "%.15s", name->if_name);
	}
	if_freenameindex(names);
}

/* The driver by which frames come in: a VLAN device has them from the one below. */
static void find_driver(int fd, const struct netdev *dev, char driver[32])
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct vlan_ioctl_args args = { .cmd = GET_VLAN_REALDEV_NAME_CMD };
	struct netdev below = *dev;

	/* Tags in tags: two at the most are looked at in a frame, more devices may lie above each other. */
	for (int i = 0; i < 8; i++) {
		snprintf(args.device1, sizeof(args.device1), "%s", below.name);
		if (ioctl(fd, SIOCGIFVLAN, &args))
			break;
		snprintf(below.name, sizeof(below.name), "%.15s", args.u.device2);
		args.cmd = GET_VLAN_REALDEV_NAME_CMD;
	}
	if (ask_ethtool(fd, &below, &info))
		snprintf(driver, 32, "%.31s", info.driver);
}

static void read_driver(struct netdev *dev)
{
	struct ethtool_value flags = { .cmd = ETHTOOL_GFLAGS };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	find_driver(fd, dev, dev->driver);
	dev->strips_tags = ask_ethtool(fd, dev, &flags) && flags.data & ETH_FLAG_RXVLAN;
	if (dev->strips_tags)
		find_vlan_device(fd, dev);
	close(fd);
}

int netdev_read(struct netdev *dev, const char *name)
{
	static const char *const virtual[] = { "veth",	    "virtio_net", "tun",    "bridge", "vif",
					       "hv_netvsc", "vmxnet3",	  "netkit", "bonding" };

	memset(dev, 0, sizeof(*dev));
	if (strlen(name) >= sizeof(dev->name))
		return -ENODEV;
	strcpy(dev->name, name);
	dev->ifindex = if_nametoindex(name);
	if (!dev->ifindex)
		return -errno;
	/* An alternative name is looked up as well; VLAN devices know the first one alone. */
	if (!if_indextoname(dev->ifindex, dev->name))
		return -errno;
	read_driver(dev);
	for (size_t i = 0; i < sizeof(virtual) / sizeof(*virtual); i++)
		dev->virtual |= !strcmp(dev->driver, virtual[i]);
	dev->virtual |= !strcmp(dev->name, "lo");
	return 0;
}

int netdev_read_xdp(struct netdev *dev)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	int error = bpf_xdp_query_id((int)dev->ifindex, 0, &dev->xdp_program);

	if (!error)
		error = bpf_xdp_query((int)dev->ifindex, 0, &query);
	dev->xdp_native = query.attach_mode == XDP_ATTACHED_DRV || query.attach_mode == XDP_ATTACHED_HW;
	return error;
}

/* The id of the link by which the device carries its XDP program, 0 if it is no link. */
static __u32 xdp_link(const struct netdev *dev)
{
	__u32 id = 0;

	while (!bpf_link_get_next_id(id, &id)) {
		struct bpf_link_info info = {};
		__u32 length = sizeof(info);
		int fd = bpf_link_get_fd_by_id(id);
		bool found;

		if (fd < 0)
			continue;
		found = !bpf_obj_get_info_by_fd(fd, &info, &length) && info.type == BPF_LINK_TYPE_XDP &&
			info.xdp.ifindex == dev->ifindex && info.prog_id == dev->xdp_program;
		close(fd);
		if (found)
			return id;
	}
	return 0;
}

void netdev_xdp_off(const struct netdev *dev, char command[64])
{
	const __u32 link = xdp_link(dev);

	if (link)
		snprintf(command, 64, "bpftool link detach id %u", link);
	else
		snprintf(command, 64, "ip link set dev %s xdp off", dev->name);
}

bool program_is_xdp(const char *name)
{
	return !strcmp(name, "xdp_handshake") || !strcmp(name, "xdp_drain");
}

bool netdev_find_ours(struct netdev *dev)
{
	struct if_nameindex *names = if_nameindex();
	bool found = false;
	char program[16];

	for (struct if_nameindex *name = names; name && name->if_index && !found; name++) {
		dev->ifindex = name->if_index;
		snprintf(dev->name, sizeof(dev->name), "%.15s", name->if_name);
		if (bpf_xdp_query_id((int)dev->ifindex, 0, &dev->xdp_program) || !dev->xdp_program)
			continue;
		program_name(dev->xdp_program, program);
		found = program_is_xdp(program);
	}
	if_freenameindex(names);
	return found;
}

void program_name(__u32 id, char name[16])
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	*name = '\0';
	if (fd < 0)
		return;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length))
		snprintf(name, 16, "%s", info.name);
	close(fd);
}

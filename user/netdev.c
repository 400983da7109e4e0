// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "netdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
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
	read_driver(dev);
	for (size_t i = 0; i < sizeof(virtual) / sizeof(*virtual); i++)
		dev->virtual |= !strcmp(dev->driver, virtual[i]);
	dev->virtual |= !strcmp(name, "lo");
	return 0;
}

int netdev_read_xdp(struct netdev *dev)
{
	return bpf_xdp_query_id((int)dev->ifindex, 0, &dev->xdp_program);
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

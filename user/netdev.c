// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "netdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/sockios.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static void read_driver(struct netdev *dev)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = {};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	memcpy(request.ifr_name, dev->name, sizeof(request.ifr_name));
	request.ifr_data = (void *)&info;
	if (!ioctl(fd, SIOCETHTOOL, &request))
		snprintf(dev->driver, sizeof(dev->driver), "%.31s", info.driver);
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

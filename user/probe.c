// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include <bpf/btf.h>

#include "log.h"
#include "privilege.h"

int probe_syncookies(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_syncookies", "re");
	int value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

/* The kernel that brings the kfunc, by the name under which the distribution has it. */
static const char *kernel_remedy(void)
{
	static char remedy[192];
	char line[256], id[64] = "", codename[64] = "";
	FILE *file = fopen("/etc/os-release", "re");

	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "ID=%63[a-z]", id);
		sscanf(line, "VERSION_CODENAME=%63[a-z]", codename);
	}
	if (file)
		fclose(file);
	if (!strcmp(id, "debian") && *codename) {
		snprintf(remedy, sizeof(remedy),
			 "install Debian's backports kernel (apt install -t %.40s-backports "
			 "linux-image-amd64) and reboot",
			 codename);
		return remedy;
	}
	return "install a newer kernel (on Debian 12: the backports kernel, linux-image-amd64 of "
	       "bookworm-backports) and reboot";
}

int probe_all(void)
{
	struct utsname name;
	struct btf *btf;
	int id;

	if (!privilege_to_attach())
		return fail("not allowed: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	uname(&name);
	btf = btf__load_vmlinux_btf();
	if (!btf)
		return fail("kernel %s has no BTF (/sys/kernel/btf/vmlinux): it must be built with "
			    "CONFIG_DEBUG_INFO_BTF, as distributions' kernels are",
			    name.release);
	id = btf__find_by_name_kind(btf, "bpf_sk_assign_tcp_reqsk", BTF_KIND_FUNC);
	btf__free(btf);
	if (id < 0)
		return fail(
			"kernel %s cannot promote connections (no bpf_sk_assign_tcp_reqsk; Linux 6.9 and "
			"later have it): %s",
			name.release, kernel_remedy());
	if (!probe_syncookies())
		return fail(
			"net.ipv4.tcp_syncookies is 0, with which the stack refuses promoted connections: "
			"sysctl -w net.ipv4.tcp_syncookies=1");
	return EXIT_DONE;
}

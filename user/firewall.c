// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "firewall.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <net/if.h>
#include <netinet/in.h>
#include <nftables/libnftables.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

enum {
	/* IPT_SO_GET_INFO and IP6T_SO_GET_INFO of the headers of linux/netfilter_ipv?, which do not go
	   together. */
	LEGACY_GET_INFO = 64,
	LEGACY_HOOKS = 5,
};

/* ---- netlink ---- */

/* Sends @request and yields a socket to read the answer from, or -1. */
static int netlink_ask(int protocol, const void *request, size_t size)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -1;
	if (sendto(fd, request, size, 0, (void *)&kernel, sizeof(kernel)) == (ssize_t)size)
		return fd;
	close(fd);
	return -1;
}

/*
 * Whether the kernel has nf_tables, by the number of its ruleset's generation. libnftables ends the process
 * where it has no netlink for it.
 */
static bool has_nftables(void)
{
	struct {
		struct nlmsghdr header;
		struct nfgenmsg family;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
			.nlmsg_flags = NLM_F_REQUEST,
		},
	};
	union {
		struct nlmsghdr header;
		char bytes[4096];
	} answer;
	int fd = netlink_ask(NETLINK_NETFILTER, &request, sizeof(request));
	const struct nlmsgerr *error;
	ssize_t length;

	if (fd < 0)
		return false;
	length = recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	if (length < (ssize_t)sizeof(answer.header))
		return false;
	error = NLMSG_DATA(&answer.header);
	/* Not allowed, say: libnftables will tell. */
	return answer.header.nlmsg_type != NLMSG_ERROR ||
	       (error->error != -EINVAL && error->error != -EOPNOTSUPP);
}

/* ---- devices: those attached to, and what lies on them ---- */

struct link {
	unsigned int ifindex;
	unsigned int lower; /* of a VLAN, say; 0: none here */
	unsigned int master;
	bool concerned;
};

struct links {
	struct link *link;
	int count;
};

static void read_link(struct links *links, const struct nlmsghdr *header)
{
	const struct ifinfomsg *info = NLMSG_DATA(header);
	int left = (int)IFLA_PAYLOAD(header);
	bool elsewhere = false;
	struct link *link;

	if (header->nlmsg_type != RTM_NEWLINK)
		return;
	link = realloc(links->link, ((size_t)links->count + 1) * sizeof(*link));
	if (!link)
		return;
	links->link = link;
	link = &links->link[links->count++];
	memset(link, 0, sizeof(*link));
	link->ifindex = (unsigned int)info->ifi_index;
	for (const struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_LINK)
			memcpy(&link->lower, RTA_DATA(a), sizeof(link->lower));
		if (a->rta_type == IFLA_MASTER)
			memcpy(&link->master, RTA_DATA(a), sizeof(link->master));
		elsewhere |= a->rta_type == IFLA_LINK_NETNSID;
	}
	if (elsewhere)
		link->lower = 0;
}

static void read_links(struct links *links)
{
	const struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
	};
	static union {
		struct nlmsghdr header;
		char bytes[65536];
	} answer;
	int fd = netlink_ask(NETLINK_ROUTE, &request, sizeof(request));
	bool done = fd < 0;

	while (!done) {
		ssize_t length = recv(fd, &answer, sizeof(answer), 0);
		unsigned int left = length > 0 ? (unsigned int)length : 0;

		done = length <= 0;
		for (const struct nlmsghdr *h = &answer.header; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			done |= h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
			read_link(links, h);
		}
	}
	if (fd >= 0)
		close(fd);
}

static void mark_link(struct links *links, unsigned int ifindex)
{
	for (int i = 0; i < links->count; i++) {
		struct link *link = &links->link[i];

		if (link->ifindex != ifindex || link->concerned)
			continue;
		link->concerned = true;
		if (link->master)
			mark_link(links, link->master);
		for (int j = 0; j < links->count; j++)
			if (links->link[j].lower == ifindex)
				mark_link(links, links->link[j].ifindex);
	}
}

/* ---- the rest of it ---- */

static int read_number(const char *path, int otherwise)
{
	FILE *file = fopen(path, "re");
	int value = otherwise;

	if (!file)
		return otherwise;
	if (fscanf(file, "%d", &value) != 1)
		value = otherwise;
	fclose(file);
	return value;
}

/* struct ipt_getinfo and struct ip6t_getinfo. */
struct legacy_info {
	char name[32];
	unsigned int valid_hooks;
	unsigned int hook_entry[LEGACY_HOOKS];
	unsigned int underflow[LEGACY_HOOKS];
	unsigned int entries;
	unsigned int size;
};

/* Whether a table of iptables-legacy has more than its chains' policies. Merely listing one makes it. */
static bool legacy_has_rules(const char *table, bool ipv4)
{
	struct legacy_info info = {};
	socklen_t length = sizeof(info);
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	bool has = true;

	if (fd < 0)
		return true;
	snprintf(info.name, sizeof(info.name), "%s", table);
	if (!getsockopt(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, LEGACY_GET_INFO, &info, &length))
		has = info.entries > (unsigned int)__builtin_popcount(info.valid_hooks) + 1;
	close(fd);
	return has;
}

static void read_legacy(struct rule_findings *findings, bool ipv4)
{
	FILE *file = fopen(ipv4 ? "/proc/net/ip_tables_names" : "/proc/net/ip6_tables_names", "re");
	char table[32];

	while (file && fscanf(file, "%31s", table) == 1)
		/* A nat table makes NAT look at all connections, empty or not (ruleset.c: look_of_nat()).
		 */
		if (!strcmp(table, "nat") || legacy_has_rules(table, ipv4))
			findings_add(findings, RULE_LEGACY, "table %s of %s", table,
				     ipv4 ? "iptables-legacy" : "ip6tables-legacy");
	if (file)
		fclose(file);
}

/* The ruleset as libnftables prints it with @flags; to be freed. NULL: *why. */
static char *list_ruleset(unsigned int flags, const char **why)
{
	static char room[160];
	struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
	char *text = NULL;

	if (!context) {
		*why = "out of memory";
		return NULL;
	}
	nft_ctx_output_set_flags(context, flags);
	if (nft_ctx_buffer_output(context) || nft_ctx_buffer_error(context))
		*why = "out of memory";
	else if (nft_run_cmd_from_buffer(context, "list ruleset")) {
		snprintf(room, sizeof(room), "%s", nft_ctx_get_error_buffer(context));
		room[strcspn(room, "\n")] = '\0';
		*why = room;
	} else {
		text = strdup(nft_ctx_get_output_buffer(context));
	}
	nft_ctx_free(context);
	return text;
}

static const char *read_nftables(struct ruleset_question *question, struct rule_findings *findings)
{
	const char *why = NULL;
	char *json = list_ruleset(NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_STATELESS, &why);
	char *text = json ? list_ruleset(NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS |
						 NFT_CTX_OUTPUT_TERSE,
					 &why)
			  : NULL;
	json_t *ruleset = text ? json_loads(json, 0, NULL) : NULL;

	free(json);
	if (text && !ruleset_judge(ruleset, text, question, findings))
		why = "libnftables prints no JSON";
	free(text);
	json_decref(ruleset);
	return why;
}

const char *firewall_read(const struct port_set *ports, const unsigned int *interfaces, int count,
			  struct rule_findings *findings)
{
	struct ruleset_question question = {
		.ports = ports,
		.tcp_loose = read_number("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", 1) != 0,
		.steps = RULESET_STEPS,
	};
	const char *why = NULL, **devices;
	struct links links = {};
	char(*names)[IF_NAMESIZE];

	read_links(&links);
	for (int i = 0; i < count; i++)
		mark_link(&links, interfaces[i]);
	names = calloc((size_t)links.count + 1, sizeof(*names));
	devices = calloc((size_t)links.count + 1, sizeof(*devices));
	for (int i = 0; names && devices && i < links.count; i++)
		if (links.link[i].concerned &&
		    if_indextoname(links.link[i].ifindex, names[question.device_count])) {
			devices[question.device_count] = names[question.device_count];
			question.device_count++;
		}
	question.devices = devices;
	read_legacy(findings, true);
	read_legacy(findings, false);
	if (!names || !devices || findings->short_of_memory)
		why = "out of memory";
	else if (!question.device_count)
		why = "the kernel does not list its devices";
	else if (has_nftables())
		why = read_nftables(&question, findings);
	if (!why && findings->short_of_memory)
		why = "out of memory";
	free(names);
	free(devices);
	free(links.link);
	return why;
}

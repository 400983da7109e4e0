// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "addresses.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <netinet/in.h>

#include "tuple.h"

/* What the filter is to hold. */
struct filter {
	__u64 words[OWN_WORDS];
	__u32 mask;
	__u64 seed;
	__u64 ends;
};

static void add(struct filter *filter, const struct address *address)
{
	const __u64 hash = address_hash(address, filter->seed);

	filter->words[hash & filter->mask] |= known_bits(hash);
	filter->ends |= own_end(address);
}

static void add_ipv4(struct filter *filter, const struct sockaddr *sockaddr)
{
	struct sockaddr_in in;
	struct address address;

	memcpy(&in, sockaddr, sizeof(in));
	address_map_ipv4(&address, (XDPH_FORCE __be32)in.sin_addr.s_addr);
	add(filter, &address);
}

/* Broadcast to its subnet, as the stack knows it: net/ipv4/fib_frontend.c:fib_add_ifaddr(). */
static void add_broadcast(struct filter *filter, const struct ifaddrs *at)
{
	struct sockaddr_in in, mask;

	/* By its mask: where none was set, ifa_broadaddr is the peer's address (getifaddrs(3)). */
	if (!(at->ifa_flags & IFF_BROADCAST) || !at->ifa_netmask)
		return;
	memcpy(&in, at->ifa_addr, sizeof(in));
	memcpy(&mask, at->ifa_netmask, sizeof(mask));
	/* A subnet of one or two has none. */
	if (ntohl(mask.sin_addr.s_addr) >= 0xfffffffe)
		return;
	in.sin_addr.s_addr |= ~mask.sin_addr.s_addr;
	add_ipv4(filter, (struct sockaddr *)&in);
}

static void add_ipv6(struct filter *filter, const struct sockaddr *sockaddr)
{
	struct sockaddr_in6 in6;
	struct address address;

	memcpy(&in6, sockaddr, sizeof(in6));
	memcpy(&address, &in6.sin6_addr, sizeof(address));
	add(filter, &address);
}

static void add_all(struct filter *filter, const struct ifaddrs *list)
{
	for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
		if (!at->ifa_addr)
			continue;
		if (at->ifa_addr->sa_family == AF_INET6)
			add_ipv6(filter, at->ifa_addr);
		if (at->ifa_addr->sa_family != AF_INET)
			continue;
		add_ipv4(filter, at->ifa_addr);
		add_broadcast(filter, at);
	}
}

int addresses_store(struct instance *instance)
{
	struct filter *filter = calloc(1, sizeof(*filter));
	unsigned long count = 0;
	struct ifaddrs *list = NULL;
	struct own_word *own;
	size_t size;
	int error = 0;

	if (!filter)
		return -ENOMEM;
	own = instance_own_words(instance, &size);
	if (!own || getifaddrs(&list)) {
		error = -errno;
		goto out;
	}
	/* And broadcast addresses, so this is the least. */
	for (const struct ifaddrs *at = list; at; at = at->ifa_next)
		count++;
	filter->mask = own_words_for(count) - 1;
	filter->seed = instance->set.hash_seed;
	add_all(filter, list);
	/* A word at a time: an address that stays is there all the while, wherever it is looked for. */
	if (instance->set.own_mask != filter->mask || instance->set.own_ends != filter->ends) {
		for (size_t i = 0; i < OWN_WORDS; i++)
			__atomic_fetch_or(&own[i].bits, filter->words[i], __ATOMIC_RELAXED);
		instance->set.own_mask = filter->mask;
		instance->set.own_ends = filter->ends;
		error = instance_store_settings(instance);
	}
	for (size_t i = 0; !error && i < OWN_WORDS; i++)
		__atomic_store_n(&own[i].bits, filter->words[i], __ATOMIC_RELAXED);
out:
	if (list)
		freeifaddrs(list);
	if (own)
		munmap(own, size);
	free(filter);
	return error;
}

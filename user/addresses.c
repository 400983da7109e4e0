// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "addresses.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <sys/mman.h>

#include <netinet/in.h>

#include "tuple.h"

static void add(__u64 words[OWN_WORDS], const struct address *address, __u64 seed)
{
	const __u64 hash = address_hash(address, seed);

	words[hash & (OWN_WORDS - 1)] |= known_bits(hash);
}

static void add_ipv4(__u64 words[OWN_WORDS], const struct sockaddr *sockaddr, __u64 seed)
{
	struct sockaddr_in in;
	struct address address;

	memcpy(&in, sockaddr, sizeof(in));
	address_map_ipv4(&address, (XDPH_FORCE __be32)in.sin_addr.s_addr);
	add(words, &address, seed);
}

/* Broadcast to its subnet, as the stack knows it: net/ipv4/fib_frontend.c:fib_add_ifaddr(). */
static void add_broadcast(__u64 words[OWN_WORDS], const struct ifaddrs *at, __u64 seed)
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
	add_ipv4(words, (struct sockaddr *)&in, seed);
}

static void add_ipv6(__u64 words[OWN_WORDS], const struct sockaddr *sockaddr, __u64 seed)
{
	struct sockaddr_in6 in6;
	struct address address;

	memcpy(&in6, sockaddr, sizeof(in6));
	memcpy(&address, &in6.sin6_addr, sizeof(address));
	add(words, &address, seed);
}

int addresses_store(const struct instance *instance)
{
	const __u64 seed = instance->set.hash_seed;
	__u64 words[OWN_WORDS] = {};
	struct own_word *own;
	struct ifaddrs *list;
	size_t size;
	int error;

	own = instance_own_words(instance, &size);
	if (!own)
		return -errno;
	if (getifaddrs(&list)) {
		error = -errno;
		munmap(own, size);
		return error;
	}
	for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
		if (!at->ifa_addr)
			continue;
		if (at->ifa_addr->sa_family == AF_INET6)
			add_ipv6(words, at->ifa_addr, seed);
		if (at->ifa_addr->sa_family != AF_INET)
			continue;
		add_ipv4(words, at->ifa_addr, seed);
		add_broadcast(words, at, seed);
	}
	freeifaddrs(list);
	/* A word at a time: an address that stays is there all the while. */
	for (size_t i = 0; i < OWN_WORDS; i++)
		__atomic_store_n(&own[i].bits, words[i], __ATOMIC_RELAXED);
	munmap(own, size);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What users type: port lists and endpoints. Whatever is taken reads the same when it is written again. */
#include "../../user/format.h"
#include "../../user/ports.h"
#include "fuzz.h"

static void try_ports(const char *text)
{
	struct port_set set = {}, again = {};
	const char *wrong = NULL;
	char *list;

	if (!port_set_parse(&set, text, &wrong)) {
		require(wrong && strlen(wrong) < 32);
		/* Nothing is added: the set is as empty as the other one. */
		require(!memcmp(&set, &again, sizeof(set)));
		return;
	}
	require(!port_set_has(&set, 0));
	list = port_set_format(&set);
	require(list && *list && port_set_parse(&again, list, &wrong) &&
		!memcmp(&set, &again, sizeof(set)));
	free(list);
}

static void try_endpoint(const char *text)
{
	struct address address = {}, again = {};
	__be16 port = 0, port_again = 0;
	char plain[FORMAT_ENDPOINT];
	bool any = false;

	if (!parse_endpoint(text, &address, &port, &any))
		return;
	require(host16(port) != 0);
	if (any)
		return;
	format_endpoint(&address, port, plain);
	require(parse_endpoint(plain, &again, &port_again, &any) && !any);
	require(address_equal(&address, &again) && port == port_again);
}

static void try_prefix(const char *text)
{
	struct prefix prefix = {};

	if (!parse_prefix(text, &prefix))
		return;
	require(prefix.length <= 128);
	require(prefix_has(&prefix, &prefix.address));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* Of its own size, so that a read behind its end is seen. */
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, bytes, size);
	text[size] = '\0';
	try_ports(text);
	try_endpoint(text);
	try_prefix(text);
	free(text);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A firewall's ruleset, as libnftables prints it: JSON and, behind a byte 0, text. Whatever it is, judging
 * it ends, reads nothing that is not there, and what it finds can be printed.
 */
#include "../../user/ruleset.h"
#include "fuzz.h"

static void judge(const json_t *ruleset, const char *text, bool tcp_loose)
{
	static const char *const devices[] = { "eth0", "eth0.5" };
	struct port_set ports = {};
	const struct ruleset_question question = {
		.ports = &ports,
		.devices = devices,
		.device_count = 2,
		.tcp_loose = tcp_loose,
		.steps = 2000,
	};
	struct rule_findings findings = {};

	port_set_add(&ports, 80);
	port_set_add(&ports, 443);
	if (!ruleset_judge(ruleset, text, &question, &findings))
		require(!findings.count);
	for (size_t i = 0; i < findings.count; i++) {
		const struct rule_finding *finding = &findings.list[i];

		require(finding->kind < RULE_KINDS && *rule_reason(finding->kind) &&
			*rule_remedy(finding->kind));
		require(strnlen(finding->rule, RULE_TEXT) < RULE_TEXT &&
			!strpbrk(finding->rule, "\n\r\t\033"));
	}
	findings_free(&findings);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const uint8_t *zero = memchr(bytes, 0, size);
	const size_t json_size = zero ? (size_t)(zero - bytes) : size;
	const size_t text_size = zero ? size - json_size - 1 : 0;
	json_t *ruleset = json_loadb((const char *)bytes, json_size, 0, NULL);
	/* Of its own size, so that a read behind its end is seen. */
	char *text = malloc(text_size + 1);

	if (ruleset && text) {
		memcpy(text, zero ? zero + 1 : bytes, text_size);
		text[text_size] = '\0';
		judge(ruleset, zero ? text : NULL, false);
		judge(ruleset, text, true);
	}
	json_decref(ruleset);
	free(text);
	return 0;
}

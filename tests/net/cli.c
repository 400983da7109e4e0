// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The command line: what it says and leaves behind when something is wrong, and what the maps look like. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
};

/* Programs, maps and links of ours in the kernel: what must not be left behind. */
static int ours_in_kernel(void)
{
	return atoi(netns_output(
		NULL, "(bpftool prog show; bpftool map show) | grep -cE 'name (xdp_handshake|xdp_drain|"
		      "tc_promote|tc_learn|known_tuples|known_notes|own_addresses|used_cookies)' || true"));
}

/*
 * Runs a command that must fail: with @code, one line on standard error that names @thing and @remedy, and
 * nothing left behind.
 */
static void expect_refusal(const struct netns *ns, int code, const char *thing, const char *remedy,
			   const char *command)
{
	int before = ours_in_kernel(), status;
	const char *newline;

	status = netns_sh(ns, "%s", command);
	EXPECT_EQ(status, code, "%s: %s", command, netns_said());
	newline = strchr(netns_said(), '\n');
	EXPECT(!strncmp(netns_said(), "xdp-handshake: ", 15) && (!newline || !newline[1]),
	       "%s: not one line: %s", command, netns_said());
	EXPECT(strstr(netns_said(), thing) && strstr(netns_said(), remedy),
	       "%s: does not name %s and %s: %s", command, thing, remedy, netns_said());
	/* The kernel frees in its own time. */
	EXPECT(WAIT_FOR(ours_in_kernel() <= before, 3000), "%s: programs or maps are left behind", command);
}

static void remove_version(void)
{
	netns_sh(NULL, "rm -rf /sys/fs/bpf/xdph-version");
}

CASE("wrong usage: one line with the remedy, exit 2")
{
	static const struct {
		const char *arguments, *thing, *remedy;
	} wrong[] = {
		{ "attach", "interface", "ip link" },
		{ "attach veth-server", "--port", "--all-listeners" },
		{ "attach veth-server --port 0", "'0'", "1 to 65535" },
		{ "attach veth-server --port 70000", "'70000'", "1 to 65535" },
		{ "attach veth-server --port 80,", "''", "1 to 65535" },
		{ "attach veth-server --port 90-80", "'90-80'", "1 to 65535" },
		{ "attach veth-server --port 80x", "'80x'", "1 to 65535" },
		{ "attach veth-server --port 80 --mode quick", "'quick'", "native" },
		{ "attach veth-server --port 80 --canary never", "'never'", "once" },
		{ "attach veth-server --port 80 --policy rain", "'rain'", "shadow" },
		{ "attach veth-server --port 80 --epoch 0", "'0'", "3600" },
		{ "attach veth-server --port 80 --mark many", "'many'", "0xffffffff" },
		{ "attach veth-server --port 80 --mark 0x100000000", "'0x100000000'", "0xffffffff" },
		{ "attach veth-server --port 80 --mark -1", "'-1'", "0xffffffff" },
		{ "attach veth-server veth-server --port 80", "veth-server", "twice" },
		{ "detach", "interfaces", "--all" },
		{ "detach --all veth-server", "interfaces", "--all" },
		{ "set 10.0.0.1 policy=shadow", "'10.0.0.1'", "192.0.2.1:443" },
		{ "set 10.0.0.1:80 colour=blue", "'colour=blue'", "policy=" },
		{ "set 10.0.0.1:80", "KEY=VALUE", "policy=shadow" },
		{ "key", "rotate", "show" },
		{ "key turn", "rotate", "show" },
		{ "status please", "'please'", "no argument" },
		{ "status --pin-path ''", "--pin-path", "directory" },
		{ "attach veth-server --port 80 --pin-path ''", "--pin-path", "directory" },
		{ "atach", "'atach'", "--help" },
	};
	struct pair pair = pair_new(NULL);
	char command[256];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		snprintf(command, sizeof(command), "timeout 10 " PROGRAM " %s", wrong[i].arguments);
		expect_refusal(pair.server, 2, wrong[i].thing, wrong[i].remedy, command);
	}
	expect_refusal(pair.server, 2, "'--no-such-option'", "--help",
		       PROGRAM " attach veth-server --no-such-option");
	expect_refusal(pair.server, 2, "'--port'", "--help", PROGRAM " attach veth-server --port");
	EXPECT_EQ(netns_sh(NULL, PROGRAM " --help"), 0);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " attach --help"), 0);
	EXPECT_EQ(netns_sh(NULL, PROGRAM), 2);
}

CASE("an unknown interface, no permission, and tcp_syncookies=0: one line with the remedy, exit 1")
{
	struct pair pair = pair_new(NULL);

	expect_refusal(pair.server, 1, "'eth77'", "ip link", PROGRAM " attach eth77 --port 80");
	expect_refusal(pair.server, 1, "not allowed", "root",
		       "setpriv --reuid 65534 --regid 65534 --clear-groups " PROGRAM
		       " attach veth-server --port 80");
	netns_sysctl(pair.server, "net.ipv4.tcp_syncookies", "0");
	expect_refusal(pair.server, 1, "tcp_syncookies", "sysctl -w net.ipv4.tcp_syncookies=1",
		       PROGRAM " attach veth-server --port 80");
}

CASE("a kernel without BTF, or without the kfunc: one line with the remedy, exit 1")
{
	struct pair pair = pair_new(NULL);

	/* A private mount namespace with another /sys/kernel/btf and no other vmlinux to be found. */
	expect_refusal(pair.server, 1, "BTF", "CONFIG_DEBUG_INFO_BTF",
		       "unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && mount -t tmpfs none /boot "
		       "2>/dev/null; "
		       "mount -t tmpfs none /lib/modules 2>/dev/null; " PROGRAM
		       " attach veth-server --port 80'");
	/* The BTF of a program that has no kfuncs: a kernel of before 6.9, as far as can be seen. */
	expect_refusal(
		pair.server, 1, "bpf_sk_assign_tcp_reqsk", "backports",
		"unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && llvm-objcopy --dump-section "
		".BTF=/sys/kernel/btf/vmlinux build/bpf/xdp_pass.bpf.o /dev/null && " PROGRAM
		" attach veth-server --port 80'");
}

CASE("native mode where the driver has none, and an interface with another's XDP program")
{
	struct pair pair = pair_new(NULL);

	expect_refusal(pair.server, 1, "native XDP", "--mode generic",
		       PROGRAM " attach lo --port 80 --mode native");
	netns_xdp(pair.server, SERVER_IF, 2);
	expect_refusal(pair.server, 1, "already carries", "xdp off",
		       PROGRAM " attach veth-server --port 80");
	EXPECT(strstr(netns_output(pair.server, "ip link show dev " SERVER_IF), "xdp"),
	       "the other's program is gone");
}

CASE("no bpf file system: mounted where that lasts, refused where it would not")
{
	struct pair pair = pair_new(NULL);

	expect_refusal(pair.server, 1, "/tmp/xdp-handshake-nowhere", "mount -t bpf",
		       PROGRAM " attach veth-server --port 80 --pin-path /tmp/xdp-handshake-nowhere");
	EXPECT(access("/tmp/xdp-handshake-nowhere", F_OK), "it was made all the same");
	expect_refusal(pair.server, 1, "nowhere/at-all", "mount -t bpf",
		       "timeout 10 " PROGRAM " attach veth-server --port 80 --pin-path nowhere/at-all");
	EXPECT(access("nowhere", F_OK), "it was made all the same");
	/* As `ip netns exec` does: a mount namespace of its own, and another /sys in it. */
	expect_refusal(NULL, 1, "private mount namespace", "nsenter --net",
		       "ip netns exec $(ip netns list | grep -o 'xh[^ ]*server' | head -1) " PROGRAM
		       " attach veth-server --port 80");
	expect_refusal(pair.server, 1, "/sys/fs/bpf", "--pin-path",
		       PROGRAM
		       " attach veth-server --port 80 --pin-path /sys/fs/bpf/$(printf 'x%.0s' $(seq 300))");
}

CASE("reading commands without an attachment say so")
{
	static const char *const commands[] = { "status",	"stats",
						"listeners",	"connections",
						"key show",	"key rotate",
						"detach --all", "set *:80 policy=shadow" };
	char command[256];

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		snprintf(command, sizeof(command), PROGRAM " %s --pin-path /sys/fs/bpf/xdp-handshake-none",
			 commands[i]);
		expect_refusal(NULL, 1, "nothing is attached", "xdp-handshake attach", command);
	}
}

CASE("after detach --all nothing is left in the kernel, nor pinned")
{
	struct product product = product_new(NULL, NULL);
	int before = ours_in_kernel();

	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	EXPECT(ours_in_kernel() > before);
	product_must(&product, "detach --all --now");
	EXPECT(WAIT_FOR(ours_in_kernel() == before, 3000), "programs or maps are left");
	EXPECT(access(product.pins, F_OK), "the pin path is left");
	EXPECT(!strstr(netns_output(product.pair.server, "ip link show dev " SERVER_IF), "xdp"),
	       "XDP is left");
}

CASE("an interface by another name of its own is known by its first one")
{
	struct product product = product_new(NULL, NULL);

	netns_must(product.pair.server, "ip link property add dev " SERVER_IF " altname front-door");
	product_must(&product, "attach front-door --port 8080 --firewall-checked");
	EXPECT(!strstr(netns_said(), "front-door"), "%s", netns_said());
	netns_must(product.pair.server, "ip link del " SERVER_IF);
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "interface " SERVER_IF " is gone"), "%s", netns_said());
	product_must(&product, "detach " SERVER_IF);
}

CASE("a foreign file under the pin path survives detach")
{
	struct product product = product_new(NULL, "--port 8080");

	netns_must(NULL, "bpftool map create %s/mine type array key 4 value 4 entries 1 name mine",
		   product.pins);
	product_must(&product, "detach --all --now");
	EXPECT(!access(product.pins, F_OK) && !netns_sh(NULL, "test -e %s/mine", product.pins),
	       "it is gone");
	EXPECT_STR(netns_output(NULL, "ls %s", product.pins), "mine");
	netns_must(NULL, "rm %s/mine && rmdir %s", product.pins, product.pins);
}

CASE("a directory that holds something else is refused, and what it holds survives")
{
	struct pair pair = pair_new(NULL);

	netns_must(NULL,
		   "mkdir -p /sys/fs/bpf/xdp-handshake-mine && bpftool map create "
		   "/sys/fs/bpf/xdp-handshake-mine/counters type array key 4 value 4 entries 1 name mine");
	expect_refusal(pair.server, 1, "/sys/fs/bpf/xdp-handshake-mine/counters", "--pin-path",
		       PROGRAM " attach " SERVER_IF " --port 80 --pin-path /sys/fs/bpf/xdp-handshake-mine");
	EXPECT_STR(netns_output(NULL, "ls /sys/fs/bpf/xdp-handshake-mine"), "counters");
	netns_must(NULL, "rm -r /sys/fs/bpf/xdp-handshake-mine");
}

CASE("another network namespace's instance is refused by name")
{
	struct product product = product_new(NULL, "--port 8080");
	char command[256];

	snprintf(command, sizeof(command), PROGRAM " status --pin-path %s", product.pins);
	expect_refusal(product.pair.client, 1, "another network namespace", "nsenter", command);
	snprintf(command, sizeof(command), PROGRAM " attach veth-client --port 80 --pin-path %s",
		 product.pins);
	expect_refusal(product.pair.client, 1, "another network namespace", "--pin-path", command);
}

CASE("an instance of another version is named as such, and left alone")
{
	struct netns *ns = netns_new("version");

	/* Smaller settings than ours, and not all of our maps. */
	netns_must(NULL,
		   "mkdir /sys/fs/bpf/xdph-version && bpftool map create /sys/fs/bpf/xdph-version/settings "
		   "type array key 4 value 64 entries 1 name settings && bpftool map update pinned "
		   "/sys/fs/bpf/xdph-version/settings key 0 0 0 0 value 2 0 0 0 $(printf '0 %%.0s' $(seq "
		   "60))");
	report_at_case_end(remove_version);
	expect_refusal(ns, 1, "have layout 2, this program has", "use the version that attached",
		       PROGRAM " status --pin-path /sys/fs/bpf/xdph-version");
	expect_refusal(ns, 1, "have layout 2, this program has", "use the version that attached",
		       PROGRAM
		       " attach lo --port 80 --firewall-checked --pin-path /sys/fs/bpf/xdph-version");
	EXPECT_EQ(netns_sh(NULL, "test -e /sys/fs/bpf/xdph-version/settings"), 0);
}

CASE("another product's map of the same name is no instance of ours, and left alone")
{
	static const char *const kinds[] = {
		"type percpu_array key 4 value 512 entries 1",
		"type array key 4 value 64 entries 2",
		"type hash key 4 value 64 entries 1",
	};
	static const char *const commands[] = { "status", "attach lo --port 80 --firewall-checked",
						"detach --all", "detach --all --now" };
	struct netns *ns = netns_new("version");
	char command[128];

	report_at_case_end(remove_version);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		netns_must(NULL,
			   "mkdir /sys/fs/bpf/xdph-version && cd /sys/fs/bpf/xdph-version && bpftool map "
			   "create settings %s name settings && bpftool map create ports type array key 4 "
			   "value 4 entries 1 name ports",
			   kinds[i]);
		for (size_t j = 0; j < sizeof(commands) / sizeof(*commands); j++) {
			snprintf(command, sizeof(command),
				 PROGRAM " %s --pin-path /sys/fs/bpf/xdph-version", commands[j]);
			expect_refusal(ns, 1, "/sys/fs/bpf/xdph-version is no instance of ours",
				       "--pin-path", command);
		}
		EXPECT_STR(netns_output(NULL, "ls /sys/fs/bpf/xdph-version"), "ports\nsettings", "%s",
			   kinds[i]);
		remove_version();
	}
}

CASE("what is all there and does not open for now is not called half an instance")
{
	struct product product = product_new(NULL, "--port 8080");
	char command[256];

	snprintf(command, sizeof(command), "ulimit -n 8; exec " PROGRAM " status --pin-path %s",
		 product.pins);
	expect_refusal(product.pair.server, 1, "Too many open files", "try again", command);
	EXPECT(!strstr(netns_said(), "detach"), "%s", netns_said());
	netns_must(NULL, "rm %s/keys", product.pins);
	snprintf(command, sizeof(command), PROGRAM " status --pin-path %s", product.pins);
	expect_refusal(product.pair.server, 1, "half an instance", "detach --all", command);
}

CASE("bpftool shows services and connections by the names of fields and enumerators")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client, server;
	const char *dump;
	char byte;

	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	REQUIRE(client >= 0);
	server = tcp_accept(listener, 1000);
	/* Seen sending: established. */
	EXPECT_EQ(write(server, "x", 1), 1);
	EXPECT_EQ(tcp_read(client, &byte, 1, 1000), 1);
	dump = netns_output(NULL, "bpftool map dump pinned %s/services", product.pins);
	REQUIRE(dump);
	EXPECT(strstr(dump, "\"admission\": \"SERVICE_ADMITTED\"") &&
		       strstr(dump, "\"policy\": \"POLICY_ALWAYS\"") && strstr(dump, "\"rcv_wscale\"") &&
		       strstr(dump, "\"window\""),
	       "%s", dump);
	dump = netns_output(NULL, "bpftool map dump pinned %s/connections", product.pins);
	REQUIRE(dump);
	EXPECT(strstr(dump, "\"state\": \"CONNECTION_ESTABLISHED\"") && strstr(dump, "\"client_isn\"") &&
		       strstr(dump, "\"mss\": 1460") && strstr(dump, "\"local_port\""),
	       "%s", dump);
	/* Only root may read what is pinned, the keys above all. */
	EXPECT_STR(netns_output(NULL, "stat -c %%a %s/keys %s/services | sort -u", product.pins,
				product.pins),
		   "600");
	close(client);
	close(server);
	close(listener);
}

CASE("every pinned map is readable by its BTF, and a policy written by bpftool takes effect")
{
	static const char *const lookups[][2] = {
		/* a map, and fields that its first element has */
		{ "known_tuples", "\"bits\"" }, { "known_notes", "\"settled\"" },
		{ "used_cookies", "\"way\"" },	{ "settings", "\"known_generation\"" },
		{ "ports", "\"value\"" },	{ "counters", "\"syn_answered\"" },
		{ "forgings", "\"until_ms\"" }, { "own_addresses", "\"bits\"" },
	};
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	long long answered;
	const char *said;

	product_admit(&product, SERVER_IP4, PORT);
	for (size_t i = 0; i < sizeof(lookups) / sizeof(*lookups); i++) {
		said = netns_output(NULL, "bpftool map lookup pinned %s/%s key 0 0 0 0", product.pins,
				    lookups[i][0]);
		EXPECT(said && strstr(said, lookups[i][1]), "%s: %s", lookups[i][0], netns_said());
	}
	said = netns_output(NULL, "bpftool map dump pinned %s/interfaces", product.pins);
	EXPECT(said && strstr(said, "\"checksum_partial\"") && strstr(said, SERVER_IF), "%s", netns_said());

	/* As README has it. */
	netns_must(
		NULL,
		"map=%s/services; key=$(bpftool -j map dump pinned $map | jq -r '.[0].key | join(\" \")'); "
		"value=$(bpftool -j map dump pinned $map | jq -r '.[0].value | .[12] = \"0x01\" | join(\" "
		"\")'); "
		"bpftool map update pinned $map key $key value $value",
		product.pins);
	said = netns_output(NULL, "bpftool map dump pinned %s/services", product.pins);
	EXPECT(said && strstr(said, "\"policy\": \"POLICY_SHADOW\""), "%s", netns_said());
	answered = counter(&product, "syn_answered");
	for (int i = 0; i < 5; i++) {
		fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		EXPECT(fd >= 0);
		close(fd);
	}
	EXPECT_EQ(counter(&product, "syn_answered"), answered, "answered in spite of policy shadow");
	EXPECT(counter(&product, "syn_passed_shadow") >= 3);
	close(listener);
}

CASE("listeners, connections, status and stats keep the contract of their JSON")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client, server;
	json_t *value, *row;

	value = product_json(&product, "listeners");
	EXPECT_EQ(json_array_size(value), 1);
	EXPECT(json_is_false(json_object_get(json_array_get(value, 0), "admitted")));
	EXPECT_STR(json_string_value(json_object_get(json_array_get(value, 0), "local")), "[::]:8080");
	json_decref(value);

	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	netns_sysctl(product.pair.client, "net.ipv4.tcp_window_scaling", "0");
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	server = tcp_accept(listener, 1000);
	REQUIRE(client >= 0 && server >= 0);

	value = product_json(&product, "listeners");
	row = json_array_get(value, 0);
	EXPECT_STR(json_string_value(json_object_get(row, "local")), SERVER_IP4 ":8080");
	EXPECT_STR(json_string_value(json_object_get(row, "policy")), "always");
	EXPECT(json_is_true(json_object_get(row, "admitted")));
	EXPECT_EQ(json_integer_value(json_object_get(row, "mss")), 1460);
	EXPECT(json_is_integer(json_object_get(row, "rcv_wscale")) &&
	       json_is_integer(json_object_get(row, "window")));
	json_decref(value);

	value = product_json(&product, "connections");
	for (size_t i = 0; i < json_array_size(value); i++)
		if (json_is_true(json_object_get(row = json_array_get(value, i), "promoted")) &&
		    !strcmp(json_string_value(json_object_get(row, "state")), "ESTABLISHED"))
			break;
	EXPECT_STR(json_string_value(json_object_get(row, "local")), SERVER_IP4 ":8080");
	EXPECT(!strncmp(json_string_value(json_object_get(row, "remote")), CLIENT_IP4 ":", 10));
	EXPECT_EQ(json_integer_value(json_object_get(row, "mss")), 1460);
	EXPECT(json_is_null(json_object_get(row, "snd_wscale")) &&
		       json_is_null(json_object_get(row, "rcv_wscale")),
	       "a scale that was not negotiated is null");
	EXPECT(json_is_true(json_object_get(row, "sack")) &&
	       json_is_true(json_object_get(row, "timestamps")) &&
	       json_is_false(json_object_get(row, "ecn")));
	json_decref(value);

	value = product_json(&product, "status");
	row = json_array_get(json_object_get(value, "interfaces"), 0);
	EXPECT_STR(json_string_value(json_object_get(row, "name")), SERVER_IF);
	EXPECT_STR(json_string_value(json_object_get(row, "mode")), "native");
	EXPECT_STR(json_string_value(json_object_get(row, "promote")), "reqsk");
	EXPECT(json_is_object(json_object_get(value, "keys")) &&
	       json_is_array(json_object_get(value, "warnings")));
	json_decref(value);
	close(client);
	close(server);
	close(listener);
}

CASE("set changes a service's policy, live")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	long long answered;

	product_admit(&product, SERVER_IP4, PORT);
	EXPECT_EQ(product_run(&product, "set 10.77.0.9:8080 policy=shadow"), 1, "no such service");
	product_must(&product, "set " SERVER_IP4 ":8080 policy=shadow");
	answered = counter(&product, "syn_answered");
	for (int i = 0; i < 5; i++) {
		fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		EXPECT(fd >= 0);
		close(fd);
	}
	EXPECT_EQ(counter(&product, "syn_answered"), answered, "answered in spite of it");
	EXPECT(counter(&product, "syn_passed_shadow") >= 3);
	product_must(&product, "set *:8080 policy=always");
	for (int i = 0; i < 5; i++) {
		fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		EXPECT(fd >= 0);
		close(fd);
	}
	EXPECT(counter(&product, "syn_answered") > answered, "not answered any more");
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}

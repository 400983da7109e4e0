// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Least privilege: what the daemon may still do once it runs, what attaching takes, who may open what is
 * pinned, and that no master key leaves the kernel: not in outputs, not in what a command has in its memory
 * when it exits, not in core dumps.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <abi.h>

#include "product.h"

#define TOOLS	  "build/tests/tools/"
#define LOG	  "build/tests/privilege.log"
#define OTHER_LOG "build/tests/privilege.other"
#define CORES	  "build/tests/privilege-cores"

enum {
	PORT = 8080,
	ARGUMENTS = 24,
	ATTACH_MS = 60000, /* on a machine that others use as well */
};

/*
 * One attachment for most cases, with its daemon: the verifier takes seconds for each. It lives until the
 * program ends.
 */
static struct product product;
static pid_t daemon_pid;

static void remove_pins(void)
{
	netns_sh(NULL, PROGRAM " detach --all --now --pin-path %s", product.pins);
	netns_sh(NULL, "rm -f " LOG);
}

/* One line of /proc/PID/status, or "". */
static const char *process_status(pid_t pid, const char *field)
{
	return netns_output(NULL, "sed -n 's/^%s:[[:space:]]*//p' /proc/%d/status", field, pid) ?: "";
}

/* ---- the keys that the kernel has ---- */

enum {
	KEY_BYTES = sizeof(struct siphash_key),
	KEYS_MAX = 4 * KEY_SLOTS,
};

/* All that have been seen so far. */
static struct {
	struct siphash_key key[KEYS_MAX];
	int count;
} seen;

static int keys_fd(void)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/keys", product.pins);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void keys_look(void)
{
	int fd = keys_fd();

	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		struct master_key key;
		bool known = false;

		REQUIRE(!bpf_map_lookup_elem(fd, &slot, &key), "slot %u: %s", slot, strerror(errno));
		for (int i = 0; i < seen.count; i++)
			known |= !memcmp(&seen.key[i], &key.key, KEY_BYTES);
		if (!key.set || known)
			continue;
		REQUIRE(seen.count < KEYS_MAX);
		seen.key[seen.count++] = key.key;
	}
	close(fd);
}

static void setup(void)
{
	product.pair = pair_new(NULL);
	snprintf(product.pins, sizeof(product.pins), "/sys/fs/bpf/xdp-handshake-test-%d", getpid());
	atexit(remove_pins);
	netns_sh(NULL, "rm -f " LOG); /* of an earlier one */
	daemon_pid = netns_spawn(product.pair.server, LOG,
				 "sh -c 'umask 0; exec " PROGRAM " run " SERVER_IF
				 " --port 8080 --turn 1 --epoch 1 --firewall-checked -vv --pin-path %s'",
				 product.pins);
	REQUIRE(WAIT_FOR(file_says(LOG, "attached;"), ATTACH_MS), "%s",
		netns_output(NULL, "tail -n 3 " LOG));
	keys_look();
	REQUIRE(seen.count == 1);
}

/* ---- the daemon ---- */

static long long setting(const char *name)
{
	const char *value =
		netns_output(NULL, "bpftool -j map dump pinned %s/settings | jq .[0].formatted.value.%s",
			     product.pins, name);

	REQUIRE(value, "%s", netns_said());
	return atoll(value);
}

/* Waits for so many turns of the filter. */
static void expect_turns(int turns)
{
	for (int i = 0; i < turns; i++) {
		const long long last = setting("turned_ms");

		REQUIRE(WAIT_FOR(setting("turned_ms") != last, 8000), "the generations do not turn: %s",
			netns_output(NULL, "tail -n 3 " LOG));
	}
}

static int recorded(void)
{
	const char *number = netns_output(NULL, "bpftool -j map dump pinned %s/connections | jq length",
					  product.pins);

	REQUIRE(number, "%s", netns_said());
	return atoi(number);
}

CASE("run keeps no capability once it has attached, and turns, refills and sweeps as ever")
{
	static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client, server;
	char byte;

	for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
		EXPECT_STR(process_status(daemon_pid, sets[i]), "0000000000000000", "%s", sets[i]);
	EXPECT_STR(process_status(daemon_pid, "NoNewPrivs"), "1");

	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	server = tcp_accept(listener, 1000);
	REQUIRE(client >= 0 && server >= 0);
	expect_turns(3);
	/* Twice emptied, and known all the same: the refill has found the connection. */
	EXPECT_EQ(write(client, "x", 1), 1);
	EXPECT_EQ(tcp_read(server, &byte, 1, 1000), 1);
	EXPECT_EQ(counter(&product, "ack_connected"), 0, "the refill has missed a connection");
	/* What product_admit() opened and closed is forgotten, what is open is not. */
	EXPECT(WAIT_FOR(recorded() == 1, 8000), "%d connections are recorded", recorded());
	close(client);
	close(server);
	close(listener);
}

CASE("what the programs count in the settings is not put back when the filter turns")
{
	const int64_t until = now_ms() + 5000;
	const __u32 zero = 0;
	struct settings set;
	__u32 resets = 0;
	const int fd = product_pin(&product, "settings");
	int back = 0;

	/* As bpf/learn.h does, but for what a write of the daemon's at the same moment may undo. */
	do {
		REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set));
		back += set.resets < resets;
		set.resets = ++resets;
		REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_EXIST));
		poll(NULL, 0, 10);
	} while (now_ms() < until);
	close(fd);
	EXPECT(back <= 1, "%d of some five turns have put it back", back);
}

/* ---- where privileges cannot be given up ---- */

struct program {
	char *arguments[ARGUMENTS];
	char line[512];
	const char *output; /* or NULL */
};

/* The words of a command line, for execv(). */
static struct program *program_new(const char *command, const char *output)
{
	static struct program program;
	char *word, *save;
	int count = 0;

	program.output = output;
	snprintf(program.line, sizeof(program.line), PROGRAM " %s --pin-path %s", command, product.pins);
	for (word = strtok_r(program.line, " ", &save); word && count < ARGUMENTS - 1;
	     word = strtok_r(NULL, " ", &save))
		program.arguments[count++] = word;
	program.arguments[count] = NULL;
	return &program;
}

static int program_execute(const struct program *program)
{
	int fd = open(program->output ?: "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execv(program->arguments[0], program->arguments);
	return 127;
}

/* As in a container that filters system calls: capset() is not allowed. */
static int program_without_capset(void *program)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_capset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filters = { .len = sizeof(filter) / sizeof(*filter), .filter = filter };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters))
		return 126;
	return program_execute(program);
}

CASE("where capabilities cannot be given up, run says so in one line and leaves; the programs stay")
{
	pid_t run = netns_fork(product.pair.server, program_without_capset,
			       program_new("run " SERVER_IF " --port 8080 --firewall-checked", OTHER_LOG));

	EXPECT_EQ(netns_stop(run, 0, ATTACH_MS), 1);
	EXPECT_STR(netns_output(NULL, "cat " OTHER_LOG),
		   "xdp-handshake: cannot give up capabilities: Operation not permitted");
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "answering"), "%s", netns_said());
	netns_sh(NULL, "rm -f " OTHER_LOG);
}

/* ---- what is pinned ---- */

static int files, folders;

static int check_mode(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	const mode_t mode = stat->st_mode & 07777;

	(void)ftw;
	if (type == FTW_F) {
		EXPECT(mode == 0600, "%s has mode %o", path, mode);
		files++;
	} else {
		EXPECT(type == FTW_D && mode == 0700, "%s has mode %o", path, mode);
		folders++;
	}
	EXPECT_EQ(stat->st_uid, 0, "%s", path);
	return 0;
}

CASE("whatever is pinned is its owner's alone: files 0600, folders 0700, whatever the umask")
{
	files = folders = 0;
	EXPECT_EQ(nftw(product.pins, check_mode, 16, FTW_PHYS), 0);
	/* Thirteen maps, two iterators, a program, five links; DIR, programs, links, links/IFINDEX. */
	EXPECT_EQ(files, 21);
	EXPECT_EQ(folders, 4);
}

/* ---- the fingerprint ---- */

/* What `key show` calls the key that is in use. */
static __u32 fingerprint(void)
{
	unsigned int number;
	int end = 0;

	product_must(&product, "key show");
	REQUIRE(sscanf(netns_said(), "fingerprint %8x%n", &number, &end) == 1 && end == 20, "%s",
		netns_said());
	return number;
}

/* The fingerprint of a key with some of its bits turned over. */
static __u32 fingerprint_of(int fd, struct master_key key, int bit, int other)
{
	const __u32 slot = 0;

	for (int i = 0; i < 2; i++) {
		const int turn = i ? other : bit;

		if (turn >= 0)
			((uint8_t *)&key.key)[turn / 8] ^= (uint8_t)(1 << turn % 8);
	}
	REQUIRE(!bpf_map_update_elem(fd, &slot, &key, BPF_ANY), "%s", strerror(errno));
	return fingerprint();
}

CASE("key show tells age and fingerprint and no more, and the fingerprint nothing of the key's bits")
{
	enum { BITS = KEY_BYTES * 8, STEP = 2 };
	const __u32 slot = 0;
	struct master_key key;
	__u32 plain, bits[BITS];
	int fd, turned = 0, linear = 0;
	json_t *shown;

	product_must(&product, "key show");
	EXPECT_EQ(netns_sh(NULL, "echo '%.*s' | grep -qxE 'fingerprint [0-9a-f]{8}, made [0-9]+s ago'",
			   (int)strcspn(netns_said(), "\n"), netns_said()),
		  0);
	EXPECT(strchr(netns_said(), '\n') == NULL, "%s", netns_said());
	shown = product_json(&product, "key show");
	EXPECT_EQ(json_object_size(shown), 2);
	EXPECT_EQ(strlen(json_string_value(json_object_get(shown, "fingerprint")) ?: ""), 8);
	EXPECT(json_is_integer(json_object_get(shown, "age_s")));
	json_decref(shown);

	/* The key that applies is in there as long as none has been rotated in. */
	fd = keys_fd();
	REQUIRE(!bpf_map_lookup_elem(fd, &slot, &key));
	plain = fingerprint();
	/* Not four bytes of it, in either order. By chance: one case of 1.6 * 10^8. */
	for (int i = 0; i + 4 <= KEY_BYTES; i++) {
		__u32 piece;

		memcpy(&piece, (uint8_t *)&key.key + i, sizeof(piece));
		EXPECT(piece != plain && __builtin_bswap32(piece) != plain, "bytes %d to %d", i, i + 3);
	}
	/*
	 * Each bit of the key counts, and turns over half of the fingerprint's: of 64 * 32 bits 1024, give
	 * or take 23. Beyond nine times that, one case of 10^18. And what two bits do together is not what
	 * each does: no sum of bits says anything of them.
	 */
	for (int i = 0; i < BITS; i += STEP) {
		bits[i] = fingerprint_of(fd, key, i, -1);
		EXPECT(bits[i] != plain, "bit %d does not count", i);
		turned += __builtin_popcount(bits[i] ^ plain);
		if (i % 8 == STEP)
			linear += fingerprint_of(fd, key, i, i - STEP) ==
				  (bits[i] ^ bits[i - STEP] ^ plain);
	}
	EXPECT(turned > 1024 - 207 && turned < 1024 + 207, "%d bits of the fingerprint are turned over",
	       turned);
	EXPECT_EQ(linear, 0);
	/* And back to the one that the daemon has made. */
	fingerprint_of(fd, key, -1, -1);
	close(fd);
}

/* ---- the ways in which keys might show ---- */

enum {
	TEXTS = 12,
};

struct pattern {
	char bytes[64];
	size_t size;
	const char *what;
};

static void pattern_text(struct pattern *pattern, const char *what, const void *bytes, size_t size,
			 const char *format)
{
	int length = 0;

	for (size_t i = 0; i < size; i++)
		length += snprintf(pattern->bytes + length, sizeof(pattern->bytes) - (size_t)length, format,
				   ((const uint8_t *)bytes)[i]);
	/* "0x12 0x34 ": without the last blank. */
	while (length && pattern->bytes[length - 1] == ' ')
		length--;
	pattern->size = (size_t)length;
	pattern->what = what;
}

/* Base64 of whole triplets: what comes behind them depends on what follows. */
static void pattern_base64(struct pattern *pattern, const uint8_t *bytes, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t length = 0;

	for (size_t i = 0; i + 3 <= size; i += 3) {
		const unsigned int word = (unsigned int)(bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2]);

		for (int shift = 18; shift >= 0; shift -= 6)
			pattern->bytes[length++] = digits[word >> shift & 63];
	}
	pattern->size = length;
	pattern->what = "base64";
}

static void pattern_raw(struct pattern *pattern, const char *what, const void *bytes, size_t size)
{
	memcpy(pattern->bytes, bytes, size);
	pattern->size = size;
	pattern->what = what;
}

/* Finds half a key, in whatever form. Half of one: what is overwritten is seldom so to the last byte. */
static const char *find_half(const char *bytes, size_t size, __u64 half, bool first)
{
	/* As SipHash begins with them (siphash.h): what is left of a hash in the making. */
	static const __u64 constants[2][2] = { { 0x736f6d6570736575ULL, 0x6c7967656e657261ULL },
					       { 0x646f72616e646f6dULL, 0x7465646279746573ULL } };
	const __u64 turned = __builtin_bswap64(half),
		    begun[2] = { half ^ constants[!first][0], half ^ constants[!first][1] };
	struct pattern patterns[TEXTS] = {};
	int count = 0;

	pattern_raw(&patterns[count++], "as it is", &half, sizeof(half));
	pattern_raw(&patterns[count++], "turned round", &turned, sizeof(turned));
	pattern_raw(&patterns[count++], "as a hash's state", &begun[0], sizeof(begun[0]));
	pattern_raw(&patterns[count++], "as a hash's state", &begun[1], sizeof(begun[1]));
	pattern_text(&patterns[count++], "hexadecimal", &half, sizeof(half), "%02x");
	pattern_text(&patterns[count++], "hexadecimal", &half, sizeof(half), "%02X");
	pattern_text(&patterns[count++], "hexadecimal, turned round", &turned, sizeof(turned), "%02x");
	pattern_text(&patterns[count++], "hexadecimal, turned round", &turned, sizeof(turned), "%02X");
	pattern_text(&patterns[count++], "hexadecimal bytes", &half, sizeof(half), "%02x ");
	pattern_text(&patterns[count++], "hexadecimal bytes", &half, sizeof(half), "0x%02x ");
	for (int sign = 0; sign < 2; sign++, count++) {
		patterns[count].what = "decimal";
		patterns[count].size = (size_t)snprintf(patterns[count].bytes, sizeof(patterns->bytes),
							sign ? "%lld" : "%llu", (long long)half);
	}
	for (int i = 0; i < count; i++)
		if (memmem(bytes, size, patterns[i].bytes, patterns[i].size))
			return patterns[i].what;
	return NULL;
}

/* In what form one of the keys is in there, or NULL. */
static const char *find_keys(const char *bytes, size_t size)
{
	struct pattern pattern;

	for (int i = 0; i < seen.count; i++) {
		const uint8_t *key = (const uint8_t *)&seen.key[i];
		const char *what = find_half(bytes, size, seen.key[i].k0, true)
					   ?: find_half(bytes, size, seen.key[i].k1, false);

		if (what)
			return what;
		for (size_t skip = 0; skip < 3; skip++) {
			pattern_base64(&pattern, key + skip, KEY_BYTES - skip);
			if (memmem(bytes, size, pattern.bytes, pattern.size))
				return pattern.what;
		}
	}
	return NULL;
}

static void expect_no_keys(const char *bytes, size_t size, const char *where)
{
	const char *what = find_keys(bytes, size);

	EXPECT(!what, "%s: a master key, %s", where, what);
}

/*
 * Looks for keys in the memory of a process, as a core dump would have it: all of it, or what it can write
 * to. Yields how much it was.
 */
static size_t expect_memory_clean(pid_t pid, bool all, const char *where)
{
	char path[64], line[512], access[8];
	size_t looked = 0;
	FILE *maps;
	int memory;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	memory = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	REQUIRE(memory >= 0 && maps, "process %d: %s", pid, strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		unsigned long begin, end;
		ssize_t size;
		char *bytes;

		if (sscanf(line, "%lx-%lx %7s", &begin, &end, access) != 3 || (!all && access[1] != 'w'))
			continue;
		bytes = malloc(end - begin);
		REQUIRE(bytes);
		/* What is not there, or is the kernel's (vvar), cannot be read. */
		size = pread(memory, bytes, end - begin, (off_t)begin);
		if (size > 0) {
			looked += (size_t)size;
			expect_no_keys(bytes, (size_t)size, where);
		}
		free(bytes);
	}
	fclose(maps);
	close(memory);
	return looked;
}

/* ---- commands, stopped on their way ---- */

static int program_traced(void *program)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &unlimited);
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
		return 126;
	return program_execute(program);
}

/* Starts a command and leaves it where it begins, with @options on what is to be told of it. */
static pid_t trace_start(const char *command, long options)
{
	pid_t pid = netns_fork(product.pair.server, program_traced, program_new(command, NULL));
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "%s", command);
	REQUIRE(!ptrace(PTRACE_SETOPTIONS, pid, 0, options | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC), "%s",
		strerror(errno));
	return pid;
}

/* Lets it go on (@request) until it stops for @event; false if it ended instead. Signals are its own. */
static bool trace_until(pid_t pid, int request, int event, int *status)
{
	int sig = 0;

	for (;;) {
		REQUIRE(!ptrace((enum __ptrace_request)request, pid, 0, sig), "%s", strerror(errno));
		REQUIRE(waitpid(pid, status, 0) == pid);
		if (!WIFSTOPPED(*status))
			return false;
		if (*status >> 8 == event)
			return true;
		sig = *status >> 16 || WSTOPSIG(*status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(*status);
	}
}

/* The call that a process is about to make, or -1 if it is at the end of one. */
static long trace_call(pid_t pid)
{
	struct __ptrace_syscall_info info = {};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	return (long)info.entry.nr;
}

/*
 * A key is in the memory of a command from the call that brings it to the one that takes it away: bpf(2),
 * getrandom(2). Before any other call of it, it is gone.
 */
static void expect_clean_memory(const char *command)
{
	pid_t pid = trace_start(command, PTRACE_O_TRACESYSGOOD);
	bool fetched = false;
	size_t looked = 0;
	int status = 0;

	while (trace_until(pid, PTRACE_SYSCALL, SIGTRAP | 0x80, &status)) {
		const long call = trace_call(pid);

		fetched |= call == SYS_bpf || call == SYS_exit_group;
		if (!fetched || call < 0 || call == SYS_bpf || call == SYS_getrandom)
			continue;
		fetched = false;
		keys_look();
		looked = expect_memory_clean(pid, call == SYS_exit_group, command);
	}
	EXPECT(WIFEXITED(status) && !WEXITSTATUS(status), "%s: status %x", command, status);
	EXPECT(looked > 1 << 20, "%s: only %zu bytes of it were seen in the end", command, looked);
	netns_stop(pid, 0, 0);
}

CASE("the memory of the daemon, which has made a key, holds none, nor that of commands but while they "
     "fetch it")
{
	static const char *const commands[] = { "key show",	"key show --json", "key rotate",
						"status",	"status --json",   "connections",
						"key rotate -v" };
	const int before = seen.count;
	char sample[64];

	/* What looks for them finds them where they are. */
	memset(sample, 'x', sizeof(sample));
	memcpy(sample + 7, &seen.key[0].k1, sizeof(seen.key[0].k1));
	EXPECT_STR(find_keys(sample, sizeof(sample)), "as it is");
	snprintf(sample, sizeof(sample), "key %016llx", (unsigned long long)seen.key[0].k0);
	EXPECT_STR(find_keys(sample, sizeof(sample)), "hexadecimal, turned round");

	EXPECT(expect_memory_clean(daemon_pid, true, "run") > 1 << 20);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		expect_clean_memory(commands[i]);
	EXPECT_EQ(seen.count, before + 2);
	expect_turns(1);
	expect_memory_clean(daemon_pid, true, "run");
}

/* ---- core dumps ---- */

/* Whether the process, killed by SIGABRT within its next system call, leaves a core dump. */
static bool dumps_core(pid_t pid, const char *what)
{
	int status;

	if (trace_until(pid, PTRACE_CONT, SIGTRAP | PTRACE_EVENT_EXEC << 8, &status)) {
		long call = -1;

		/* Deep in it: where it first speaks to BPF; sleep(1), where it sleeps. */
		while (call != SYS_bpf && call != SYS_clock_nanosleep &&
		       trace_until(pid, PTRACE_SYSCALL, SIGTRAP | 0x80, &status))
			call = trace_call(pid);
		REQUIRE(WIFSTOPPED(status), "%s ended before it could be killed", what);
		kill(pid, SIGABRT);
		trace_until(pid, PTRACE_CONT, -1, &status);
	}
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %x", what, status);
	netns_stop(pid, 0, 0);
	return WIFSIGNALED(status) && WCOREDUMP(status);
}

static int sleep_traced(void *unused)
{
	static char *arguments[] = { "/bin/sleep", "1", NULL };
	static struct program program;

	(void)unused;
	memcpy(program.arguments, arguments, sizeof(arguments));
	if (chdir(CORES))
		return 126;
	return program_traced(&program);
}

static void remove_cores(void)
{
	netns_sh(NULL, "rm -rf " CORES " core core.*[0-9]");
}

CASE("killed on its way, no command dumps a core, whatever the limit")
{
	static const char *const commands[] = {
		"attach " SERVER_IF " --port 8080 --firewall-checked",
		"run " SERVER_IF " --port 8080 --firewall-checked",
		"key rotate",
		"key show",
		"status",
	};
	int status;
	pid_t pid;

	report_at_case_end(remove_cores);
	netns_must(NULL, "mkdir -p " CORES);
	pid = netns_fork(NULL, sleep_traced, NULL);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	REQUIRE(!ptrace(PTRACE_SETOPTIONS, pid, 0,
			PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD));
	if (!dumps_core(pid, "sleep"))
		SKIP("this machine makes no core dumps (%s)",
		     netns_output(NULL, "cat /proc/sys/kernel/core_pattern"));
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		EXPECT(!dumps_core(trace_start(commands[i], PTRACE_O_TRACESYSGOOD), commands[i]), "%s",
		       commands[i]);
}

/* ---- outputs ---- */

CASE("no command prints a key, plain, as JSON or with -vv; nor does the daemon's log")
{
	static const char *const commands[] = {
		"status",
		"listeners",
		"connections",
		"stats",
		"key rotate",
		"key show",
		"set *:8080 policy=always",
		"explain --live --wait 1",
	};
	static char said[4 << 20];
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	const int before = seen.count;
	size_t size = 0;

	product_admit(&product, SERVER_IP4, PORT);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		for (int how = 0; how < 4; how++) {
			netns_sh(product.pair.server, PROGRAM " %s%s%s --pin-path %s", commands[i],
				 how & 1 ? " --json" : "", how & 2 ? " -vv" : "", product.pins);
			keys_look();
			size += (size_t)snprintf(said + size, sizeof(said) - size, "%s\n", netns_said());
			REQUIRE(size < sizeof(said));
			if (!strncmp(commands[i], "explain", 7))
				break;
		}
	/* libbpf's own words at loading among them. */
	size += (size_t)snprintf(said + size, sizeof(said) - size, "%s\n", netns_output(NULL, "cat " LOG));
	REQUIRE(size < sizeof(said));
	EXPECT(size > 10000, "only %zu bytes were said", size);
	EXPECT(seen.count >= before + 2, "%d keys were in use", seen.count - before);
	expect_no_keys(said, size, "outputs");
	close(listener);
}

/* ---- a user with three capabilities ---- */

/* Such a user: the capabilities of README's Requirements and no others, by no way. */
#define CAPABILITIES "-all,+bpf,+net_admin,+perfmon"
#define AS_USER                                                                                            \
	"setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=" CAPABILITIES                      \
	" --ambient-caps=" CAPABILITIES " --bounding-set=" CAPABILITIES " "

/* One mount namespace for all of it: pins live as long as their file system. $1: of the client. */
static const char script[] = "set -e\n"
			     "mount -t bpf -o mode=0700 bpf /mnt\n"
			     "chown 65534:65534 /mnt\n"
			     "product() { command=$1; shift; " AS_USER PROGRAM
			     " $command \"$@\" --pin-path /mnt/x; }\n"
			     "says() { tee /dev/stderr | grep -q -e \"$1\"; }\n" AS_USER PROGRAM
			     " run " SERVER_IF
			     " --port 8080 --turn 1 --epoch 1 --pin-path /mnt/x 2>" OTHER_LOG " &\n"
			     "run=$!\n"
			     "until grep -q 'attached;' " OTHER_LOG "; do sleep 0.1; kill -0 $run; done\n"
			     "grep -E '^Cap(Inh|Prm|Eff|Amb):.*[1-9a-f]$' /proc/$run/status && exit 1\n"
			     "set -x\n"
			     "nsenter --net=$1 " TOOLS "churn --connect " SERVER_IP4
			     " --port 8080 --count 20 --payload 10\n"
			     "product status | says answering\n"
			     "product stats --json | jq -e '.counters.promoted > 10'\n"
			     "product listeners | says " SERVER_IP4 ":8080\n"
			     "product connections\n"
			     "product set '*:8080' policy=always\n"
			     "product key rotate\n"
			     "product key show | says fingerprint\n"
			     "set +x\n"
			     "until bpftool -j map dump pinned /mnt/x/settings | jq -e "
			     "'.[0].formatted.value.turned_ms > 0'; do\n"
			     "	sleep 0.1; kill -0 $run\n"
			     "done\n"
			     "set -x\n"
			     "kill $run\n"
			     "wait $run\n"
			     "# Draining still, though its program is no longer what detach would take.\n"
			     "product detach --all & detach=$!\n"
			     "until product status | says draining; do sleep 0.1; done\n"
			     "kill -9 $detach $(cat /proc/$detach/task/$detach/children)\n"
			     "ip link add second type veth peer name third\n"
			     "product attach second --port 8080 --mode generic\n"
			     "product status | says '" SERVER_IF " *draining'\n"
			     "product status | says 'second *answering'\n"
			     "product detach --all &\n"
			     "until product status | says draining; do sleep 0.1; done\n"
			     "wait $!\n"
			     "test ! -e /mnt/x\n";

CASE("a user with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and a bpf file system of his own can do all of it")
{
	const struct pair pair = pair_new(NULL);

	netns_spawn(pair.server, "/dev/null", TOOLS "respond --port %d --quiet", PORT);
	REQUIRE(WAIT_FOR(netns_listens(pair.server, PORT), 3000));
	EXPECT_EQ(netns_sh(pair.server, "timeout 60 unshare -m sh -s %s <<'E'\n%sE\n", pair.client->path,
			   script),
		  0, "%s", netns_said());
	/* Said where it applies, and the daemon stays. */
	EXPECT(file_says(OTHER_LOG, "bounding set stays as it is"), "%s",
	       netns_output(NULL, "cat " OTHER_LOG));
	netns_sh(NULL, "rm -f " OTHER_LOG);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, setup);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The soak: everything that happens to the product, all together, for as long as one likes.
 *
 *	make soak SECONDS=3600
 *
 * Floods: SYNs with and without timestamps, by IPv4 and IPv6, and ACKs, from random sources.
 *
 * Clients: connect, send, want it back byte for byte, close first or last. Some are far away, by paths that
 * lose segments, half of those without timestamps; some stay connected from the beginning to the end. SACK,
 * scaling and ECN come and go with sysctls. None may fail.
 *
 * Listeners: the server hands its port over to its successor; on other ports, listeners come and go.
 *
 * The operator: key rotate, attach over the running attachment, set policy and guard; one `run` stays, and
 * another one is killed with SIGKILL at random moments and started again.
 *
 * Some of the clients go to a server alike on a port that is not protected: what the stack makes of it all.
 * In the end the counters must add up, and nothing may have grown.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <bpf/bpf.h>
#include <linux/filter.h>

#include "product.h"

#define TOOLS "build/tests/tools/"

enum {
	PORT = 8080,	    /* protected, and served from the beginning to the end */
	NATIVE_PORT = 9090, /* the same without protection */
	FIRST_NOISE_PORT = 8081,
	NOISE_PORTS = 4, /* protected; their listeners come and go */

	DEFAULT_SECONDS = 20, /* in `make check` */
	PRINT_MS = 10000,

	CLIENTS = 12,
	NATIVE_CLIENTS = 4,
	FAR_CLIENTS = 24, /* a hundred milliseconds there and back: their handshakes are always under way */
	FAR_NATIVE_CLIENTS = 6,
	FAR_MS = 50,
	FAR_LOSS = 1, /* per cent, each way */
	NOISE_CLIENTS = 2,
	CLIENT_PAUSE_MS = 25, /* between two connections of a client, on average */
	CLIENT_MS = 30000,    /* for all of a connection: the stack's own retransmissions fit in */
	TRANSFERS = 16,
	TRANSFER_PAUSE_MS = 50,
	MESSAGE_MAX = 16384,

	/* SYNs and ACKs a second: also where the stack has to answer them, there is room for the load. */
	FLOOD_LINUX = 20000,
	FLOOD_PLAIN = 8000,
	FLOOD_IPV6 = 8000,
	FLOOD_ACKS = 5000,

	FLOODS = 4,
	EPOCH_SECONDS = 4,
	/* For handshakes in flight when a listener retires: those by way of the stack have it by name. */
	GRACE_MS = 1500,

	/* What a flood has put into the stack's SYN queue is gone, by tcp_synack_retries. */
	STACK_MS = 4000,

	REASON = 400,
	ODD_MS = 5000,
	RETIRED = 64,
	ATTACH_MS = 60000, /* the verifier takes seconds, and others use the machine as well */
};

/* ---- what the processes share ---- */

/* What is done beside the load; each is kept by a process: commands wait for one another. */
enum deed {
	ROTATE,
	ATTACH,
	KILL,
	POLICY,
	OPTIONS,
	HAND_OVER,
	DEEDS,
};

static const struct {
	const char *name;
	int pace_ms; /* of pauses: on average */
	int least;   /* in a minute, however busy the machine */
} deeds[DEEDS] = {
	[ROTATE] = { "keys rotated", 6000, 4 },	    [ATTACH] = { "attached over it", 6000, 2 },
	[KILL] = { "daemons killed", 6000, 4 },	    [POLICY] = { "policies set", 700, 6 },
	[OPTIONS] = { "sysctls changed", 500, 15 }, [HAND_OVER] = { "servers handed over", 1500, 6 },
};

/* Where clients are. */
enum place {
	PLACE_NEAR,
	PLACE_FAR, /* by one path that loses segments, or by the other */
	PLACE_FAR_TOO,
	PLACES,
};

/* Of one port. */
struct tally {
	long connects;	 /* begun */
	long ok;	 /* and ended well */
	long failed;	 /* or not */
	long accepted;	 /* by its servers */
	long long bytes; /* that came back as they were sent */
};

struct shared {
	bool over;
	bool shadow;	  /* the stack has the flood */
	int64_t brief_ms; /* until when its SYN queue is full, and clients are brief */
	struct tally counted, native;
	long noise; /* connections to listeners that come and go, whatever became of them */
	long transfer_rounds;
	long done[DEEDS];
	int64_t begun_ms[DEEDS]; /* the last time */
	int listeners;		 /* of the ports that are there for good */
	int connecting[PLACES];	 /* handshakes under way */
	bool changing[PLACES];	 /* its sysctls, so that none begins */
	char reasons[8][REASON];
	long reason_count;
};

static struct shared *shared;

#define SHARED_ADD(field, number) __atomic_fetch_add(&shared->field, number, __ATOMIC_RELAXED)

/* Whether the kernel's cookies may have answered the SYN of a connection begun at @begin_ms. */
static bool to_be_brief(int64_t begin_ms)
{
	return __atomic_load_n(&shared->brief_ms, __ATOMIC_RELAXED) >= begin_ms;
}

static bool over(void)
{
	return __atomic_load_n(&shared->over, __ATOMIC_RELAXED);
}

/* And what was done shortly before: one of these may be why. */
__attribute__((format(printf, 1, 2))) static void note_oddity(const char *format, ...)
{
	const long number = SHARED_ADD(reason_count, 1);
	char *text = shared->reasons[number];
	va_list list;
	size_t have;

	if (number >= (long)(sizeof(shared->reasons) / sizeof(*shared->reasons)))
		return;
	va_start(list, format);
	vsnprintf(text, REASON, format, list);
	va_end(list);
	for (enum deed deed = 0; deed < DEEDS; deed++) {
		const int64_t ms = now_ms() - shared->begun_ms[deed];

		have = strlen(text);
		if (ms < ODD_MS)
			snprintf(text + have, REASON - have, "; %s %lld ms ago", deeds[deed].name,
				 (long long)ms);
	}
	have = strlen(text);
	snprintf(text + have, REASON - have, "; policy %s", shared->shadow ? "shadow" : "not shadow");
}

/* Each process its own. */
static uint64_t random_state;

static unsigned int below(unsigned int number)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned int)(z >> 33) % number;
}

/* ---- the server: says what it hears ---- */

/*
 * A message is its length and so many bytes more, and comes back as it is, with a tail. With SERVER_CLOSES
 * in its length, the server closes first.
 *
 * The tail is for the kernel's own cookies, which shadow and the floods bring about: they add up sequence
 * numbers, and would take the last segment of a conversation of equal parts for the end of its handshake,
 * if it is sent again when all is over.
 */
enum {
	SERVER_CLOSES = 1 << 30,
	TAIL = 16,
};

struct message {
	uint32_t length;
	uint8_t bytes[MESSAGE_MAX + TAIL];
};

struct served {
	int fd;
	uint32_t have;
	bool closing;
	bool spoken; /* at least one message was whole */
	int64_t accepted_ms;
	char remote[64];
	struct message message;
};

struct server {
	int port;
	struct tally *tally;
	int told; /* a pipe: it listens */
	pid_t pid, predecessor;
};

static int serve_listen(int port, int epoll)
{
	/* The newest of the group takes what comes: the second one, while its predecessor is there. */
	struct sock_filter newest = BPF_STMT(BPF_RET | BPF_K, 1);
	struct sock_fprog program = { .len = 1, .filter = &newest };
	struct epoll_event event = { .events = EPOLLIN };
	struct sockaddr_storage storage;
	const socklen_t length = tcp_address(&storage, NULL, port);
	const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) ||
	    bind(fd, (void *)&storage, length) || listen(fd, 1024) ||
	    setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) {
		perror("soak: server");
		_exit(1);
	}
	return fd;
}

static int serve_accept(const struct server *server, int listener, int epoll)
{
	const int room = 4 * sizeof(struct message);
	struct sockaddr_in6 remote;
	socklen_t size = sizeof(remote);
	char text[INET6_ADDRSTRLEN];
	int fd, number = 0;

	while ((fd = accept4(listener, (void *)&remote, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct served *served = calloc(1, sizeof(*served));
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = served };

		served->fd = fd;
		served->accepted_ms = now_ms();
		inet_ntop(AF_INET6, &remote.sin6_addr, text, sizeof(text));
		snprintf(served->remote, sizeof(served->remote), "%s port %u", text,
			 ntohs(remote.sin6_port));
		/* What one message needs is taken at once. */
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
		__atomic_fetch_add(&server->tally->accepted, 1, __ATOMIC_RELAXED);
		number++;
	}
	return number;
}

/* Reads, and answers what is whole. False if the connection is over. */
static bool serve_one(struct served *served)
{
	for (;;) {
		const uint32_t length = served->message.length & ~(uint32_t)SERVER_CLOSES;
		const uint32_t whole = 4 + (served->have < 4 ? 0 : length);
		ssize_t n;

		if (served->have >= 4 && served->have == whole) {
			memset(served->message.bytes + length, TAIL, TAIL);
			if (send(served->fd, &served->message, whole + TAIL, MSG_NOSIGNAL) !=
			    (ssize_t)whole + TAIL)
				return false;
			served->have = 0;
			served->spoken = true;
			if (served->message.length & SERVER_CLOSES) {
				shutdown(served->fd, SHUT_WR);
				served->closing = true;
			}
			continue;
		}
		if (length > MESSAGE_MAX)
			return false;
		n = recv(served->fd, (uint8_t *)&served->message + served->have, whole - served->have, 0);
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		served->have += (uint32_t)n;
	}
}

/* Until it is told to retire (SIGTERM) and its last connection has ended. */
static int serve(void *arg)
{
	const struct server *server = arg;
	const int epoll = epoll_create1(EPOLL_CLOEXEC);
	int listener = serve_listen(server->port, epoll), signals, open = 0;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &signals }, events[64];
	int64_t retires = 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &event);
	SHARED_ADD(listeners, 1);
	if (write(server->told, "", 1) != 1)
		return 1;
	while (listener >= 0 || open) {
		int n = epoll_wait(epoll, events, 64, retires ? 10 : 1000);

		for (int i = 0; i < n; i++) {
			struct served *served = events[i].data.ptr;

			if (!served) {
				open += serve_accept(server, listener, epoll);
			} else if ((void *)served == &signals) {
				struct signalfd_siginfo info;

				if (read(signals, &info, sizeof(info)) == sizeof(info))
					retires = now_ms() + GRACE_MS;
			} else if (!serve_one(served)) {
				if (!served->spoken)
					note_oddity("port %d accepted %s, which ended after %u bytes and "
						    "%lld ms",
						    server->port, served->remote, served->have,
						    (long long)(now_ms() - served->accepted_ms));
				close(served->fd);
				free(served);
				open--;
			}
		}
		/* Nothing has come to it since its successor listens: the queue is empty. */
		if (listener >= 0 && retires && now_ms() >= retires) {
			open += serve_accept(server, listener, epoll);
			close(listener);
			listener = -1;
			SHARED_ADD(listeners, -1);
		}
	}
	return 0;
}

/* ---- clients ---- */

struct client {
	int number;
	int port;
	enum place place;
	struct tally *tally;
};

static void set_timeouts(int fd, int ms)
{
	const struct timeval timeout = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

/* A connected, blocking socket; -1 and errno. */
static int client_connect(const char *address, int port)
{
	struct sockaddr_storage storage;
	const socklen_t length = tcp_address(&storage, address, port);
	int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -1;
	set_timeouts(fd, CLIENT_MS);
	if (!connect(fd, (void *)&storage, length))
		return fd;
	error = errno == EINPROGRESS ? ETIMEDOUT : errno;
	close(fd);
	errno = error;
	return -1;
}

static bool read_all(int fd, void *bytes, size_t size)
{
	for (size_t have = 0; have < size;) {
		ssize_t n = recv(fd, (char *)bytes + have, size - have, 0);

		if (n <= 0) {
			if (!n)
				errno = EPIPE;
			return false;
		}
		have += (size_t)n;
	}
	return true;
}

/*
 * One message there and back, of one segment if it is to be a @brief one. NULL, or what went wrong: then
 * errno tells more, if it is not 0.
 */
static const char *say(int fd, bool server_closes, bool brief, struct tally *tally)
{
	static struct message message, echo;
	const uint32_t length = below(4) || brief ? 1 + below(512) : 1 + below(MESSAGE_MAX);
	const size_t whole = 4 + length;

	message.length = length | (server_closes ? SERVER_CLOSES : 0);
	for (uint32_t i = 0; i < length; i += 4) {
		const uint32_t word = below(1U << 31);

		memcpy(message.bytes + i, &word, length - i < 4 ? length - i : 4);
	}
	if (send(fd, &message, whole, MSG_NOSIGNAL) != (ssize_t)whole)
		return "send";
	memset(message.bytes + length, TAIL, TAIL);
	if (!read_all(fd, &echo, whole + TAIL))
		return "no answer";
	errno = 0;
	if (memcmp(&message, &echo, whole + TAIL))
		return "other bytes came back than were sent";
	__atomic_fetch_add(&tally->bytes, length, __ATOMIC_RELAXED);
	return NULL;
}

/* A connection from its first segment to its last. NULL, or what went wrong. */
static const char *converse(int fd, bool brief, struct tally *tally)
{
	const bool server_closes = below(2);
	const char *why = say(fd, server_closes, brief, tally);
	char byte;

	if (why)
		return why;
	if (!server_closes && shutdown(fd, SHUT_WR))
		return "shutdown";
	if (recv(fd, &byte, 1, 0))
		return "no end";
	return NULL;
}

static const char *address_of(int number)
{
	return number & 1 ? SERVER_IP6 : SERVER_IP4;
}

static const char *family_of(int number)
{
	return number & 1 ? "IPv6" : "IPv4";
}

/*
 * Our kernel asks tcp_window_scaling when a SYN leaves and once more when its SYN-ACK comes. Changed
 * between the two, the ends reckon with windows of different scales, with us and without, and 63 bytes
 * cross the path at a time.
 */
static int client_connect_settled(const struct client *client, const char *address)
{
	bool *changing = &shared->changing[client->place];
	int *connecting = &shared->connecting[client->place], fd, error;

	for (;;) {
		__atomic_fetch_add(connecting, 1, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(changing, __ATOMIC_SEQ_CST))
			break;
		__atomic_fetch_add(connecting, -1, __ATOMIC_SEQ_CST);
		poll(NULL, 0, 5);
	}
	fd = client_connect(address, client->port);
	error = errno;
	__atomic_fetch_add(connecting, -1, __ATOMIC_SEQ_CST);
	errno = error;
	return fd;
}

/* One connection after the other. */
static int connect_on_and_on(void *arg)
{
	const struct client *client = arg;
	struct tally *tally = client->tally;

	random_state = (uint64_t)client->number + 1;
	while (!over()) {
		const int which = (int)below(2);
		const int64_t begin = now_ms();
		struct sockaddr_in6 local = {};
		socklen_t size = sizeof(local);
		const char *why = "connect";
		int fd, error;

		__atomic_fetch_add(&tally->connects, 1, __ATOMIC_RELAXED);
		fd = client_connect_settled(client, address_of(which));
		if (fd >= 0)
			why = converse(fd, to_be_brief(begin), tally);
		error = errno;
		if (why) {
			if (fd >= 0)
				getsockname(fd, (void *)&local, &size);
			note_oddity("port %d, %s, %s, from port %u, after %lld ms: %s: %s", client->port,
				    client->place ? "far away" : "near", family_of(which),
				    ntohs(local.sin6_port), (long long)(now_ms() - begin), why,
				    error ? strerror(error) : "");
		}
		close(fd);
		__atomic_fetch_add(why ? &tally->failed : &tally->ok, 1, __ATOMIC_RELAXED);
		poll(NULL, 0, (int)below(2 * CLIENT_PAUSE_MS));
	}
	return 0;
}

/* Connections that last, all in one process: a message on each, by turns. */
static int transfer_on_and_on(void *arg)
{
	const struct client *client = arg;
	int fds[TRANSFERS];

	random_state = 1000;
	for (int i = 0; i < TRANSFERS; i++) {
		__atomic_fetch_add(&client->tally->connects, 1, __ATOMIC_RELAXED);
		fds[i] = client_connect_settled(client, address_of(i));
		if (fds[i] < 0)
			note_oddity("transfer %d: connect: %s", i, strerror(errno));
	}
	while (!over()) {
		for (int i = 0; i < TRANSFERS; i++) {
			const char *why = fds[i] < 0 ? NULL : say(fds[i], false, false, client->tally);

			if (!why)
				continue;
			note_oddity("transfer %d, %s: %s: %s", i, family_of(i), why,
				    errno ? strerror(errno) : "");
			close(fds[i]);
			fds[i] = -1;
		}
		SHARED_ADD(transfer_rounds, 1);
		poll(NULL, 0, TRANSFER_PAUSE_MS);
	}
	for (int i = 0; i < TRANSFERS; i++) {
		__atomic_fetch_add(fds[i] < 0 ? &client->tally->failed : &client->tally->ok, 1,
				   __ATOMIC_RELAXED);
		close(fds[i]);
	}
	return 0;
}

/* To ports whose listeners come and go: nobody counts on them. */
static int connect_in_vain(void *arg)
{
	const struct client *client = arg;

	random_state = 2000 + (uint64_t)client->number;
	while (!over()) {
		const int port = FIRST_NOISE_PORT + (int)below(NOISE_PORTS);
		struct sockaddr_storage storage;
		const socklen_t length = tcp_address(&storage, address_of((int)below(2)), port);
		int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		set_timeouts(fd, 300);
		if (!connect(fd, (void *)&storage, length))
			send(fd, "x", 1, MSG_NOSIGNAL);
		close(fd);
		SHARED_ADD(noise, 1);
		poll(NULL, 0, (int)below(2 * CLIENT_PAUSE_MS));
	}
	return 0;
}

static int listen_now_and_then(void *arg)
{
	const struct product *product = arg;

	random_state = 3000;
	while (!over()) {
		const int port = FIRST_NOISE_PORT + (int)below(NOISE_PORTS);
		const int listener = tcp_listen(product->pair.server, below(2) ? NULL : SERVER_IP4, port,
						(int)below(64));
		const int64_t end = now_ms() + below(600);

		while (now_ms() < end && !over())
			close(tcp_accept(listener, 20));
		close(listener);
	}
	return 0;
}

/* ---- floods ---- */

static pid_t flood_start(const struct product *product, const char *arguments, int rate, int seconds)
{
	static int seed;

	return netns_spawn(product->pair.client, "/dev/null",
			   TOOLS "flood --iface " CLIENT_IF
				 " --dport %d --rate %d --seconds %d --burst 16 --seed %d %s",
			   PORT, rate, seconds, ++seed, arguments);
}

/* ---- memory ---- */

struct memory {
	long long maps;	    /* bytes of all that are pinned */
	long long daemon;   /* its own memory, bytes */
	long long pins;	    /* files under the pin path */
	long long requests; /* request sockets in the kernel, of all namespaces */
};

static long long number(const char *said)
{
	REQUIRE(said && *said, "%s", netns_said());
	return atoll(said);
}

static long long request_sockets(void)
{
	return number(netns_output(NULL, "awk '/^request_sock_TCP/ { n += $2 } END { print n + 0 }' "
					 "/proc/slabinfo"));
}

/* A process' own memory: what is neither of files nor shared. /proc/PID/status is not exact. */
static long long anonymous_memory(pid_t pid)
{
	char path[64], line[128];
	long long kib = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Anonymous: %lld", &kib);
	if (file)
		fclose(file);
	return kib * 1024;
}

static int open_files(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += *entry->d_name != '.';
	if (dir)
		closedir(dir);
	return count;
}

/* Between two turns it has no more open than when it began. */
static bool is_idle(pid_t run, int idle_files)
{
	const int files = open_files(run);

	REQUIRE(files, "the daemon that stays is gone: %s", netns_output(NULL, "cat build/tests/soak.log"));
	return files <= idle_files;
}

static struct memory memory_look(const struct product *product, pid_t run)
{
	return (struct memory){
		.daemon = anonymous_memory(run),
		.maps = number(netns_output(
			NULL,
			"cd %s && for m in services connections known_tuples known_notes own_addresses "
			"used_cookies keys "
			"ports "
			"interfaces "
			"counters events settings; do bpftool -j map show pinned $PWD/$m; done | "
			"jq -s 'map(.bytes_memlock) | add'",
			product->pins)),
		/* Nobody is about to replace them. */
		.pins = number(netns_output(NULL, "flock %s find %s -type f | wc -l", product->pins,
					    product->pins)),
		.requests = request_sockets(),
	};
}

/* ---- the operator ---- */

struct soak {
	struct product product;
	struct netns *far[2];
	struct server server, native;
	pid_t retired[RETIRED]; /* servers, until their last connection ends */
	pid_t run;		/* the daemon that stays */
	int idle_files;		/* that it has open between two turns */
};

/* Forgets servers that have ended; yields a place for another one. */
static pid_t *retired_place(struct soak *soak)
{
	pid_t *place = NULL;

	for (int i = 0; i < RETIRED; i++) {
		pid_t *pid = &soak->retired[i];
		siginfo_t info = {};

		if (*pid && !waitid(P_PID, (id_t)*pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid) {
			EXPECT_EQ(netns_stop(*pid, 0, 1000), 0, "a server that has retired");
			*pid = 0;
		}
		if (!*pid)
			place = pid;
	}
	REQUIRE(place, "%d servers have retired and do not end", RETIRED);
	return place;
}

/* Starts a server; its predecessor, if there is one, retires. */
static void hand_over(struct soak *soak, struct server *server)
{
	int told[2];
	char byte;

	if (server->pid) {
		*retired_place(soak) = server->pid;
		server->predecessor = server->pid;
	}
	REQUIRE(!pipe2(told, O_CLOEXEC));
	server->told = told[1];
	server->pid = netns_fork(soak->product.pair.server, serve, server);
	close(told[1]);
	REQUIRE(read(told[0], &byte, 1) == 1, "the server of port %d does not come up", server->port);
	close(told[0]);
	if (server->predecessor)
		kill(server->predecessor, SIGTERM);
}

#define PROTECT " " SERVER_IF " --port 8080-8084 --firewall-checked --pin-path %s "

static pid_t run_start(const struct soak *soak, const char *output)
{
	return netns_spawn(soak->product.pair.server, output, PROGRAM " run" PROTECT "--turn 1 --epoch %d",
			   soak->product.pins, EPOCH_SECONDS);
}

/*
 * Shadow leaves all of the flood to the stack, which then answers with its own cookies. Those know a first
 * segment by its sequence number alone: where a client's bare ACK and first segment are lost (a path that
 * loses segments, a queue that overflows on a busy machine), and its last segment is sent again as a probe
 * (RFC 8985), that draws an RST. Our own are tried on segments further back (ack_early()). So what clients
 * say to the stack is brief: one segment is both.
 */
static void set_policy(const struct soak *soak)
{
	static const char *const policies[] = { "always", "flood",  "always", "flood",	"shadow", "always",
						"flood",  "always", "flood",  "always", "flood" };
	static const char *const guards[] = { "auto", "auto", "on", "off" };
	static int number;
	const char *policy = policies[number++ % (sizeof(policies) / sizeof(*policies))];
	const bool shadow = !strcmp(policy, "shadow");
	char command[128];

	if (shadow)
		__atomic_store_n(&shared->brief_ms, INT64_MAX, __ATOMIC_RELAXED);
	snprintf(command, sizeof(command), "set *:%d policy=%s guard=%s", PORT, policy, guards[below(4)]);
	product_must(&soak->product, command);
	if (!shadow && shared->shadow)
		__atomic_store_n(&shared->brief_ms, now_ms() + STACK_MS, __ATOMIC_RELAXED);
	shared->shadow = shadow;
}

static void set_options(const struct soak *soak)
{
	static const char *const names[] = { "net.ipv4.tcp_sack", "net.ipv4.tcp_window_scaling",
					     "net.ipv4.tcp_ecn" };
	const struct netns *clients[PLACES] = { soak->product.pair.client, soak->far[0], soak->far[1] };
	const unsigned int place = below(PLACES);
	bool settled;

	__atomic_store_n(&shared->changing[place], true, __ATOMIC_SEQ_CST);
	settled = WAIT_FOR(!__atomic_load_n(&shared->connecting[place], __ATOMIC_SEQ_CST), CLIENT_MS);
	if (settled)
		netns_sysctl(clients[place], names[below(3)], below(4) ? "1" : "0");
	__atomic_store_n(&shared->changing[place], false, __ATOMIC_SEQ_CST);
	REQUIRE(settled, "a handshake takes more than %d s", CLIENT_MS / 1000);
}

/* A daemon beside the one that stays: it attaches, turns, and is killed wherever that is. */
static void kill_daemon(const struct soak *soak)
{
	const pid_t pid = run_start(soak, "build/tests/soak.killed");

	poll(NULL, 0, (int)below(2 * (unsigned int)deeds[KILL].pace_ms));
	EXPECT_EQ(netns_stop(pid, SIGKILL, 1000), 128 + SIGKILL, "it had ended by itself: %s",
		  netns_output(NULL, "cat build/tests/soak.killed"));
}

static void do_deed(struct soak *soak, enum deed deed)
{
	switch (deed) {
	case ROTATE: product_must(&soak->product, "key rotate"); break;
	case ATTACH:
		netns_must(soak->product.pair.server, PROGRAM " attach" PROTECT, soak->product.pins);
		break;
	case KILL: kill_daemon(soak); break;
	case POLICY: set_policy(soak); break;
	case OPTIONS: set_options(soak); break;
	default: return;
	}
}

struct duty {
	struct soak *soak;
	enum deed deed;
};

static int operate_on_and_on(void *arg)
{
	const struct duty *duty = arg;
	const unsigned int pace_ms = (unsigned int)deeds[duty->deed].pace_ms;
	int64_t due = 0;

	random_state = 4000 + duty->deed;
	while (!over()) {
		if (now_ms() < due) {
			poll(NULL, 0, 50);
			continue;
		}
		shared->begun_ms[duty->deed] = now_ms();
		do_deed(duty->soak, duty->deed);
		SHARED_ADD(done[duty->deed], 1);
		due = now_ms() + below(2 * pace_ms);
	}
	return 0;
}

/* ---- the soak ---- */

static void print_figures(const struct soak *soak, int64_t began)
{

	printf("# %lld s: %ld connections, %ld failed (natively %ld, %ld); of %lld SYNs %lld answered, "
	       "%lld "
	       "passed, %lld dropped; %lld promoted; the daemon has %lld KiB\n",
	       (long long)(now_ms() - began + 500) / 1000, shared->counted.ok, shared->counted.failed,
	       shared->native.ok, shared->native.failed, counter(&soak->product, "syn_received"),
	       counter(&soak->product, "syn_answered"), counters(&soak->product, "syn_passed_"),
	       counters(&soak->product, "syn_dropped_"), counter(&soak->product, "promoted"),
	       anonymous_memory(soak->run) / 1024);
	fflush(stdout);
}

/* Until the time is over. Looks at what there is after the first quarter and in the end. */
static void go_on(struct soak *soak, int seconds, struct memory *quarter, struct memory *end)
{
	const int64_t began = now_ms(), over = began + seconds * 1000;
	int64_t printed = began, hand_over_at = began;

	while (!end->maps) {
		/* Not while it turns; it may have to wait for its turn until another has attached. */
		const bool idle = is_idle(soak->run, soak->idle_files);

		REQUIRE(now_ms() < over + ATTACH_MS, "the daemon has %d files open and had %d",
			open_files(soak->run), soak->idle_files);
		/* Not to a third one: of three, the program of the group takes one that retires. */
		if (now_ms() >= hand_over_at &&
		    __atomic_load_n(&shared->listeners, __ATOMIC_RELAXED) == 2) {
			shared->begun_ms[HAND_OVER] = now_ms();
			hand_over(soak, &soak->server);
			hand_over(soak, &soak->native);
			hand_over_at = now_ms() + GRACE_MS +
				       below(2 * (unsigned int)deeds[HAND_OVER].pace_ms);
			shared->done[HAND_OVER]++;
		}
		if (idle && !quarter->maps && now_ms() >= began + seconds * 250)
			*quarter = memory_look(&soak->product, soak->run);
		else if (idle && quarter->maps && now_ms() >= over)
			*end = memory_look(&soak->product, soak->run);
		if (now_ms() >= printed + PRINT_MS) {
			printed += PRINT_MS;
			print_figures(soak, began);
		}
		poll(NULL, 0, 20);
	}
}

/* Nothing comes in any more. */
static bool is_quiet(const struct product *product)
{
	const long long before = counter(product, "syn_received");

	poll(NULL, 0, 200);
	return counter(product, "syn_received") == before;
}

/* Every SYN has one outcome, and no ACK has two. */
static void expect_books_to_balance(const struct product *product)
{
	const long long received = counter(product, "syn_received"),
			answered = counter(product, "syn_answered"),
			passed = counters(product, "syn_passed_"),
			dropped = counters(product, "syn_dropped_"),
			handed = counter(product, "ack_validated") + counter(product, "ack_following");
	/* What the promoter has settled. What goes round comes again: promote_requeued is on the way. */
	const long long settled = counter(product, "promoted") + counter(product, "promote_connected") +
				  counters(product, "promote_failed_") +
				  counters(product, "promote_dropped_");

	EXPECT_EQ(answered + passed + dropped, received,
		  "SYNs received: %lld answered, %lld passed, %lld "
		  "dropped",
		  answered, passed, dropped);
	/* GRO makes one of several. */
	EXPECT(settled <= handed, "%lld settled by the promoter of %lld that were handed to it", settled,
	       handed);
	EXPECT(counter(product, "ack_dropped_guard") <= counters(product, "ack_rejected_"),
	       "guard has dropped ACKs that were not rejected");
	EXPECT_EQ(counter(product, "connections_full"), 0);
	EXPECT_EQ(counter(product, "used_evicted"), 0);
}

static void print_table(const struct soak *soak, int seconds, const struct memory *quarter,
			const struct memory *end)
{
	json_t *top = product_json(&soak->product, "stats"), *value;
	const char *name;

	printf("# %-28s %12d\n", "seconds", seconds);
	printf("# %-28s %12ld  failed %ld\n", "connections", shared->counted.ok, shared->counted.failed);
	printf("# %-28s %12ld  failed %ld\n", "natively, beside", shared->native.ok, shared->native.failed);
	printf("# %-28s %12lld\n", "bytes there and back", shared->counted.bytes);
	printf("# %-28s %12ld  on %d connections\n", "rounds of transfers", shared->transfer_rounds,
	       TRANSFERS);
	printf("# %-28s %12ld\n", "clients of passing listeners", shared->noise);
	for (enum deed deed = 0; deed < DEEDS; deed++)
		printf("# %-28s %12ld\n", deeds[deed].name, shared->done[deed]);
	printf("# %-28s %12lld  %lld after the first quarter\n", "daemon, KiB", end->daemon / 1024,
	       quarter->daemon / 1024);
	printf("# %-28s %12lld  %lld after the first quarter\n", "maps, KiB", end->maps / 1024,
	       quarter->maps / 1024);
	printf("# %-28s %12lld  %lld after the first quarter\n", "request sockets", end->requests,
	       quarter->requests);
	json_object_foreach(json_object_get(top, "counters"), name, value) if (json_integer_value(value))
		printf("# %-28s %12lld\n", name, (long long)json_integer_value(value));
	json_decref(top);
}

static void expect_flat(const struct memory *quarter, const struct memory *end, long long promoted)
{
	/*
	 * What it lists at a turn is freed then, but malloc() keeps as much as the longest list had: some
	 * 600 KiB. One list that is not freed takes 64 KiB or more a turn.
	 */
	EXPECT(end->daemon <= quarter->daemon + (768 << 10), "the daemon has %lld KiB, had %lld",
	       end->daemon >> 10, quarter->daemon >> 10);
	EXPECT_EQ(end->pins, quarter->pins, "files under the pin path");
	/* `connections` has what is open, in TIME-WAIT or ended seconds ago: now a thousand, now two. */
	EXPECT(end->maps <= quarter->maps + (512 << 10), "the maps have %lld KiB, had %lld",
	       end->maps >> 10, quarter->maps >> 10);
	/*
	 * One lost for each promotion, or for one of ten, would stay for good. Others' sockets are counted
	 * here, too, and a CPU's free ones.
	 */
	EXPECT(end->requests <= quarter->requests + 1000 + promoted / 10,
	       "%lld request sockets, %lld after the first quarter, %lld promotions since", end->requests,
	       quarter->requests, promoted);
}

/*
 * A namespace behind the client's, with tools/delay on the way: what it sends arrives where the client's
 * does. The second one speaks without timestamps, from its first segment on: a client that begins with them
 * and ends without is none of ours.
 *
 *	far: far-end ---- path: far-side (tools/delay) near-side ---- near-end-N :client
 */
static struct netns *far_new(const struct pair *pair, int number)
{
	static const char *const macs[] = { "02:78:00:00:00:02", "02:78:00:00:00:01" };
	struct netns *far = netns_new("far"), *path = netns_new("path");
	char near_end[16], net4[16], net6[16], text[64];

	snprintf(near_end, sizeof(near_end), "near-end-%d", number);
	snprintf(net4, sizeof(net4), "10.%d.0.", 78 + number);
	snprintf(net6, sizeof(net6), "fd%d::", 78 + number);
	netns_sysctl(path, "net.ipv6.conf.all.disable_ipv6", "1");
	netns_sysctl(path, "net.ipv6.conf.default.disable_ipv6", "1");
	netns_veth(far, "far-end", macs[0], path, "far-side", NULL, NULL);
	netns_veth(path, "near-side", NULL, pair->client, near_end, macs[1], NULL);
	netns_offloads_off(far, "far-end");
	netns_offloads_off(path, "far-side");
	netns_offloads_off(path, "near-side");
	netns_offloads_off(pair->client, near_end);
	netns_must(far,
		   "ip addr add %s2/24 dev far-end && ip addr add %s2/64 dev far-end nodad && "
		   "ip route add default via %s1 && ip route add default via %s1",
		   net4, net6, net4, net6);
	netns_must(pair->client, "ip addr add %s1/24 dev %s && ip addr add %s1/64 dev %s nodad", net4,
		   near_end, net6, near_end);
	netns_must(pair->server,
		   "ip route add %s0/24 via " CLIENT_IP4 " && ip route add %s/64 via " CLIENT_IP6, net4,
		   net6);
	for (int i = 0; i < 4; i++) {
		snprintf(text, sizeof(text), "%s%d", i & 1 ? net6 : net4, i & 2 ? 1 : 2);
		if (i & 2)
			netns_neighbour(far, "far-end", text, macs[1]);
		else
			netns_neighbour(pair->client, near_end, text, macs[0]);
	}
	netns_sysctl(far, "net.ipv4.tcp_timestamps", number ? "0" : "1");
	netns_spawn(path, "/dev/null", TOOLS "delay --ms %d --loss %d --seed %d far-side near-side", FAR_MS,
		    FAR_LOSS, number + 7);
	return far;
}

/* The client's namespace sends on what comes from far away, but not the floods' answers. */
static void forward(const struct pair *pair)
{
	netns_must(pair->client,
		   "ip route add blackhole " FAKE_NET4 " && ip route add blackhole " FAKE_NET6);
	netns_sysctl(pair->client, "net.ipv4.ip_forward", "1");
	netns_sysctl(pair->client, "net.ipv6.conf.all.forwarding", "1");
}

static pid_t client_start(const struct netns *ns, int (*fn)(void *), bool native, enum place place)
{
	static struct client clients[128];
	static int number;
	struct client *client = &clients[number];

	REQUIRE(number < (int)(sizeof(clients) / sizeof(*clients)));
	*client = (struct client){ .number = number++,
				   .port = native ? NATIVE_PORT : PORT,
				   .place = place,
				   .tally = native ? &shared->native : &shared->counted };
	return netns_fork(ns, fn, client);
}

/* Whatever goes on until it is over, each in a process that ends with 0 if all was well. */
static int begin(struct soak *soak, pid_t processes[])
{
	static struct duty duties[DEEDS];
	const struct pair *pair = &soak->product.pair;
	int count = 0;

	for (int i = 0; i < CLIENTS + NATIVE_CLIENTS; i++)
		processes[count++] = client_start(pair->client, connect_on_and_on, i >= CLIENTS,
						  PLACE_NEAR);
	for (int i = 0; i < FAR_CLIENTS + FAR_NATIVE_CLIENTS; i++)
		processes[count++] = client_start(soak->far[i & 1], connect_on_and_on, i >= FAR_CLIENTS,
						  PLACE_FAR + (i & 1));
	for (int i = 0; i < NOISE_CLIENTS; i++)
		processes[count++] = client_start(pair->client, connect_in_vain, false, PLACE_NEAR);
	processes[count++] = client_start(pair->client, transfer_on_and_on, false, PLACE_NEAR);
	processes[count++] = netns_fork(pair->server, listen_now_and_then, &soak->product);
	for (enum deed deed = 0; deed < HAND_OVER; deed++) {
		duties[deed] = (struct duty){ soak, deed };
		processes[count++] = netns_fork(NULL, operate_on_and_on, &duties[deed]);
	}
	return count;
}

static void begin_floods(const struct product *product, int seconds, pid_t floods[FLOODS])
{
	floods[0] = flood_start(product, "--src 10.77.1.0/24 --dst " SERVER_IP4, FLOOD_LINUX, seconds);
	floods[1] = flood_start(product,
				"--src 10.77.1.0/24 --dst " SERVER_IP4
				" --options 'mss 1460, nop, ws 8, nop, nop, sack'",
				FLOOD_PLAIN, seconds);
	floods[2] = flood_start(product, "--src fd77:1::/64 --dst " SERVER_IP6, FLOOD_IPV6, seconds);
	floods[3] = flood_start(product, "--src 10.77.1.0/24 --dst " SERVER_IP4 " --ack", FLOOD_ACKS,
				seconds);
}

static void soak_for(int seconds)
{
	struct soak soak = {
		.product = product_new(NULL, NULL),
		.server = { .port = PORT, .tally = &shared->counted },
		.native = { .port = NATIVE_PORT, .tally = &shared->native },
	};
	const struct product *product = &soak.product;
	const struct pair *pair = &product->pair;
	struct memory quarter = {}, end = {};
	pid_t floods[FLOODS], processes[128];
	int count;
	long long ok;

	report_case_limit((unsigned int)seconds + 150);
	memset(shared, 0, sizeof(*shared));
	random_state = 20262;
	/* TIME-WAIT at the server for half of the connections, and few enough ports that tuples come again.
	 */
	netns_sysctl(pair->client, "net.ipv4.tcp_max_tw_buckets", "1");
	netns_sysctl(pair->client, "net.ipv4.ip_local_port_range", "40000 47999");
	netns_sysctl(pair->server, "net.ipv4.tcp_max_tw_buckets", "500");
	/* What waits in a listener that retires goes to its successor. */
	netns_sysctl(pair->server, "net.ipv4.tcp_migrate_req", "1");
	/* What a flood leaves with the stack is gone within seconds of its end. */
	netns_sysctl(pair->server, "net.ipv4.tcp_synack_retries", "1");
	hand_over(&soak, &soak.server);
	hand_over(&soak, &soak.native);
	netns_sh(NULL, "rm -f build/tests/soak.log"); /* of an earlier one */
	soak.run = run_start(&soak, "build/tests/soak.log");
	REQUIRE(WAIT_FOR(file_says("build/tests/soak.log", "attached;"), ATTACH_MS), "%s",
		netns_output(NULL, "cat build/tests/soak.log"));
	soak.idle_files = open_files(soak.run);
	forward(pair);
	for (int i = 0; i < 2; i++)
		soak.far[i] = far_new(pair, i);
	for (int i = 0; i < 2; i++)
		product_admit(product, address_of(i), PORT);
	poll(NULL, 0, 300); /* until the server has them all */
	memset(&shared->counted, 0, sizeof(shared->counted));
	shared->reason_count = 0;
	count = begin(&soak, processes);
	begin_floods(product, seconds + 60, floods);
	go_on(&soak, seconds, &quarter, &end);

	__atomic_store_n(&shared->over, true, __ATOMIC_RELAXED);
	for (int i = 0; i < count; i++)
		EXPECT_EQ(netns_stop(processes[i], 0, CLIENT_MS + ATTACH_MS), 0, "process %d", i);
	for (int i = 0; i < FLOODS; i++)
		EXPECT_EQ(netns_stop(floods[i], SIGTERM, 5000), 0, "flood %d had ended", i);
	EXPECT(WAIT_FOR(is_quiet(product), 10000));

	ok = shared->counted.ok;
	for (long i = 0; i < shared->reason_count && i < 8; i++)
		printf("# %s\n", shared->reasons[i]);
	EXPECT_EQ(shared->counted.failed, 0, "failed connections");
	EXPECT_EQ(shared->native.failed, 0, "and natively: then this is not what the others failed of");
	EXPECT_EQ(ok + shared->counted.failed, shared->counted.connects);
	/* Nobody else was let in: no ACK of the flood, no cookie twice. */
	EXPECT(shared->native.failed || shared->native.accepted == shared->native.ok,
	       "natively, %ld connections were accepted, %ld begun", shared->native.accepted,
	       shared->native.ok);
	EXPECT(shared->counted.failed || shared->counted.accepted == ok,
	       "%ld connections were accepted, %lld begun", shared->counted.accepted, ok);
	expect_books_to_balance(product);
	EXPECT(counter(product, "promoted") > ok / 8, "few were promoted: it shows little");
	EXPECT(counter(product, "syn_answered") > (long long)seconds * FLOOD_LINUX / 8,
	       "few SYNs of the floods were answered: it shows little");
	for (enum deed deed = 0; deed < DEEDS; deed++)
		EXPECT(shared->done[deed] >= seconds * deeds[deed].least / 60, "only %ld %s",
		       shared->done[deed], deeds[deed].name);

	/* What waits for a while yet is gone then; what has leaked is not. */
	EXPECT(WAIT_FOR(is_idle(soak.run, soak.idle_files), 8000), "the daemon has %d files open, had %d",
	       open_files(soak.run), soak.idle_files);
	WAIT_FOR((end.requests = request_sockets()) <= quarter.requests + 500, 8000);
	expect_flat(&quarter, &end, counter(product, "promoted") * 3 / 4);
	product_must(product, "status");
	EXPECT(strstr(netns_said(), "answering"), "%s", netns_said());
	print_table(&soak, seconds, &quarter, &end);
	EXPECT_EQ(netns_stop(soak.run, SIGTERM, 3000), 0, "the daemon that stayed: %s",
		  netns_output(NULL, "cat build/tests/soak.log"));
	product_must(product, "detach --all --now");
	EXPECT(netns_sh(NULL, "test -e %s", product->pins), "pins are left");
	netns_sh(NULL, "rm -f build/tests/soak.log build/tests/soak.killed");
}

CASE("flood, load, listeners that change, key rotation, daemons killed, attached over: nobody loses a "
     "connection")
{
	const char *seconds = getenv("SOAK_SECONDS");

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(shared != MAP_FAILED);
	soak_for(seconds ? atoi(seconds) : DEFAULT_SECONDS);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How large the programs are, and how many instructions the verifier goes through for each: beside what
 *they were when tests/prog/sizes.baseline was written, for this compiler and kernel. A jump is to be seen
 *in review: either it is a slip, or the baseline is renewed with the change that makes it,
 *
 *	RENEW=1 build/tests/prog/sizes
 *
 * Another compiler or kernel than those in the file is only told of.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "report.h"
#include "toolchain.h"

#define OBJECT	 "build/bpf/handshake.bpf.o"
#define BASELINE "tests/prog/sizes.baseline"
#define RENEWAL	 "RENEW=1 build/tests/prog/sizes"

enum {
	PROGRAMS_MAX = 32,
	LINE_MAX = 256,
	LOG_SIZE = 4096,
	SIZES = 3,
	GROWTH_PERCENT = 10,
	LOG_STATS = 4,	     /* kernel: include/linux/bpf_verifier.h:BPF_LOG_STATS */
	LARGE = 30000,	     /* instructions verified: for fewer, what else there is to do counts */
	LOADS = 5,	     /* of which the quickest counts */
	DEARER_AT_MOST = 35, /* tenths: an instruction of one program than of another */
};

static const char *const size_names[SIZES] = { "instructions verified", "bytes of BPF",
					       "bytes of machine code" };

struct program {
	char name[64];
	long size[SIZES];
	long verified_us;
};

static struct program programs[PROGRAMS_MAX];
static int count;
static char platform[128]; /* what begins the lines of this compiler, kernel and machine */

/* "clang-14 linux-6.18 x86_64" */
static void find_platform(void)
{
	struct utsname kernel;
	int major = 0, minor = 0;

	uname(&kernel);
	sscanf(kernel.release, "%d.%d", &major, &minor);
	REQUIRE(toolchain_clang_major(OBJECT), OBJECT " does not say what built it");
	snprintf(platform, sizeof(platform), "clang-%d linux-%d.%d %s", toolchain_clang_major(OBJECT),
		 major, minor, kernel.machine);
}

/* As `attach` loads them, but for the sizes of the maps. */
static void measure(void)
{
	struct bpf_object *object = bpf_object__open_file(OBJECT, NULL);
	static char logs[PROGRAMS_MAX][LOG_SIZE];
	struct bpf_program *program;

	REQUIRE(object, OBJECT ": %s", strerror(errno));
	count = 0;
	bpf_object__for_each_program(program, object)
	{
		REQUIRE(count < PROGRAMS_MAX);
		bpf_program__set_log_buf(program, logs[count++], LOG_SIZE);
		bpf_program__set_log_level(program, LOG_STATS);
	}
	REQUIRE(!bpf_object__load(object), "loading " OBJECT ": %s", strerror(errno));
	count = 0;
	bpf_object__for_each_program(program, object)
	{
		struct bpf_prog_info info = {};
		__u32 length = sizeof(info);
		const char *time = strstr(logs[count], "verification time ");
		struct program *it = &programs[count++];

		REQUIRE(time && sscanf(time, "verification time %ld usec", &it->verified_us) == 1,
			"the kernel does not tell how long it took: %s", logs[count - 1]);
		REQUIRE(!bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length));
		snprintf(it->name, sizeof(it->name), "%s", bpf_program__name(program));
		it->size[0] = info.verified_insns;
		it->size[1] = info.xlated_prog_len;
		it->size[2] = info.jited_prog_len;
	}
	bpf_object__close(object);
}

/* The line's program, if it is of this platform. */
static bool parse(const char *line, struct program *program)
{
	const size_t length = strlen(platform);

	return !strncmp(line, platform, length) && line[length] == ' ' &&
	       sscanf(line + length, "%63s %ld %ld %ld", program->name, &program->size[0],
		      &program->size[1], &program->size[2]) == 4;
}

static const struct program *find(const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(programs[i].name, name))
			return &programs[i];
	return NULL;
}

static void compare(const struct program *now, const struct program *before)
{
	for (int i = 0; i < SIZES; i++) {
		const double change = 100.0 * (double)(now->size[i] - before->size[i]) /
				      (double)before->size[i];

		EXPECT(change <= GROWTH_PERCENT,
		       "%s has grown by %.0f %%: %ld %s, %ld before. If that is meant: " RENEWAL, now->name,
		       change, now->size[i], size_names[i], before->size[i]);
		if (change < -GROWTH_PERCENT)
			printf("# %s has shrunk by %.0f %%: %ld %s, %ld before; " RENEWAL
			       " makes that the measure\n",
			       now->name, -change, now->size[i], size_names[i], before->size[i]);
	}
}

/* Yields how many programs the baseline has for this platform. */
static int compare_all(FILE *file)
{
	char line[LINE_MAX];
	bool had[PROGRAMS_MAX] = {};
	int known = 0;

	while (file && fgets(line, sizeof(line), file)) {
		struct program before;
		const struct program *now;

		if (!parse(line, &before))
			continue;
		known++;
		now = find(before.name);
		if (!now)
			continue;
		had[now - programs] = true;
		compare(now, &before);
	}
	for (int i = 0; known && i < count; i++)
		EXPECT(had[i], "%s is not in " BASELINE ": " RENEWAL, programs[i].name);
	return known;
}

/* This platform's lines anew, all others as they are. */
static void renew(FILE *old)
{
	FILE *file = fopen(BASELINE ".new", "w");
	char line[LINE_MAX];

	REQUIRE(file, BASELINE ".new: %s", strerror(errno));
	while (old && fgets(line, sizeof(line), old)) {
		struct program before;

		if (!parse(line, &before))
			fputs(line, file);
	}
	for (int i = 0; i < count; i++)
		fprintf(file, "%s %s %ld %ld %ld\n", platform, programs[i].name, programs[i].size[0],
			programs[i].size[1], programs[i].size[2]);
	REQUIRE(!fclose(file) && !rename(BASELINE ".new", BASELINE), BASELINE ": %s", strerror(errno));
	printf("# " BASELINE " is renewed for %s\n", platform);
}

CASE("no program has grown by more than a tenth since its baseline")
{
	FILE *file = fopen(BASELINE, "r");

	find_platform();
	measure();
	if (getenv("RENEW"))
		renew(file);
	else if (!compare_all(file)) {
		printf("# no baseline for %s yet; " RENEWAL " writes this one:\n", platform);
		for (int i = 0; i < count; i++)
			printf("# %s %s %ld %ld %ld\n", platform, programs[i].name, programs[i].size[0],
			       programs[i].size[1], programs[i].size[2]);
	}
	if (file)
		fclose(file);
}

/*
 * An instruction costs the verifier a microsecond or so, unless it is one of those for which it searches
 * the names of all the kernel's types (kernel.h: KERNEL_READ_ONLY()). No count of instructions shows those,
 * and they made attach take three seconds.
 */
CASE("no program's instructions take the verifier far longer than another's")
{
	long quickest[PROGRAMS_MAX];
	double least = 0;

	for (int load = 0; load < LOADS; load++) {
		measure();
		for (int i = 0; i < count; i++)
			if (!load || programs[i].verified_us < quickest[i])
				quickest[i] = programs[i].verified_us;
	}
	for (int i = 0; i < count; i++) {
		const double each = (double)quickest[i] / (double)programs[i].size[0];

		if (programs[i].size[0] >= LARGE && (!least || each < least))
			least = each;
	}
	REQUIRE(least > 0, "no program is large");
	for (int i = 0; i < count; i++) {
		const double each = (double)quickest[i] / (double)programs[i].size[0];

		if (programs[i].size[0] < LARGE)
			continue;
		printf("# %s: %ld ms, %.2f us an instruction\n", programs[i].name, quickest[i] / 1000,
		       each);
		EXPECT(each * 10 <= least * DEARER_AT_MOST, "%s: %.2f us an instruction, another one %.2f",
		       programs[i].name, each, least);
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}

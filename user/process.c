// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "process.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format.h"

/* Doubles an array when it is full. False if memory is short. */
static bool grow(void **array, size_t count, size_t size)
{
	void *more;

	if (count < 64 ? count : count & (count - 1))
		return true;
	more = realloc(*array, (count < 64 ? 64 : count * 2) * size);
	if (!more)
		return false;
	*array = more;
	return true;
}

static void add_name(struct process_table *table, int pid)
{
	char path[64], *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	memset(table->names[table->name_count], 0, sizeof(*table->names));
	file = fopen(path, "re");
	if (file && fgets(table->names[table->name_count], sizeof(*table->names), file)) {
		end = strchr(table->names[table->name_count], '\n');
		if (end)
			*end = '\0';
		format_plain(table->names[table->name_count]);
	}
	if (file)
		fclose(file);
	table->name_count++;
}

/* The sockets among the open files of one process. */
static void add_process(struct process_table *table, int pid)
{
	char path[64], target[64];
	struct dirent *entry;
	bool named = false;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	if (!fds)
		return;
	while ((entry = readdir(fds))) {
		ssize_t length = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);
		unsigned long long inode;

		if (length < 0)
			continue;
		target[length] = '\0';
		if (sscanf(target, "socket:[%llu]", &inode) != 1 ||
		    !grow((void **)&table->sockets, table->count, sizeof(*table->sockets)))
			continue;
		if (!named) {
			if (!grow((void **)&table->names, table->name_count, sizeof(*table->names)))
				break;
			add_name(table, pid);
			named = true;
		}
		table->sockets[table->count++] = (struct process_socket){
			.inode = inode,
			.pid = pid,
			.name = (unsigned int)table->name_count - 1,
		};
	}
	closedir(fds);
}

static int compare(const void *a, const void *b)
{
	const struct process_socket *x = a, *y = b;

	if (x->inode != y->inode)
		return x->inode > y->inode ? 1 : -1;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

void process_table_read(struct process_table *table)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	memset(table, 0, sizeof(*table));
	while (proc && (entry = readdir(proc)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			add_process(table, atoi(entry->d_name));
	if (proc)
		closedir(proc);
	if (table->count)
		qsort(table->sockets, table->count, sizeof(*table->sockets), compare);
}

void process_table_free(struct process_table *table)
{
	free(table->sockets);
	free(table->names);
	memset(table, 0, sizeof(*table));
}

const char *process_text(const struct process_table *table, __u64 inode, char text[PROCESS_TEXT])
{
	size_t low = 0, high = table->count, first;
	int others = 0, length;

	while (low < high) {
		const size_t middle = (low + high) / 2;

		if (table->sockets[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	first = low;
	if (!inode || first == table->count || table->sockets[first].inode != inode)
		return NULL;
	for (size_t i = first + 1; i < table->count && table->sockets[i].inode == inode; i++)
		others += table->sockets[i].pid != table->sockets[i - 1].pid;
	length = snprintf(text, PROCESS_TEXT, "%d/%s", table->sockets[first].pid,
			  table->names[table->sockets[first].name]);
	if (others && length > 0 && length < PROCESS_TEXT)
		snprintf(text + length, (size_t)(PROCESS_TEXT - length), " +%d", others);
	return text;
}

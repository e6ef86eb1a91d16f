// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * diskd - what a storage service does to its disk, one role a process:
 *
 *   diskd readers N   N processes "diskd_reader" that read blocks of /dev/vda
 *                     past the page cache, far apart, so that none is merged
 *   diskd writer      "diskd_writer" writes blocks of /srv/table past the page
 *                     cache, and has each made durable
 *   diskd logger      "diskd_logger" appends to /srv/log and has that made
 *                     durable: a transaction of the journal each
 *   diskd loader      "diskd_loader" reads /srv/data through the page cache
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 4096
#define APART (2L << 20) /* between two readers */
#define BLOCKS 64L       /* of the table */

static int must(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static char *buffer(void)
{
	char *block;

	if (posix_memalign((void **)&block, BLOCK, BLOCK))
		exit(1);
	memset(block, 'k', BLOCK);
	return block;
}

static void reader(long number)
{
	int disk = must(open("/dev/vda", O_RDONLY | O_DIRECT), "/dev/vda");
	char *block = buffer();

	prctl(PR_SET_NAME, "diskd_reader");
	for (long round = 0;; round = (round + 2) % 256)
		must(pread(disk, block, BLOCK, (number + 1) * APART + round * BLOCK), "read");
}

static void writer(void)
{
	int table = must(open("/srv/table", O_WRONLY | O_DIRECT), "/srv/table");
	char *block = buffer();

	prctl(PR_SET_NAME, "diskd_writer");
	for (long n = 0;; n = (n + 3) % BLOCKS) {
		must(pwrite(table, block, BLOCK, n * BLOCK), "write");
		must(fsync(table), "fsync");
	}
}

static void logger(void)
{
	int log = must(open("/srv/log", O_WRONLY | O_CREAT | O_APPEND, 0600), "/srv/log");
	char *block = buffer();

	prctl(PR_SET_NAME, "diskd_logger");
	for (;;) {
		must(write(log, block, BLOCK), "write");
		must(fsync(log), "fsync");
	}
}

static void loader(void)
{
	int data = must(open("/srv/data", O_RDONLY), "/srv/data");
	char *block = buffer();

	prctl(PR_SET_NAME, "diskd_loader");
	for (;;) {
		while (must(read(data, block, BLOCK), "read") > 0)
			;
		posix_fadvise(data, 0, 0, POSIX_FADV_DONTNEED);
		lseek(data, 0, SEEK_SET);
	}
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";

	if (!strcmp(role, "writer"))
		writer();
	if (!strcmp(role, "logger"))
		logger();
	if (!strcmp(role, "loader"))
		loader();
	if (strcmp(role, "readers") || argc != 3) {
		fprintf(stderr, "usage: diskd readers N | writer | logger | loader\n");
		return 2;
	}
	for (long n = 0; n < atol(argv[2]); n++)
		if (must(fork(), "fork") == 0)
			reader(n);
	while (wait(NULL) > 0)
		;
	return 0;
}

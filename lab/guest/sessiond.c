// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * sessiond - a service for the guest to run: one process with a thread for
 * each way a program commonly sleeps (epoll, futex, pipe, nanosleep), a TCP
 * and a Unix socket, a file mapping and System V IPC objects, so that a dump
 * of the guest has something of everything to find.
 *
 * Called as `memhog`, it takes memory instead until there is none left.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static int log_pipe[2];

static void name_thread(const char *name)
{
	prctl(PR_SET_NAME, name, 0, 0, 0);
}

static void *wait_for_work(void *unused)
{
	name_thread("sessiond-queue");
	pthread_mutex_lock(&queue_lock);
	for (;;)
		pthread_cond_wait(&queue_filled, &queue_lock);
	return unused;
}

static void *write_log(void *unused)
{
	char line[128];

	name_thread("sessiond-log");
	while (read(log_pipe[0], line, sizeof(line)) > 0)
		;
	return unused;
}

static void *expire(void *unused)
{
	const struct timespec hour = { .tv_sec = 3600 };

	name_thread("sessiond-expire");
	for (;;)
		nanosleep(&hour, NULL);
	return unused;
}

static int listen_tcp(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 16))
		perror("sessiond: tcp");
	return fd;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 4))
		perror("sessiond: unix");
	return fd;
}

static void share_memory(void)
{
	int shm = shmget(0x6b6d, 1 << 16, IPC_CREAT | 0600);
	char *segment = shmat(shm, NULL, 0);
	int data = open("/srv/data", O_RDONLY);

	if (segment != (void *)-1)
		strcpy(segment, "session table of the lab guest");
	semget(0x6b6d, 3, IPC_CREAT | 0600);
	msgget(0x6b6d, IPC_CREAT | 0600);
	if (mmap(NULL, 1 << 16, PROT_READ, MAP_SHARED | MAP_POPULATE, data, 0) == MAP_FAILED)
		perror("sessiond: mmap");
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int serve(int port)
{
	void *(*const threads[])(void *) = { wait_for_work, wait_for_work, write_log, expire };
	struct itimerspec hourly = { { 3600, 0 }, { 3600, 0 } };
	int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
	struct epoll_event event;
	pthread_t thread;

	if (pipe(log_pipe))
		return 1;
	for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
		pthread_create(&thread, NULL, threads[i], NULL);
	share_memory();
	timerfd_settime(timer, 0, &hourly, NULL);
	watch(epoll, timer);
	watch(epoll, eventfd(0, 0));
	watch(epoll, listen_tcp(port));
	watch(epoll, listen_unix("/tmp/sessiond.sock"));
	close(creat("/tmp/sessiond.ready", 0600));
	for (;;)
		epoll_wait(epoll, &event, 1, -1);
}

/* Stands in for a service that leaks: 1 MiB at a time, every page written. */
static int hog(void)
{
	const size_t step = 1 << 20;

	for (;;) {
		char *block = mmap(NULL, step, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (block == MAP_FAILED)
			return 1;
		for (size_t i = 0; i < step; i += 4096)
			block[i] = 'h';
	}
}

int main(int argc, char **argv)
{
	if (strstr(argv[0], "memhog"))
		return hog();
	return serve(argc > 1 ? atoi(argv[1]) : 8080);
}

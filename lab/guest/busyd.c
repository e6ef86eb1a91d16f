// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * busyd - what a machine at work has and a freshly booted one lacks: filled
 * queues of sockets and of System V IPC, BPF programs and maps, namespaces,
 * pages in swap, pending signals. Each role (its first argument) sets up its
 * part, creates /tmp/busyd.ROLE to say so, and sleeps.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long must(long result, const char *what)
{
	if (result < 0)
		perror(what);
	return result;
}

static void ready(const char *role)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/busyd.%s", role);
	close(creat(path, 0600));
}

/* --- System V IPC ------------------------------------------------------- */

struct message {
	long type;
	char text[200];
};

static void fill_ipc(void)
{
	int shm = must(shmget(0x1001, 300000, IPC_CREAT | 0640), "shmget");
	int locked = must(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600), "shmget");
	int removed = must(shmget(IPC_PRIVATE, 20000, IPC_CREAT | 0604), "shmget");
	int queue = must(msgget(0x2001, IPC_CREAT | 0660), "msgget");
	int sems = must(semget(0x3001, 5, IPC_CREAT | 0666), "semget");
	struct message message = { .type = 7 };
	struct sembuf take = { .sem_num = 2, .sem_op = -1 };
	unsigned short values[5] = { 1, 2, 0, 4, 5 };
	char *memory = shmat(shm, NULL, 0);

	memset(memory, 's', 5 * 4096);
	shmctl(locked, SHM_LOCK, NULL);
	memset(shmat(removed, NULL, 0), 'r', 4096);
	shmctl(removed, IPC_RMID, NULL);
	for (int i = 1; i <= 3; i++) {
		memset(message.text, 'a' + i, sizeof(message.text));
		must(msgsnd(queue, &message, i * 50, 0), "msgsnd");
	}
	semctl(sems, 0, SETALL, values);
	if (fork() == 0)
		semop(sems, &take, 1);
}

/* --- BPF ---------------------------------------------------------------- */

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int make_map(int type, int key, int value, int entries, int flags, const char *name)
{
	union bpf_attr attr = {
		.map_type = type, .key_size = key, .value_size = value,
		.max_entries = entries, .map_flags = flags,
	};

	strncpy(attr.map_name, name, sizeof(attr.map_name) - 1);
	return must(bpf(BPF_MAP_CREATE, &attr), name);
}

#define INSN(CODE, DST, SRC, OFF, IMM) \
	((struct bpf_insn){ .code = CODE, .dst_reg = DST, .src_reg = SRC, .off = OFF, .imm = IMM })

/* Counts in element 0 of an array; each packet passes. */
static int load_counter(int type, int attach, int map, const char *name)
{
	static char log[1 << 16];
	struct bpf_insn program[] = {
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, 0, 1, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr attr = {
		.prog_type = type, .expected_attach_type = attach,
		.insns = (unsigned long)program,
		.insn_cnt = sizeof(program) / sizeof(program[0]),
		.license = (unsigned long)"Dual MIT/GPL",
		.log_buf = (unsigned long)log, .log_size = sizeof(log), .log_level = 1,
	};
	int fd;

	strncpy(attr.prog_name, name, sizeof(attr.prog_name) - 1);
	fd = bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0)
		fprintf(stderr, "busyd: %s: %s\n", name, log);
	return fd;
}

static void update_map(int map, const void *key, const void *value)
{
	union bpf_attr attr = {
		.map_fd = map, .key = (unsigned long)key, .value = (unsigned long)value,
	};

	must(bpf(BPF_MAP_UPDATE_ELEM, &attr), "map update");
}

static void load_bpf(void)
{
	int counts = make_map(BPF_MAP_TYPE_ARRAY, 4, 8, 4, 0, "packet_counts");
	int sessions = make_map(BPF_MAP_TYPE_HASH, 8, 32, 1000, BPF_F_NO_PREALLOC, "sessions");
	int programs = make_map(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 8, 0, "programs");
	int routes = make_map(BPF_MAP_TYPE_LPM_TRIE, 8, 4, 64, BPF_F_NO_PREALLOC, "routes");
	int filter = load_counter(BPF_PROG_TYPE_SOCKET_FILTER, 0, counts, "count_socket");
	int cgroup = load_counter(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, counts,
				  "count_egress");
	union bpf_attr attach = { .attach_type = BPF_CGROUP_INET_EGRESS, .attach_bpf_fd = cgroup };
	struct { unsigned int bits, address; } route = { 8, htonl(0x0a000000) };
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	unsigned int index = 0, hop = 9;
	char session[32] = "kmortem";

	make_map(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 10, 0, "");
	make_map(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0, "events");
	for (unsigned long id = 1; id <= 20; id++)
		update_map(sessions, &id, session);
	update_map(routes, &route, &hop);
	update_map(programs, &index, &filter);
	must(setsockopt(udp, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)), "filter");
	attach.target_fd = open("/sys/fs/cgroup/system.slice", O_RDONLY | O_DIRECTORY);
	must(bpf(BPF_PROG_ATTACH, &attach), "attach");
}

/* --- sockets ------------------------------------------------------------ */

static int bound(int family, int type, const char *address, int port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = must(socket(family, type, 0), "socket"), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	inet_pton(family, address, family == AF_INET ? (void *)&v4.sin_addr : &v6.sin6_addr);
	if (family == AF_INET)
		must(bind(fd, (struct sockaddr *)&v4, sizeof(v4)), "bind");
	else
		must(bind(fd, (struct sockaddr *)&v6, sizeof(v6)), "bind");
	return fd;
}

static int connected(int family, int type, const char *address, int port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = must(socket(family, type, 0), "socket");

	inet_pton(family, address, family == AF_INET ? (void *)&v4.sin_addr : &v6.sin6_addr);
	if (family == AF_INET)
		connect(fd, (struct sockaddr *)&v4, sizeof(v4));
	else
		connect(fd, (struct sockaddr *)&v6, sizeof(v6));
	return fd;
}

static void send_times(int fd, const char *text, int times)
{
	while (times-- > 0)
		must(send(fd, text, strlen(text), MSG_NOSIGNAL), "send");
}

static void open_sockets(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0busyd" };
	struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int listener = bound(AF_INET, SOCK_STREAM, "0.0.0.0", 9000), accepted, unix_fd, pair[2];
	int listener6 = bound(AF_INET6, SOCK_STREAM, "::1", 9001);

	/* One connection with unread data, one that nobody accepts. */
	listen(listener, 8);
	listen(listener6, 8);
	send_times(connected(AF_INET, SOCK_STREAM, "127.0.0.1", 9000), "unread request ", 200);
	accepted = accept(listener, NULL, NULL);
	send_times(accepted, "unread answer ", 50);
	send_times(connected(AF_INET, SOCK_STREAM, "127.0.0.1", 9000), "hello", 1);
	connected(AF_INET6, SOCK_STREAM, "::1", 9001);
	accepted = accept(listener6, NULL, NULL);
	send_times(accepted, "v6", 3);

	/* In TIME_WAIT, and in SYN_SENT to a neighbour that never answers. */
	close(accept(listener, NULL, NULL));
	accepted = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_port = htons(80) };
	inet_pton(AF_INET, "10.0.2.99", &nobody.sin_addr);
	connect(accepted, (struct sockaddr *)&nobody, sizeof(nobody));

	bound(AF_INET, SOCK_DGRAM, "127.0.0.1", 5353);
	send_times(connected(AF_INET, SOCK_DGRAM, "127.0.0.1", 5353), "datagram", 7);
	bound(AF_INET6, SOCK_DGRAM, "::", 5354);
	must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw");
	must(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), "raw6");
	must(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "packet");
	unix_fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	must(bind(unix_fd, (struct sockaddr *)&group, sizeof(group)), "netlink");

	unix_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	bind(unix_fd, (struct sockaddr *)&name, sizeof(sa_family_t) + 6);
	listen(unix_fd, 4);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	send_times(pair[0], "through a pair", 20);
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "socketpair");
	send_times(pair[1], "message", 4);
}

/* --- files -------------------------------------------------------------- */

static void open_files(void)
{
	static char block[1 << 16];
	int deleted = open("/srv/deleted", O_RDWR | O_CREAT, 0600);
	int dirty = open("/srv/dirty", O_RDWR | O_CREAT, 0644), pipes[2];
	int memory = syscall(SYS_memfd_create, "busyd-memory", 0);
	sigset_t signals;

	must(write(deleted, block, sizeof(block)), "write");
	unlink("/srv/deleted");
	must(write(dirty, block, 5 * 4096), "write");
	must(write(memory, block, 3 * 4096), "write");
	must(pipe2(pipes, O_CLOEXEC), "pipe");
	must(write(pipes[1], "left in the pipe", 16), "write");
	flock(dirty, LOCK_EX);
	dup(dirty);
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	signalfd(-1, &signals, 0);
	inotify_add_watch(inotify_init1(0), "/srv", IN_CREATE);
	open("/srv/index.html", O_PATH);
	open("/proc/self/status", O_RDONLY);
	syscall(SYS_pidfd_open, 1, 0);
	mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, dirty, 0);
}

/* --- namespaces --------------------------------------------------------- */

static void unshare_all(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID |
		     CLONE_NEWCGROUP),
	     "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	must(mount("jail", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m"), "tmpfs");
	mkdir("/mnt/upper", 0755);
	mkdir("/mnt/work", 0755);
	mkdir("/mnt/root", 0755);
	must(mount("overlay", "/mnt/root", "overlay", 0,
		   "lowerdir=/srv,upperdir=/mnt/upper,workdir=/mnt/work"),
	     "overlay");
	mkdir("/mnt/bound", 0755);
	must(mount("/srv", "/mnt/bound", NULL, MS_BIND, NULL), "bind");
	must(mount(NULL, "/mnt/bound", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "read-only");
	sethostname("jail", 4);
	must(shmget(0x4001, 4096, IPC_CREAT | 0600), "shmget");
	must(msgget(0x4002, IPC_CREAT | 0600), "msgget");
	close(open("/mnt/root/written", O_CREAT | O_WRONLY, 0644));
	if (fork() == 0)
		open("/mnt/root/index.html", O_RDONLY);
	bound(AF_INET, SOCK_DGRAM, "0.0.0.0", 53);
}

/* --- signals, timers, scheduling ---------------------------------------- */

static void on_signal(int signal)
{
	(void)signal;
}

static void pend_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct itimerval itimer = { { 500, 0 }, { 500, 0 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2 };
	struct sched_param priority = { .sched_priority = 10 };
	struct itimerspec minute = { { 60, 0 }, { 60, 0 } };
	struct sched_param none = { 0 };
	sigset_t blocked;
	timer_t timer;

	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGRTMIN + 2, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = i });
	raise(SIGUSR1);
	syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
	setitimer(ITIMER_REAL, &itimer, NULL);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &minute, NULL);
	if (fork() == 0)
		raise(SIGSTOP);
	if (fork() == 0)
		_exit(3); /* a zombie */
	if (fork() == 0)
		must(sched_setscheduler(0, SCHED_FIFO, &priority), "fifo");
	else if (fork() == 0)
		must(sched_setscheduler(0, SCHED_BATCH, &none), "batch");
}

/* --- memory ------------------------------------------------------------- */

static void use_memory(void)
{
	const size_t size = 20 << 20, huge = 4 << 20;
	char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *pages = mmap(NULL, huge, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	char *locked = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);

	if (locked != MAP_FAILED)
		memset(locked, 'l', 1 << 16);
	if (pages != MAP_FAILED)
		memset(pages, 'h', 2 << 20);
	/* More than its cgroup allows: most of it goes to swap. */
	for (size_t at = 0; at < size; at += 4096)
		snprintf(block + at, 64, "page %zu of the block", at / 4096);
}

static const struct {
	const char *name;
	void (*set_up)(void);
} roles[] = {
	{ "ipc", fill_ipc },
	{ "bpf", load_bpf },
	{ "sockets", open_sockets },
	{ "files", open_files },
	{ "jail", unshare_all },
	{ "signals", pend_signals },
	{ "memory", use_memory },
};

int main(int argc, char **argv)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	/* Up to v5.10 BPF maps count as locked memory. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	for (size_t i = 0; argc > 1 && i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (strcmp(argv[1], roles[i].name))
			continue;
		roles[i].set_up();
		ready(argv[1]);
		for (;;)
			pause();
	}
	return 1;
}

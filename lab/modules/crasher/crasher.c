// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * crasher - a small session table with one planted bug per mode.
 *
 * The module plays a driver that keeps "sessions" in a list behind a mutex
 * and serves one request when it is loaded: crasher_init() ->
 * crasher_handle_request() -> the step that breaks. `insmod crasher.ko
 * mode=NAME` picks the step; crasher_faults[] at the end lists the names.
 *
 * It builds against every kernel of the matrix (5.10 to 7.x), so it stays
 * with interfaces that did not change between them.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

#define CRASHER_SESSIONS 24
#define CRASHER_LEAK_OBJECT 1024

static char *mode = "none";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "how to break the kernel; none loads and does nothing");

/* What a session is charged to; shared by sessions. */
struct crasher_account {
	u64 balance;
	u32 refs;
	char owner[16];
};

struct crasher_session {
	struct list_head node;
	u64 id;
	u32 refs;
	/* In the middle of the object, where SLUB keeps a free object's link. */
	struct crasher_account *account;
	void (*notify)(struct crasher_session *session);
	char user[16];
};

struct crasher_expiry {
	struct timer_list timer;
	struct crasher_session *session;
	unsigned long fired;
};

static LIST_HEAD(crasher_sessions);
static DEFINE_MUTEX(crasher_table_lock);
static DEFINE_MUTEX(crasher_journal_lock);
static DEFINE_SPINLOCK(crasher_index_lock);
static struct kmem_cache *crasher_session_cache;
static struct kmem_cache *crasher_leak_cache;
static struct crasher_expiry crasher_expiry;

/* Never written: the request path forgets to look a session up first. */
static struct crasher_session *crasher_current_session;

static void crasher_session_ready(struct crasher_session *session)
{
	session->refs++;
}

static struct crasher_session *crasher_new_session(u64 id)
{
	struct crasher_session *session;

	session = kmem_cache_zalloc(crasher_session_cache, GFP_KERNEL);
	if (!session)
		return NULL;
	session->id = id;
	session->notify = crasher_session_ready;
	snprintf(session->user, sizeof(session->user), "user%llu", id);
	return session;
}

static struct crasher_session *crasher_first_session(void)
{
	return list_first_entry(&crasher_sessions, struct crasher_session, node);
}

/* --- process context ---------------------------------------------------- */

static noinline void crasher_charge_account(struct crasher_account *account)
{
	account->balance += 100;
}

static noinline int crasher_null_deref(void)
{
	struct crasher_session *session = READ_ONCE(crasher_current_session);

	WRITE_ONCE(session->account, NULL);
	return 0;
}

static noinline int crasher_use_after_free(void)
{
	struct crasher_session *session = crasher_new_session(4711);

	if (!session)
		return -ENOMEM;
	session->account = kzalloc(sizeof(*session->account), GFP_KERNEL);
	list_add(&session->node, &crasher_sessions);
	list_del(&session->node);
	kmem_cache_free(crasher_session_cache, session);
	/* What stands there now is SLUB's scrambled link to the next free object. */
	crasher_charge_account(READ_ONCE(session->account));
	return 0;
}

static noinline int crasher_double_free(void)
{
	struct crasher_session *session = crasher_new_session(4712);

	if (!session)
		return -ENOMEM;
	kmem_cache_free(crasher_session_cache, session);
	kmem_cache_free(crasher_session_cache, session);
	return 0;
}

static noinline int crasher_list_del_twice(void)
{
	struct crasher_session *session = crasher_first_session();

	list_del(&session->node);
	list_del(&session->node);
	return 0;
}

static noinline int crasher_check_refs(void)
{
	struct crasher_session *session = crasher_first_session();

	BUG_ON(READ_ONCE(session->refs) != 1);
	return 0;
}

static noinline int crasher_mean_balance(void)
{
	struct crasher_session *session = crasher_first_session();
	u64 sum = 10000;

	return div_u64(sum, READ_ONCE(session->refs));
}

/* A pointer whose upper bits were overwritten: not canonical. */
static noinline int crasher_wild_pointer(void)
{
	struct crasher_account *account = (void *)0x5041594c4f414421UL;

	crasher_charge_account(account);
	return 0;
}

/* Calls through a pointer that text ran into. */
static noinline int crasher_wild_call(void)
{
	struct crasher_session *session = crasher_first_session();

	session->notify = (void *)0x1000;
	session->notify(session);
	return 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static noinline int crasher_recurse(unsigned int depth)
{
	volatile char path[192];
	int below;

	path[depth % sizeof(path)] = depth;
	below = crasher_recurse(depth + 1);
	return below + path[depth % sizeof(path)];
}
#pragma GCC diagnostic pop

static noinline int crasher_stack_overflow(void)
{
	return crasher_recurse(0);
}

static noinline int crasher_leak_sessions(void)
{
	unsigned long total = totalram_pages() * PAGE_SIZE / 4 / CRASHER_LEAK_OBJECT;
	unsigned long count;

	for (count = 0; count < total; count++) {
		u64 *object = kmem_cache_zalloc(crasher_leak_cache, GFP_KERNEL);

		if (!object)
			break;
		object[0] = count;
	}
	panic("crasher: no room for sessions after %lu objects", count);
	return 0;
}

static noinline int crasher_update_refs(int (*step)(void))
{
	int ret;

	mutex_lock(&crasher_journal_lock);
	ret = step();
	mutex_unlock(&crasher_journal_lock);
	return ret;
}

/* --- timer (softirq) ----------------------------------------------------- */

static noinline void crasher_expire_session(struct crasher_session *session)
{
	crasher_charge_account(READ_ONCE(session->account));
}

static void crasher_timer_fn(struct timer_list *timer)
{
	struct crasher_expiry *expiry = container_of(timer, struct crasher_expiry, timer);

	expiry->fired++;
	crasher_expire_session(expiry->session);
}

/* The session has no account yet when its timer fires. */
static noinline int crasher_arm_timer(void)
{
	crasher_expiry.session = crasher_first_session();
	timer_setup(&crasher_expiry.timer, crasher_timer_fn, 0);
	mod_timer(&crasher_expiry.timer, jiffies + HZ / 4);
	return 0;
}

/* --- threads that block or never yield ------------------------------------ */

static noinline int crasher_start(int (*fn)(void *), const char *name)
{
	struct task_struct *task = kthread_run(fn, NULL, "%s", name);

	return PTR_ERR_OR_ZERO(task);
}

/* Waits for a commit that nobody will ever signal, with the table locked. */
static noinline void crasher_hold_table(void)
{
	DECLARE_COMPLETION_ONSTACK(commit);

	mutex_lock(&crasher_table_lock);
	while (!kthread_should_stop())
		wait_for_completion_interruptible(&commit);
	mutex_unlock(&crasher_table_lock);
}

static int crasher_owner_fn(void *unused)
{
	crasher_hold_table();
	return 0;
}

static noinline void crasher_wait_for_table(void)
{
	mutex_lock(&crasher_table_lock);
	list_first_entry(&crasher_sessions, struct crasher_session, node)->refs++;
	mutex_unlock(&crasher_table_lock);
}

static int crasher_waiter_fn(void *unused)
{
	crasher_wait_for_table();
	return 0;
}

static noinline int crasher_hung_task(void)
{
	int ret = crasher_start(crasher_owner_fn, "crasher_owner");

	msleep(100);
	return ret ?: crasher_start(crasher_waiter_fn, "crasher_waiter");
}

static noinline void crasher_lock_both(struct mutex *first, struct mutex *second)
{
	mutex_lock(first);
	msleep(200);
	mutex_lock(second);
	mutex_unlock(second);
	mutex_unlock(first);
}

static int crasher_commit_fn(void *unused)
{
	crasher_lock_both(&crasher_table_lock, &crasher_journal_lock);
	return 0;
}

static int crasher_replay_fn(void *unused)
{
	crasher_lock_both(&crasher_journal_lock, &crasher_table_lock);
	return 0;
}

static noinline int crasher_deadlock(void)
{
	int ret = crasher_start(crasher_commit_fn, "crasher_commit");

	return ret ?: crasher_start(crasher_replay_fn, "crasher_replay");
}

/* The list was spliced onto itself: the walk never meets its head again. */
static noinline void crasher_walk_index(void)
{
	struct crasher_session *session = crasher_first_session();

	WRITE_ONCE(session->node.next, &session->node);
	spin_lock(&crasher_index_lock);
	while (&session->node != &crasher_sessions) {
		session = list_entry(READ_ONCE(session->node.next),
				     struct crasher_session, node);
		cpu_relax();
	}
	spin_unlock(&crasher_index_lock);
}

static int crasher_spin_fn(void *unused)
{
	crasher_walk_index();
	return 0;
}

static noinline int crasher_soft_lockup(void)
{
	return crasher_start(crasher_spin_fn, "crasher_spin");
}

/* A reader that stays in its critical section. */
static noinline void crasher_read_forever(void)
{
	rcu_read_lock();
	for (;;)
		cpu_relax();
}

static int crasher_reader_fn(void *unused)
{
	crasher_read_forever();
	return 0;
}

static noinline int crasher_rcu_stall(void)
{
	return crasher_start(crasher_reader_fn, "crasher_reader");
}

/* --- one request ----------------------------------------------------------- */

static int crasher_nothing(void)
{
	return 0;
}

struct crasher_fault {
	const char *name;
	int (*step)(void);
	bool under_lock;	/* goes through crasher_update_refs() */
};

static const struct crasher_fault crasher_faults[] = {
	{ "none", crasher_nothing },
	{ "null", crasher_null_deref, true },
	{ "uaf", crasher_use_after_free, true },
	{ "doublefree", crasher_double_free, true },
	{ "list", crasher_list_del_twice, true },
	{ "bug", crasher_check_refs, true },
	{ "divide", crasher_mean_balance, true },
	{ "gp", crasher_wild_pointer, true },
	{ "wildcall", crasher_wild_call, true },
	{ "stack", crasher_stack_overflow },
	{ "leak", crasher_leak_sessions },
	{ "timer", crasher_arm_timer },
	{ "hung", crasher_hung_task },
	{ "deadlock", crasher_deadlock },
	{ "softlockup", crasher_soft_lockup },
	{ "rcustall", crasher_rcu_stall },
};

static noinline int crasher_handle_request(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(crasher_faults); i++) {
		const struct crasher_fault *fault = &crasher_faults[i];

		if (strcmp(fault->name, name))
			continue;
		if (fault->under_lock)
			return crasher_update_refs(fault->step);
		return fault->step();
	}
	return -EINVAL;
}

/*
 * `cat /sys/module/crasher/parameters/sessions` counts the table under its
 * lock: a process of user space that can be made to wait.
 */
static noinline int crasher_count_sessions(void)
{
	struct crasher_session *session;
	int count = 0;

	mutex_lock(&crasher_table_lock);
	list_for_each_entry(session, &crasher_sessions, node)
		count++;
	mutex_unlock(&crasher_table_lock);
	return count;
}

static int crasher_sessions_get(char *buffer, const struct kernel_param *kp)
{
	return sprintf(buffer, "%d\n", crasher_count_sessions());
}

static const struct kernel_param_ops crasher_sessions_ops = {
	.get = crasher_sessions_get,
};
module_param_cb(sessions, &crasher_sessions_ops, NULL, 0444);

static int crasher_fill_table(void)
{
	u64 id;

	for (id = 1; id <= CRASHER_SESSIONS; id++) {
		struct crasher_session *session = crasher_new_session(id);

		if (!session)
			return -ENOMEM;
		list_add_tail(&session->node, &crasher_sessions);
	}
	return 0;
}

static int __init crasher_init(void)
{
	int ret;

	/* SLAB_ACCOUNT also keeps SLUB from merging these with the kmalloc caches. */
	crasher_session_cache = kmem_cache_create("crasher_session",
			sizeof(struct crasher_session), 0, SLAB_ACCOUNT | SLAB_PANIC, NULL);
	crasher_leak_cache = kmem_cache_create("crasher_leak",
			CRASHER_LEAK_OBJECT, 0, SLAB_ACCOUNT | SLAB_PANIC, NULL);
	ret = crasher_fill_table();
	if (ret)
		return ret;
	pr_info("crasher: %d sessions, mode %s\n", CRASHER_SESSIONS, mode);
	return crasher_handle_request(mode);
}
module_init(crasher_init);

MODULE_DESCRIPTION("Breaks the kernel on request, for tests of crash dump readers");
MODULE_AUTHOR("The kmortem authors");
MODULE_LICENSE("Dual MIT/GPL");

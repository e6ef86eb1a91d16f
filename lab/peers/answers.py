"""What drgn answers about a dump, as JSON: kmortem's answers are held against it.

Run by the lab:  drgn -q -c VMCORE -s VMLINUX answers.py
(drgn is the judge here because it reads the distribution's own debuginfo,
which kmortem never looks at.)
"""

import itertools
import json
import sys

from drgn import FaultError, TypeKind
from drgn.helpers.linux.block import disk_name, for_each_disk
from drgn.helpers.linux.fs import for_each_mount, mount_dst, mount_fstype
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.net import for_each_netdev
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.sched import task_cpu, task_state_to_char
from drgn.helpers.linux.slab import for_each_slab_cache

STRUCTS = """
    task_struct signal_struct mm_struct vm_area_struct file files_struct fdtable dentry inode
    super_block mount vfsmount path net net_device in_device in_ifaddr sock socket sk_buff request
    request_queue gendisk block_device bio page folio slab kmem_cache kmem_cache_cpu
    kmem_cache_node zone pglist_data mem_cgroup page_counter cgroup cgroup_subsys_state css_set
    module mod_kallsyms module_memory rq cfs_rq rt_rq mutex mutex_waiter rw_semaphore
    rwsem_waiter semaphore pid pid_namespace nsproxy uts_namespace new_utsname xarray xa_node
    list_head hlist_node rb_node rb_root maple_tree maple_node work_struct workqueue_struct
    worker worker_pool pool_workqueue timer_list hrtimer timekeeper tk_read_base
    printk_ringbuffer prb_desc prb_desc_ring prb_data_ring printk_info pt_regs
    inactive_task_frame orc_entry cea_exception_stacks cpu_entry_area tss_struct desc_struct
    thread_struct cpuinfo_x86 percpu_counter vm_struct vmap_area address_space bdi_writeback
    kobject device device_driver virtqueue virtio_device irq_desc irqaction softirq_action
    tcp_sock inet_sock unix_sock cred user_namespace ipc_namespace
""".split()


def members(ty, base=0):
    """(path, bit offset, bit size of a bitfield or None), anonymous members looked into."""
    for member in ty.members:
        offset = base + member.bit_offset
        if member.name is None:
            yield from members(member.type, offset)
        else:
            yield member.name, offset, member.bit_field_size


def types():
    answers = {}
    for name in STRUCTS:
        try:
            ty = prog.type("struct " + name)
        except LookupError:
            continue
        if ty.is_complete():
            answers[name] = {"size": ty.size, "members": list(members(ty))}
    return answers


def symbols():
    """Every 61st symbol of the kernel's own, so that a run stays short."""
    wanted = [s for s in prog.symbols() if s.name and s.address >> 63]
    wanted.sort(key=lambda s: (s.address, s.name))
    return [(s.name, s.address) for s in itertools.islice(wanted, 0, None, 61)]


def frames(task):
    try:
        trace = prog.stack_trace(task)
    except (ValueError, FaultError) as e:
        return {"error": str(e)}
    rows = []
    for frame in trace:
        if frame.is_inline:
            continue
        try:
            symbol = frame.symbol().name
        except LookupError:
            symbol = None
        rows.append((frame.pc, symbol, frame.interrupted))
    return {"frames": rows[:256]}


def task(t):
    return {
        "addr": t.value_(),
        "pid": t.pid.value_(),
        "tgid": t.tgid.value_(),
        "comm": t.comm.string_().decode(errors="replace"),
        "state": task_state_to_char(t),
        "cpu": task_cpu(t),
        "stack": frames(t),
    }


def mounts():
    return [
        (m.value_(), mount_fstype(m).decode(), mount_dst(m).decode()) for m in for_each_mount(prog)
    ]


def attempt(question):
    """A helper that fails on this kernel says so: no comparison is made then."""
    try:
        return question()
    except Exception as e:  # noqa: BLE001: whatever it is, it is the answer
        return {"error": f"{type(e).__name__}: {e}"}


json.dump(
    {
        "symbols": symbols(),
        "types": types(),
        "tasks": [task(t) for t in for_each_task(prog)],
        "log": attempt(
            lambda: [
                (r.timestamp, r.level, r.text.decode(errors="replace"))
                for r in get_printk_records(prog)
            ]
        ),
        "modules": attempt(lambda: [m.name.string_().decode() for m in for_each_module(prog)]),
        "mounts": attempt(mounts),
        "netdevs": attempt(
            lambda: [(d.value_(), d.name.string_().decode()) for d in for_each_netdev(prog["init_net"])]
        ),
        "disks": attempt(lambda: [(d.value_(), disk_name(d).decode()) for d in for_each_disk(prog)]),
        "slab_caches": attempt(
            lambda: [(c.name.string_().decode(), c.object_size.value_()) for c in for_each_slab_cache(prog)]
        ),
        "uname": attempt(lambda: prog["init_uts_ns"].name.release.string_().decode()),
    },
    sys.stdout,
)

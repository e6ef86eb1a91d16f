"""Symbols, and the layout of structures."""

import itertools

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


def types(prog):
    answers = {}
    for name in STRUCTS:
        try:
            ty = prog.type("struct " + name)
        except LookupError:
            continue
        if ty.is_complete():
            answers[name] = {"size": ty.size, "members": list(members(ty))}
    return answers


def symbols(prog):
    """Every 61st symbol of the kernel's own, so that a run stays short."""
    wanted = [s for s in prog.symbols() if s.name and s.address >> 63]
    wanted.sort(key=lambda s: (s.address, s.name))
    return [(s.name, s.address) for s in itertools.islice(wanted, 0, None, 61)]

//! Types of well-known global variables.
//!
//! BTF describes per-CPU variables only (pahole writes others since v1.28 where it is told to, and
//! no distribution does so). Each group names the sources that declare its variables; a type is
//! that of every kernel that has the variable, so that no version matters.

/// The type of the variable `name` as C declares it without the name: `struct list_head`,
/// `int [4]`. Lengths may be constants of enums, or variables. `None` for what is not well known.
pub fn global_type(name: &str) -> Option<&'static str> {
    GLOBALS
        .iter()
        .flat_map(|(_, group)| *group)
        .find(|(variable, _)| *variable == name)
        .map(|(_, ty)| *ty)
}

/// Where variables are declared, and (variable, type).
type Group = (&'static str, &'static [(&'static str, &'static str)]);

const GLOBALS: &[Group] = &[
    (
        "init/, kernel/: the first task and the namespaces",
        &[
            ("init_task", "struct task_struct"),
            ("init_mm", "struct mm_struct"),
            ("init_cred", "struct cred"),
            ("init_files", "struct files_struct"),
            ("init_fs", "struct fs_struct"),
            ("init_sighand", "struct sighand_struct"),
            ("init_struct_pid", "struct pid"),
            ("init_uts_ns", "struct uts_namespace"),
            ("init_pid_ns", "struct pid_namespace"),
            ("init_user_ns", "struct user_namespace"),
            ("init_ipc_ns", "struct ipc_namespace"),
            ("init_cgroup_ns", "struct cgroup_namespace"),
            ("init_time_ns", "struct time_namespace"),
            ("init_nsproxy", "struct nsproxy"),
            ("init_net", "struct net"),
            ("root_user", "struct user_struct"),
            ("linux_banner", "const char []"),
            ("linux_proc_banner", "const char []"),
            ("saved_command_line", "char *"),
            ("system_state", "enum system_states"),
            ("nr_threads", "int"),
            ("max_threads", "int"),
            ("total_forks", "unsigned long"),
            ("pid_max", "int"),
            ("tasklist_lock", "rwlock_t"),
            ("uts_sem", "struct rw_semaphore"),
            ("reset_devices", "unsigned int"),
        ],
    ),
    (
        "kernel/panic.c, kernel/watchdog.c, kernel/hung_task.c, kernel/kexec_core.c",
        &[
            ("panic_cpu", "atomic_t"),
            ("panic_timeout", "int"),
            ("panic_on_oops", "int"),
            ("panic_on_warn", "int"),
            ("panic_notifier_list", "struct atomic_notifier_head"),
            ("oops_in_progress", "int"),
            ("tainted_mask", "unsigned long"),
            ("softlockup_panic", "unsigned int"),
            ("watchdog_thresh", "int"),
            ("sysctl_hung_task_timeout_secs", "unsigned long"),
            ("sysctl_hung_task_panic", "unsigned int"),
            ("sysctl_hung_task_warnings", "int"),
            ("kexec_crash_image", "struct kimage *"),
            ("kexec_image", "struct kimage *"),
            ("crashk_res", "struct resource"),
            ("vmcoreinfo_data", "unsigned char *"),
            ("vmcoreinfo_size", "size_t"),
        ],
    ),
    (
        "kernel/printk/",
        &[
            ("log_buf", "char *"),
            ("log_buf_len", "u32"),
            ("prb", "struct printk_ringbuffer *"),
            ("console_drivers", "struct console *"),
            ("console_list", "struct hlist_head"),
            ("console_printk", "int [4]"),
        ],
    ),
    (
        "kernel/sched/",
        &[
            ("root_task_group", "struct task_group"),
            ("task_groups", "struct list_head"),
            ("def_root_domain", "struct root_domain"),
            ("avenrun", "unsigned long [3]"),
            ("calc_load_tasks", "atomic_long_t"),
            ("scheduler_running", "int"),
            ("stop_sched_class", "const struct sched_class"),
            ("dl_sched_class", "const struct sched_class"),
            ("rt_sched_class", "const struct sched_class"),
            ("fair_sched_class", "const struct sched_class"),
            ("idle_sched_class", "const struct sched_class"),
        ],
    ),
    (
        "kernel/time/, arch/x86/kernel/tsc.c",
        &[
            ("jiffies", "volatile unsigned long"),
            ("jiffies_64", "u64"),
            ("loops_per_jiffy", "unsigned long"),
            ("tick_do_timer_cpu", "int"),
            ("clocksource_list", "struct list_head"),
            ("curr_clocksource", "struct clocksource *"),
            ("sys_tz", "struct timezone"),
            ("tsc_khz", "unsigned int"),
            ("cpu_khz", "unsigned int"),
        ],
    ),
    (
        "kernel/cpu.c, mm/percpu.c, arch/x86/",
        &[
            ("nr_cpu_ids", "unsigned int"),
            ("__per_cpu_offset", "unsigned long [nr_cpu_ids]"),
            ("__cpu_possible_mask", "struct cpumask"),
            ("__cpu_present_mask", "struct cpumask"),
            ("__cpu_online_mask", "struct cpumask"),
            ("__cpu_active_mask", "struct cpumask"),
            ("__cpu_dying_mask", "struct cpumask"),
            ("__num_online_cpus", "atomic_t"),
            ("boot_cpu_data", "struct cpuinfo_x86"),
            ("init_top_pgt", "pgd_t []"),
            ("phys_base", "unsigned long"),
            ("page_offset_base", "unsigned long"),
            ("vmalloc_base", "unsigned long"),
            ("vmemmap_base", "unsigned long"),
            ("idt_table", "gate_desc [256]"),
            ("pv_ops", "struct paravirt_patch_template"),
            ("smp_ops", "struct smp_ops"),
            ("x86_platform", "struct x86_platform_ops"),
            ("apic", "struct apic *"),
        ],
    ),
    (
        "kernel/rcu/tree.c, kernel/workqueue.c, kernel/softirq.c, kernel/irq/",
        &[
            ("rcu_state", "struct rcu_state"),
            ("rcu_expedited", "int"),
            ("workqueues", "struct list_head"),
            ("system_wq", "struct workqueue_struct *"),
            ("system_highpri_wq", "struct workqueue_struct *"),
            ("system_long_wq", "struct workqueue_struct *"),
            ("system_unbound_wq", "struct workqueue_struct *"),
            ("system_freezable_wq", "struct workqueue_struct *"),
            ("worker_pool_idr", "struct idr"),
            ("wq_pool_mutex", "struct mutex"),
            ("softirq_vec", "struct softirq_action [NR_SOFTIRQS]"),
            ("softirq_to_name", "const char * [NR_SOFTIRQS]"),
            ("irq_desc_tree", "struct xarray"),
            ("sparse_irqs", "struct maple_tree"),
            ("irq_err_count", "atomic_t"),
        ],
    ),
    (
        "kernel/module/, kernel/kallsyms.c, kernel/trace/, kernel/bpf/",
        &[
            ("modules", "struct list_head"),
            ("module_mutex", "struct mutex"),
            ("kallsyms_num_syms", "unsigned int"),
            ("ftrace_trace_arrays", "struct list_head"),
            ("ftrace_enabled", "int"),
            ("global_trace", "struct trace_array"),
            ("prog_idr", "struct idr"),
            ("map_idr", "struct idr"),
            ("link_idr", "struct idr"),
        ],
    ),
    (
        "kernel/cgroup/, mm/memcontrol.c",
        &[
            ("cgrp_dfl_root", "struct cgroup_root"),
            ("cgroup_roots", "struct list_head"),
            ("cgroup_mutex", "struct mutex"),
            ("init_css_set", "struct css_set"),
            ("css_set_lock", "spinlock_t"),
            ("root_mem_cgroup", "struct mem_cgroup *"),
            ("memory_cgrp_subsys", "struct cgroup_subsys"),
        ],
    ),
    (
        "mm/",
        &[
            ("node_data", "struct pglist_data * [nr_node_ids]"),
            ("contig_page_data", "struct pglist_data"),
            ("nr_node_ids", "unsigned int"),
            ("nr_online_nodes", "unsigned int"),
            ("node_states", "nodemask_t [NR_NODE_STATES]"),
            ("vm_node_stat", "atomic_long_t [NR_VM_NODE_STAT_ITEMS]"),
            ("vm_zone_stat", "atomic_long_t [NR_VM_ZONE_STAT_ITEMS]"),
            ("vm_numa_event", "atomic_long_t [NR_VM_NUMA_EVENT_ITEMS]"),
            ("_totalram_pages", "atomic_long_t"),
            ("totalreserve_pages", "unsigned long"),
            ("totalcma_pages", "unsigned long"),
            ("high_memory", "void *"),
            ("max_pfn", "unsigned long"),
            ("max_low_pfn", "unsigned long"),
            ("min_low_pfn", "unsigned long"),
            ("max_mapnr", "unsigned long"),
            ("mem_section", "struct mem_section **"),
            ("mem_map", "struct page *"),
            ("slab_caches", "struct list_head"),
            ("slab_mutex", "struct mutex"),
            ("slab_state", "enum slab_state"),
            ("kmem_cache", "struct kmem_cache *"),
            ("vmap_area_list", "struct list_head"),
            ("vm_committed_as", "struct percpu_counter"),
            ("sysctl_overcommit_memory", "int"),
            ("sysctl_overcommit_ratio", "int"),
            ("sysctl_overcommit_kbytes", "unsigned long"),
            ("sysctl_max_map_count", "int"),
            ("sysctl_panic_on_oom", "int"),
            ("sysctl_oom_kill_allocating_task", "int"),
            ("sysctl_oom_dump_tasks", "int"),
            ("min_free_kbytes", "int"),
            ("watermark_scale_factor", "int"),
            ("vm_swappiness", "int"),
            ("vm_dirty_ratio", "int"),
            ("dirty_background_ratio", "int"),
            ("nr_swap_pages", "atomic_long_t"),
            ("total_swap_pages", "long"),
            ("nr_swapfiles", "unsigned int"),
            ("swap_active_head", "struct plist_head"),
            ("hugetlb_max_hstate", "int"),
            ("hstates", "struct hstate [hugetlb_max_hstate]"),
            ("default_hstate_idx", "unsigned int"),
            ("transparent_hugepage_flags", "unsigned long"),
            ("oom_lock", "struct mutex"),
            ("shrinker_list", "struct list_head"),
            ("num_poisoned_pages", "atomic_long_t"),
        ],
    ),
    (
        "fs/, block/, drivers/",
        &[
            ("super_blocks", "struct list_head"),
            ("file_systems", "struct file_system_type *"),
            ("inode_hashtable", "struct hlist_head *"),
            ("dentry_hashtable", "struct hlist_bl_head *"),
            ("mount_hashtable", "struct hlist_head *"),
            ("files_stat", "struct files_stat_struct"),
            ("dentry_stat", "struct dentry_stat_t"),
            ("inodes_stat", "struct inodes_stat_t"),
            ("sysctl_nr_open", "unsigned int"),
            ("chrdevs", "struct char_device_struct * [255]"),
            ("cdev_map", "struct kobj_map *"),
            ("major_names", "struct blk_major_name * [255]"),
            ("all_bdevs", "struct list_head"),
            ("tty_drivers", "struct list_head"),
            ("iomem_resource", "struct resource"),
            ("ioport_resource", "struct resource"),
            ("pci_root_buses", "struct list_head"),
            ("devices_kset", "struct kset *"),
            ("kernel_kobj", "struct kobject *"),
        ],
    ),
    (
        "net/",
        &[
            ("net_namespace_list", "struct list_head"),
            ("dev_base_lock", "rwlock_t"),
            ("tcp_hashinfo", "struct inet_hashinfo"),
            ("udp_table", "struct udp_table"),
            ("tcp_memory_allocated", "atomic_long_t"),
            ("udp_memory_allocated", "atomic_long_t"),
            ("sysctl_tcp_mem", "long [3]"),
            ("inet_protos", "struct net_protocol * [256]"),
            ("ptype_base", "struct list_head [16]"),
            ("ptype_all", "struct list_head"),
            ("rtnl_mutex", "struct mutex"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once() {
        let names: Vec<&str> =
            GLOBALS.iter().flat_map(|(_, group)| *group).map(|(name, _)| *name).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name}");
        }
        assert_eq!(global_type("modules"), Some("struct list_head"));
        assert_eq!(global_type("no_such_variable"), None);
    }
}

//! Data that the code of known functions refers to.
//!
//! The compiler decides where in a function that is, and what else the function
//! refers to: the first address that memory bears out counts. Names of static
//! data and of functions are those of the kernel's sources from v5.10 on; one
//! that a kernel does not have, or that refers to nothing of the shape, names
//! nothing.

use crate::Kernel;
use crate::layout::place_of;
use crate::object::Object;

/// What must be in memory at the address.
enum Shape {
    /// `struct list_head`, of a list with members.
    List,
    /// The same, whose members have a name: (type, its member in the list, its
    /// name: a text or a pointer to one).
    Named(&'static str, &'static str, &'static str),
    /// A structure, or a pointer to one, with such a text: (type, member, how it
    /// begins).
    Text(&'static str, &'static str, &'static str),
    /// `struct xarray`, whose top node knows the tree that it belongs to, or an
    /// empty one that numbers are handed out by; a single entry is not believed.
    Tree,
    /// `wait_queue_head_t`: a list, empty or not, inside.
    WaitQueue,
    /// A pointer to the first instruction of a function.
    Function,
    /// A pointer to a text.
    Pointer,
    /// An array of pointers to data, or NULL.
    Pointers,
    /// An `unsigned int` that is no less and no more.
    Number(u32, u32),
    /// `tk_core`: a clock with a name.
    Timekeeper,
    /// Anything: the functions refer to nothing else.
    Only,
}

/// Data, and functions that refer to it.
struct Known(&'static str, Shape, &'static [&'static str]);

const KNOWN: [Known; 35] = [
    Known(
        "modules",
        Shape::List,
        &["find_module_all", "module_kallsyms_lookup_name", "print_modules"],
    ),
    Known(
        "slab_caches",
        Shape::Named("kmem_cache", "list", "name"),
        &["slab_start", "slab_next", "slab_show", "dump_unreclaimable_slab", "slab_unmergeable"],
    ),
    Known(
        "super_blocks",
        Shape::Named("super_block", "s_list", "s_id"),
        &["iterate_supers", "user_get_super", "get_super", "emergency_remount"],
    ),
    Known(
        "workqueues",
        Shape::Named("workqueue_struct", "list", "name"),
        &["show_all_workqueues", "freeze_workqueues_begin", "thaw_workqueues"],
    ),
    Known("worker_pool_idr", Shape::Tree, &["work_busy", "get_work_pool", "try_to_grab_pending"]),
    Known("map_idr", Shape::Tree, &["bpf_map_get_curr_or_next", "bpf_map_free_id"]),
    Known("prog_idr", Shape::Tree, &["bpf_prog_get_curr_or_next", "bpf_prog_by_id"]),
    Known("cgroup_roots", Shape::List, &["cgroup_attach_task_all", "proc_cgroup_show"]),
    Known(
        "cgroup_subsys",
        Shape::Text("cgroup_subsys", "name", "cpu"),
        &["cgroup_print_ss_mask", "cgroup_e_css", "cgroup_get_e_css", "task_cgroup_from_root"],
    ),
    Known("ftrace_trace_arrays", Shape::List, &["trace_event_enable_cmd_record", "event_remove"]),
    Known("ftrace_events", Shape::List, &["trace_probe_register_event_call", "perf_trace_init"]),
    Known("block_class", Shape::Text("class", "name", "block"), &["devtmpfs_create_node"]),
    Known("class_kset", Shape::Text("kset", "kobj.name", "class"), &["class_compat_register"]),
    Known("bus_kset", Shape::Text("kset", "kobj.name", "bus"), &["bus_register"]),
    Known("slab_kset", Shape::Text("kset", "kobj.name", "slab"), &["sysfs_slab_add"]),
    Known("hstates", Shape::Text("hstate", "name", "hugepages-"), &["size_to_hstate"]),
    Known("hugetlb_max_hstate", Shape::Number(1, 16), &["size_to_hstate"]),
    Known("memory_blocks", Shape::Tree, &["find_memory_block", "walk_memory_blocks"]),
    Known("irq_desc_tree", Shape::Tree, &["irq_to_desc", "generic_handle_irq"]),
    Known("softirq_vec", Shape::Function, &["open_softirq"]),
    Known("sys_call_table", Shape::Function, &["do_el0_svc", "el0_svc_common"]),
    Known("nr_swapfiles", Shape::Number(0, 32), &["swapcache_free_entries"]),
    Known("swap_info", Shape::Pointers, &["get_swap_page_of_type", "swap_page_sector"]),
    Known("chrdevs", Shape::Pointers, &["cdev_purge", "cd_forget"]),
    Known("major_names", Shape::Pointers, &["blkdev_show"]),
    Known("cdev_map", Shape::Only, &["cdev_del", "cdev_device_del"]),
    Known("log_wait", Shape::WaitQueue, &["kmsg_poll", "wake_up_klogd_work_func"]),
    Known("saved_command_line", Shape::Pointer, &["cmdline_proc_show"]),
    Known("tainted_mask", Shape::Only, &["get_taint"]),
    Known("tk_core", Shape::Timekeeper, &["getboottime64", "ktime_get_raw", "ktime_get_ts64"]),
    Known("socket_file_ops", Shape::Only, &["sock_from_file", "sockfd_lookup"]),
    Known("vm_committed_as", Shape::Only, &["vm_memory_committed", "sync_overcommit_as"]),
    Known("sysctl_overcommit_memory", Shape::Only, &["mm_compute_batch_notifier"]),
    Known("sysctl_overcommit_kbytes", Shape::Only, &["overcommit_ratio_handler"]),
    Known("sysctl_overcommit_ratio", Shape::Only, &["overcommit_kbytes_handler"]),
];

/// Masks of controllers have 16 bits.
const MOST_CONTROLLERS: u64 = 16;
/// Bytes before `struct timekeeper` in `tk_core`: the sequence counter.
const COUNTER: u64 = 8;

/// The address of `name`, if code that can be trusted refers to it.
pub(super) fn find(kernel: &Kernel, name: &str) -> Option<u64> {
    let Known(_, shape, functions) = KNOWN.iter().find(|known| known.0 == name)?;
    functions.iter().find_map(|function| {
        // Modules, which may be what is asked for here, are left out of this.
        let found = kernel.kallsyms().ok()?;
        let start = found.find(function)?;
        let range = start..start.saturating_add(found.lookup(start)?.size);
        let mut named = kernel.arch().data_references(kernel, range);
        if let Shape::Only = shape {
            named.dedup();
            return <[u64; 1]>::try_from(named).ok().map(|[only]| only);
        }
        named.into_iter().find(|addr| shape.is_at(kernel, *addr) == Some(true))
    })
}

impl Shape {
    fn is_at(&self, kernel: &Kernel, addr: u64) -> Option<bool> {
        let word = |at: u64| kernel.read_u64(at).ok();
        Some(match self {
            Shape::List => is_list(kernel, addr)? && word(addr)? != addr,
            Shape::Named(ty, link, text) => {
                let first = word(addr)?;
                let link = place_of(kernel.ty(ty).ok()?, link)?.offset;
                let first_text = text_of(kernel, ty, text, first.wrapping_sub(link))?;
                is_list(kernel, addr)? && first != addr && is_name(&first_text)
            }
            Shape::Text(ty, member, begin) => {
                let begins = |at: u64| {
                    text_of(kernel, ty, member, at).is_some_and(|text| text.starts_with(begin))
                };
                begins(addr) || begins(word(addr)?)
            }
            // Entries of the lowest level are plain pointers; of a node, bit 1 is set.
            Shape::Tree => {
                let head = place_of(kernel.ty("xarray").ok()?, "xa_head")?.offset;
                let tree = place_of(kernel.ty("xa_node").ok()?, "array")?.offset;
                match word(addr.wrapping_add(head))? {
                    // ROOT_IS_IDR and the mark that it has free numbers
                    // (include/linux/radix-tree.h, idr.h).
                    0 => {
                        let flags = place_of(kernel.ty("xarray").ok()?, "xa_flags")?.offset;
                        let flags = kernel.read_u32(addr.wrapping_add(flags)).ok()?;
                        flags & 4 != 0 && flags.count_ones() == 2
                    }
                    node => node & 3 == 2 && word((node - 2).wrapping_add(tree))? == addr,
                }
            }
            Shape::WaitQueue => {
                let head = place_of(kernel.ty("wait_queue_head").ok()?, "head")?.offset;
                is_list(kernel, addr.wrapping_add(head))?
            }
            Shape::Function => {
                let to = word(addr)?;
                kernel.kallsyms().ok()?.lookup(to)?.addr == to
            }
            Shape::Pointer => is_name(&kernel.read_cstring(word(addr)?, 64).ok()?),
            Shape::Pointers => {
                let image = kernel.space().image_range();
                let is_data = |at: u64| at == 0 || (at >> 48 == 0xffff && !image.contains(&at));
                is_data(word(addr)?) && is_data(word(addr.wrapping_add(8))?)
            }
            Shape::Number(least, most) => (*least..=*most).contains(&kernel.read_u32(addr).ok()?),
            Shape::Timekeeper => {
                let clock = place_of(kernel.ty("timekeeper").ok()?, "tkr_mono.clock")?.offset;
                let clock = word(addr.wrapping_add(COUNTER + clock))?;
                is_name(&text_of(kernel, "clocksource", "name", clock)?)
            }
            Shape::Only => true,
        })
    }
}

/// Whether a list's head is at `addr`: its neighbours know it.
fn is_list(kernel: &Kernel, addr: u64) -> Option<bool> {
    let word = |at: u64| kernel.read_u64(at).ok();
    let (next, prev) = (word(addr)?, word(addr.wrapping_add(8))?);
    Some(word(next.wrapping_add(8))? == addr && word(prev)? == addr)
}

/// The text in a member of the structure at `addr`, an array or a pointer.
fn text_of(kernel: &Kernel, ty: &str, member: &str, addr: u64) -> Option<String> {
    Object::new(kernel, addr, kernel.ty(ty).ok()?).field(member).ok()?.string().ok()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// The `struct cgroup_subsys` of a controller: `SYMBOL_cgrp_subsys` is called
/// SYMBOL (`cgroup_subsys_name`, kernel/cgroup/cgroup.c).
pub(super) fn controller(kernel: &Kernel, name: &str) -> Option<u64> {
    let name = name.strip_suffix("_cgrp_subsys")?;
    let table = kernel.symbol("cgroup_subsys").ok()?;
    let entries = (0..MOST_CONTROLLERS).map_while(|i| kernel.read_u64(table + i * 8).ok());
    let is_it = |at: &u64| text_of(kernel, "cgroup_subsys", "name", *at).is_some_and(|n| n == name);
    entries.take_while(|at| *at != 0).find(is_it)
}

/// Data that `init_task`, which every kernel exports, leads to.
pub(super) fn by_init_task(kernel: &Kernel, init_task: u64, name: &str) -> Option<u64> {
    let task = Object::new(kernel, init_task, kernel.ty("task_struct").ok()?);
    let led = match name {
        "init_ipc_ns" => task.field("nsproxy").and_then(|o| o.deref()?.field("ipc_ns")),
        "root_task_group" => task.field("sched_task_group"),
        "init_stack" => task.field("stack"),
        _ => return None,
    };
    led.and_then(|o| o.u64()).ok().filter(|addr| kernel.space().image_range().contains(addr))
}

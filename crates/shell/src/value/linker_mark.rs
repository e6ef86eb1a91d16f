//! Symbols that mark a place and name no object.
//!
//! The linker's script defines them where sections begin and end
//! (include/asm-generic/vmlinux.lds.h, arch/*/kernel/vmlinux.lds.S), and where it
//! leaves room: the first task's stack (`INIT_TASK_DATA`). In the kernel's ELF
//! file they are data of size 0, by which gdb names no address. kallsyms keeps no
//! sizes: here they are known by how the scripts call them.

/// What the names begin with that are made of a section's.
const OF_SECTIONS: [&str; 3] = ["__start_", "__stop_", "__end_"];

/// Those with names of their own.
const OTHERS: [&str; 18] = [
    "__begin_sched_classes",
    "__brk_base",
    "__brk_limit",
    "__bss_start",
    "__bss_stop",
    "__init_begin",
    "__init_end",
    "__nosave_begin",
    "__nosave_end",
    "__per_cpu_end",
    "__per_cpu_load",
    "__per_cpu_start",
    "__top_init_kernel_stack",
    "_edata",
    "_end",
    "_sdata",
    "init_stack",
    "init_thread_union",
];

/// Whether `name` is one.
pub(super) fn is_mark(name: &str) -> bool {
    OF_SECTIONS.iter().any(|start| name.starts_with(start)) || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::is_mark;

    #[test]
    fn marks_are_no_objects() {
        for name in ["init_stack", "_sdata", "__start___ex_table", "__end_rodata"] {
            assert!(is_mark(name), "{name}");
        }
        for name in ["init_task", "initrd_start", "__start", "jiffies_64", "_printk"] {
            assert!(!is_mark(name), "{name}");
        }
    }
}

//! Functions that every stack of their kind has: they tell how the kernel got
//! there, not what went wrong. Folded in pictures, dropped from signatures.

/// What a folded frame was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// On the way down: panic, oops, crash_kexec, the exception's handler.
    Dying,
    /// Entry into the kernel, or start of a thread.
    Entry,
    /// Inside the scheduler: every sleeping task has it.
    Sleeping,
    /// The same function again and again.
    Repeated,
}

/// Names, and prefixes (ending in `*`).
const DYING: &[&str] = &[
    "delay_*",
    "__delay",
    "__const_udelay",
    "__udelay",
    "panic",
    "vpanic",
    "nmi_panic",
    "nmi_panic_self_stop",
    "panic_smp_self_stop",
    "crash_kexec",
    "__crash_kexec",
    "machine_kexec",
    "machine_crash_shutdown",
    "native_machine_crash_shutdown",
    "crash_save_cpu",
    "kdump_nmi_shootdown_cpus",
    "oops_end",
    "oops_exit",
    "die",
    "__die",
    "__die_body",
    "die_addr",
    "die_kernel_fault",
    "make_task_dead",
    "rewind_stack_and_make_dead",
    "rewind_stack_do_exit",
    "show_fault_oops",
    "page_fault_oops",
    "no_context",
    "bad_area_nosemaphore",
    "__bad_area_nosemaphore",
    "bad_area",
    "do_kern_addr_fault",
    "do_user_addr_fault",
    "kernelmode_fixup_or_oops",
    "kernelmode_fixup_or_oops.*",
    "__do_page_fault",
    "do_page_fault",
    "page_fault",
    "exc_page_fault",
    "asm_exc_page_fault",
    "exc_general_protection",
    "asm_exc_general_protection",
    "general_protection",
    "do_general_protection",
    "exc_invalid_op",
    "asm_exc_invalid_op",
    "invalid_op",
    "handle_invalid_op",
    "handle_bug",
    "exc_divide_error",
    "asm_exc_divide_error",
    "divide_error",
    "exc_double_fault",
    "asm_exc_double_fault",
    "double_fault",
    "handle_stack_overflow",
    "exc_stack_segment",
    "asm_exc_stack_segment",
    "exc_control_protection",
    "asm_exc_control_protection",
    "do_error_trap",
    "do_trap",
    "do_trap_no_signal",
    "do_divide_error",
    "fixup_bug",
    "math_error",
    "xen_asm_exc_*",
    "report_bug",
    "__report_bug",
    "__warn",
    "warn_slowpath_fmt",
    "__warn_printk",
    "check_panic_on_warn",
    "dump_stack",
    "dump_stack_lvl",
    "stop_this_cpu",
    "crash_nmi_callback",
    "__sysvec_reboot",
    "sysvec_reboot",
    "asm_sysvec_reboot",
    "smp_reboot_interrupt",
    "reboot_interrupt",
    "__stack_chk_fail",
    // arm64
    "__do_kernel_fault",
    "do_mem_abort",
    "do_translation_fault",
    "do_alignment_fault",
    "do_bad_area",
    "do_sea",
    "el1_abort",
    "el1_da",
    "el1_dbg",
    "el1_brk64",
    "el1_undef",
    "el1_bti",
    "el1_fpac",
    "el1_sync",
    "el1_sync_handler",
    "el1h_64_sync",
    "el1h_64_sync_handler",
    "do_debug_exception",
    "do_el1_brk64",
    "do_undefinstr",
    "do_el1_undef",
    "brk_handler",
    "bug_brk_handler",
    "bug_handler",
    "call_break_hook",
    "call_el1_break_hook",
    "arm64_notify_die",
    "panic_bad_stack",
    "handle_bad_stack",
    "__bad_stack",
    "arm64_serror_panic",
    "do_serror",
    "local_cpu_stop",
    "ipi_cpu_stop",
    "ipi_cpu_crash_stop",
];

const ENTRY: &[&str] = &[
    "do_syscall_64",
    "do_syscall_x64",
    "x64_sys_call",
    "entry_SYSCALL_64*",
    "entry_INT80*",
    "do_int80*",
    "entry_SYSENTER*",
    "entry_SYSRETQ*",
    "ret_from_fork",
    "ret_from_fork_asm",
    "kthread",
    "start_secondary",
    "cpu_startup_entry",
    "secondary_startup_64*",
    "common_startup_64",
    "x86_64_start_kernel",
    "x86_64_start_reservations",
    "rest_init",
    "arch_call_rest_init",
    "start_kernel",
    "asm_sysvec_*",
    "sysvec_*",
    "__sysvec_*",
    "asm_common_interrupt",
    "common_interrupt",
    "__common_interrupt",
    "smp_apic_timer_interrupt",
    "apic_timer_interrupt",
    "asm_call_on_stack",
    "asm_call_irq_on_stack",
    "asm_call_sysvec_on_stack",
    "asm_exc_nmi",
    "exc_nmi",
    "end_repeat_nmi",
    // arm64
    "el0_svc*",
    "do_el0_svc",
    "invoke_syscall",
    "el0t_64_*",
    "el0_sync*",
    "el0_irq*",
    "el0_interrupt",
    "__el0_irq_handler_common",
    "el0_da",
    "el0_ia",
    "el1h_64_irq*",
    "el1_interrupt",
    "__el1_irq",
    "el1_irq*",
    "do_interrupt_handler",
    "call_on_irq_stack",
    "gic_handle_irq",
    "__gic_handle_irq_from_irqson",
    "handle_domain_irq",
    "__handle_domain_irq",
    "generic_handle_domain_irq",
    "handle_irq_desc",
    "handle_percpu_devid_irq",
    "arch_timer_handler_*",
    "ipi_handler",
    "do_handle_IPI",
    "secondary_start_kernel",
    "__secondary_switched",
    "__primary_switched",
    "____do_softirq",
    "asm_fred_entrypoint_*",
    "fred_*",
    "__irq_exit_rcu",
    "irq_exit_rcu",
    "irq_exit",
    "irqentry_exit*",
    "invoke_softirq",
    "do_softirq_own_stack",
    "__do_softirq",
    "handle_softirqs",
    "do_softirq",
    "hrtimer_interrupt",
    "__hrtimer_run_queues",
    "worker_thread",
    "__local_bh_enable_ip",
];

const SLEEPING: &[&str] = &[
    "__schedule",
    "schedule",
    "schedule_preempt_disabled",
    "preempt_schedule*",
    "__cond_resched",
    "context_switch",
    "__switch_to*",
    "schedule_idle",
];

/// The inside of sleeping locks and waits: who called them is the question.
const WAITING: &[&str] = &[
    "mutex_lock*",
    "__mutex_lock*",
    "__ww_mutex_lock*",
    "rwsem_down_*",
    "down_read*",
    "down_write*",
    "__down*",
    "down",
    "down_interruptible",
    "down_killable",
    "down_timeout",
    "__rt_mutex_*",
    "rt_mutex_*",
    "rt_spin_lock*",
    "percpu_down_*",
    "__percpu_down_*",
    "percpu_rwsem_wait",
    "schedule_timeout*",
    "schedule_hrtimeout*",
    "do_wait_for_common",
    "__wait_for_common",
    "wait_for_completion*",
    "io_schedule*",
    "bit_wait*",
    "__wait_on_bit*",
    "out_of_line_wait_on_bit*",
    "folio_wait_bit*",
    "wait_on_page_bit*",
    "__folio_lock*",
    "msleep*",
    "do_nanosleep",
    "prepare_to_wait*",
];

/// How code is reached that many kinds of modules and system calls share: it
/// says little in a signature, though it stays in pictures.
const COMMON_PATHS: &[&str] = &[
    "do_one_initcall",
    "do_init_module",
    "load_module",
    "init_module_from_file",
    "idempotent_init_module",
    "*_sys_*",
    "ksys_*",
    "vfs_*",
    "proc_reg_*",
    "kernfs_fop_*",
    "new_sync_*",
    "process_one_work",
    "call_timer_fn",
    "expire_timers",
    "__run_timers",
    "__run_timer_base",
    "run_timer_base",
    "run_timer_softirq",
    "timer_expire_remote",
    "tmigr_*",
    "handle_mm_fault",
    "__handle_mm_fault",
    "handle_pte_fault",
    "rcu_core*",
    "rcu_do_batch",
    "tasklet_action*",
    "__handle_irq_event_percpu",
    "handle_irq_event*",
    "handle_edge_irq",
    "handle_fasteoi_irq",
    "generic_handle_irq*",
    "__kthread_parkme",
    "kthread_worker_fn",
    "iterate_dir",
    "__fput",
    "task_work_run",
    "__list_del_entry_valid*",
    "__list_add_valid*",
    "__list_del_entry",
];

fn fits(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (None, Some(prefix)) => name.starts_with(prefix),
        (Some(suffix), None) => name.ends_with(suffix),
        (None, None) => name == pattern,
    }
}

fn is_in(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|p| fits(name, p))
}

/// Whether the function runs only once the kernel has decided to die (or the
/// exception's entry that leads there).
pub(crate) fn is_dying(function: &str) -> bool {
    is_in(function, DYING)
}

/// Whether it is an entry into the kernel or the start of a thread.
pub(crate) fn is_entry(function: &str) -> bool {
    is_in(function, ENTRY)
}

/// Whether it is the scheduler itself.
pub(crate) fn is_sleeping(function: &str) -> bool {
    is_in(function, SLEEPING)
}

/// Whether it is part of a lock or wait, not its user.
pub(crate) fn is_waiting(function: &str) -> bool {
    is_in(function, WAITING) || is_sleeping(function)
}

/// Whether a signature is better without it.
pub(crate) fn is_noise(function: &str) -> bool {
    is_dying(function) || is_entry(function) || is_sleeping(function)
}

/// Whether many unrelated stacks have it: the last to be kept in a signature.
pub(crate) fn is_common_path(function: &str) -> bool {
    is_in(function, COMMON_PATHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_or_the_marked_end() {
        assert!(is_dying("delay_tsc") && is_dying("delay_halt"));
        assert!(is_entry("entry_SYSCALL_64_after_hwframe"));
        assert!(!is_entry("kthread_stop") && !is_dying("panic_on_this_list"));
        assert!(is_common_path("__x64_sys_finit_module") && is_common_path("ksys_write"));
        assert!(!is_noise("crasher_null_deref"));
    }
}

//! In whose name code ran: a system call, a kernel thread, work, a softirq, an
//! interrupt. In the last two the task on the CPU is a bystander.

use kmortem_kernel::stack::Stack;
use serde::Serialize;

use crate::noise;

/// What sort of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextKind {
    /// A system call (or an exception from user space) of the task.
    Process,
    /// A kernel thread's own function.
    KernelThread,
    /// A work item run by a kworker.
    Work,
    /// A softirq: timers, network receive, RCU callbacks.
    Softirq,
    /// A device's or timer's interrupt handler.
    Hardirq,
    /// A non-maskable interrupt.
    Nmi,
    /// The stack does not tell.
    Unknown,
}

/// The context of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// What sort.
    pub kind: ContextKind,
    /// The function that the context called: a timer's, a work item's, an
    /// interrupt's handler, a system call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

impl Context {
    /// Whether the task that was running has nothing to do with it.
    pub fn task_is_bystander(&self) -> bool {
        matches!(self.kind, ContextKind::Softirq | ContextKind::Hardirq | ContextKind::Nmi)
    }

    /// In words: "the timer function f (softirq)", "system call finit_module".
    pub fn describe(&self) -> String {
        let name = self.function.as_deref();
        match (self.kind, name) {
            (ContextKind::Process, Some(name)) => format!("system call {name}"),
            (ContextKind::Process, None) => "process context".into(),
            (ContextKind::KernelThread, Some(name)) => format!("kernel thread function {name}"),
            (ContextKind::KernelThread, None) => "a kernel thread".into(),
            (ContextKind::Work, Some(name)) => format!("work function {name}"),
            (ContextKind::Work, None) => "a work item".into(),
            (ContextKind::Softirq, Some(name)) => format!("softirq, in {name}"),
            (ContextKind::Softirq, None) => "softirq context".into(),
            (ContextKind::Hardirq, Some(name)) => format!("interrupt handler {name}"),
            (ContextKind::Hardirq, None) => "interrupt context".into(),
            (ContextKind::Nmi, _) => "a non-maskable interrupt".into(),
            (ContextKind::Unknown, _) => "an unknown context".into(),
        }
    }
}

/// Callers whose callee is the function that a context runs.
const DISPATCHERS: &[(&str, ContextKind)] = &[
    ("call_timer_fn", ContextKind::Softirq),
    ("expire_timers", ContextKind::Softirq),
    ("run_timer_softirq", ContextKind::Softirq),
    ("net_rx_action", ContextKind::Softirq),
    ("net_tx_action", ContextKind::Softirq),
    ("tasklet_action_common", ContextKind::Softirq),
    ("rcu_do_batch", ContextKind::Softirq),
    ("blk_done_softirq", ContextKind::Softirq),
    ("handle_softirqs", ContextKind::Softirq),
    ("__do_softirq", ContextKind::Softirq),
    ("do_softirq", ContextKind::Softirq),
    ("__hrtimer_run_queues", ContextKind::Hardirq),
    ("__handle_irq_event_percpu", ContextKind::Hardirq),
    ("handle_irq_event_percpu", ContextKind::Hardirq),
    ("irq_work_single", ContextKind::Hardirq),
    ("__flush_smp_call_function_queue", ContextKind::Hardirq),
    ("flush_smp_call_function_queue", ContextKind::Hardirq),
    ("common_interrupt", ContextKind::Hardirq),
    ("__common_interrupt", ContextKind::Hardirq),
    ("asm_sysvec_apic_timer_interrupt", ContextKind::Hardirq),
    ("nmi_handle", ContextKind::Nmi),
    ("exc_nmi", ContextKind::Nmi),
    ("asm_exc_nmi", ContextKind::Nmi),
    ("end_repeat_nmi", ContextKind::Nmi),
    ("process_one_work", ContextKind::Work),
    ("kthread_worker_fn", ContextKind::KernelThread),
    ("kthread", ContextKind::KernelThread),
    ("do_syscall_64", ContextKind::Process),
    ("do_syscall_x64", ContextKind::Process),
    ("entry_SYSCALL_64_after_hwframe", ContextKind::Process),
    ("asm_exc_page_fault", ContextKind::Process),
    // arm64
    ("handle_percpu_devid_irq", ContextKind::Hardirq),
    ("gic_handle_irq", ContextKind::Hardirq),
    ("el1h_64_irq", ContextKind::Hardirq),
    ("el1_irq", ContextKind::Hardirq),
    ("__sdei_asm_handler", ContextKind::Nmi),
    ("invoke_syscall", ContextKind::Process),
    ("el0_svc_common", ContextKind::Process),
    ("el0_da", ContextKind::Process),
];

/// The context of frame `at`: the nearest dispatcher among its callers.
pub(crate) fn context_of(stack: &Stack, at: usize) -> Context {
    for (i, frame) in stack.frames.iter().enumerate().skip(at) {
        let name = frame.function();
        let Some((_, kind)) = DISPATCHERS.iter().find(|(caller, _)| *caller == name) else {
            continue;
        };
        let callee = i.checked_sub(1).filter(|c| *c >= at).and_then(|c| stack.frames.get(c));
        let function = callee.map(|f| f.function()).filter(|f| !f.is_empty());
        let function = match kind {
            ContextKind::Process => function
                .filter(|_| {
                    name.contains("syscall") || name.contains("SYSCALL") || name.contains("svc")
                })
                .map(syscall_name),
            _ => function.filter(|f| !noise::is_noise(f)).map(str::to_owned),
        };
        return Context { kind: *kind, function };
    }
    Context { kind: ContextKind::Unknown, function: None }
}

/// "__x64_sys_finit_module", "__do_sys_finit_module" and "ksys_write" as the
/// system call's own name.
pub(crate) fn syscall_name(function: &str) -> String {
    for marker in ["_sys_", "ksys_"] {
        if let Some((_, name)) = function.split_once(marker) {
            return name.to_owned();
        }
    }
    function.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stack;

    #[test]
    fn a_timer_runs_in_softirq_and_the_task_is_innocent() {
        let stack = stack(&[
            "crasher_charge_account",
            "crasher_timer_fn",
            "call_timer_fn",
            "__run_timers",
            "handle_softirqs",
            "asm_sysvec_apic_timer_interrupt",
            "do_syscall_64",
        ]);
        let context = context_of(&stack, 0);
        assert_eq!(context.kind, ContextKind::Softirq);
        assert_eq!(context.function.as_deref(), Some("crasher_timer_fn"));
        assert!(context.task_is_bystander());
    }

    #[test]
    fn frames_above_the_fault_do_not_count() {
        let stack = stack(&["handle_softirqs", "f", "__x64_sys_finit_module", "do_syscall_64"]);
        let context = context_of(&stack, 1);
        assert_eq!(context.kind, ContextKind::Process);
        assert_eq!(context.describe(), "system call finit_module");
    }

    #[test]
    fn work_and_threads_name_their_function() {
        let work = context_of(&stack(&["f", "my_work", "process_one_work", "worker_thread"]), 0);
        assert_eq!(work.describe(), "work function my_work");
        let thread = context_of(&stack(&["crasher_reader_fn", "kthread", "ret_from_fork"]), 0);
        assert_eq!(thread.describe(), "kernel thread function crasher_reader_fn");
    }

    #[test]
    fn system_calls_lose_their_prefixes() {
        assert_eq!(syscall_name("__x64_sys_finit_module"), "finit_module");
        assert_eq!(syscall_name("__do_sys_wait4"), "wait4");
        assert_eq!(syscall_name("ksys_write"), "write");
    }
}

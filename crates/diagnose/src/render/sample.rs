//! Reports made in code, for the renderers' tests.

use kmortem_vmcore::{ContainerInfo, FileInfo};

use crate::finding::{Advice, Bar, Evidence, Finding, Kind, Level, Section, Source};
use crate::report::{DumpFacts, MachineFacts, Report, SCHEMA, WhenFacts};
use crate::rest::{Blocked, LogCounts, Missing, Rest, TopTask};
use crate::signature::Signature;
use crate::testing::{interrupted, stack};
use crate::view::StackView;

fn around(name: &str, cause: Finding) -> Report {
    Report {
        schema: SCHEMA,
        dump: DumpFacts {
            name: name.into(),
            container: ContainerInfo {
                kind: "kdump-compressed v6".into(),
                files: vec![FileInfo { name: format!("{name}.vmcore"), size: 60 << 20 }],
                ..ContainerInfo::default()
            },
            found_by: "VMCOREINFO".into(),
        },
        machine: MachineFacts {
            release: Some("6.12.111+deb12-cloud-amd64".into()),
            hypervisor: Some("KVM".into()),
            cpus: Some(2),
            memory_bytes: (192 << 20) - (400 << 10),
            ..MachineFacts::default()
        },
        when: WhenFacts {
            wall_s: Some(1_795_416_730),
            uptime_ns: Some(14_200_000_000),
            source: "the kernel's timekeeper".into(),
        },
        died: true,
        panic: Some("Fatal exception".into()),
        crashed: None,
        signature: Signature::of(&cause),
        cause,
        also: Vec::new(),
        rest: Rest {
            memory_bytes: Some((148 << 20, 90 << 20)),
            tasks: Some(74),
            blocked: Some(1),
            blocked_tasks: vec![Blocked { pid: 50, comm: "kworker/1:2".into(), place: "w".into() }],
            top: vec![TopTask { pid: 1, comm: "init".into(), bytes: 3 << 20 }],
            load: Some([0.4, 0.1, 0.0]),
            taint: Some("OE".into()),
            io_in_flight: Some(Vec::new()),
            log_counts: Some(LogCounts { oopses: 1, ..LogCounts::default() }),
            ..Rest::default()
        },
        missing: Vec::new(),
    }
}

pub(super) fn null_write() -> Report {
    let mut died = stack(&[
        "delay_tsc",
        "panic",
        "oops_end",
        "page_fault_oops",
        "exc_page_fault",
        "asm_exc_page_fault",
        "crasher:crasher_null_deref",
        "crasher:crasher_update_refs.constprop.0",
        "crasher:crasher_init",
        "do_one_initcall",
        "__x64_sys_finit_module",
        "do_syscall_64",
        "entry_SYSCALL_64_after_hwframe",
    ]);
    interrupted(&mut died, 6);
    let mut view = StackView::new(&died, 6);
    view.note(6, "NULL");
    let mut cause = Finding::new(
        Kind::NullDeref,
        "crasher_null_deref+0x5 [crasher] wrote 8 bytes to address 0x40: a NULL pointer plus \
         0x40. The pointer (rax) was read from the variable crasher_current_session [crasher] \
         (the dump still has that value there). Called by crasher_update_refs ← crasher_init in \
         insmod (247), system call finit_module. The oops became a panic.",
        Level::Certain,
        "registers, instruction and stack agree on place and address",
    );
    cause.functions = vec!["crasher:crasher_null_deref".into(), "crasher:crasher_init".into()];
    cause.evidence.push(Evidence {
        source: Source::Log,
        text: "BUG: kernel NULL pointer dereference, address: 0000000000000040".into(),
        at_ns: Some(14_203_000_000),
    });
    cause.proof(Source::Code, "movq $0,0x40(%rax)   at crasher_null_deref+0x5 [crasher]");
    cause.sections.push(Section::Stack { title: "STACK".into(), stack: view });
    cause.next.push(Advice::words("find out why crasher_current_session was still NULL"));
    cause.next.push(Advice::run("the whole stack, with registers", &["bt 247"]));
    let mut report = around("k612-null", cause);
    report.missing.push(Missing {
        what: "part of the dump".into(),
        why: "cut off after 12 MiB".into(),
        costs: Some("whatever lay there".into()),
    });
    report
}

pub(super) fn hung_task() -> Report {
    let holder = stack(&["__schedule", "schedule", "schedule_timeout", "m:hold_it", "kthread"]);
    let waiter = stack(&["__schedule", "schedule", "__mutex_lock", "m:wait_for_it", "kthread"]);
    let mut cause = Finding::new(
        Kind::HungTask,
        "waiter (244) waited 10.2 s for mutex table_lock [m], held by owner (243), which sleeps \
         in hold_it+0x10 [m] (state S).",
        Level::Certain,
        "the lock's owner field names the holder, and the waiter is on its list",
    );
    cause.functions = vec!["m:hold_it".into(), "m:wait_for_it".into()];
    cause.subject = Some("mutex table_lock [m]".into());
    cause.sections.push(Section::Lines {
        title: "WHO WAITS FOR WHOM".into(),
        lines: vec!["waiter (244) D ──▶ mutex table_lock [m] ──▶ owner (243) S".into()],
    });
    for (title, stack) in [("STACK OF THE HOLDER", holder), ("STACK OF THE WAITER", waiter)] {
        cause
            .sections
            .push(Section::Stack { title: title.into(), stack: StackView::new(&stack, 0) });
    }
    cause.against.push("owner (243) is running: the lock may only be busy".into());
    cause.next.push(Advice {
        text: "both stacks in full".into(),
        commands: vec!["bt 244".into(), "bt 243".into()],
    });
    around("k612-hung", cause)
}

pub(super) fn cgroup() -> Report {
    let mut cause = Finding::new(
        Kind::CgroupOom,
        "The cgroup /kubepods/pod1 reached its memory limit (16.0 MiB); tail (246) could not get \
         a page. vm.panic_on_oom=2 turns every shortage, even a cgroup's, into a panic.",
        Level::Certain,
        "the stack names the group, and its counters are at the limit",
    );
    cause.functions = vec!["mem_cgroup_out_of_memory".into()];
    cause.subject = Some("task tail".into());
    let bars = |rows: &[(&str, u64)]| {
        rows.iter().map(|(l, n)| Bar { label: (*l).into(), bytes: *n }).collect::<Vec<_>>()
    };
    cause.sections.push(Section::Bars {
        title: "MEMORY OF THE CGROUP (16.0 MiB)".into(),
        full_bytes: 16 << 20,
        bars: bars(&[("anon", 16_357_785), ("slab", 204_800), ("limit", 16 << 20)]),
    });
    cause.sections.push(Section::Bars {
        title: "MEMORY OF THE MACHINE (148 MiB)".into(),
        full_bytes: 148 << 20,
        bars: bars(&[("free", 90 << 20), ("anon", 22 << 20), ("kernel", 31 << 20)]),
    });
    cause.next.push(Advice::words("raise memory.max of /kubepods/pod1"));
    around("k612-cgoom", cause)
}

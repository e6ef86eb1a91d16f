use super::*;
use crate::testing::log;

const K510: &str = "4.646456 list_del corruption, ffff981dc1231f00->next is LIST_POISON1 (dead000000000100)
    4.646948 ------------[ cut here ]------------
    4.647132 kernel BUG at lib/list_debug.c:53!
    4.648037 invalid opcode: 0000 [#1] SMP NOPTI
    4.648037 CPU: 0 PID: 133 Comm: insmod Tainted: G           OE     5.10.0-43-cloud-amd64 #1 Debian 5.10.251-5
    4.648037 Hardware name: QEMU Standard PC (i440FX + PIIX, 1996)
    4.648037 RIP: 0010:__list_del_entry_valid.cold+0x56/0x69
    4.648037 Code: e8 f8 09 ff ff 0f 0b
    4.648037 RSP: 0018:ffffb6604022bda0 EFLAGS: 00000246
    4.648037 Call Trace:
    4.648037  crasher_list_del_twice+0x44/0x80 [crasher]
    4.648037  ? crasher_spin_fn+0x20/0x20 [crasher]
    4.648037  ? 0xffffffffc01f9000
    4.648037  entry_SYSCALL_64_after_hwframe+0x67/0xd1
    4.648037 RIP: 0033:0x47fbe9
    4.648037 Code: 08 89 e8
    4.648037 RSP: 002b:00007ffeae62cf88 EFLAGS: 00000246 ORIG_RAX: 0000000000000139
    4.648037 Modules linked in: crasher(OE+) nf_tables
    4.670664 ---[ end trace 2005393fb74cfdee ]---
    4.670883 RIP: 0010:__list_del_entry_valid.cold+0x56/0x69
    4.674224 Kernel panic - not syncing: Fatal exception
    4.675293 Kernel Offset: 0x17200000 from 0xffffffff81000000
    4.675761 ---[ end Kernel panic - not syncing: Fatal exception ]---";

#[test]
fn the_reason_before_a_bug_belongs_to_it() {
    let found = incidents(&log(K510));
    assert_eq!(
        found.iter().map(|i| i.kind).collect::<Vec<_>>(),
        [IncidentKind::ListCorruption, IncidentKind::Panic]
    );
    let list = &found[0];
    assert_eq!(list.titles.len(), 3, "{:?}", list.titles);
    assert_eq!(list.oops_number, Some(1));
    assert_eq!((list.cpu, list.pid, list.comm.as_deref()), (Some(0), Some(133), Some("insmod")));
    assert_eq!(list.rip.as_ref().unwrap().to_string(), "__list_del_entry_valid.cold+0x56");
    let sure: Vec<&str> = list.functions().map(|e| e.location.function.as_str()).collect();
    assert_eq!(sure, ["crasher_list_del_twice", "entry_SYSCALL_64_after_hwframe"]);
    assert_eq!(list.trace[0].location.module.as_deref(), Some("crasher"));
}

#[test]
fn the_panic_line_has_its_words() {
    let (at, text) = panic_message(&log(K510)).unwrap();
    assert_eq!((at / 1_000_000, text.as_str()), (4674, "Fatal exception"));
}

#[test]
fn a_page_fault_of_7_x_with_a_uid() {
    let found = incidents(&log(
        "6.184725 BUG: kernel NULL pointer dereference, address: 0000000000000020
        6.185059 #PF: supervisor write access in kernel mode
        6.185209 #PF: error_code(0x0002) - not-present page
        6.185408 PGD 34b0067 P4D 34c1067 PUD 34ea067 PMD 0
        6.186086 Oops: Oops: 0002 [#1] SMP NOPTI
        6.186762 CPU: 0 UID: 0 PID: 151 Comm: insmod Tainted: G OE 7.3.4+deb13-cloud-amd64 #1 PREEMPT(lazy)
        6.188008 RIP: 0010:crasher_null_deref+0x10/0x20 [crasher]
        6.191738 Call Trace:
        6.192115  <TASK>
        6.192397  crasher_update_refs+0x1a/0x30 [crasher]
        6.197315  </TASK>",
    ));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, IncidentKind::NullDeref);
    assert_eq!((found[0].pid, found[0].oops_number), (Some(151), Some(1)));
    assert_eq!(found[0].trace.len(), 1);
    assert_eq!(found[0].after("address: "), Some("0000000000000020"));
}

#[test]
fn a_jump_to_nowhere_has_a_raw_instruction_pointer() {
    let found =
        incidents(&log("6.0 BUG: unable to handle page fault for address: 0000000000001000
        6.0 Oops: 0010 [#1] PREEMPT SMP NOPTI
        6.0 CPU: 0 PID: 151 Comm: a b c Not tainted 6.1.0
        6.0 RIP: 0010:0x1000
        6.0 Code: Unable to access opcode bytes at 0xfd6."));
    assert_eq!((found[0].kind, found[0].raw_rip), (IncidentKind::PageFault, Some(0x1000)));
    assert_eq!(found[0].comm.as_deref(), Some("a b c"));
    assert!(found[0].rip.is_none());
}

#[test]
fn reports_of_two_cpus_are_told_apart_by_their_callers() {
    let line = |caller: &str, text: &str| LogLine {
        ts_ns: 1,
        caller: Some(caller.to_owned()),
        text: text.to_owned(),
    };
    let found = incidents(&[
        line("T1", "BUG: kernel NULL pointer dereference, address: 0000000000000001"),
        line("T2", "general protection fault: 0000 [#1] SMP"),
        line("T1", "CPU: 0 PID: 1 Comm: one Not tainted 6.1"),
        line("T2", "CPU: 1 PID: 2 Comm: two Not tainted 6.1"),
        line("T1", "RIP: 0010:f+0x1/0x2"),
        line("T2", "RIP: 0010:g+0x1/0x2"),
    ]);
    let both: Vec<_> =
        found.iter().map(|i| (i.pid, i.rip.as_ref().unwrap().function.as_str())).collect();
    assert_eq!(both, [(Some(1), "f"), (Some(2), "g")]);
}

#[test]
fn many_wordings_are_known() {
    for (text, kind) in [
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 9s! [x:1]", IncidentKind::SoftLockup),
        ("NMI watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]", IncidentKind::SoftLockup),
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", IncidentKind::HardLockup),
        ("watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1", IncidentKind::HardLockup),
        ("INFO: task cp:12 blocked for more than 120 seconds.", IncidentKind::HungTask),
        ("INFO: task cp:12 blocked in I/O wait for more than 120 seconds.", IncidentKind::HungTask),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", IncidentKind::RcuStall),
        ("dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0", IncidentKind::Oom),
        ("BUG kmalloc-64 (Tainted: G    B  ): Poison overwritten", IncidentKind::SlabCorruption),
        ("refcount_t: underflow; use-after-free.", IncidentKind::Refcount),
        (
            "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            IncidentKind::GeneralProtection,
        ),
        ("Oops: divide error: 0000 [#1] SMP NOPTI", IncidentKind::DivideError),
        (
            "BUG: TASK stack guard page was hit at 00000000dcb3dd2f (stack is 0..1)",
            IncidentKind::StackOverflow,
        ),
        (
            "BUG: stack guard page was hit at 00000000dcb3dd2f (stack is 0..1)",
            IncidentKind::StackOverflow,
        ),
        ("blk_update_request: I/O error, dev vda, sector 8", IncidentKind::IoError),
    ] {
        assert_eq!(patterns::classify(text), Some(kind), "{text}");
    }
    for text in ["BUG_ON is a macro", "audit: BUG (x)", "my driver: oom-killer", ""] {
        assert_eq!(patterns::classify(text), None, "{text}");
    }
}

#[test]
fn prefixes_that_are_part_of_the_text_are_taken_off() {
    assert_eq!(trace::strip_prefix("[   12.5] [  T123] BUG: x"), "BUG: x");
    assert_eq!(trace::strip_prefix("[drm] ready"), "[drm] ready");
}

#[test]
fn a_hostile_log_is_bounded() {
    let mut lines = vec![LogLine { text: "Call Trace:".into(), ..LogLine::default() }];
    lines.extend((0..5000).map(|_| LogLine { text: "WARNING: x".into(), ..LogLine::default() }));
    lines.push(LogLine { text: "RIP: 0010:+0x/ [".into(), ..LogLine::default() });
    assert_eq!(incidents(&lines).len(), MOST_INCIDENTS);
}

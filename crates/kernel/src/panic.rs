//! Who and what ended the kernel.
//!
//! `panic()` (kernel/panic.c) names the message in the log and takes
//! `panic_cpu` for the CPU that panics, for good; it is -1 while nobody does.
//! The task that panicked is what that CPU still runs. Where `panic_cpu` says
//! nothing, others may: `crashing_cpu` (the CPU that handed over to the
//! capture kernel), `die_owner` (the CPU in the middle of an oops), both in
//! arch/x86/kernel and -1 at first, and the task that the last oops in the log
//! names. A dump of a machine that lived has none of them.

use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::printk::{Log, Record};
use crate::stack::hex;

/// What `panic()` said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Panic {
    /// Its message, without the words before it.
    pub message: String,
    /// When, ns on the log's clock.
    pub ts_ns: u64,
    /// The log record's sequence number.
    pub seq: u64,
}

/// The task in whose context the kernel died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CrashedTask {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// The CPU that it was on.
    pub cpu: u32,
    /// What says so.
    pub known_by: CrashEvidence,
}

/// What names the crashed task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashEvidence {
    /// What `panic_cpu` runs.
    PanicCpu,
    /// What `crashing_cpu` runs.
    CrashingCpu,
    /// What `die_owner` runs.
    DieOwner,
    /// The last oops in the log names it.
    Log,
}

/// The task that a report in the log names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedTask {
    /// The CPU.
    pub cpu: u32,
    /// Its thread ID.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

const PANIC: &str = "Kernel panic - not syncing: ";

impl Log {
    /// What `panic()` printed first. A process may write the same words to
    /// /dev/kmsg: only the kernel's own records count.
    pub fn panic(&self) -> Option<Panic> {
        self.kernel_records().find_map(|record| {
            let message = record.text.strip_prefix(PANIC)?;
            Some(Panic {
                message: message.trim_end().to_owned(),
                ts_ns: record.ts_ns,
                seq: record.seq,
            })
        })
    }

    /// The task that the last report (oops, warning, panic) names.
    pub fn last_named_task(&self) -> Option<(&Record, NamedTask)> {
        let records: Vec<&Record> = self.kernel_records().collect();
        records.into_iter().rev().find_map(|record| Some((record, named_task(&record.text)?)))
    }

    fn kernel_records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.facility == 0)
    }
}

/// Reads "CPU: 1 PID: 247 Comm: insmod Tainted: G ..." (`dump_stack_print_info`,
/// lib/dump_stack.c; from v6.13 with a UID between CPU and PID).
pub fn named_task(line: &str) -> Option<NamedTask> {
    let (cpu, rest) = line.strip_prefix("CPU: ")?.split_once(' ')?;
    let (_, rest) = rest.split_once("PID: ")?;
    let (pid, rest) = rest.split_once(" Comm: ")?;
    // A name may have blanks: it ends where the next field starts.
    let end = [" Kdump: loaded", " Tainted: ", " Not tainted"]
        .into_iter()
        .filter_map(|next| rest.find(next))
        .min()?;
    Some(NamedTask { cpu: cpu.parse().ok()?, pid: pid.parse().ok()?, comm: rest[..end].to_owned() })
}

impl Kernel {
    /// The CPU that panicked, if one did.
    pub fn panic_cpu(&self) -> Result<Option<u32>> {
        self.cpu_variable("panic_cpu")
    }

    /// The task in whose context the kernel died; `None` where nothing says
    /// that it did (a dump of a living machine).
    pub fn crashed_task(&self) -> Result<Option<CrashedTask>> {
        let mut failed = None;
        for (name, known_by) in [
            ("panic_cpu", CrashEvidence::PanicCpu),
            ("crashing_cpu", CrashEvidence::CrashingCpu),
            ("die_owner", CrashEvidence::DieOwner),
        ] {
            let Ok(Some(cpu)) = self.cpu_variable(name) else { continue };
            match self.current(cpu) {
                Ok(0) => {}
                Ok(task) => return Ok(Some(CrashedTask { task, cpu, known_by })),
                Err(e) => failed = Some(e),
            }
        }
        match (self.crashed_task_of_log(), failed) {
            (Ok(None), Some(e)) | (Err(_), Some(e)) => Err(e),
            (found, _) => found,
        }
    }

    fn crashed_task_of_log(&self) -> Result<Option<CrashedTask>> {
        let log = self.log()?;
        let died = log.panic().is_some()
            || log.records.iter().any(|r| r.facility == 0 && is_oops(&r.text));
        let Some((_, named)) = log.last_named_task().filter(|_| died) else { return Ok(None) };
        // PID 0 is every idle task.
        let found = self
            .tasks()?
            .list
            .iter()
            .find(|task| task.pid == named.pid && (named.pid != 0 || task.cpu == named.cpu));
        match found {
            Some(task) => Ok(Some(CrashedTask {
                task: task.addr,
                cpu: named.cpu,
                known_by: CrashEvidence::Log,
            })),
            None => Err(Error::Unavailable(format!(
                "the log names {} (PID {}) and there is no such task any more",
                named.comm, named.pid
            ))),
        }
    }

    /// A variable that holds a CPU number, or -1.
    fn cpu_variable(&self, name: &str) -> Result<Option<u32>> {
        let value = self.read_u32(self.symbol(name)?)?;
        Ok((value < self.nr_cpu_ids()?).then_some(value))
    }
}

/// Whether a line is the head of an oops: "Oops: 0002 [#1] ...",
/// "general protection fault, ...: 0000 [#1] ..." (`__die`).
fn is_oops(text: &str) -> bool {
    let number = text.split_once(" [#").map(|(_, rest)| rest);
    number.is_some_and(|rest| {
        rest.split_once(']')
            .is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printk::{LogFormat, RecordState};

    fn log(lines: &[(u8, &str)]) -> Log {
        let records = lines.iter().enumerate().map(|(i, (facility, text))| Record {
            seq: i as u64,
            ts_ns: i as u64 * 10,
            level: 0,
            facility: *facility,
            flags: 0,
            state: RecordState::Finalized,
            caller: None,
            text: (*text).to_owned(),
            incomplete: None,
            device: None,
        });
        Log {
            format: LogFormat::Ringbuffer,
            records: records.collect(),
            damage: Vec::new(),
            dropped: None,
        }
    }

    #[test]
    fn the_first_panic_of_the_kernel_itself_counts() {
        let log = log(&[
            (1, "Kernel panic - not syncing: written by a process"),
            (0, "Kernel panic - not syncing: sysrq triggered crash"),
            (0, "---[ end Kernel panic - not syncing: sysrq triggered crash ]---"),
        ]);
        let panic = log.panic().expect("a panic");
        assert_eq!((&*panic.message, panic.ts_ns, panic.seq), ("sysrq triggered crash", 10, 1));
    }

    #[test]
    fn reports_name_their_task() {
        let old = named_task("CPU: 0 PID: 226 Comm: insmod Tainted: G           OE      6.1.0");
        let expected = |cpu, pid, comm: &str| Some(NamedTask { cpu, pid, comm: comm.into() });
        assert_eq!(old, expected(0, 226, "insmod"));
        let new = named_task("CPU: 1 UID: 0 PID: 1 Comm: a b Kdump: loaded Not tainted 7.0");
        assert_eq!(new, expected(1, 1, "a b"));
        assert_eq!(named_task("CPU: 1 is up"), None);
    }

    #[test]
    fn oopses_are_numbered() {
        assert!(is_oops("Oops: 0002 [#1] PREEMPT SMP NOPTI"));
        assert!(is_oops("stack segment: 0000 [#12] SMP"));
        assert!(!is_oops("pci 0000:00:02.0: [1234:1111] type 00"));
        assert!(!is_oops("RIP [#] none"));
    }
}

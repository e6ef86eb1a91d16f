//! Stacks and tasks made in code, for tests of detectors.

use kmortem_kernel::arch::Registers;
use kmortem_kernel::arch::x86_64::registers::{Reg, complete};
use kmortem_kernel::stack::{Frame, Stack, StackEnd, StackStart, Trust};
use kmortem_kernel::symbol::SymbolAt;
use kmortem_kernel::task::{Task, TaskState};

use crate::case::{Case, Crashed};
use crate::oops::LogLine;

/// A stack with these functions, innermost first. "module:function" puts a
/// function in a module; "-" is an address in no function.
pub(crate) fn stack(functions: &[&str]) -> Stack {
    let frames = functions
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let (module, name) = match name.split_once(':') {
                Some((module, name)) => (Some(module.to_owned()), name),
                None => (None, *name),
            };
            Frame {
                pc: 0xffff_ffff_8100_0010 + i as u64 * 0x100,
                at: 0xffff_c900_0000_3000 + i as u64 * 0x40,
                sp: 0xffff_c900_0000_3008 + i as u64 * 0x40,
                symbol: (name != "-").then(|| SymbolAt {
                    name: name.to_owned(),
                    offset: 0x10,
                    size: 0x80,
                    module,
                }),
                stack: None,
                registers: None,
                trust: Trust::Unwound,
            }
        })
        .collect();
    Stack { frames, end: StackEnd::ThreadStart, start: StackStart::SavedRegisters }
}

/// Registers that are all zero but those given and what makes them plausible.
pub(crate) fn registers(set: &[(Reg, u64)]) -> Registers {
    let mut words = [0; 21];
    words[Reg::Cs as usize] = 0x10;
    words[Reg::Flags as usize] = 0x246;
    for (reg, value) in set {
        words[*reg as usize] = *value;
    }
    complete(words)
}

/// Makes frame `at` one that an exception stopped.
pub(crate) fn interrupted(stack: &mut Stack, at: usize) {
    let pc = stack.frames[at].pc;
    stack.frames[at].registers = Some(registers(&[(Reg::Ip, pc)]));
}

/// A task.
pub(crate) fn task(pid: i32, comm: &str, state: TaskState) -> Task {
    Task {
        addr: 0xffff_8880_0000_0000 + pid as u64 * 0x4000,
        pid,
        tgid: pid,
        ppid: 1,
        comm: comm.into(),
        state,
        cpu: 0,
        active: state == TaskState::Running,
        flags: 0,
        stack: 0xffff_c900_0000_0000,
        mm: 0xffff_8880_1000_0000,
        signal: 0,
        last_arrival_ns: None,
        start_ns: None,
    }
}

/// A log: a line each, "12.5 text".
pub(crate) fn log(text: &str) -> Vec<LogLine> {
    text.lines()
        .filter(|l| !l.trim().is_empty())
        .map(|line| {
            let (at, text) = line.trim_start().split_once(' ').unwrap_or((line, ""));
            let seconds: f64 = at.parse().unwrap();
            LogLine { ts_ns: (seconds * 1e9) as u64, caller: None, text: text.to_owned() }
        })
        .collect()
}

/// A case with a log and a crashed task that has this stack; frame
/// `stopped` is where an exception stopped it.
pub(crate) fn case(
    log_text: &str,
    comm: &str,
    functions: &[&str],
    stopped: Option<usize>,
) -> Case<'static> {
    let mut stack = stack(functions);
    if let Some(at) = stopped {
        interrupted(&mut stack, at);
    }
    let mut case = Case::of_log(log(log_text));
    let task = task(247, comm, TaskState::Running);
    case.crashed = Some(Crashed::new(None, task, stack, 0, "test".into()));
    case
}

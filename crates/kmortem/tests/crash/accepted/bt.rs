//! Stacks.

use super::{Accepted, hex};
use crate::diff::Hunk;

pub(super) const ROWS: &[Accepted] = &[
    // Before the blocks that only kmortem has.
    Accepted {
        commands: &["bt -s -x*", "foreach*bt -s -x"],
        explain: |hunk| hunk.take_pairs(decimal_offset),
        documented: "`bt -s -x`: the offset behind `exception RIP` stays decimal",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: registers,
        documented: "at the registers that the dump has of that CPU",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: |hunk| hunk.take_pairs(one_word_below),
        documented: "the address of the word that holds its return address, 8 below",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: |hunk| hunk.take_pairs(module_init),
        documented: "a module's init function is `_MODULE_INIT_TEXT_START_name`",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: callers_behind_irq_stack,
        documented: "5.10: a bogus exception frame at the end of the IRQ stack, callers lost",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: caller_of_panic,
        documented: "the caller of `panic` is missing",
    },
    Accepted {
        commands: &["bt*", "foreach*bt*"],
        explain: interrupted_twice,
        documented: "a function that an NMI or exception interrupted stands twice",
    },
    Accepted {
        commands: &["foreach user bt -f"],
        explain: |hunk| {
            let is_word = |line: &String| line.starts_with("    ");
            if hunk.before.contains(" asm_exc_")
                && hunk.crash.iter().chain(&hunk.kmortem).all(is_word)
            {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "`bt -f`: the words that an exception saved stand below its register block",
    },
    Accepted {
        commands: &["bt -E*"],
        explain: machine_check_stack,
        documented: "`bt -E`: stops at the first exception stack that a CPU lacks",
    },
    Accepted {
        commands: &["bt -n idle*"],
        explain: idle_tasks,
        documented: "`bt -n idle` on a dump of QEMU: idle tasks are shown",
    },
];

/// `[sp] function at pc [module]`
#[derive(PartialEq)]
struct Frame<'a> {
    sp: u64,
    function: &'a str,
    pc: u64,
}

fn frame(line: &str) -> Option<Frame<'_>> {
    let (sp, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (function, rest) = rest.split_once(" at ")?;
    let pc = rest.split(' ').next()?;
    Some(Frame { sp: hex(sp)?, function, pc: hex(pc)? })
}

/// A block of registers: function and address of `[exception RIP: f+1]`.
fn exception(block: &str) -> Option<(&str, u64)> {
    let mut lines = block.lines();
    let place = lines.next()?.trim_start().strip_prefix("[exception RIP: ")?;
    let rip = lines.next()?.trim_start().strip_prefix("RIP: ")?;
    Some((place.split(['+', ']']).next()?, hex(rip.split(' ').next()?)?))
}

/// Registers where crash has a frame of the same function, or none at all; and
/// the frames from there to the one that it begins with.
fn registers(hunk: &mut Hunk) {
    let crash = &mut hunk.crash;
    let first = hunk.before.starts_with("PID: ");
    hunk.kmortem.retain(|ours| {
        let Some((function, rip)) = exception(ours) else { return !first || frame(ours).is_none() };
        crash.retain(|line| {
            // `bt -s`: with the offset.
            let name = |f: &Frame<'_>| f.function.split('+').next() == Some(function);
            frame(line).is_none_or(|f| !name(&f) && f.pc != rip)
        });
        false
    });
}

fn one_word_below(crash: &str, kmortem: &str) -> bool {
    let (Some(theirs), Some(ours)) = (frame(crash), frame(kmortem)) else { return false };
    theirs.sp == ours.sp + 8 && theirs.pc == ours.pc && theirs.function == ours.function
}

fn module_init(crash: &str, kmortem: &str) -> bool {
    crash.contains(" _MODULE_INIT_TEXT_START_") && same_place_other_name(crash, kmortem)
}

fn same_place_other_name(crash: &str, kmortem: &str) -> bool {
    let (Some(theirs), Some(ours)) = (frame(crash), frame(kmortem)) else { return false };
    theirs.sp == ours.sp && theirs.pc == ours.pc
}

/// Frames that only kmortem has, directly behind the stack's mark, where crash
/// has none, or registers that it doubts itself.
fn callers_behind_irq_stack(hunk: &mut Hunk) {
    if !hunk.before.starts_with("--- <IRQ stack>") {
        return;
    }
    if hunk.crash.iter().any(|line| line.starts_with("WARNING: possibly bogus exception frame")) {
        hunk.crash.retain(|line| exception(line).is_none() && !line.starts_with("WARNING: "));
    }
    if hunk.crash.is_empty() {
        hunk.kmortem.retain(|line| frame(line).is_none());
    }
}

fn caller_of_panic(hunk: &mut Hunk) {
    if frame(&hunk.before).is_some_and(|f| f.function == "panic") && hunk.crash.is_empty() {
        hunk.kmortem.retain(|line| frame(line).is_none_or(|f| !f.function.ends_with(".cold")));
    }
}

/// A frame only crash has, of what the registers or the stack's mark before
/// it say.
fn interrupted_twice(hunk: &mut Hunk) {
    let rip = exception(&hunk.before).map(|(_, rip)| rip);
    let mark = hunk.before.ends_with(" exception stack> ---");
    if let [line] = &hunk.crash[..]
        && let Some(frame) = frame(line)
        && (mark || rip == Some(frame.pc))
    {
        hunk.crash.clear();
    }
}

/// Stacks of machine checks that only kmortem looks at.
fn machine_check_stack(hunk: &mut Hunk) {
    let of_stack = |line: &String| {
        line.is_empty() || line == "(none found)" || line.ends_with(" MCE EXCEPTION STACK:")
    };
    if hunk.crash.is_empty() && hunk.kmortem.iter().all(of_stack) {
        hunk.kmortem.clear();
    }
}

/// `[exception RIP: f+16]` and its registers, kmortem's with `f+0x10`.
fn decimal_offset(crash: &str, kmortem: &str) -> bool {
    let parts = |block: &str| -> Option<(String, String, String)> {
        let (name, rest) = block.split_once('+')?;
        let (offset, registers) = rest.split_once(']')?;
        Some((name.to_owned(), offset.to_owned(), registers.to_owned()))
    };
    let (Some(theirs), Some(ours)) = (parts(crash), parts(kmortem)) else { return false };
    let value = ours.1.strip_prefix("0x").and_then(hex);
    exception(crash).is_some()
        && (theirs.0, theirs.2) == (ours.0, ours.2)
        && value.is_some()
        && theirs.1.parse().ok() == value
}

/// Whole idle tasks that only crash shows.
fn idle_tasks(hunk: &mut Hunk) {
    let mut tasks = hunk.crash.iter().filter(|line| line.starts_with("PID: ")).peekable();
    let idle = |line: &String| line.starts_with("PID: 0 ") && line.contains("\"swapper/");
    if hunk.kmortem.is_empty() && tasks.peek().is_some() && tasks.all(idle) {
        hunk.crash.clear();
    }
}

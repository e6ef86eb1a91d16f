//! The machine.

use super::Accepted;
use crate::diff::Hunk;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["sys"],
        explain: |hunk| hunk.take_pairs(debug_kernel),
        documented: "KERNEL names the debug kernel",
    },
    Accepted {
        commands: &["sys -t"],
        explain: taint_meanings,
        documented: "and a line for each letter that says what it means",
    },
    Accepted {
        commands: &["sys -c*"],
        explain: |hunk| hunk.take_pairs(source_line),
        documented: "`sys -c`: the file and line of each call",
    },
    Accepted {
        commands: &["sys -c*"],
        explain: |hunk| hunk.take_pairs(name_of_call),
        documented: "`sys -c`: `__do_sys_pause` and its like for calls without arguments",
    },
    Accepted {
        commands: &["mach"],
        explain: |hunk| hunk.take_pairs(length_of_tick),
        documented: "`mach`: HZ is 1000 where the configuration is not in the kernel",
    },
    Accepted {
        commands: &["mach*"],
        explain: machine_check_stacks,
        documented: "`mach` before 6.12: the stack of machine checks is `(unknown)`",
    },
];

fn debug_kernel(crash: &str, kmortem: &str) -> bool {
    let tainted = |line: &str| line.ends_with("  [TAINTED]");
    crash.starts_with("      KERNEL: /")
        && kmortem.starts_with("      KERNEL: (symbols and types of the dump)")
        && tainted(crash) == tainted(kmortem)
}

/// `           O: out-of-tree module was loaded`, for a letter of the mask.
fn taint_meanings(hunk: &mut Hunk) {
    let letters = hunk.before.split_whitespace().nth(2).unwrap_or("").to_owned();
    hunk.kmortem.retain(|line| {
        let letter = line.strip_prefix("           ").and_then(|l| l.split_once(": "));
        letter.is_none_or(|(letter, _)| letter.len() != 1 || !letters.contains(letter))
    });
}

/// `  0  __x64_sys_read   ../fs/read_write.c: 621`: number and name.
fn call(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?))
}

fn source_line(crash: &str, kmortem: &str) -> bool {
    call(crash).is_some()
        && kmortem.split_whitespace().count() == 2
        && crash.strip_prefix(kmortem).is_some_and(|rest| {
            let line = rest.trim_start().split_once(".c: ").map(|(_, line)| line);
            line.is_some_and(|line| line.parse::<u32>().is_ok())
        })
}

fn name_of_call(crash: &str, kmortem: &str) -> bool {
    let (Some(theirs), Some(ours)) = (call(crash), call(kmortem)) else { return false };
    let Some(name) = theirs.1.strip_prefix("__do_sys_") else { return false };
    let ours_is = |prefix: &str| ours.1.strip_prefix(prefix) == Some(name);
    theirs.0 == ours.0 && (ours_is("__x64_sys_") || ours_is("sys_"))
}

fn length_of_tick(crash: &str, kmortem: &str) -> bool {
    crash.trim_start() == "HZ: 1000" && kmortem == crash.replace("1000", "250")
}

/// The stacks of machine checks where crash has a nameless one.
fn machine_check_stacks(hunk: &mut Hunk) {
    let nameless = |line: &String| {
        let line = line.trim_start();
        line == "(unknown) STACK SIZE: 0"
            || line == "(unknown) STACKS:"
            || (line.starts_with("CPU ") && line.ends_with(" [unavailable]"))
    };
    if !hunk.crash.is_empty() && hunk.crash.iter().all(nameless) {
        hunk.crash.clear();
        hunk.kmortem.retain(|line| {
            let line = line.trim_start();
            !line.starts_with("MCE STACK") && !line.starts_with("CPU ")
        });
    }
}

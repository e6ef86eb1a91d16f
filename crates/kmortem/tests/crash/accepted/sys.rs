//! The machine.

use super::Accepted;
use crate::diff::Hunk;

pub(super) const ROWS: &[Accepted] = &[
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

//! What a guest's serial console says: whether it died as meant, and the facts it prints.

use serde::{Deserialize, Serialize};

use crate::matrix::Expect;

/// The kernel's last line of a panic.
pub(crate) const PANIC_END: &str = "---[ end Kernel panic";
/// What lab/guest/init says when the machine stands.
pub(crate) const READY: &str = "LAB-READY";
/// The kernel's first line of a panic, up to the reason.
pub(crate) const PANIC: &str = "Kernel panic - not syncing: ";

/// Facts the console prints, for comparison with what a reader finds in the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleFacts {
    /// Line of the panic, without "Kernel panic - not syncing: ".
    pub panic: Option<String>,
    /// Processor, process and name of the task in the first oops or panic.
    pub cpu: Option<u32>,
    /// Process number.
    pub pid: Option<u32>,
    /// Task name.
    pub comm: Option<String>,
    /// KASLR offset; 0 where the kernel says it is disabled.
    pub kernel_offset: Option<u64>,
    /// The kernel's first line.
    pub banner: Option<String>,
}

/// Reads the facts off a console.
pub(crate) fn parse_facts(console: &str) -> ConsoleFacts {
    let mut facts = ConsoleFacts::default();
    for line in console.lines().map(without_time) {
        if line.starts_with("Linux version ") && facts.banner.is_none() {
            facts.banner = Some(line.to_owned());
        } else if let Some(reason) = line.strip_prefix(PANIC) {
            facts.panic.get_or_insert_with(|| reason.trim_end().to_owned());
        } else if let Some(offset) = line.strip_prefix("Kernel Offset: ") {
            facts.kernel_offset = parse_offset(offset);
        } else if facts.comm.is_none()
            && let Some((cpu, pid, comm)) = parse_task(line)
        {
            (facts.cpu, facts.pid, facts.comm) = (Some(cpu), Some(pid), Some(comm));
        }
    }
    facts
}

/// Whether the guest died in the way the scenario is for; else what is missing.
pub(crate) fn check(console: &str, expect: &Expect) -> Result<(), String> {
    let panic = parse_facts(console).panic;
    let died_as_meant = match &panic {
        Some(reason) => !expect.panic.is_empty() && reason.contains(&expect.panic),
        None => expect.panic.is_empty(),
    };
    if !died_as_meant {
        return Err(format!("meant to panic with {:?}, got {panic:?}", expect.panic));
    }
    match expect.console.iter().find(|text| !console.contains(text.as_str())) {
        Some(missing) => Err(format!("panicked without saying {missing:?}")),
        None => Ok(()),
    }
}

/// What stands after LAB-HOST, in order: a verb and what it needs, asked of the host.
pub(crate) fn parse_requests(console: &str) -> Vec<&str> {
    console.lines().filter_map(|line| line.trim().strip_prefix("LAB-HOST ")).collect()
}

fn without_time(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, text)) if time.trim().starts_with(|c: char| c.is_ascii_digit()) => text,
        _ => line,
    }
}

fn parse_offset(text: &str) -> Option<u64> {
    if text.starts_with("disabled") {
        return Some(0);
    }
    let digits = text.split_whitespace().next()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

/// `CPU: 1 UID: 0 PID: 247 Comm: insmod Tainted: ...`; UID is there from 6.12 on.
fn parse_task(line: &str) -> Option<(u32, u32, String)> {
    let after = |label: &str| line.split_once(label).map(|(_, rest)| rest.trim_start());
    let number = |text: &str| text.split_whitespace().next()?.parse().ok();
    let cpu = number(line.strip_prefix("CPU: ")?)?;
    let pid = number(after("PID: ")?)?;
    let comm = after("Comm: ")?;
    let end = [" Tainted:", " Not tainted"].iter().filter_map(|end| comm.find(end)).min()?;
    Some((cpu, pid, comm[..end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
[    0.000000] Linux version 6.12.1-cloud (gcc-12)\r
LAB-READY 6.12.1-cloud\r
LAB-HOST nmi\r
[   12.1] CPU: 1 UID: 0 PID: 247 Comm: insmod Tainted: G           OE      6.12.1\r
[   12.2] CPU: 0 PID: 1 Comm: init Not tainted 6.12.1\r
[   12.3] Kernel panic - not syncing: Fatal exception\r
[   12.4] Kernel Offset: 0x16000000 from 0xffffffff81000000 (relocation range: ...)\r
[   12.5] ---[ end Kernel panic - not syncing: Fatal exception ]---\r
";

    #[test]
    fn reads_the_first_task_and_the_offset() {
        let facts = parse_facts(CONSOLE);
        assert_eq!(facts.panic.as_deref(), Some("Fatal exception"));
        assert_eq!((facts.cpu, facts.pid), (Some(1), Some(247)));
        assert_eq!(facts.comm.as_deref(), Some("insmod"));
        assert_eq!(facts.kernel_offset, Some(0x1600_0000));
        assert_eq!(facts.banner.as_deref(), Some("Linux version 6.12.1-cloud (gcc-12)"));
        assert_eq!(parse_requests(CONSOLE), ["nmi"]);
    }

    #[test]
    fn another_death_is_not_the_one_meant() {
        let expect = |panic: &str, console: &[&str]| Expect {
            panic: panic.to_owned(),
            console: console.iter().map(|&text| text.to_owned()).collect(),
            ..Expect::default()
        };
        assert!(check(CONSOLE, &expect("Fatal exception", &["insmod"])).is_ok());
        assert!(check(CONSOLE, &expect("softlockup", &[])).is_err());
        assert!(check(CONSOLE, &expect("Fatal exception", &["list_del"])).is_err());
        assert!(check(CONSOLE, &expect("", &[])).is_err(), "meant to live");
        assert!(check("LAB-READY", &expect("", &[])).is_ok());
        assert!(check("LAB-READY", &expect("Fatal exception", &[])).is_err());
    }
}

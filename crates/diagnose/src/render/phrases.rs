//! Sentences that text and Markdown share.

use crate::finding::{Advice, Evidence};
use crate::report::Report;
use crate::text::{bytes, count, duration, utc};

/// "k612-null · 6.12.111 · QEMU/KVM guest, 2 CPUs, 192 MiB"
pub(super) fn headline(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let mut parts = vec![report.dump.name.clone()];
    parts.extend(machine.release.clone());
    let mut host = Vec::new();
    match (&machine.hypervisor, &machine.hardware) {
        (Some(hypervisor), _) => host.push(format!("{hypervisor} guest")),
        (None, Some(hardware)) => host.push(hardware.clone()),
        _ => {}
    }
    host.extend(machine.cpus.map(|n| count(n, "CPU")));
    if machine.memory_bytes > 0 {
        // Firmware keeps a few hundred KiB for itself.
        let mib = machine.memory_bytes.div_ceil(1 << 20);
        host.push(if mib < 10_240 { format!("{mib} MiB") } else { bytes(machine.memory_bytes) });
    }
    parts.push(host.join(", "));
    if let Some(node) = machine.nodename.as_ref().filter(|n| !n.starts_with('(')) {
        parts.push(node.clone());
    }
    parts.retain(|p| !p.is_empty());
    parts
}

/// "2026-11-23 06:52:10 UTC, 14.2 s after boot"
pub(super) fn when(report: &Report) -> Option<String> {
    let wall = report.when.wall_s.map(utc);
    let uptime = report.when.uptime_ns.map(|n| format!("{} after boot", duration(n)));
    match (wall, uptime) {
        (Some(wall), Some(uptime)) => Some(format!("{wall}, {uptime}")),
        (one, other) => one.or(other),
    }
}

/// The rest of the machine, a clause each.
pub(super) fn rest(report: &Report) -> Vec<String> {
    let rest = &report.rest;
    let mut out = Vec::new();
    if let Some((total, free)) = rest.memory_bytes {
        let percent = free * 100 / total.max(1);
        let oom = match rest.log_counts.map(|counts| counts.oom) {
            None => String::new(),
            Some(0) => ", no OOM".to_owned(),
            Some(n) => format!(", {} of OOM", count(n, "report")),
        };
        out.push(format!("memory {percent} % free of {}{oom}", bytes(total)));
    }
    if let Some((total, free)) = rest.swap_bytes {
        out.push(format!("swap {} % free of {}", free * 100 / total.max(1), bytes(total)));
    }
    if let Some(tasks) = rest.tasks {
        let blocked = rest.blocked.unwrap_or(0);
        let names: Vec<String> = rest
            .blocked_tasks
            .iter()
            .take(3)
            .map(|b| format!("{} {} in {}", b.comm, b.pid, b.place))
            .collect();
        let names =
            if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        out.push(format!("{}, {blocked} in D{names}", count(tasks, "task")));
    }
    if !rest.top.is_empty() {
        let top: Vec<String> =
            rest.top.iter().map(|t| format!("{} {} {}", t.comm, t.pid, bytes(t.bytes))).collect();
        out.push(format!("largest: {}", top.join(", ")));
    }
    if let Some([one, five, fifteen]) = rest.load {
        out.push(format!("load {one:.2} {five:.2} {fifteen:.2}"));
    }
    match rest.io_in_flight.as_deref() {
        Some([]) => out.push("block I/O idle".into()),
        Some(disks) => {
            let each: Vec<String> =
                disks.iter().map(|(d, n)| format!("{d} {}", count(*n, "request"))).collect();
            out.push(format!("block I/O in flight: {}", each.join(", ")));
        }
        None => {}
    }
    match rest.taint.as_deref() {
        Some("") => out.push("not tainted".into()),
        Some(letters) => out.push(format!("tainted {letters}")),
        None => {}
    }
    let Some(counts) = &rest.log_counts else { return out };
    for (n, noun) in [(counts.warnings, "warning"), (counts.io_errors, "I/O error")] {
        if n > 0 {
            out.push(format!("{} in the log", count(n, noun)));
        }
    }
    out.push(match counts.machine_checks {
        0 => "no MCE".into(),
        n => count(n, "machine check"),
    });
    out
}

/// "log 14.203"
pub(super) fn label(evidence: &Evidence) -> String {
    match evidence.at_ns {
        Some(at) => format!("{} {:.3}", evidence.source.word(), at as f64 / 1e9),
        None => evidence.source.word().to_owned(),
    }
}

/// The command line that shows what an advice is about.
pub(super) fn command(report: &Report, advice: &Advice) -> Option<String> {
    if advice.commands.is_empty() {
        return None;
    }
    let files: Vec<String> = report.dump.container.files.iter().map(|f| quoted(&f.name)).collect();
    let commands: Vec<String> =
        advice.commands.iter().map(|c| format!("-c {}", quoted_always(c))).collect();
    Some(format!("kmortem run {} {}", files.join(" "), commands.join(" ")))
}

fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    if !word.is_empty() && word.chars().all(safe) { word.to_owned() } else { quoted_always(word) }
}

fn quoted_always(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn commands_survive_the_shell() {
        let mut report = sample::null_write();
        report.dump.container.files[0].name = "/var/crash/my dump's.vmcore".into();
        let advice = Advice::run("x", &["bt 250"]);
        assert_eq!(
            command(&report, &advice).unwrap(),
            "kmortem run '/var/crash/my dump'\\''s.vmcore' -c 'bt 250'"
        );
    }
}

//! The kernel's own words about what went wrong, as data.
//!
//! [`incidents`] cuts a log into incidents: an oops, a BUG, a warning, a
//! lockup, an out-of-memory report, a panic, each with the CPU, task,
//! instruction pointer and call trace that its report gives. Lines of one
//! report share a caller (printk's caller_id), so reports that several CPUs
//! printed at once are told apart where the log has it.
//!
//! The log is the second witness: detectors ask registers, stacks and objects
//! first and compare.

mod patterns;
mod trace;

use serde::Serialize;

pub use patterns::IncidentKind;
pub use trace::{Location, TraceEntry};

/// A line of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLine {
    /// Nanoseconds on the log's clock.
    pub ts_ns: u64,
    /// Who printed it ("T123" a task, "C0" a CPU), where known.
    pub caller: Option<String>,
    /// The text.
    pub text: String,
}

/// Something that the kernel complained about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// What it is.
    pub kind: IncidentKind,
    /// Nanoseconds on the log's clock.
    pub at_ns: u64,
    /// The lines that say what it is, in order: "list_del corruption, ...",
    /// "kernel BUG at ...".
    pub titles: Vec<String>,
    /// The oops counter ("[#1]"), for oopses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oops_number: Option<u32>,
    /// CPU, PID and name of the task, from the "CPU: 0 PID: 1 Comm: x" line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(missing_docs)]
    pub pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(missing_docs)]
    pub comm: Option<String>,
    /// Kernel instruction pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rip: Option<Location>,
    /// An instruction pointer that is in no function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_rip: Option<u64>,
    /// The call trace; guessed entries ("? f") are marked.
    pub trace: Vec<TraceEntry>,
    /// Index in the log of the first and last line.
    pub lines: (usize, usize),
}

impl Incident {
    /// The line that says most.
    pub fn title(&self) -> &str {
        self.titles.first().map_or("", String::as_str)
    }

    /// Text behind `marker` in any of the title lines.
    pub fn after(&self, marker: &str) -> Option<&str> {
        self.titles.iter().find_map(|t| t.split_once(marker)).map(|(_, rest)| rest)
    }

    /// Functions of the trace that the kernel was sure of.
    pub fn functions(&self) -> impl Iterator<Item = &TraceEntry> {
        self.trace.iter().filter(|e| e.sure)
    }
}

/// A report that is still being read.
struct Open {
    caller: Option<String>,
    incident: Incident,
    /// The line "CPU: .. PID: .." or a trace was seen: what follows is body.
    in_body: bool,
    in_trace: bool,
}

/// Lines after which a report without an end is over.
const LONGEST_REPORT: usize = 400;
/// Lines kept that say what an incident is, and entries of its trace.
const MOST_TITLES: usize = 16;
const LONGEST_TRACE: usize = 256;
/// Incidents kept of one log.
const MOST_INCIDENTS: usize = 256;

/// Cuts a log into incidents, in order of their first lines.
pub fn incidents(log: &[LogLine]) -> Vec<Incident> {
    let mut open: Vec<Open> = Vec::new();
    let mut done: Vec<Incident> = Vec::new();
    for (at, line) in log.iter().enumerate() {
        let text = trace::strip_prefix(&line.text);
        if let Some(kind) = patterns::classify(text) {
            let current = open.iter_mut().find(|o| o.caller == line.caller);
            match current {
                Some(report) if !report.in_body && kind.elaborates(report.incident.kind) => {
                    report.incident.kind = report.incident.kind.refined_by(kind);
                    add_title(&mut report.incident, text);
                    report.incident.lines.1 = at;
                    report.incident.oops_number =
                        report.incident.oops_number.or_else(|| patterns::oops_number(text));
                    continue;
                }
                // "Fatal exception" belongs to the oops before it; it is kept
                // as an incident of its own all the same: it says how it ended.
                _ => {}
            }
            close(&mut open, &mut done, |o| o.caller == line.caller);
            open.push(Open {
                caller: line.caller.clone(),
                incident: Incident {
                    kind,
                    at_ns: line.ts_ns,
                    titles: vec![text.trim().to_owned()],
                    oops_number: patterns::oops_number(text),
                    cpu: None,
                    pid: None,
                    comm: None,
                    rip: None,
                    raw_rip: None,
                    trace: Vec::new(),
                    lines: (at, at),
                },
                in_body: false,
                in_trace: false,
            });
            continue;
        }
        let Some(report) = open.iter_mut().find(|o| o.caller == line.caller) else { continue };
        if text.starts_with("---[ end ") || at - report.incident.lines.0 > LONGEST_REPORT {
            close(&mut open, &mut done, |o| o.caller == line.caller);
            continue;
        }
        read_body(report, text, at);
    }
    close(&mut open, &mut done, |_| true);
    done.sort_by_key(|i| i.lines.0);
    done.truncate(MOST_INCIDENTS);
    done
}

fn add_title(incident: &mut Incident, text: &str) {
    if incident.titles.len() < MOST_TITLES {
        incident.titles.push(text.trim().to_owned());
    }
}

fn close(open: &mut Vec<Open>, done: &mut Vec<Incident>, which: impl Fn(&Open) -> bool) {
    let (closed, kept) = std::mem::take(open).into_iter().partition(|o| which(o));
    *open = kept;
    done.extend(closed.into_iter().map(|o| o.incident));
}

fn read_body(report: &mut Open, text: &str, at: usize) {
    let incident = &mut report.incident;
    if let Some((cpu, pid, comm)) = trace::task_line(text) {
        if incident.cpu.is_none() {
            (incident.cpu, incident.pid, incident.comm) = (Some(cpu), Some(pid), Some(comm));
        }
        report.in_body = true;
    } else if let Some(pc) = text.trim_start().strip_prefix("pc : ") {
        // arm64.
        report.in_body = true;
        if incident.rip.is_none() && incident.raw_rip.is_none() {
            match trace::rip(pc) {
                trace::Rip::In(location) => incident.rip = Some(location),
                trace::Rip::Raw(address) => incident.raw_rip = Some(address),
                trace::Rip::Unknown => {}
            }
        }
    } else if let Some(rip) = text.trim_start().strip_prefix("RIP: ") {
        report.in_body = true;
        // The first is the culprit's; later ones are where it was entered.
        if incident.rip.is_none() && incident.raw_rip.is_none() && !rip.starts_with("0033:") {
            match trace::rip(rip) {
                trace::Rip::In(location) => incident.rip = Some(location),
                trace::Rip::Raw(address) => incident.raw_rip = Some(address),
                trace::Rip::Unknown => {}
            }
        }
        report.in_trace &= !rip.starts_with("0033:");
    } else if text.trim_start().starts_with("Call Trace:")
        || text.trim_start().starts_with("Call trace:")
    {
        report.in_trace = incident.trace.is_empty();
        report.in_body = true;
    } else if report.in_trace {
        match trace::entry(text) {
            Some(entry) if incident.trace.len() < LONGEST_TRACE => incident.trace.push(entry),
            Some(_) => {}
            None if text.starts_with("Code:") || text.starts_with("Modules linked in:") => {
                report.in_trace = false;
            }
            None => {}
        }
    } else if !report.in_body && patterns::is_detail(text) {
        add_title(incident, text);
    }
    incident.lines.1 = at;
}

/// The first line with which the kernel said it panicked: (when, message).
pub fn panic_message(log: &[LogLine]) -> Option<(u64, String)> {
    log.iter().find_map(|line| {
        let text = trace::strip_prefix(&line.text).trim_start();
        let message = text.strip_prefix("Kernel panic - not syncing: ")?;
        Some((line.ts_ns, message.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests;

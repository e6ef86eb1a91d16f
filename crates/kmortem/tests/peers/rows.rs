//! The rows of commands (`run --json`): drgn gives those that must be there,
//! with the members that it knows. Every one of them must be equal, and no row
//! may be there that drgn does not have.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use kmortem_lab::LabDump;
use serde_json::Value;

use crate::common::{Done, kmortem};

/// Differences shown of a subject on a dump.
const SHOWN: usize = 4;

/// A file of lab/peers/answers, and how its rows are compared.
struct Subject {
    name: &'static str,
    /// The command. `None`: each of drgn's rows comes with its own.
    line: Option<&'static str>,
    /// The member that tells rows apart. A member that no row has: there is one row.
    key: &'static str,
    /// On every dump, so many rows at least.
    least: usize,
    /// Kernels of which drgn can't know it, since a module has it.
    unknown_to: &'static [&'static str],
}

const fn subject(
    name: &'static str,
    line: &'static str,
    key: &'static str,
    least: usize,
) -> Subject {
    Subject { name, line: Some(line), key, least, unknown_to: &[] }
}

const fn asked(name: &'static str, key: &'static str, least: usize) -> Subject {
    Subject { name, line: None, key, least, unknown_to: &[] }
}

const SUBJECTS: [Subject; 25] = [
    subject("bpf", "bpf", "addr", 0),
    subject("caches", "kmem -s", "addr", 80),
    subject("cgroups", "cgroup", "addr", 1),
    subject("counters", "kmem -V", "-", 1),
    subject("files", "foreach files", "addr", 40),
    subject("free", "kmem -f", "addr", 100),
    subject("hrtimers", "timer -r", "addr", 2),
    subject("ipc", "ipcs", "addr", 0),
    subject("irqs", "irq", "irq", 10),
    subject("limits", "foreach ps -r", "addr", 40),
    asked("pages", "addr", 1000),
    subject("requests", "blk", "addr", 0),
    subject("resources", "dev -i", "addr", 30),
    subject("runqueues", "runq", "cpu", 1),
    subject("signals", "foreach sig", "addr", 40),
    asked("slab", "address", 200),
    subject("sockets", "net -l", "socket", 1),
    subject("swap", "swap", "addr", 0),
    subject("timers", "timer", "addr", 10),
    Subject { unknown_to: &["k510", "k61", "arm61"], ..subject("virtio", "virtio", "addr", 2) },
    subject("vmalloc", "kmem -v", "addr", 50),
    subject("vmas", "foreach user vm", "addr", 3),
    asked("waitqueues", "addr", 5),
    subject("workers", "wq -a", "addr", 4),
    subject("workqueues", "wq -w", "addr", 20),
];

/// What some guests were given, so that there is something to compare:
/// (end of the dump's name, subject, rows at least).
const PLENTY: [(&str, &str, usize); 9] = [
    ("-busy", "bpf", 8),
    ("-busy", "ipc", 8),
    ("-busy", "sockets", 25),
    ("-busy", "swap", 1),
    ("-busy", "cgroups", 5),
    ("-busy", "vmas", 20),
    ("-busy", "waitqueues", 20),
    ("-cgoom", "cgroups", 3),
    ("-storage", "requests", 1),
];

/// What is wrong on one dump.
pub(crate) fn compare(dump: &LabDump, drgn: &Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut theirs = BTreeMap::new();
    let mut args: Vec<String> = vec!["run".into(), "--json".into()];
    args.extend(dump.files.iter().map(|file| file.to_string_lossy().into_owned()));
    for subject in &SUBJECTS {
        let answer = &drgn[subject.name];
        let Some(rows) = answer["rows"].as_array() else {
            if answer["unknown"].is_null() || !subject.unknown_to.contains(&&*dump.boot.kernel) {
                wrong.push(format!("{}: drgn says {answer}", subject.name));
            }
            continue;
        };
        let file = folder.path().join(subject.name);
        let mut ask = |line: &str| {
            args.extend(["-c".into(), format!("{line} >> {}", file.display())]);
        };
        let rows: Vec<&Value> = match subject.line {
            Some(line) => {
                ask(line);
                rows.iter().collect()
            }
            None => {
                rows.iter().for_each(|pair| ask(pair[0].as_str().unwrap_or("")));
                rows.iter().map(|pair| &pair[1]).collect()
            }
        };
        theirs.insert(subject.name, rows);
    }
    let Done { code, stdout, stderr } = kmortem(&args);
    if code != 0 || !stdout.is_empty() {
        wrong.push(format!("code {code}: {stdout}{stderr}"));
    }
    for subject in &SUBJECTS {
        let Some(theirs) = theirs.get(subject.name) else { continue };
        let ours = match read(&folder.path().join(subject.name)) {
            Ok(ours) => ours,
            Err(why) => {
                wrong.push(format!("{}: {why}", subject.name));
                continue;
            }
        };
        let least = PLENTY
            .iter()
            .filter(|(end, name, _)| dump.name.ends_with(end) && *name == subject.name)
            .fold(subject.least, |least, row| least.max(row.2));
        if theirs.len() < least {
            wrong.push(format!("{}: only {} rows of {least}", subject.name, theirs.len()));
        }
        let differing = rows_differ(&ours, theirs, subject.key);
        if differing.is_empty() {
            continue;
        }
        let mut text =
            format!("{}: {} of {} rows differ", subject.name, differing.len(), theirs.len());
        for line in differing.iter().take(SHOWN) {
            let _ = write!(text, "\n        {line}");
        }
        wrong.push(text);
    }
    wrong
}

/// The rows of a file; a command without rows may leave none.
fn read(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}")))
        .collect()
}

fn rows_differ(ours: &[Value], theirs: &[&Value], key: &str) -> Vec<String> {
    let key = |row: &Value| row[key].to_string();
    let mut left: BTreeMap<String, &Value> = ours.iter().map(|row| (key(row), row)).collect();
    let mut found = Vec::new();
    if left.len() != ours.len() {
        found.push(format!("{} rows with {} keys", ours.len(), left.len()));
    }
    for row in theirs {
        match left.remove(&key(row)) {
            None => found.push(format!("only drgn has {row}")),
            Some(ours) => {
                found.extend(differs(ours, row).map(|why| format!("{}{why}", key(row))));
            }
        }
    }
    found.extend(left.values().map(|row| format!("drgn does not have {row}")));
    found
}

/// Path and values of the first difference. Objects may have more members than
/// drgn knows; all else must be equal.
fn differs(ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => theirs.iter().find_map(|(name, theirs)| {
            let why = match ours.get(name) {
                Some(ours) => differs(ours, theirs)?,
                None => format!(": {theirs} for drgn, absent here"),
            };
            Some(format!(".{name}{why}"))
        }),
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            let mut pairs = ours.iter().zip(theirs).enumerate();
            pairs.find_map(|(i, (ours, theirs))| {
                differs(ours, theirs).map(|why| format!("[{i}]{why}"))
            })
        }
        _ if ours == theirs => None,
        _ => Some(format!(": {theirs} for drgn, {ours} here")),
    }
}

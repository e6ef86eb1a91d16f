//! Parts of a report: the task line, `RIP:`, and call trace entries.

use serde::Serialize;

/// A place in the code, as the kernel prints it: `f+0x1/0x20 [module]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The function, with compiler suffixes.
    pub function: String,
    /// Bytes from its start.
    pub offset: u64,
    /// Its module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)?;
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// An entry of a call trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceEntry {
    /// Where.
    #[serde(flatten)]
    pub location: Location,
    /// Whether the kernel's unwinder vouched for it (no "?" before it).
    pub sure: bool,
}

/// What stood behind "RIP:".
pub(super) enum Rip {
    In(Location),
    Raw(u64),
    Unknown,
}

/// Takes off what some configurations put before the text: a timestamp and
/// caller that are part of it (netconsole, `dmesg` output).
pub(super) fn strip_prefix(text: &str) -> &str {
    let mut rest = text;
    for _ in 0..2 {
        let Some(inner) = rest.trim_start().strip_prefix('[') else { break };
        let Some((inside, after)) = inner.split_once(']') else { break };
        let number = inside.trim().trim_start_matches(['T', 'C']);
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            break;
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    rest
}

/// "CPU: 0 PID: 133 Comm: insmod Tainted: ..." and, from 6.11 on,
/// "CPU: 0 UID: 0 PID: 133 Comm: ...".
pub(super) fn task_line(text: &str) -> Option<(u32, i32, String)> {
    let rest = text.trim_start().strip_prefix("CPU: ")?;
    let (cpu, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once("PID: ")?;
    let (pid, rest) = rest.split_once(' ')?;
    let rest = rest.trim_start().strip_prefix("Comm: ")?;
    // A name may have spaces: it ends where the taint text starts.
    let ends = [" Kdump: loaded", " Tainted: ", " Not tainted "];
    let end = ends.iter().filter_map(|e| rest.find(e)).min().unwrap_or(rest.len());
    Some((cpu.parse().ok()?, pid.parse().ok()?, rest[..end].trim_end().to_owned()))
}

/// "0010:crasher_null_deref+0x5/0x10 [crasher]", "0010:0x1000",
/// "0010:[<ffffffff...>]", "f+0x1/0x2".
pub(super) fn rip(text: &str) -> Rip {
    let text = text.split_once(':').map_or(text, |(segment, rest)| {
        if segment.bytes().all(|b| b.is_ascii_hexdigit()) { rest } else { text }
    });
    if let Some(location) = location(text) {
        return Rip::In(location);
    }
    let raw = text.trim().trim_start_matches("0x");
    let digits = raw.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or("");
    match u64::from_str_radix(digits, 16) {
        Ok(address) => Rip::Raw(address),
        Err(_) => Rip::Unknown,
    }
}

/// " ? f+0x1/0x20 [module]" in a call trace.
pub(super) fn entry(text: &str) -> Option<TraceEntry> {
    let text = text.trim();
    // Old kernels: "[<ffffffff8100>] f+0x1/0x2".
    let text = match text.strip_prefix("[<") {
        Some(rest) => rest.split_once(">]")?.1.trim_start(),
        None => text,
    };
    let (sure, text) = match text.strip_prefix("? ") {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    Some(TraceEntry { location: location(text)?, sure })
}

/// "f+0x1/0x20 [module]"; from 6.x the module may carry flags or a build ID.
fn location(text: &str) -> Option<Location> {
    let text = text.trim();
    let (function, rest) = text.split_once("+0x")?;
    let (offset, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    if function.is_empty() || !function.chars().all(valid) {
        return None;
    }
    let module = rest.split_once('[').and_then(|(_, inside)| {
        let name = inside.split([']', ' ', '(']).next()?;
        (!name.is_empty()).then(|| name.to_owned())
    });
    Some(Location {
        function: function.to_owned(),
        offset: u64::from_str_radix(offset, 16).ok()?,
        module,
    })
}

//! What was written: as lines for a person, or as JSON.

use std::time::Duration;

use kmortem_vmcore::writer::Summary;
use serde::Serialize;

/// The end of a conversion.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Files written; "-" is standard output.
    pub(super) files: Vec<String>,
    /// The form's name.
    pub(super) form: &'static str,
    /// Size of a page.
    pub(super) page_size: u64,
    /// Pages and bytes.
    #[serde(flatten)]
    pub(super) summary: Summary,
    /// Pages of RAM that the input leaves out.
    pub(super) filtered: u64,
    /// Seconds.
    pub(super) seconds: f64,
    /// What a reader should know, one sentence each.
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<9}{value}\n"));
        line("wrote", &format!("{} ({})", self.files.join(", "), self.form));
        if self.form != "rearranged" && self.form != "flattened" {
            line("pages", &self.pages());
        }
        line("bytes", &self.sizes());
        for note in &self.notes {
            line("note", note);
        }
        text
    }

    fn pages(&self) -> String {
        let s = &self.summary;
        let mut text = format!("{} written", s.written);
        if s.zero > 0 {
            text.push_str(&format!(" ({} of zeros)", s.zero));
        }
        for (count, why) in [
            (self.filtered, "filtered out before"),
            (s.lost, "lost or damaged in the input"),
            (s.partial, "only in part there, which this form can't hold"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} left out: {why}"));
            }
        }
        text
    }

    fn sizes(&self) -> String {
        let memory = self.summary.written.saturating_mul(self.page_size);
        let size = bytes(self.summary.bytes);
        let rate = bytes((memory.max(self.summary.bytes) as f64 / self.seconds.max(0.001)) as u64);
        let time = Duration::from_secs_f64(self.seconds);
        let ratio = memory as f64 / self.summary.bytes.max(1) as f64;
        match memory > self.summary.bytes {
            true => {
                format!("{size}, {ratio:.1} times less than the memory in it; {time:.1?}, {rate}/s")
            }
            false => format!("{size}; {time:.1?}, {rate}/s"),
        }
    }
}

/// "60.9 MB", in units of 1024.
pub(super) fn bytes(n: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_reason() {
        let summary =
            Summary { ram: 100, written: 60, zero: 5, lost: 3, partial: 1, bytes: 61_440 };
        let report = Report {
            files: vec!["a".into(), "b".into()],
            form: "kdump-lzo",
            page_size: 4096,
            filtered: summary.filtered(),
            summary,
            seconds: 1.0,
            notes: vec!["odd".into()],
        };
        assert_eq!(
            report.render(),
            "wrote    a, b (kdump-lzo)\n\
             pages    60 written (5 of zeros), 37 left out: filtered out before, 3 left out: lost or \
             damaged in the input, 1 left out: only in part there, which this form can't hold\n\
             bytes    60.0 KB, 4.0 times less than the memory in it; 1.0s, 240.0 KB/s\n\
             note     odd\n"
        );
    }
}

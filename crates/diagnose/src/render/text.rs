//! The page for a terminal: what killed it, how sure, what to do; then proof.

use crate::finding::{Finding, Level, Section};
use crate::report::Report;

use super::line::{Line, Role, wrap};
use super::{phrases, section};

/// How to show a report as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// Columns. Less than 60 is taken as 60.
    pub width: usize,
    /// Whether to use ANSI colours.
    pub color: bool,
    /// Whether to unfold stacks and show other findings in full.
    pub full: bool,
}

impl Default for TextOptions {
    fn default() -> TextOptions {
        TextOptions { width: 80, color: false, full: false }
    }
}

/// Column where the text behind a label starts.
const TEXT_AT: usize = 11;

/// The report as text.
pub fn render_text(report: &Report, options: &TextOptions) -> String {
    let mut page = Page { width: options.width.max(60), full: options.full, lines: Vec::new() };
    page.headline(report);
    page.cause(report);
    page.sections(&report.cause.sections);
    page.evidence(&report.cause);
    page.next(report);
    page.also(report);
    page.missing(report);
    page.rest(report);
    let mut out = String::new();
    for line in &page.lines {
        line.print(&mut out, options.color);
    }
    out
}

struct Page {
    width: usize,
    full: bool,
    lines: Vec<Line>,
}

impl Page {
    fn blank(&mut self) {
        if self.lines.last().is_some_and(|l| l.width() > 0) {
            self.lines.push(Line::new());
        }
    }

    /// "  LABEL   text, wrapped under itself"
    fn labelled(&mut self, label: &str, first: (Role, &str), text: &str) {
        let room = self.width.saturating_sub(TEXT_AT + 1);
        let whole = format!("{}{text}", first.1);
        for (i, part) in wrap(&whole, room).into_iter().enumerate() {
            let head = if i == 0 { label } else { "" };
            let line = Line::new().plain("  ").and(Role::Heading, head).pad(TEXT_AT);
            let line = match part.strip_prefix(first.1.trim_end()) {
                Some(rest) if i == 0 && !first.1.is_empty() => {
                    line.and(first.0, first.1.trim_end()).plain(rest)
                }
                _ => line.plain(part),
            };
            self.lines.push(line);
        }
    }

    fn heading(&mut self, text: &str) {
        self.blank();
        self.lines.push(Line::new().plain("  ").and(Role::Heading, text));
    }

    fn headline(&mut self, report: &Report) {
        let text = phrases::headline(report).join(" · ");
        for part in wrap(&text, self.width - 3) {
            self.lines.push(Line::new().plain("  ").and(Role::Strong, part));
        }
        self.blank();
    }

    fn cause(&mut self, report: &Report) {
        let cause = &report.cause;
        self.labelled("CAUSE", (Role::Plain, ""), &cause.cause);
        let role = match cause.confidence.level {
            Level::Certain => Role::Good,
            Level::Likely | Level::Possible => Role::Warn,
            Level::Unknown => Role::Bad,
        };
        let level = format!("{}: ", cause.confidence.level.word());
        self.labelled("SURE", (role, &level), &cause.confidence.reason);
        if let Some(when) = phrases::when(report) {
            self.labelled("WHEN", (Role::Plain, ""), &when);
        }
        let sign = format!("{} · {}", report.signature.hash, report.signature.title);
        self.labelled("SIGN", (Role::Plain, ""), &sign);
    }

    fn sections(&mut self, sections: &[Section]) {
        let mut at = 0;
        while at < sections.len() {
            if let Some(next) = sections.get(at + 1)
                && self.side_by_side(&sections[at], next)
            {
                at += 2;
                continue;
            }
            let (title, lines) = section::section(&sections[at], self.width - 5, self.full);
            self.heading(&title);
            for line in lines {
                self.lines.push(Line::new().plain("    ").join(line));
            }
            at += 1;
        }
    }

    /// Two sections of one sort next to each other, where they fit.
    fn side_by_side(&mut self, left: &Section, right: &Section) -> bool {
        let alike = std::mem::discriminant(left) == std::mem::discriminant(right);
        let column = (self.width - 6) / 2;
        let fits = |s: &Section| section::natural_width(s) + 2 <= column;
        if !alike || self.full || !fits(left) || !fits(right) {
            return false;
        }
        let (left_title, left) = section::section(left, column - 2, false);
        let (right_title, right) = section::section(right, column - 2, false);
        self.blank();
        self.lines.push(
            Line::new()
                .plain("  ")
                .and(Role::Heading, left_title)
                .pad(2 + column)
                .and(Role::Heading, right_title),
        );
        for i in 0..left.len().max(right.len()) {
            let a = left.get(i).cloned().unwrap_or_default();
            let line = Line::new().plain("    ").join(a).pad(4 + column);
            self.lines.push(match right.get(i) {
                Some(b) => line.join(b.clone()),
                None => line,
            });
        }
        true
    }

    fn evidence(&mut self, cause: &Finding) {
        if !cause.evidence.is_empty() {
            self.heading("EVIDENCE");
            let labels: Vec<String> = cause.evidence.iter().map(phrases::label).collect();
            let column = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0) + 2;
            for (evidence, label) in cause.evidence.iter().zip(labels) {
                let room = self.width.saturating_sub(4 + column + 1);
                for (i, part) in wrap(&evidence.text, room).into_iter().enumerate() {
                    let head = if i == 0 { label.as_str() } else { "" };
                    let line = Line::new().plain("    ").and(Role::Label, head).pad(4 + column);
                    self.lines.push(line.plain(part));
                }
            }
        }
        let nothing = ["nothing found".to_owned()];
        let against: &[String] = if cause.against.is_empty() { &nothing } else { &cause.against };
        self.blank();
        self.bullets("AGAINST", against);
    }

    /// "  LABEL   · one" and under it the others.
    fn bullets(&mut self, label: &str, items: &[String]) {
        let column = TEXT_AT;
        for (n, item) in items.iter().enumerate() {
            let parts = wrap(item, self.width.saturating_sub(column + 3));
            for (i, part) in parts.into_iter().enumerate() {
                let head = if n == 0 && i == 0 { label } else { "" };
                let dot = if i == 0 { "· " } else { "  " };
                let line = Line::new().plain("  ").and(Role::Heading, head).pad(column);
                self.lines.push(line.and(Role::Dim, dot).plain(part));
            }
        }
    }

    fn next(&mut self, report: &Report) {
        let mut first = true;
        self.blank();
        for advice in &report.cause.next {
            let label = if first { "NEXT" } else { "" };
            first = false;
            self.bullets(label, std::slice::from_ref(&advice.text));
            if let Some(command) = phrases::command(report, advice) {
                // Never wrapped: it has to survive being pasted.
                let line = Line::new().pad(TEXT_AT + 2).and(Role::Strong, command);
                self.lines.push(line);
            }
        }
    }

    fn also(&mut self, report: &Report) {
        if report.also.is_empty() {
            return;
        }
        self.blank();
        let items: Vec<String> = report
            .also
            .iter()
            .map(|f| {
                let at = f.at_ns.map_or(String::new(), |n| format!(" at {:.3} s", n as f64 / 1e9));
                format!("{} ({}{at})", f.cause, f.confidence.level.word())
            })
            .collect();
        self.bullets("ALSO", &items);
        if self.full {
            for finding in &report.also {
                self.sections(&finding.sections);
            }
        }
    }

    fn missing(&mut self, report: &Report) {
        if report.missing.is_empty() {
            return;
        }
        self.blank();
        let items: Vec<String> = report
            .missing
            .iter()
            .map(|m| {
                let costs =
                    m.costs.as_ref().map_or(String::new(), |c| format!(". Lost with it: {c}"));
                format!("{}: {}{costs}", m.what, m.why)
            })
            .collect();
        self.bullets("MISSING", &items);
    }

    fn rest(&mut self, report: &Report) {
        self.blank();
        let text = phrases::rest(report).join(" · ");
        self.labelled("REST", (Role::Plain, ""), &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_fault_s_page() {
        let text = render_text(&sample::null_write(), &TextOptions::default());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_hung_task_s_page_puts_stacks_side_by_side() {
        let options = TextOptions { width: 110, ..TextOptions::default() };
        insta::assert_snapshot!(render_text(&sample::hung_task(), &options));
    }

    #[test]
    fn a_cgroup_s_page_draws_its_memory() {
        insta::assert_snapshot!(render_text(&sample::cgroup(), &TextOptions::default()));
    }

    #[test]
    fn no_line_is_wider_than_the_page_but_commands() {
        for width in [60, 80, 100, 132] {
            for report in [sample::null_write(), sample::hung_task(), sample::cgroup()] {
                let text = render_text(&report, &TextOptions { width, color: false, full: true });
                for line in text.lines().filter(|l| !l.contains("kmortem run")) {
                    assert!(line.chars().count() <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn colour_adds_nothing_but_escapes() {
        let report = sample::null_write();
        let plain = render_text(&report, &TextOptions::default());
        let painted = render_text(&report, &TextOptions { color: true, ..TextOptions::default() });
        let mut stripped = String::new();
        let mut rest = painted.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            stripped.push_str(before);
            rest = after.split_once('m').map_or("", |(_, r)| r);
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain);
        assert!(painted.contains("\u{1b}["));
    }

    #[test]
    fn full_unfolds_the_stack() {
        let report = sample::null_write();
        let folded = render_text(&report, &TextOptions::default());
        let full = render_text(&report, &TextOptions { full: true, ..TextOptions::default() });
        assert!(!folded.contains("#0 "));
        assert!(full.contains("#0 ") && full.contains("entry_SYSCALL_64_after_hwframe"));
    }
}

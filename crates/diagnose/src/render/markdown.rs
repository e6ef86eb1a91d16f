//! The report as Markdown, for a ticket or a chat.

use crate::finding::{Finding, Section};
use crate::report::Report;
use crate::text::bytes;

use super::phrases;
use super::section;

/// Columns of preformatted parts.
const WIDTH: usize = 96;

/// The report as Markdown.
pub fn render_markdown(report: &Report) -> String {
    let mut out = String::new();
    let cause = &report.cause;
    let mut push = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    push(format!("# {}\n", escape(&phrases::headline(report).join(" · "))));
    push(format!("**{}**\n", escape(&cause.cause)));
    push("| | |\n|---|---|".into());
    push(format!(
        "| Sure | **{}**: {} |",
        cause.confidence.level.word(),
        cell(&cause.confidence.reason)
    ));
    if let Some(when) = phrases::when(report) {
        push(format!("| When | {} |", cell(&when)));
    }
    push(format!(
        "| Signature | `{}` `{}` |",
        report.signature.title.replace('|', "\\|"),
        report.signature.hash
    ));
    if let Some(panic) = &report.panic {
        push(format!("| Panic | {} |", cell(panic)));
    }
    for part in &cause.sections {
        push(format!("\n{}", self::part(part)));
    }
    push(format!("\n{}", evidence(cause)));
    push("## Next\n".into());
    for advice in &cause.next {
        push(format!("- {}", escape(&advice.text)));
        if let Some(command) = phrases::command(report, advice) {
            push(format!("  ```sh\n  {command}\n  ```"));
        }
    }
    if !report.also.is_empty() {
        push("\n## Also seen\n".into());
        for finding in &report.also {
            push(format!("- {} ({})", escape(&finding.cause), finding.confidence.level.word()));
        }
    }
    if !report.missing.is_empty() {
        push("\n## Missing\n".into());
        for missing in &report.missing {
            let costs =
                missing.costs.as_ref().map_or(String::new(), |c| format!(". Lost with it: {c}"));
            push(format!(
                "- {}: {}{}",
                escape(&missing.what),
                escape(&missing.why),
                escape(&costs)
            ));
        }
    }
    push(format!("\n## The rest\n\n{}", escape(&phrases::rest(report).join(" · "))));
    out
}

fn part(part: &Section) -> String {
    if let Section::Bars { title, bars, .. } = part {
        let rows: Vec<String> =
            bars.iter().map(|b| format!("| {} | {} |", b.label, bytes(b.bytes))).collect();
        return format!(
            "## {}\n\n| use | bytes |\n|---|---:|\n{}",
            title_case(title),
            rows.join("\n")
        );
    }
    let (title, lines) = section::section(part, WIDTH, false);
    let mut text = String::new();
    for line in lines {
        line.print(&mut text, false);
    }
    format!("## {}\n\n```text\n{text}```", title_case(&title))
}

fn evidence(cause: &Finding) -> String {
    let mut text = String::from("## Evidence\n\n");
    for evidence in &cause.evidence {
        text += &format!("- {}: `{}`\n", phrases::label(evidence), evidence.text.replace('`', "'"));
    }
    text += "\nAgainst: ";
    if cause.against.is_empty() {
        text += "nothing found.\n";
    } else {
        text += &format!("{}.\n", escape(&cause.against.join("; ")));
    }
    text
}

/// "STACK OF THE HOLDER" as "Stack of the holder"; names of tasks stay.
fn title_case(title: &str) -> String {
    let shouted = |word: &str| word.len() > 1 && !word.chars().any(|c| c.is_ascii_lowercase());
    let words: Vec<String> = title
        .split(' ')
        .enumerate()
        .map(|(i, word)| match shouted(word) && word.chars().all(|c| c.is_ascii_uppercase()) {
            true if i == 0 => {
                let lower = word.to_ascii_lowercase();
                lower[..1].to_ascii_uppercase() + &lower[1..]
            }
            true if !matches!(word, "CPU") => word.to_ascii_lowercase(),
            _ => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

/// Text in which Markdown finds nothing to interpret.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn cell(text: &str) -> String {
    escape(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_fault_in_markdown() {
        insta::assert_snapshot!(render_markdown(&sample::null_write()));
    }

    #[test]
    fn a_cgroup_in_markdown() {
        insta::assert_snapshot!(render_markdown(&sample::cgroup()));
    }

    #[test]
    fn names_can_not_break_out_of_the_text() {
        assert_eq!(escape("a*b_[c](x)|<d>"), "a\\*b\\_\\[c\\](x)\\|\\<d\\>");
        assert_eq!(title_case("STACK OF THE HOLDER"), "Stack of the holder");
        assert_eq!(title_case("STACK OF CPU 1"), "Stack of CPU 1");
        assert_eq!(title_case("STACK OF waiter (4)"), "Stack of waiter (4)");
    }
}

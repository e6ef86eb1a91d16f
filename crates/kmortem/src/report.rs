//! `kmortem report`: what killed the machine.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kmortem_diagnose::{TextOptions, render_markdown, render_text};

use crate::Dump;
use crate::error::CliError;

/// Says what killed the machine, how sure that is, and what to do
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    dump: Dump,
    /// The report as one JSON object
    #[arg(long, conflicts_with_all = ["markdown", "full"])]
    json: bool,
    /// The report as Markdown, for a ticket
    #[arg(long, conflicts_with = "full")]
    markdown: bool,
    /// With whole stacks and all other findings
    #[arg(long)]
    full: bool,
    /// Colours: on a terminal (unless NO_COLOR is set), always, or never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
}

const EXAMPLES: &str = "\
Examples:
  kmortem report vmcore
  kmortem report --full vmcore | less
  kmortem report --markdown vmcore > ticket.md
  kmortem report --json vmcore | jq .cause
  kmortem report vmcore.1 vmcore.2        a split dump: name all parts";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, CliError> {
    let kernel = args.dump.open()?;
    let report = kmortem_diagnose::report(&kernel);
    let text = if args.json {
        serde_json::to_string(&report).map_err(io::Error::from)?
    } else if args.markdown {
        render_markdown(&report)
    } else {
        let color = match args.color {
            Color::Auto => wants_color(io::stdout().is_terminal(), std::env::var_os("NO_COLOR")),
            Color::Always => true,
            Color::Never => false,
        };
        render_text(&report, &TextOptions { width: width(), color, full: args.full })
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// NO_COLOR counts when it is set to anything (https://no-color.org).
fn wants_color(terminal: bool, no_color: Option<std::ffi::OsString>) -> bool {
    terminal && no_color.is_none_or(|value| value.is_empty())
}

/// Columns of the terminal, at most 100: longer lines read badly. In a pipe 80.
fn width() -> usize {
    match terminal_size::terminal_size() {
        Some((terminal_size::Width(columns), _)) => usize::from(columns).min(100),
        None => 80,
    }
}

#[cfg(test)]
mod tests {
    use super::wants_color;

    #[test]
    fn colour_needs_a_terminal_that_wants_it() {
        assert!(wants_color(true, None));
        assert!(wants_color(true, Some("".into())));
        assert!(!wants_color(true, Some("1".into())));
        assert!(!wants_color(false, None));
    }
}

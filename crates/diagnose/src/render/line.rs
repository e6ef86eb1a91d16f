//! Lines of styled text: wrapping, columns, colour.

use anstyle::{AnsiColor, Style};

/// What a piece of text is, for colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    Heading,
    Label,
    Strong,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Role {
    fn style(self) -> Style {
        let colour = |c: AnsiColor| Style::new().fg_color(Some(c.into()));
        match self {
            Role::Plain => Style::new(),
            Role::Heading => colour(AnsiColor::Cyan).bold(),
            Role::Label => colour(AnsiColor::Cyan),
            Role::Strong => Style::new().bold(),
            Role::Dim => Style::new().dimmed(),
            Role::Good => colour(AnsiColor::Green).bold(),
            Role::Warn => colour(AnsiColor::Yellow).bold(),
            Role::Bad => colour(AnsiColor::Red).bold(),
        }
    }
}

/// A line: pieces of text with their roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Role, String)>);

impl Line {
    pub(super) fn new() -> Line {
        Line::default()
    }

    pub(super) fn of(role: Role, text: impl Into<String>) -> Line {
        Line::new().and(role, text)
    }

    pub(super) fn and(mut self, role: Role, text: impl Into<String>) -> Line {
        self.0.push((role, text.into()));
        self
    }

    pub(super) fn plain(self, text: impl Into<String>) -> Line {
        self.and(Role::Plain, text)
    }

    /// Columns that it takes. Every character that reports use is one wide.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, t)| t.chars().count()).sum()
    }

    /// Blanks up to column `width`.
    pub(super) fn pad(self, width: usize) -> Line {
        let missing = width.saturating_sub(self.width());
        self.plain(" ".repeat(missing))
    }

    /// This line with another behind it.
    pub(super) fn join(mut self, other: Line) -> Line {
        self.0.extend(other.0);
        self
    }

    pub(super) fn print(&self, out: &mut String, colour: bool) {
        let plain: String = self.0.iter().map(|(_, t)| t.as_str()).collect();
        let blank = plain.len() - plain.trim_end().len();
        let mut left = plain.len() - blank;
        for (role, text) in &self.0 {
            let text = &text[..floor(text, left.min(text.len()))];
            left -= text.len();
            if text.is_empty() {
                continue;
            }
            if colour && *role != Role::Plain {
                let style = role.style();
                out.push_str(&format!("{}{text}{}", style.render(), style.render_reset()));
            } else {
                out.push_str(text);
            }
        }
        out.push('\n');
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Breaks `text` at blanks into lines of at most `width` columns. A word that
/// is longer is cut.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word = word;
        let mut length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while length > width {
            let cut = word.char_indices().nth(width).map_or(word.len(), |(i, _)| i);
            lines.push(word[..cut].to_owned());
            word = &word[cut..];
            length = word.chars().count();
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Cuts `text` to `width` columns, with an ellipsis when it was longer.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_blanks_and_long_words_are_cut() {
        assert_eq!(wrap("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap(&"x".repeat(20), 10), ["x".repeat(10), "x".repeat(10)]);
    }

    #[test]
    fn no_line_ends_in_blanks() {
        let mut out = String::new();
        Line::of(Role::Label, "a").pad(10).print(&mut out, false);
        Line::of(Role::Label, "ä ").and(Role::Dim, "  ").print(&mut out, true);
        assert_eq!(out, "a\n\u{1b}[36mä\u{1b}[0m\n");
    }

    #[test]
    fn cut_text_shows_that_it_was() {
        assert_eq!(cut("crasher", 7), "crasher");
        assert_eq!(cut("crasher", 6), "crash…");
    }
}

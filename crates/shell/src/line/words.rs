//! The words of a command.

use crate::error::CommandError;

/// A word, without the quotes that held it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// What it says.
    pub text: String,
    /// The quote that it begins with, if any.
    pub quote: Option<char>,
}

/// What a backslash makes plain.
const SYNTAX: &str = r#"'"\|!<>#()"#;

/// Splits `line` at blanks. Quotes of either kind keep blanks together and
/// vanish; a backslash outside single quotes keeps a blank or a character of the
/// syntax as it is, and stays before anything else (`foreach \user` is a task's
/// name). Parentheses that begin a word keep all of an expression
/// together. `#` at the start of a word begins a comment.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<char> = None;
    let mut depth = 0usize;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let began = word.is_some();
        let mut push = |c: char| word.get_or_insert_with(|| begin(None)).text.push(c);
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => push(c),
            (_, '\\') => match chars.peek() {
                Some(next) if next.is_whitespace() || SYNTAX.contains(*next) => {
                    push(*next);
                    chars.next();
                }
                Some(_) => push('\\'),
                None => return Err(unfinished(line, "it ends with a backslash")),
            },
            (Some(_), c) => push(c),
            // In an expression quotes are for the one who reads it.
            (None, '(') if !began || depth > 0 => {
                push(c);
                depth += 1;
            }
            (None, ')') if depth > 0 => {
                push(c);
                depth -= 1;
            }
            (None, c) if depth > 0 => push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_with(|| begin(quote));
            }
            (None, '#') if !began => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => push(c),
        }
    }
    if let Some(q) = quote {
        return Err(unfinished(line, &format!("a quote ({q}) is not closed")));
    }
    words.extend(word);
    Ok(words)
}

fn begin(quote: Option<char>) -> Word {
    Word { text: String::new(), quote }
}

fn unfinished(line: &str, why: &str) -> CommandError {
    CommandError::Line(format!("{}: {why}", line.trim()))
}

#[cfg(test)]
mod tests {
    fn split(line: &str) -> Vec<String> {
        super::split(line).unwrap().into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn blanks_separate_words() {
        assert_eq!(split("  bt -a \t 12 "), ["bt", "-a", "12"]);
        assert!(split("   ").is_empty());
    }

    #[test]
    fn quotes_and_backslashes_keep_words_together() {
        assert_eq!(
            split(r#"foreach 'a b' "c 'd'" e\ f ''"#),
            ["foreach", "a b", "c 'd'", "e f", ""]
        );
        assert_eq!(split(r"a '\' b"), ["a", r"\", "b"]);
        assert_eq!(split(r"foreach \user 'a.\d' bt"), ["foreach", r"\user", r"a.\d", "bt"]);
        assert_eq!(split(r"ps \>x \|"), ["ps", ">x", "|"]);
    }

    #[test]
    fn quotes_are_remembered() {
        let words = super::split(r#"a 'b' "c" d'e'"#).unwrap();
        let quotes: Vec<_> = words.iter().map(|w| w.quote).collect();
        assert_eq!(quotes, [None, Some('\''), Some('"'), None]);
    }

    #[test]
    fn an_expression_in_parentheses_is_one_word() {
        assert_eq!(split("eval (1 << (2 + 3)) x"), ["eval", "(1 << (2 + 3))", "x"]);
        assert_eq!(split("p ((struct a *) b)->c d"), ["p", "((struct a *) b)->c", "d"]);
        assert_eq!(split("p f(a, b)"), ["p", "f(a,", "b)"]);
        assert_eq!(split("ps (sd-pam)"), ["ps", "(sd-pam)"]);
    }

    #[test]
    fn comments_begin_at_a_word() {
        assert_eq!(split("ps # all of them"), ["ps"]);
        assert_eq!(split("ps a#b"), ["ps", "a#b"]);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        assert!(super::split("ps 'a").is_err());
        assert!(super::split("ps a\\").is_err());
    }
}

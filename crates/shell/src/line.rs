//! A command line as words.

use crate::error::CommandError;

/// Splits `line` at blanks. Quotes of either kind keep blanks together and
/// vanish; a backslash outside single quotes keeps the next character as it
/// is. `#` at the start of a word begins a comment.
pub fn split(line: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(unfinished(line, "it ends with a backslash")),
            },
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        return Err(unfinished(line, &format!("a quote ({q}) is not closed")));
    }
    words.extend(word);
    Ok(words)
}

fn unfinished(line: &str, why: &str) -> CommandError {
    CommandError::Line(format!("{}: {why}", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn blanks_separate_words() {
        assert_eq!(split("  bt -a \t 12 ").unwrap(), ["bt", "-a", "12"]);
        assert!(split("   ").unwrap().is_empty());
    }

    #[test]
    fn quotes_and_backslashes_keep_words_together() {
        assert_eq!(
            split(r#"foreach 'a b' "c 'd'" e\ f ''"#).unwrap(),
            ["foreach", "a b", "c 'd'", "e f", ""]
        );
        assert_eq!(split(r"a '\' b").unwrap(), ["a", r"\", "b"]);
    }

    #[test]
    fn comments_begin_at_a_word() {
        assert_eq!(split("ps # all of them").unwrap(), ["ps"]);
        assert_eq!(split("ps a#b").unwrap(), ["ps", "a#b"]);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        assert!(split("ps 'a").is_err());
        assert!(split("ps a\\").is_err());
    }
}

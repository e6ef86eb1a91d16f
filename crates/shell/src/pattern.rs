//! Regular expressions on a command line. crash(8) takes a word in single
//! quotes for one; quotes are gone once a line is split, so a word is one
//! where it has a character that means something in an expression.

use regex_lite::Regex;

use crate::error::CommandError;

/// The expression that `word` is; none: it is a plain word.
pub(crate) fn of_word(command: &'static str, word: &str) -> Result<Option<Regex>, CommandError> {
    if !word.contains(['*', '+', '?', '[', ']', '(', ')', '{', '}', '^', '$', '|']) {
        // A dot alone is in many names; `.*` was found above.
        return Ok(None);
    }
    Regex::new(word).map(Some).map_err(|_| CommandError::Usage {
        command,
        what: format!("`{word}` is no regular expression"),
    })
}

#[cfg(test)]
mod tests {
    use super::of_word;

    #[test]
    fn plain_words_are_no_expressions() {
        for word in ["bash", "kworker/0:1", "ksoftirqd/1", "1234", "a.out"] {
            assert!(of_word("ps", word).unwrap().is_none(), "{word}");
        }
        let migration = of_word("ps", "migration*").unwrap().unwrap();
        assert!(migration.is_match("migration/0") && !migration.is_match("kthreadd"));
        assert!(of_word("ps", "a(").unwrap_err().is_usage());
    }
}

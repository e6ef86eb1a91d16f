//! Text in the middle of a column, as crash(8)'s tables have their headings.

/// Which side gets the odd blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lean {
    /// The text stands nearer to the left.
    Left,
    /// The text stands nearer to the right.
    Right,
}

/// `text` in the middle of `width` columns; longer text as it is.
pub(crate) fn center(text: &str, width: usize, lean: Lean) -> String {
    let blanks = width.saturating_sub(text.chars().count());
    let left = match lean {
        Lean::Left => blanks / 2,
        Lean::Right => blanks.div_ceil(2),
    };
    format!("{:left$}{text}{:right$}", "", "", right = blanks - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_blank_goes_to_the_side_asked_for() {
        assert_eq!(center("abc", 6, Lean::Left), " abc  ");
        assert_eq!(center("abc", 6, Lean::Right), "  abc ");
        assert_eq!(center("abc", 2, Lean::Left), "abc");
    }
}

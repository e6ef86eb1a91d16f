//! What `set` and `kmortemrc` change about a session's answers.

/// The base in which numbers of structures and `p` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Radix {
    /// As crash does by itself.
    #[default]
    Decimal,
    /// After `set radix 16`, or `hex`.
    Hex,
}

/// A session's settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Base of numbers.
    pub radix: Radix,
}

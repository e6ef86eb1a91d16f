//! How values are written: the base of numbers, and gdb's format letters.

use crate::args::Args;
use crate::settings::{Radix, Settings};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Style {
    /// Base of integers.
    pub(crate) radix: Radix,
    /// A letter of gdb's `print/x`.
    pub(crate) format: Option<Format>,
    /// Whether each element of an array has a line (`set print_array`).
    pub(crate) array_lines: bool,
    /// Whether arrays of characters end at their first NUL (`set null-stop`).
    pub(crate) null_stop: bool,
}

/// gdb's format letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `x`
    Hex,
    /// `d`
    Decimal,
    /// `u`
    Unsigned,
    /// `o`
    Octal,
    /// `t`
    Binary,
    /// `a`: an address with its symbol
    Address,
    /// `c`
    Character,
    /// `s`: arrays of bytes as text
    Text,
    /// `z`: hexadecimal with leading zeros
    Padded,
    /// `f`: the bits of a floating-point number
    Float,
}

impl Style {
    /// The session's, or what `-x` or `-d` asks for.
    pub(crate) fn of(settings: &Settings, args: &Args) -> Style {
        let radix = match (args.has('x'), args.has('d')) {
            (true, _) => Radix::Hex,
            (_, true) => Radix::Decimal,
            _ => settings.radix,
        };
        let Settings { print_array, null_stop, .. } = *settings;
        Style { radix, format: None, array_lines: print_array, null_stop }
    }

    /// `n` in the style's base.
    pub(crate) fn number(self, n: u64) -> String {
        match self.radix {
            Radix::Decimal => n.to_string(),
            Radix::Hex => format!("{n:#x}"),
        }
    }
}

impl Format {
    /// The format that a letter means.
    pub(crate) fn new(letter: char) -> Option<Format> {
        Some(match letter {
            'x' => Format::Hex,
            'd' => Format::Decimal,
            'u' => Format::Unsigned,
            'o' => Format::Octal,
            't' => Format::Binary,
            'a' => Format::Address,
            'c' => Format::Character,
            's' => Format::Text,
            'z' => Format::Padded,
            'f' => Format::Float,
            _ => return None,
        })
    }
}

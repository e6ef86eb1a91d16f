//! Memory as lines of words with their characters, or as text.

use std::io::{self, Write};

use kmortem_kernel::stack::hex;
use serde::Serialize;

use crate::memory::Memory;

/// How words are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Hex,
    Signed,
    Unsigned,
}

/// Which words are replaced by what they are the address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    None,
    Symbols,
    /// And `[cache]` for slab objects.
    Caches,
    /// And `[address:cache]`.
    SymbolsAndObjects,
}

/// How memory is shown.
pub(super) struct Format {
    /// Bytes of a word: 1, 2, 4 or 8.
    pub(super) size: u32,
    pub(super) base: Base,
    pub(super) names: Names,
    /// Text only.
    pub(super) text: bool,
    /// Each line ends with its characters.
    pub(super) characters: bool,
    pub(super) network_order: bool,
}

/// Gives the name of a word.
pub(super) type NameOf<'n> = &'n dyn Fn(u64, Names) -> Option<String>;

/// A part of what was asked for.
pub(super) enum Piece {
    Words { addr: u64, bytes: Vec<u8> },
    Text { addr: u64, text: String },
    Hole { addr: u64, end: u64, reason: String },
}

/// A line of words holds 16 bytes, one of text 60.
const LINE: u64 = 16;
const TEXT_LINE: u64 = 60;
const PAGE: u64 = 4096;
/// After so much unreadable memory in a row nothing is expected behind it.
const LARGEST_HOLE: u64 = 1 << 32;

/// Reads `bytes` from `start` on (text: up to the first byte that is none, if
/// not told how much) and gives them to `sink`, line by line.
pub(super) fn pieces(
    memory: &Memory<'_>,
    start: u64,
    bytes: Option<u64>,
    format: &Format,
    sink: &mut dyn FnMut(Piece) -> io::Result<()>,
) -> io::Result<()> {
    let line = if format.text { TEXT_LINE } else { LINE };
    let end = bytes.map_or(u64::MAX, |n| start.saturating_add(n));
    let mut at = start;
    let mut hole: Option<(u64, String)> = None;
    while at < end {
        let in_page = PAGE - at % PAGE;
        let want = line.min(end - at);
        let mut buf = vec![0; want as usize];
        let mut read = memory.read(at, &mut buf);
        if read.is_err() && in_page < want {
            // The line's part in the first page may be readable by itself.
            buf.truncate(in_page as usize);
            read = memory.read(at, &mut buf);
        }
        match read {
            Ok(()) => {
                if let Some((addr, reason)) = hole.take() {
                    sink(Piece::Hole { addr, end: at, reason })?;
                }
                if format.text {
                    match text_line(at, &buf, bytes.is_some(), sink)? {
                        Some(next) => at = next,
                        None => return Ok(()),
                    }
                } else {
                    let next = at.saturating_add(buf.len() as u64);
                    sink(Piece::Words { addr: at, bytes: buf })?;
                    at = next;
                }
            }
            Err(error) => {
                let (from, _) = hole.get_or_insert_with(|| (at, error.to_string()));
                let far = at - *from >= LARGEST_HOLE;
                at = at.saturating_add(in_page).min(end);
                if far || error.is_interrupted() || bytes.is_none() {
                    break;
                }
            }
        }
    }
    match hole {
        Some((addr, reason)) => sink(Piece::Hole { addr, end: at, reason }),
        None => Ok(()),
    }
}

/// Gives the text in `buf`; where the next line starts, if there is one. Of a
/// counted range the bytes that are no text are left out.
fn text_line(
    at: u64,
    buf: &[u8],
    counted: bool,
    sink: &mut dyn FnMut(Piece) -> io::Result<()>,
) -> io::Result<Option<u64>> {
    let is_text = |b: &u8| (b' '..=b'~').contains(b);
    let from = match counted {
        true => buf.iter().position(is_text).unwrap_or(buf.len()),
        false => 0,
    };
    let len = buf[from..].iter().take_while(|b| is_text(b)).count();
    if from > 0 && len > 0 && from + len == buf.len() {
        // It may go on behind what was read: read again from where it starts.
        return Ok(Some(at + from as u64));
    }
    if len > 0 {
        let text = String::from_utf8_lossy(&buf[from..from + len]).into_owned();
        sink(Piece::Text { addr: at + from as u64, text })?;
    }
    let whole = from + len == buf.len();
    let next = at.saturating_add((from + len).max(1) as u64);
    Ok((whole || counted).then_some(next))
}

fn word(bytes: &[u8], network_order: bool) -> u64 {
    let swapped = network_order && matches!(bytes.len(), 2 | 4);
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    match swapped {
        true => bytes.iter().fold(0, fold),
        false => bytes.iter().rev().fold(0, fold),
    }
}

pub(super) fn render(
    out: &mut dyn Write,
    piece: &Piece,
    format: &Format,
    name: NameOf<'_>,
) -> io::Result<()> {
    match piece {
        Piece::Text { addr, text } => writeln!(out, "{addr:16x}:  {text}"),
        Piece::Hole { addr, end, reason } => {
            writeln!(out, "{addr:16x}:  <unreadable up to {end:x}: {reason}>")
        }
        Piece::Words { addr, bytes } => {
            write!(out, "{addr:16x}:  ")?;
            let size = format.size as usize;
            // A last word that is cut off by the end of a page is not shown.
            for chunk in bytes.chunks_exact(size) {
                let value = word(chunk, format.network_order);
                match name(value, format.names) {
                    Some(name) => write!(out, "{name:<16} ")?,
                    None => write!(out, "{} ", number(value, format))?,
                }
            }
            if format.base == Base::Hex && format.characters && format.names == Names::None {
                let missing = (LINE as usize - bytes.len()) / size;
                write!(out, "{:1$}  ", "", missing * (size * 2 + 1))?;
                out.write_all(characters(bytes).as_bytes())?;
            }
            writeln!(out)
        }
    }
}

fn number(value: u64, format: &Format) -> String {
    let size = format.size;
    let signed = {
        let unused = 64 - size * 8;
        (value << unused) as i64 >> unused
    };
    // Widths of crash: the largest number, 64-bit signed ones less.
    let width = match (size, format.base) {
        (1, _) => 3,
        (2, _) => 5,
        (4, _) => 12,
        (_, Base::Signed) => 15,
        _ => 20,
    };
    match format.base {
        Base::Hex => format!("{value:0w$x}", w = size as usize * 2),
        Base::Signed => format!("{signed:width$}"),
        Base::Unsigned => format!("{value:width$}"),
    }
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if (b' '..=b'~').contains(b) { char::from(*b) } else { '.' }).collect()
}

/// A row of JSON.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    Words {
        #[serde(serialize_with = "hex")]
        address: u64,
        size: u32,
        words: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        names: Option<Vec<Option<String>>>,
        text: String,
    },
    Text {
        #[serde(serialize_with = "hex")]
        address: u64,
        text: String,
    },
    Hole {
        #[serde(serialize_with = "hex")]
        address: u64,
        #[serde(serialize_with = "hex")]
        end: u64,
        unreadable: String,
    },
}

pub(super) fn row(piece: &Piece, format: &Format, name: NameOf<'_>) -> Row {
    match piece {
        Piece::Words { addr, bytes } => {
            let values: Vec<u64> = bytes
                .chunks_exact(format.size as usize)
                .map(|chunk| word(chunk, format.network_order))
                .collect();
            let named = format.names != Names::None;
            Row::Words {
                address: *addr,
                size: format.size,
                words: values.iter().map(|value| format!("{value:#x}")).collect(),
                names: named.then(|| values.iter().map(|v| name(*v, format.names)).collect()),
                text: characters(bytes),
            }
        }
        Piece::Text { addr, text } => Row::Text { address: *addr, text: text.clone() },
        Piece::Hole { addr, end, reason } => {
            Row::Hole { address: *addr, end: *end, unreadable: reason.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(size: u32, base: Base) -> Format {
        let (text, characters, network_order) = (false, true, false);
        Format { size, base, names: Names::None, text, characters, network_order }
    }

    fn lines(piece: &Piece, format: &Format) -> String {
        let mut out = Vec::new();
        let name = |word, names| {
            (names != Names::None && word == 0x36).then(|| "init_task+192".to_owned())
        };
        render(&mut out, piece, format, &name).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_of_each_size_line_up_with_their_characters() {
        let words = |len| Piece::Words {
            addr: 0xffff_ffff_9c95_29e0,
            bytes: b"Linux version 6.12"[..len].to_vec(),
        };
        let mut text = String::new();
        for (size, base) in [
            (8, Base::Hex),
            (4, Base::Hex),
            (2, Base::Hex),
            (1, Base::Hex),
            (8, Base::Signed),
            (4, Base::Unsigned),
            (1, Base::Signed),
        ] {
            text += &lines(&words(16), &format(size, base));
            text += &lines(&words(8), &format(size, base));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn names_stand_in_place_of_words() {
        let piece = Piece::Words { addr: 0x1000, bytes: vec![0x36, 0, 0, 0, 0, 0, 0, 0] };
        let named = Format { names: Names::Symbols, ..format(8, Base::Hex) };
        assert_eq!(lines(&piece, &named), "            1000:  init_task+192    \n");
    }

    #[test]
    fn network_order_turns_words_not_characters() {
        let piece = Piece::Words { addr: 0x1000, bytes: b"Linu".to_vec() };
        let swapped = Format { network_order: true, ..format(4, Base::Hex) };
        assert!(lines(&piece, &swapped).contains("4c696e75"));
        assert!(lines(&piece, &swapped).ends_with("   Linu\n"));
    }

    #[test]
    fn text_ends_where_it_ends_or_is_counted() {
        let text = |counted, buf: &[u8]| {
            let mut got = Vec::new();
            let next = text_line(0x10, buf, counted, &mut |piece| {
                if let Piece::Text { addr, text } = piece {
                    got.push((addr, text));
                }
                Ok(())
            })
            .unwrap();
            (got, next)
        };
        assert_eq!(text(false, b"ab\0cd"), (vec![(0x10, "ab".into())], None));
        assert_eq!(text(true, b"\0ab\0c"), (vec![(0x11, "ab".into())], Some(0x13)));
        assert_eq!(text(true, b"\0\0"), (vec![], Some(0x12)));
        assert_eq!(text(true, b"\0a"), (vec![], Some(0x11)));
        assert_eq!(text(false, b"ab"), (vec![(0x10, "ab".into())], Some(0x12)));
    }
}

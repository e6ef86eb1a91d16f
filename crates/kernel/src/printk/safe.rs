//! What printk put aside because it could not take the log's lock: in an NMI
//! (`nmi_print_seq`) or while it was itself printing (`safe_print_seq`).
//!
//! Per CPU, a `struct printk_safe_seq_buf` (kernel/printk/printk_safe.c): `len`,
//! `message_lost`, and text in which each message begins with a byte 1 and its
//! level. Up to v5.14 (93d102f094be took them away: the log needs no lock).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct printk_safe_seq_buf`, kernel/printk/printk_safe.c
    pub struct SafeBufferLayout for "printk_safe_seq_buf" {
        len: i32 = "len.counter",
        lost: i32 = "message_lost.counter",
        buffer: Embedded = "buffer",
    }
}

/// A CPU's buffer.
#[derive(Debug, Clone, Serialize)]
pub struct SafeBuffer {
    /// "nmi_print_seq" or "safe_print_seq".
    pub name: &'static str,
    /// Its CPU.
    pub cpu: u32,
    /// Address of its `struct printk_safe_seq_buf`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Bytes used.
    pub len: i32,
    /// Messages that did not fit.
    pub lost: i32,
    /// What is in it; a message's lines are separated by newlines.
    pub messages: Vec<SafeMessage>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SafeMessage {
    /// Its level; `None`: it continues what stood before.
    pub level: Option<char>,
    /// Its text, with the newlines that were printed.
    pub text: String,
}

impl Kernel {
    /// The buffers of all present CPUs; none where the kernel has no such.
    pub fn safe_buffers(&self) -> Result<Vec<SafeBuffer>> {
        let mut buffers = Vec::new();
        for name in ["nmi_print_seq", "safe_print_seq"] {
            let Ok(variable) = self.symbol(name) else { continue };
            let layout = self.layout::<SafeBufferLayout>()?;
            let place = layout.buffer.place()?;
            for cpu in self.cpus("present")? {
                let addr = self.per_cpu_ptr(variable, cpu)?;
                let len = layout.len.read(self, addr)?;
                let used = u64::try_from(len).unwrap_or(0).min(place.size);
                if used > 1 << 20 {
                    return Err(Error::corrupt("a buffer of printk", addr));
                }
                let text = self.read_bytes(addr.wrapping_add(place.offset), used)?;
                let lost = layout.lost.read(self, addr)?;
                let messages = messages(&text);
                buffers.push(SafeBuffer { name, cpu, addr, len, lost, messages });
            }
        }
        Ok(buffers)
    }
}

/// Splits a buffer at the marks of its messages.
fn messages(text: &[u8]) -> Vec<SafeMessage> {
    let mut found: Vec<SafeMessage> = Vec::new();
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte == 1 {
            let level = rest.next().map(|b| char::from(*b));
            found.push(SafeMessage { level, text: String::new() });
            continue;
        }
        if found.is_empty() {
            found.push(SafeMessage { level: None, text: String::new() });
        }
        let printable = matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        if let Some(last) = found.last_mut() {
            last.text.push(if printable { char::from(*byte) } else { '.' });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_begin_at_their_marks() {
        let all = messages(b"rest\n\x014first\n\x01csecond\x7f");
        let levels: Vec<_> = all.iter().map(|m| m.level).collect();
        assert_eq!(levels, [None, Some('4'), Some('c')]);
        assert_eq!(all[1].text, "first\n");
        assert_eq!(all[2].text, "second.");
        assert!(messages(b"").is_empty());
        assert_eq!(messages(b"\x01")[0], SafeMessage { level: None, text: String::new() });
    }
}

//! What printk had to put aside, up to 5.14: `log -s`, and below the log.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::printk::{SafeBuffer, SafeMessage};

use super::failed;
use crate::error::CommandError;
use crate::output::Output;

/// The buffers with what is in them.
pub(super) fn run(kernel: &Kernel, level: bool, out: &mut Output<'_>) -> Result<(), CommandError> {
    let buffers = kernel.safe_buffers().map_err(failed("log"))?;
    if out.is_json() {
        return Ok(out.rows(&buffers)?);
    }
    if buffers.is_empty() {
        out.note("this kernel's printk puts nothing aside")?;
    }
    let mut before = "";
    for buffer in &buffers {
        if buffer.name != before {
            writeln!(out, "PRINTK_SAFE_SEQ_BUF: {}", buffer.name)?;
            before = buffer.name;
        }
        render(out, buffer, level)?;
    }
    Ok(())
}

/// What the log lacks.
pub(super) fn below_the_log(
    kernel: &Kernel,
    level: bool,
    bare: bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let buffers = match kernel.safe_buffers() {
        Ok(buffers) => buffers,
        Err(error) => return Ok(out.note(format_args!("printk's own buffers: {error}"))?),
    };
    for buffer in &buffers {
        let mark = if bare { String::new() } else { format!("[{}] ", buffer.name) };
        buffer.messages.iter().try_for_each(|m| render_message(out, m, &mark, level))?;
    }
    Ok(())
}

fn render(out: &mut dyn Write, buffer: &SafeBuffer, level: bool) -> io::Result<()> {
    let SafeBuffer { cpu, addr, len, lost, messages, .. } = buffer;
    writeln!(out, "CPU: {cpu}  ADDR: {addr:x} LEN: {len}  MESSAGE_LOST: {lost}")?;
    messages.iter().try_for_each(|message| render_message(out, message, "  ", level))?;
    writeln!(out, "{}", if messages.is_empty() { "  (empty)\n" } else { "" })
}

/// A message behind `mark`, its further lines below its text.
fn render_message(
    out: &mut dyn Write,
    message: &SafeMessage,
    mark: &str,
    level: bool,
) -> io::Result<()> {
    let level = match message.level.filter(|_| level) {
        Some(level @ ('0'..='7' | 'c')) => format!("<{level}>"),
        _ => String::new(),
    };
    let indent = mark.len() + level.len();
    for (i, line) in message.text.trim_end_matches('\n').split('\n').enumerate() {
        match i {
            0 => writeln!(out, "{mark}{level}{line}")?,
            _ => writeln!(out, "{:indent$}{line}", "")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_below_their_buffer() {
        let message = |level, text: &str| SafeMessage { level, text: text.into() };
        let buffer = |cpu, messages: Vec<SafeMessage>| SafeBuffer {
            name: "nmi_print_seq",
            cpu,
            addr: 0xffff_90a0_0f42_0260,
            len: 50,
            lost: 0,
            messages,
        };
        let full = vec![
            message(Some('4'), "Uhhuh. NMI received for unknown reason 20 on CPU 0.\n"),
            message(Some('c'), "one\ntwo"),
        ];
        let mut out = Vec::new();
        render(&mut out, &buffer(0, full.clone()), true).unwrap();
        render(&mut out, &buffer(1, vec![]), false).unwrap();
        full.iter().for_each(|m| render_message(&mut out, m, "[nmi_print_seq] ", false).unwrap());
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}

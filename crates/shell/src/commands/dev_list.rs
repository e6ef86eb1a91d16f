//! `dev`: numbers of character and block devices.

use std::io::{self, Write};

use kmortem_kernel::majors::{BlockMajor, CharDevices};
use kmortem_kernel::symbol::SymbolAt;
use serde::Serialize;

use super::failed;
use crate::align::{Lean, center};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a, T> {
    /// "char" or "block"
    class: &'static str,
    #[serde(flatten)]
    device: &'a T,
}

pub(super) fn run(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let (chars, char_gaps) = kernel.char_devices().map_err(failed("dev"))?;
    let (blocks, block_gaps) = kernel.block_majors().map_err(failed("dev"))?;
    if out.is_json() {
        chars.iter().try_for_each(|device| out.row(&Row { class: "char", device }))?;
        blocks.iter().try_for_each(|device| out.row(&Row { class: "block", device }))?;
    } else {
        render(out, &chars, &blocks)?;
    }
    super::note_gaps(out, [&char_gaps, &block_gaps].into_iter())
}

fn render(out: &mut dyn Write, chars: &[CharDevices], blocks: &[BlockMajor]) -> io::Result<()> {
    let heading = |class: &str, object: &str| {
        format!("{class}    NAME           {object}  {:<16}", "OPERATIONS")
    };
    writeln!(out, "{}", heading("CHRDEV", &center("CDEV", 16, Lean::Left)))?;
    for range in chars {
        let device = range.device.as_ref();
        let operations = device.map(|d| name(d.operations.as_ref(), d.operations_addr));
        render_row(out, range.major, &range.name, device.map(|d| d.cdev).zip(operations))?;
    }
    writeln!(out, "\n{}", heading("BLKDEV", &center("GENDISK", 16, Lean::Right)))?;
    for block in blocks {
        let operations = name(block.operations.as_ref(), 0);
        render_row(out, block.major, &block.name, block.gendisk.map(|disk| (disk, operations)))?;
    }
    Ok(())
}

fn name(symbol: Option<&SymbolAt>, addr: u64) -> String {
    symbol.map_or_else(|| format!("{addr:x}"), |s| s.name.clone())
}

fn render_row(
    out: &mut dyn Write,
    major: u32,
    name: &str,
    object: Option<(u64, String)>,
) -> io::Result<()> {
    let name = if name.is_empty() { "(unknown)" } else { name };
    write!(out, " {major:>3}      {name:<13}  ")?;
    match object {
        Some((addr, operations)) => writeln!(out, "{addr:016x}  {operations}"),
        None => writeln!(out, "{}", center("(none)", 16, Lean::Left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::majors::CharDevice;

    #[test]
    fn both_tables() {
        let symbol =
            |name: &str| Some(SymbolAt { name: name.into(), offset: 0, size: 8, module: None });
        let device = CharDevice {
            cdev: 0xffff_90a0_013c_c880,
            operations: symbol("memory_fops"),
            operations_addr: 0xffff_ffff_a000_0000,
        };
        let range = |major, name: &str, device| CharDevices {
            major,
            first_minor: 0,
            minors: 256,
            name: name.into(),
            device,
        };
        let chars = [range(1, "mem", Some(device)), range(254, "dax", None)];
        let block = |major, gendisk: Option<u64>| BlockMajor {
            major,
            name: "virtblk".into(),
            gendisk,
            operations: gendisk.and_then(|_| symbol("virtblk_fops")),
        };
        let blocks = [block(254, Some(0xffff_90a0_025b_d000)), block(259, None)];
        let mut out = Vec::new();
        render(&mut out, &chars, &blocks).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace(" \n", " |\n"));
    }
}

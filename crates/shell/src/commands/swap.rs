//! `swap`: swap areas.

use std::io::{self, Write};

use kmortem_kernel::swap::SwapArea;
use serde::Serialize;

use super::{failed, size};
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "swap",
    summary: "lists the swap areas",
    arguments: "",
    options: &[],
    details: "Sizes are KiB. PRI: areas of higher priority are filled first.",
    examples: &[("", "size and use of each swap partition and file")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a swap area (pages)",
        members: "`addr` `index` `pages` `used` `priority` `writable` `file` `block_device` `kind` `path`",
    }],
    each: None,
    run,
};

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    area: &'a SwapArea,
    /// "partition" or "file".
    kind: Option<&'static str>,
    path: Option<String>,
}

fn run(session: &mut Session, _: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let areas = kernel.swap_areas().map_err(failed(COMMAND.name))?;
    let mut gaps = kmortem_kernel::gaps::Gaps::default();
    let mut row = |area| Row {
        area,
        kind: gaps.keep("kind", kernel.is_swap_partition(area)).map(|is| match is {
            true => "partition",
            false => "file",
        }),
        path: gaps.keep("file name", kernel.swap_file(area.index)),
    };
    let rows: Vec<Row<'_>> = areas.iter().map(&mut row).collect();
    match out.is_json() {
        true => out.rows(&rows)?,
        false => render(out, &rows, kernel.page_size() / 1024)?,
    }
    super::note_gaps(out, [&gaps].into_iter())
}

fn render(out: &mut dyn Write, rows: &[Row<'_>], page_kib: u64) -> io::Result<()> {
    writeln!(out, "SWAP_INFO_STRUCT    TYPE       SIZE       USED     PCT  PRI  FILENAME")?;
    for Row { area, kind, path } in rows {
        let (size_kib, used) = (area.pages * page_kib, area.used * page_kib);
        let percent = (area.used * 100).checked_div(area.pages).unwrap_or(0);
        writeln!(
            out,
            "{:016x}  {} {} {} {} {:>4}  {}",
            area.addr,
            match kind {
                Some("partition") => "PARTITION",
                Some(_) => "  FILE   ",
                None => "    -    ",
            },
            size::centered_right(&format!("{size_kib}k"), 10),
            size::centered_right(&format!("{used}k"), 10),
            size::centered_right(&format!("{percent:>2}%"), 4),
            area.priority,
            path.as_deref().unwrap_or("-")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_crash_has_them() {
        let area = SwapArea {
            addr: 0xffff_8880_3659_6000,
            index: 0,
            pages: 524_287,
            used: 10_021,
            priority: -2,
            writable: true,
            file: 0,
            block_device: 0,
        };
        let rows = [
            Row { area: &area, kind: Some("partition"), path: Some("/dev/vda2".to_owned()) },
            Row { area: &area, kind: Some("file"), path: Some("/swap".to_owned()) },
            Row { area: &area, kind: None, path: None },
        ];
        let mut text = Vec::new();
        render(&mut text, &rows, 4).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

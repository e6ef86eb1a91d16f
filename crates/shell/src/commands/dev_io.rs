//! `dev -i`: I/O ports and physical addresses with who claimed them.

use std::io::{self, Write};

use kmortem_kernel::resource::{Resource, Resources};
use serde::Serialize;

use super::failed;
use crate::align::{Lean, center};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// crash folds lines at this column.
const WIDTH: usize = 80;

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// "port" or "memory"
    space: &'static str,
    #[serde(flatten)]
    resource: &'a Resource,
}

pub(super) fn run(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let ports = kernel.io_ports().map_err(failed("dev"))?;
    let memory = kernel.io_memory().map_err(failed("dev"))?;
    if out.is_json() {
        for (space, tree) in [("port", &ports), ("memory", &memory)] {
            tree.list.iter().try_for_each(|resource| out.row(&Row { space, resource }))?;
        }
    } else {
        render(out, &ports)?;
        writeln!(out)?;
        render(out, &memory)?;
    }
    super::note_gaps(out, [&ports.gaps, &memory.gaps].into_iter())
}

fn render(out: &mut dyn Write, tree: &Resources) -> io::Result<()> {
    // The root's end tells how wide addresses are.
    let wide = tree.list.first().is_none_or(|root| root.end > 0xffff);
    let digits = if wide { 8 } else { 4 };
    let range = digits * 2 + 1;
    writeln!(
        out,
        "{}  {}  NAME",
        center("RESOURCE", 16, Lean::Left),
        center("RANGE", range, Lean::Left)
    )?;
    let before = 16 + 2 + range + 2;
    for Resource { addr, start, end, name, .. } in &tree.list {
        let name = name.as_deref().unwrap_or("(unknown)");
        let (first, rest) = fold(name, WIDTH - before);
        writeln!(out, "{addr:8x}  {start:0digits$x}-{end:0digits$x}  {first}")?;
        if let Some(rest) = rest {
            writeln!(out, "{:before$}{rest}", "")?;
        }
    }
    Ok(())
}

/// Folds `name` once, at the last blank at which it fits.
fn fold(name: &str, width: usize) -> (&str, Option<&str>) {
    if name.len() <= width {
        return (name, None);
    }
    let fits = |(at, _): &(usize, &str)| *at > 0 && *at < width;
    match name.rmatch_indices(' ').find(fits) {
        Some((at, _)) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn long_names_are_folded_once() {
        let resource = |start, end, name: &str, depth| Resource {
            addr: 0xffff_ffff_a0a4_7400,
            start,
            end,
            name: Some(name.into()),
            flags: 0,
            depth,
        };
        let long = "Intel Corporation 440BX/ZX - 82443BX/ZX Host bridge";
        let ports = vec![resource(0, 0xffff, "PCI IO", 0), resource(0x60, 0x60, "keyboard", 1)];
        let memory = vec![
            resource(0, 0xff_ffff_ffff, "PCI mem", 0),
            resource(0xec00_0000, 0xefff_ffff, long, 1),
        ];
        let mut out = Vec::new();
        render(&mut out, &Resources { list: ports, gaps: Gaps::default() }).unwrap();
        render(&mut out, &Resources { list: memory, gaps: Gaps::default() }).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn names_without_blanks_stay_whole() {
        assert_eq!(fold("abcdef", 3), ("abcdef", None));
        assert_eq!(fold("ab cd ef", 6), ("ab cd", Some("ef")));
        assert_eq!(fold("ab", 3), ("ab", None));
    }
}

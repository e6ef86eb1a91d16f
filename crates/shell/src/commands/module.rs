//! `mod`: the loaded modules.

use std::io::{self, Write};

use kmortem_kernel::module::{Module, ModuleLayout};
use serde::Serialize;

use super::failed;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "mod",
    summary: "lists the loaded modules",
    arguments: "[OBJFILE]",
    options: &[
        Opt::flag('t', "the modules that taint the kernel"),
        Opt::value('s', "MODULE", "one module: its symbols are there already"),
        Opt::optional('S', "DIRECTORY", "all modules: their symbols are there already"),
        Opt::value('d', "MODULE", "nothing: what the dump has is not given up"),
        Opt::flag('D', "nothing: what the dump has is not given up"),
        Opt::flag('r', "nothing more: crash reads symbols faster with it"),
        Opt::flag('R', "nothing more: crash reads a running kernel's modules anew"),
        Opt::flag('g', "nothing more: crash adds sections' symbols with it"),
        Opt::flag('o', "nothing more: crash loads in its older way with it"),
    ],
    details: "\
Symbols and types come from the dump: nothing has to be loaded. What loads or
drops symbols in crash is understood, so that its scripts run. Sizes are those of what stays after the module's start.",
    examples: &[("", "all modules, by address"), ("-t", "those that taint, with the letters"), ("-S", "as crash's scripts ask first")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a module",
        members: "`addr` `name` `state` `memory` `taints` `srcversion` `version` `refcount` `used_by` `base` `size` `taint_letters`",
    }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct ModuleRow<'a> {
    #[serde(flatten)]
    module: &'a Module,
    base: String,
    size: u64,
    taint_letters: String,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let mut modules: Vec<&Module> =
        kernel.modules().map_err(failed(COMMAND.name))?.iter().collect();
    modules.sort_by_key(|m| m.base());
    if args.has('t') {
        modules.retain(|m| m.taints != 0);
    }
    if let Some(name) = args.value('s').or_else(|| args.value('d')) {
        // The names of files have dashes where modules have underscores.
        let name = name.replace('-', "_");
        modules.retain(|m| m.name == name);
        if modules.is_empty() {
            let what = format!("{name}: no such module in this dump");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
    }
    let drops = args.has('d') || args.has('D');
    if drops && !(args.has('s') || args.has('S')) {
        return Ok(());
    }
    let loads = args.has('s') || args.has('S');
    if out.is_json() {
        for module in modules {
            let base = format!("{:#x}", module.base());
            let taint_letters = module.taint_letters();
            out.row(&ModuleRow { module, base, size: module.core_size(), taint_letters })?;
        }
    } else if args.has('t') {
        let rows: Vec<_> = modules.iter().map(|m| (m.name.as_str(), m.taint_letters())).collect();
        render_taints(out, &rows)?;
    } else {
        let rows: Vec<_> = modules
            .iter()
            .map(|m| Row { addr: m.addr, name: &m.name, base: m.base(), size: m.core_size() })
            .collect();
        // Since v6.4 a module has several pieces of memory: the first is its text.
        let pieces = kernel.layout::<ModuleLayout>().is_ok_and(|layout| layout.mem.exists());
        render(out, &rows, if pieces { "TEXT_BASE" } else { "BASE" }, loads)?;
    }
    if let Some(error) = kernel.modules_broken() {
        out.note(format_args!("modules may be missing: {error}"))?;
    }
    Ok(())
}

struct Row<'a> {
    addr: u64,
    name: &'a str,
    base: u64,
    size: u64,
}

fn render(out: &mut dyn Write, rows: &[Row<'_>], base: &str, loaded: bool) -> io::Result<()> {
    let object = if loaded { "(symbols of the dump)" } else { "(not loaded)  [CONFIG_KALLSYMS]" };
    let name_width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0).max(4);
    let size_width = rows.iter().map(|r| r.size.to_string().len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:^16}  {:<name_width$}  {base:^16}  {:>size_width$}  OBJECT FILE",
        "MODULE", "NAME", "SIZE"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:016x}  {:<name_width$}  {:016x}  {:>size_width$}  {object}",
            row.addr, row.name, row.base, row.size
        )?;
    }
    Ok(())
}

fn render_taints(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no tainted modules");
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "{:<width$}  TAINTS", "NAME")?;
    rows.iter().try_for_each(|(name, letters)| writeln!(out, "{name:<width$}  {letters}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_the_longest_name() {
        let rows = [
            Row { addr: 0xffff_ffff_c040_6340, name: "virtio_ring", base: 1 << 40, size: 49152 },
            Row { addr: 0xffff_ffff_c041_3000, name: "llc", base: 1 << 41, size: 4096 },
        ];
        let mut text = Vec::new();
        render(&mut text, &rows, "TEXT_BASE", false).unwrap();
        render(&mut text, &rows[..1], "BASE", true).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn taints_have_a_table_of_their_own() {
        let mut text = Vec::new();
        render_taints(&mut text, &[("crasher", "OE".to_owned())]).unwrap();
        assert_eq!(text, b"NAME     TAINTS\ncrasher  OE\n");
    }
}

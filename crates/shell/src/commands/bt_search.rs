//! `bt -e`, `-E` and `-v`: looks over stacks without following them.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::arch::StackKind;
use kmortem_kernel::saved_registers::{CpuStackRegisters, SavedRegisters};
use kmortem_kernel::stack_check::Overflow;
use kmortem_kernel::task::{Task, TaskTable};
use serde::Serialize;

use super::stack_registers::{has_own_line, render_interrupted, render_registers};
use super::stack_text::Style;
use super::task_header;
use crate::error::CommandError;
use crate::output::Output;

/// A row of JSON of `bt -e`.
#[derive(Serialize)]
struct TaskRegisters<'a> {
    task: &'a Task,
    found: Vec<SavedRegisters>,
}

/// Possible exception frames on the stacks of tasks.
pub(super) fn show_saved(
    kernel: &Kernel,
    chosen: &[&Task],
    style: Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    for (i, task) in chosen.iter().enumerate() {
        let found = kernel.saved_registers(task);
        let found = match found {
            Ok(found) => found,
            Err(_) if task.stack == 0 && !out.is_json() => {
                if i > 0 {
                    writeln!(out)?;
                }
                task_header::render(out, task)?;
                writeln!(out, "(no stack)")?;
                continue;
            }
            Err(e) if chosen.len() == 1 => {
                return Err(CommandError::Failed { command: "bt", what: e.to_string() });
            }
            Err(e) => {
                out.note(format_args!("PID {}: {e}", task.pid))?;
                continue;
            }
        };
        if out.is_json() {
            out.row(&TaskRegisters { task, found })?;
            continue;
        }
        if i > 0 {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        found.iter().try_for_each(|saved| render_saved(out, saved, style))?;
    }
    Ok(())
}

/// The same on the stacks of CPUs, of `cpus` only where some are given.
pub(super) fn show_cpus(
    kernel: &Kernel,
    cpus: Option<&[u32]>,
    style: Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut stacks = kernel.cpu_saved_registers();
    stacks.retain(|stack| cpus.is_none_or(|cpus| cpus.contains(&stack.cpu)));
    if out.is_json() {
        return Ok(out.rows(&stacks)?);
    }
    Ok(stacks.iter().try_for_each(|stack| render_cpu(out, stack, style))?)
}

fn render_cpu(out: &mut dyn Write, stack: &CpuStackRegisters, style: Style) -> io::Result<()> {
    match stack.kind {
        StackKind::Irq => writeln!(out, "CPU {} IRQ STACK:", stack.cpu)?,
        kind => writeln!(out, "CPU {} {} EXCEPTION STACK:", stack.cpu, kind.name())?,
    }
    match &stack.unread {
        Some(reason) => writeln!(out, "<unreadable: {reason}>")?,
        None if stack.found.is_empty() => writeln!(out, "(none found)")?,
        None => stack.found.iter().try_for_each(|saved| render_saved(out, saved, style))?,
    }
    writeln!(out)
}

fn render_saved(out: &mut dyn Write, saved: &SavedRegisters, style: Style) -> io::Result<()> {
    let whose = if saved.user { "USER" } else { "KERNEL" };
    writeln!(out, "\n  {whose}-MODE EXCEPTION FRAME AT: {:x}", saved.addr)?;
    if !saved.user {
        let name = match &saved.symbol {
            Some(symbol) if symbol.offset == 0 => symbol.name.clone(),
            Some(symbol) => format!("{}{}", symbol.name, style.offset(symbol.offset)),
            None => "unknown or invalid address".to_owned(),
        };
        if has_own_line(&saved.registers) {
            return render_interrupted(out, &saved.registers, Some(name), None);
        }
        writeln!(out, "    [exception RIP: {name}]")?;
    }
    render_registers(out, &saved.registers, true)
}

/// Looks whether stacks have run over.
pub(super) fn check(
    kernel: &Kernel,
    table: &TaskTable,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let check = kernel.check_stacks().map_err(super::failed("bt"))?;
    if out.is_json() {
        out.rows(&check.overflows)?;
    } else if check.overflows.is_empty() {
        writeln!(out, "No stack overflows detected")?;
    } else {
        check.overflows.iter().try_for_each(|overflow| render_overflow(out, overflow, table))?;
    }
    if let Some((count, reason)) = check.unread {
        out.note(format_args!("{count} stacks could not be read: {reason}"))?;
    }
    Ok(())
}

fn render_overflow(out: &mut dyn Write, found: &Overflow, table: &TaskTable) -> io::Result<()> {
    if let Some(task) = table.at(found.task) {
        task_header::render(out, task)?;
    }
    let Overflow { addr, found, .. } = found;
    writeln!(out, "  possible stack overflow: {addr:x}: {found:x} != STACK_END_MAGIC\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stack_text::Radix;
    use kmortem_kernel::SymbolAt;
    use kmortem_kernel::arch::x86_64::registers::complete;

    #[test]
    fn frames_stand_below_the_name_of_the_stack() {
        let symbol = SymbolAt { name: "vp_notify".into(), offset: 22, size: 64, module: None };
        let saved = |user| SavedRegisters {
            addr: 0xff52_5e03_0010_09f8,
            user,
            symbol: (!user).then(|| symbol.clone()),
            registers: complete(std::array::from_fn(|i| i as u64)),
        };
        let stack = |kind, found| CpuStackRegisters { cpu: 1, kind, found, unread: None };
        let style = Style { offsets: false, radix: Radix::Decimal, doubts: true };
        let mut text = Vec::new();
        let irq = stack(StackKind::Irq, vec![saved(false), saved(true)]);
        render_cpu(&mut text, &irq, style).unwrap();
        render_cpu(&mut text, &stack(StackKind::Nmi, Vec::new()), style).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

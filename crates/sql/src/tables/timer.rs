//! `timers`: the timers of the timer wheels.

use kmortem_kernel::Kernel;
use kmortem_kernel::timer::Timer;

use crate::cell::{function, hex, hex_option};
use crate::schema::{Column, FillError, Rows, Table};

/// A timer with its wheel.
pub(crate) struct TimerRow {
    cpu: u32,
    base: &'static str,
    timer: Timer,
}

pub(crate) const TIMERS: Table<TimerRow> = Table {
    name: "timers",
    doc: "a timer that was pending",
    columns: &[
        Column::address("addr", "its `struct timer_list`", |_, r| hex(r.timer.addr)),
        Column::integer("cpu", "the CPU whose wheel it is on", |_, r| r.cpu.into()),
        Column::text("base", "which of that CPU's wheels", |_, r| r.base.into()),
        Column::integer("expires", "when it is due, in jiffies", |_, r| r.timer.expires.into()),
        Column::quantity("ticks_left", "jiffies", "until then; negative: late", |_, r| {
            r.timer.ticks_left.into()
        }),
        Column::quantity("expires_in_ns", "ns", "until then; negative: late", |_, r| {
            r.timer.expires_in_ns.into()
        }),
        Column::text("function", "what it calls", |_, r| {
            r.timer.symbol.as_ref().map(function).into()
        }),
        Column::address("function_addr", "the function's address", |_, r| hex(r.timer.function)),
        Column::text("work", "the work that it queues", |_, r| {
            r.timer.work.as_ref().map(function).into()
        }),
        Column::address("wakes", "the task that it wakes (`tasks.addr`)", |_, r| {
            hex_option(r.timer.wakes.as_ref().map(|woken| woken.task))
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, TimerRow>) -> Result<(), FillError> {
    for base in kernel.timers(&kernel.possible_cpus()?)?.bases {
        rows.gaps(&base.gaps);
        let (cpu, name) = (base.cpu, base.name);
        for timer in base.timers {
            rows.push(&TimerRow { cpu, base: name, timer })?;
        }
    }
    Ok(())
}

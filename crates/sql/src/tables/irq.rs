//! `irqs`: the interrupts that have a handler, or have come.

use kmortem_kernel::Kernel;
use kmortem_kernel::irq::Irq;

use crate::cell::{Cell, function, hex, list};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const IRQS: Table<Irq> = Table {
    name: "irqs",
    doc: "an interrupt",
    columns: &[
        Column::integer("irq", "its number", |_, i| i.irq.into()),
        Column::address("addr", "its `struct irq_desc`", |_, i| hex(i.addr)),
        Column::integer("hwirq", "its number at the interrupt controller", |_, i| i.hwirq.into()),
        Column::text("chip", "the interrupt controller", |_, i| i.chip.as_deref().into()),
        Column::text("flow", "edge, fasteoi, ...", |_, i| i.flow.as_deref().into()),
        Column::text("names", "names of its actions", |_, i| {
            let names: Vec<&str> = i.actions.iter().filter_map(|a| a.name.as_deref()).collect();
            list(&names)
        }),
        Column::text("handlers", "functions of its actions", |_, i| {
            let handlers = i.actions.iter().filter_map(|a| a.handler.as_ref());
            list(&handlers.map(function).collect::<Vec<_>>())
        }),
        Column::integer("count", "times it came, on all CPUs", |_, i| match &i.counts {
            Some(counts) => counts.iter().map(|c| u64::from(c.count)).sum::<u64>().into(),
            None => Cell::Null,
        }),
        Column::text("affinity", "CPUs that it may come to", |_, i| cpus(i.affinity.as_deref())),
        Column::text("effective_affinity", "CPUs that it comes to", |_, i| {
            cpus(i.effective_affinity.as_deref())
        }),
        Column::integer("depth", "0: enabled; else times it was disabled", |_, i| i.depth.into()),
        Column::integer("unhandled", "times no handler wanted it", |_, i| i.unhandled.into()),
    ],
    rows,
};

fn cpus(cpus: Option<&[u32]>) -> Cell {
    cpus.map_or(Cell::Null, |cpus| list(&cpus.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

fn rows(kernel: &Kernel, rows: &mut Rows<'_, Irq>) -> Result<(), FillError> {
    let irqs = kernel.irqs()?;
    rows.gaps(&irqs.gaps);
    for irq in &irqs.list {
        rows.gaps(&irq.gaps);
        rows.push(irq)?;
    }
    Ok(())
}

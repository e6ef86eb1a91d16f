//! `log`: the kernel's messages.

use kmortem_kernel::Kernel;
use kmortem_kernel::printk::Record;

use crate::cell::word;
use crate::schema::{Column, FillError, Rows, Table};

/// A line of a message.
pub(crate) struct LineRow {
    record: std::sync::Arc<Record>,
    line: usize,
    text: String,
}

pub(crate) const LOG: Table<LineRow> = Table {
    name: "log",
    doc: "a line of the kernel's log",
    columns: &[
        Column::integer("seq", "sequence number of the message since boot", |_, r| {
            r.record.seq.into()
        }),
        Column::integer("line", "line of the message; most have only line 0", |_, r| r.line.into()),
        Column::quantity(
            "ts_ns",
            "ns",
            "when, scheduler's clock (about the time since boot)",
            |_, r| r.record.ts_ns.into(),
        ),
        Column::integer("level", "0 emergency to 7 debug", |_, r| r.record.level.into()),
        Column::integer("facility", "0 the kernel; others came from /dev/kmsg", |_, r| {
            r.record.facility.into()
        }),
        Column::integer("pid", "thread that printed it, where the kernel notes that", |_, r| {
            r.record.caller.as_ref().and_then(|c| c.pid).into()
        }),
        Column::integer("cpu", "CPU that printed it, where the kernel notes that", |_, r| {
            r.record.caller.as_ref().and_then(|c| c.cpu).into()
        }),
        Column::text("subsystem", "of the device that it is about", |_, r| {
            r.record.device.as_ref().map(|d| d.subsystem.as_str()).into()
        }),
        Column::text("device", "the device", |_, r| {
            r.record.device.as_ref().map(|d| d.device.as_str()).into()
        }),
        Column::text("text", "the line", |_, r| r.text.as_str().into()),
        Column::text("state", "finalized; committed or reserved: cut short", |_, r| {
            word(&r.record.state)
        }),
        Column::text("incomplete", "why the text is not wholly there", |_, r| {
            r.record.incomplete.as_deref().into()
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, LineRow>) -> Result<(), FillError> {
    let log = kernel.log()?;
    log.damage.iter().for_each(|damage| rows.remark(&damage.reason));
    for record in log.records {
        let record = std::sync::Arc::new(record);
        // An empty message is a line, too.
        for (line, text) in record.text.split('\n').enumerate() {
            let row = LineRow { record: record.clone(), line, text: text.to_owned() };
            rows.push(&row)?;
        }
    }
    Ok(())
}

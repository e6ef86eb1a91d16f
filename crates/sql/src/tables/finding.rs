//! `findings`: what `kmortem report` says.

use kmortem_diagnose::finding::Finding;
use kmortem_kernel::Kernel;

use crate::schema::{Column, FillError, Rows, Table};

/// A finding with its place in the report.
pub(crate) struct FindingRow {
    rank: usize,
    finding: Finding,
}

pub(crate) const FINDINGS: Table<FindingRow> = Table {
    name: "findings",
    doc: "what the report says: the cause first, then other trouble",
    columns: &[
        Column::integer("rank", "0 is the cause", |_, r| r.rank.into()),
        Column::text("kind", "how the machine died, as a word", |_, r| {
            r.finding.kind.word().into()
        }),
        Column::text("confidence", "certain, likely, possible or unknown", |_, r| {
            r.finding.confidence.level.word().into()
        }),
        Column::text("reason", "why no more and no less", |_, r| {
            r.finding.confidence.reason.as_str().into()
        }),
        Column::flag("fatal", "it brought the machine down", |_, r| r.finding.fatal.into()),
        Column::text("cause", "the finding in words", |_, r| r.finding.cause.as_str().into()),
        Column::quantity("at_ns", "ns", "when it showed first, the log's clock", |_, r| {
            r.finding.at_ns.into()
        }),
        Column::integer("pid", "the task in whose context it happened", |_, r| {
            r.finding.task.as_ref().map(|(pid, _)| *pid).into()
        }),
        Column::text("comm", "that task's name", |_, r| {
            r.finding.task.as_ref().map(|(_, comm)| comm.as_str()).into()
        }),
        Column::text("module", "the module to blame", |_, r| r.finding.module.as_deref().into()),
        Column::text("subject", "the lock, cache or device that it is about", |_, r| {
            r.finding.subject.as_deref().into()
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, FindingRow>) -> Result<(), FillError> {
    let report = kmortem_diagnose::report(kernel);
    for (rank, finding) in std::iter::once(report.cause).chain(report.also).enumerate() {
        rows.push(&FindingRow { rank, finding })?;
    }
    Ok(())
}

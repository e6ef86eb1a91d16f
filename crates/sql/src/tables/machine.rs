//! `machine`: facts about the machine and its kernel, one a row; `taints`:
//! what tainted the kernel.

use kmortem_kernel::Kernel;
use kmortem_kernel::taint::Taint;

use crate::cell::Cell;
use crate::schema::{Column, FillError, Rows, Table};

/// A fact.
pub(crate) struct FactRow {
    key: &'static str,
    value: Cell,
}

pub(crate) const MACHINE: Table<FactRow> = Table {
    name: "machine",
    doc: "a fact about the machine or its kernel; only those that could be read",
    columns: &[
        Column::text("key", "what it is", |_, r| r.key.into()),
        Column::text("value", "its value", |_, r| match &r.value {
            Cell::Integer(value) => value.to_string().into(),
            other => other.clone(),
        }),
    ],
    rows: facts,
};

fn facts(kernel: &Kernel, rows: &mut Rows<'_, FactRow>) -> Result<(), FillError> {
    let system = kernel.system()?;
    system.unread.iter().for_each(|reason| rows.remark(reason));
    let clock = kernel.clock();
    if let Err(error) = &clock {
        rows.remark(error);
    }
    let clock = clock.ok();
    let platform = system.platform;
    let memory: Result<u64, _> = kernel
        .nodes()
        .map(|nodes| nodes.iter().map(|node| node.present).sum::<u64>() * kernel.page_size());
    let facts: [(&'static str, Cell); 22] = [
        ("release", system.release.into()),
        ("version", system.version.into()),
        ("architecture", system.machine.into()),
        ("nodename", system.nodename.into()),
        ("domainname", system.domainname.into()),
        ("command_line", system.command_line.into()),
        ("panic", system.panic.map(|panic| panic.message).into()),
        ("panic_cpu", system.panic_cpu.into()),
        ("crashed_task", system.crashed.map(|c| format!("{:#x}", c.task)).into()),
        ("cpus_possible", system.cpus.possible.into()),
        ("cpus_present", system.cpus.present.into()),
        ("cpus_online", system.cpus.online.into()),
        ("memory_bytes", memory.into()),
        ("cpu_model", platform.cpu.map(|cpu| cpu.name).into()),
        ("hypervisor", platform.hypervisor.map(|h| h.name).into()),
        ("vendor", platform.dmi.as_ref().and_then(|d| d.sys_vendor.clone()).into()),
        ("product", platform.dmi.as_ref().and_then(|d| d.product_name.clone()).into()),
        ("bios_version", platform.dmi.and_then(|d| d.bios_version).into()),
        ("time_s", clock.as_ref().map(|c| c.realtime_ns.div_euclid(1_000_000_000)).into()),
        ("uptime_ns", clock.as_ref().map(|c| c.boottime_ns).into()),
        ("hz", clock.as_ref().and_then(|c| c.hz).into()),
        ("taints", system.taints.map(|t| t.letters).filter(|l| !l.is_empty()).into()),
    ];
    for (key, value) in facts {
        match value {
            Cell::Null => {}
            Cell::Unread(reason) => rows.remark(format_args!("{key}: {reason}")),
            value => rows.push(&FactRow { key, value })?,
        }
    }
    Ok(())
}

pub(crate) const TAINTS: Table<Taint> = Table {
    name: "taints",
    doc: "something that tainted the kernel",
    columns: &[
        Column::text("letter", "its letter", |_, t| t.letter.to_string().into()),
        Column::text("meaning", "what it means", |_, t| t.meaning.into()),
    ],
    rows: |kernel, rows| kernel.taints()?.list.iter().try_for_each(|taint| rows.push(taint)),
};

//! `disks`, and the `block_requests` that they had not finished.

use kmortem_kernel::Kernel;
use kmortem_kernel::block::{Disk, Request};

use crate::cell::{hex, hex_option, word};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const DISKS: Table<Disk> = Table {
    name: "disks",
    doc: "a disk",
    columns: &[
        Column::address("addr", "its `struct gendisk`", |_, d| hex(d.addr)),
        Column::text("name", "its name", |_, d| d.name.as_deref().into()),
        Column::integer("major", "major number", |_, d| d.major.into()),
        Column::integer("minor", "first minor number", |_, d| d.minor.into()),
        Column::address("queue", "its `struct request_queue`", |_, d| hex_option(d.queue)),
        Column::quantity("sectors", "sectors", "size in sectors of 512 bytes", |_, d| {
            d.sectors.into()
        }),
        Column::text("driver", "its driver", |_, d| d.driver.as_deref().into()),
        Column::text("scheduler", "its I/O scheduler", |_, d| d.scheduler.as_deref().into()),
        Column::integer("reads_in_flight", "reads that the driver has", |_, d| {
            d.in_flight.as_ref().map(|f| f.reads).into()
        }),
        Column::integer("writes_in_flight", "writes that the driver has", |_, d| {
            d.in_flight.as_ref().map(|f| f.writes).into()
        }),
        Column::integer("reads", "reads completed", |_, d| {
            d.completed.as_ref().map(|c| c.reads).into()
        }),
        Column::integer("writes", "writes completed", |_, d| {
            d.completed.as_ref().map(|c| c.writes).into()
        }),
        Column::quantity("bytes_read", "bytes", "bytes read", |_, d| {
            d.completed.as_ref().map(|c| c.bytes_read).into()
        }),
        Column::quantity("bytes_written", "bytes", "bytes written", |_, d| {
            d.completed.as_ref().map(|c| c.bytes_written).into()
        }),
    ],
    rows: disks,
};

fn disks(kernel: &Kernel, rows: &mut Rows<'_, Disk>) -> Result<(), FillError> {
    let disks = kernel.disks()?;
    rows.gaps(&disks.gaps);
    for disk in &disks.list {
        rows.gaps(&disk.gaps);
        rows.push(disk)?;
    }
    Ok(())
}

/// A request with its disk.
pub(crate) struct RequestRow {
    disk: u64,
    disk_name: Option<String>,
    request: Request,
}

pub(crate) const BLOCK_REQUESTS: Table<RequestRow> = Table {
    name: "block_requests",
    doc: "a request to a disk that was not finished",
    columns: &[
        Column::address("addr", "its `struct request`", |_, r| hex(r.request.addr)),
        Column::address("disk", "its disk (`disks.addr`)", |_, r| hex(r.disk)),
        Column::text("disk_name", "the disk's name", |_, r| r.disk_name.as_deref().into()),
        Column::integer("hw_queue", "number of the hardware queue", |_, r| {
            r.request.hw_queue.into()
        }),
        Column::integer("tag", "the driver's tag; -1: none yet", |_, r| r.request.tag.into()),
        Column::text("op", "READ, WRITE, FLUSH, ...", |_, r| r.request.op.as_str().into()),
        Column::flag("is_write", "it counts as a write", |_, r| r.request.is_write.into()),
        Column::text("state", "queued, in_flight or complete", |_, r| word(&r.request.state)),
        Column::integer("sector", "its first sector (of 512 bytes)", |_, r| {
            r.request.sector.into()
        }),
        Column::quantity("size", "bytes", "its length", |_, r| r.request.bytes.into()),
        Column::quantity("start_ns", "ns", "when it was made, monotonic clock", |_, r| {
            r.request.start_ns.into()
        }),
        Column::quantity("issued_ns", "ns", "when the driver got it, monotonic clock", |_, r| {
            r.request.issued_ns.into()
        }),
        Column::quantity("age_ns", "ns", "how old it was when the kernel died", |_, r| {
            r.request.age_ns.into()
        }),
    ],
    rows: requests,
};

fn requests(kernel: &Kernel, rows: &mut Rows<'_, RequestRow>) -> Result<(), FillError> {
    let disks = kernel.disks()?;
    rows.gaps(&disks.gaps);
    for disk in disks.list {
        rows.gaps(&disk.gaps);
        for request in disk.requests {
            let (disk, disk_name) = (disk.addr, disk.name.clone());
            rows.push(&RequestRow { disk, disk_name, request })?;
        }
    }
    Ok(())
}

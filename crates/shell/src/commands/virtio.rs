//! `virtio`: virtio devices and their queues.

use std::io::{self, Write};

use kmortem_kernel::virtio::{VirtioDevice, Virtqueue};

use super::failed;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "virtio",
    summary: "lists virtio devices and what their queues hold",
    arguments: "",
    options: &[],
    details: "\
AVAIL counts what the driver handed over, USED what the device gave back, TAKEN
what the driver took back of that, all modulo 65536. OUT is what the device still
has: receive queues are full of empty buffers, others hold work. UNSEEN is what it
gave back and the driver did not take back: the driver waits for both. TOTELL is
what the driver added and did not tell the device. A device that no longer answers
keeps OUT above 0 with UNSEEN 0; a driver that no longer listens has UNSEEN grow.
But a host that dumps a guest stops it first, and lets its disks finish what they
have: OUT of a slow disk is then found in UNSEEN (`blk` has the requests). SIZE
less FREE are the descriptors in use. A packed ring has no counters: there AVAIL,
USED and TAKEN are where driver, device and driver go on. `-`: neither the kernel's
nor a module's types tell, or a packed ring is used in order.",
    examples: &[("", "all devices")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a device",
        members: "`addr` `name` `kind` `id` `driver` `failed` `features` `feature_names` `queues` (`addr` `index` `name` `free` `size` `ring` `packed`)",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, _: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (devices, gaps) = session.kernel().virtio_devices().map_err(failed(COMMAND.name))?;
    match out.is_json() {
        true => out.rows(&devices)?,
        false => render(out, &devices)?,
    }
    super::note_gaps(out, std::iter::once(&gaps))
}

fn render(out: &mut dyn Write, devices: &[VirtioDevice]) -> io::Result<()> {
    if devices.is_empty() {
        return writeln!(out, "no virtio devices");
    }
    for (i, device) in devices.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        let name = device.name.as_deref().unwrap_or("-");
        let driver = device.driver.as_deref().unwrap_or("no driver");
        let failed = if device.failed { "  FAILED" } else { "" };
        writeln!(out, "{name}  {:016x}  {}  {driver}{failed}", device.addr, device.kind)?;
        let names = device.feature_names.join(" ");
        writeln!(out, "  FEATURES {:#x}  {names}", device.features)?;
        writeln!(
            out,
            "  {:<16}  {:<16} {:>5} {:>5} {:>6} {:>6} {:>6} {:>5} {:>6} {:>6}  STATE",
            "VIRTQUEUE",
            "NAME",
            "SIZE",
            "FREE",
            "AVAIL",
            "USED",
            "TAKEN",
            "OUT",
            "UNSEEN",
            "TOTELL"
        )?;
        device.queues.iter().try_for_each(|queue| render_queue(out, queue))?;
    }
    Ok(())
}

fn render_queue(out: &mut dyn Write, queue: &Virtqueue) -> io::Result<()> {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let ring = queue.ring.as_ref();
    let state = match (ring.and_then(|r| r.broken), queue.packed) {
        (Some(true), _) => "BROKEN",
        (_, Some(true)) => "packed",
        (_, Some(false)) => "split",
        (_, None) => "-",
    };
    writeln!(
        out,
        "  {:016x}  {:<16} {:>5} {:>5} {:>6} {:>6} {:>6} {:>5} {:>6} {:>6}  {state}",
        queue.addr,
        queue.name.as_deref().unwrap_or("-"),
        number(ring.map(|r| r.size).or(queue.size).map(u64::from)),
        queue.free,
        number(ring.map(|r| u64::from(r.available))),
        number(ring.map(|r| u64::from(r.used))),
        number(ring.and_then(|r| r.taken_back).map(u64::from)),
        number(ring.map(|r| u64::from(r.outstanding))),
        number(ring.and_then(|r| r.not_taken).map(u64::from)),
        number(ring.and_then(|r| r.not_told).map(u64::from)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::virtio_ring::Vring;

    #[test]
    fn queues_stand_below_their_device() {
        let ring = Vring {
            descriptors: 1 << 47,
            size: 128,
            available: 510,
            used: 509,
            outstanding: 1,
            taken_back: Some(507),
            not_taken: Some(2),
            not_told: Some(0),
            broken: Some(true),
        };
        let queue = |name: &str, ring, packed| Virtqueue {
            addr: 0xffff_8880_0123_4500,
            index: 0,
            name: Some(name.into()),
            free: 127,
            size: None,
            ring,
            packed,
        };
        let device = VirtioDevice {
            addr: 0xffff_8880_0100_0000,
            name: Some("virtio1".into()),
            kind: "block device",
            id: 2,
            driver: Some("virtio_blk".into()),
            failed: true,
            features: 1 << 32,
            feature_names: vec!["VERSION_1"],
            queues: vec![queue("req.0", Some(ring), Some(false)), queue("req.1", None, Some(true))],
        };
        let mut out = Vec::new();
        render(&mut out, &[device]).unwrap();
        render(&mut out, &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}

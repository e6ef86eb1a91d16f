//! What dom0 gets to run a guest and have xl dump it.

use std::fs;
use std::path::Path;

use crate::cpio::Cpio;
use crate::error::LabError;
use crate::guest::vm::Machine;
use crate::matrix::Hypervisor;

/// Adds the task, and the guest: its kernel, its archive, its definition.
pub(super) fn add(cpio: &mut Cpio, machine: &Machine<'_>, lab: &Path) -> Result<(), LabError> {
    let read = |path: &Path| fs::read(path).map_err(LabError::io("read", path));
    cpio.file("task", &read(&lab.join("guest/dom0-guest"))?);
    cpio.directory("guest");
    cpio.file("guest/vmlinuz", &read(machine.image)?);
    cpio.file("guest/initramfs", &read(machine.initramfs)?);
    cpio.file("guest/config", definition(machine).as_bytes());
    Ok(())
}

/// xl.cfg(5).
fn definition(machine: &Machine<'_>) -> String {
    let boot = machine.boot;
    let kind = match boot.hypervisor {
        Hypervisor::XenPvh => "pvh",
        _ => "pv",
    };
    format!(
        "name = \"lab\"
type = \"{kind}\"
kernel = \"/guest/vmlinuz\"
ramdisk = \"/guest/initramfs\"
memory = {memory}
maxmem = {memory}
vcpus = {cpus}
extra = \"console=hvc0 panic=0 {append}\"
on_crash = \"preserve\"
",
        memory = boot.memory_mb,
        cpus = boot.cpus,
        append = boot.append,
    )
}

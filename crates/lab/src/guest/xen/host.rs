//! What dom0 gets to die and leave the whole machine's memory: a kernel that Xen starts
//! then (kexec), which is not Xen's any more, and writes /proc/vmcore to the disk.
//!
//! The kernel that dies is dom0's; the boot's kernel, a cloud kernel, can't be dom0 and
//! is the one that is started.

use std::fs;
use std::path::Path;

use crate::cpio::Cpio;
use crate::error::LabError;
use crate::guest::initramfs;
use crate::guest::vm::Machine;

/// What the second kernel needs.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk"];

/// Adds the task, the scenario, and the second kernel with its archive.
pub(super) fn add(
    cpio: &mut Cpio,
    machine: &Machine<'_>,
    lab: &Path,
    modules: &Path,
    scenario: &str,
) -> Result<(), LabError> {
    let read = |path: &Path| fs::read(path).map_err(LabError::io("read", path));
    cpio.file("task", &read(&lab.join("guest/dom0-crash"))?);
    cpio.file("scenario", scenario.as_bytes());
    cpio.directory("crash");
    cpio.file("crash/vmlinuz", &read(machine.image)?);
    let mut capture = Cpio::default();
    for name in ["bin", "dev", "lib", "lib/modules", "proc", "sys"] {
        capture.directory(name);
    }
    capture.device("dev/console", 5, 1);
    capture.file("init", &read(&lab.join("guest/capture"))?);
    capture.file("bin/busybox", &read(Path::new("/bin/busybox"))?);
    initramfs::add_modules(&mut capture, modules, MODULES)?;
    cpio.file("crash/initramfs", &capture.finish());
    Ok(())
}

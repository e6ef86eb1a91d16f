//! A guest of Xen, dumped by `xl dump-core`. Xen and its dom0 run in QEMU.
//!
//! dom0's first program (lab/guest/dom0) does it all: creates the guest, waits for its
//! death, has it dumped, and writes what there is to be kept as a tar archive to a bare
//! disk. It says on the serial line how far it is: `LAB-XEN up`, `done`, `failed`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cpio::Cpio;
use crate::error::LabError;
use crate::format::Format;
use crate::guest::console;
use crate::guest::vm::{Machine, Qemu, Remains, escaped};
use crate::guest::watch::{self, POLL, read_console};
use crate::host;
use crate::matrix::Hypervisor;
use crate::xen::Xen;

/// A PVH guest takes 4 to 7 minutes: xl asks the hypervisor for every page below 4 GiB.
const LIMIT: Duration = Duration::from_secs(1500);
/// Nothing is said for so long only while a guest is dumped.
const STUCK: Duration = Duration::from_secs(180);
/// dom0's memory.
const DOM0_MB: u32 = 512;
/// What Xen needs for itself.
const XEN_MB: u32 = 128;

const UP: &str = "LAB-XEN up";
const DUMPING: &str = "LAB-XEN dumping";
const DONE: &str = "LAB-XEN done";
const FAILED: &str = "LAB-XEN failed";

/// Boots Xen, dom0 and the guest, and takes the dump when the guest has died.
pub(crate) fn run(machine: &Machine<'_>, xen: &Xen, folder: &Path) -> Result<Remains, LabError> {
    let serial = machine.folder.join("dom0.txt");
    let disk = machine.folder.join("disk.img");
    let failure = |reason: String| watch::failure(machine.boot, &serial, &reason);
    let started = Instant::now();
    let qemu = start(machine, xen, folder, &serial, &disk)?;
    wait(&serial, qemu, &machine.folder.join("qemu.log")).map_err(failure)?;
    let boot_time = started.elapsed();

    let console = machine.folder.join("console.txt");
    let dump = Format::Elf.files(machine.folder).remove(0);
    host::run(Command::new("tar").arg("-xf").arg(&disk).arg("-C").arg(machine.folder))?;
    for path in [&console, &dump] {
        if !path.is_file() {
            return Err(failure(format!("dom0 left no {}", path.display())));
        }
    }
    console::check(&read_console(&console), machine.expect)
        .map_err(|reason| watch::failure(machine.boot, &console, &reason))?;
    for name in ["disk.img", "qemu.log", "initramfs", "vmlinuz", "xen"] {
        let _ = fs::remove_file(machine.folder.join(name));
    }
    let hypervisor = Some(format!("Xen {}", xen.version()));
    Ok(Remains { console, boot_time, hypervisor })
}

fn start(
    machine: &Machine<'_>,
    xen: &Xen,
    lab: &Path,
    serial: &Path,
    disk: &Path,
) -> Result<Qemu, LabError> {
    let boot = machine.boot;
    // QEMU takes the names of multiboot's modules apart at spaces and commas: short names
    // in the folder that it runs in.
    link(&xen.hypervisor(), &machine.folder.join("xen"))?;
    link(&xen.kernel(), &machine.folder.join("vmlinuz"))?;
    let archive = machine.folder.join("initramfs");
    let mut bytes = fs::read(xen.archive()).map_err(LabError::io("read", &xen.archive()))?;
    bytes.extend(guest_archive(machine, lab)?);
    fs::write(&archive, bytes).map_err(LabError::io("write", &archive))?;
    let file = fs::File::create(disk).map_err(LabError::io("create", disk))?;
    let size = u64::from(boot.memory_mb + 32) << 20;
    file.set_len(size).map_err(LabError::io("create", disk))?;
    let errors = machine.folder.join("qemu.log");
    let errors = fs::File::create(&errors).map_err(LabError::io("create", &errors))?;
    // A PV dom0 dies early on "max"; PVH guests need SVM with nested paging.
    let processor = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+svm,+npt";
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", machine.arch.qemu(), "-nodefaults", "-no-reboot"])
        .args(["-accel", "tcg", "-cpu", processor, "-display", "none"])
        .args(["-m", &(DOM0_MB + XEN_MB + boot.memory_mb).to_string()])
        .arg("-serial")
        .arg(format!("file:{}", escaped(serial)))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw", escaped(disk)))
        .args(["-kernel", "xen", "-append"])
        .arg(format!("console=com1 dom0_mem={DOM0_MB}M,max:{DOM0_MB}M noreboot"))
        .args(["-initrd", "vmlinuz console=hvc0 panic=0,initramfs"])
        .current_dir(machine.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(LabError::io("run", Path::new(machine.arch.qemu())))?;
    Ok(Qemu(child))
}

fn link(from: &Path, to: &Path) -> Result<(), LabError> {
    std::os::unix::fs::symlink(from, to).map_err(LabError::io("create", to))
}

/// dom0's first program, and the guest: its kernel, its archive, its definition.
fn guest_archive(machine: &Machine<'_>, lab: &Path) -> Result<Vec<u8>, LabError> {
    let read = |path: &Path| fs::read(path).map_err(LabError::io("read", path));
    let mut cpio = Cpio::default();
    cpio.file("init", &read(&lab.join("guest/dom0"))?);
    cpio.file("guest/vmlinuz", &read(machine.image)?);
    cpio.file("guest/initramfs", &read(machine.initramfs)?);
    cpio.file("guest/config", definition(machine).as_bytes());
    Ok(cpio.finish())
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

/// Until dom0 is done; QEMU ends then.
fn wait(serial: &Path, mut qemu: Qemu, log: &Path) -> Result<(), String> {
    let started = Instant::now();
    let mut said = (0, started);
    while started.elapsed() < LIMIT {
        std::thread::sleep(POLL);
        let text = read_console(serial);
        if text.contains(DONE) {
            return Ok(());
        }
        if let Some(line) = text.lines().find(|line| line.contains(FAILED)) {
            return Err(line.trim().to_owned());
        }
        if text.len() != said.0 {
            said = (text.len(), Instant::now());
        }
        if !text.contains(DUMPING) && said.1.elapsed() > STUCK {
            let what = if text.contains(UP) { "the guest" } else { "dom0" };
            return Err(format!("{what} is stuck while it boots"));
        }
        if let Ok(Some(status)) = qemu.0.try_wait() {
            return Err(format!("QEMU ended with {status}: {}", host::tail(&read_console(log), 5)));
        }
    }
    Err(format!("no dump within {} s", LIMIT.as_secs()))
}

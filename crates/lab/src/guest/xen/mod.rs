//! Xen in QEMU: a guest that is dumped by `xl dump-core` ([`domu`]), or dom0 itself, whose
//! end is Xen's, and the memory of the whole machine ([`host`]).
//!
//! dom0's first program (lab/guest/dom0) does it all; what is to be kept comes out as a tar
//! archive on a bare disk. It says on the serial line how far it is: `LAB-XEN up`, `done`,
//! `failed`.

mod domu;
mod host;

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
use crate::host as host_tools;
use crate::matrix::Hypervisor;
use crate::xen::Xen;

/// A PVH guest takes 4 to 7 minutes: xl asks the hypervisor for every page below 4 GiB.
const LIMIT: Duration = Duration::from_secs(1500);
/// Nothing is said for so long only while a guest is dumped.
const STUCK: Duration = Duration::from_secs(180);
/// dom0's memory, beside that of a guest.
const DOM0_MB: u32 = 512;
/// What Xen needs for itself and to load dom0.
const XEN_MB: u32 = 224;
/// For the kernel that Xen starts when it has died.
const CRASH_MB: u32 = 144;

const UP: &str = "LAB-XEN up";
const DUMPING: &str = "LAB-XEN dumping";
const DONE: &str = "LAB-XEN done";
const FAILED: &str = "LAB-XEN failed";

/// What Xen is booted for.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) xen: &'a Xen,
    /// The folder `lab/`.
    pub(crate) lab: &'a Path,
    /// The folder of the boot's kernel's modules.
    pub(crate) modules: &'a Path,
    /// What a guest's shell does to die.
    pub(crate) scenario: &'a str,
}

impl Task<'_> {
    /// Whether it is dom0 that dies.
    fn is_host(&self) -> bool {
        self.machine.boot.hypervisor == Hypervisor::XenHost
    }

    /// Boots Xen and dom0, and takes the dump that comes of it.
    pub(crate) fn run(&self) -> Result<Remains, LabError> {
        let Machine { boot, folder, expect, .. } = self.machine;
        let console = folder.join("console.txt");
        let serial = if self.is_host() { console.clone() } else { folder.join("dom0.txt") };
        let disk = folder.join("disk.img");
        let failure = |reason: String| watch::failure(boot, &serial, &reason);
        let started = Instant::now();
        let qemu = self.start(&serial, &disk)?;
        wait(&serial, qemu, &folder.join("qemu.log")).map_err(failure)?;
        let boot_time = started.elapsed();

        host_tools::run(Command::new("tar").arg("-xf").arg(&disk).arg("-C").arg(folder))?;
        let dump = Format::Elf.files(folder).remove(0);
        for path in [&console, &dump] {
            if !path.is_file() {
                return Err(failure(format!("dom0 left no {}", path.display())));
            }
        }
        console::check(&read_console(&console), expect)
            .map_err(|reason| watch::failure(boot, &console, &reason))?;
        for name in ["disk.img", "qemu.log", "initramfs", "vmlinuz", "xen"] {
            let _ = fs::remove_file(folder.join(name));
        }
        let hypervisor = Some(format!("Xen {}", self.xen.version()));
        Ok(Remains { console, boot_time, hypervisor })
    }

    fn start(&self, serial: &Path, disk: &Path) -> Result<Qemu, LabError> {
        let Machine { boot, folder, arch, .. } = self.machine;
        // QEMU takes the names of multiboot's modules apart at spaces and commas: short
        // names in the folder that it runs in.
        link(&self.xen.hypervisor(), &folder.join("xen"))?;
        link(&self.xen.kernel(), &folder.join("vmlinuz"))?;
        let archive = folder.join("initramfs");
        let kit = self.xen.archive();
        let mut bytes = fs::read(&kit).map_err(LabError::io("read", &kit))?;
        bytes.extend(task_archive(self)?);
        fs::write(&archive, bytes).map_err(LabError::io("write", &archive))?;

        let (dom0, memory, crash) = if self.is_host() {
            let crash = format!(" crashkernel={CRASH_MB}M");
            (boot.memory_mb, boot.memory_mb + XEN_MB + CRASH_MB, crash)
        } else {
            (DOM0_MB, DOM0_MB + XEN_MB + boot.memory_mb, String::new())
        };
        let file = fs::File::create(disk).map_err(LabError::io("create", disk))?;
        file.set_len(u64::from(memory + 32) << 20).map_err(LabError::io("create", disk))?;
        let errors = folder.join("qemu.log");
        let errors = fs::File::create(&errors).map_err(LabError::io("create", &errors))?;
        // A PV dom0 dies early on "max"; PVH guests need SVM with nested paging.
        let processor = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+svm,+npt";
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", arch.qemu(), "-nodefaults", "-no-reboot"])
            .args(["-accel", "tcg", "-cpu", processor, "-display", "none"])
            .args(["-m", &memory.to_string()])
            .arg("-serial")
            .arg(format!("file:{}", escaped(serial)))
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw", escaped(disk)))
            .args(["-kernel", "xen", "-append"])
            .arg(format!("console=com1 dom0_mem={dom0}M,max:{dom0}M noreboot{crash}"))
            .args(["-initrd", "vmlinuz console=hvc0 panic=0,initramfs"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(LabError::io("run", Path::new(arch.qemu())))?;
        Ok(Qemu(child))
    }
}

fn link(from: &Path, to: &Path) -> Result<(), LabError> {
    std::os::unix::fs::symlink(from, to).map_err(LabError::io("create", to))
}

/// dom0's first program, and what it is to do.
fn task_archive(task: &Task<'_>) -> Result<Vec<u8>, LabError> {
    let Task { machine, lab, .. } = task;
    let first = lab.join("guest/dom0");
    let mut cpio = Cpio::default();
    cpio.file("init", &fs::read(&first).map_err(LabError::io("read", &first))?);
    if task.is_host() {
        host::add(&mut cpio, machine, lab, task.modules, task.scenario)?;
    } else {
        domu::add(&mut cpio, machine, lab)?;
    }
    Ok(cpio.finish())
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
            return Err(format!(
                "QEMU ended with {status}: {}",
                host_tools::tail(&read_console(log), 5)
            ));
        }
    }
    Err(format!("no dump within {} s", LIMIT.as_secs()))
}

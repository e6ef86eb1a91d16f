//! Boots a guest, waits for its death, and has QEMU write its memory to files.
//!
//! TCG (software emulation) on every host: no /dev/kvm, no root. The guest has
//! no kdump kernel, so the registers in the dump are those at the moment QEMU
//! stopped it, in the delay loop at the end of panic().

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::arch::Arch;
use crate::error::LabError;
use crate::format::{Format, FromQemu};
use crate::guest::console;
use crate::guest::monitor::Monitor;
use crate::guest::watch::{self, POLL, Watch, read_console};
use crate::host;
use crate::matrix::{Boot, Expect};

const MONITOR_LIMIT: Duration = Duration::from_secs(120);
/// A live guest is dumped in the midst of its work.
const LIVE_WORK: Duration = Duration::from_secs(4);
const DISK_MB: u64 = 64;

/// One guest to boot.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) arch: Arch,
    pub(crate) expect: &'a Expect,
    pub(crate) image: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Where its files are made.
    pub(crate) folder: &'a Path,
}

/// What a guest left.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) console: PathBuf,
    pub(crate) boot_time: Duration,
    /// Name and version of what ran the guest with QEMU; none where that was QEMU alone.
    pub(crate) hypervisor: Option<String>,
}

impl Machine<'_> {
    /// Boots the guest, lets it die, and dumps it in each of the formats QEMU writes.
    pub(crate) fn run(&self, formats: &[Format]) -> Result<Remains, LabError> {
        let console = self.folder.join("console.txt");
        let disk = make_disk(self.folder)?;
        let started = Instant::now();
        let mut qemu = self.start(&console, &disk, formats)?;
        let mut monitor = qemu.monitor().map_err(|reason| self.failure(&console, &reason))?;
        self.wait(&mut qemu, &mut monitor, &console)
            .map_err(|reason| self.failure(&console, &reason))?;
        let boot_time = started.elapsed();
        let text = read_console(&console);
        console::check(&text, self.expect).map_err(|reason| self.failure(&console, &reason))?;
        self.dump(&mut monitor, formats).map_err(|reason| self.failure(&console, &reason))?;
        drop(qemu);
        for file in [disk, self.folder.join("qemu.log")] {
            let _ = fs::remove_file(file);
        }
        Ok(Remains { console, boot_time, hypervisor: None })
    }

    fn start(&self, console: &Path, disk: &Path, formats: &[Format]) -> Result<Qemu, LabError> {
        let boot = self.boot;
        let errors = self.folder.join("qemu.log");
        let errors = File::create(&errors).map_err(LabError::io("create", &errors))?;
        // setpriv: QEMU dies with the lab, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", self.arch.qemu(), "-nodefaults", "-no-reboot"])
            .args(["-accel", "tcg", "-cpu", &boot.cpu, "-smp", &boot.cpus.to_string()])
            .args(["-m", &boot.memory_mb.to_string(), "-display", "none"])
            .args(self.arch.machine())
            .arg("-serial")
            .arg(format!("file:{}", escaped(console)))
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw", escaped(disk)))
            .args(["-nic", "user,model=virtio-net-pci", "-device", "virtio-balloon-pci"])
            .args(["-qmp", "stdio", "-kernel"])
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("console={} panic=0 {}", self.arch.console(), boot.append).trim_end());
        let in_file = |format: &&Format| format.source() == Some(FromQemu::MemoryFile);
        if let Some(file) = formats.iter().find(in_file).and_then(|f| f.files(self.folder).pop()) {
            command.args(["-machine", "memory-backend=ram0", "-object"]).arg(format!(
                "memory-backend-file,id=ram0,size={}M,share=on,mem-path={}",
                boot.memory_mb,
                escaped(&file)
            ));
        }
        if boot.packed_rings {
            command.args(["-global", "virtio-device.packed=on"]);
        }
        if boot.vmcoreinfo {
            command.args(["-device", "vmcoreinfo"]);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(LabError::io("run", Path::new(self.arch.qemu())))?;
        Ok(Qemu(child))
    }

    fn wait(&self, qemu: &mut Qemu, monitor: &mut Monitor, path: &Path) -> Result<(), String> {
        let mut watch = Watch::new(path);
        let mut answered = 0;
        loop {
            std::thread::sleep(POLL);
            let Some(text) = watch.look()? else { return Ok(()) };
            for request in console::parse_requests(&text).into_iter().skip(answered) {
                answered += 1;
                match request {
                    "dump" => {
                        std::thread::sleep(LIVE_WORK);
                        return Ok(());
                    }
                    "nmi" => monitor.execute("inject-nmi", json!({}), MONITOR_LIMIT).map(|_| ())?,
                    other => match other.strip_prefix("throttle ").map(str::parse) {
                        Some(Ok(iops)) => throttle(monitor, iops)?,
                        _ => return Err(format!("the guest asks for {other:?}")),
                    },
                }
            }
            if let Ok(Some(status)) = qemu.0.try_wait() {
                let log = read_console(&self.folder.join("qemu.log"));
                return Err(format!("QEMU ended with {status}: {}", host::tail(&log, 5)));
            }
        }
    }

    fn dump(&self, monitor: &mut Monitor, formats: &[Format]) -> Result<(), String> {
        monitor.execute("stop", json!({}), MONITOR_LIMIT)?;
        for format in formats {
            let Some(path) = format.files(self.folder).into_iter().next() else { continue };
            match format.source() {
                Some(FromQemu::Dump { format, paging }) => {
                    let mut arguments = json!({
                        "paging": paging,
                        "protocol": format!("file:{}", path.display()),
                    });
                    // QEMU does not take a format together with paging, not even its default.
                    if !paging {
                        arguments["format"] = json!(format);
                    }
                    monitor.execute("dump-guest-memory", arguments, MONITOR_LIMIT)?;
                }
                Some(FromQemu::Migrate) => migrate(monitor, &path)?,
                // It is there already.
                Some(FromQemu::MemoryFile) | None => {}
            }
        }
        // A QEMU that is told to quit may be gone before its answer is.
        let _ = monitor.execute("quit", json!({}), Duration::from_secs(5));
        Ok(())
    }

    fn failure(&self, console: &Path, reason: &str) -> LabError {
        watch::failure(self.boot, console, reason)
    }
}

/// Has the stopped guest's state written to a file.
fn migrate(monitor: &mut Monitor, path: &Path) -> Result<(), String> {
    // QEMU gives the command to a shell; paths of the cache have no quotes.
    let uri = format!("exec:cat > '{}'", path.display());
    monitor.execute("migrate", json!({ "uri": uri }), MONITOR_LIMIT)?;
    let started = Instant::now();
    while started.elapsed() < MONITOR_LIMIT {
        let state = monitor.execute("query-migrate", json!({}), MONITOR_LIMIT)?;
        match state.get("status").and_then(|status| status.as_str()) {
            Some("completed") => {
                // The command may still be writing what it was given last.
                std::thread::sleep(Duration::from_secs(2));
                return Ok(());
            }
            Some("failed" | "cancelled") => return Err(format!("QEMU did not migrate: {state}")),
            _ => std::thread::sleep(POLL),
        }
    }
    Err("QEMU does not end its migration".to_owned())
}

/// From now on the disk does `iops` requests a second; the others wait in QEMU.
fn throttle(monitor: &mut Monitor, iops: u32) -> Result<(), String> {
    // "virtio0": QEMU's own name for the first drive of if=virtio.
    let arguments = json!({
        "device": "virtio0", "iops": iops, "iops_rd": 0, "iops_wr": 0,
        "bps": 0, "bps_rd": 0, "bps_wr": 0,
    });
    monitor.execute("block_set_io_throttle", arguments, MONITOR_LIMIT).map(|_| ())
}

/// An ext4 disk with a journal.
pub(crate) fn make_disk(folder: &Path) -> Result<PathBuf, LabError> {
    let disk = folder.join("disk.img");
    let file = File::create(&disk).map_err(LabError::io("create", &disk))?;
    file.set_len(DISK_MB << 20).map_err(LabError::io("create", &disk))?;
    host::run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&disk))?;
    Ok(disk)
}

/// A running QEMU, killed on drop.
#[derive(Debug)]
pub(crate) struct Qemu(pub(crate) Child);

impl Qemu {
    fn monitor(&mut self) -> Result<Monitor, String> {
        match (self.0.stdin.take(), self.0.stdout.take()) {
            (Some(stdin), Some(stdout)) => Monitor::open(stdin, stdout),
            _ => Err("QEMU has no monitor".to_owned()),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A path in one of QEMU's option lists, where a comma is doubled.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

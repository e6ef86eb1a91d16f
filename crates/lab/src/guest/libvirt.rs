//! A guest under libvirt, dumped and saved by virsh.
//!
//! virsh itself runs libvirt's QEMU driver, of which everything is in a folder of
//! its own (`qemu:///embed?root=FOLDER`, https://libvirt.org/drvqemu.html): no
//! daemon, no configuration of the machine is read or changed. Each call finds the
//! guests that earlier ones left in the folder.
//!
//! The guest is saved once. Restored from that file, paused, it is written in one
//! format after another: all of them hold one and the same memory.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::error::{LabError, Result};
use crate::format::{Format, FromVirsh};
use crate::guest::console;
use crate::guest::vm::{Machine, Remains, make_disk};
use crate::guest::watch::{self, POLL, Watch, read_console};
use crate::host;

/// nobody and nogroup. The driver takes root for the machine's administrator, whose
/// guests run under an account that only the package of the daemon makes.
const NOBODY: u32 = 65534;
/// No step of virsh takes as long: xz needs half a minute for 128 MiB.
const STEP_SECONDS: &str = "300";
/// A QEMU that is left behind by a lab that was killed spins in panic(): it ends after
/// so many seconds of processor time.
const CPU_SECONDS: &str = "600";

/// Which processors the host has.
const CPUS: &str = "/sys/devices/system/cpu/online";

/// qemu.conf(5): no virtlogd, nothing that needs rights.
const SETTINGS: &str = "\
stdio_handler = \"file\"
security_driver = \"none\"
namespaces = []
cgroup_controllers = []
remember_owner = 0
";

/// Boots the guest, lets it die, and has virsh make each of the formats.
pub(crate) fn run(machine: &Machine<'_>, formats: &[Format]) -> Result<Remains> {
    let domain = Domain::prepare(machine)?;
    let console = machine.folder.join("console.txt");
    let failure = |reason: String| watch::failure(machine.boot, &domain.console(), &reason);
    let started = Instant::now();
    domain.virsh(&["create", "domain.xml"])?;
    let serial = domain.console();
    let mut watch = Watch::new(&serial);
    while let Some(text) = watch.look().map_err(failure)? {
        if let Some(request) = console::parse_requests(&text).first() {
            return Err(failure(format!("the guest asks for {request:?}: not under libvirt")));
        }
        std::thread::sleep(POLL);
    }
    let boot_time = started.elapsed();
    let said = read_console(&serial);
    console::check(&said, machine.expect).map_err(failure)?;
    // QEMU empties it when the guest is restored.
    fs::write(&console, &said).map_err(LabError::io("write", &console))?;
    domain.virsh(&["save", NAME, BASE])?;
    for format in formats {
        let Some(from) = format.virsh() else { continue };
        domain.make(from)?;
        for to in format.files(machine.folder) {
            domain.hand_over(&to)?;
        }
    }
    let version = domain.virsh(&["version"])?;
    Ok(Remains { console, boot_time, hypervisor: library_version(&version) })
}

/// The domain's name.
const NAME: &str = "lab";
/// The saved guest.
const BASE: &str = "base";
/// What virsh writes.
const MADE: &str = "made";

/// A guest, and the folder of the driver that runs it. Both are gone on drop.
#[derive(Debug)]
struct Domain {
    /// In the folder for temporary files: paths of sockets are short, and those of a
    /// cache may not be, nor may nobody be let in there.
    folder: PathBuf,
    as_nobody: bool,
}

impl Domain {
    fn prepare(machine: &Machine<'_>) -> Result<Domain> {
        // libvirt ends with "the cause is unknown" where it cannot read this.
        fs::metadata(CPUS).map_err(LabError::io("read", Path::new(CPUS)))?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kmortem-lab-{}-{serial}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let io = |error| LabError::io("create", &folder)(error);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(io)?;
        let domain =
            Domain { folder: folder.clone(), as_nobody: rustix::process::geteuid().is_root() };
        fs::create_dir_all(folder.join("root/etc")).map_err(io)?;
        fs::copy(machine.image, folder.join("vmlinuz")).map_err(io)?;
        fs::copy(machine.initramfs, folder.join("initramfs")).map_err(io)?;
        make_disk(&folder)?;
        fs::write(folder.join("domain.xml"), definition(machine, &folder)).map_err(io)?;
        domain.set_image_format("raw")?;
        if domain.as_nobody {
            let files = ["", "root", "root/etc", "vmlinuz", "initramfs", "disk.img", "domain.xml"];
            for file in files {
                chown(folder.join(file), Some(NOBODY), Some(NOBODY)).map_err(io)?;
            }
        }
        Ok(domain)
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.txt")
    }

    /// Restores the saved guest and has it written.
    fn make(&self, from: FromVirsh) -> Result<()> {
        self.virsh(&["restore", BASE, "--paused"])?;
        match from {
            FromVirsh::MemoryOnly(format) => {
                self.virsh(&["dump", NAME, MADE, "--memory-only", "--format", format])?;
            }
            FromVirsh::Dump(format) => {
                self.set_image_format(format)?;
                self.virsh(&["dump", NAME, MADE])?;
            }
            FromVirsh::Save(format) => {
                self.set_image_format(format)?;
                self.virsh(&["save", NAME, MADE])?;
                return Ok(());
            }
        }
        self.destroy();
        Ok(())
    }

    /// What virsh says of it means nothing: it ends QEMU, then finds it ended, and takes
    /// that for an error.
    fn destroy(&self) {
        let _ = self.virsh(&["destroy", NAME]);
    }

    /// virsh has no option for it, the driver a setting.
    fn set_image_format(&self, format: &str) -> Result<()> {
        let path = self.folder.join("root/etc/qemu.conf");
        let settings = format!(
            "{SETTINGS}dump_image_format = \"{format}\"\nsave_image_format = \"{format}\"\n"
        );
        fs::write(&path, settings).map_err(LabError::io("write", &path))
    }

    /// Moves what was written; holes take the place of zeros.
    fn hand_over(&self, to: &Path) -> Result<()> {
        let made = self.folder.join(MADE);
        host::run(Command::new("cp").arg("--sparse=always").arg(&made).arg(to))?;
        fs::remove_file(&made).map_err(LabError::io("remove", &made))
    }

    fn virsh(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", STEP_SECONDS]);
        command.args(["prlimit", &format!("--cpu={CPU_SECONDS}")]);
        if self.as_nobody {
            let id = NOBODY.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.args(["virsh", "--quiet", "--connect"]);
        command.arg(format!("qemu:///embed?root={}", self.folder.join("root").display()));
        command.args(arguments).current_dir(&self.folder);
        // Neither the caller's configuration nor its language.
        command.env("HOME", &self.folder).env("LC_ALL", "C");
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        let text = host::output(&mut command)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // It is gone as a rule: saved, or destroyed.
        self.destroy();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The guest's hardware, as in [`Machine::run`].
fn definition(machine: &Machine<'_>, folder: &Path) -> String {
    let boot = machine.boot;
    let console = machine.arch.console();
    let command_line = format!("console={console} panic=0 {}", boot.append);
    let vmcoreinfo = if boot.vmcoreinfo { "<vmcoreinfo state='on'/>" } else { "" };
    format!(
        "<domain type='qemu'>
<name>{NAME}</name>
<memory unit='MiB'>{memory}</memory>
<vcpu>{cpus}</vcpu>
<os>
  <type arch='x86_64' machine='pc'>hvm</type>
  <kernel>{folder}/vmlinuz</kernel>
  <initrd>{folder}/initramfs</initrd>
  <cmdline>{command_line}</cmdline>
</os>
<features><acpi/>{vmcoreinfo}</features>
<cpu mode='maximum'/>
<devices>
  <emulator>/usr/bin/{qemu}</emulator>
  <serial type='file'><source path='{folder}/console.txt'/></serial>
  <disk type='file'>
    <driver name='qemu' type='raw'/>
    <source file='{folder}/disk.img'/>
    <target dev='vda' bus='virtio'/>
  </disk>
  <interface type='user'><model type='virtio'/></interface>
  <memballoon model='virtio'/>
</devices>
</domain>
",
        memory = boot.memory_mb,
        cpus = boot.cpus,
        folder = escaped(&folder.display().to_string()),
        command_line = escaped(command_line.trim_end()),
        qemu = machine.arch.qemu(),
    )
}

/// A text in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

/// "libvirt 9.0.0" of `virsh version`.
fn library_version(text: &str) -> Option<String> {
    let found = text.lines().find_map(|line| line.strip_prefix("Using library: "));
    found.map(|version| version.trim().to_owned())
}

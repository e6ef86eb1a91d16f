//! Makes dumps, or finds them made: the way from a name in the matrix to files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::cache::{self, Cache, publish};
use crate::error::{LabError, Result};
use crate::format::{Converter, Format};
use crate::guest::console::{self, ConsoleFacts};
use crate::guest::vm::Machine;
use crate::guest::{initramfs, libvirt, module, xen};
use crate::host;
use crate::kernel::{self, Kernel, KernelRecord};
use crate::matrix::{Boot, Expect, Hypervisor, Matrix};
use crate::peers::{self, Peer};
use crate::xen::Xen;

/// Counts up when a change of the lab's code changes its dumps.
pub(crate) const LAB_VERSION: &str = "2";

/// A guest that dies in another way than meant (a watchdog fires early on a
/// busy host), or does not come up, is booted again.
const ATTEMPTS: u32 = 3;

/// The lab: a matrix and a cache.
#[derive(Debug)]
pub struct Lab {
    matrix: Matrix,
    cache: Cache,
    jobs: usize,
}

/// A dump on disk, and what must be found in it.
#[derive(Clone, Debug)]
pub struct LabDump {
    /// `BOOT` or `BOOT.FORMAT`.
    pub name: String,
    /// How it was booted.
    pub boot: Boot,
    /// Container.
    pub format: Format,
    /// The dump: one file, or the parts of a split one.
    pub files: Vec<PathBuf>,
    /// The serial console, with everything the kernel printed.
    pub console: PathBuf,
    /// What was recorded when it was made.
    pub facts: Facts,
    /// The answer that must come out.
    pub expect: Expect,
    /// Folder with the kernel's unpacked packages.
    pub kernel_root: PathBuf,
    /// Folder with the kernel's own modules.
    pub kernel_modules: PathBuf,
    /// The crasher module with its debug information.
    pub crasher: PathBuf,
}

/// Recorded beside each dump in facts.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// How it was booted.
    pub boot: Boot,
    /// The kernel's packages.
    pub kernel: KernelRecord,
    /// What the console says.
    pub console: ConsoleFacts,
    /// Seconds from the start of QEMU to the end of the panic.
    pub boot_seconds: f32,
    /// First line of what QEMU answers to `--version`.
    pub qemu: String,
    /// Name and version of what ran the guest with QEMU; none where that was QEMU alone.
    #[serde(default)]
    pub hypervisor: Option<String>,
    /// The answer that must come out.
    pub expect: Expect,
}

impl Lab {
    /// The matrix of this source tree and the cache of this user.
    pub fn open() -> Result<Lab> {
        let jobs = std::env::var("KMORTEM_LAB_JOBS").ok().and_then(|jobs| jobs.parse().ok());
        Ok(Lab { matrix: Matrix::load()?, cache: Cache::open()?, jobs: jobs.unwrap_or(2) })
    }

    /// Bounds the guests that run at a time (2).
    pub fn set_jobs(&mut self, jobs: usize) {
        self.jobs = jobs.max(1);
    }

    /// The matrix.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The dumps that the tests stand on: those not made on demand only.
    pub fn standard_dumps(&self) -> Vec<String> {
        let boots = self.matrix.boots.iter().filter(|boot| !boot.on_demand);
        boots
            .flat_map(|boot| {
                let formats = boot.formats.iter().map(|f| format!("{}.{}", boot.name, f.name()));
                std::iter::once(boot.name.clone()).chain(formats)
            })
            .collect()
    }

    /// What drgn answers about a dump, as a JSON file (lab/peers/answers/).
    /// Asked once per dump and scripts; kept beside the dump.
    pub fn answers(&self, dump: &LabDump) -> Result<PathBuf> {
        let scripts = self.matrix.folder.join("peers/answers");
        let key = peers::scripts_key(&scripts)?;
        let folder = dump.console.parent().unwrap_or(&dump.console);
        let answers = folder.join(format!("drgn.{}.{key}.json", dump.format.name()));
        let _lock = self.cache.lock(&format!("answers-{}", dump.name))?;
        if !answers.is_file() {
            let drgn = peers::drgn(&self.cache, &self.matrix)?;
            let vmlinux = self.vmlinux(&dump.boot.kernel)?;
            let scratch = self.cache.scratch()?;
            let made = scratch.path().join("answers.json");
            let mut command = Command::new(&drgn.path);
            command.args(["-q", "-c"]).arg(&dump.files[0]).arg("-s").arg(&vmlinux.path);
            // It would leave __pycache__ in the source tree.
            command.env("PYTHONDONTWRITEBYTECODE", "1").arg(scripts.join("main.py"));
            host::run_to_file(&mut command, &made)?;
            publish(&made, &answers)?;
        }
        Ok(answers)
    }

    /// A kernel, fetched if it is not in the cache.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        kernel::prepare(&self.cache, &self.matrix, self.matrix.kernel(name)?)
    }

    /// A kernel, as the suites have it now.
    pub fn update_kernel(&self, name: &str) -> Result<Kernel> {
        kernel::update(&self.cache, &self.matrix, self.matrix.kernel(name)?)
    }

    /// The programs kmortem is compared with, set up if they are not in the cache.
    pub fn peer_programs(&self) -> Result<Vec<Peer>> {
        peers::programs(&self.cache, &self.matrix)
    }

    /// The debug vmlinux of a kernel, fetched if it is not in the cache.
    pub fn vmlinux(&self, kernel: &str) -> Result<Peer> {
        let spec = self.matrix.kernel(kernel)?;
        peers::vmlinux(&self.cache, &self.matrix, spec, &self.kernel(kernel)?)
    }

    /// The dump of a name, if it is in the cache.
    pub fn find(&self, name: &str) -> Result<Option<LabDump>> {
        let (boot, format) = self.matrix.dump(name)?;
        let Some(kernel) = kernel::cached(&self.cache, self.matrix.kernel(&boot.kernel)?) else {
            return Ok(None);
        };
        let folder = self.folder(boot, &kernel)?;
        if format.files(&folder).iter().all(|file| file.is_file()) {
            return self.describe(boot, format, &kernel, &folder).map(Some);
        }
        Ok(None)
    }

    /// The dump of a name, made if it is not in the cache.
    pub fn dump(&self, name: &str) -> Result<LabDump> {
        if let Some(dump) = self.find(name)? {
            return Ok(dump);
        }
        let (boot, format) = self.matrix.dump(name)?;
        let spec = self.matrix.kernel(&boot.kernel)?;
        let kernel = self.kernel(&boot.kernel)?;
        if boot.hypervisor.is_xen() {
            // The folder is named after it.
            Xen::prepare(&self.cache, &self.matrix)?;
        }
        let folder = self.folder(boot, &kernel)?;
        let _lock = self.cache.lock(&format!("dump-{}", boot.name))?;
        if !folder.is_dir() {
            self.boot(boot, &kernel, &folder)?;
        }
        if !format.files(&folder).iter().all(|file| file.is_file()) {
            let scratch = self.cache.scratch()?;
            let (makedumpfile, _) = self.matrix.makedumpfile.prepare(&self.cache, &self.matrix)?;
            let converter = Converter {
                makedumpfile: &makedumpfile,
                level: spec.filter_level,
                folder: &folder,
                scratch: scratch.path(),
            };
            converter.make(format)?;
            host::note(&format!("{name}: converted"));
        }
        self.describe(boot, format, &kernel, &folder)
    }

    /// Makes dumps, some at a time. Returns those that failed, with the reason.
    pub fn make(&self, names: &[String]) -> Vec<(String, LabError)> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(names.len()) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.dump(name) {
                            host::note(&format!("{name}: FAILED"));
                            if let Ok(mut failed) = failed.lock() {
                                failed.push((name.clone(), error));
                            }
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_default()
    }

    /// Removes from the cache what the matrix and its files do not lead to any
    /// more. Returns the names of what was removed.
    pub fn collect_garbage(&self) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        for spec in &self.matrix.kernels {
            let Some(kernel) = kernel::cached(&self.cache, spec) else { continue };
            kept.push(kernel.root.clone());
            kept.push(self.cache.path("kernels").join(&spec.name).join("current.json"));
            for boot in self.matrix.boots.iter().filter(|boot| boot.kernel == spec.name) {
                kept.push(self.folder(boot, &kernel)?);
            }
        }
        let mut removed = Vec::new();
        let mut places = vec![self.cache.path("dumps"), self.cache.path("tmp")];
        places.extend(
            self.matrix.kernels.iter().map(|spec| self.cache.path("kernels").join(&spec.name)),
        );
        let tools = self.cache.path("tools");
        kept.push(Xen::folder(&self.cache, &self.matrix));
        places.push(tools.clone());
        for place in places {
            let Ok(entries) = fs::read_dir(&place) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                // The other tools have one folder each, whatever their version.
                let other = place == tools && !Xen::is_folder(&path);
                if !other && !kept.contains(&path) {
                    fs::remove_dir_all(&path).map_err(LabError::io("remove", &path))?;
                    removed.push(path.display().to_string());
                }
            }
        }
        Ok(removed)
    }

    /// Where a boot's dumps are kept: named by all that they depend on.
    fn folder(&self, boot: &Boot, kernel: &Kernel) -> Result<PathBuf> {
        let scenario = self.matrix.scenario(&boot.scenario)?;
        let mut parts: Vec<Vec<u8>> =
            vec![LAB_VERSION.into(), boot_settings(boot).into(), scenario.guest.clone().into()];
        parts.extend(kernel.record.packages.iter().map(|package| package.sha256.clone().into()));
        let programs = ["init", "sessiond.c"].into_iter().chain(scenario.program.as_deref());
        for name in programs {
            let path = self.matrix.folder.join("guest").join(name);
            parts.push(fs::read(&path).map_err(LabError::io("read", &path))?);
        }
        if boot.hypervisor.is_xen() {
            let task: &[&str] = match boot.hypervisor {
                Hypervisor::XenHost => &["dom0", "dom0-crash", "capture"],
                _ => &["dom0", "dom0-guest"],
            };
            for name in task {
                let path = self.matrix.folder.join("guest").join(name);
                parts.push(fs::read(&path).map_err(LabError::io("read", &path))?);
            }
            let xen = Xen::cached(&self.cache, &self.matrix);
            let checksums = xen.iter().flat_map(Xen::checksums);
            parts.extend(checksums.map(|checksum| checksum.as_bytes().to_vec()));
        }
        parts.extend(module::source(&self.matrix.folder)?.into_iter().map(|(_, text)| text));
        let key = cache::key(parts.iter().map(Vec::as_slice));
        Ok(self.cache.path("dumps").join(format!("{}-{key}", boot.name)))
    }

    fn boot(&self, boot: &Boot, kernel: &Kernel, folder: &Path) -> Result<()> {
        let spec = self.matrix.kernel(&boot.kernel)?;
        let scenario = self.matrix.scenario(&boot.scenario)?;
        let expect = scenario.expect_on(spec.arch);
        let crasher = module::build(&self.cache, &self.matrix.folder, spec, kernel)?;
        let mut programs = Vec::new();
        for source in [Some("sessiond.c"), scenario.program.as_deref()].into_iter().flatten() {
            let folder = &self.matrix.folder;
            programs.push(initramfs::build_program(&self.cache, folder, spec.arch, source)?);
        }
        let _slot = self.cache.slot(self.jobs)?;
        let mut attempt = 1;
        loop {
            let scratch = self.cache.scratch()?;
            let archive = scratch.path().join("initramfs");
            let bytes = initramfs::build(
                &self.matrix.folder,
                spec.arch,
                kernel,
                &crasher,
                &programs,
                &scenario.guest,
            )?;
            fs::write(&archive, bytes).map_err(LabError::io("write", &archive))?;
            let staged = scratch.path().join("dump");
            fs::create_dir(&staged).map_err(LabError::io("create", &staged))?;
            let machine = Machine {
                boot,
                arch: spec.arch,
                expect: &expect,
                image: &kernel.image()?,
                initramfs: &archive,
                folder: &staged,
            };
            let mut formats = vec![Format::Elf];
            formats.extend(boot.formats.iter().filter(|format| format.needs_boot()));
            host::note(&format!("{}: booting {}", boot.name, kernel.record.release));
            let remains = match boot.hypervisor {
                Hypervisor::Qemu => machine.run(&formats),
                Hypervisor::Libvirt => libvirt::run(&machine, &formats),
                Hypervisor::XenPv | Hypervisor::XenPvh | Hypervisor::XenHost => {
                    let task = xen::Task {
                        machine: &machine,
                        xen: &Xen::prepare(&self.cache, &self.matrix)?,
                        lab: &self.matrix.folder,
                        modules: &kernel.modules(),
                        scenario: &scenario.guest,
                    };
                    task.run()
                }
            };
            match remains {
                Ok(remains) => {
                    let facts = Facts {
                        boot: boot.clone(),
                        kernel: kernel.record.clone(),
                        console: console::parse_facts(&read_text(&remains.console)?),
                        boot_seconds: remains.boot_time.as_secs_f32(),
                        qemu: qemu_version(spec.arch)?,
                        hypervisor: remains.hypervisor,
                        expect: expect.clone(),
                    };
                    finish(&staged, &facts)?;
                    let end = facts.console.panic.as_deref().unwrap_or("dumped alive");
                    host::note(&format!("{}: {:.1} s, {end}", boot.name, facts.boot_seconds));
                    return publish(&staged, folder);
                }
                Err(error) if attempt < ATTEMPTS => {
                    let text = error.to_string();
                    let reason = text.split(';').next().unwrap_or_default();
                    host::note(&format!("again: {reason}"));
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn describe(
        &self,
        boot: &Boot,
        format: Format,
        kernel: &Kernel,
        folder: &Path,
    ) -> Result<LabDump> {
        let spec = self.matrix.kernel(&boot.kernel)?;
        let path = folder.join("facts.json");
        let facts = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| LabError::Data { path, reason: error.to_string() })?;
        let name = match format {
            Format::Elf => boot.name.clone(),
            other => format!("{}.{}", boot.name, other.name()),
        };
        Ok(LabDump {
            name,
            boot: boot.clone(),
            format,
            files: format.files(folder),
            console: folder.join("console.txt"),
            facts,
            expect: self.matrix.scenario(&boot.scenario)?.expect_on(spec.arch),
            kernel_root: kernel.root.clone(),
            kernel_modules: kernel.modules(),
            crasher: module::build(&self.cache, &self.matrix.folder, spec, kernel)?.with_debug,
        })
    }
}

/// All settings of a boot that its dumps depend on.
fn boot_settings(boot: &Boot) -> String {
    let formats: Vec<&str> = boot
        .formats
        .iter()
        .filter(|format| format.needs_boot())
        .map(|format| format.name())
        .collect();
    let settings = format!(
        "{} {} {} {:?} {} {formats:?}",
        boot.memory_mb, boot.cpus, boot.cpu, boot.append, boot.vmcoreinfo
    );
    match boot.hypervisor {
        Hypervisor::Qemu => settings,
        other => format!("{settings} {other:?}"),
    }
}

/// Writes the facts, gives back the disk space of zero pages, lets others read.
fn finish(folder: &Path, facts: &Facts) -> Result<()> {
    let path = folder.join("facts.json");
    let text = serde_json::to_string_pretty(facts)
        .map_err(|error| LabError::Data { path: path.clone(), reason: error.to_string() })?;
    fs::write(&path, text + "\n").map_err(LabError::io("write", &path))?;
    let dumps = Format::all().flat_map(|format| format.files(folder));
    for file in dumps.chain([folder.join("console.txt")]) {
        if file.is_file() {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
                .map_err(LabError::io("write", &file))?;
        }
    }
    // Not every file system has holes; the dump is the same without.
    let dump = Format::Elf.files(folder);
    let _ = host::run(Command::new("fallocate").arg("--dig-holes").args(dump));
    Ok(())
}

fn qemu_version(arch: Arch) -> Result<String> {
    let text = host::output(Command::new(arch.qemu()).arg("--version"))?;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(LabError::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

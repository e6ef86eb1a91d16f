//! The matrix as data: lab/kernels.toml, lab/scenarios/*.toml, lab/dumps.toml.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::debian::archive::Suite;
use crate::error::{LabError, Result};
use crate::format::Format;
use crate::tool::Tool;
use crate::xen::XenSpec;

/// Kernels, scenarios and dumps of the lab.
#[derive(Debug)]
pub struct Matrix {
    /// Folder the data came from.
    pub(crate) folder: PathBuf,
    archives: BTreeMap<String, Archive>,
    /// The makedumpfile that makes the filtered formats.
    pub(crate) makedumpfile: Tool,
    /// The Xen that guests run under.
    pub(crate) xen: XenSpec,
    /// Kernels, in the order of the file.
    pub kernels: Vec<KernelSpec>,
    /// Scenarios, in the order of their names.
    pub scenarios: Vec<Scenario>,
    /// Boots: every kernel with every scenario, then the ones with settings of their own.
    pub boots: Vec<Boot>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    url: String,
    env: String,
}

/// A kernel: where its packages are and how its modules are built.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    /// The lab's name for it, e.g. `k612`.
    pub name: String,
    /// The machine that it runs on.
    #[serde(default)]
    pub arch: Arch,
    pub(crate) suites: Vec<String>,
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    pub(crate) headers: Vec<String>,
    /// Packages of build tools, which run on the host.
    #[serde(default)]
    pub(crate) tools: Vec<String>,
    pub(crate) debug: String,
    /// Scenarios that it is booted into; all when empty.
    #[serde(default)]
    pub(crate) scenarios: Vec<String>,
    #[serde(default)]
    pub(crate) make: Vec<String>,
    pub(crate) filter_level: u8,
    pub(crate) runtime: Option<RuntimeSpec>,
}

/// Packages whose loader and libraries run the kernel's build tools.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeSpec {
    pub(crate) suites: Vec<String>,
    pub(crate) packages: Vec<String>,
}

/// A way to kill a kernel, and the answer that must come out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of its file.
    #[serde(skip)]
    pub name: String,
    /// One sentence.
    pub title: String,
    /// Whether it is booted on every kernel by `lab make`.
    #[serde(default)]
    pub required: bool,
    /// Kernels it is meant for; all when empty.
    #[serde(default)]
    pub kernels: Vec<String>,
    /// Program of lab/guest that is in this guest only, e.g. `busyd.c`.
    pub(crate) program: Option<String>,
    /// What the guest's shell does.
    pub(crate) guest: String,
    /// The answer.
    pub expect: Expect,
    /// What arm64 says otherwise.
    arm64: Option<Words>,
}

/// What the kernel says of one and the same death on another architecture.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    panic: Option<String>,
    console: Option<Vec<String>>,
}

impl Scenario {
    /// The answer on an architecture.
    pub fn expect_on(&self, arch: Arch) -> Expect {
        let mut expect = self.expect.clone();
        if let (Arch::Arm64, Some(words)) = (arch, &self.arm64) {
            expect.panic = words.panic.clone().unwrap_or(expect.panic);
            expect.console = words.console.clone().unwrap_or(expect.console);
        }
        expect
    }
}

/// What an analysis of the dump must find. Names are those of the kernel and
/// of the lab's module; a field is empty where the scenario has no such thing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Kind of cause, e.g. `hung-task`.
    pub kind: String,
    /// Text after "Kernel panic - not syncing: "; empty when the guest was alive.
    pub panic: String,
    /// Other texts that stand on the console.
    pub console: Vec<String>,
    /// Function where it happened.
    pub function: Option<String>,
    /// Module that is to blame.
    pub module: Option<String>,
    /// Name of the task that crashed.
    pub comm: Option<String>,
    /// `softirq`, where it was not a task.
    pub context: Option<String>,
    /// Task that used up the memory.
    pub consumer: Option<String>,
    /// Path of the memory cgroup.
    pub cgroup: Option<String>,
    /// Its limit.
    pub limit_bytes: Option<u64>,
    /// Lock that was waited for or held.
    pub lock: Option<String>,
    /// Task that holds the lock.
    pub holder: Option<String>,
    /// Task that waits for it.
    pub waiter: Option<String>,
    /// Slab cache that is to blame.
    pub slab_cache: Option<String>,
    /// Frames of the dead task's stack, innermost first, others may stand between.
    pub stack: Vec<String>,
    /// The same of the lock holder's stack.
    pub holder_stack: Vec<String>,
    /// Texts that must occur in the report.
    pub names: Vec<String>,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hypervisor {
    /// QEMU.
    #[default]
    Qemu,
    /// QEMU under libvirt: virsh dumps it.
    Libvirt,
    /// Xen, as a paravirtualised guest: xl dumps it.
    XenPv,
    /// Xen, as a guest in hardware virtualisation that boots without firmware.
    XenPvh,
    /// Xen, and it is dom0 that dies: of the whole machine, by kexec. dom0's kernel is a
    /// generic one; the boot's kernel writes the dump.
    XenHost,
}

impl Hypervisor {
    /// Whether the guest is Xen's.
    pub(crate) fn is_xen(self) -> bool {
        matches!(self, Hypervisor::XenPv | Hypervisor::XenPvh | Hypervisor::XenHost)
    }
}

/// One boot of a kernel into a scenario: gives the ELF dump that all other
/// formats are made of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// `KERNEL-SCENARIO`, or a name of its own.
    pub name: String,
    /// Name of the kernel.
    pub kernel: String,
    /// Name of the scenario.
    pub scenario: String,
    /// What runs it.
    #[serde(default)]
    pub hypervisor: Hypervisor,
    /// Memory of the guest.
    #[serde(default = "default_memory")]
    pub memory_mb: u32,
    /// Virtual processors.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Added to the kernel's command line.
    #[serde(default)]
    pub append: String,
    /// QEMU's CPU model; `max` has five-level page tables.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// Whether the guest has QEMU's vmcoreinfo device.
    #[serde(default = "default_true")]
    pub vmcoreinfo: bool,
    /// Whether its virtio devices have packed rings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packed_rings: bool,
    /// Whether `lab make --all` includes it.
    #[serde(default)]
    pub on_demand: bool,
    /// Formats besides `elf`.
    #[serde(default)]
    pub formats: Vec<Format>,
}

fn default_memory() -> u32 {
    256
}

fn default_cpus() -> u32 {
    2
}

fn default_cpu() -> String {
    "max".to_owned()
}

fn default_true() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelsFile {
    archive: BTreeMap<String, Archive>,
    makedumpfile: Tool,
    xen: XenSpec,
    kernel: Vec<KernelSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DumpsFile {
    /// Formats of the boots that have no entry of their own.
    formats: BTreeMap<String, Vec<Format>>,
    boot: Vec<Boot>,
}

impl Matrix {
    /// Reads the matrix of this source tree.
    pub fn load() -> Result<Matrix> {
        Matrix::load_from(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab"))
    }

    /// Reads a matrix from a folder.
    pub fn load_from(folder: &Path) -> Result<Matrix> {
        let kernels: KernelsFile = read_toml(&folder.join("kernels.toml"))?;
        let dumps: DumpsFile = read_toml(&folder.join("dumps.toml"))?;
        let mut matrix = Matrix {
            folder: folder.to_path_buf(),
            archives: kernels.archive,
            makedumpfile: kernels.makedumpfile,
            xen: kernels.xen,
            kernels: kernels.kernel,
            scenarios: read_scenarios(&folder.join("scenarios"))?,
            boots: Vec::new(),
        };
        matrix.boots = matrix.standard_boots();
        for (name, formats) in dumps.formats {
            let boot = matrix.boots.iter_mut().find(|boot| boot.name == name);
            boot.ok_or(LabError::Unknown { what: "boot", name })?.formats = formats;
        }
        matrix.boots.extend(dumps.boot);
        for boot in &matrix.boots {
            matrix.kernel(&boot.kernel)?;
            matrix.scenario(&boot.scenario)?;
            let foreign = |format: &&Format| {
                format.hypervisor().is_some_and(|needed| needed != boot.hypervisor)
            };
            if let Some(format) = boot.formats.iter().find(foreign) {
                return Err(LabError::Data {
                    path: folder.join("dumps.toml"),
                    reason: format!(
                        "{}: {:?} does not write {}",
                        boot.name,
                        boot.hypervisor,
                        format.name()
                    ),
                });
            }
        }
        Ok(matrix)
    }

    fn standard_boots(&self) -> Vec<Boot> {
        let mut boots = Vec::new();
        for kernel in &self.kernels {
            for scenario in &self.scenarios {
                let wanted = |list: &[String], name| list.is_empty() || list.contains(name);
                if !wanted(&scenario.kernels, &kernel.name)
                    || !wanted(&kernel.scenarios, &scenario.name)
                {
                    continue;
                }
                boots.push(Boot {
                    name: format!("{}-{}", kernel.name, scenario.name),
                    kernel: kernel.name.clone(),
                    scenario: scenario.name.clone(),
                    hypervisor: Hypervisor::Qemu,
                    memory_mb: default_memory(),
                    cpus: default_cpus(),
                    append: String::new(),
                    cpu: default_cpu(),
                    vmcoreinfo: true,
                    packed_rings: false,
                    // Those that a kernel names are the ones it is there for.
                    on_demand: !scenario.required && kernel.scenarios.is_empty(),
                    formats: Vec::new(),
                });
            }
        }
        boots
    }

    /// The kernel of a name.
    pub fn kernel(&self, name: &str) -> Result<&KernelSpec> {
        let found = self.kernels.iter().find(|kernel| kernel.name == name);
        found.ok_or_else(|| LabError::Unknown { what: "kernel", name: name.to_owned() })
    }

    /// The scenario of a name.
    pub fn scenario(&self, name: &str) -> Result<&Scenario> {
        let found = self.scenarios.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| LabError::Unknown { what: "scenario", name: name.to_owned() })
    }

    /// The boot and the format of a dump's name, `BOOT` or `BOOT.FORMAT`.
    pub fn dump(&self, name: &str) -> Result<(&Boot, Format)> {
        let unknown = || LabError::Unknown { what: "dump", name: name.to_owned() };
        let (boot_name, format) = match name.split_once('.') {
            Some((boot, format)) => (boot, Format::from_name(format).ok_or_else(unknown)?),
            None => (name, Format::Elf),
        };
        let boot = self.boots.iter().find(|boot| boot.name == boot_name).ok_or_else(unknown)?;
        if format.needs_boot() && !boot.formats.contains(&format) {
            return Err(unknown());
        }
        Ok((boot, format))
    }

    /// The suites that "archive/suite" names stand for.
    pub(crate) fn suites(&self, names: &[String]) -> Result<Vec<Suite>> {
        names.iter().map(|name| self.suite(name)).collect()
    }

    /// The same with the packages of `arch`.
    pub(crate) fn suites_of(&self, names: &[String], arch: Arch) -> Result<Vec<Suite>> {
        let suites = self.suites(names)?;
        Ok(suites.into_iter().map(|suite| Suite { arch, ..suite }).collect())
    }

    fn suite(&self, name: &str) -> Result<Suite> {
        let unknown = || LabError::Unknown { what: "suite", name: name.to_owned() };
        let (archive, suite) = name.split_once('/').ok_or_else(unknown)?;
        let archive = self.archives.get(archive).ok_or_else(unknown)?;
        let mirror = std::env::var(&archive.env).unwrap_or_else(|_| archive.url.clone());
        let mirror = mirror.trim_end_matches('/').to_owned();
        Ok(Suite { mirror, name: suite.to_owned(), arch: Arch::Amd64 })
    }
}

fn read_scenarios(folder: &Path) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(folder).map_err(LabError::io("read", folder))? {
        let path = entry.map_err(LabError::io("read", folder))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let mut scenario: Scenario = read_toml(&path)?;
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        scenarios.push(scenario);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

pub(crate) fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(LabError::io("read", path))?;
    toml::from_str(&text)
        .map_err(|error| LabError::Data { path: path.to_path_buf(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_of_the_tree_is_whole() {
        let matrix = Matrix::load().unwrap();
        let required = matrix.scenarios.iter().filter(|scenario| scenario.required).count();
        let standard = matrix.boots.iter().filter(|boot| !boot.on_demand).count();
        assert!(required >= 8, "{required} required scenarios");
        let full = matrix.kernels.iter().filter(|kernel| kernel.scenarios.is_empty()).count();
        assert!(standard >= required * full, "{standard} boots");
        for kernel in &matrix.kernels {
            for name in &kernel.scenarios {
                assert!(matrix.scenario(name).is_ok(), "{} has no {name}", kernel.name);
            }
        }
        let mut names: Vec<&str> = matrix.boots.iter().map(|boot| boot.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), matrix.boots.len(), "two boots have one name");
    }

    #[test]
    fn every_scenario_says_what_must_come_out() {
        for scenario in Matrix::load().unwrap().scenarios {
            assert!(!scenario.expect.kind.is_empty(), "{}", scenario.name);
            assert!(!scenario.guest.trim().is_empty(), "{}", scenario.name);
            let alive = scenario.expect.kind == "alive";
            assert_eq!(scenario.expect.panic.is_empty(), alive, "{}", scenario.name);
        }
    }

    #[test]
    fn names_a_dump_by_boot_and_format() {
        let matrix = Matrix::load().unwrap();
        let (boot, format) = matrix.dump("k61-null.kdump-zlib").unwrap();
        assert_eq!((boot.name.as_str(), format), ("k61-null", Format::KdumpZlib));
        assert_eq!(matrix.dump("k61-null").unwrap().1, Format::Elf);
        assert!(matrix.dump("k61-null.qemu-zlib").is_err(), "QEMU was not asked for it");
        assert!(matrix.dump("k61-nothing").is_err());
        assert!(matrix.dump("k61-null.zip").is_err());
    }
}

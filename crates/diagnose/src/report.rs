//! The report: everything that the renderers show, as values.
//!
//! The JSON form is documented in docs/report-schema.md; [`SCHEMA`] names its
//! version. Within one version members are only added.

use kmortem_kernel::Kernel;
use kmortem_kernel::clock::ClockSource;
use kmortem_vmcore::ContainerInfo;
use serde::Serialize;

use crate::case::Case;
use crate::detectors;
use crate::finding::Finding;
use crate::rest::{Missing, Rest, missing};
use crate::signature::Signature;

/// Name and version of the report's schema.
pub const SCHEMA: &str = "kmortem.report/1";

/// The file or files that were read.
#[derive(Debug, Clone, Serialize)]
pub struct DumpFacts {
    /// A short name: the first file's, without its folder and ending.
    pub name: String,
    /// What the container says.
    pub container: ContainerInfo,
    /// How the kernel was found in it.
    pub found_by: String,
}

/// The kernel and what it ran on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MachineFacts {
    /// `uname -r`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// `uname -v`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `uname -m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodename: Option<String>,
    /// Kernel command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The hypervisor below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// What says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor_evidence: Option<String>,
    /// Maker and model, by the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Processor model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<usize>,
    /// Bytes of RAM.
    pub memory_bytes: u64,
}

/// When it happened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WhenFacts {
    /// Wall time of the end, seconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<i64>,
    /// Time since boot, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ns: Option<u64>,
    /// Where these were read; why not, when they could not be.
    pub source: String,
}

/// The task on the CPU that panicked. It is not always the culprit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CrashedFacts {
    /// Thread ID.
    pub pid: i32,
    /// Name.
    pub comm: String,
    /// The CPU.
    pub cpu: u32,
    /// How it was found.
    pub known_by: String,
}

/// A report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The dump.
    pub dump: DumpFacts,
    /// The machine.
    pub machine: MachineFacts,
    /// When.
    pub when: WhenFacts,
    /// Whether the kernel had stopped itself; false for dumps of living machines.
    pub died: bool,
    /// The panic's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<String>,
    /// The task on the CPU that panicked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crashed: Option<CrashedFacts>,
    /// What killed it.
    pub cause: Finding,
    /// What was seen besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Finding>,
    /// The bug's short name.
    pub signature: Signature,
    /// The rest of the machine.
    pub rest: Rest,
    /// What the dump lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
}

/// Works out the report. Never fails: what can't be had says why.
pub fn report(kernel: &Kernel) -> Report {
    let case = Case::open(kernel);
    let mut findings = detectors::judge(&case);
    let mut cause = findings.remove(0);
    // The log in its order, then what else proves it.
    cause.evidence.sort_by_key(|e| e.at_ns.unwrap_or(u64::MAX));
    // A second explanation of the same panic adds nothing: other trouble does.
    findings.retain(|f| !f.fatal);
    findings.truncate(3);
    Report {
        schema: SCHEMA,
        dump: dump_facts(kernel),
        machine: machine_facts(kernel),
        when: when_facts(kernel, &case),
        died: case.is_dead(),
        panic: case.panic.as_ref().map(|(_, text)| text.clone()),
        crashed: case.crashed.as_ref().map(|c| CrashedFacts {
            pid: c.task.pid,
            comm: c.task.comm.clone(),
            cpu: c.cpu,
            known_by: c.how.clone(),
        }),
        signature: Signature::of(&cause),
        cause,
        also: findings,
        rest: Rest::of(&case),
        missing: missing(&case),
    }
}

fn dump_facts(kernel: &Kernel) -> DumpFacts {
    let container = kernel.image().info().clone();
    let path = container.files.first().map_or("dump", |f| f.name.as_str());
    DumpFacts { name: short_name(path), found_by: kernel.how_found().to_owned(), container }
}

/// "web-7" of /dumps/web-7.vmcore.1; a file that is just called vmcore goes by
/// its folder, which kdump names after host and time.
fn short_name(path: &str) -> String {
    let mut parts = path.rsplit('/').filter(|p| !p.is_empty());
    let file = parts.next().unwrap_or(path);
    let stem = file.split_once(".vmcore").map_or(file, |(stem, _)| stem);
    let nameless = matches!(stem.split('.').next(), Some("vmcore" | "dump" | "core"));
    match parts.next() {
        Some(folder) if nameless && folder != "." && folder != ".." => folder.to_owned(),
        _ => stem.to_owned(),
    }
}

fn machine_facts(kernel: &Kernel) -> MachineFacts {
    // What the kernel counts as RAM; the container may count video memory, too.
    let present = kernel.nodes().ok().map(|nodes| nodes.iter().map(|n| n.present).sum::<u64>());
    let memory_bytes = match present {
        Some(pages) if pages > 0 => pages * kernel.page_size(),
        _ => kernel.image().ram().iter().map(|r| r.end - r.start).sum(),
    };
    let mut facts = MachineFacts { memory_bytes, ..MachineFacts::default() };
    let platform = kernel.platform();
    facts.cpu_model = platform.cpu.map(|c| c.name);
    if let Some(hypervisor) = platform.hypervisor {
        facts.hypervisor = Some(hypervisor.name);
        facts.hypervisor_evidence = Some(hypervisor.evidence);
    }
    facts.hardware = platform.dmi.and_then(|dmi| match (dmi.sys_vendor, dmi.product_name) {
        (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
        (one, other) => one.or(other),
    });
    let word = |member: &str| -> Option<String> {
        kernel.object("init_uts_ns").ok()?.field("name").ok()?.field(member).ok()?.string().ok()
    };
    facts.release = word("release")
        .or_else(|| kernel.vmcoreinfo().and_then(|v| v.osrelease()).map(str::to_owned));
    facts.version = word("version");
    facts.machine = word("machine");
    facts.nodename = word("nodename");
    facts.command_line = kernel.kernel_command_line().ok();
    facts.cpus = kernel.cpus("present").ok().map(|c| c.len());
    facts
}

fn when_facts(kernel: &Kernel, case: &Case<'_>) -> WhenFacts {
    match kernel.clock() {
        Ok(clock) => WhenFacts {
            wall_s: Some(clock.realtime_ns.div_euclid(1_000_000_000)),
            uptime_ns: u64::try_from(clock.boottime_ns).ok(),
            source: match clock.source {
                ClockSource::Timekeeper => "the kernel's timekeeper".into(),
                ClockSource::Shadow => "the timekeeper's shadow copy".into(),
            },
        },
        Err(e) => WhenFacts {
            wall_s: kernel
                .vmcoreinfo()
                .and_then(|v| v.crash_time())
                .and_then(|s| i64::try_from(s).ok()),
            uptime_ns: case.panic.as_ref().map(|(at, _)| *at),
            source: format!("the log and VMCOREINFO; the timekeeper can't be read: {e}"),
        },
    }
}

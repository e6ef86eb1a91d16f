//! The state of everything that did not die, and what the dump lacks.

use kmortem_kernel::task::TaskState;
use serde::Serialize;

use crate::case::Case;
use crate::oops::IncidentKind;

/// A process and its resident memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopTask {
    /// Process ID.
    pub pid: i32,
    /// Name.
    pub comm: String,
    /// Resident memory, bytes.
    pub bytes: u64,
}

/// A task in D state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Thread ID.
    pub pid: i32,
    /// Name.
    pub comm: String,
    /// The first function on its stack that is not the scheduler or a lock.
    #[serde(rename = "in")]
    pub place: String,
}

/// The rest of the machine. A part that can't be had is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rest {
    /// Bytes of memory that the kernel managed, and of that free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<(u64, u64)>,
    /// Swap: bytes and of that free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<(u64, u64)>,
    /// Tasks, idle ones aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<usize>,
    /// Of those in D state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<usize>,
    /// Who is in D state (at most 8).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_tasks: Vec<Blocked>,
    /// The largest processes (at most 3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopTask>,
    /// Load averages over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Taint letters ("" when untainted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taint: Option<String>,
    /// What each taint letter means.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taint_meanings: Vec<String>,
    /// Block requests without an answer: (disk, how many).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_in_flight: Option<Vec<(String, usize)>>,
    /// How often the log tells of what, the cause's own kind aside. None when
    /// there is no log to count in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_counts: Option<LogCounts>,
}

/// What else the log tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct LogCounts {
    pub oopses: usize,
    pub warnings: usize,
    pub oom: usize,
    pub io_errors: usize,
    pub machine_checks: usize,
}

/// Something that the dump does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// What can't be said without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<String>,
}

impl Rest {
    pub(crate) fn of(case: &Case<'_>) -> Rest {
        let count = |kinds: &[IncidentKind]| {
            case.incidents.iter().filter(|i| kinds.contains(&i.kind)).count()
        };
        let mut rest = Rest {
            log_counts: case.log_error.is_none().then(|| LogCounts {
                oopses: case.incidents.iter().filter(|i| i.kind.is_oops()).count(),
                warnings: count(&[IncidentKind::Warning]),
                oom: count(&[IncidentKind::Oom]),
                io_errors: count(&[IncidentKind::IoError]),
                machine_checks: count(&[IncidentKind::MachineCheck]),
            }),
            ..Rest::default()
        };
        let Some(kernel) = case.kernel() else { return rest };
        if let Ok(memory) = case.memory() {
            let size = memory.page_size;
            rest.memory_bytes = Some((memory.total * size, memory.free * size));
            rest.swap_bytes = memory
                .swap_total
                .zip(memory.swap_free)
                .filter(|(total, _)| *total > 0)
                .map(|(total, free)| (total * size, free * size));
        }
        let tasks = case.tasks();
        if !tasks.is_empty() {
            rest.tasks = Some(tasks.iter().filter(|t| t.pid != 0).count());
            let blocked = tasks.iter().filter(|t| t.state == TaskState::Uninterruptible);
            rest.blocked = Some(blocked.count());
        }
        rest.blocked_tasks = case
            .sleepers()
            .iter()
            .take(8)
            .map(|s| Blocked {
                pid: s.task.pid,
                comm: s.task.comm.clone(),
                place: s
                    .stack
                    .frames
                    .iter()
                    .map(|f| f.function())
                    .find(|f| !f.is_empty() && !crate::noise::is_waiting(f))
                    .unwrap_or("?")
                    .to_owned(),
            })
            .collect();
        rest.top = crate::detectors::largest_tasks(case, 3)
            .into_iter()
            .map(|(task, bytes)| TopTask { pid: task.pid, comm: task.comm, bytes })
            .collect();
        rest.load = kernel.clock().ok().and_then(|c| c.load);
        if let Ok(taints) = kernel.taints() {
            rest.taint_meanings =
                taints.list.iter().map(|t| format!("{} {}", t.letter, t.meaning)).collect();
            rest.taint = Some(taints.letters);
        }
        rest.io_in_flight = kernel.disks().ok().map(|disks| {
            disks
                .list
                .iter()
                .filter(|d| !d.requests.is_empty())
                .map(|d| (d.name.clone().unwrap_or_default(), d.requests.len()))
                .collect()
        });
        rest
    }
}

/// What the dump lacks, why, and what that costs.
pub(crate) fn missing(case: &Case<'_>) -> Vec<Missing> {
    let mut found = Vec::new();
    let mut add = |what: &str, why: String, costs: Option<&str>| {
        let costs = costs.map(str::to_owned);
        found.push(Missing { what: what.to_owned(), why, costs });
    };
    if let Some(why) = &case.log_error {
        add("the kernel's log", why.clone(), Some("the panic's own words and earlier trouble"));
    }
    let Some(kernel) = case.kernel() else { return found };
    let complete = kernel.image().completeness();
    if let Some(why) = &complete.incomplete {
        let lost = complete.lost.filter(|n| *n > 0).map(|n| format!(" ({n} pages lost)"));
        add(
            "part of the dump",
            format!("{why}{}", lost.unwrap_or_default()),
            Some("whatever lay there"),
        );
    }
    if let Err(e) = kernel.btf() {
        add("type information", e.to_string(), Some("everything but the log, symbols and stacks"));
    }
    match kernel.tasks() {
        Ok(tasks) => {
            if let Some(first) = tasks.broken.first() {
                let more = match tasks.broken.len() {
                    1 => String::new(),
                    n => format!(" (and {} more)", n - 1),
                };
                add("some tasks", format!("{first}{more}"), Some("their stacks and their waits"));
            }
        }
        Err(e) => add("the tasks", e.to_string(), Some("stacks, locks, who did it")),
    }
    if let Some(e) = kernel.modules_broken() {
        add("some modules", e.to_string(), Some("their symbols: their frames have no names"));
    }
    if let Ok(memory) = case.memory()
        && let Some(first) = memory.gaps.reasons().first()
    {
        add("part of the memory counters", first.clone(), None);
    }
    if case.crashed.is_none() && case.is_dead() {
        add(
            "the crashed task",
            match kernel.crashed_task() {
                Err(e) => e.to_string(),
                Ok(_) => "no CPU says that it panicked".into(),
            },
            Some("the stack that matters"),
        );
    }
    slab_pages(kernel, &complete, &mut found);
    found
}

/// A filter that dropped slab pages: they are kernel data at every level, so
/// it took them for something else. makedumpfile does that when it is older
/// than the kernel and misreads `struct page` (page types moved in v6.10 and
/// v6.12).
fn slab_pages(
    kernel: &kmortem_kernel::Kernel,
    complete: &kmortem_vmcore::Completeness,
    found: &mut Vec<Missing>,
) {
    if complete.filtered == Some(0) {
        return;
    }
    // Tasks are slab objects.
    if found.iter().any(|m| m.what.contains("tasks") && m.why.contains("filtered out")) {
        let release = kernel.vmcoreinfo().and_then(|v| v.osrelease()).unwrap_or("this kernel");
        found.push(Missing {
            what: "pages of the kernel's own objects".into(),
            why: format!(
                "the dump's filter dropped slab pages, which no level asks for; most likely a makedumpfile \
                 older than {release} misreads its struct page"
            ),
            costs: Some("tasks, modules, files and whatever else lay in them".into()),
        });
    }
}

//! The machine ran out of memory and vm.panic_on_oom made that a panic.
//!
//! Mechanism: an allocation fails after reclaim, `out_of_memory` is called;
//! with panic_on_oom=1 (for a global shortage) or 2 (any) it panics instead of
//! killing a process. Evidence: `out_of_memory` on the crashed stack without
//! the memory controller, the kernel's own counters of what the memory is used
//! for, the largest tasks, tmpfs mounts and slab caches. The task that asked
//! is often a bystander: who *holds* the memory is the cause. Refuted by:
//! mem_cgroup_out_of_memory on the stack (a cgroup's limit). Kernels: all.
//! Reference: mm/oom_kill.c.

use kmortem_kernel::task::Task;
use rayon::prelude::*;

use crate::case::Case;
use crate::finding::{Advice, Bar, Finding, Kind, Level, Section, Source};
use crate::oops::IncidentKind;
use crate::text::bytes;

use super::common::{add_log, crashed_stack, is_a_cgroup_s, log_line, who};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref();
    let on_stack = crashed.filter(|c| {
        c.is_dying() && c.stack.has("out_of_memory") && !c.stack.has("mem_cgroup_out_of_memory")
    });
    let panic = case.panic_text();
    let said =
        panic.starts_with("Out of memory") || panic.starts_with("System is deadlocked on memory");
    if on_stack.is_none() && !said {
        return None;
    }
    if is_a_cgroup_s(case) {
        return None;
    }
    let holder = holder(case);
    let asked = match on_stack {
        Some(c) => format!("{} asked for a page and there was none", who(&c.task)),
        None => "a task asked for a page and there was none".to_owned(),
    };
    let deadlocked = panic.contains("no killable processes");
    let constraint = constraint(case);
    let why = if deadlocked {
        "No process was left that could be killed.".to_owned()
    } else {
        setting_sentence(case)
    };
    let scope = match constraint.as_deref() {
        Some("CONSTRAINT_CPUSET") => "The memory of a cpuset ran out",
        Some("CONSTRAINT_MEMORY_POLICY") => "The memory of a node set (mempolicy) ran out",
        _ => "The machine ran out of memory",
    };
    let same = on_stack.is_some_and(|c| {
        holder.as_ref().is_some_and(|h| h.sentence.starts_with(&format!("{} holds", who(&c.task))))
    });
    let cause = match &holder {
        Some(h) if same => format!("{scope}: {}, and asked for more. {why}", h.sentence),
        Some(h) => format!("{scope}: {}. Then {asked}. {why}", h.sentence),
        None => format!("{scope}: {asked}. {why}"),
    };
    let level = match (&holder, on_stack) {
        (Some(h), Some(_)) if h.clear => Level::Certain,
        (Some(_), Some(_)) => Level::Likely,
        _ => Level::Possible,
    };
    let reason = match level {
        Level::Certain => "out_of_memory() panicked, and the counters show who holds the memory",
        Level::Likely => "out_of_memory() panicked; no single user holds most of the memory",
        _ => "the panic says so; stack or counters can't be read",
    };
    let mut finding = Finding::new(Kind::Oom, cause, level, reason);
    finding.functions = vec!["out_of_memory".into()];
    finding.subject = holder.as_ref().map(|h| h.subject.clone());
    if let Some(c) = on_stack {
        finding.task = Some((c.task.pid, c.task.comm.clone()));
    }
    add_log(case, &mut finding, case.last(&[IncidentKind::Oom]));
    if let Some(line) = case.last_line("oom-kill:constraint") {
        finding.evidence.push(log_line(line));
    }
    if let Some(value) = case.setting(&["sysctl_panic_on_oom"]) {
        finding.proof(Source::Setting, format!("vm.panic_on_oom={value}"));
    }
    if let Some(holder) = holder {
        for proof in holder.proof {
            finding.proof(Source::Object, proof);
        }
        finding.next.push(Advice::words(holder.advice));
    }
    match case.memory() {
        Ok(memory) => finding.sections.extend(memory_bars(memory, "MEMORY OF THE MACHINE")),
        Err(why) => finding.against.push(format!("the memory counters can't be read: {why}")),
    }
    if let Some(c) = on_stack {
        finding.sections.push(crashed_stack(c, "STACK OF THE TASK THAT ASKED", ""));
    }
    if case.setting(&["sysctl_panic_on_oom"]).is_some_and(|v| v != 0) {
        finding.next.push(Advice::words(
            "vm.panic_on_oom is rarely meant on a server: 0 kills the largest task and goes on",
        ));
    }
    finding.next.push(Advice::run("memory in numbers", &["kmem -i", "ps"]));
    Some(finding)
}

/// "vm.panic_on_oom=1 turned that into a panic."
pub(super) fn setting_sentence(case: &Case<'_>) -> String {
    match case.setting(&["sysctl_panic_on_oom"]) {
        Some(2) => "vm.panic_on_oom=2 turns every shortage, even a cgroup's, into a panic.".into(),
        Some(n) if n != 0 => format!("vm.panic_on_oom={n} turned that into a panic."),
        _ if case.panic_text().contains("compulsory") => {
            "vm.panic_on_oom=2 turns every shortage, even a cgroup's, into a panic.".into()
        }
        _ => "vm.panic_on_oom turned that into a panic.".into(),
    }
}

fn constraint(case: &Case<'_>) -> Option<String> {
    let (_, text) = case.last_line("constraint=CONSTRAINT_")?;
    let rest = text.split_once("constraint=")?.1;
    Some(rest.split([',', ' ']).next()?.to_owned())
}

/// Who holds the memory.
struct Holder {
    sentence: String,
    subject: String,
    proof: Vec<String>,
    advice: String,
    /// Whether it holds most of what is in use.
    clear: bool,
}

fn holder(case: &Case<'_>) -> Option<Holder> {
    let memory = case.memory().ok()?;
    let size = memory.page_size;
    let total = memory.total * size;
    let shmem = memory.shmem.unwrap_or(0) * size;
    let anon = memory.anon.unwrap_or(0) * size;
    let slab = memory.slab_unreclaimable.unwrap_or(0) * size;
    let largest = anon.max(shmem).max(slab);
    let clear = largest * 2 > total.saturating_sub(memory.free * size);
    let percent = |n: u64| n * 100 / total.max(1);
    if largest == 0 {
        return None;
    }
    if largest == shmem {
        let mounts = crate::tmpfs::largest_mounts(case);
        let mount =
            mounts.first().map(|m| format!("; the tmpfs at {} holds {}", m.path, bytes(m.bytes)));
        let at = mounts.first().map_or(String::new(), |m| format!(" at {}", m.path));
        return Some(Holder {
            sentence: format!(
                "files in tmpfs and shared memory (shmem) hold {} of {}, {} %{}",
                bytes(shmem),
                bytes(total),
                percent(shmem),
                mount.unwrap_or_default()
            ),
            subject: "shmem".into(),
            proof: mounts
                .iter()
                .take(3)
                .map(|m| format!("tmpfs {}: {} in use", m.path, bytes(m.bytes)))
                .collect(),
            advice: format!(
                "delete files in the tmpfs{at} or mount it with a size= limit; killing processes \
                 would not have freed this memory"
            ),
            clear,
        });
    }
    if largest == slab {
        let caches = largest_caches(case, 3);
        let top = caches.first()?;
        return Some(Holder {
            sentence: format!(
                "the kernel's slab caches hold {} of {}, {} %; {} alone {}",
                bytes(slab),
                bytes(total),
                percent(slab),
                top.name,
                bytes(top.bytes)
            ),
            subject: format!("cache {}", top.name),
            proof: caches
                .iter()
                .map(|c| format!("cache {}: {} objects, {}", c.name, c.objects, bytes(c.bytes)))
                .collect(),
            advice: format!("find who allocates from the cache {} and does not free", top.name),
            clear,
        });
    }
    let tasks = largest_tasks(case, 3, |_| true);
    let top = tasks.first()?;
    Some(Holder {
        sentence: format!(
            "{} holds {} of {}, {} %",
            who(&top.task),
            bytes(top.bytes),
            bytes(total),
            percent(top.bytes)
        ),
        subject: format!("task {}", top.task.comm),
        proof: tasks
            .iter()
            .map(|t| {
                format!(
                    "task {}: {} in memory, of it {} anonymous",
                    who(&t.task),
                    bytes(t.bytes),
                    bytes(t.anon)
                )
            })
            .collect(),
        advice: format!(
            "find out why {} grew, or give it a limit (cgroup memory.max)",
            top.task.comm
        ),
        clear: clear && top.bytes * 2 > anon,
    })
}

/// A process and its memory.
pub(super) struct TaskUse {
    pub(super) task: Task,
    pub(super) bytes: u64,
    pub(super) anon: u64,
}

/// The processes that hold most memory.
pub(super) fn largest_tasks(
    case: &Case<'_>,
    most: usize,
    which: impl Fn(&Task) -> bool + Sync,
) -> Vec<TaskUse> {
    let Some(kernel) = case.kernel() else { return Vec::new() };
    let size = kernel.page_size();
    let mut found: Vec<TaskUse> = case
        .tasks()
        .par_iter()
        .filter(|t| t.mm != 0 && t.is_leader() && which(t))
        .filter_map(|task| {
            let memory = kernel.task_memory(task).ok()??;
            Some(TaskUse {
                task: task.clone(),
                bytes: memory.rss().max(0) as u64 * size,
                anon: memory.rss_anon.max(0) as u64 * size,
            })
        })
        .collect();
    found.sort_by_key(|t| (std::cmp::Reverse(t.bytes), t.task.pid));
    found.truncate(most);
    found
}

/// A slab cache that is worth a line.
pub(super) struct CacheUse {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) objects: u64,
    pub(super) object_size: u32,
}

/// The caches that hold most memory.
pub(super) fn largest_caches(case: &Case<'_>, most: usize) -> Vec<CacheUse> {
    let Some(caches) = case.kernel().and_then(|k| k.slab_caches().ok()) else { return Vec::new() };
    let mut found: Vec<CacheUse> = caches
        .into_iter()
        .map(|c| CacheUse {
            bytes: c.bytes(),
            name: c.name,
            objects: c.allocated,
            object_size: c.object_size,
        })
        .collect();
    found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    found.truncate(most);
    found
}

/// What the machine's memory is used for, as a chart.
pub(super) fn memory_bars(memory: &kmortem_kernel::memory::Memory, title: &str) -> Option<Section> {
    let size = memory.page_size;
    let shmem = memory.shmem.unwrap_or(0);
    let cache = memory.cached.map(|c| c.saturating_sub(shmem));
    let kernel = [
        memory.page_tables,
        memory.kernel_stack_kib.map(|k| (k << 10) / size),
        memory.vmalloc,
        memory.per_cpu,
    ]
    .into_iter()
    .flatten()
    .sum::<u64>();
    let rows = [
        ("free", Some(memory.free + memory.per_cpu_free)),
        ("anon", memory.anon),
        ("shmem", memory.shmem),
        ("files", cache),
        ("slab", memory.slab()),
        ("kernel", Some(kernel)),
    ];
    let bars: Vec<Bar> = rows
        .into_iter()
        .filter_map(|(label, pages)| Some(Bar { label: label.into(), bytes: pages? * size }))
        .collect();
    (memory.total > 0).then(|| Section::Bars {
        title: format!("{title} ({})", bytes(memory.total * size)),
        full_bytes: memory.total * size,
        bars,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "20.0 dd invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
        20.1 Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled";

    #[test]
    fn a_global_shortage_is_told_from_a_cgroup_s() {
        let global = ["panic", "out_of_memory", "__alloc_pages_slowpath", "shmem_get_folio_gfp"];
        let finding = detect(&case(LOG, "dd", &global, None)).unwrap();
        assert_eq!(finding.kind, Kind::Oom);
        // Without counters nobody can be blamed.
        assert_eq!(finding.confidence.level, Level::Possible);
        let cgroup = ["panic", "out_of_memory", "mem_cgroup_out_of_memory", "try_charge_memcg"];
        assert!(detect(&case(LOG, "dd", &cgroup, None)).is_none());
    }

    #[test]
    fn an_oom_that_was_survived_is_no_cause() {
        let log = "20.0 dd invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0
            90.0 Kernel panic - not syncing: Fatal exception";
        assert!(detect(&case(log, "dd", &["panic", "oops_end", "f"], None)).is_none());
    }
}

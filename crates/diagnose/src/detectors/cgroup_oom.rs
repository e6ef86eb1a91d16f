//! A control group reached its memory limit, and vm.panic_on_oom=2 made that a
//! panic of the whole machine.
//!
//! Mechanism: a charge fails after reclaim within the group,
//! `mem_cgroup_out_of_memory` is called; only panic_on_oom=2 panics for it.
//! Evidence: that function on the crashed stack; the `struct mem_cgroup` that
//! its `struct oom_control` names lies on the same stack; the group's own
//! counters (usage, max). Refuted by: usage well below max. Kernels: cgroup v1
//! and v2. Reference: mm/memcontrol.c, mm/oom_kill.c.

use kmortem_kernel::Kernel;
use kmortem_kernel::cgroup::Cgroup;

use crate::case::{Case, Crashed};
use crate::finding::{Advice, Bar, Finding, Kind, Level, Section, Source};
use crate::oops::IncidentKind;
use crate::text::bytes;

use super::common::{add_log, crashed_stack, is_a_cgroup_s, who};
use super::oom::{largest_tasks, memory_bars, setting_sentence};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    if !is_a_cgroup_s(case) {
        return None;
    }
    let found = group(case, crashed);
    let logged_path = case
        .last_line("Memory cgroup stats for ")
        .and_then(|(_, t)| t.split_once("stats for "))
        .map(|(_, rest)| rest.trim().trim_end_matches(':').to_owned());
    let path = found.as_ref().map(|(g, _)| g.path.clone()).or_else(|| logged_path.clone());
    let name = path.clone().unwrap_or_else(|| "(its name is not in the dump)".into());
    let memory = found.as_ref().and_then(|(g, _)| g.memory.as_ref());
    let limit = memory.and_then(|m| m.max).map(bytes);
    let limit = limit.map_or(String::new(), |l| format!(" ({l})"));
    let cause = format!(
        "The cgroup {name} reached its memory limit{limit}; {} could not get a page. {}",
        who(&crashed.task),
        setting_sentence(case)
    );
    let full = memory.is_some_and(|m| m.max.is_some_and(|max| m.usage + max / 8 >= max));
    let (level, reason) = match (&found, full) {
        (Some((_, how)), true) => (Level::Certain, *how),
        (Some(_), false) => {
            (Level::Likely, "the group is named, but its usage is below its limit now")
        }
        (None, _) => {
            (Level::Likely, "the charge failed on this stack; the group's counters can't be read")
        }
    };
    let mut finding = Finding::new(Kind::CgroupOom, cause, level, reason);
    finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
    finding.functions = vec!["mem_cgroup_out_of_memory".into()];
    finding.subject = Some(format!("task {}", crashed.task.comm));
    add_log(case, &mut finding, case.last(&[IncidentKind::Oom]));
    if let (Some(objects), Some(logged)) = (&path, &logged_path)
        && objects != logged
    {
        finding.against.push(format!("the log names the cgroup {logged}"));
    }
    if let Some(value) = case.setting(&["sysctl_panic_on_oom"]) {
        finding.proof(Source::Setting, format!("vm.panic_on_oom={value}"));
    }
    if let (Some((group, _)), Some(memory)) = (&found, memory) {
        let max = memory.max.map_or("none".to_owned(), bytes);
        let failures = memory.failures.map_or(String::new(), |n| format!(", {n} charges failed"));
        finding.proof(
            Source::Object,
            format!("{}: memory {} of max {max}{failures}", group.path, bytes(memory.usage)),
        );
        finding.sections.extend(group_bars(group));
    }
    let inside = tasks_inside(case, path.as_deref());
    if let Some(top) = inside.first() {
        finding.proof(
            Source::Object,
            format!("largest task in it: {} with {}", who(&top.task), bytes(top.bytes)),
        );
    }
    if let Ok(memory) = case.memory() {
        finding.sections.extend(memory_bars(memory, "MEMORY OF THE MACHINE"));
        let free = memory.free * memory.page_size;
        finding.proof(Source::Object, format!("the machine itself had {} free", bytes(free)));
    }
    finding.sections.push(crashed_stack(crashed, "STACK OF THE TASK THAT ASKED", ""));
    let grower = inside.first().map_or(crashed.task.comm.clone(), |t| t.task.comm.clone());
    finding
        .next
        .push(Advice::words(format!("raise memory.max of {name}, or find out why {grower} grows")));
    finding.next.push(Advice::words(
        "vm.panic_on_oom=2 is rarely meant on a server: 0 kills a task of the cgroup and goes on",
    ));
    Some(finding)
}

/// The group whose limit was met: the one that the stack names.
/// The words of the stack around `mem_cgroup_out_of_memory`: `struct
/// oom_control` is a local of that function, and its caller has the group in a
/// register or on its stack.
fn words_near_the_failure(kernel: &Kernel, crashed: &Crashed) -> Option<Vec<u64>> {
    let frames = &crashed.stack.frames;
    let at = frames.iter().position(|f| f.function() == "mem_cgroup_out_of_memory")?;
    let start = frames.get(at.checked_sub(1)?)?.sp;
    let end = frames.get(at + 2).or(frames.last())?.sp.min(start.saturating_add(4096));
    Some((start..end).step_by(8).filter_map(|a| kernel.read_u64(a).ok()).collect())
}

fn group(case: &Case<'_>, crashed: &Crashed) -> Option<(Cgroup, &'static str)> {
    let kernel = case.kernel()?;
    let mut groups = kernel.cgroups().ok()?;
    let words = words_near_the_failure(kernel, crashed).unwrap_or_default();
    let named = words.iter().find_map(|word| {
        groups
            .iter()
            .position(|g| g.memory.as_ref().is_some_and(|m| m.addr == *word && m.max.is_some()))
    });
    if let Some(i) = named {
        return Some((
            groups.swap_remove(i),
            "the stack names the group, and its counters are at the limit",
        ));
    }
    // Else: the nearest ancestor of the task's group that is full.
    let own = kernel.task_cgroup(&crashed.task).ok()?;
    let mut above: Vec<usize> = (0..groups.len())
        .filter(|i| {
            let path = groups[*i].path.as_str();
            let inside =
                own == path || own.starts_with(&format!("{}/", path.trim_end_matches('/')));
            inside
                && groups[*i]
                    .memory
                    .as_ref()
                    .is_some_and(|m| m.max.is_some_and(|max| m.usage + max / 8 >= max))
        })
        .collect();
    above.sort_by_key(|i| std::cmp::Reverse(groups[*i].path.len()));
    let i = *above.first()?;
    Some((
        groups.swap_remove(i),
        "the nearest full group above the task; its counters are at the limit",
    ))
}

fn tasks_inside(case: &Case<'_>, path: Option<&str>) -> Vec<super::oom::TaskUse> {
    let (Some(kernel), Some(path)) = (case.kernel(), path) else { return Vec::new() };
    let prefix = format!("{}/", path.trim_end_matches('/'));
    largest_tasks(case, 3, |task| {
        kernel.task_cgroup(task).is_ok_and(|own| own == path || own.starts_with(&prefix))
    })
}

fn group_bars(group: &Cgroup) -> Option<Section> {
    let memory = group.memory.as_ref()?;
    let max = memory.max?;
    let stat = |names: &[&str]| memory.stat.get_any(names).and_then(|n| u64::try_from(n).ok());
    let shmem = stat(&["shmem"]);
    let file = stat(&["file"]).map(|f| f.saturating_sub(shmem.unwrap_or(0)));
    let slab = stat(&["slab"])
        .or_else(|| Some(stat(&["slab_reclaimable"])? + stat(&["slab_unreclaimable"])?));
    let rows = [
        ("anon", stat(&["anon", "rss"])),
        ("shmem", shmem),
        ("files", file.or_else(|| stat(&["cache"]))),
        ("slab", slab),
        ("limit", Some(max)),
    ];
    let bars = rows
        .into_iter()
        .filter_map(|(label, n)| Some(Bar { label: label.into(), bytes: n? }))
        .collect();
    Some(Section::Bars {
        title: format!("MEMORY OF THE CGROUP ({})", bytes(max)),
        full_bytes: max,
        bars,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str =
        "17.8 tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
        17.8 memory: usage 16384kB, limit 16384kB, failcnt 52
        17.8 Memory cgroup stats for /kubepods/pod1:
        17.9 Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled";

    #[test]
    fn the_log_names_the_group_where_objects_can_not() {
        let stack = ["panic", "out_of_memory", "mem_cgroup_out_of_memory", "try_charge_memcg"];
        let finding = detect(&case(LOG, "tail", &stack, None)).unwrap();
        assert!(finding.cause.contains("/kubepods/pod1"), "{}", finding.cause);
        assert_eq!(finding.confidence.level, Level::Likely);
    }

    #[test]
    fn a_global_shortage_is_none() {
        let stack = ["panic", "out_of_memory", "__alloc_pages_slowpath"];
        assert!(detect(&case(LOG, "tail", &stack, None)).is_none());
    }
}

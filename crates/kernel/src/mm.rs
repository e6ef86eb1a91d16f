//! Memory of a process: `struct mm_struct` (include/linux/mm_types.h).
//!
//! Resident pages are counted by kind in `rss_stat[]`, in the order of
//! include/linux/mm_types_task.h since v4.5 (eca56ff906bd): file, anonymous,
//! swapped out, shmem. The counters have been atomics of `struct mm_rss_stat`
//! with a small remainder in each thread (`task_struct.rss_stat`,
//! SPLIT_RSS_COUNTING), and are `struct percpu_counter` since v6.2
//! (f1a7941243c1). The values here contain every thread's or CPU's part; the
//! kernel's own task dump leaves them out.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::{Embedded, Member};
use crate::percpu_counter::PercpuCounterLayout;
use crate::stack::hex;
use crate::task::{SignalLayout, Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct mm_struct`, include/linux/mm_types.h
    pub struct MmLayout for "mm_struct" {
        total_vm: u64 = "total_vm",
        locked_vm: u64 = "locked_vm",
        pinned_vm: u64 = "pinned_vm",
        data_vm: u64 = "data_vm",
        exec_vm: u64 = "exec_vm",
        stack_vm: u64 = "stack_vm",
        map_count: i32 = "map_count",
        mm_users: i32 = "mm_users",
        mm_count: i32 = "mm_count",
        pgd: u64 = "pgd",
        pgtables_bytes: u64 = "pgtables_bytes",
        hugetlb_usage: u64 = "hugetlb_usage",
        hiwater_rss: u64 = "hiwater_rss",
        rss_stat: Embedded = "rss_stat",
        /// Only of `struct mm_rss_stat`: none of percpu_counter's members.
        rss_atomics: Embedded = "rss_stat.count",
        arg_start: u64 = "arg_start",
        arg_end: u64 = "arg_end",
        env_start: u64 = "env_start",
        env_end: u64 = "env_end",
        exe_file: u64 = "exe_file",
    }
}

layout! {
    /// `struct task_struct`: its part of the resident pages, until v6.2
    pub struct TaskRssLayout for "task_struct" {
        counts: Embedded = "rss_stat.count",
    }
}

/// Kinds of resident pages, as the kernel numbers them.
const KINDS: usize = 4;
/// MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES.
const FILE: usize = 0;
const ANON: usize = 1;
const SWAP: usize = 2;
const SHMEM: usize = 3;
/// Longest command line that is read.
const LONGEST_COMMAND: u64 = 64 << 10;

/// Memory of a task. Counts are pages.
#[derive(Debug, Clone, Serialize)]
pub struct TaskMemory {
    /// Address of its `struct mm_struct`.
    #[serde(serialize_with = "hex")]
    pub mm: u64,
    /// Mapped address space.
    pub total_vm: u64,
    /// Resident file pages.
    pub rss_file: i64,
    /// Resident anonymous pages.
    pub rss_anon: i64,
    /// Resident shmem pages.
    pub rss_shmem: i64,
    /// Pages swapped out.
    pub swap: i64,
    /// Locked pages (mlock).
    pub locked: Option<u64>,
    /// Private writable pages that are mapped (not stack).
    pub data: Option<u64>,
    /// Number of mappings.
    pub mappings: Option<i32>,
    /// Page tables, bytes.
    pub page_tables_bytes: Option<u64>,
    /// `oom_score_adj`: -1000 (never) to 1000 (first).
    pub oom_score_adj: Option<i16>,
    /// Its `struct file` of the executable, 0 if none.
    #[serde(serialize_with = "hex")]
    pub exe_file: u64,
}

impl TaskMemory {
    /// Resident pages of all kinds.
    pub fn rss(&self) -> i64 {
        self.rss_file.wrapping_add(self.rss_anon).wrapping_add(self.rss_shmem)
    }
}

impl Kernel {
    /// Memory of a task; none of a kernel thread, or of a task that has
    /// already given its memory back.
    pub fn task_memory(&self, task: &Task) -> Result<Option<TaskMemory>> {
        if task.mm == 0 {
            return Ok(None);
        }
        let layout = self.layout::<MmLayout>()?;
        let mm = task.mm;
        let rss = self.rss(task, &layout)?;
        // A counter may read below zero while parts of it are in flight.
        Ok(Some(TaskMemory {
            mm,
            total_vm: layout.total_vm.read(self, mm)?,
            rss_file: rss[FILE].max(0),
            rss_anon: rss[ANON].max(0),
            rss_shmem: rss[SHMEM].max(0),
            swap: rss[SWAP].max(0),
            locked: layout.locked_vm.read_if_exists(self, mm)?,
            data: layout.data_vm.read_if_exists(self, mm)?,
            mappings: layout.map_count.read_if_exists(self, mm)?,
            page_tables_bytes: layout.pgtables_bytes.read_if_exists(self, mm)?,
            oom_score_adj: self.oom_score_adj(task).ok(),
            exe_file: layout.exe_file.read_if_exists(self, mm)?.unwrap_or(0),
        }))
    }

    /// Address of the top page table of the `struct mm_struct` at `mm`.
    pub fn mm_pgd(&self, mm: u64) -> Result<u64> {
        self.layout::<MmLayout>()?.pgd.read(self, mm)
    }

    /// `oom_score_adj` of a task's process.
    pub fn oom_score_adj(&self, task: &Task) -> Result<i16> {
        if task.signal == 0 {
            return Err(Error::Null("signal".into()));
        }
        self.layout::<SignalLayout>()?.oom_score_adj.read(self, task.signal)
    }

    /// Arguments of a process, as it was started or has rewritten them. They
    /// are user memory: filtered dumps have lost them.
    pub fn task_arguments(&self, task: &Task) -> Result<Vec<String>> {
        let layout = self.layout::<MmLayout>()?;
        self.user_strings(task, &layout.arg_start, &layout.arg_end)
    }

    /// The environment that a process was started with. User memory, too.
    pub fn task_environment(&self, task: &Task) -> Result<Vec<String>> {
        let layout = self.layout::<MmLayout>()?;
        self.user_strings(task, &layout.env_start, &layout.env_end)
    }

    fn user_strings(
        &self,
        task: &Task,
        start: &Member<u64>,
        end: &Member<u64>,
    ) -> Result<Vec<String>> {
        if task.mm == 0 {
            return Err(Error::Unavailable(format!("{} has no user memory", task.comm)));
        }
        let (start, end) = (start.read(self, task.mm)?, end.read(self, task.mm)?);
        if start == 0 || end <= start {
            return Ok(Vec::new());
        }
        let mut raw = vec![0; (end - start).min(LONGEST_COMMAND) as usize];
        self.user_space(task)?.read(start, &mut raw)?;
        Ok(arguments(&raw))
    }

    /// The four counters of resident pages.
    fn rss(&self, task: &Task, layout: &MmLayout) -> Result<[i64; KINDS]> {
        let mut rss = [0; KINDS];
        if layout.rss_atomics.exists() {
            add_longs(self, &layout.rss_atomics, task.mm, &mut rss)?;
            // The remainders of its threads, where the kernel keeps them.
            let part = self.layout::<TaskRssLayout>()?;
            if part.counts.exists() {
                for thread in self.threads_of(task)? {
                    add_ints(self, &part.counts, thread?, &mut rss)?;
                }
            }
            return Ok(rss);
        }
        let counter = self.layout::<PercpuCounterLayout>()?;
        let first = layout.rss_stat.address(task.mm)?;
        for (i, value) in rss.iter_mut().enumerate() {
            *value = self.percpu_counter(first.wrapping_add(i as u64 * counter.size))?;
        }
        Ok(rss)
    }

    /// The threads of a task's process, itself among them.
    fn threads_of(&self, task: &Task) -> Result<crate::list::Walk<'_>> {
        let head = self.layout::<SignalLayout>()?.thread_head.address(task.signal)?;
        let node = self.layout::<TaskLayout>()?.thread_node.offset()?;
        Ok(self.list(head, node, "the threads of a process"))
    }
}

fn add_longs(
    kernel: &Kernel,
    member: &Member<Embedded>,
    base: u64,
    sums: &mut [i64; KINDS],
) -> Result<()> {
    let raw = kernel.read_bytes(member.address(base)?, member.place()?.size.min(8 * 64))?;
    for (sum, part) in sums.iter_mut().zip(raw.chunks_exact(8)) {
        *sum = sum.wrapping_add(part.try_into().map(i64::from_le_bytes).unwrap_or(0));
    }
    Ok(())
}

fn add_ints(
    kernel: &Kernel,
    member: &Member<Embedded>,
    base: u64,
    sums: &mut [i64; KINDS],
) -> Result<()> {
    let raw = kernel.read_bytes(member.address(base)?, member.place()?.size.min(4 * 64))?;
    for (sum, part) in sums.iter_mut().zip(raw.chunks_exact(4)) {
        let part = part.try_into().map(i32::from_le_bytes).unwrap_or(0);
        *sum = sum.wrapping_add(i64::from(part));
    }
    Ok(())
}

/// NUL-separated arguments. A process that overwrote them (setproctitle) may
/// have left one text with a tail of NULs.
fn arguments(raw: &[u8]) -> Vec<String> {
    let end = raw.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    raw[..end].split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn arguments_end_at_the_last_text() {
        assert_eq!(arguments(b"sleep\x001000\x00"), ["sleep", "1000"]);
        assert_eq!(arguments(b"a\x00\x00b\x00\x00\x00"), ["a", "", "b"]);
        assert!(arguments(b"\x00\x00").is_empty() && arguments(b"").is_empty());
    }
}

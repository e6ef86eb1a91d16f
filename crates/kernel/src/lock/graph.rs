//! The wait graph: which task waits for which. A task waits for one lock, and
//! a lock that has a certain owner has one: from each task leads at most one
//! edge, so that a chain ends at a task that waits for no lock, or in a cycle.

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::ring::Rings;
use super::{TaskRef, Wait};
use crate::Kernel;
use crate::error::Result;

/// All tasks that wait for something that has a name.
#[derive(Debug, Clone, Serialize)]
pub struct WaitGraph {
    /// Ordered by thread ID.
    pub waits: Vec<Wait>,
    /// Deadlocks: tasks each of which waits for the next, the last for the
    /// first.
    pub cycles: Vec<Vec<TaskRef>>,
    #[serde(skip)]
    by_task: FxHashMap<u64, usize>,
}

impl WaitGraph {
    /// The graph of these waits.
    pub fn new(waits: Vec<Wait>) -> WaitGraph {
        let by_task = waits.iter().enumerate().map(|(i, w)| (w.waiter.addr, i)).collect();
        let mut graph = WaitGraph { waits, cycles: Vec::new(), by_task };
        graph.cycles = graph.find_cycles();
        graph
    }

    /// What the task at `task` waits for.
    pub fn wait_of(&self, task: u64) -> Option<&Wait> {
        self.by_task.get(&task).and_then(|i| self.waits.get(*i))
    }

    /// The chain of waits from `task` on. The owner in the last one holds up
    /// the whole chain, unless it leads back into the chain.
    pub fn chain(&self, task: u64) -> Vec<&Wait> {
        let mut seen = FxHashSet::default();
        let mut chain = Vec::new();
        let mut at = task;
        while let Some(wait) = self.wait_of(at).filter(|_| seen.insert(at)) {
            chain.push(wait);
            match wait.lock.owner.certain() {
                Some(owner) => at = owner.addr,
                None => break,
            }
        }
        chain
    }

    /// Those who wait for the lock at `addr`.
    pub fn waiters(&self, addr: u64) -> impl Iterator<Item = &Wait> {
        self.waits.iter().filter(move |wait| wait.lock.addr == addr)
    }

    fn next(&self, task: u64) -> Option<u64> {
        self.wait_of(task)?.lock.owner.certain().map(|owner| owner.addr)
    }

    fn find_cycles(&self) -> Vec<Vec<TaskRef>> {
        let mut done = FxHashSet::default();
        let mut cycles = Vec::new();
        for wait in &self.waits {
            let mut path = Vec::new();
            let mut at = Some(wait.waiter.addr);
            while let Some(task) = at.filter(|task| done.insert(*task)) {
                path.push(task);
                at = self.next(task);
            }
            // A path that met itself has a cycle; one that met an older path
            // has none of its own.
            if let Some(start) = at.and_then(|task| path.iter().position(|p| *p == task)) {
                let tasks = path.split_off(start);
                let waits = tasks.into_iter().filter_map(|task| self.wait_of(task));
                cycles.push(waits.map(|wait| wait.waiter.clone()).collect());
            }
        }
        cycles
    }
}

impl Kernel {
    /// Who waits for whom. Reads the stacks of all tasks.
    pub fn wait_graph(&self) -> Result<WaitGraph> {
        let tasks = self.tasks()?;
        let rings = Rings::default();
        let waits = tasks
            .list
            .par_iter()
            .filter(|task| !task.active && task.stack != 0)
            .filter_map(|task| self.waits_for_among(task, &self.stack(task), &rings))
            .collect();
        Ok(WaitGraph::new(waits))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Lock, LockKind, Owner, WaitEvidence};
    use super::*;

    fn wait(waiter: u64, owner: Option<u64>) -> Wait {
        let task = |addr| TaskRef { addr, task: None };
        Wait {
            waiter: task(waiter),
            lock: Lock {
                kind: LockKind::Mutex,
                addr: 0x1000 + owner.unwrap_or(0),
                symbol: None,
                bit: None,
                bit_name: None,
                mm: None,
                owner: owner.map_or(Owner::Unknown, |o| Owner::Task(task(o))),
            },
            mode: None,
            node: 0,
            known_by: WaitEvidence::OnRing,
        }
    }

    fn cycles(graph: &WaitGraph) -> Vec<Vec<u64>> {
        let addresses = |cycle: &Vec<TaskRef>| cycle.iter().map(|task| task.addr).collect();
        graph.cycles.iter().map(addresses).collect()
    }

    #[test]
    fn a_chain_ends_at_who_does_not_wait() {
        let graph = WaitGraph::new(vec![wait(1, Some(2)), wait(2, Some(3)), wait(4, None)]);
        assert!(graph.cycles.is_empty());
        let chain: Vec<u64> = graph.chain(1).iter().map(|w| w.waiter.addr).collect();
        assert_eq!(chain, [1, 2]);
        assert_eq!(graph.chain(3).len(), 0);
    }

    #[test]
    fn two_locks_in_opposite_order_are_one_cycle() {
        let graph = WaitGraph::new(vec![wait(9, Some(1)), wait(1, Some(2)), wait(2, Some(1))]);
        assert_eq!(cycles(&graph), [[1, 2]]);
        assert_eq!(graph.chain(9).len(), 3);
        assert_eq!(graph.waiters(0x1001).count(), 2);
    }

    #[test]
    fn a_task_may_wait_for_itself() {
        assert_eq!(cycles(&WaitGraph::new(vec![wait(1, Some(1))])), [[1]]);
    }
}

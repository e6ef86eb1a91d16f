//! Whether a kernel stack has run over: its last word holds `STACK_END_MAGIC`
//! (include/uapi/linux/magic.h) until something writes over it. The very first
//! task's stack has none where the linker script places it.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::Result;
use crate::stack::hex;
use crate::task::Task;
use crate::{Error, Kernel};

/// `STACK_END_MAGIC`
const STACK_END_MAGIC: u64 = 0x57ac_6e9d;

/// A stack whose last word is not what it was.
#[derive(Debug, Clone, Serialize)]
pub struct Overflow {
    /// The task's `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Address of the word: the lowest of the stack.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// What stands there.
    #[serde(serialize_with = "hex")]
    pub found: u64,
}

/// What a look at all stacks gave.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StackCheck {
    /// Stacks that ran over, or were written over.
    pub overflows: Vec<Overflow>,
    /// How many could not be read, with the first reason.
    pub unread: Option<(usize, String)>,
}

impl Kernel {
    /// Looks at the last word of the stacks of all tasks.
    pub fn check_stacks(&self) -> Result<StackCheck> {
        let init = self.symbol("init_task").ok();
        let tasks = &self.tasks()?.list;
        let checked: Vec<Result<Option<Overflow>>> = tasks
            .par_iter()
            .filter(|task| task.stack != 0 && Some(task.addr) != init)
            .map(|task| self.check_stack(task))
            .collect();
        let mut check = StackCheck::default();
        for result in checked {
            match (result, &mut check.unread) {
                (Ok(overflow), _) => check.overflows.extend(overflow),
                (Err(_), Some((count, _))) => *count += 1,
                (Err(e), None) => check.unread = Some((1, e.to_string())),
            }
        }
        Ok(check)
    }

    fn check_stack(&self, task: &Task) -> Result<Option<Overflow>, Error> {
        let found = self.read_u64(task.stack)?;
        let overflow = Overflow { task: task.addr, addr: task.stack, found };
        Ok((found != STACK_END_MAGIC).then_some(overflow))
    }
}

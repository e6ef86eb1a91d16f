//! Searches stacks for what exceptions and interrupts saved: every word could
//! be the start of a `struct pt_regs`. What is found may be left over from
//! earlier: it is a possible frame, not one of a trace.

use std::ops::Range;

use serde::Serialize;

use crate::Kernel;
use crate::arch::{CpuStack, Registers, StackKind};
use crate::error::{Error, Result};
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::task::Task;

/// Largest stack that is searched.
const LARGEST: u64 = 1 << 20;

/// Registers that lie on a stack.
#[derive(Debug, Clone, Serialize)]
pub struct SavedRegisters {
    /// Address of the `struct pt_regs`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Whether they were those of user space.
    pub user: bool,
    /// The function that was interrupted.
    pub symbol: Option<SymbolAt>,
    /// The registers.
    pub registers: Registers,
}

/// What lies on one of a CPU's stacks.
#[derive(Debug, Clone, Serialize)]
pub struct CpuStackRegisters {
    /// The CPU.
    pub cpu: u32,
    /// Which of its stacks.
    pub kind: StackKind,
    /// What was found, from the stack's low end.
    pub found: Vec<SavedRegisters>,
    /// Why it could not be searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl Kernel {
    /// Possible exception frames on a task's stack.
    pub fn saved_registers(&self, task: &Task) -> Result<Vec<SavedRegisters>> {
        self.search(self.stack_range(task)?, false)
    }

    /// Possible exception frames on the stacks of the CPUs: all interrupt
    /// stacks, then each CPU's exception stacks.
    pub fn cpu_saved_registers(&self) -> Vec<CpuStackRegisters> {
        let order = &StackKind::SHOWN[1..];
        let stacks = self.cpu_stacks();
        let mut irq: Vec<&CpuStack> = stacks.iter().filter(|s| s.kind == StackKind::Irq).collect();
        irq.sort_by_key(|s| s.cpu);
        let mut others: Vec<(usize, &CpuStack)> = stacks
            .iter()
            .filter_map(|s| Some((order.iter().position(|kind| *kind == s.kind)?, s)))
            .collect();
        others.sort_by_key(|(order, s)| (s.cpu, *order));
        let others = others.into_iter().map(|(_, s)| s);
        let search = |stack: &CpuStack| {
            let (found, unread) =
                match self.search(stack.range.clone(), stack.kind != StackKind::Irq) {
                    Ok(found) => (found, None),
                    // Guests without encryption have no #VC stacks.
                    Err(_) if stack.kind == StackKind::Vc => return None,
                    Err(e) => (Vec::new(), Some(e.to_string())),
                };
            Some(CpuStackRegisters { cpu: stack.cpu, kind: stack.kind, found, unread })
        };
        irq.into_iter().chain(others).filter_map(search).collect()
    }

    fn search(&self, range: Range<u64>, exception: bool) -> Result<Vec<SavedRegisters>> {
        let size = range.end.saturating_sub(range.start);
        if size > LARGEST {
            return Err(Error::corrupt(format!("a stack of {size} bytes"), range.start));
        }
        let set = self.arch().register_set();
        let bytes = self.read_bytes(range.start, size)?;
        let windows = bytes.windows(set.size() as usize).step_by(8);
        let found = windows.zip((range.start..).step_by(8)).filter_map(|(window, addr)| {
            let registers = Registers::from_bytes(set, window)?;
            let user = self.arch().saved_by_exception(self, &registers, addr, exception)?;
            let symbol = if user { None } else { self.symbol_at(registers.ip()) };
            Some(SavedRegisters { addr, user, symbol, registers })
        });
        Ok(found.collect())
    }
}

//! The stack of a task: where it starts, on which stacks it may move.

use std::ops::Range;

use crate::arch::{CpuStack, Registers, Stacks, Start};
use crate::error::{Error, Result};
use crate::stack::Stack;
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct vm_struct`, include/linux/vmalloc.h
    pub struct VmStructLayout for "vm_struct" {
        addr: u64 = "addr",
        bytes: u64 = "size",
        nr_pages: u32 = "nr_pages",
    }
}

impl Kernel {
    /// The stacks of all CPUs, sorted by address.
    pub fn cpu_stacks(&self) -> &[CpuStack] {
        self.cpu_stacks.get_or_init(|| self.arch().cpu_stacks(self).unwrap_or_default())
    }

    /// (CPU, registers) for the CPUs whose registers the dump has.
    pub fn cpu_registers(&self) -> &[(u32, Registers)] {
        self.cpu_registers.get_or_init(|| self.arch().cpu_registers(self).unwrap_or_default())
    }

    /// Bytes of a kernel stack (`THREAD_SIZE`).
    pub fn thread_size(&self) -> Result<u64> {
        self.thread_size.get_or_init(|| thread_size(self)).clone()
    }

    /// Virtual addresses of a task's kernel stack.
    pub fn stack_range(&self, task: &Task) -> Result<Range<u64>> {
        if task.stack == 0 {
            return Err(Error::Null(format!("the stack of task {} (it is dead)", task.pid)));
        }
        let end = task.stack.checked_add(self.thread_size()?);
        Ok(task.stack..end.ok_or_else(|| Error::corrupt("a stack's address", task.stack))?)
    }

    /// The stack trace of a task.
    pub fn stack(&self, task: &Task) -> Stack {
        match self.stack_start(task) {
            Ok((start, range)) => {
                self.arch().unwind(self, &start, &Stacks { task: range, cpus: self.cpu_stacks() })
            }
            Err(e) => Stack::unavailable(e.to_string()),
        }
    }

    /// A trace from given registers, as on the stack of `task`.
    pub fn stack_from(&self, registers: Registers, task: &Task) -> Stack {
        match self.stack_range(task) {
            Ok(range) => self.arch().unwind(
                self,
                &Start::Registers(registers),
                &Stacks { task: range, cpus: self.cpu_stacks() },
            ),
            Err(e) => Stack::unavailable(e.to_string()),
        }
    }

    /// A trace of a task's stack from given code or a given stack pointer, each
    /// of which is as usual where it is not given. With a stack pointer alone:
    /// from the first return address there or above it.
    pub fn stack_at(&self, task: &Task, ip: Option<u64>, sp: Option<u64>) -> Stack {
        let start = self.stack_start(task).and_then(|(usual, range)| {
            // With another stack pointer the frame pointer is another, too.
            let fp = if sp.is_none() { usual.fp() } else { 0 };
            let (ip, sp) = match (ip, sp) {
                (None, Some(sp)) => {
                    if !range.contains(&sp) {
                        return Err(Error::Unavailable(format!(
                            "{sp:#x} is not on the task's stack ({:#x} to {:#x})",
                            range.start, range.end
                        )));
                    }
                    let at = (sp & !7..range.end).step_by(8);
                    let mut words = at.filter_map(|at| Some((self.read_u64(at).ok()?, at)));
                    let found = words.find(|(ip, _)| self.is_text(*ip)).ok_or_else(|| {
                        Error::Unavailable(format!("no address of code is on the stack at {sp:#x}"))
                    })?;
                    return Ok((
                        Start::Switched { sp: found.1 + 8, at: found.1, ip: found.0, bp: 0 },
                        range,
                    ));
                }
                (ip, sp) => (ip.unwrap_or(usual.ip()), sp.unwrap_or(usual.sp())),
            };
            Ok((Start::Switched { sp, at: sp, ip, bp: fp }, range))
        });
        match start {
            Ok((start, range)) => {
                self.arch().unwind(self, &start, &Stacks { task: range, cpus: self.cpu_stacks() })
            }
            Err(e) => Stack::unavailable(e.to_string()),
        }
    }

    fn stack_start(&self, task: &Task) -> Result<(Start, Range<u64>)> {
        let range = self.stack_range(task)?;
        if task.active {
            let regs = self.cpu_registers().iter().find(|(cpu, _)| *cpu == task.cpu);
            return match regs {
                Some((_, regs)) => Ok((Start::Registers(*regs), range)),
                None => Ok((self.arch().last_call(self, task)?, range)),
            };
        }
        Ok((self.arch().switched_out(self, task)?, range))
    }
}

/// `THREAD_SIZE` is the size of `union thread_union`; where BTF lacks that,
/// the first task's stack lies between two symbols of the linker script, or a
/// task's `vm_struct` counts its pages.
fn thread_size(kernel: &Kernel) -> Result<u64> {
    let plausible = |n: &u64| (4096..=1 << 20).contains(n) && n.is_power_of_two();
    let from_type = kernel.ty("thread_union").ok().and_then(|ty| ty.size());
    if let Some(size) = from_type.filter(plausible) {
        return Ok(size);
    }
    let layout = kernel.layout::<TaskLayout>()?;
    let vm = kernel.layout::<VmStructLayout>()?;
    for task in kernel.tasks()?.list.iter().filter(|t| t.stack != 0) {
        let area = layout.stack_vm_area.read(kernel, task.addr)?;
        if area == 0 {
            continue;
        }
        let pages = u64::from(vm.nr_pages.read(kernel, area)?);
        if let Some(size) = Some(pages.saturating_mul(kernel.page_size())).filter(plausible) {
            return Ok(size);
        }
    }
    let between =
        || Some(kernel.symbol("__end_init_task").ok()? - kernel.symbol("init_stack").ok()?);
    between()
        .filter(plausible)
        .ok_or_else(|| Error::Unavailable("the size of kernel stacks is not to be found".into()))
}

//! Searches stacks for what exceptions and interrupts saved: every word could
//! be the start of a `struct pt_regs`. What is found may be left over from
//! earlier: it is a possible frame, not one of a trace.

use std::ops::Range;

use serde::Serialize;

use super::registers::{PT_REGS_SIZE, Reg, Registers};
use super::stacks::{CpuStack, StackKind};
use crate::Kernel;
use crate::error::{Error, Result};
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::task::Task;

/// Bits of the flags register that are zero on every processor.
const ZERO_FLAGS: u64 = 0xffff_ffff_ffc0_8028;
/// The bit that is always set.
const SET_FLAG: u64 = 2;
/// `__KERNEL_CS`, `__KERNEL_DS`, `__USER_CS`, `__USER32_CS`, `__USER_DS`
/// (arch/x86/include/asm/segment.h).
const KERNEL_CS: u64 = 0x10;
const KERNEL_DS: u64 = 0x18;
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
const USER_DS: u64 = 0x2b;
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
        const ORDER: [StackKind; 5] = [
            StackKind::DoubleFault,
            StackKind::Nmi,
            StackKind::Debug,
            StackKind::MachineCheck,
            StackKind::Vc,
        ];
        let stacks = self.cpu_stacks();
        let mut irq: Vec<&CpuStack> = stacks.iter().filter(|s| s.kind == StackKind::Irq).collect();
        irq.sort_by_key(|s| s.cpu);
        let mut others: Vec<(usize, &CpuStack)> = stacks
            .iter()
            .filter_map(|s| Some((ORDER.iter().position(|kind| *kind == s.kind)?, s)))
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
        let bytes = self.read_bytes(range.start, size)?;
        let windows = bytes.windows(PT_REGS_SIZE as usize).step_by(8);
        let found = windows.zip((range.start..).step_by(8)).filter_map(|(window, addr)| {
            let registers = Registers::from_bytes(window)?;
            let user = self.kind_of(&registers, addr, exception)?;
            let symbol = if user { None } else { self.symbol_at(registers.ip()) };
            Some(SavedRegisters { addr, user, symbol, registers })
        });
        Ok(found.collect())
    }

    /// Whether the registers are possible ones: of user space, or the kernel's.
    fn kind_of(&self, regs: &Registers, addr: u64, exception: bool) -> Option<bool> {
        let get = |reg| regs.get(reg).unwrap_or(0);
        let (cs, ss, flags) = (get(Reg::Cs), get(Reg::Ss), get(Reg::Flags));
        if flags & ZERO_FLAGS != 0 || flags & SET_FLAG == 0 {
            return None;
        }
        let (ip, sp) = (regs.ip(), regs.sp());
        let user = |addr: u64| addr >> 47 == 0;
        let kernel = |addr: u64| addr >> 63 == 1;
        match (cs, ss) {
            (USER_CS | USER32_CS, USER_DS) => (user(ip) && user(sp)).then_some(true),
            (KERNEL_CS, KERNEL_DS) => {
                let above = sp == addr.wrapping_add(PT_REGS_SIZE);
                (self.is_text(ip) && kernel(sp) || above).then_some(false)
            }
            (KERNEL_CS, _) => {
                let end = addr.wrapping_add(PT_REGS_SIZE);
                let above = sp == end || sp == end.wrapping_add(8) || exception;
                (self.is_text(ip) && kernel(sp) && above).then_some(false)
            }
            _ => None,
        }
    }
}

//! Interrupts of devices: descriptors, handlers, affinity and counts.
//!
//! With `CONFIG_SPARSE_IRQ` the descriptors (`struct irq_desc`,
//! include/linux/irqdesc.h) hang on a radix tree `irq_desc_tree`, since v6.5
//! (721255b9826b) on the maple tree `sparse_irqs`; without it they are the
//! array `irq_desc`. `nr_irqs` numbers are in use at most (`total_nr_irqs` since
//! v6.13). A descriptor counts per CPU in `kstat_irqs`, an `unsigned int` or,
//! since v6.10 (99cf63c56dd9), a `struct irqstat` that begins with one.
//!
//! The interrupt descriptor table (`idt_table`, arch/x86/include/asm/desc_defs.h)
//! has 256 gates of 16 bytes; the handler's address is in three pieces.

use std::sync::Arc;

use kmortem_debuginfo::btf::Kind;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::{Kernel, layout};

layout! {
    /// `struct irq_desc`, include/linux/irqdesc.h
    pub struct IrqDescLayout for "irq_desc" {
        hwirq: u64 = "irq_data.hwirq",
        chip: u64 = "irq_data.chip",
        affinity: Embedded = "irq_common_data.affinity",
        effective: Embedded = "irq_common_data.effective_affinity",
        counts: u64 = "kstat_irqs",
        flow: u64 = "handle_irq",
        flow_name: u64 = "name",
        action: u64 = "action",
        depth: u32 = "depth",
        unhandled: u32 = "irqs_unhandled",
    }
}

layout! {
    /// `struct irq_chip`, include/linux/irq.h
    pub struct IrqChipLayout for "irq_chip" {
        name: CString = "name",
    }
}

layout! {
    /// `struct irqaction`, include/linux/interrupt.h
    pub struct IrqActionLayout for "irqaction" {
        handler: u64 = "handler",
        dev_id: u64 = "dev_id",
        next: u64 = "next",
        thread_fn: u64 = "thread_fn",
        thread: u64 = "thread",
        flags: u32 = "flags",
        name: CString = "name",
    }
}

/// More interrupts than any machine has (`IRQ_BITMAP_BITS` is smaller).
const MOST_IRQS: u32 = 1 << 20;
/// Devices that share one interrupt.
const MOST_ACTIONS: usize = 1 << 12;
/// Gates of the interrupt descriptor table.
const GATES: u64 = 256;

/// All interrupts that have a descriptor.
#[derive(Debug, Clone, Serialize)]
pub struct Irqs {
    /// One more than the highest number that can be used.
    pub count: u32,
    /// By number.
    pub list: Vec<Irq>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// An interrupt.
#[derive(Debug, Clone, Serialize)]
pub struct Irq {
    /// Its number.
    pub irq: u32,
    /// Address of its `struct irq_desc`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number at the interrupt controller.
    pub hwirq: Option<u64>,
    /// The interrupt controller ("IO-APIC"), if it has a name.
    pub chip: Option<String>,
    /// How the controller signals ("edge", "fasteoi").
    pub flow: Option<String>,
    /// The function that handles the flow.
    pub flow_handler: Option<String>,
    /// The devices' handlers.
    pub actions: Vec<IrqAction>,
    /// CPUs that may get it.
    pub affinity: Option<Vec<u32>>,
    /// CPUs that do get it.
    pub effective_affinity: Option<Vec<u32>>,
    /// How often each possible CPU got it.
    pub counts: Option<Vec<IrqCount>>,
    /// How often it was disabled; 0: enabled.
    pub depth: Option<u32>,
    /// How many of the last ones nobody handled.
    pub unhandled: Option<u32>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// Interrupts that a CPU got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IrqCount {
    /// The CPU.
    pub cpu: u32,
    /// How often.
    pub count: u32,
}

/// A device's handler.
#[derive(Debug, Clone, Serialize)]
pub struct IrqAction {
    /// Address of its `struct irqaction`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Name that the driver gave it; empty: none.
    pub name: Option<String>,
    /// The handler.
    pub handler: Option<SymbolAt>,
    /// What its thread runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_handler: Option<SymbolAt>,
    /// Address of the thread's `struct task_struct`, 0: it has none.
    #[serde(serialize_with = "hex")]
    pub thread: u64,
    /// What the driver gets back.
    #[serde(serialize_with = "hex")]
    pub dev_id: u64,
    /// `IRQF_*` flags.
    pub flags: u32,
}

/// A gate of the interrupt descriptor table.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// Its vector.
    pub vector: u32,
    /// Where it leads to; 0: nowhere.
    #[serde(serialize_with = "hex")]
    pub handler: u64,
    /// The symbol there.
    pub symbol: Option<SymbolAt>,
}

impl Kernel {
    /// The interrupts that have a descriptor.
    pub fn irqs(&self) -> Result<Irqs> {
        let count = self.symbol("nr_irqs").or_else(|_| self.symbol("total_nr_irqs"))?;
        let count = self.read_u32(count)?;
        if count > MOST_IRQS {
            return Err(Error::corrupt(format!("the count of interrupts ({count})"), 0));
        }
        let mut gaps = Gaps::default();
        let mut list = Vec::new();
        let reader = IrqReader::new(self)?;
        for (irq, addr) in self.irq_descs(count, &mut gaps)? {
            list.push(reader.read(irq, addr));
        }
        list.sort_by_key(|irq| irq.irq);
        Ok(Irqs { count, list, gaps })
    }

    /// (number, address) of the descriptors.
    fn irq_descs(&self, count: u32, gaps: &mut Gaps) -> Result<Vec<(u32, u64)>> {
        let mut found = Vec::new();
        let mut keep = |entry: Result<(u64, u64)>| match entry {
            Ok((irq, addr)) if irq < u64::from(count) => found.push((irq as u32, addr)),
            Ok((irq, addr)) => {
                gaps.add("interrupts", &Error::corrupt(format!("interrupt {irq}"), addr));
            }
            Err(e) => gaps.add("interrupts", &e),
        };
        let bound = count as usize + 1;
        if let Ok(tree) = self.symbol("sparse_irqs") {
            let entries = self.maple_tree(tree)?.take(bound);
            entries.for_each(|e| keep(e.map(|e| (e.first, e.entry))));
        } else if let Ok(tree) = self.symbol("irq_desc_tree") {
            self.xarray(tree)?.take(bound).for_each(keep);
        } else {
            let array = self.symbol("irq_desc")?;
            let size = self.layout::<IrqDescLayout>()?.size;
            (0..u64::from(count)).for_each(|irq| keep(Ok((irq, array.wrapping_add(irq * size)))));
        }
        Ok(found)
    }

    /// The gates of the interrupt descriptor table, which x86 has.
    pub fn idt(&self) -> Result<Vec<Gate>> {
        if self.arch().name() != "x86_64" {
            let why = "only x86 has an interrupt descriptor table";
            return Err(Error::Unavailable(why.into()));
        }
        let table = self.read_bytes(self.symbol("idt_table")?, GATES * 16)?;
        let gates = table.chunks_exact(16).zip(0u32..);
        Ok(gates
            .map(|(gate, vector)| {
                let handler = gate_offset(gate);
                Gate { vector, handler, symbol: self.symbol_at(handler) }
            })
            .collect())
    }
}

/// The handler's address in a gate: bits 0-15 in bytes 0 and 1, 16-31 in bytes
/// 6 and 7, the rest in bytes 8 to 11.
fn gate_offset(gate: &[u8]) -> u64 {
    let byte = |at: usize| u64::from(gate.get(at).copied().unwrap_or(0));
    [0, 1, 6, 7, 8, 9, 10, 11].into_iter().rev().fold(0, |v, at| v << 8 | byte(at))
}

/// A name that need not be: the pointer is NULL then.
fn name(read: Result<String>) -> Result<String> {
    match read {
        Err(Error::Null(_)) => Ok(String::new()),
        read => read,
    }
}

/// What reading the descriptors needs, looked up once.
struct IrqReader<'k> {
    kernel: &'k Kernel,
    desc: Arc<IrqDescLayout>,
    action: Arc<IrqActionLayout>,
    chip: Arc<IrqChipLayout>,
    per_cpu: Vec<(u32, u64)>,
    /// Whether a `cpumask_var_t` is a pointer (`CONFIG_CPUMASK_OFFSTACK`).
    masks_are_pointers: bool,
}

impl<'k> IrqReader<'k> {
    fn new(kernel: &'k Kernel) -> Result<IrqReader<'k>> {
        let mask = kernel.ty("irq_desc")?.member("irq_common_data.affinity");
        Ok(IrqReader {
            kernel,
            desc: kernel.layout::<IrqDescLayout>()?,
            action: kernel.layout::<IrqActionLayout>()?,
            chip: kernel.layout::<IrqChipLayout>()?,
            per_cpu: kernel.per_cpu_offsets()?,
            masks_are_pointers: mask.is_some_and(|m| m.ty.strip().kind() == Kind::Ptr),
        })
    }

    fn read(&self, irq: u32, addr: u64) -> Irq {
        let (kernel, desc) = (self.kernel, &self.desc);
        let mut gaps = Gaps::default();
        let chip = gaps.keep("controller", desc.chip.read(kernel, addr)).filter(|c| *c != 0);
        let chip_name =
            chip.and_then(|c| gaps.keep("controller", name(self.chip.name.read(kernel, c))));
        let flow = gaps.keep("flow", desc.flow_name.read(kernel, addr)).filter(|n| *n != 0);
        let handler = gaps.keep("flow handler", desc.flow.read(kernel, addr));
        let actions = self.actions(addr, &mut gaps);
        let counts = self.counts(addr);
        let affinity = desc.affinity.address(addr).and_then(|at| self.mask(at));
        let effective =
            desc.effective.exists().then(|| desc.effective.address(addr)).map(|at| self.mask(at?));
        Irq {
            irq,
            addr,
            hwirq: gaps.keep("hardware number", desc.hwirq.read(kernel, addr)),
            chip: chip_name.filter(|name| !name.is_empty()),
            flow: flow.and_then(|at| gaps.keep("flow", kernel.read_cstring(at, 64))),
            flow_handler: handler.and_then(|at| kernel.symbol_at(at)).map(|s| s.name),
            actions,
            affinity: gaps.keep("affinity", affinity),
            effective_affinity: effective.and_then(|m| gaps.keep("effective affinity", m)),
            counts: gaps.keep("counts", counts),
            depth: gaps.keep("depth", desc.depth.read(kernel, addr)),
            unhandled: gaps.keep("unhandled", desc.unhandled.read(kernel, addr)),
            gaps,
        }
    }

    fn mask(&self, at: u64) -> Result<Vec<u32>> {
        let at = if self.masks_are_pointers { self.kernel.read_u64(at)? } else { at };
        self.kernel.cpumask(at)
    }

    fn counts(&self, addr: u64) -> Result<Vec<IrqCount>> {
        let counts = self.desc.counts.read(self.kernel, addr)?;
        let count = |(cpu, offset): &(u32, u64)| {
            let count = self.kernel.read_u32(counts.wrapping_add(*offset))?;
            Ok(IrqCount { cpu: *cpu, count })
        };
        self.per_cpu.iter().map(count).collect()
    }

    fn actions(&self, addr: u64, gaps: &mut Gaps) -> Vec<IrqAction> {
        let (kernel, layout) = (self.kernel, &self.action);
        let first = gaps.keep("handlers", self.desc.action.read(kernel, addr)).unwrap_or(0);
        let Some(next) = gaps.keep("handlers", layout.next.offset()) else { return Vec::new() };
        let mut actions = Vec::new();
        let chain = kernel.chain(first, next, "the handlers of an interrupt");
        for addr in chain.take(MOST_ACTIONS) {
            let Some(addr) = gaps.keep("handlers", addr) else { break };
            let handler = gaps.keep("handler", layout.handler.read(kernel, addr));
            let threaded = gaps.keep("thread", layout.thread_fn.read(kernel, addr));
            let symbol =
                |at: Option<u64>| at.filter(|at| *at != 0).and_then(|at| kernel.symbol_at(at));
            actions.push(IrqAction {
                addr,
                name: gaps.keep("handler's name", name(layout.name.read(kernel, addr))),
                handler: symbol(handler),
                thread_handler: symbol(threaded),
                thread: gaps.keep("thread", layout.thread.read(kernel, addr)).unwrap_or(0),
                dev_id: gaps.keep("device", layout.dev_id.read(kernel, addr)).unwrap_or(0),
                flags: gaps.keep("flags", layout.flags.read(kernel, addr)).unwrap_or(0),
            });
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::gate_offset;

    #[test]
    fn a_gate_holds_its_handler_in_three_pieces() {
        let mut gate = [0u8; 16];
        gate[..2].copy_from_slice(&0x1234u16.to_le_bytes());
        gate[2..6].copy_from_slice(&[0x10, 0, 0, 0x8e]);
        gate[6..8].copy_from_slice(&0x8100u16.to_le_bytes());
        gate[8..12].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
        assert_eq!(gate_offset(&gate), 0xffff_ffff_8100_1234);
        assert_eq!(gate_offset(&gate[..4]), 0x1234);
    }
}

//! Softirqs: what they run, and on which CPUs one waits to run.
//!
//! `softirq_vec` is an array of `struct softirq_action` with `NR_SOFTIRQS`
//! elements, named by the array of strings `softirq_to_name`
//! (kernel/softirq.c). A CPU's pending ones are bits of `__softirq_pending`: in
//! the per-CPU `irq_stat` until v6.1, in `pcpu_hot.softirq_pending` from v6.2 to
//! v6.14, then a per-CPU variable of its own.

use kmortem_debuginfo::btf::Kind;
use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::stack::hex;
use crate::symbol::SymbolAt;

/// `NR_SOFTIRQS` has been 10 since v2.6.39; a word of pending ones has 32 bits.
const MOST: u64 = 32;

/// A softirq.
#[derive(Debug, Clone, Serialize)]
pub struct Softirq {
    /// Its number; the lower, the sooner it runs.
    pub vector: u32,
    /// Its name ("NET_RX").
    pub name: Option<String>,
    /// What it runs; 0: nothing.
    #[serde(serialize_with = "hex")]
    pub action: u64,
    /// The symbol there.
    pub symbol: Option<SymbolAt>,
    /// CPUs on which it waits to run; `None`: not to be read.
    pub pending_on: Option<Vec<u32>>,
}

impl Kernel {
    /// The softirqs, by number.
    pub fn softirqs(&self) -> Result<Vec<Softirq>> {
        let vector = self.symbol("softirq_vec")?;
        let step = self.ty("softirq_action")?.size().unwrap_or(8);
        let names = self.symbol("softirq_to_name");
        let pending = self.pending_softirqs().ok();
        let one = |n: u64| {
            let action = self.read_u64(vector.wrapping_add(n * step))?;
            let name = names.clone().and_then(|at| self.read_u64(at.wrapping_add(n * 8)));
            let waits = |(cpu, bits): &(u32, u32)| (bits >> n & 1 == 1).then_some(*cpu);
            Ok(Softirq {
                vector: n as u32,
                name: name.and_then(|at| self.read_cstring(at, 32)).ok(),
                action,
                symbol: self.symbol_at(action),
                pending_on: pending.as_ref().map(|p| p.iter().filter_map(waits).collect()),
            })
        };
        (0..self.softirq_count()?).map(one).collect()
    }

    /// `NR_SOFTIRQS`, the last of an enum without a name.
    fn softirq_count(&self) -> Result<u64> {
        let enums = self.btf()?.types().filter(|ty| ty.kind() == Kind::Enum);
        let mut unnamed = enums.filter(|ty| ty.name().is_empty());
        let count = unnamed
            .find_map(|ty| ty.enumerators().find(|e| e.name == "NR_SOFTIRQS"))
            .ok_or_else(|| Error::NoType("NR_SOFTIRQS".into()))?;
        u64::try_from(count.value)
            .ok()
            .filter(|n| *n <= MOST)
            .ok_or_else(|| Error::corrupt(format!("NR_SOFTIRQS ({})", count.value), 0))
    }

    /// (CPU, bits of the softirqs that wait to run there).
    fn pending_softirqs(&self) -> Result<Vec<(u32, u32)>> {
        let within = |variable: &str, ty: &str, member: &str| {
            let place = self.ty(ty)?.member(member);
            let offset = place
                .ok_or_else(|| Error::NoMember { ty: ty.to_owned(), names: member.to_owned() })?;
            Ok(self.symbol(variable)?.wrapping_add(offset.bit_offset / 8))
        };
        let at = self
            .symbol("__softirq_pending")
            .or_else(|_| within("pcpu_hot", "pcpu_hot", "softirq_pending"))
            .or_else(|_: Error| within("irq_stat", "irq_cpustat_t", "__softirq_pending"))?;
        let offsets = self.per_cpu_offsets()?.into_iter();
        offsets.map(|(cpu, offset)| Ok((cpu, self.read_u32(at.wrapping_add(offset))?))).collect()
    }
}

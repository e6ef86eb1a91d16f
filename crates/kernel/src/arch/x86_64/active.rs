//! Registers of the CPUs at the moment of the dump.
//!
//! A kdump kernel finds them in `crash_notes` (kernel/crash_core.c): one ELF
//! note per possible CPU, in per-CPU memory; the dump's `NT_PRSTATUS` notes
//! are copies, without the CPUs that left none. A hypervisor writes one note
//! per virtual CPU, and beside it segments: the base of GS (in user mode, the
//! swapped one) is the CPU's per-CPU offset, which tells the CPU's number. Of
//! the dom0 of a Xen host they are on the hypervisor's stacks.

use kmortem_vmcore::CpuState;

use crate::Kernel;
use crate::arch::crash_notes;
use crate::arch::registers::Registers;
use crate::arch::x86_64::registers::{complete, from_bytes};
use crate::error::Result;
use crate::xen::guest;

/// Registers per possible CPU: (CPU, registers), for those that have some.
pub(super) fn cpu_registers(kernel: &Kernel) -> Result<Vec<(u32, Registers)>> {
    let possible = kernel.possible_cpus()?;
    let image = kernel.image();
    let below = image.xen_host().is_some();
    let of_dom0 = guest::all(image).into_iter();
    let of_dom0 = of_dom0.map(|status| CpuState { prstatus: Some(status), ..CpuState::default() });
    let of_dom0: Vec<CpuState> = of_dom0.collect();
    let notes = if below { of_dom0.as_slice() } else { image.cpus() };
    if notes.is_empty() {
        return Ok(possible
            .into_iter()
            .filter_map(|cpu| Some((cpu, crash_note(kernel, cpu)?)))
            .collect());
    }
    let offsets: Vec<(u32, u64)> =
        possible.iter().filter_map(|cpu| Some((*cpu, kernel.per_cpu_offset(*cpu).ok()?))).collect();
    let own: Vec<(u32, Registers)> =
        possible.iter().filter_map(|cpu| Some((*cpu, crash_note(kernel, *cpu)?))).collect();
    let mut found: Vec<(u32, Registers)> = Vec::new();
    for (index, state) in notes.iter().enumerate() {
        let Some(prstatus) = &state.prstatus else { continue };
        let Ok(words) = <[u64; 21]>::try_from(&prstatus.regs[..21]) else { continue };
        let regs = complete(words);
        let by_gs = state.gs_bases().into_iter().find_map(|base| {
            offsets.iter().find(|(_, offset)| *offset == base).map(|(cpu, _)| *cpu)
        });
        let by_note = || own.iter().find(|(_, r)| *r == regs).map(|(cpu, _)| *cpu);
        // The machine's CPUs are not dom0's.
        let by_order = || possible.get(index).copied().filter(|_| !below);
        let cpu = by_gs.or_else(by_note).or_else(by_order);
        if let Some(cpu) = cpu.filter(|cpu| !found.iter().any(|(seen, _)| seen == cpu)) {
            found.push((cpu, regs));
        }
    }
    found.sort_by_key(|(cpu, _)| *cpu);
    Ok(found)
}

/// The registers that the kernel itself saved for `cpu` when it crashed.
fn crash_note(kernel: &Kernel, cpu: u32) -> Option<Registers> {
    let bytes = crash_notes::registers(kernel, cpu, 21 * 8)?;
    from_bytes(&bytes).filter(|r| r.ip() != 0)
}

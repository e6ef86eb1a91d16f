//! Registers of the CPUs at the moment of the dump.
//!
//! A kdump kernel finds them in `crash_notes` (kernel/crash_core.c): one ELF
//! note per possible CPU, in per-CPU memory; the dump's `NT_PRSTATUS` notes
//! are copies, without the CPUs that left none. A hypervisor writes one note
//! per virtual CPU, and beside it segments: the base of GS (in user mode, the
//! swapped one) is the CPU's per-CPU offset, which tells the CPU's number; where
//! bases are not saved (SMM), the stack that it was on does. Of
//! the dom0 of a Xen host they are on the hypervisor's stacks.

use std::cell::LazyCell;
use std::ops::Range;

use kmortem_vmcore::CpuState;

use crate::Kernel;
use crate::arch::crash_notes;
use crate::arch::registers::Registers;
use crate::arch::x86_64::registers::{complete, from_bytes};
use crate::arch::x86_64::stacks::cpu_stacks;
use crate::error::Result;
use crate::task::TaskLayout;
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
    let stacks = LazyCell::new(|| stacks_of_cpus(kernel, &possible));
    let by_stack = |sp: u64| {
        let index = stacks.partition_point(|(range, _)| range.start <= sp).checked_sub(1)?;
        stacks.get(index).filter(|(range, _)| range.contains(&sp)).map(|(_, cpu)| *cpu)
    };
    let mut found: Vec<(u32, Registers)> = Vec::new();
    // Those whose place among the CPUs is all that is known.
    let mut unknown: Vec<(usize, Registers)> = Vec::new();
    for (index, state) in notes.iter().enumerate() {
        let Some(prstatus) = &state.prstatus else { continue };
        let Ok(words) = <[u64; 21]>::try_from(&prstatus.regs[..21]) else { continue };
        let regs = complete(words);
        let by_gs = state.gs_bases().into_iter().find_map(|base| {
            offsets.iter().find(|(_, offset)| *offset == base).map(|(cpu, _)| *cpu)
        });
        let by_note = || own.iter().find(|(_, r)| *r == regs).map(|(cpu, _)| *cpu);
        let cpu = by_gs.or_else(by_note).or_else(|| by_stack(regs.sp()));
        match cpu.filter(|cpu| !found.iter().any(|(seen, _)| seen == cpu)) {
            Some(cpu) => found.push((cpu, regs)),
            // The machine's CPUs are not dom0's.
            None if cpu.is_none() && !below => unknown.push((index, regs)),
            None => {}
        }
    }
    for (index, regs) in unknown {
        let by_order = possible.get(index).copied();
        if let Some(cpu) = by_order.filter(|cpu| !found.iter().any(|(seen, _)| seen == cpu)) {
            found.push((cpu, regs));
        }
    }
    found.sort_by_key(|(cpu, _)| *cpu);
    Ok(found)
}

/// Stacks and the CPU that ran on each, by address: its own ones, and that of its task.
fn stacks_of_cpus(kernel: &Kernel, possible: &[u32]) -> Vec<(Range<u64>, u32)> {
    let own = cpu_stacks(kernel).unwrap_or_default().into_iter();
    let mut stacks: Vec<(Range<u64>, u32)> = own.map(|stack| (stack.range, stack.cpu)).collect();
    let of_task = |cpu: u32| {
        let layout = kernel.layout::<TaskLayout>().ok()?;
        let start = layout.stack.read(kernel, kernel.current(cpu).ok()?).ok()?;
        Some((start..start.checked_add(kernel.thread_size().ok()?)?, cpu))
    };
    stacks.extend(possible.iter().filter_map(|cpu| of_task(*cpu)));
    stacks.sort_by_key(|(range, _)| range.start);
    stacks
}

/// The registers that the kernel itself saved for `cpu` when it crashed.
fn crash_note(kernel: &Kernel, cpu: u32) -> Option<Registers> {
    let bytes = crash_notes::registers(kernel, cpu, 21 * 8)?;
    from_bytes(&bytes).filter(|r| r.ip() != 0)
}

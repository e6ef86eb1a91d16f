//! The vCPUs' registers in Firecracker's state: `kvm_regs` and `kvm_sregs` ([`crate::container::kvm`]),
//! wherever they are in it.
//!
//! - versionize and bincode: for each vCPU MSRs, each { index u32, 0 u32, value u64 }, `kvm_regs`,
//!   `kvm_sregs`, and more around them; since kvm-bindings 0.8 each with its length u64 before.
//! - bitcode (crate bitcode 0.6, `serde`): a column for each field, with that of all vCPUs. Columns of
//!   bytes are a few bytes of lengths and packing, then the bytes as they are: first all MSRs, then
//!   all `kvm_regs`, then all `kvm_sregs`.

use std::ops::Range;

use crate::container::kvm::{self, REGS, Regs, SREGS, Sregs};
use crate::cpu::CpuState;
use crate::source::Fields;

const MAX_VCPUS: usize = 4096;

/// All vCPUs that run a 64-bit kernel, in their order.
pub(super) fn in_sequence(data: &[u8]) -> Vec<CpuState> {
    let mut cpus = Vec::new();
    let mut done = 0;
    let mut at = REGS;
    while let Some(bytes) = data.get(at..at + SREGS) {
        let Some(sregs) = Sregs::parse(bytes).filter(|_| cpus.len() < MAX_VCPUS) else {
            at += 1;
            continue;
        };
        let Some(place) = place_of_regs(data, at) else {
            at += 1;
            continue;
        };
        let gs_base = data.get(done..place.start).and_then(kernel_gs_base);
        let regs = data.get(place).and_then(Regs::parse);
        if let Some(regs) = regs.filter(|_| sregs.is_long_mode()) {
            cpus.push(CpuState::of_x86_64(kvm::qemu_state(&regs, &sregs, gs_base), cpus.len()));
        }
        done = at + SREGS;
        at = done + REGS;
    }
    cpus
}

/// Where the `kvm_regs` are that belong to the `kvm_sregs` at `sregs`.
fn place_of_regs(data: &[u8], sregs: usize) -> Option<Range<usize>> {
    let is_len = |at: usize, len: usize| Fields(data).u64(at) == Some(len as u64);
    let with_len = sregs.checked_sub(8).filter(|at| is_len(*at, SREGS));
    let end = match with_len {
        Some(end) => end,
        None => sregs,
    };
    let start = end.checked_sub(REGS)?;
    let has_len = start.checked_sub(8).is_some_and(|at| is_len(at, REGS));
    let is_sound = with_len.is_some() == has_len;
    let is_regs = data.get(start..end).is_some_and(|bytes| Regs::parse(bytes).is_some());
    (is_sound && is_regs).then_some(start..end)
}

/// MSR_KERNEL_GS_BASE as it starts an MSR.
const KERNEL_GS_BASE: [u8; 8] = 0xc000_0102_u64.to_le_bytes();

/// The last value of that MSR.
fn kernel_gs_base(bytes: &[u8]) -> Option<u64> {
    let at = memchr::memmem::rfind(bytes, &KERNEL_GS_BASE)?;
    Fields(bytes).u64(at + KERNEL_GS_BASE.len())
}

/// All vCPUs that run a 64-bit kernel, where fields of all are together.
pub(super) fn in_columns(data: &[u8]) -> Vec<CpuState> {
    let sregs_at = |at: usize| data.get(at..at + SREGS).and_then(Sregs::parse);
    let Some(start) = (REGS..data.len()).find(|at| sregs_at(*at).is_some()) else {
        return Vec::new();
    };
    let all = (0..MAX_VCPUS).map_while(|index| sregs_at(start + index * SREGS));
    let sregs: Vec<Sregs> = all.collect();
    let Some((at, regs)) = column_of_regs(data, start, sregs.len()) else { return Vec::new() };
    let before = data.get(..at).unwrap_or_default();
    let values: Vec<u64> = memchr::memmem::find_iter(before, &KERNEL_GS_BASE)
        .filter_map(|at| Fields(before).u64(at + KERNEL_GS_BASE.len()))
        .collect();
    // One for each vCPU, or nobody knows which is whose.
    let gs_base = |index: usize| values.get(index).filter(|_| values.len() == sregs.len()).copied();
    let mut cpus = Vec::new();
    for (index, (regs, sregs)) in regs.iter().zip(&sregs).enumerate() {
        if sregs.is_long_mode() {
            cpus.push(CpuState::of_x86_64(
                kvm::qemu_state(regs, sregs, gs_base(index)),
                cpus.len(),
            ));
        }
    }
    cpus
}

/// The only run of `count` structures that ends shortly before `end` and makes sense, and where it
/// is.
fn column_of_regs(data: &[u8], end: usize, count: usize) -> Option<(usize, Vec<Regs>)> {
    // Lengths take up to 3 bytes each while they are few, less when there are many.
    let most = 32 + 4 * count;
    let mut found = (0..most).filter_map(|gap| {
        let start = end.checked_sub(gap + count * REGS)?;
        let bytes = data.get(start..start + count * REGS)?;
        let regs: Option<Vec<Regs>> = bytes
            .chunks_exact(REGS)
            .map(|bytes| Regs::parse(bytes).filter(Regs::are_addresses))
            .collect();
        Some((start, regs?))
    });
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

//! Registers of the CPUs, as the processor saved them when it entered SMM (Intel's manual, volume 3,
//! "SMRAM State Save Map"; crash, sadump.h, `struct sadump_smram_cpu_state`).
//!
//! ```text
//! sub header   0 bytes of all states u32; per CPU { APIC ID u64, LDR u64 }; per CPU a state
//! state        464 GDT, 468 LDT, 472 IDT: upper halves u32; 576 CR4 u32; 652 GDT, 660 IDT: lower
//!              half and limit u32; 796 r15 down to r8, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi: u64
//!              each; 936 es, cs, ss, ds, fs, gs, 960 ldtr, tr: u32 each; 984 rip, 992 EFER,
//!              1000 rflags, 1008 CR3, 1016 CR0: u64 each
//! ```
//!
//! States are numbered by APIC ID: those of CPUs that are not there are zeros. Bases of segments are
//! not saved in a known place.

use super::header::DumpHeader;
use crate::cpu::{CpuState, QemuCpuState, QemuSegment};
use crate::source::{Fields, Source};

const APIC: u64 = 16;
const STATE: u64 = 1024;
const MAX_CPUS: u32 = 1 << 16;
const EFER_LMA: u64 = 1 << 10;

/// The CPUs that run a 64-bit kernel, by APIC ID.
pub(super) fn read(
    source: &dyn Source,
    header: &DumpHeader,
    oddities: &mut Vec<String>,
) -> Vec<CpuState> {
    let mut cpus = Vec::new();
    let place = header.sub_header;
    let count = u64::from(header.nr_cpus);
    let mut word = [0; 4];
    if place.len == 0 || source.copy_to(place.offset, &mut word).is_err() {
        oddities.push("the sadump has no registers of CPUs".to_owned());
        return cpus;
    }
    let size = u64::from(u32::from_le_bytes(word)).checked_div(count).unwrap_or_default();
    let needed = 4 + count * (APIC + size);
    if size < STATE || header.nr_cpus > MAX_CPUS || needed > place.len {
        oddities.push(format!(
            "sadump's sub header: nr_cpus is {count}, a CPU's state has {size} bytes: not taken"
        ));
        return cpus;
    }
    for index in 0..count {
        let at = place.offset + 4 + count * APIC + index * size;
        let Ok(bytes) = source.bytes(at, STATE as usize) else { break };
        if let Some(state) = state(&bytes) {
            cpus.push(CpuState::of_x86_64(state, index as usize));
        }
    }
    if cpus.is_empty() {
        oddities.push("no CPU of the sadump runs a 64-bit kernel".to_owned());
    }
    cpus
}

fn state(bytes: &[u8]) -> Option<QemuCpuState> {
    let fields = Fields(bytes);
    let long = |at: usize| fields.u64(at);
    if long(992)? & EFER_LMA == 0 {
        return None;
    }
    let high = |at: usize| fields.u32(at).map(|high| u64::from(high) << 32);
    let table = |upper: usize, lower: usize| {
        let base = high(upper)? | u64::from(fields.u32(lower)?);
        Some(QemuSegment { limit: fields.u32(lower + 4)?, base, ..QemuSegment::default() })
    };
    let segment = |at: usize| {
        let selector = fields.u32(at)? & 0xffff;
        Some(QemuSegment { selector, ..QemuSegment::default() })
    };
    Some(QemuCpuState {
        gprs: [
            long(860)?,
            long(884)?,
            long(868)?,
            long(876)?,
            long(908)?,
            long(916)?,
            long(892)?,
            long(900)?,
            long(852)?,
            long(844)?,
            long(836)?,
            long(828)?,
            long(820)?,
            long(812)?,
            long(804)?,
            long(796)?,
        ],
        rip: long(984)?,
        rflags: long(1000)?,
        cs: segment(940)?,
        ds: segment(948)?,
        es: segment(936)?,
        fs: segment(952)?,
        gs: segment(956)?,
        ss: segment(944)?,
        ldt: segment(960)?,
        tr: segment(964)?,
        gdt: table(464, 652)?,
        idt: table(472, 660)?,
        cr: [long(1016)?, 0, 0, long(1008)?, u64::from(fields.u32(576)?)],
        kernel_gs_base: None,
    })
}

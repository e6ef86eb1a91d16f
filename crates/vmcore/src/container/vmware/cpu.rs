//! Registers out of the group `cpu` of a VMware checkpoint: see the layout in [`super`].

use std::collections::BTreeMap;

use super::tags::Tag;
use crate::cpu::{CpuState, QemuCpuState, QemuSegment};
use crate::source::{Fields, Source};

/// VMware's limit is 768.
const MAX_VCPUS: u32 = 8192;

/// In the order of [`QemuCpuState::gprs`].
const GPRS: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// The same in the order of the block `gpregs`, by their place in the array above.
const GPREGS: [usize; 16] = [0, 2, 3, 1, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
const GPREGS_LEN: usize = 128;
const CR64_LEN: usize = 72;
/// Limit and base of a table.
const TABLE_LEN: usize = 10;
/// The order of segments: ES, CS, SS, DS, FS, GS, LDTR, TR.
const SEGMENTS: usize = 8;

/// What was found of one virtual CPU.
#[derive(Default, PartialEq, Eq)]
struct Vcpu {
    gprs: [Option<u64>; 16],
    rip: Option<u64>,
    rflags: Option<u64>,
    cr: [Option<u64>; 5],
    selectors: [Option<u64>; SEGMENTS],
    bases: [Option<u64>; SEGMENTS],
    /// Limit, lower and upper half of the address.
    idt: [Option<u64>; 3],
    gdt: [Option<u64>; 3],
}

/// All virtual CPUs, as their tags come.
#[derive(Default)]
pub(super) struct Vcpus(BTreeMap<u32, Vcpu>);

impl Vcpus {
    /// Takes what a tag says of a register. What it doesn't is of no interest.
    pub(super) fn take(&mut self, tag: &Tag, source: &dyn Source) {
        if tag.indices.is_empty() || tag.index() >= MAX_VCPUS {
            return;
        }
        let second = tag.indices.get(1).map_or(0, |index| *index as usize);
        let one = |place: Option<&mut Option<u64>>| {
            if let (Some(place), Some(number)) = (place, tag.number(source)) {
                *place = Some(number);
            }
        };
        let cpu = self.0.entry(tag.index()).or_default();
        match tag.name.as_str() {
            "rip" => one(Some(&mut cpu.rip)),
            // Each may hold some of the flags.
            "eflags" | "EFLAGS" => {
                if let Some(flags) = tag.number(source) {
                    *cpu.rflags.get_or_insert_default() |= flags;
                }
            }
            "S" => one(cpu.selectors.get_mut(second)),
            "S.base64" => one(cpu.bases.get_mut(second)),
            "gpregs" => {
                let Some(bytes) = tag.block(source, GPREGS_LEN) else { return };
                for (index, place) in GPREGS.into_iter().enumerate() {
                    if let Some(register) = cpu.gprs.get_mut(place) {
                        *register = Fields(&bytes).u64(8 * index);
                    }
                }
            }
            "CR64" => match tag.block(source, CR64_LEN) {
                Some(bytes) => {
                    for (index, register) in cpu.cr.iter_mut().enumerate() {
                        *register = Fields(&bytes).u64(8 * index);
                    }
                }
                None => one(cpu.cr.get_mut(second)),
            },
            "IDTR" => take_table(&mut cpu.idt, tag, source, second),
            "GDTR" => take_table(&mut cpu.gdt, tag, source, second),
            name => {
                if let Some(index) = GPRS.iter().position(|gpr| *gpr == name) {
                    one(cpu.gprs.get_mut(index));
                }
            }
        }
    }

    /// The CPUs in their order. What is missing of one is told.
    pub(super) fn finish(self, oddities: &mut Vec<String>) -> Vec<CpuState> {
        let mut cpus = Vec::new();
        // Of what else has an index nothing is known.
        let known = self.0.into_iter().filter(|(_, vcpu)| *vcpu != Vcpu::default());
        for (index, vcpu) in known {
            match vcpu.state(oddities, index) {
                Ok(state) => cpus.push(CpuState::of_x86_64(state, index as usize)),
                Err(missing) => oddities.push(format!(
                    "the registers of virtual CPU {index} are not taken: there is no {missing}"
                )),
            }
        }
        cpus
    }
}

/// A table's register: a block of 10 bytes, or three numbers.
fn take_table(place: &mut [Option<u64>; 3], tag: &Tag, source: &dyn Source, second: usize) {
    match tag.block(source, TABLE_LEN) {
        Some(bytes) => {
            let base = Fields(&bytes).u64(2).unwrap_or_default();
            let limit = Fields(&bytes).u16(0).map(u64::from);
            *place = [limit, Some(base & u64::from(u32::MAX)), Some(base >> 32)];
        }
        None => {
            if let (Some(place), Some(number)) = (place.get_mut(second), tag.number(source)) {
                *place = Some(number);
            }
        }
    }
}

impl Vcpu {
    /// The registers, or the name of one without which they are of no use.
    fn state(&self, oddities: &mut Vec<String>, index: u32) -> Result<QemuCpuState, String> {
        let mut gprs = [0; 16];
        for ((place, register), name) in gprs.iter_mut().zip(self.gprs).zip(GPRS) {
            *place = register.ok_or(name)?;
        }
        let mut cr = [0; 5];
        for (number, (place, register)) in cr.iter_mut().zip(self.cr).enumerate() {
            // CR1 does not exist.
            *place = match register {
                None if number != 1 => return Err(format!("CR64 {number}")),
                register => register.unwrap_or_default(),
            };
        }
        if self.bases.iter().any(Option::is_none) {
            oddities.push(format!("virtual CPU {index}: not all bases of segments are there"));
        }
        let [es, cs, ss, ds, fs, gs, ldt, tr] = std::array::from_fn(|number| QemuSegment {
            selector: self.selectors.get(number).copied().flatten().unwrap_or_default() as u32,
            base: self.bases.get(number).copied().flatten().unwrap_or_default(),
            ..QemuSegment::default()
        });
        let rflags = self.rflags.ok_or("eflags")?;
        let rip = self.rip.ok_or("rip")?;
        let (gdt, idt) = (table(self.gdt), table(self.idt));
        let kernel_gs_base = None;
        Ok(QemuCpuState {
            gprs,
            rip,
            rflags,
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            ldt,
            tr,
            gdt,
            idt,
            cr,
            kernel_gs_base,
        })
    }
}

fn table([limit, low, high]: [Option<u64>; 3]) -> QemuSegment {
    let base = low.unwrap_or_default() | high.unwrap_or_default() << 32;
    let limit = limit.unwrap_or_default() as u32;
    QemuSegment { limit, base, ..QemuSegment::default() }
}

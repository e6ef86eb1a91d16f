//! Notes as bytes, the way kdump and QEMU write them: `{ namesz, descsz, type }`, the name with
//! its NUL and the description, each padded to 4 bytes ([`crate::elf_note`]).

use crate::cpu::{CpuState, QemuCpuState};
use crate::elf_note::{NT_PRSTATUS, Note};
use crate::machine_frames::MachineFrames;
use crate::origin;

/// The notes one after the other, without those of our own that stand for the original.
pub(super) fn encode_foreign(notes: &[Note]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let stays = |note: &&Note| note.name != origin::OWNER || MachineFrames::is_in(note);
    notes.iter().filter(stays).for_each(|note| push(&mut bytes, note));
    bytes
}

/// Appends a note.
pub(super) fn push(bytes: &mut Vec<u8>, note: &Note) {
    // Notes that were read fit in far less.
    bytes.extend((note.name.len() as u32 + 1).to_le_bytes());
    bytes.extend((note.desc.len() as u32).to_le_bytes());
    bytes.extend(note.kind.to_le_bytes());
    bytes.extend(note.name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(&note.desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Notes of CPUs whose registers came another way, as QEMU's own dumps have them: first
/// `NT_PRSTATUS` of each, then its state. [`crate::cpu`] has the layouts.
pub(super) fn of_cpus(cpus: &[CpuState]) -> Vec<Note> {
    let prstatus = cpus.iter().enumerate().filter_map(|(index, cpu)| prstatus(index, cpu));
    let qemu = cpus.iter().filter_map(|cpu| {
        let desc = qemu_state(cpu.qemu.as_ref()?);
        Some(Note { name: "QEMU".to_owned(), kind: 0, desc })
    });
    prstatus.chain(qemu).collect()
}

fn prstatus(index: usize, cpu: &CpuState) -> Option<Note> {
    const REGISTERS: usize = 112;
    let (pid, registers, size) = match cpu {
        CpuState { prstatus: Some(status), .. } => (status.pid, status.regs.to_vec(), 336),
        CpuState { prstatus_arm64: Some(status), .. } => {
            let rest = [status.sp, status.pc, status.pstate];
            (status.pid, status.x.iter().copied().chain(rest).collect(), 392)
        }
        CpuState { qemu: Some(state), .. } => (index as u32 + 1, state.user_regs().to_vec(), 336),
        _ => return None,
    };
    let mut desc = vec![0; REGISTERS];
    desc[32..36].copy_from_slice(&pid.to_le_bytes());
    desc.extend(registers.into_iter().flat_map(u64::to_le_bytes));
    desc.resize(size, 0);
    Some(Note { name: "CORE".to_owned(), kind: NT_PRSTATUS, desc })
}

/// `QEMUCPUState`.
fn qemu_state(state: &QemuCpuState) -> Vec<u8> {
    let mut desc = 1u32.to_le_bytes().to_vec();
    let size: u32 = if state.kernel_gs_base.is_some() { 440 } else { 432 };
    desc.extend(size.to_le_bytes());
    let registers = state.gprs.into_iter().chain([state.rip, state.rflags]);
    desc.extend(registers.flat_map(u64::to_le_bytes));
    let QemuCpuState { cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt, .. } = state;
    for segment in [cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt] {
        for field in [segment.selector, segment.limit, segment.flags, 0] {
            desc.extend(field.to_le_bytes());
        }
        desc.extend(segment.base.to_le_bytes());
    }
    desc.extend(state.cr.into_iter().chain(state.kernel_gs_base).flat_map(u64::to_le_bytes));
    desc
}

/// Where the description of the VMCOREINFO note lies in what [`encode_foreign`] makes of `notes`.
pub(super) fn place_of_vmcoreinfo(notes: &[Note]) -> Option<(u64, u64)> {
    let index = notes.iter().position(|note| note.name == "VMCOREINFO")?;
    let (before, from) = notes.split_at(index);
    let desc = from.first()?.desc.len() as u64;
    // Header, and the name with its NUL and padding.
    Some((encode_foreign(before).len() as u64 + 12 + 12, desc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf_note;

    #[test]
    fn registers_make_the_notes_they_came_from() {
        let bytes = [
            kmortem_testkit::notes::prstatus_x86_64(7, &std::array::from_fn(|n| n as u64 + 50)),
            kmortem_testkit::notes::qemu_cpu(1000),
            kmortem_testkit::notes::prstatus_aarch64(9, &std::array::from_fn(|n| n as u64 + 90)),
        ];
        let parse = |bytes: &[u8]| elf_note::parse(bytes).0;
        let (x86, arm) = (parse(&bytes[..2].concat()), parse(&bytes[2]));
        assert_eq!(of_cpus(&crate::cpu::parse_cpus(&x86)), x86);
        assert_eq!(of_cpus(&crate::cpu::parse_cpus(&arm)), arm);

        // A hypervisor's state alone gives the general registers, too.
        let alone = of_cpus(&crate::cpu::parse_cpus(&parse(&bytes[1])));
        let cpu = crate::cpu::parse_cpus(&alone).remove(0);
        let status = cpu.prstatus.unwrap();
        let (rip, rsp, rax) = (status.regs[16], status.regs[19], status.regs[10]);
        assert_eq!((status.pid, rip, rsp, rax), (1, 1016, 1006, 1000));
    }

    #[test]
    fn notes_come_back_and_vmcoreinfo_is_where_it_is_said_to_be() {
        let note = |name: &str, kind, desc: &[u8]| Note {
            name: name.to_owned(),
            kind,
            desc: desc.to_vec(),
        };
        let ours = note(origin::OWNER, 7, b"x");
        let notes = [
            note("CORE", 1, b"12345"),
            ours,
            note("VMCOREINFO", 0, b"A=1\n"),
            note("QEMU", 0, b""),
        ];
        let bytes = encode_foreign(&notes);
        let (back, oddities) = elf_note::parse(&bytes);
        assert!(oddities.is_empty());
        let foreign = [notes[0].clone(), notes[2].clone(), notes[3].clone()];
        assert_eq!(back, foreign);
        let (at, len) = place_of_vmcoreinfo(&notes).unwrap();
        assert_eq!(&bytes[at as usize..(at + len) as usize], b"A=1\n");
        assert_eq!(place_of_vmcoreinfo(&notes[..1]), None);
    }
}

//! ELF notes as kdump and QEMU write them.

/// A note: `{ namesz, descsz, type }`, name with its NUL and description, each padded to 4.
pub fn note(name: &str, kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((name.len() as u32 + 1).to_le_bytes());
    bytes.extend((desc.len() as u32).to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `NT_PRSTATUS` of x86_64: 336 bytes, pid at 32, registers at 112.
pub fn prstatus_x86_64(pid: u32, regs: &[u64; 27]) -> Vec<u8> {
    prstatus(pid, regs, 336)
}

/// `NT_PRSTATUS` of aarch64: 392 bytes, pid at 32, x0 to x30, sp, pc, pstate at 112.
pub fn prstatus_aarch64(pid: u32, regs: &[u64; 34]) -> Vec<u8> {
    prstatus(pid, regs, 392)
}

fn prstatus(pid: u32, regs: &[u64], size: usize) -> Vec<u8> {
    let mut desc = vec![0; 32];
    desc.extend(pid.to_le_bytes());
    desc.resize(112, 0);
    desc.extend(regs.iter().flat_map(|reg| reg.to_le_bytes()));
    desc.resize(size, 0);
    note("CORE", 1, &desc)
}

/// QEMU's CPU state, with each register set to a value that tells which it is: the n-th 64-bit
/// register to `base + n`, each segment's selector to its number.
pub fn qemu_cpu(base: u64) -> Vec<u8> {
    let mut desc = Vec::new();
    desc.extend(1u32.to_le_bytes());
    desc.extend(440u32.to_le_bytes());
    for register in 0..18 {
        desc.extend((base + register).to_le_bytes());
    }
    for segment in 0..10u32 {
        for field in [segment, 0xf_ffff, 0xa09b00, 0] {
            desc.extend(field.to_le_bytes());
        }
        desc.extend((base + 100 + u64::from(segment)).to_le_bytes());
    }
    for register in 0..6 {
        desc.extend((base + 200 + register).to_le_bytes());
    }
    note("QEMU", 0, &desc)
}

/// VMCOREINFO as a note.
pub fn vmcoreinfo(text: &str) -> Vec<u8> {
    note("VMCOREINFO", 0, text.as_bytes())
}

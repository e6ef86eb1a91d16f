//! ELF and program headers, little-endian ELF64 (elf(5)).
//!
//! ```text
//! Ehdr:  4 class, 5 data, 16 e_type u16, 18 e_machine u16, 32 e_phoff u64, 40 e_shoff u64,
//!        48 e_flags u32, 52 e_ehsize u16, 54 e_phentsize u16, 56 e_phnum u16, 58 e_shentsize u16,
//!        60 e_shnum u16, 62 e_shstrndx u16
//! Phdr:  0 p_type u32, 4 p_flags u32, 8 p_offset, 16 p_vaddr, 24 p_paddr, 32 p_filesz,
//!        40 p_memsz, 48 p_align
//! Shdr:  44 sh_info u32 (64 bytes in all)
//! ```

use crate::error::OpenError;
use crate::info::Machine;
use crate::source::{Fields, Source};

const EHDR: usize = 64;
const PHDR: usize = 56;
const ET_CORE: u16 = 4;
const PN_XNUM: u16 = 0xffff;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// makedumpfile's `DUMP_ELF_INCOMPLETE`.
pub(super) const EF_INCOMPLETE: u32 = 1;

/// Program headers beyond this are not taken: 64 times the 65535 that PN_XNUM is there to pass.
const MAX_SEGMENTS: u64 = 1 << 22;

/// Names of `e_machine` (include/uapi/linux/elf-em.h) of other kernels that dump.
const MACHINES: &[(u16, &str)] = &[
    (2, "sparc"),
    (3, "i386"),
    (8, "mips"),
    (18, "sparc32plus"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390"),
    (40, "arm"),
    (42, "superh"),
    (43, "sparc64"),
    (50, "ia64"),
    (243, "riscv"),
    (258, "loongarch"),
];

/// What counts of the ELF header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) machine: Machine,
    pub(super) flags: u32,
    /// Whether `e_ehsize` is QEMU's.
    pub(super) odd_qemu: bool,
    pub(super) oddities: Vec<String>,
    phoff: u64,
    phnum: u64,
}

/// A `PT_LOAD` or `PT_NOTE`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) vaddr: u64,
    pub(super) paddr: u64,
    pub(super) file_len: u64,
    pub(super) mem_len: u64,
}

#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) loads: Vec<Segment>,
    pub(super) notes: Vec<Segment>,
    pub(super) cut_off: Option<String>,
}

pub(super) fn read(name: &str, source: &dyn Source) -> Result<Header, OpenError> {
    let cut = |what: &str| OpenError::Truncated { name: name.to_owned(), what: what.to_owned() };
    let head = source.bytes(0, source.len().min(EHDR as u64) as usize).unwrap_or_default();
    let fields = Fields(&head);
    let big_endian = head.get(5) == Some(&2);
    let half = |at| fields.u16(at).map(|v| if big_endian { v.swap_bytes() } else { v });
    let (Some(kind), Some(machine)) = (half(16), half(18)) else {
        return Err(cut("it ends in its ELF header"));
    };
    // What is no core has a machine too: say first what it is.
    if kind != ET_CORE {
        let looks_like = not_a_core(kind, source, fields);
        return Err(OpenError::Foreign { name: name.to_owned(), looks_like });
    }
    let bits32 = head.get(4) == Some(&1);
    let machine = match machine {
        EM_X86_64 if !bits32 && !big_endian => Machine::X86_64,
        EM_AARCH64 if !bits32 && !big_endian => Machine::Aarch64,
        _ => {
            let machine = machine_name(machine, bits32, big_endian);
            return Err(OpenError::Machine { name: name.to_owned(), machine });
        }
    };
    let header = (|| {
        Some((
            fields.u64(32)?,
            fields.u64(40)?,
            fields.u32(48)?,
            fields.u16(52)?,
            fields.u16(54)?,
            fields.u16(56)?,
        ))
    })();
    let Some((phoff, shoff, flags, ehsize, phentsize, phnum)) = header else {
        return Err(cut("it ends in its ELF header"));
    };
    if phnum != 0 && usize::from(phentsize) != PHDR {
        return Err(OpenError::Corrupt {
            name: name.to_owned(),
            what: format!("its program headers have {phentsize} bytes instead of {PHDR}"),
        });
    }
    let mut oddities = Vec::new();
    if usize::from(ehsize) != EHDR {
        oddities.push(format!("the ELF header says it has {ehsize} bytes (QEMU 7.2 writes 8)"));
    }
    let phnum = match phnum {
        PN_XNUM => real_phnum(source, shoff).ok_or_else(|| {
            cut("the number of its segments is in a section header that is not in the file")
        })?,
        phnum => u64::from(phnum),
    };
    Ok(Header { machine, flags, odd_qemu: ehsize == 8, oddities, phoff, phnum })
}

fn real_phnum(source: &dyn Source, shoff: u64) -> Option<u64> {
    let info = source.bytes(shoff.checked_add(44)?, 4).ok()?;
    Fields(&info).u32(0).map(u64::from)
}

fn machine_name(machine: u16, bits32: bool, big_endian: bool) -> String {
    let name = match MACHINES.iter().find(|(number, _)| *number == machine) {
        Some((_, name)) => (*name).to_owned(),
        None if machine == EM_X86_64 => "x86_64".to_owned(),
        None if machine == EM_AARCH64 => "aarch64".to_owned(),
        None => format!("machine {machine}"),
    };
    match (bits32, big_endian) {
        (true, _) => format!("32-bit {name}"),
        (_, true) => format!("big-endian {name}"),
        _ => name,
    }
}

fn not_a_core(kind: u16, source: &dyn Source, fields: Fields<'_>) -> String {
    match kind {
        1 => "it is an ELF object file, perhaps a kernel module".to_owned(),
        2 | 3 => "it is an ELF executable (vmlinux?), not a dump of memory".to_owned(),
        _ => format!(
            "it is an ELF file of the unknown type {kind} (machine {}, {} bytes)",
            fields.u16(18).unwrap_or_default(),
            source.len()
        ),
    }
}

/// Whether a note of `CORE` is one that only a process's core has: NT_PRPSINFO, NT_AUXV,
/// NT_SIGINFO, NT_FILE.
pub(super) fn is_of_a_process(kind: u32) -> bool {
    matches!(kind, 3 | 6 | 0x5349_4749 | 0x4649_4c45)
}

/// The error for a core without memory.
pub(super) fn without_memory(name: String) -> OpenError {
    let what = "an ELF core without any memory (no usable PT_LOAD)".to_owned();
    OpenError::Corrupt { name, what }
}

/// Reads the program headers, as far as they are in the file.
pub(super) fn read_segments(
    name: &str,
    source: &dyn Source,
    header: &Header,
    oddities: &mut Vec<String>,
) -> Result<Segments, OpenError> {
    let in_file = source.len().saturating_sub(header.phoff) / PHDR as u64;
    let count = header.phnum.min(in_file);
    if count > MAX_SEGMENTS {
        let what = format!("{count} segments are more than any dump has");
        return Err(OpenError::Corrupt { name: name.to_owned(), what });
    }
    if count == 0 && header.phnum > 0 {
        let what = "it ends before its program headers".to_owned();
        return Err(OpenError::Truncated { name: name.to_owned(), what });
    }
    let mut segments = Segments::default();
    if count < header.phnum {
        let what = format!("only {count} of {} program headers are in the file", header.phnum);
        oddities.push(what.clone());
        segments.cut_off = Some(what);
    }
    let table = source
        .bytes(header.phoff, count as usize * PHDR)
        .map_err(|error| OpenError::Truncated { name: name.to_owned(), what: error.to_string() })?;
    for phdr in table.chunks_exact(PHDR) {
        let fields = Fields(phdr);
        let segment = (|| {
            Some(Segment {
                offset: fields.u64(8)?,
                vaddr: fields.u64(16)?,
                paddr: fields.u64(24)?,
                file_len: fields.u64(32)?,
                mem_len: fields.u64(40)?,
            })
        })();
        match (fields.u32(0), segment) {
            (Some(PT_LOAD), Some(segment)) => segments.loads.push(segment),
            (Some(PT_NOTE), Some(segment)) => segments.notes.push(segment),
            _ => {}
        }
    }
    Ok(segments)
}

/// Leaves out segments whose `p_paddr` is no physical address.
///
/// `/proc/kcore` writes -1 there (0 in older kernels) for all but the direct map and the kernel's
/// text. A 0 is real for the first RAM of the machine: then its distance to
/// `p_vaddr` is that of other segments of the direct map too, or there is no `p_vaddr` (QEMU).
pub(super) fn physical(loads: Vec<Segment>, oddities: &mut Vec<String>) -> Vec<Segment> {
    let at_zero = loads.iter().filter(|s| s.paddr == 0 && s.mem_len.max(s.file_len) > 0).count();
    let is_direct_map = |s: &Segment| {
        loads
            .iter()
            .any(|other| other.paddr != 0 && other.vaddr.wrapping_sub(other.paddr) == s.vaddr)
    };
    let mut kept = Vec::with_capacity(loads.len());
    for segment in &loads {
        let len = segment.mem_len.max(segment.file_len);
        let real = segment.paddr.checked_add(len).is_some()
            && (segment.paddr != 0 || segment.vaddr == 0 || at_zero == 1 || is_direct_map(segment));
        if real && len > 0 {
            kept.push(*segment);
        }
    }
    if kept.len() < loads.len() {
        let left_out = loads.len() - kept.len();
        oddities.push(format!("{left_out} segments have no physical address and are left out"));
    }
    kept
}

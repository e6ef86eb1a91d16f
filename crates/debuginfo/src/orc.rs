//! ORC: the unwind rules that objtool writes for x86_64 kernels and modules.
//!
//! Two tables of the same length (`__start_orc_unwind_ip`.. and `__start_orc_unwind`.., in a
//! module `mod_arch_specific.orc_unwind_ip` and `.orc_unwind`): `i32 ip[i]`, sorted by the address
//! `&ip[i] + ip[i]` (vmlinux: at build time, module: when it is loaded), and `struct orc_entry`,
//! six packed bytes. An entry holds from its address to the next one's.
//!
//! arch/x86/include/asm/orc_types.h, read by arch/x86/kernel/unwind_orc.c:
//!
//! | bits   | v4.17..        | v6.3 (ffb1b4a41016) | v6.4 (fb799447ae29) | v7.1 (1735858caa4b) |
//! |--------|----------------|---------------------|---------------------|---------------------|
//! | 0..16  | sp_offset      | sp_offset           | sp_offset           | sp_offset           |
//! | 16..32 | bp_offset      | bp_offset           | bp_offset           | bp_offset           |
//! | 32..36 | sp_reg         | sp_reg              | sp_reg              | sp_reg, renumbered  |
//! | 36..40 | bp_reg         | bp_reg              | bp_reg              | bp_reg, renumbered  |
//! | 40..   | type:2, end:1  | type:2, signal:1, end:1 | type:3, signal:1 | type:3, signal:1    |
//!
//! Types of two bits: CALL, REGS, REGS_PARTIAL; of three: UNDEFINED, END_OF_STACK and these. A
//! hash of the header file names the version in `.orc_header` (v6.4, b9f174c811e3), but
//! distributions ship the v6.4 form without it (RHEL 9 since 5.14.0-517), and the registers'
//! numbers are macros, which no type information shows. The entries themselves tell: nearly all of
//! them are calls with the frame at RSP, so the values that nearly all have are CALL and SP.

use crate::btf::Type;
use crate::memory::{Memory, MemoryError, read_vec};

/// More entries than any kernel or module has (distributions' vmlinux: below one million).
const MAX_ENTRIES: u64 = 1 << 24;
/// The binary search stops reading single words when this many are left.
const WINDOW: u64 = 64;
/// Entries that are read at once to find out which form they have,
const CHUNK: usize = 256;
/// and about how many of them are looked at closely.
const SAMPLE: u64 = 16 * CHUNK as u64;
/// `sizeof(struct orc_entry)` has always been 6.
const MAX_ENTRY_SIZE: usize = 16;

/// What a rule counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum OrcReg {
    /// `bp_reg`: unchanged in this frame. `sp_reg`: see [`OrcKind`].
    Undefined,
    /// The stack pointer before the call that made this frame (DWARF's CFA).
    PrevSp,
    /// `RSP`
    Sp,
    /// `RBP`
    Bp,
    /// `RAX`, where clang realigned the stack (v7.1).
    Ax,
    /// `RDX`, in entry code.
    Dx,
    /// `RDI`, in entry code.
    Di,
    /// `R10`, where GCC realigned the stack.
    R10,
    /// `R13`, where GCC realigned the stack.
    R13,
    /// What `*(RBP + offset)` points to.
    BpIndirect,
    /// `*RSP + offset`, where a function switches stacks (v5.12, 87ccc826bf1c: before that the
    /// offset was added first, but all entries had none).
    SpIndirect,
    /// A number without a meaning: the entry is of no use.
    Unknown(u8),
}

/// How the registers of the frame above are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum OrcKind {
    /// Nothing is above: the start of a kernel thread, or the entry from user mode.
    EndOfStack,
    /// The return address lies below the previous stack pointer.
    Call,
    /// A whole `struct pt_regs` lies there.
    Regs,
    /// Only the part of `struct pt_regs` that the CPU pushed lies there.
    RegsPartial,
}

/// One rule, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OrcEntry {
    /// What the previous stack pointer is counted from.
    pub sp_reg: OrcReg,
    /// And how far it is from there.
    pub sp_offset: i32,
    /// Where the previous RBP is.
    pub bp_reg: OrcReg,
    /// And how far it is from there.
    pub bp_offset: i32,
    /// What lies there.
    pub kind: OrcKind,
    /// The frame above was interrupted: its address is no return address.
    pub signal: bool,
}

impl OrcEntry {
    /// The rule for address 0, which the kernel's unwinder has built in: a call through a NULL
    /// pointer has done nothing yet but push its return address.
    pub const NULL_CALL: OrcEntry = OrcEntry {
        sp_reg: OrcReg::Sp,
        sp_offset: 8,
        bp_reg: OrcReg::Undefined,
        bp_offset: 0,
        kind: OrcKind::Call,
        signal: false,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    at: u32,
    width: u32,
}

impl Bits {
    const fn new(at: u32, width: u32) -> Bits {
        Bits { at, width }
    }

    fn of(self, entry: u128) -> u32 {
        (entry >> self.at & ((1 << self.width) - 1)) as u32
    }

    fn signed_of(self, entry: u128) -> i32 {
        let unused = 32 - self.width;
        (self.of(entry) << unused) as i32 >> unused
    }
}

/// How register numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    Original,
    /// v7.1, 1735858caa4b
    Reordered,
}

impl Numbering {
    fn reg(self, number: u32) -> OrcReg {
        use OrcReg::{Ax, Bp, BpIndirect, Di, Dx, PrevSp, R10, R13, Sp, SpIndirect, Undefined};
        let regs = match self {
            Numbering::Original => {
                [Undefined, PrevSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect, Ax]
            }
            Numbering::Reordered => {
                [Undefined, Ax, Dx, Sp, Bp, Di, R10, R13, PrevSp, SpIndirect, BpIndirect]
            }
        };
        regs.get(number as usize).copied().unwrap_or(OrcReg::Unknown(number as u8))
    }
}

/// Where the members of `struct orc_entry` are, and what their values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrcLayout {
    size: usize,
    sp_offset: Bits,
    bp_offset: Bits,
    sp_reg: Bits,
    bp_reg: Bits,
    kind: Bits,
    signal: Option<Bits>,
    end: Option<Bits>,
    numbering: Numbering,
}

/// Why a table can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrcError {
    /// It is not in the dump.
    #[error("ORC table is not readable: {0}")]
    Memory(#[from] MemoryError),
    /// Its length is none that a kernel could have.
    #[error("ORC table with {0} entries")]
    Count(u64),
    /// No layout that there ever was fits its entries.
    #[error("ORC entries at {0:#x} have no known form")]
    Form(u64),
}

impl OrcLayout {
    const V4_17: OrcLayout = OrcLayout {
        size: 6,
        sp_offset: Bits::new(0, 16),
        bp_offset: Bits::new(16, 16),
        sp_reg: Bits::new(32, 4),
        bp_reg: Bits::new(36, 4),
        kind: Bits::new(40, 2),
        signal: None,
        end: Some(Bits::new(42, 1)),
        numbering: Numbering::Original,
    };
    const V6_3: OrcLayout = OrcLayout {
        signal: Some(Bits::new(42, 1)),
        end: Some(Bits::new(43, 1)),
        ..OrcLayout::V4_17
    };
    const V6_4: OrcLayout = OrcLayout {
        kind: Bits::new(40, 3),
        signal: Some(Bits::new(43, 1)),
        end: None,
        ..OrcLayout::V4_17
    };

    /// The layout as `struct orc_entry` has it. Its register numbers are taken to be the original
    /// ones: [`OrcTable::open`] looks at the entries and knows better.
    pub fn from_btf(orc_entry: Type<'_>) -> Option<OrcLayout> {
        let bits = |name| {
            let member = orc_entry.strip().member(name)?;
            let width = match member.bit_size {
                Some(width) => width,
                None => u32::try_from(member.ty.size()?.checked_mul(8)?).ok()?,
            };
            let at = u32::try_from(member.bit_offset).ok()?;
            let inside = (1..=32).contains(&width) && at + width <= 8 * MAX_ENTRY_SIZE as u32;
            inside.then_some(Bits { at, width })
        };
        let size = usize::try_from(orc_entry.size()?).ok()?;
        let layout = OrcLayout {
            size,
            sp_offset: bits("sp_offset")?,
            bp_offset: bits("bp_offset")?,
            sp_reg: bits("sp_reg")?,
            bp_reg: bits("bp_reg")?,
            kind: bits("type")?,
            signal: bits("signal"),
            end: bits("end"),
            numbering: Numbering::Original,
        };
        (size <= MAX_ENTRY_SIZE).then_some(layout)
    }

    /// Whether a value means what nearly all entries say: a call, with the frame at RSP.
    fn is_plain_call(&self, entry: u128) -> bool {
        self.decode(entry).is_some_and(|entry| {
            entry.kind == OrcKind::Call && entry.sp_reg == OrcReg::Sp && !entry.signal
        })
    }

    fn decode(&self, entry: u128) -> Option<OrcEntry> {
        let sp_reg = self.numbering.reg(self.sp_reg.of(entry));
        let kind = match (self.kind.width, self.kind.of(entry)) {
            // Up to v6.3 `end` is looked at where there is no stack pointer, and only there.
            (2, _) if sp_reg == OrcReg::Undefined => {
                (self.end?.of(entry) != 0).then_some(OrcKind::EndOfStack)
            }
            (2, 0) | (3, 2) => Some(OrcKind::Call),
            (2, 1) | (3, 3) => Some(OrcKind::Regs),
            (2, 2) | (3, 4) => Some(OrcKind::RegsPartial),
            (3, 1) => Some(OrcKind::EndOfStack),
            _ => None,
        }?;
        let interrupted = matches!(kind, OrcKind::Regs | OrcKind::RegsPartial);
        Some(OrcEntry {
            sp_reg,
            sp_offset: self.sp_offset.signed_of(entry),
            bp_reg: self.numbering.reg(self.bp_reg.of(entry)),
            bp_offset: self.bp_offset.signed_of(entry),
            kind,
            signal: self.signal.map_or(interrupted, |signal| signal.of(entry) != 0),
        })
    }
}

/// The tables of vmlinux or of one module, in kernel memory.
#[derive(Clone, Copy, Debug)]
pub struct OrcTable {
    /// Address of the first `i32`.
    pub ip: u64,
    /// Address of the first `struct orc_entry`.
    pub entries: u64,
    /// How many there are of each.
    pub count: u64,
    /// How to read an entry.
    pub layout: OrcLayout,
}

impl OrcTable {
    /// The tables of vmlinux, after a look at which form its entries have. `orc_entry` is the
    /// struct's type where there is type information; without it every form that there ever was
    /// is tried. Modules' tables have the same [`OrcLayout`].
    pub fn open(
        memory: &dyn Memory,
        ip: u64,
        entries: u64,
        count: u64,
        orc_entry: Option<Type<'_>>,
    ) -> Result<OrcTable, OrcError> {
        if !(1..=MAX_ENTRIES).contains(&count) {
            return Err(OrcError::Count(count));
        }
        let known = orc_entry.and_then(OrcLayout::from_btf);
        let candidates = match known {
            Some(layout) => vec![layout],
            None => vec![OrcLayout::V6_4, OrcLayout::V6_3, OrcLayout::V4_17],
        };
        let size = candidates.first().map_or(6, |layout| layout.size);
        let mut plain = vec![[0_u64; 2]; candidates.len()];
        let (mut sampled, mut set_bits) = (0_u64, 0_u128);
        // A part of the entries tells what most of them say. Without the type v6.3 differs from
        // its predecessor by one bit in a handful of entries, so that all are looked at for that.
        let stride = (count / SAMPLE).max(1);
        for (chunk, start) in (0..).zip((0..count).step_by(CHUNK)) {
            let in_sample = chunk % stride == 0;
            if known.is_some() && !in_sample {
                continue;
            }
            let len = (count - start).min(CHUNK as u64) as usize;
            let bytes = read_vec(memory, entries.wrapping_add(start * size as u64), len * size)?;
            for entry in bytes.chunks_exact(size).map(widen) {
                set_bits |= entry;
                if !in_sample {
                    continue;
                }
                sampled += 1;
                for (layout, plain) in candidates.iter().zip(&mut plain) {
                    for (numbering, plain) in NUMBERINGS.into_iter().zip(plain) {
                        let layout = OrcLayout { numbering, ..*layout };
                        *plain += u64::from(layout.is_plain_call(entry));
                    }
                }
            }
        }
        let scored = candidates.iter().zip(plain).flat_map(|(layout, plain)| {
            let numbered = NUMBERINGS.map(|numbering| OrcLayout { numbering, ..*layout });
            numbered.into_iter().zip(plain)
        });
        // Of forms that explain the same entries the last is the older one, which has fewer bits:
        // it is the right one only if the bit that it does not know is never set.
        let end_of_v6_3 = set_bits >> 43 & 1 != 0;
        let best = scored
            .filter(|(layout, _)| known.is_some() || *layout != OrcLayout::V4_17 || !end_of_v6_3)
            .max_by_key(|(_, plain)| *plain);
        match best {
            Some((layout, plain)) if plain * 2 > sampled => {
                Ok(OrcTable { ip, entries, count, layout })
            }
            _ => Err(OrcError::Form(entries)),
        }
    }

    /// The rule for an instruction. `None` where the kernel's unwinder gives up: there is no
    /// entry, or one that says that objtool could not follow the code (UNDEFINED; up to v6.3 an
    /// undefined `sp_reg` without `end`). Such entries also end a section, so that the gap behind
    /// it does not belong to its last function. For a return address ask for the byte before it.
    pub fn lookup(&self, memory: &dyn Memory, pc: u64) -> Result<Option<OrcEntry>, MemoryError> {
        let Some(index) = self.search(memory, pc)? else { return Ok(None) };
        let size = self.layout.size;
        let addr = self.entries.wrapping_add(index * size as u64);
        let bytes = read_vec(memory, addr, size)?;
        Ok(self.layout.decode(widen(&bytes)))
    }

    /// The last entry that starts at or below `pc`: of a terminator and a function at the same
    /// address the function is the last.
    fn search(&self, memory: &dyn Memory, pc: u64) -> Result<Option<u64>, MemoryError> {
        let (mut low, mut high) = (0, self.count.min(MAX_ENTRIES));
        while high - low > WINDOW {
            let middle = low + (high - low) / 2;
            let mut word = [0; 4];
            memory.read(self.ip_at(middle), &mut word)?;
            if self.start(middle, word) <= pc { low = middle } else { high = middle }
        }
        let words = read_vec(memory, self.ip_at(low), (high - low) as usize * 4)?;
        let words = words.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        let below = (low..).zip(words).take_while(|&(index, word)| self.start(index, word) <= pc);
        Ok(below.last().map(|(index, _)| index))
    }

    fn ip_at(&self, index: u64) -> u64 {
        self.ip.wrapping_add(4 * index)
    }

    fn start(&self, index: u64, word: [u8; 4]) -> u64 {
        self.ip_at(index).wrapping_add_signed(i64::from(i32::from_le_bytes(word)))
    }
}

const NUMBERINGS: [Numbering; 2] = [Numbering::Original, Numbering::Reordered];

fn widen(entry: &[u8]) -> u128 {
    let mut bytes = [0; MAX_ENTRY_SIZE];
    for (to, from) in bytes.iter_mut().zip(entry) {
        *to = *from;
    }
    u128::from_le_bytes(bytes)
}

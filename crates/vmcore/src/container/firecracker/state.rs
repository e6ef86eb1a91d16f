//! What is read of Firecracker's state: see [`super`].
//!
//! ```text
//! memory_state.regions (src/vmm/src/vstate/memory.rs): count u64, then each
//!   base_address u64, size u64
//!   up to v1.10  offset u64, in the memory file
//!   since v1.14  type u32 (0 RAM, 1 plugged in while it ran), slots: count u64, plugged u8 each
//! vcpu_states[n] (src/vmm/src/arch/x86_64/vcpu.rs): ... MSRs, each { index u32, 0 u32, value u64 },
//!   ... kvm_regs, kvm_sregs ... (kvm-bindings since 0.8 writes each with its length u64 before)
//! ```

use std::ops::Range;

use super::crc64::crc64;
use crate::container::kvm::{self, REGS, SREGS};
use crate::cpu::CpuState;
use crate::info::Machine;
use crate::source::Fields;

const MAGICS: [(u64, Machine); 2] =
    [(0x0710_1984_8664_0000, Machine::X86_64), (0x0710_1984_aaaa_0000, Machine::Aarch64)];
/// Real ones have up to three, and one for what is plugged in.
const MAX_REGIONS: u64 = 16;
const MAX_SLOTS: u64 = 1 << 20;
/// Where memory starts: x86_64, aarch64.
const FIRST_ADDRS: [u64; 2] = [0, 2 << 30];
const MAX_VCPUS: usize = 4096;
const CRC: usize = 8;

/// How the structures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Versionize,
    Bincode,
    Bitcode,
}

/// The header of a state.
pub(super) struct Header {
    encoding: Encoding,
    machine: Machine,
    version: String,
    /// Where the structures start.
    body: usize,
}

/// The header, if the bytes start with one.
pub(super) fn header(head: &[u8]) -> Option<Header> {
    let fields = Fields(head);
    let machine_of = |magic: u64| {
        MAGICS.iter().find(|(known, _)| *known == magic & !0xffff).map(|(_, machine)| *machine)
    };
    // bitcode's first byte says how the column of the magic number is packed: not.
    if head.first() == Some(&0)
        && let magic = fields.u64(1)?
        && let Some(machine) = machine_of(magic).filter(|_| magic & 0xffff == 0)
    {
        let len = usize::from(*head.get(9)?);
        let version = text(head.get(10..10 + len)?)?;
        return Some(Header { encoding: Encoding::Bitcode, machine, version, body: head.len() });
    }
    let magic = fields.u64(0)?;
    let machine = machine_of(magic)?;
    match magic & 0xffff {
        0 => {
            let len = usize::try_from(fields.u64(8)?).ok().filter(|len| *len < 64)?;
            let version = text(head.get(16..16 + len)?)?;
            Some(Header { encoding: Encoding::Bincode, machine, version, body: 16 + len })
        }
        1 => {
            let version = format!("format 1, data {}", fields.u16(8)?);
            Some(Header { encoding: Encoding::Versionize, machine, version, body: 10 })
        }
        _ => None,
    }
}

/// A version's text.
fn text(bytes: &[u8]) -> Option<String> {
    let is_text = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    is_text.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// A region of memory; regions lie in the memory file in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) addr: u64,
    pub(super) len: u64,
    /// Whether memory is in each of the equal parts; all of it where there are none.
    slots: Vec<bool>,
}

impl Region {
    /// Start and length of what has memory, within the region.
    pub(super) fn plugged(&self) -> impl Iterator<Item = (u64, u64)> {
        let whole = self.slots.is_empty().then_some((0, self.len));
        let slot = self.len.checked_div(self.slots.len() as u64).unwrap_or_default();
        let of_slots = self.slots.iter().zip(0..).filter(|(plugged, _)| **plugged);
        whole.into_iter().chain(of_slots.map(move |(_, index)| (index * slot, slot)))
    }
}

/// What is known of a state.
pub(super) struct State {
    pub(super) encoding: Encoding,
    pub(super) machine: Machine,
    pub(super) version: String,
    /// Empty where they are not found.
    pub(super) regions: Vec<Region>,
    pub(super) cpus: Vec<CpuState>,
    pub(super) oddities: Vec<String>,
}

impl State {
    pub(super) fn parse(bytes: &[u8]) -> Result<State, String> {
        let Header { encoding, machine, version, body } =
            header(bytes).ok_or_else(|| "it ends in its header".to_owned())?;
        let mut state = State {
            encoding,
            machine,
            version,
            regions: Vec::new(),
            cpus: Vec::new(),
            oddities: Vec::new(),
        };
        let (data, crc) = bytes.split_at(bytes.len().saturating_sub(CRC));
        if Fields(crc).u64(0) != Some(crc64(data)) {
            state.oddities.push(
                "the checksum of Firecracker's state is wrong: it is damaged or cut off".to_owned(),
            );
        }
        if encoding == Encoding::Bitcode {
            return Ok(state);
        }
        let data = data.get(body..).unwrap_or_default();
        let mib =
            Fields(data).u64(0).ok_or_else(|| "it ends before vm_info.mem_size_mib".to_owned())?;
        if mib == 0 || mib > 1 << 26 {
            return Err(format!("vm_info.mem_size_mib is {mib}"));
        }
        let size = mib << 20;
        let list = (8..data.len()).find_map(|at| regions(data.get(at..)?, size));
        state.regions = list.unwrap_or_default();
        if machine == Machine::X86_64 {
            state.cpus = vcpus(data);
        }
        Ok(state)
    }
}

/// The list of regions at the start of the bytes, if that is what is there: regions in ascending
/// order, with just as much RAM as the guest has.
fn regions(bytes: &[u8], size: u64) -> Option<Vec<Region>> {
    let fields = Fields(bytes);
    let count = fields.u64(0).filter(|count| (1..=MAX_REGIONS).contains(count))?;
    FIRST_ADDRS.contains(&fields.u64(8)?).then_some(())?;
    const SHAPES: [Shape; 3] = [with_slots, with_offset, plain];
    SHAPES.iter().find_map(|shape| {
        let mut at = 8;
        let mut found: Vec<Region> = Vec::new();
        let (mut ram, mut end, mut offset) = (0u64, 0, 0u64);
        for _ in 0..count {
            let (region, is_ram, next) = shape(bytes, at, offset)?;
            let is_sound = region.len > 0
                && (region.addr | region.len) & 0xfff == 0
                && region.addr >= end
                && region.addr.checked_add(region.len)? < 1 << 52;
            if !is_sound {
                return None;
            }
            end = region.addr + region.len;
            offset = offset.checked_add(region.len)?;
            ram += if is_ram { region.len } else { 0 };
            found.push(region);
            at = next;
        }
        (ram == size).then_some(found)
    })
}

/// Reads a region: it, whether it is RAM from the start, and where the next one is.
type Shape = fn(&[u8], usize, u64) -> Option<(Region, bool, usize)>;

fn plain(bytes: &[u8], at: usize, _: u64) -> Option<(Region, bool, usize)> {
    let fields = Fields(bytes);
    let region = Region { addr: fields.u64(at)?, len: fields.u64(at + 8)?, slots: Vec::new() };
    Some((region, true, at + 16))
}

fn with_offset(bytes: &[u8], at: usize, offset: u64) -> Option<(Region, bool, usize)> {
    let (region, is_ram, next) = plain(bytes, at, offset)?;
    (Fields(bytes).u64(next)? == offset).then_some((region, is_ram, next + 8))
}

fn with_slots(bytes: &[u8], at: usize, offset: u64) -> Option<(Region, bool, usize)> {
    let (mut region, _, next) = plain(bytes, at, offset)?;
    let fields = Fields(bytes);
    let kind = fields.u32(next).filter(|kind| *kind < 2)?;
    let count = fields.u64(next + 4).filter(|count| (1..=MAX_SLOTS).contains(count))?;
    let start = next + 12;
    let slots: &[u8] = bytes.get(start..start + count as usize)?;
    if region.len % count != 0 || slots.iter().any(|slot| *slot > 1) {
        return None;
    }
    region.slots = slots.iter().map(|slot| *slot == 1).collect();
    Some((region, kind == 0, start + slots.len()))
}

/// All vCPUs that run a 64-bit kernel, in their order.
fn vcpus(data: &[u8]) -> Vec<CpuState> {
    let mut cpus = Vec::new();
    let mut done = 0;
    let mut at = REGS;
    while let Some(bytes) = data.get(at..at + SREGS) {
        let Some(sregs) = kvm::Sregs::parse(bytes).filter(|_| cpus.len() < MAX_VCPUS) else {
            at += 1;
            continue;
        };
        let Some(place) = place_of_regs(data, at) else {
            at += 1;
            continue;
        };
        let gs_base = data.get(done..place.start).and_then(kernel_gs_base);
        let regs = data.get(place).and_then(kvm::Regs::parse);
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
    let is_regs = data.get(start..end).is_some_and(|bytes| kvm::Regs::parse(bytes).is_some());
    (is_sound && is_regs).then_some(start..end)
}

/// The last MSR of that number.
fn kernel_gs_base(bytes: &[u8]) -> Option<u64> {
    const HEAD: [u8; 8] = 0xc000_0102_u64.to_le_bytes();
    let at = memchr::memmem::rfind(bytes, &HEAD)?;
    Fields(bytes).u64(at + HEAD.len())
}

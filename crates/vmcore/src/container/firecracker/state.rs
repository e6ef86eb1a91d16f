//! What is read of Firecracker's state: see [`super`].
//!
//! ```text
//! memory_state.regions (src/vmm/src/vstate/memory.rs): count u64, then each
//!   base_address u64, size u64
//!   up to v1.10  offset u64, in the memory file
//!   since v1.14  type u32 (0 RAM, 1 plugged in while it ran), slots: count u64, plugged u8 each
//! ```

use super::crc64::crc64;
use super::vcpus;
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

/// Whether the memory is laid out as since v1.13: states from 7.0.0 on.
fn is_new(encoding: Encoding, version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    encoding != Encoding::Versionize && major.is_some_and(|major| major >= 7)
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
    /// Whether it is of v1.13 or later.
    pub(super) is_new: bool,
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
            is_new: is_new(encoding, &version),
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
        let is_x86 = machine == Machine::X86_64;
        if encoding == Encoding::Bitcode {
            state.cpus = if is_x86 { vcpus::in_columns(data) } else { Vec::new() };
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
        if is_x86 {
            state.cpus = vcpus::in_sequence(data);
        }
        Ok(state)
    }
}

/// Where Firecracker lays out `len` bytes of memory (arch_memory_regions, src/vmm/src/arch/*/mod.rs),
/// for a state whose list of regions is not read.
pub(super) fn layout(machine: Machine, has_new_windows: bool, len: u64) -> Vec<Region> {
    const GIB: u64 = 1 << 30;
    // Windows of devices: below 4 GiB on x86_64, and since v1.13 from 256 to 512 GiB.
    let below_4g = if has_new_windows { 3 * GIB } else { 0xd000_0000 };
    let low = if has_new_windows { 256 * GIB } else { 1 << 52 };
    let places = match machine {
        Machine::X86_64 => vec![(0, below_4g), (4 * GIB, low), (512 * GIB, 1 << 52)],
        Machine::Aarch64 => vec![(2 * GIB, low), (512 * GIB, 1 << 52)],
    };
    let mut rest = len;
    let mut regions = Vec::new();
    for (addr, end) in places {
        let len = rest.min(end - addr);
        if len > 0 {
            regions.push(Region { addr, len, slots: Vec::new() });
        }
        rest -= len;
    }
    regions
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

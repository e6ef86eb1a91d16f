//! VMware: the state of a suspended machine (.vmss) or of a snapshot (.vmsn), with its memory in it
//! (ESX up to 6.0) or beside it (.vmem). A .vmem alone is raw memory ([`super::raw`]).
//!
//! Layout (illumos, cmd/mdb/intel/kmdb/kvm_vmss.c; crash, vmware_vmss.h; Volatility 2,
//! plugins/addrspaces/vmware.py and the page "VMware Snapshot File"; numbers little-endian):
//!
//! ```text
//!   0  magic u32: bed0bed0, bed2bed0 (version 0), bad1bad1 (1), bad2bad2, bed2bed2 (2),
//!      bed3bed3 (3: only part of the state)
//!   4  u32
//!   8  number of groups u32
//!  12  groups of 80 bytes: name in 64, offset of the first tag u64, size u64
//!
//! tag: size of the data (6 bits) and number of indices (2 bits) u8, length of the name u8 (a tag
//!      without either ends the group), name, indices u32, data
//! size 62 and 63, a block: size in the file u64, size in memory u64 (version 0: u32), length of
//!      the padding u16, padding, data; 62 if it is compressed
//!
//! memory/regionsCount       regions of memory u32; 0: one from 0 on
//! memory/regionPPN[n]       page number in the machine u32
//! memory/regionPageNum[n]   the same in the block, or in the .vmem; left out of an only region
//! memory/regionSize[n]      number of pages u32
//! memory/Memory[0][0]       block: the memory. Not there: it is in the .vmem
//!
//! cpu/rax[cpu] ... r15, rip u64, eflags u32; CR64[cpu][0 to 4] u64; S[cpu][segment] u32,
//!     S.base64[cpu][segment] u64 (ES, CS, SS, DS, FS, GS, LDTR, TR);
//!     IDTR, GDTR[cpu][0] limit u16, [1] and [2] halves of the address u32
//! cpu/gpregs[cpu], CR64[cpu], IDTR[cpu]   the same in newer files: blocks of rax, rcx, rdx, rbx,
//!     rbp, rsp, rsi, rdi, r8 to r15; of CR0 to CR8; of limit u16 and address u64
//! ```
//!
//! What the state is of compressed memory is not known: it is refused by name.

mod cpu;
mod tags;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::cpu::Vcpus;
use self::tags::Group;
use super::elf::{self, Piece};
use super::snapshot::state_and_memory;
use super::{Format, Input, Opened};
use crate::error::OpenError;
use crate::info::{ContainerInfo, Machine};
use crate::source::Source;
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: true, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "VMware suspended machine or snapshot (.vmss, .vmsn), memory in it or in a .vmem",
        read: "yes, with the CPUs' registers; either file names the other; no compressed memory",
        write: "",
        real: "",
        synthetic: "unit tests; put together from `k612-null-host`",
    },
    Support {
        container: "VMware memory alone (.vmem)",
        read: "yes, as raw memory: the hole above 3 GiB is found by the kernel's page tables",
        write: "",
        real: "",
        synthetic: "put together from `k612-null-host`; `k61-sysrq-5g.raw` has the same hole",
    },
];

const PAGE: u64 = 4096;
/// Real machines have two or three: below the hole of the devices, above it.
const MAX_REGIONS: u64 = 1024;

fn probe(head: &[u8]) -> bool {
    tags::version(head).is_some()
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let (Input { name, source, .. }, memory) = state_and_memory(inputs, probe, "VMware")?;
    let corrupt = |what: String| OpenError::Corrupt {
        name: name.clone(),
        what: format!("VMware's state: {what}"),
    };

    let version = tags::version(&source.bytes(0, 4).unwrap_or_default()).unwrap_or_default();
    let groups = tags::read_groups(source.as_ref()).map_err(corrupt)?;
    let group = |name: &str| groups.iter().find(|group| group.name == name);
    let Some(of_memory) = group("memory") else {
        return Err(corrupt("it has no group \"memory\"".to_owned()));
    };
    let mut oddities = Vec::new();
    let found = MemoryTags::read(source.as_ref(), of_memory, version).map_err(corrupt)?;
    if found.is_compressed {
        let what = "its memory is compressed (memory/Memory), in a way that is not documented; \
                    take a snapshot without checkpoint compression"
            .to_owned();
        return Err(OpenError::Unpack { name, what });
    }
    let cpus = group("cpu").map(|group| read_cpus(source.as_ref(), group, version, &mut oddities));
    let cpus = cpus.unwrap_or_default();
    let in_state = found.block;
    let (holder, place, origin) = match (in_state, memory) {
        (Some(place), extra) => {
            if let Some(Input { name: extra, .. }) = extra {
                oddities.push(format!("{extra} is not used: the memory is in {name}"));
            }
            (Arc::clone(&source), place, "in it".to_owned())
        }
        (None, Some(memory)) => {
            let len = memory.source.len();
            (memory.source, (0, len), format!("in {}", memory.name))
        }
        (None, None) => {
            let what =
                "the machine's memory is in a file of its own, which has the same name with \
                        .vmem at the end and is not beside it; name it too"
                    .to_owned();
            return Err(OpenError::Split { name, what });
        }
    };
    let (pieces, size) = found.pieces(place, in_state.is_some()).map_err(corrupt)?;
    let there = holder.len().saturating_sub(place.0);
    let incomplete = (there < size).then(|| {
        format!("the memory, {origin}, ends {} bytes before its last region does", size - there)
    });
    let info = ContainerInfo {
        kind: format!("VMware state, version {version}, memory {origin}"),
        machine: (!cpus.is_empty()).then_some(Machine::X86_64),
        incomplete,
        oddities,
        ..ContainerInfo::default()
    };
    let container = elf::of_pieces(holder, &pieces);
    Ok(Opened { container, info, notes: Vec::new(), cpus, vmcoreinfo: None })
}

fn read_cpus(
    source: &dyn Source,
    group: &Group,
    version: u8,
    oddities: &mut Vec<String>,
) -> Vec<crate::cpu::CpuState> {
    let mut vcpus = Vcpus::default();
    let done = tags::walk(source, group, version, |tag| {
        vcpus.take(tag, source);
        Ok(())
    });
    if let Err(what) = done {
        oddities.push(format!("VMware's state of the CPUs is damaged: {what}"));
    }
    vcpus.finish(oddities)
}

/// What the group `memory` says.
#[derive(Default)]
struct MemoryTags {
    count: Option<u64>,
    /// PPN, PageNum, Size.
    regions: BTreeMap<u32, [Option<u64>; 3]>,
    /// Offset and length of the memory.
    block: Option<(u64, u64)>,
    is_compressed: bool,
}

impl MemoryTags {
    fn read(source: &dyn Source, group: &Group, version: u8) -> Result<MemoryTags, String> {
        let mut found = MemoryTags::default();
        tags::walk(source, group, version, |tag| {
            let number = || {
                tag.number(source)
                    .ok_or_else(|| format!("memory/{} is no number ({} bytes)", tag.name, tag.len))
            };
            let field = match tag.name.as_str() {
                "regionPPN" => 0,
                "regionPageNum" => 1,
                "regionSize" => 2,
                "regionsCount" => {
                    let count = number()?;
                    if count > MAX_REGIONS {
                        return Err(format!("memory/regionsCount is {count}"));
                    }
                    found.count = Some(count);
                    return Ok(());
                }
                "Memory" => {
                    if found.block.replace((tag.offset, tag.len)).is_some() {
                        return Err("memory/Memory is there twice".to_owned());
                    }
                    found.is_compressed |= tag.is_compressed;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            let index = tag.index();
            if u64::from(index) >= MAX_REGIONS {
                return Err(format!("memory/{} is of region {index}", tag.name));
            }
            let region = found.regions.entry(index).or_default();
            if let Some(place) = region.get_mut(field)
                && place.replace(number()?).is_some()
            {
                return Err(format!("memory/{} of region {index} is there twice", tag.name));
            }
            Ok(())
        })
        .or_else(|what| {
            // A file that ends within the memory ends before the group does.
            let cut_off = found.block.is_some_and(|(offset, len)| {
                offset.checked_add(len).is_some_and(|end| end > source.len())
            });
            if cut_off { Ok(()) } else { Err(what) }
        })?;
        Ok(found)
    }

    /// Where the regions of the memory at `place` lie, and how many bytes of it they take.
    fn pieces(
        &self,
        (start, len): (u64, u64),
        is_exact: bool,
    ) -> Result<(Vec<Piece>, u64), String> {
        let count = self.count.unwrap_or(self.regions.len() as u64);
        if count == 0 {
            let what = "the memory has no region and no byte";
            let piece = Piece { addr: 0, len, offset: start };
            return if len == 0 { Err(what.to_owned()) } else { Ok((vec![piece], len)) };
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut size = 0;
        for index in 0..count as u32 {
            let [ppn, page_num, pages] = self.regions.get(&index).copied().unwrap_or_default();
            let bytes = |pages: Option<u64>, field: &str| {
                let pages =
                    pages.ok_or_else(|| format!("memory/{field} of region {index} is missing"))?;
                pages
                    .checked_mul(PAGE)
                    .filter(|bytes| *bytes < 1 << 52)
                    .ok_or_else(|| format!("memory/{field} of region {index} is {pages:#x}"))
            };
            let addr = bytes(ppn, "regionPPN")?;
            let len_of_region = bytes(pages, "regionSize")?;
            let in_block = match page_num {
                None if count == 1 => 0,
                page_num => bytes(page_num, "regionPageNum")?,
            };
            let overlap = |a: u64, b: u64, len: u64| a < b + len && b < a + len_of_region;
            for piece in &pieces {
                if overlap(addr, piece.addr, piece.len) {
                    return Err(format!(
                        "memory/regionPPN: region {index} overlaps another one at {addr:#x}"
                    ));
                }
                if overlap(in_block, piece.offset - start, piece.len) {
                    return Err(format!(
                        "memory/regionPageNum: region {index} overlaps another one at {in_block:#x}"
                    ));
                }
            }
            if is_exact && in_block + len_of_region > len {
                return Err(format!(
                    "memory/regionSize: region {index} goes beyond the {len} bytes of memory/Memory"
                ));
            }
            size = size.max(in_block + len_of_region);
            let offset = start
                .checked_add(in_block)
                .ok_or_else(|| format!("memory/Memory is at {start:#x}"))?;
            pieces.push(Piece { addr, len: len_of_region, offset });
        }
        Ok((pieces, size))
    }
}

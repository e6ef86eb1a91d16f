//! Firecracker's snapshots: a state file, and the guest's memory in a file of its own.
//!
//! The memory file is the guest's RAM, region after region; the devices' windows are left out (below
//! 4 GiB 768 MiB up to v1.12, 1 GiB since; aarch64 starts at 2 GiB). Alone it is raw memory
//! ([`super::raw`]).
//!
//! The state is all of the VMM's own structures, and differs with each release (docs/snapshotting/
//! versioning.md). How they are written has changed twice (src/snapshot/src/lib.rs up to v1.6,
//! src/vmm/src/snapshot/mod.rs since); numbers little-endian:
//!
//! ```text
//! up to v1.6     magic u64, its last 16 bits 1; data version u16; the structures (versionize)
//! v1.7 to v1.14  magic u64; version { length u64, "1.0.0" to "8.0.0" }; the structures (bincode)
//! since v1.15    one stream of bitcode: 00, magic u64, length of the version u8, "9.0.0"; columns
//! all            CRC-64 of what came before
//! magic          0x0710_1984_8664_0000 on x86_64, 0x0710_1984_aaaa_0000 on aarch64
//! ```
//!
//! versionize and bincode write fields one after the other, without padding. Of all that, three
//! things are read: `vm_info.mem_size_mib`, which comes first in every release, the list of memory
//! regions ([`state`]), and each vCPU's `kvm_regs` and `kvm_sregs`, which are neighbours in every
//! release and can't be taken for anything else ([`vcpus`]). Of bitcode's columns only the last: there
//! the memory is laid out as Firecracker does without hot-plugged memory.

mod crc64;
mod state;
mod vcpus;

use self::state::{Encoding, State};
use super::elf::{self, Piece};
use super::snapshot::state_and_memory;
use super::{Format, Input, Opened};
use crate::error::OpenError;
use crate::info::{ContainerInfo, Machine};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: true, support: SUPPORT };

const SUPPORT: &[Support] = &[Support {
    container: "Firecracker snapshot (state file and memory file)",
    read: "yes, with x86_64 registers; hot-plugged memory up to v1.14 only (state by bincode); on \
           aarch64 without registers",
    write: "",
    real: "",
    synthetic: "unit tests; put together from `k612-null-host`",
}];

/// Firecracker itself takes 10 MiB.
const MAX_STATE: u64 = 64 << 20;

fn probe(head: &[u8]) -> bool {
    state::header(head).is_some()
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let (Input { name, source, .. }, memory) = state_and_memory(inputs, probe, "Firecracker")?;
    let corrupt = |what: String| OpenError::Corrupt {
        name: name.clone(),
        what: format!("Firecracker's state: {what}"),
    };
    let Some(memory) = memory else {
        let what = "it is the state of a Firecracker guest; its memory is in a file of its own: \
                    name it too"
            .to_owned();
        return Err(OpenError::Split { name, what });
    };
    if source.len() > MAX_STATE {
        return Err(corrupt(format!("{} bytes are more than any has", source.len())));
    }
    let bytes = source.bytes(0, source.len() as usize).map_err(|what| corrupt(what.to_string()))?;
    let state = State::parse(&bytes).map_err(corrupt)?;
    let mut oddities = state.oddities;
    let kind = format!("Firecracker snapshot, state {}", state.version);
    let Input { name: memory_name, source: memory_source, .. } = memory;
    let there = memory_source.len();
    let mut regions = state.regions;
    if regions.is_empty() {
        let why = match state.encoding {
            Encoding::Bitcode => "is not decoded",
            _ => "has none that is known",
        };
        oddities.push(format!(
            "the list of memory regions in Firecracker's state {why}: taken to be those of a guest \
             into which no memory was plugged while it ran"
        ));
        regions = state::layout(state.machine, state.is_new, there);
    }
    match state.machine {
        Machine::X86_64 if state.cpus.is_empty() => {
            oddities.push("no registers are found in Firecracker's state".to_owned());
        }
        Machine::Aarch64 => {
            oddities.push("registers of aarch64 are not read from Firecracker's state".to_owned());
        }
        Machine::X86_64 => {}
    }
    let size: u64 = regions.iter().fold(0, |sum: u64, region| sum.saturating_add(region.len));
    if there > size {
        let what = format!("has {there} bytes, and the state is of a guest with {size}");
        return Err(OpenError::Split { name: memory_name, what });
    }
    let incomplete =
        (there < size).then(|| format!("{memory_name} ends {} bytes too early", size - there));
    let mut offset = 0;
    let mut pieces = Vec::new();
    for region in &regions {
        pieces.extend(region.plugged().map(|(start, len)| Piece {
            addr: region.addr + start,
            len,
            offset: offset + start,
        }));
        offset += region.len;
    }
    let machine = Some(state.machine);
    let info = ContainerInfo { kind, machine, incomplete, oddities, ..ContainerInfo::default() };
    let container = elf::of_pieces(memory_source, &pieces);
    Ok(Opened { container, info, notes: Vec::new(), cpus: state.cpus, vmcoreinfo: None })
}

//! Cloud Hypervisor's snapshots: a folder with the VM's configuration (config.json, which nothing
//! is read of), the state (state.json; vm.json up to v20) and the guest's memory (memory-ranges).
//! Its coredumps (`ch-remote coredump`) are ELF cores with the notes of QEMU's: [`super::elf`].
//!
//! Layout (cloud-hypervisor, vmm/src/memory_manager.rs, vm-migration/src/lib.rs, hypervisor/src/kvm/
//! x86_64/mod.rs): memory-ranges has the ranges that the state lists, one behind the other. The state
//! is a tree of sections, in JSON:
//!
//! ```text
//! { "snapshots": { "memory-manager": { "snapshot_data": D }, "cpu-manager": { "snapshots":
//!     { "0": { "snapshot_data": D }, ... } }, ... } }
//! D since v39      { "state": "text" }
//!   v29 to v38     [ bytes ]
//!   v20 to v28     { "name": { "snapshot": [ bytes ] } }
//! memory-manager   since v39  { "memory_ranges": { "data": [ { "gpa": n, "length": n } ] }, ... }
//!                  before     the same by versionize: count u64, { gpa u64, length u64 }, ...
//! vCPU             { "Kvm": { "regs": R, "sregs": R, "msrs": [ { "index": n, "data": n } ], ... } },
//!                  without "Kvm" at first
//! R                KVM's structures ([`super::kvm`]), since v39 as [ bytes ], before by name
//! ```

mod state;

use self::state::State;
use super::elf::{self, Piece};
use super::snapshot::state_and_memory;
use super::{Format, Input, Opened, head_of};
use crate::error::OpenError;
use crate::info::{ContainerInfo, Machine};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: true, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "Cloud Hypervisor snapshot (folder: state.json, memory-ranges)",
        read: "yes, by the folder's name, with x86_64 registers; v20 and later",
        write: "",
        real: "",
        synthetic: "unit tests; put together from `k612-null-host`",
    },
    Support {
        container: "Cloud Hypervisor coredump",
        read: "yes: ELF with QEMU's notes",
        write: "",
        real: "",
        synthetic: "put together from `k612-null-host`",
    },
];

/// Some megabytes are common: the state of all devices is in it.
const MAX_STATE: u64 = 64 << 20;

fn probe(head: &[u8]) -> bool {
    head.starts_with(b"{") && memchr::memmem::find(head, b"\"snapshots\"").is_some()
}

/// Whether it is the configuration, or any other text.
fn is_config(input: &Input) -> bool {
    let head = head_of(input);
    head.starts_with(b"{") && !probe(&head) && !head.contains(&0)
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let inputs = inputs.into_iter().filter(|input| !is_config(input)).collect();
    let (Input { name, source, .. }, memory) = state_and_memory(inputs, probe, "Cloud Hypervisor")?;
    let corrupt = |what: String| OpenError::Corrupt {
        name: name.clone(),
        what: format!("Cloud Hypervisor's state: {what}"),
    };
    let Some(memory) = memory else {
        let what = "it is the state of a Cloud Hypervisor guest; its memory is in the file \
                    memory-ranges of the same folder: name that too, or the folder"
            .to_owned();
        return Err(OpenError::Split { name, what });
    };
    if source.len() > MAX_STATE {
        return Err(corrupt(format!("{} bytes are more than any has", source.len())));
    }
    let bytes = source.bytes(0, source.len() as usize).map_err(|what| corrupt(what.to_string()))?;
    let State { ranges, cpus, oddities } = State::parse(&bytes).map_err(corrupt)?;

    let mut pieces = Vec::with_capacity(ranges.len());
    let mut offset = 0;
    for (addr, len) in ranges {
        pieces.push(Piece { addr, len, offset });
        offset += len;
    }
    let there = memory.source.len();
    if there > offset {
        let what = format!("has {there} bytes, and the state is of a guest with {offset}");
        return Err(OpenError::Split { name: memory.name, what });
    }
    let incomplete = (there < offset)
        .then(|| format!("{} ends {} bytes too early", memory.name, offset - there));
    let info = ContainerInfo {
        kind: "Cloud Hypervisor snapshot".to_owned(),
        machine: (!cpus.is_empty()).then_some(Machine::X86_64),
        incomplete,
        oddities,
        ..ContainerInfo::default()
    };
    let container = elf::of_pieces(memory.source, &pieces);
    Ok(Opened { container, info, notes: Vec::new(), cpus, vmcoreinfo: None })
}

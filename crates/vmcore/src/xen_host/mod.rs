//! The dump of a machine that Xen ran on: the hypervisor crashed, or dom0 did and the hypervisor
//! started the capture kernel.
//!
//! The container holds the machine's memory and notes of the hypervisor (Xen,
//! xen/include/xen/elfcore.h, xen/common/kexec.c, xen/arch/x86/include/asm/x86_64/elf.h):
//!
//! ```text
//! "Xen" 0x1000001  crash info, words: major, minor, extra version, changeset, compiler, date,
//!                  time (machine addresses of strings), tainted, [where Xen lies,] frame of dom0's
//!                  list of lists of p2m frames. Once
//! "Xen" 0x1000002  CR0, CR2, CR3, CR4 of a CPU of the machine
//! "CORE" 1         its registers, in the hypervisor
//! VMCOREINFO_XEN   symbols of the hypervisor; VMCOREINFO is dom0's
//! ```
//!
//! dom0, if it is a PV guest, finds its memory by a tree of three levels, pages of 512 words each:
//! frames of pages that have frames of pages that have the machine frames of its memory, in its
//! order (xen/include/public/arch-x86/xen.h, pfn_to_mfn_frame_list_list; Linux,
//! arch/x86/xen/p2m.c). The image that is opened is dom0's memory ([`dom0`]); the machine's is
//! behind it.

mod dom0;
mod p2m;

use std::sync::Arc;

use crate::elf_note::{NT_PRSTATUS, Note};
use crate::image::Image;
use crate::info::ContainerInfo;
use crate::source::{Fields, text_until_nul};

const CRASH_INFO: u32 = 0x100_0001;
const CRASH_REGS: u32 = 0x100_0002;
/// Words of the crash info with and without the hypervisor's place.
const WORDS: usize = 10;
const WORDS_WITHOUT_PLACE: usize = 9;

/// What a host's dump says of its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypervisor {
    /// "4.17.7"
    pub version: String,
    /// Bits of what tainted it.
    pub tainted: u64,
    /// Machine address of its image; old ones do not say it.
    pub phys_start: Option<u64>,
    /// Its CPUs, in the order of the notes.
    pub cpus: Vec<HypervisorCpu>,
}

/// A CPU of the machine, in the hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HypervisorCpu {
    /// Registers in the order of `struct user_regs_struct`.
    pub regs: [u64; 27],
    /// Machine address of the page tables it ran on.
    pub cr3: u64,
}

impl HypervisorCpu {
    /// Where it was.
    pub fn ip(&self) -> u64 {
        self.regs[16]
    }

    /// Its stack pointer.
    pub fn sp(&self) -> u64 {
        self.regs[19]
    }

    /// Base of GS: the guest's.
    pub fn gs_base(&self) -> u64 {
        self.regs[22]
    }
}

/// A machine under a hypervisor.
pub struct XenHost {
    machine: Arc<Image>,
    hypervisor: Hypervisor,
}

impl XenHost {
    /// The machine's memory and all notes.
    pub fn machine(&self) -> &Image {
        &self.machine
    }

    /// The hypervisor.
    pub fn hypervisor(&self) -> &Hypervisor {
        &self.hypervisor
    }
}

/// Whether the notes are those of a hypervisor that crashed.
pub(crate) fn is_host(notes: &[Note]) -> bool {
    notes.iter().any(is_crash_info)
}

fn is_crash_info(note: &Note) -> bool {
    note.name == "Xen" && note.kind == CRASH_INFO
}

/// dom0 of the machine, or the machine with a sentence that says why dom0 is not to be had.
pub(crate) fn open(machine: Image) -> Image {
    let Some((hypervisor, frame_list_list)) = hypervisor(&machine) else {
        return machine.with_oddity("a Xen host's dump whose crash info is too short".to_owned());
    };
    let kind = format!("{} of a Xen host (Xen {})", machine.info().kind, hypervisor.version);
    let frames = match p2m::read(&machine, frame_list_list) {
        Ok(frames) => frames,
        Err(why) => {
            let what = "dom0's memory can't be told from the rest of the machine's";
            return machine.with_kind(kind).with_oddity(format!("{what}: {why}"));
        }
    };
    let info = ContainerInfo { kind: kind + ", dom0's memory", ..machine.info().clone() };
    let notes = machine.notes().iter().filter(|note| note.name == "VMCOREINFO").cloned().collect();
    let machine = Arc::new(machine);
    let container = Box::new(dom0::Dom0::new(Arc::clone(&machine), frames));
    Image::of_domain(container, info, notes, XenHost { machine, hypervisor })
}

/// The hypervisor, and the frame of dom0's list of lists.
fn hypervisor(machine: &Image) -> Option<(Hypervisor, u64)> {
    let note = machine.notes().iter().find(|note| is_crash_info(note))?;
    let words: Vec<u64> = (0..WORDS).map_while(|n| Fields(&note.desc).u64(8 * n)).collect();
    if words.len() < WORDS_WITHOUT_PLACE {
        return None;
    }
    let [major, minor, extra, ..] = *words.as_slice() else { return None };
    let extra = string(machine, extra).unwrap_or_default();
    let hypervisor = Hypervisor {
        version: format!("{major}.{minor}{extra}"),
        tainted: *words.get(7)?,
        phys_start: words.get(8).copied().filter(|_| words.len() == WORDS),
        cpus: cpus(machine.notes()),
    };
    Some((hypervisor, *words.last()?))
}

/// The hypervisor writes a CPU's registers and its control registers one behind the other.
fn cpus(notes: &[Note]) -> Vec<HypervisorCpu> {
    let mut cpus = Vec::new();
    let mut regs = None;
    for note in notes {
        match (note.name.as_str(), note.kind) {
            ("CORE", NT_PRSTATUS) => {
                let status = crate::cpu::parse_cpus(std::slice::from_ref(note)).pop();
                regs = status.and_then(|cpu| cpu.prstatus).map(|status| status.regs);
            }
            ("Xen", CRASH_REGS) => {
                if let (Some(regs), Some(cr3)) = (regs.take(), Fields(&note.desc).u64(16)) {
                    cpus.push(HypervisorCpu { regs, cr3 });
                }
            }
            _ => {}
        }
    }
    cpus
}

/// A string of the hypervisor's, as far as it can be read.
fn string(machine: &Image, addr: u64) -> Option<String> {
    let mut bytes = [0; 16];
    machine.read(addr, &mut bytes).ok()?;
    let text = text_until_nul(&bytes);
    text.chars().all(|c| c.is_ascii_graphic()).then_some(text)
}

//! What a dump says beside its memory and notes, so that another container can say it too.
//!
//! The fields are those of kdump-compressed's two headers (makedumpfile's diskdump_mod.h), which
//! say more than any other container does.

use crate::info::Utsname;

/// Fields of a dump's headers. Zero and empty where nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpHeader {
    /// System name.
    pub utsname: Utsname,
    /// Time of the dump: seconds since 1970, and microseconds.
    pub timestamp: (u64, u64),
    /// Where the kernel's image was loaded, less where it was linked to be (x86_64).
    pub phys_base: u64,
    /// makedumpfile's dump level.
    pub dump_level: u32,
    /// Number of the page frame behind the last one of the machine; 0: the end of its RAM.
    pub max_mapnr: u64,
    /// CPUs.
    pub nr_cpus: u32,
    /// CPU that crashed.
    pub current_cpu: u32,
    /// Whether the writer ran out of space (status 0x8).
    pub incomplete: bool,
    /// Whether makedumpfile -e left out page structures of excluded pages (status 0x10).
    pub lacks_vmemmap: bool,
    /// What makedumpfile --config erased.
    pub eraseinfo: Vec<u8>,
}

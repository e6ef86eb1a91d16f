//! Mappings of a process: `struct vm_area_struct` (include/linux/mm_types.h).
//!
//! Since v6.1 they lie in a maple tree, `mm_struct.mm_mt`, by address
//! (524e00b36e8c, d4af56c5c7c6); before, on the chain `mm_struct.mmap` linked by
//! `vm_next`, and in the red-black tree `mm_struct.mm_rb`. What names a mapping:
//! its file; else the name that the program gave it (`anon_name`, v5.17,
//! 9a10064f5625); else its place in the process (`start_brk`, `start_stack`) or
//! the kernel's own name of a special mapping (`[vdso]`), as /proc/PID/maps has
//! it (fs/proc/task_mmu.c).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct vm_area_struct`, include/linux/mm_types.h
    pub struct VmaLayout for "vm_area_struct" {
        start: u64 = "vm_start",
        end: u64 = "vm_end",
        mm: u64 = "vm_mm",
        flags: u64 = "vm_flags" | "__vm_flags",
        pgoff: u64 = "vm_pgoff",
        file: u64 = "vm_file",
        next: Embedded = "vm_next",                 // until v6.1
        rb: Embedded = "vm_rb",                     // until v6.1
        anon_vma: u64 = "anon_vma",
        anon_name: u64 = "anon_name",
        ops: u64 = "vm_ops",
        private_data: u64 = "vm_private_data",
    }
}

layout! {
    /// `struct mm_struct`, include/linux/mm_types.h: its mappings
    pub struct MmVmasLayout for "mm_struct" {
        tree: Embedded = "mm_mt",                   // since v6.1
        first: u64 = "mmap",                        // until v6.1
        rb: Embedded = "mm_rb",                     // until v6.1
        start_brk: u64 = "start_brk",
        brk: u64 = "brk",
        start_stack: u64 = "start_stack",
    }
}

layout! {
    /// `struct anon_vma_name`, include/linux/mm_types.h
    pub struct AnonVmaNameLayout for "anon_vma_name" {
        name: Embedded = "name",
    }
}

layout! {
    /// `struct vm_special_mapping`, include/linux/mm_types.h
    pub struct SpecialMappingLayout for "vm_special_mapping" {
        name: CString = "name",
    }
}

/// `XA_ZERO_ENTRY` and other values below 4096 keep places free while a process
/// is being copied: they are no mappings.
const LOWEST_POINTER: u64 = 4096;
/// `ANON_VMA_NAME_MAX_LEN` is 80.
const LONGEST_NAME: usize = 256;

/// `VM_READ` and others (include/linux/mm.h): the bits that have kept their
/// meaning.
pub const VM_READ: u64 = 1;
/// May be written.
pub const VM_WRITE: u64 = 2;
/// May be executed.
pub const VM_EXEC: u64 = 4;
/// Shared between processes.
pub const VM_SHARED: u64 = 8;
/// Grows down, as a stack does.
pub const VM_GROWSDOWN: u64 = 0x100;
/// Page frames without `struct page`, or of devices.
pub const VM_PFNMAP: u64 = 0x400;
/// Locked in memory.
pub const VM_LOCKED: u64 = 0x2000;
/// Registers of a device.
pub const VM_IO: u64 = 0x4000;
/// Not to be in core dumps.
pub const VM_DONTDUMP: u64 = 0x0400_0000;
/// Huge pages of hugetlbfs.
pub const VM_HUGETLB: u64 = 0x0040_0000;

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vma {
    /// Address of its `struct vm_area_struct`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// First address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Behind its last address.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// `VM_*` flags.
    #[serde(serialize_with = "hex")]
    pub flags: u64,
    /// Place in its file, in pages.
    pub pgoff: u64,
    /// Its `struct file`, 0: anonymous.
    #[serde(serialize_with = "hex")]
    pub file: u64,
}

impl Vma {
    /// Bytes of address space.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it spans nothing.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// "rwxp" as in /proc/PID/maps.
    pub fn permissions(&self) -> String {
        let bit = |bit, yes, no| if self.flags & bit != 0 { yes } else { no };
        [
            bit(VM_READ, 'r', '-'),
            bit(VM_WRITE, 'w', '-'),
            bit(VM_EXEC, 'x', '-'),
            bit(VM_SHARED, 's', 'p'),
        ]
        .iter()
        .collect()
    }
}

/// The mappings of a process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Vmas {
    /// By address.
    pub list: Vec<Vma>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Vmas {
    /// The mapping that holds `addr`.
    pub fn at(&self, addr: u64) -> Option<&Vma> {
        let next = self.list.partition_point(|vma| vma.start <= addr);
        self.list[..next].last().filter(|vma| addr < vma.end)
    }
}

impl Kernel {
    /// The mappings of the process whose `struct mm_struct` is at `mm`. Fails
    /// only where none can be read.
    pub fn vmas(&self, mm: u64) -> Result<Vmas> {
        let layout = self.layout::<MmVmasLayout>()?;
        let vma = self.layout::<VmaLayout>()?;
        let mut vmas = Vmas::default();
        if layout.tree.exists() {
            self.vmas_of_tree(layout.tree.address(mm)?, &vma, &mut vmas)?;
        } else {
            self.vmas_of_chain(mm, &layout, &vma, &mut vmas)?;
        }
        Ok(vmas)
    }

    fn vmas_of_tree(&self, tree: u64, layout: &VmaLayout, vmas: &mut Vmas) -> Result<()> {
        let mut failed = None;
        for entry in self.maple_tree(tree)? {
            match entry {
                Ok(entry) if entry.entry < LOWEST_POINTER => {}
                Ok(entry) => match self.read_vma(entry.entry, layout) {
                    Ok(vma) => vmas.list.push(vma),
                    Err(e) => failed = Some(e),
                },
                Err(e) => failed = Some(e),
            }
            if let Some(e) = failed.as_ref().filter(|e| e.is_interrupted()) {
                return Err(e.clone());
            }
            if let Some(e) = &failed {
                vmas.gaps.add("mappings", e);
            }
            failed = failed.filter(|_| vmas.list.is_empty());
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn vmas_of_chain(
        &self,
        mm: u64,
        layout: &MmVmasLayout,
        vma: &VmaLayout,
        vmas: &mut Vmas,
    ) -> Result<()> {
        let first = layout.first.read(self, mm)?;
        let chain = self.chain(first, vma.next.offset()?, "the mappings of a process");
        let read = |addr: Result<u64>| addr.and_then(|addr| self.read_vma(addr, vma));
        let mut failed = None;
        for found in chain.map(read) {
            match found {
                Ok(found) => vmas.list.push(found),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        let Some(broken) = failed else { return Ok(()) };
        vmas.gaps.add("mappings", &broken);
        // The tree has them a second time.
        let tree = self.rbtree(layout.rb.address(mm)?, vma.rb.offset()?, "the mappings' tree")?;
        vmas.list.extend(tree.map(read).filter_map(Result::ok));
        vmas.list.sort_by_key(|vma| (vma.start, vma.addr));
        vmas.list.dedup_by_key(|vma| vma.addr);
        if vmas.list.is_empty() { Err(broken) } else { Ok(()) }
    }

    /// The `struct vm_area_struct` at `addr`.
    pub fn vma(&self, addr: u64) -> Result<Vma> {
        let layout = self.layout::<VmaLayout>()?;
        self.read_vma(addr, &layout)
    }

    fn read_vma(&self, addr: u64, layout: &VmaLayout) -> Result<Vma> {
        let vma = Vma {
            addr,
            start: layout.start.read(self, addr)?,
            end: layout.end.read(self, addr)?,
            flags: layout.flags.read(self, addr)?,
            pgoff: layout.pgoff.read(self, addr)?,
            file: layout.file.read(self, addr)?,
        };
        if vma.is_empty() {
            return Err(Error::corrupt("a vm_area_struct", addr));
        }
        Ok(vma)
    }

    /// Whether pages of the mapping that were never touched read as zeros
    /// (`vma_is_anonymous`): not so of files, of special mappings and devices.
    pub fn is_anonymous(&self, vma: &Vma) -> Result<bool> {
        Ok(vma.file == 0 && self.layout::<VmaLayout>()?.ops.read(self, vma.addr)? == 0)
    }

    /// What /proc/PID/maps calls a mapping of `mm`: its file's path,
    /// `[anon:NAME]`, `[heap]`, `[stack]`, `[vdso]`; nothing for others.
    pub fn vma_name(&self, mm: u64, vma: &Vma) -> Result<Option<String>> {
        if vma.file != 0 {
            return self.file_path(vma.file).map(Some);
        }
        let layout = self.layout::<VmaLayout>()?;
        let name = layout.anon_name.read_if_exists(self, vma.addr)?.unwrap_or(0);
        if name != 0 {
            let at = self.layout::<AnonVmaNameLayout>()?.name.address(name)?;
            return Ok(Some(format!("[anon:{}]", self.read_cstring(at, LONGEST_NAME)?)));
        }
        let ops = layout.ops.read(self, vma.addr)?;
        if ops != 0 && self.symbol("special_mapping_vmops").is_ok_and(|special| special == ops) {
            let mapping = layout.private_data.read(self, vma.addr)?;
            return self.layout::<SpecialMappingLayout>()?.name.read(self, mapping).map(Some);
        }
        let place = self.layout::<MmVmasLayout>()?;
        let (start, end) = (place.start_brk.read(self, mm)?, place.brk.read(self, mm)?);
        if vma.start <= end && vma.end >= start && start < end {
            return Ok(Some("[heap]".to_owned()));
        }
        let stack = place.start_stack.read(self, mm)?;
        Ok((vma.start <= stack && stack < vma.end).then(|| "[stack]".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(start: u64, end: u64, flags: u64) -> Vma {
        Vma { addr: start | 8, start, end, flags, pgoff: 0, file: 0 }
    }

    #[test]
    fn an_address_lies_in_one_mapping_or_none() {
        let list = vec![vma(0x1000, 0x3000, 0), vma(0x3000, 0x4000, 0), vma(0x8000, 0x9000, 0)];
        let vmas = Vmas { list, gaps: Gaps::default() };
        let at = |addr| vmas.at(addr).map(|vma| vma.start);
        assert_eq!((at(0xfff), at(0x1000), at(0x2fff)), (None, Some(0x1000), Some(0x1000)));
        assert_eq!((at(0x3000), at(0x4000), at(0x8fff)), (Some(0x3000), None, Some(0x8000)));
        assert_eq!(at(u64::MAX), None);
    }

    #[test]
    fn permissions_read_as_in_proc() {
        assert_eq!(vma(0, 1, VM_READ | VM_EXEC).permissions(), "r-xp");
        assert_eq!(vma(0, 1, VM_READ | VM_WRITE | VM_SHARED).permissions(), "rw-s");
    }
}

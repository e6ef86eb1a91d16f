//! `struct page`: the kernel's record of a page frame.
//!
//! Records lie in one virtual array, the vmemmap (CONFIG_SPARSEMEM_VMEMMAP):
//! the one of page frame n is at `vmemmap_base + n * sizeof(struct page)`
//! (arch/x86/include/asm/pgtable_64.h). `flags` has the bits of `enum
//! pageflags`, in its upper part node and zone. What a page is used for is
//! - a flag: PG_slab until v6.10 (46df8e73a4a3);
//! - its type in `page_type`: `enum pagetype`, the upper byte since v6.12
//!   (4ffca5a96678), a bit that is clear before; older kernels give the values
//!   in VMCOREINFO (`PAGE_BUDDY_MAPCOUNT_VALUE`);
//! - the low bits of `mapping`: 1 anonymous, 2 movable.
//!
//! A tail of a larger page has bit 0 set in `compound_head`, the rest being the
//! head's address. In `compound_info`, which took its place, it may be a mask
//! that leads from the tail to the head.

use serde::Serialize;

use crate::error::{Error, Result};
pub use crate::page_names::PageNames;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct page`, include/linux/mm_types.h
    pub struct PageLayout for "page" {
        flags: u64 = "flags",
        compound: u64 = "compound_head" | "compound_info",
        mapping: u64 = "mapping",
        index: u64 = "index" | "__folio_index",
        private: u64 = "private",
        page_type: u32 = "page_type" | "_mapcount",
        refcount: i32 = "_refcount",
    }
}

/// What a page is used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageUse {
    /// Not a head: see the larger page that it is part of.
    Tail,
    /// Objects of a slab cache.
    Slab,
    /// Another type of the kernel's: "buddy" (free), "table" (page table),
    /// "offline", "guard", "hugetlb".
    Type(String),
    /// Anonymous memory of processes.
    Anon,
    /// Page cache.
    File,
    /// Kept by the kernel from boot on.
    Reserved,
    /// Nothing tells: kernel memory mostly.
    Other,
}

/// A page frame.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// Address of its `struct page`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Physical address of the frame.
    #[serde(serialize_with = "hex")]
    pub phys: u64,
    /// Address of the first `struct page` of the larger page that it is part
    /// of, or its own.
    #[serde(serialize_with = "hex")]
    pub head: u64,
    /// What it is used for.
    pub usage: PageUse,
    /// `flags`, node and zone included.
    #[serde(serialize_with = "hex")]
    pub flags: u64,
    /// Names of the flags that are set, without "PG_".
    pub flag_names: Vec<String>,
    /// References to it.
    pub refcount: i32,
    /// `mapping`: address space, or what its low bits say.
    #[serde(serialize_with = "hex")]
    pub mapping: u64,
    /// Page number in the mapping.
    pub index: u64,
}

impl Kernel {
    /// Address of the record of page frame 0.
    pub fn vmemmap(&self) -> Result<u64> {
        self.arch().vmemmap(self)
    }

    /// Address of the `struct page` of the frame that has physical `phys`.
    pub fn page_of(&self, phys: u64) -> Result<u64> {
        let frame = phys / self.page_size();
        Ok(self.vmemmap()?.wrapping_add(frame.wrapping_mul(self.page_record_size()?)))
    }

    /// Physical address of the frame whose `struct page` is at `page`.
    pub fn page_phys(&self, page: u64) -> Result<u64> {
        let size = self.page_record_size()?;
        let at = page.wrapping_sub(self.vmemmap()?);
        // 52 bits of physical address are the architecture's limit.
        if at % size != 0 || at / size >= 1 << 40 {
            return Err(Error::corrupt("a pointer to a struct page", page));
        }
        Ok(at / size * self.page_size())
    }

    /// Direct-map address of the frame whose `struct page` is at `page`.
    pub fn page_address(&self, page: u64) -> Result<u64> {
        let phys = self.page_phys(page)?;
        let outside = || Error::corrupt("a struct page of no memory", page);
        self.space().phys_to_virt(phys).ok_or_else(outside)
    }

    /// The page frame that has physical address `phys`.
    pub fn page(&self, phys: u64) -> Result<Page> {
        self.page_at(self.page_of(phys)?)
    }

    /// The page frame whose `struct page` is at `addr`.
    pub fn page_at(&self, addr: u64) -> Result<Page> {
        let layout = self.layout::<PageLayout>()?;
        let phys = self.page_phys(addr)?;
        let flags = layout.flags.read(self, addr)?;
        let mapping = layout.mapping.read(self, addr)?;
        let head = head_of(addr, layout.compound.read(self, addr)?);
        let bits = self.page_flags()?;
        let flag_names: Vec<String> = bits
            .iter()
            .filter(|(_, bit)| flags >> bit & 1 == 1)
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let flagged = |name: &str| flag_names.iter().any(|n| n == name);
        let usage = if head != addr {
            PageUse::Tail
        } else if flagged("slab") {
            PageUse::Slab
        } else {
            match self.page_type(layout.page_type.read(self, addr)?) {
                Some(name) if name == "slab" => PageUse::Slab,
                Some(name) => PageUse::Type(name),
                None if flagged("reserved") => PageUse::Reserved,
                None if mapping & 1 == 1 => PageUse::Anon,
                None if mapping & 3 == 0 && mapping >> 63 == 1 => PageUse::File,
                None => PageUse::Other,
            }
        };
        Ok(Page {
            addr,
            phys,
            head,
            usage,
            flags,
            flag_names,
            refcount: layout.refcount.read(self, addr)?,
            mapping,
            index: layout.index.read(self, addr)?,
        })
    }

    /// (name, bit) of all page flags, in the kernel's order: names may share a
    /// bit.
    pub fn page_flag_bits(&self) -> Result<Vec<(&str, u32)>> {
        let bit = |value: i64| u32::try_from(value).ok().filter(|bit| *bit < 64);
        let flags = self.ty("enum pageflags")?.enumerators();
        let flags = flags.filter(|e| e.name.starts_with("PG_"));
        Ok(flags.filter_map(|e| Some((e.name, bit(e.value)?))).collect())
    }

    /// (name, bit) of the page flags. Of names that share a bit the first.
    pub fn page_flags(&self) -> Result<Vec<(&str, u32)>> {
        let mut flags: Vec<(&str, u32)> = Vec::new();
        for e in self.ty("enum pageflags")?.enumerators() {
            let Some(name) = e.name.strip_prefix("PG_") else { continue };
            let Ok(bit) = u32::try_from(e.value) else { continue };
            if bit < 64 && flags.iter().all(|(_, known)| *known != bit) {
                flags.push((name, bit));
            }
        }
        Ok(flags)
    }

    /// Name of the type in a `page_type` word; none: it is a map count.
    pub fn page_type(&self, word: u32) -> Option<String> {
        if let Ok(ty) = self.ty("enum pagetype") {
            let found = ty.enumerators().find(|e| has_type(word, e.value as u64))?;
            let name = found.name.trim_start_matches("PGTY_").trim_start_matches("PG_");
            return Some(name.to_lowercase());
        }
        let info = self.vmcoreinfo()?;
        ["buddy", "offline", "slab", "hugetlb"].into_iter().find_map(|name| {
            let value = info.number(&format!("PAGE_{}_MAPCOUNT_VALUE", name.to_uppercase()))?;
            (value as u32 == word).then(|| name.to_owned())
        })
    }

    fn page_record_size(&self) -> Result<u64> {
        match self.layout::<PageLayout>()?.size {
            0 => Err(Error::NoType("the size of struct page".into())),
            size => Ok(size),
        }
    }
}

/// Head of the page at `addr`, from its `compound_head` or `compound_info`.
pub(crate) fn head_of(addr: u64, compound: u64) -> u64 {
    /// The vmemmap ends below it (0xfffffe0000000000 is the CPU entry area).
    const MASKS: u64 = 0xffff_ff00_0000_0000;
    match compound {
        head if head & 1 == 0 => addr,
        mask if mask >= MASKS => addr & mask,
        head => head - 1,
    }
}

/// Whether `word` has the type that an enumerator of `enum pagetype` names: an
/// upper byte, or a bit that is clear while the others above the count are set.
pub(crate) fn has_type(word: u32, value: u64) -> bool {
    /// `PAGE_TYPE_BASE` of v6.11; the bits of the types lie below it.
    const BASE: u32 = 0x8000_0000;
    match u32::try_from(value) {
        // 255 is an underflown map count.
        Ok(byte @ 0x80..0xff) => word >> 24 == byte,
        Ok(bit) if bit.is_power_of_two() && bit != BASE => word & (BASE | bit) == BASE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_leads_to_its_head_by_pointer_or_mask() {
        assert_eq!(head_of(0xffd4_0000_0000_1040, 0xffd4_0000_0000_1001), 0xffd4_0000_0000_1000);
        assert_eq!(head_of(0xffd4_0000_0000_10c0, 0xffff_ffff_ffff_ff01), 0xffd4_0000_0000_1000);
        assert_eq!(head_of(0xffd4_0000_0000_1040, 0xffd4_0000_0000_2000), 0xffd4_0000_0000_1040);
    }

    #[test]
    fn types_are_an_upper_byte_or_a_clear_bit() {
        assert!(has_type(0xf5ff_ffff, 0xf5) && !has_type(0xf0ff_ffff, 0xf5));
        assert!(has_type(0xbfff_ffff, 0x4000_0000) && !has_type(0xffff_ffff, 0x4000_0000));
        assert!(!has_type(0xffff_ffff, 0xff) && !has_type(3, 0x4000_0000));
    }
}

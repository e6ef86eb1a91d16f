//! `struct page`: the kernel's record of a page frame.
//!
//! Records lie in one virtual array, the vmemmap (CONFIG_SPARSEMEM_VMEMMAP):
//! the one of page frame n is at `vmemmap_base + n * sizeof(struct page)`
//! (arch/x86/include/asm/pgtable_64.h).

use crate::error::{Error, Result};
use crate::{Kernel, layout};

layout! {
    /// `struct page`, include/linux/mm_types.h
    pub struct PageLayout for "page" {
        flags: u64 = "flags",
    }
}

impl Kernel {
    /// Address of the record of page frame 0. Kernels with
    /// CONFIG_RANDOMIZE_MEMORY have it in a variable, others at a fixed place
    /// (Documentation/arch/x86/x86_64/mm.rst).
    pub fn vmemmap(&self) -> Result<u64> {
        match self.symbol("vmemmap_base") {
            Ok(variable) => self.read_u64(variable),
            Err(_) if self.space().tables().levels == 5 => Ok(0xffd4_0000_0000_0000),
            Err(_) => Ok(0xffff_ea00_0000_0000),
        }
    }

    /// Address of the `struct page` of the frame that has physical `phys`.
    pub fn page_of(&self, phys: u64) -> Result<u64> {
        let frame = phys / self.image().page_size();
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
        Ok(at / size * self.image().page_size())
    }

    /// Direct-map address of the frame whose `struct page` is at `page`.
    pub fn page_address(&self, page: u64) -> Result<u64> {
        let phys = self.page_phys(page)?;
        let outside = || Error::corrupt("a struct page of no memory", page);
        self.space().phys_to_virt(phys).ok_or_else(outside)
    }

    fn page_record_size(&self) -> Result<u64> {
        match self.layout::<PageLayout>()?.size {
            0 => Err(Error::NoType("the size of struct page".into())),
            size => Ok(size),
        }
    }
}

//! Names of page flags and types, looked up once for many pages.
//!
//! The kernel's own order of flags is that of `pageflag_names[]` (mm/debug.c),
//! an array of `struct trace_print_flags` (mask and name) that ends with zeros:
//! the order in which an oops shows them. Without it they are listed by bit.

use crate::Kernel;
use crate::error::Result;
use crate::mem_map::Record;
use crate::page::{PageUse, has_type};

/// What flags and types are called in this kernel.
pub struct PageNames {
    /// In the kernel's order, each bit once.
    flags: Vec<(String, u32)>,
    types: Vec<(String, TypeWord)>,
    slab: u64,
    reserved: u64,
    buddy: Option<usize>,
}

/// How a type is told in `page_type`.
enum TypeWord {
    /// A value of `enum pagetype`.
    Enumerator(u64),
    /// The whole word, as VMCOREINFO has it.
    Exact(u32),
}

impl Kernel {
    /// Names of page flags and types.
    pub fn page_names(&self) -> Result<PageNames> {
        let mut by_bit = self.page_flags()?;
        by_bit.sort_by_key(|(_, bit)| *bit);
        let mask = |wanted: &str| {
            let bit = by_bit.iter().find(|(name, _)| *name == wanted).map(|(_, bit)| bit);
            bit.map_or(0, |bit| 1u64 << bit)
        };
        let mut flags = self.flags_in_order().unwrap_or_default();
        for (name, bit) in &by_bit {
            if flags.iter().all(|(_, known)| known != bit) {
                flags.push(((*name).to_owned(), *bit));
            }
        }
        let types = self.page_type_words();
        Ok(PageNames {
            slab: mask("slab"),
            reserved: mask("reserved"),
            buddy: types.iter().position(|(name, _)| name == "buddy"),
            types,
            flags,
        })
    }

    /// (name, bit) as `pageflag_names[]` has them.
    fn flags_in_order(&self) -> Result<Vec<(String, u32)>> {
        let table = self.symbol("pageflag_names")?;
        let mut flags: Vec<(String, u32)> = Vec::new();
        for i in 0..64 {
            let at = table.wrapping_add(i * 16);
            let (mask, name) = (self.read_u64(at)?, self.read_u64(at.wrapping_add(8))?);
            if mask == 0 || name == 0 {
                break;
            }
            // Young and idle pages, and others with several bits, are no flags.
            let bit = mask.trailing_zeros();
            if mask.is_power_of_two() && flags.iter().all(|(_, known)| *known != bit) {
                flags.push((self.read_cstring(name, 64)?, bit));
            }
        }
        Ok(flags)
    }

    fn page_type_words(&self) -> Vec<(String, TypeWord)> {
        if let Ok(ty) = self.ty("enum pagetype") {
            let name = |name: &str| {
                name.trim_start_matches("PGTY_").trim_start_matches("PG_").to_lowercase()
            };
            let word = |value: i64| TypeWord::Enumerator(value as u64);
            return ty.enumerators().map(|e| (name(e.name), word(e.value))).collect();
        }
        let Some(info) = self.vmcoreinfo() else { return Vec::new() };
        let known = ["buddy", "offline", "slab", "hugetlb"].into_iter();
        known
            .filter_map(|name| {
                let key = format!("PAGE_{}_MAPCOUNT_VALUE", name.to_uppercase());
                Some((name.to_owned(), TypeWord::Exact(info.number(&key)? as u32)))
            })
            .collect()
    }
}

impl PageNames {
    /// Names of the flags that are set, without "PG_", in the kernel's order.
    pub fn of(&self, flags: u64) -> impl Iterator<Item = &str> {
        self.flags
            .iter()
            .filter(move |(_, bit)| flags >> bit & 1 == 1)
            .map(|(name, _)| name.as_str())
    }

    /// Name of the type in a `page_type` word; none: it is a count of mappings.
    pub fn page_type(&self, word: u32) -> Option<&str> {
        let is = |ty: &TypeWord| match ty {
            TypeWord::Enumerator(value) => has_type(word, *value),
            TypeWord::Exact(exact) => word == *exact,
        };
        self.types.iter().find(|(_, ty)| is(ty)).map(|(name, _)| name.as_str())
    }

    /// Whether a `page_type` word is that of a free block.
    pub fn is_buddy(&self, word: u32) -> bool {
        let buddy = self.buddy.and_then(|i| self.types.get(i));
        buddy.is_some_and(|(_, ty)| match ty {
            TypeWord::Enumerator(value) => has_type(word, *value),
            TypeWord::Exact(exact) => word == *exact,
        })
    }

    /// What a page is used for, as [`Kernel::page_at`] tells it.
    pub fn usage(&self, record: &Record<'_>) -> PageUse {
        let (flags, mapping) = (record.flags(), record.mapping());
        if record.head() != record.addr {
            return PageUse::Tail;
        }
        if flags & self.slab != 0 {
            return PageUse::Slab;
        }
        match self.page_type(record.page_type()) {
            Some("slab") => PageUse::Slab,
            Some(name) => PageUse::Type(name.to_owned()),
            None if flags & self.reserved != 0 => PageUse::Reserved,
            None if mapping & 1 == 1 => PageUse::Anon,
            None if mapping & 3 == 0 && mapping >> 63 == 1 => PageUse::File,
            None => PageUse::Other,
        }
    }
}

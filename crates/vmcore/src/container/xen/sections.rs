//! Sections of an ELF64 file by their names (elf(5)).
//!
//! ```text
//! Ehdr:  16 e_type u16, 18 e_machine u16, 40 e_shoff u64, 56 e_phnum u16, 58 e_shentsize u16,
//!        60 e_shnum u16, 62 e_shstrndx u16
//! Shdr:  0 sh_name u32, 24 sh_offset u64, 32 sh_size u64, 56 sh_entsize u64 (64 bytes in all)
//! ```

use crate::error::OpenError;
use crate::source::{Fields, Source, text_until_nul};

const SHDR: usize = 64;
/// The longest name that is looked for has 16 bytes.
const LONGEST_NAME: u64 = 32;

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) entry_len: u64,
}

impl Section {
    /// Bytes of it that are in the file.
    pub(super) fn held(&self, source: &dyn Source) -> u64 {
        source.len().saturating_sub(self.offset).min(self.len)
    }
}

/// All sections of a file.
#[derive(Debug)]
pub(super) struct Sections {
    name: String,
    found: Vec<(String, Section)>,
}

impl Sections {
    pub(super) fn read(
        name: &str,
        source: &dyn Source,
        head: &[u8],
    ) -> Result<Sections, OpenError> {
        let cut =
            |what: &str| OpenError::Truncated { name: name.to_owned(), what: what.to_owned() };
        let corrupt = |what| OpenError::Corrupt { name: name.to_owned(), what };
        let fields = Fields(head);
        let header =
            (|| Some((fields.u64(40)?, fields.u16(58)?, fields.u16(60)?, fields.u16(62)?)))();
        let Some((offset, entry_len, count, names)) = header else {
            return Err(cut("it ends in its ELF header"));
        };
        if usize::from(entry_len) != SHDR {
            return Err(corrupt(format!(
                "its section headers have {entry_len} bytes (e_shentsize) instead of {SHDR}"
            )));
        }
        let table = source
            .bytes(offset, usize::from(count) * SHDR)
            .map_err(|_| cut("it ends before its section headers do (e_shoff, e_shnum)"))?;
        let sections: Vec<(u32, Section)> =
            table.chunks_exact(SHDR).filter_map(|header| section(Fields(header))).collect();
        let Some((_, names)) = sections.get(usize::from(names)) else {
            return Err(corrupt(format!(
                "the section of its section names (e_shstrndx {names}) is none of its {count}"
            )));
        };
        // They lie behind the pages, at the very end.
        let missing = names.len.saturating_sub(names.held(source));
        if missing > 0 {
            return Err(cut(&format!(
                "the last {missing} bytes of .shstrtab, the names of its sections, are missing, \
                 and its pages can't be told from the rest"
            )));
        }
        let name_of = |at: u32| {
            let at = u64::from(at);
            let len = names.len.checked_sub(at)?.min(LONGEST_NAME);
            let bytes = source.bytes(names.offset.checked_add(at)?, len as usize).ok()?;
            Some(text_until_nul(&bytes))
        };
        let found = sections
            .iter()
            .filter_map(|(name, section)| Some((name_of(*name)?, *section)))
            .filter(|(name, _)| !name.is_empty());
        Ok(Sections { name: name.to_owned(), found: found.collect() })
    }

    /// The section of that name.
    pub(super) fn find(&self, name: &str) -> Option<Section> {
        self.found.iter().find(|(found, _)| found == name).map(|(_, section)| *section)
    }

    /// The section of that name, which there must be.
    pub(super) fn get(&self, name: &str) -> Result<Section, OpenError> {
        self.find(name).ok_or_else(|| OpenError::Corrupt {
            name: self.name.clone(),
            what: format!("a Xen dump-core without the section {name}"),
        })
    }
}

fn section(fields: Fields<'_>) -> Option<(u32, Section)> {
    let section =
        Section { offset: fields.u64(24)?, len: fields.u64(32)?, entry_len: fields.u64(56)? };
    Some((fields.u32(0)?, section))
}

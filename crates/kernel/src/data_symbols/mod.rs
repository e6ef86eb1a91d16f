//! Symbols of data in a kernel whose own table has code alone
//! (CONFIG_KALLSYMS_ALL=n: Debian's arm64 kernels up to 6.1).
//!
//! What is left to name data, in the kernel's own image:
//! - its exports: `__ksymtab` and `__ksymtab_gpl`, one behind the other, of
//!   entries of three offsets, each relative to itself: value, name, namespace
//!   (include/linux/export-internal.h, CONFIG_HAVE_ARCH_PREL32_RELOCATIONS). The
//!   one of `init_task` is searched for, by its name, and its neighbours follow;
//! - VMCOREINFO;
//! - BTF, found by its header, which has the offsets of per-CPU variables in
//!   their section; one that is exported, too, tells where the section is;
//! - what `init_task` leads to, and the text of the banner;
//! - what the code of known functions refers to, where memory bears it out
//!   ([`code`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use kmortem_debuginfo::btf::Btf;
use memchr::memmem;
use rustc_hash::FxHashMap;

use crate::Kernel;
use crate::space::AddressSpace;

mod code;

/// A symbol that every kernel exports.
const ANCHOR: &[u8] = b"\0init_task\0";
/// Bytes of an entry.
const ENTRY: u64 = 12;
/// Kernels export about 10,000 symbols.
const MOST_EXPORTS: usize = 1 << 17;
/// `KSYM_NAME_LEN`.
const LONGEST_NAME: usize = 512;
/// Magic 0xeb9f, version 1, no flags, 24 bytes of header
/// (include/uapi/linux/btf.h).
const BTF_HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
/// How `linux_banner` begins.
const BANNER: &[u8] = b"Linux version ";
/// A kernel's types take megabytes; modules' are smaller.
const LEAST_BTF: u64 = 256 << 10;
/// What is read of the image at a time.
const PIECE: u64 = 64 << 10;

/// The symbols of data that could be found.
#[derive(Debug, Default)]
pub(crate) struct DataSymbols {
    named: FxHashMap<String, u64>,
    /// What is added to a per-CPU variable's offset in its section.
    per_cpu: OnceLock<Option<u64>>,
    /// What was found, or not, when it was asked for.
    asked: Mutex<FxHashMap<String, Option<u64>>>,
}

impl DataSymbols {
    /// Searches the kernel's image. Its symbols are not needed for that.
    pub(crate) fn find(space: &AddressSpace) -> DataSymbols {
        let image = Image::read(space);
        let mut named = exports(&image).unwrap_or_default();
        if let Some(btf) = btf_range(&image) {
            named.insert("__start_BTF".into(), btf.start);
            named.insert("__stop_BTF".into(), btf.end);
        }
        if let Some(at) = memmem::find_iter(&image.bytes, BANNER).find(|at| is_banner(&image, *at))
        {
            named.insert("linux_banner".into(), image.start + at as u64);
        }
        DataSymbols { named, ..DataSymbols::default() }
    }

    /// The address of `name`.
    pub(crate) fn get(&self, kernel: &Kernel, name: &str) -> Option<u64> {
        if let Some(addr) = self.named.get(name) {
            return Some(*addr);
        }
        // Bounds of sections; those of BTF must not ask for BTF.
        if name.starts_with("__start_") || name.starts_with("__stop_") {
            return None;
        }
        // Where an array of pointers is, VMCOREINFO names its contents.
        let noted = kernel.vmcoreinfo().and_then(|info| info.symbol(name));
        if let Some(addr) = noted.filter(|_| name != "mem_section") {
            return Some(addr);
        }
        let asked = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = asked().get(name) {
            return *known;
        }
        // Not under the lock: to bear it out, other symbols are asked for.
        let by_task = || code::by_init_task(kernel, *self.named.get("init_task")?, name);
        let found = self
            .per_cpu(kernel, name)
            .or_else(by_task)
            .or_else(|| code::find(kernel, name))
            .or_else(|| code::controller(kernel, name));
        asked().insert(name.to_owned(), found);
        found
    }

    fn per_cpu(&self, kernel: &Kernel, name: &str) -> Option<u64> {
        let btf = kernel.btf().ok()?;
        let base = (*self.per_cpu.get_or_init(|| self.per_cpu_base(btf)))?;
        Some(base.wrapping_add(btf.percpu_offset(name)?))
    }

    /// What most of the exported per-CPU variables agree on.
    fn per_cpu_base(&self, btf: &Btf) -> Option<u64> {
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for (name, addr) in &self.named {
            if let Some(offset) = btf.percpu_offset(name) {
                *votes.entry(addr.wrapping_sub(offset)).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, n)| *n).map(|(base, _)| base)
    }
}

/// The image's bytes. What can't be read is zero: nothing is taken from there.
struct Image {
    start: u64,
    bytes: Vec<u8>,
}

impl Image {
    fn read(space: &AddressSpace) -> Image {
        let range = space.image_range();
        let len = (range.end - range.start).min(1 << 30);
        let mut bytes = vec![0; len as usize];
        let pieces = bytes.chunks_mut(PIECE as usize).zip((range.start..).step_by(PIECE as usize));
        for (piece, at) in pieces {
            if space.read(at, piece).is_err() {
                piece.fill(0);
            }
        }
        Image { start: range.start, bytes }
    }

    fn contains(&self, addr: u64) -> bool {
        addr.checked_sub(self.start).is_some_and(|at| at < self.bytes.len() as u64)
    }

    fn at(&self, addr: u64) -> Option<&[u8]> {
        let at = usize::try_from(addr.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..)
    }

    /// The address that the offset at `addr` stands for.
    fn relative(&self, addr: u64) -> Option<u64> {
        let raw = self.at(addr)?.first_chunk()?;
        Some(addr.wrapping_add_signed(i64::from(i32::from_le_bytes(*raw))))
    }

    /// The name at `addr`, if it is one.
    fn name(&self, addr: u64) -> Option<&str> {
        let bytes = self.at(addr)?;
        let end = bytes.iter().take(LONGEST_NAME).position(|b| *b == 0).filter(|n| *n > 0)?;
        let name = bytes.get(..end)?;
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$');
        name.iter().all(valid).then(|| std::str::from_utf8(name).ok())?
    }

    /// (name, address) of the export at `addr`.
    fn export(&self, addr: u64) -> Option<(&str, u64)> {
        let value = self.relative(addr)?;
        let name = self.name(self.relative(addr.checked_add(4)?)?)?;
        self.contains(value).then_some((name, value))
    }
}

fn exports(image: &Image) -> Option<FxHashMap<String, u64>> {
    let names: Vec<u64> =
        memmem::find_iter(&image.bytes, ANCHOR).map(|at| image.start + at as u64 + 1).collect();
    let entry =
        image.bytes.chunks_exact(4).zip((image.start..).step_by(4)).find_map(|(raw, at)| {
            let offset = i32::from_le_bytes(*raw.first_chunk()?);
            let to = at.wrapping_add_signed(i64::from(offset));
            let entry = at.checked_sub(4)?;
            (names.contains(&to) && image.export(entry).is_some()).then_some(entry)
        })?;
    let mut first = entry;
    for _ in 0..MOST_EXPORTS {
        match first.checked_sub(ENTRY).filter(|before| image.export(*before).is_some()) {
            Some(before) => first = before,
            None => break,
        }
    }
    let table = (first..).step_by(ENTRY as usize).map_while(|at| image.export(at));
    let named = table.take(MOST_EXPORTS).map(|(name, addr)| (name.to_owned(), addr));
    Some(named.collect())
}

/// The banner counts the builds ("#1 SMP"): a copy of another stage of the build
/// does not.
fn is_banner(image: &Image, at: usize) -> bool {
    let text = image.bytes[at..].iter().take(LONGEST_NAME).take_while(|b| **b != 0);
    let text: Vec<u8> = text.copied().collect();
    memmem::find(&text, b" #").and_then(|at| text.get(at + 2)).is_some_and(u8::is_ascii_digit)
}

/// The largest block of the image that is BTF by its header.
fn btf_range(image: &Image) -> Option<Range<u64>> {
    let found = memmem::find_iter(&image.bytes, &BTF_HEADER).filter_map(|at| {
        let word = |n: usize| {
            let raw = image.bytes.get(at + n..)?.first_chunk()?;
            Some(u64::from(u32::from_le_bytes(*raw)))
        };
        let (type_len, string_at, string_len) = (word(12)?, word(16)?, word(20)?);
        let len = 24 + string_at + string_len;
        let inside = at as u64 + len <= image.bytes.len() as u64;
        let sound = word(8)? == 0 && type_len <= string_at && len >= LEAST_BTF && inside;
        let start = image.start + at as u64;
        sound.then(|| start..start + len)
    });
    found.max_by_key(|range| range.end - range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_8000_0800_0000;

    /// Names at 0x100, entries of exports from 0x200 on.
    fn image(exports: &[(&str, u64)]) -> Image {
        let mut bytes = vec![0xff; 0x400];
        bytes[0x100] = 0;
        let mut name_at = 0x101;
        for (i, (name, value)) in exports.iter().enumerate() {
            bytes[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
            bytes[name_at + name.len()] = 0;
            let entry = 0x200 + i * 12;
            let mut put = |at: usize, to: i64| {
                let offset = (to - at as i64) as i32;
                bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
            };
            put(entry, *value as i64);
            put(entry + 4, name_at as i64);
            put(entry + 8, 0x100);
            name_at += name.len() + 1;
        }
        Image { start: START, bytes }
    }

    #[test]
    fn exports_are_found_by_one_of_them() {
        let image = image(&[("nr_cpu_ids", 0x10), ("init_task", 0x20), ("jiffies", 0x30)]);
        let found = exports(&image).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found["nr_cpu_ids"], START + 0x10);
        assert_eq!(found["init_task"], START + 0x20);
        assert_eq!(found["jiffies"], START + 0x30);
    }

    #[test]
    fn without_the_anchor_nothing_is_believed() {
        assert!(exports(&image(&[("nr_cpu_ids", 0x10)])).is_none());
        // An entry whose value lies outside.
        assert!(exports(&image(&[("init_task", 0x10_0000)])).is_none());
    }

    #[test]
    fn btf_is_found_by_its_header() {
        let mut bytes = vec![0; 0x1000];
        bytes.extend(BTF_HEADER);
        for word in [0u32, 0x30000, 0x30000, 0x20000] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(0x1000 + 24 + 0x50000, 0);
        let image = Image { start: START, bytes };
        assert_eq!(btf_range(&image), Some(START + 0x1000..START + 0x1000 + 24 + 0x50000));
        let cut = Image { start: START, bytes: image.bytes[..0x20000].to_vec() };
        assert_eq!(btf_range(&cut), None);
    }
}

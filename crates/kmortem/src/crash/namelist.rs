//! The kernel that crash(8) is given beside the dump: a `vmlinux` or a
//! System.map. The dump has its own symbols and types, so it is not needed;
//! whether it belongs to the dump is checked, because scripts may rely on it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use kmortem_kernel::Kernel;

/// What a file on crash's command line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ELF file that is linked to run.
    Vmlinux,
    /// A `vmlinux` that is packed; it is not looked into.
    Packed,
    /// Lines of address, type and name.
    SystemMap,
    /// Anything else: the dump.
    Dump,
}

/// The largest note segment that is read.
const LARGEST_NOTES: u64 = 1 << 20;

/// Tells the file's kind by its content.
pub(crate) fn kind(path: &Path) -> io::Result<Kind> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(match start.as_slice() {
        // e_type: ET_EXEC, or ET_DYN for a kernel that can be moved.
        [0x7f, b'E', b'L', b'F', ..] if matches!(start.get(16..18), Some([2 | 3, 0])) => {
            Kind::Vmlinux
        }
        [0x1f, 0x8b, ..] | [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..]
            if name.contains("vmlinux") =>
        {
            Kind::Packed
        }
        start if is_map_line(start.split(|b| *b == b'\n').next().unwrap_or_default()) => {
            Kind::SystemMap
        }
        _ => Kind::Dump,
    })
}

fn is_map_line(line: &[u8]) -> bool {
    parse_map_line(line).is_some()
}

/// `ffffffff81000000 T _text`
fn parse_map_line(line: &[u8]) -> Option<(u64, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (addr, kind, name) = (words.next()?, words.next()?, words.next()?);
    let shape = (8..=16).contains(&addr.len()) && kind.len() == 1 && words.next().is_none();
    shape.then_some((u64::from_str_radix(addr, 16).ok()?, name))
}

/// Why `path` does not belong to the dump, if it does not. `None` also where
/// that can't be told.
pub(crate) fn mismatch(path: &Path, kind: Kind, kernel: &Kernel) -> io::Result<Option<String>> {
    match kind {
        Kind::Vmlinux => Ok(match (build_id_of_file(path)?, build_id_of_dump(kernel)) {
            (Some(file), Some(dump)) if file != dump => {
                Some(format!("its build ID is {file}, that of the dump's kernel {dump}"))
            }
            _ => None,
        }),
        Kind::SystemMap => map_mismatch(&mut BufReader::new(File::open(path)?), kernel),
        Kind::Packed | Kind::Dump => Ok(None),
    }
}

/// Compares how far symbols lie from `_text`, which KASLR does not change.
fn map_mismatch(map: &mut dyn BufRead, kernel: &Kernel) -> io::Result<Option<String>> {
    const PROBES: [&str; 4] = ["schedule", "panic", "init_task", "linux_banner"];
    let Ok(text) = kernel.symbol("_text") else { return Ok(None) };
    let (mut base, mut found) = (None, Vec::new());
    for line in map.split(b'\n') {
        let line = line?;
        let Some((addr, name)) = parse_map_line(&line) else { continue };
        if name == "_text" {
            base = Some(addr);
        }
        if PROBES.contains(&name) {
            found.push((name.to_owned(), addr));
        }
    }
    let Some(base) = base else { return Ok(None) };
    Ok(found.into_iter().find_map(|(name, addr)| {
        let dump = kernel.symbol(&name).ok()?.wrapping_sub(text);
        (addr.wrapping_sub(base) != dump).then(|| format!("{name} lies elsewhere in the dump"))
    }))
}

/// The build ID of the kernel in the dump: VMCOREINFO's (since v5.9), else from
/// the kernel's notes in memory.
pub(crate) fn build_id_of_dump(kernel: &Kernel) -> Option<String> {
    if let Some(id) = kernel.vmcoreinfo().and_then(|v| v.build_id()) {
        return Some(id.to_owned());
    }
    let (start, end) = (kernel.symbol("__start_notes").ok()?, kernel.symbol("__stop_notes").ok()?);
    let size = end.checked_sub(start).filter(|size| *size <= LARGEST_NOTES)?;
    build_id_in_notes(&kernel.read_bytes(start, size).ok()?)
}

/// The build ID of an ELF file, from its PT_NOTE segments (elf(5)).
fn build_id_of_file(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut header = [0; 64];
    if file.read_exact(&mut header).is_err() || header[4] != 2 || header[5] != 1 {
        return Ok(None);
    }
    let (phoff, phentsize, phnum) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if phentsize < 56 {
        return Ok(None);
    }
    for i in 0..u64::from(phnum) {
        let mut program = [0; 56];
        file.seek(SeekFrom::Start(phoff.saturating_add(i * u64::from(phentsize))))?;
        if file.read_exact(&mut program).is_err() {
            return Ok(None);
        }
        let (offset, size) = (u64_at(&program, 8), u64_at(&program, 32));
        if program[..4] != 4u32.to_le_bytes() || size > LARGEST_NOTES {
            continue;
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut notes = Vec::new();
        (&mut file).take(size).read_to_end(&mut notes)?;
        if let Some(id) = build_id_in_notes(&notes) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The descriptor of the note `GNU`, type 3 (NT_GNU_BUILD_ID), in hexadecimal.
fn build_id_in_notes(notes: &[u8]) -> Option<String> {
    let mut rest = notes;
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let (name_size, desc_size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let desc_at = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let name = rest.get(12..12usize.checked_add(name_size)?)?;
        let desc = rest.get(desc_at..desc_at.checked_add(desc_size)?)?;
        if kind == 3 && name == b"GNU\0" {
            return Some(desc.iter().map(|b| format!("{b:02x}")).collect());
        }
        rest = rest.get(desc_at.checked_add(desc_size.checked_next_multiple_of(4)?)?..)?;
    }
}

/// Little-endian numbers of a header whose length is known.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_map_are_known() {
        assert_eq!(
            parse_map_line(b"ffffffff81000000 T _text"),
            Some((0xffff_ffff_8100_0000, "_text"))
        );
        for line in [&b"KDUMP   "[..], b"ffffffff81000000", b"a T b", b"\xff\xfe T b", b""] {
            assert!(!is_map_line(line), "{line:?}");
        }
    }

    #[test]
    fn a_build_id_is_found_among_other_notes() {
        let note = |name: &[u8], kind: u32, desc: &[u8]| {
            let mut raw = Vec::new();
            raw.extend((name.len() as u32).to_le_bytes());
            raw.extend((desc.len() as u32).to_le_bytes());
            raw.extend(kind.to_le_bytes());
            for part in [name, desc] {
                raw.extend(part);
                raw.resize(raw.len().next_multiple_of(4), 0);
            }
            raw
        };
        let mut notes = note(b"Xen\0", 3, &[1; 5]);
        notes.extend(note(b"GNU\0", 3, &[0xab, 0xcd]));
        assert_eq!(build_id_in_notes(&notes).as_deref(), Some("abcd"));
        assert_eq!(build_id_in_notes(&notes[..20]), None);
        assert_eq!(build_id_in_notes(&[0xff; 64]), None);
    }
}

//! Notes as bytes, the way kdump and QEMU write them: `{ namesz, descsz, type }`, the name with
//! its NUL and the description, each padded to 4 bytes ([`crate::elf_note`]).

use crate::elf_note::Note;
use crate::origin;

/// The notes one after the other, without those of our own.
pub(super) fn encode_foreign(notes: &[Note]) -> Vec<u8> {
    let mut bytes = Vec::new();
    notes.iter().filter(|note| note.name != origin::OWNER).for_each(|note| push(&mut bytes, note));
    bytes
}

/// Appends a note.
pub(super) fn push(bytes: &mut Vec<u8>, note: &Note) {
    // Notes that were read fit in far less.
    bytes.extend((note.name.len() as u32 + 1).to_le_bytes());
    bytes.extend((note.desc.len() as u32).to_le_bytes());
    bytes.extend(note.kind.to_le_bytes());
    bytes.extend(note.name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(&note.desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Where the description of the VMCOREINFO note lies in what [`encode_foreign`] makes of `notes`.
pub(super) fn place_of_vmcoreinfo(notes: &[Note]) -> Option<(u64, u64)> {
    let index = notes.iter().position(|note| note.name == "VMCOREINFO")?;
    let (before, from) = notes.split_at(index);
    let desc = from.first()?.desc.len() as u64;
    // Header, and the name with its NUL and padding.
    Some((encode_foreign(before).len() as u64 + 12 + 12, desc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf_note;

    #[test]
    fn notes_come_back_and_vmcoreinfo_is_where_it_is_said_to_be() {
        let note = |name: &str, kind, desc: &[u8]| Note {
            name: name.to_owned(),
            kind,
            desc: desc.to_vec(),
        };
        let ours = note(origin::OWNER, 7, b"x");
        let notes = [
            note("CORE", 1, b"12345"),
            ours,
            note("VMCOREINFO", 0, b"A=1\n"),
            note("QEMU", 0, b""),
        ];
        let bytes = encode_foreign(&notes);
        let (back, oddities) = elf_note::parse(&bytes);
        assert!(oddities.is_empty());
        let foreign = [notes[0].clone(), notes[2].clone(), notes[3].clone()];
        assert_eq!(back, foreign);
        let (at, len) = place_of_vmcoreinfo(&notes).unwrap();
        assert_eq!(&bytes[at as usize..(at + len) as usize], b"A=1\n");
        assert_eq!(place_of_vmcoreinfo(&notes[..1]), None);
    }
}

//! ELF notes: how a dump carries registers and VMCOREINFO.
//!
//! A note is `{ namesz: u32, descsz: u32, type: u32 }`, the name and the description, each padded
//! to 4 bytes (elf(5); kdump and QEMU pad to 4 in ELF64 too). The kernel reserves a fixed area per
//! CPU and ends what it wrote with an all-zero header (kernel/crash_core.c, final_note()).

use serde::Serialize;

use crate::source::Fields;

/// `NT_PRSTATUS`, include/uapi/linux/elf.h.
pub const NT_PRSTATUS: u32 = 1;

/// Notes beyond this are not looked at: twice the 8192 CPUs that a kernel can be built for, and a
/// few that are there once.
const MAX_NOTES: usize = 2 * 8192 + 1024;

/// Descriptions beyond this are left out. Device dumps are that large (`NT_VMCOREDD`,
/// fs/proc/vmcore.c; they come before all other notes), registers and VMCOREINFO are not.
const MAX_DESC: u32 = 1 << 20;

/// Oddities beyond this say nothing new.
const MAX_ODDITIES: usize = 16;

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Owner, e.g. "CORE", "QEMU", "VMCOREINFO".
    pub name: String,
    /// Type, whose meaning depends on the owner.
    pub kind: u32,
    /// Description.
    pub desc: Vec<u8>,
}

/// Notes in `bytes`, up to the first that does not fit in. The second value says what was left
/// out, one sentence each.
pub fn parse(bytes: &[u8]) -> (Vec<Note>, Vec<String>) {
    let mut notes = Vec::new();
    let mut oddities = Vec::new();
    let mut at = 0usize;
    while let Some(header) = bytes.get(at..).filter(|rest| rest.len() >= 12) {
        let fields = Fields(header);
        let (Some(namesz), Some(descsz), Some(kind)) =
            (fields.u32(0), fields.u32(4), fields.u32(8))
        else {
            break;
        };
        if namesz == 0 && descsz == 0 && kind == 0 {
            break;
        }
        if notes.len() == MAX_NOTES {
            oddities.push(format!("more than {MAX_NOTES} notes: the rest are left out"));
            break;
        }
        let name_at = at + 12;
        let body = || {
            let desc_at = name_at.checked_add(align4(namesz)?)?;
            let name = bytes.get(name_at..name_at + namesz as usize)?;
            let desc = bytes.get(desc_at..desc_at.checked_add(descsz as usize)?)?;
            Some((name, desc, desc_at.checked_add(align4(descsz)?)?))
        };
        let Some((name, desc, next)) = body() else {
            oddities.push(format!("the note at offset {at:#x} does not fit in its segment"));
            break;
        };
        let name = crate::source::text_until_nul(name);
        at = next;
        if descsz > MAX_DESC {
            if oddities.len() < MAX_ODDITIES {
                oddities.push(format!("a note {name:?} of {descsz} bytes is left out"));
            }
            continue;
        }
        notes.push(Note { name, kind, desc: desc.to_vec() });
    }
    (notes, oddities)
}

fn align4(size: u32) -> Option<usize> {
    usize::try_from(u64::from(size).next_multiple_of(4)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_testkit::notes;

    #[test]
    fn notes_follow_one_another_with_their_padding() {
        let bytes = [notes::note("CORE", 1, b"12345"), notes::vmcoreinfo("A=1")].concat();
        let (found, oddities) = parse(&bytes);
        assert!(oddities.is_empty());
        assert_eq!((found[0].name.as_str(), found[0].kind), ("CORE", 1));
        assert_eq!(found[0].desc, b"12345");
        assert_eq!(found[1].desc, b"A=1");
    }

    #[test]
    fn the_end_may_lack_its_padding() {
        let bytes = notes::note("CORE", 1, b"12345");
        let (found, oddities) = parse(&bytes[..bytes.len() - 3]);
        assert_eq!((found.len(), oddities.len()), (1, 0));
    }

    #[test]
    fn sizes_that_do_not_fit_stop_it_with_what_came_before() {
        for at in [0, 4] {
            for size in [100u32, u32::MAX, u32::MAX - 3] {
                let mut bytes = notes::note("CORE", 1, b"1234");
                let second = bytes.len();
                bytes.extend(notes::note("QEMU", 0, b"5678"));
                bytes[second + at..second + at + 4].copy_from_slice(&size.to_le_bytes());
                let (found, oddities) = parse(&bytes);
                assert_eq!(found.len(), 1);
                assert_eq!(oddities.len(), 1);
            }
        }
    }

    #[test]
    fn device_dumps_are_left_out_and_what_follows_is_not() {
        let bytes =
            [notes::note("LINUX", 0x700, &vec![1; 2 << 20]), notes::note("CORE", 1, b"1")].concat();
        let (found, oddities) = parse(&bytes);
        assert_eq!((found.len(), found[0].name.as_str()), (1, "CORE"));
        assert!(oddities[0].contains("LINUX"));
    }

    #[test]
    fn very_many_notes_are_bounded() {
        let bytes = notes::note("A", 1, b"").repeat(MAX_NOTES + 5);
        let (found, oddities) = parse(&bytes);
        assert_eq!(found.len(), MAX_NOTES);
        assert_eq!(oddities.len(), 1);
    }
}

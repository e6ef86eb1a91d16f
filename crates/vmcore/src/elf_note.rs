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

/// Notes in `bytes`, up to the first that does not fit in. The second value says why it stopped,
/// if it wasn't at the end.
pub fn parse(bytes: &[u8]) -> (Vec<Note>, Option<String>) {
    let mut notes = Vec::new();
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
            return (notes, Some(format!("more than {MAX_NOTES} notes")));
        }
        let name_at = at + 12;
        let body = || {
            let desc_at = name_at.checked_add(align4(namesz)?)?;
            let name = bytes.get(name_at..name_at + namesz as usize)?;
            let desc = bytes.get(desc_at..desc_at.checked_add(descsz as usize)?)?;
            Some((name, desc, desc_at.checked_add(align4(descsz)?)?))
        };
        let Some((name, desc, next)) = body() else {
            return (notes, Some(format!("note at offset {at:#x} does not fit in its segment")));
        };
        notes.push(Note { name: crate::source::text_until_nul(name), kind, desc: desc.to_vec() });
        at = next;
    }
    (notes, None)
}

fn align4(size: u32) -> Option<usize> {
    usize::try_from(u64::from(size).next_multiple_of(4)).ok()
}

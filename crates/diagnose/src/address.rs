//! What a bad address looks like, and so what kind of mistake made it.
//!
//! Poison values: include/linux/poison.h (LIST_POISON1 is 0x100 and
//! LIST_POISON2 0x122 above POISON_POINTER_DELTA, 0xdead000000000000 on
//! x86_64; POISON_FREE 0x6b, POISON_INUSE 0x5a, PAGE_POISON 0xaa).

use std::ops::Range;

use serde::Serialize;

/// `POISON_POINTER_DELTA` of x86_64 (CONFIG_ILLEGAL_POINTER_VALUE).
const POINTER_POISON: u64 = 0xdead_0000_0000_0000;
/// `MAX_ERRNO`, include/linux/err.h.
const MAX_ERRNO: u64 = 4095;
/// A page: what the kernel itself calls a NULL pointer dereference.
const PAGE: u64 = 4096;

/// What an address is, by its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "looks_like")]
pub(crate) enum Looks {
    /// A NULL pointer, `offset` bytes into what it should have pointed to.
    Null {
        /// The offset.
        offset: u64,
    },
    /// `ERR_PTR(-errno)`, used as if it were a pointer.
    ErrorPointer {
        /// The errno, positive.
        errno: u64,
    },
    /// A list entry's link after its deletion.
    ListPoison {
        /// "LIST_POISON1" or "LIST_POISON2".
        name: String,
    },
    /// Memory that its allocator had filled in.
    Poison {
        /// What the filling means.
        meaning: String,
    },
    /// Readable characters: text was written over the pointer.
    Text {
        /// The characters in memory order.
        text: String,
    },
    /// No address of this architecture.
    NonCanonical,
    /// User space.
    User,
    /// Kernel space.
    Kernel {
        /// The region, where known ("the direct map of memory").
        region: Option<String>,
    },
}

impl Looks {
    /// As the predicate of a sentence.
    pub(crate) fn describe(&self) -> String {
        match self {
            Looks::Null { offset: 0 } => "a NULL pointer".into(),
            Looks::Null { offset } => format!("a NULL pointer plus {offset:#x}"),
            Looks::ErrorPointer { errno } => match errno_name(*errno) {
                Some(name) => format!("the error value -{name} used as a pointer"),
                None => format!("the error value -{errno} used as a pointer"),
            },
            Looks::ListPoison { name } => {
                format!("{name}, which list_del() leaves in an entry it removed")
            }
            Looks::Poison { meaning } => meaning.clone(),
            Looks::Text { text } => format!("not an address but the text \"{text}\""),
            Looks::NonCanonical => "not an address at all (non-canonical)".into(),
            Looks::User => "an address of user space".into(),
            Looks::Kernel { region: Some(region) } => format!("in {region}"),
            Looks::Kernel { region: None } => "an address of kernel space that maps nothing".into(),
        }
    }
}

/// Judges `address`; `base` is the pointer it was made from (base register),
/// where known.
pub(crate) fn judge(address: u64, base: Option<u64>, regions: &[(Range<u64>, String)]) -> Looks {
    let pointer = base.unwrap_or(address);
    if address < PAGE {
        return Looks::Null { offset: address };
    }
    // A member far inside a large structure; 1 MiB bounds what a structure is.
    if base == Some(0) && address < 1 << 20 {
        return Looks::Null { offset: address };
    }
    if pointer > u64::MAX - MAX_ERRNO {
        return Looks::ErrorPointer { errno: pointer.wrapping_neg() };
    }
    if let Some(poison) = list_poison(pointer).or_else(|| list_poison(address)) {
        return poison;
    }
    if let Some(meaning) = fill(pointer).or_else(|| fill(address)) {
        return Looks::Poison { meaning: meaning.into() };
    }
    if let Some(text) = text_of(pointer) {
        return Looks::Text { text };
    }
    // Canonical in either depth of page tables.
    let top = address as i64 >> 56;
    if top != 0 && top != -1 {
        return Looks::NonCanonical;
    }
    if top == 0 {
        let user = address < 1 << 47;
        return if user { Looks::User } else { Looks::NonCanonical };
    }
    let region = regions.iter().find(|(r, _)| r.contains(&address)).map(|(_, name)| name.clone());
    Looks::Kernel { region }
}

fn list_poison(pointer: u64) -> Option<Looks> {
    let name = match pointer.checked_sub(POINTER_POISON)? {
        0x100..=0x121 => "LIST_POISON1",
        0x122..=0x200 => "LIST_POISON2",
        _ => return None,
    };
    Some(Looks::ListPoison { name: name.into() })
}

/// The upper six bytes decide: an offset may have been added to the rest.
fn fill(pointer: u64) -> Option<&'static str> {
    let byte = (pointer >> 56) as u8;
    let upper = pointer >> 16;
    let same = (0..6).all(|i| (upper >> (i * 8)) as u8 == byte);
    match (same, byte) {
        (true, 0x6b) => Some("the pattern 0x6b with which SLUB fills freed objects"),
        (true, 0x5a) => Some("the pattern 0x5a of an object that was never written"),
        (true, 0xaa) => Some("the pattern 0xaa with which freed pages are filled"),
        (true, 0xcc) => Some("the pattern 0xcc of freed init memory"),
        _ => None,
    }
}

/// The bytes as text, if at least 7 are printable and the top one is.
fn text_of(pointer: u64) -> Option<String> {
    let bytes = pointer.to_le_bytes();
    let printable = |b: u8| (0x20..0x7f).contains(&b);
    let good = bytes.iter().filter(|b| printable(**b)).count();
    (good >= 7 && printable(bytes[7]))
        .then(|| bytes.iter().map(|b| if printable(*b) { *b as char } else { '.' }).collect())
}

/// Names of the errnos that kernel functions return as pointers most
/// (include/uapi/asm-generic/errno-base.h, errno.h).
fn errno_name(errno: u64) -> Option<&'static str> {
    Some(match errno {
        1 => "EPERM",
        2 => "ENOENT",
        5 => "EIO",
        6 => "ENXIO",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        20 => "ENOTDIR",
        22 => "EINVAL",
        28 => "ENOSPC",
        95 => "EOPNOTSUPP",
        110 => "ETIMEDOUT",
        116 => "ESTALE",
        512 => "ERESTARTSYS",
        517 => "EPROBE_DEFER",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(address: u64, base: Option<u64>) -> String {
        judge(address, base, &[]).describe()
    }

    #[test]
    fn small_addresses_are_null_pointers() {
        assert_eq!(describe(0, Some(0)), "a NULL pointer");
        assert_eq!(describe(0x40, Some(0)), "a NULL pointer plus 0x40");
        assert_eq!(describe(0x2008, Some(0)), "a NULL pointer plus 0x2008");
        // Not NULL: some small integer was used as a pointer.
        assert_eq!(describe(0x12345, Some(0x12345)), "an address of user space");
    }

    #[test]
    fn error_values_are_named() {
        let enomem = (-12i64) as u64;
        assert_eq!(describe(enomem + 8, Some(enomem)), "the error value -ENOMEM used as a pointer");
    }

    #[test]
    fn poison_is_told_from_garbage() {
        assert!(describe(0xdead_0000_0000_0108, Some(0xdead_0000_0000_0100)).contains("POISON1"));
        assert!(describe(0xdead_0000_0000_0122, None).contains("POISON2"));
        assert!(describe(0x6b6b_6b6b_6b6b_6b73, Some(0x6b6b_6b6b_6b6b_6b6b)).contains("freed"));
        assert_eq!(judge(0x8b6b_1234_6b6b_6b6b, None, &[]), Looks::NonCanonical);
    }

    #[test]
    fn text_over_a_pointer_is_shown() {
        assert_eq!(
            describe(0x5041_594c_4f41_4421, Some(0x5041_594c_4f41_4421)),
            "not an address but the text \"!DAOLYAP\""
        );
    }

    #[test]
    fn kernel_addresses_say_their_region() {
        let regions = [(0xffff_c900_0000_0000..0xffff_e900_0000_0000, "vmalloc space".to_owned())];
        let looks = judge(0xffff_c900_0000_1000, None, &regions);
        assert_eq!(looks.describe(), "in vmalloc space");
        assert!(matches!(
            judge(0xffff_8880_0000_0000, None, &regions),
            Looks::Kernel { region: None }
        ));
    }
}

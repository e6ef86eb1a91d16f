//! Members of kernel structures, named as data.
//!
//! [`layout!`](crate::layout) declares the members that a piece of code needs
//! of one structure, each with every name it has had. Resolved once against
//! the dump's own types, a [`Member`] then reads its value from any address:
//!
//! ```text
//! layout! {
//!     /// `struct task_struct`, include/linux/sched.h
//!     pub struct TaskLayout for "task_struct" {
//!         pid: i32 = "pid",
//!         state: u32 = "__state" | "state",     // renamed in v5.14
//!     }
//! }
//! let layout = kernel.layout::<TaskLayout>()?;
//! let pid = layout.pid.read(kernel, task)?;
//! ```
//!
//! This is the only place where differences between kernels show. A member
//! that a kernel lacks costs the answer that needs it and nothing else.

use std::any::Any;
use std::marker::PhantomData;

use kmortem_debuginfo::btf::Type;

use crate::Kernel;
use crate::error::{Error, Result};

/// Where a member lies in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset in bytes from the structure's start.
    pub offset: u64,
    /// Size in bytes of the member's type (of the storage unit for bitfields).
    pub size: u64,
    /// For a bitfield: first bit (counted from bit 0 of `offset`) and width.
    pub bits: Option<(u32, u32)>,
    /// Whether the type is a signed integer.
    pub signed: bool,
}

/// A set of members of one structure, resolved against the dump's types.
pub trait Layout: Any + Send + Sync + Sized {
    /// The structure's name as the kernel writes it.
    const TYPE: &'static str;
    /// Looks the members up. Missing ones stay missing.
    fn resolve(ty: Type<'_>) -> Self;
}

/// One member: its place, or the names under which it was sought.
#[derive(Debug)]
pub struct Member<T: ?Sized> {
    ty: &'static str,
    names: &'static [&'static str],
    place: Option<Place>,
    _value: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Member<T> {
    /// Looks `names` up in `ty`, in order. Used by [`layout!`](crate::layout).
    pub fn resolve(
        struct_name: &'static str,
        ty: Type<'_>,
        names: &'static [&'static str],
    ) -> Member<T> {
        let place = names.iter().find_map(|name| place_of(ty, name));
        Member { ty: struct_name, names, place, _value: PhantomData }
    }

    /// Whether this kernel has the member.
    pub fn exists(&self) -> bool {
        self.place.is_some()
    }

    /// The member's place.
    pub fn place(&self) -> Result<Place> {
        self.place.ok_or_else(|| Error::NoMember {
            ty: self.ty.to_owned(),
            names: self.names.join(" or "),
        })
    }

    /// Offset in bytes from the structure's start.
    pub fn offset(&self) -> Result<u64> {
        Ok(self.place()?.offset)
    }

    /// Address of the member in the structure at `base`.
    pub fn address(&self, base: u64) -> Result<u64> {
        Ok(base.wrapping_add(self.place()?.offset))
    }
}

impl<T: Value + ?Sized> Member<T> {
    /// Reads the member of the structure at kernel virtual address `base`.
    pub fn read(&self, kernel: &Kernel, base: u64) -> Result<T::Out> {
        let place = self.place()?;
        T::read(kernel, base.wrapping_add(place.offset), &place)
    }

    /// As [`read`](Self::read), `None` where this kernel has no such member.
    pub fn read_if_exists(&self, kernel: &Kernel, base: u64) -> Result<Option<T::Out>> {
        self.place.map(|p| T::read(kernel, base.wrapping_add(p.offset), &p)).transpose()
    }
}

/// Finds `path` ("a.b", through anonymous members too) in a structure type.
pub fn place_of(ty: Type<'_>, path: &str) -> Option<Place> {
    let found = ty.member(path)?;
    let size = found.ty.size().unwrap_or(0);
    let signed = found.ty.is_signed();
    Some(match found.bit_size {
        Some(width) => {
            let unit = size.clamp(1, 8) * 8;
            // The storage unit that holds the whole field.
            let start = found.bit_offset / unit * unit;
            let first = (found.bit_offset - start) as u32;
            Place { offset: start / 8, size: unit / 8, bits: Some((first, width)), signed }
        }
        None => Place { offset: found.bit_offset / 8, size, bits: None, signed },
    })
}

/// A type that a member can be read as.
pub trait Value {
    /// What reading gives.
    type Out;
    /// Reads it at `addr`.
    fn read(kernel: &Kernel, addr: u64, place: &Place) -> Result<Self::Out>;
}

macro_rules! integers {
    ($($t:ty),*) => { $(
        impl Value for $t {
            type Out = $t;
            fn read(kernel: &Kernel, addr: u64, place: &Place) -> Result<$t> {
                // The width comes from the dump's types, not from ours: a
                // member that grew from int to long reads right in both.
                Ok(read_integer(kernel, addr, place)? as $t)
            }
        }
    )* };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Value for bool {
    type Out = bool;
    fn read(kernel: &Kernel, addr: u64, place: &Place) -> Result<bool> {
        Ok(read_integer(kernel, addr, place)? != 0)
    }
}

/// A `char` array: text up to the first NUL.
impl Value for str {
    type Out = String;
    fn read(kernel: &Kernel, addr: u64, place: &Place) -> Result<String> {
        let mut buf = vec![0; place.size.min(4096) as usize];
        kernel.read(addr, &mut buf)?;
        let end = buf.iter().position(|b| *b == 0).unwrap_or(buf.len());
        Ok(String::from_utf8_lossy(&buf[..end]).into_owned())
    }
}

/// Raw bytes of the member.
impl Value for [u8] {
    type Out = Vec<u8>;
    fn read(kernel: &Kernel, addr: u64, place: &Place) -> Result<Vec<u8>> {
        let mut buf = vec![0; place.size.min(1 << 20) as usize];
        kernel.read(addr, &mut buf)?;
        Ok(buf)
    }
}

/// A pointer to a NUL-terminated string, followed. NULL gives an error.
#[derive(Debug)]
pub struct CString;
impl Value for CString {
    type Out = String;
    fn read(kernel: &Kernel, addr: u64, _: &Place) -> Result<String> {
        kernel.read_cstring(kernel.read_u64(addr)?, 4096)
    }
}

/// A structure inside the structure: reading gives its address.
#[derive(Debug)]
pub struct Embedded;
impl Value for Embedded {
    type Out = u64;
    fn read(_: &Kernel, addr: u64, _: &Place) -> Result<u64> {
        Ok(addr)
    }
}

/// Reads an integer, enum, pointer or bitfield of up to 8 bytes, extended by
/// its own sign.
pub fn read_integer(kernel: &Kernel, addr: u64, place: &Place) -> Result<u64> {
    let size = place.size as usize;
    if size == 0 || size > 8 {
        return Err(Error::corrupt(format!("an integer of {size} bytes"), addr));
    }
    let mut raw = [0; 8];
    kernel.read(addr, &mut raw[..size])?;
    let mut value = u64::from_le_bytes(raw);
    let mut width = size as u32 * 8;
    if let Some((first, bits)) = place.bits {
        value = value.checked_shr(first).unwrap_or(0);
        width = bits;
    }
    if width < 64 {
        value &= (1u64 << width) - 1;
        if place.signed && width > 0 && value >> (width - 1) & 1 == 1 {
            value |= u64::MAX << width;
        }
    }
    Ok(value)
}

/// Declares a [`Layout`]: the members needed of one kernel structure, each
/// with all names it has had, newest first.
#[macro_export]
macro_rules! layout {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident for $ty:literal {
            $( $(#[$fmeta:meta])* $field:ident : $fty:ty = $first:literal $(| $more:literal)* ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[allow(unreachable_pub)]
        $vis struct $name {
            /// Size of the structure in bytes.
            #[allow(dead_code, missing_docs)]
            pub size: u64,
            $( $(#[$fmeta])* #[allow(dead_code, missing_docs)]
               pub $field: $crate::layout::Member<$fty>, )*
        }
        impl $crate::layout::Layout for $name {
            const TYPE: &'static str = $ty;
            fn resolve(ty: $crate::reexport::Type<'_>) -> Self {
                $name {
                    size: ty.size().unwrap_or(0),
                    $( $field: $crate::layout::Member::resolve($ty, ty, &[$first $(, $more)*]), )*
                }
            }
        }
    };
}

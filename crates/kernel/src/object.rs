//! Typed objects: an address in the dead kernel with its type.
//!
//! `kernel.object("init_task")?.field("mm")?.deref()?.field("pgd")?.u64()?`
//! reads what the C expression `init_task.mm->pgd` means. For single
//! questions and for commands that name members at run time; code that visits
//! many objects declares a [`layout!`](crate::layout) instead.

use kmortem_debuginfo::btf::{Kind, Type};

use crate::Kernel;
use crate::error::{Error, Result};
use crate::layout::{Place, place_of, read_integer};

/// An address with a type.
#[derive(Clone, Copy)]
pub struct Object<'k> {
    kernel: &'k Kernel,
    addr: u64,
    ty: Type<'k>,
    bits: Option<Place>,
}

impl<'k> Object<'k> {
    /// The object of type `ty` at `addr`.
    pub fn new(kernel: &'k Kernel, addr: u64, ty: Type<'k>) -> Object<'k> {
        Object { kernel, addr, ty, bits: None }
    }

    /// Its kernel virtual address.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Its type.
    pub fn ty(&self) -> Type<'k> {
        self.ty
    }

    /// The member at `path` ("a.b[2].c"; anonymous members are looked into).
    pub fn field(&self, path: &str) -> Result<Object<'k>> {
        let missing = || Error::NoMember { ty: self.ty.c_name(), names: path.to_owned() };
        let strip = self.ty.strip();
        let found = strip.member(path).ok_or_else(missing)?;
        let place = place_of(strip, path).ok_or_else(missing)?;
        Ok(Object {
            kernel: self.kernel,
            addr: self.addr.wrapping_add(place.offset),
            ty: found.ty,
            bits: place.bits.is_some().then_some(place),
        })
    }

    /// The first of `paths` that this kernel has.
    pub fn field_any(&self, paths: &[&str]) -> Result<Object<'k>> {
        for path in paths {
            match self.field(path) {
                Err(Error::NoMember { .. }) => {}
                found => return found,
            }
        }
        Err(Error::NoMember { ty: self.ty.c_name(), names: paths.join(" or ") })
    }

    /// What this pointer points to. NULL is an error.
    pub fn deref(&self) -> Result<Object<'k>> {
        let ty = self.ty.strip();
        let target = match ty.kind() {
            Kind::Ptr => ty.target(),
            _ => None,
        };
        let target = target.ok_or_else(|| Error::NoType(format!("target of {}", ty.c_name())))?;
        match self.u64()? {
            0 => Err(Error::Null(self.ty.c_name())),
            addr => Ok(Object::new(self.kernel, addr, target)),
        }
    }

    /// Element `index` of this array.
    pub fn index(&self, index: u64) -> Result<Object<'k>> {
        let ty = self.ty.strip();
        let element = ty.target().filter(|_| ty.kind() == Kind::Array);
        let element =
            element.ok_or_else(|| Error::NoType(format!("element of {}", ty.c_name())))?;
        let size = element.size().unwrap_or(0);
        let addr = self.addr.wrapping_add(size.wrapping_mul(index));
        Ok(Object::new(self.kernel, addr, element))
    }

    /// The same address seen as another type ("struct foo", "foo").
    pub fn cast(&self, type_name: &str) -> Result<Object<'k>> {
        Ok(Object::new(self.kernel, self.addr, self.kernel.ty(type_name)?))
    }

    /// The structure that holds this object as its member `member`.
    pub fn container_of(&self, type_name: &str, member: &str) -> Result<Object<'k>> {
        let ty = self.kernel.ty(type_name)?;
        let place = place_of(ty, member)
            .ok_or_else(|| Error::NoMember { ty: type_name.into(), names: member.into() })?;
        Ok(Object::new(self.kernel, self.addr.wrapping_sub(place.offset), ty))
    }

    /// The value as an unsigned number (integers, enums, pointers, bitfields).
    pub fn u64(&self) -> Result<u64> {
        let place = self.bits.unwrap_or(Place {
            offset: 0,
            size: self.ty.size().unwrap_or(0),
            bits: None,
            signed: self.ty.is_signed(),
        });
        read_integer(self.kernel, self.addr, &place)
    }

    /// The value as a signed number.
    pub fn i64(&self) -> Result<i64> {
        Ok(self.u64()? as i64)
    }

    /// Text of a `char` array, or of what a `char *` points to.
    pub fn string(&self) -> Result<String> {
        let ty = self.ty.strip();
        match ty.kind() {
            Kind::Ptr => self.kernel.read_cstring(self.u64()?, 4096),
            _ => self.kernel.read_cstring(self.addr, ty.size().unwrap_or(256).min(4096) as usize),
        }
    }

    /// The object's bytes, at most 1 MiB.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut buf = vec![0; self.ty.size().unwrap_or(0).min(1 << 20) as usize];
        self.kernel.read(self.addr, &mut buf)?;
        Ok(buf)
    }
}

impl std::fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} at {:#x})", self.ty.c_name(), self.addr)
    }
}

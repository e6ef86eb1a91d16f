//! Values of the dead kernel's types in gdb's shape, as crash shows them.
//!
//! [`read`] turns a type and its bytes into a [`Value`]: plain data, serialisable for `--json`.
//! [`render`] writes a value. A command reads first and writes then:
//!
//! ```text
//! Shown::whole(&mut reader, &object).render(out, style)?;                     // struct list_head { ... }
//! Shown::members(&mut reader, &object, &["comm", "se.load"])?.render(out, style)?;
//! ```

mod bytes;
mod data;
pub(crate) mod declare;
pub(crate) mod definition;
pub(crate) mod expression;
mod linker_mark;
mod members;
mod read;
mod render;
mod style;
mod text;

use kmortem_debuginfo::btf::Kind;
use kmortem_kernel::Kernel;

pub(crate) use bytes::Bytes;
pub(crate) use data::Value;
pub(crate) use members::{Shown, members_exist};
pub(crate) use read::{Reader, symbol};
pub(crate) use render::{float, render, render_member};
pub(crate) use style::{Format, Style};

/// Whether `name` (without `struct` or `union`) is a struct, a union or a typedef of one:
/// what `struct` and `*` take, and what a command line may begin with.
pub(crate) fn is_type(kernel: &Kernel, name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name);
    let composite = |kind| matches!(kind, Kind::Struct | Kind::Union);
    kernel.ty(name).is_ok_and(|ty| composite(ty.strip().kind()))
}

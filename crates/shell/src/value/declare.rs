//! Types in C as gdb names them.

use kmortem_debuginfo::btf::Type;

/// The type's name: `struct task_struct *`, `int (*)(void *)`.
pub(crate) fn name(ty: Type<'_>) -> String {
    ty.c_name()
}

//! Which member of which structure a faulting offset is, by the kernel's types.
//!
//! BTF has the parameters of every function. Where the bad pointer is an
//! argument of the function that faulted, its type names the structure, and
//! the instruction's displacement the member: a hint, as good as the code that
//! was read. Clones whose arguments the compiler changed (".constprop",
//! ".isra", ".part") are left out.

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::Kernel;
use kmortem_kernel::symbol::SymbolAt;

/// "its first parameter is struct dentry *dentry; 0x30 is its member d_inode".
pub(crate) fn describe(
    kernel: &Kernel,
    function: &SymbolAt,
    argument: usize,
    offset: u64,
) -> Option<String> {
    // Modules have types of their own.
    if function.module.is_some() || function.name.contains('.') {
        return None;
    }
    let proto = kernel.btf().ok()?.function(&function.name)?;
    let parameter = proto.parameters().nth(argument.checked_sub(1)?)?;
    let pointer = parameter.ty.strip();
    let target = (pointer.kind() == Kind::Ptr).then(|| pointer.target())??.strip();
    if !matches!(target.kind(), Kind::Struct | Kind::Union) || target.name().is_empty() {
        return None;
    }
    let member = member_at(target, offset)?;
    Some(format!(
        "parameter {argument} of {} is {} {}; +{offset:#x} is its member {member}",
        function.name,
        parameter.ty.c_name().trim_end(),
        parameter.name,
    ))
}

/// The path of the member that covers `offset`, anonymous ones looked into.
fn member_at(ty: Type<'_>, offset: u64) -> Option<String> {
    member_within(ty, offset, 0)
}

fn member_within(ty: Type<'_>, offset: u64, depth: usize) -> Option<String> {
    // Types of a damaged BTF may contain themselves.
    if depth > 8 {
        return None;
    }
    let member = ty.members().find(|m| {
        let start = m.bit_offset / 8;
        let size = m.ty.size().unwrap_or(0);
        (start..start.saturating_add(size)).contains(&offset)
    })?;
    let inner = member.ty.strip();
    let rest = offset - member.bit_offset / 8;
    let deeper = match inner.kind() {
        Kind::Struct | Kind::Union => member_within(inner, rest, depth + 1),
        _ => None,
    };
    match (member.name, deeper) {
        ("", deeper) => deeper,
        (name, Some(deeper)) => Some(format!("{name}.{deeper}")),
        (name, None) => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_s_type_names_the_member() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");
        let kernel = Kernel::open_files(&[sample]).unwrap();
        let place = kmortem_kernel::layout::place_of(kernel.ty("file").unwrap(), "f_path.dentry");
        let offset = place.unwrap().offset;
        let function =
            |name: &str| SymbolAt { name: name.into(), offset: 0, size: 1, module: None };
        assert_eq!(
            describe(&kernel, &function("vfs_write"), 1, offset).unwrap(),
            format!(
                "parameter 1 of vfs_write is struct file * file; +{offset:#x} is its member \
                 f_path.dentry"
            )
        );
        // Not a pointer; no such parameter; a clone; behind the structure's end.
        assert_eq!(describe(&kernel, &function("vfs_write"), 3, 0), None);
        assert_eq!(describe(&kernel, &function("vfs_write"), 9, 0), None);
        assert_eq!(describe(&kernel, &function("vfs_write.part.0"), 1, 0), None);
        assert_eq!(describe(&kernel, &function("vfs_write"), 1, 1 << 20), None);
    }
}

//! `vm -f`: what a value of `vm_flags` means.

use std::io::Write;

use kmortem_kernel::Kernel;
use serde::Serialize;

use crate::address;
use crate::error::CommandError;
use crate::output::Output;

/// Names of the bits (include/linux/mm.h), for kernels that do not say them
/// themselves. Some bits had other meanings before v5.16: `DENYWRITE` (0x800)
/// went with v5.15.
const NAMES: [&str; 32] = [
    "READ",
    "WRITE",
    "EXEC",
    "SHARED",
    "MAYREAD",
    "MAYWRITE",
    "MAYEXEC",
    "MAYSHARE",
    "GROWSDOWN",
    "UFFD_MISSING",
    "PFNMAP",
    "DENYWRITE",
    "UFFD_WP",
    "LOCKED",
    "IO",
    "SEQ_READ",
    "RAND_READ",
    "DONTCOPY",
    "DONTEXPAND",
    "LOCKONFAULT",
    "ACCOUNT",
    "NORESERVE",
    "HUGETLB",
    "SYNC",
    "PAT",
    "WIPEONFORK",
    "DONTDUMP",
    "SOFTDIRTY",
    "MIXEDMAP",
    "HUGEPAGE",
    "NOHUGEPAGE",
    "MERGEABLE",
];

#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    flags: u64,
    names: Vec<String>,
}

pub(super) fn show(kernel: &Kernel, word: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let Some(flags) = address::hex(word) else {
        let what = format!("`{word}` is no hexadecimal number");
        return Err(CommandError::Usage { command: "vm", what });
    };
    let names = names(flags, &own_names(kernel));
    if out.is_json() {
        return Ok(out.row(&Row { flags, names })?);
    }
    Ok(writeln!(out, "{flags:x}: ({})", names.join("|"))?)
}

/// (bit, name) as the kernel's own types have them: `VMA_READ_BIT` and others,
/// an enum since v6.19.
fn own_names(kernel: &Kernel) -> Vec<(u32, String)> {
    let Ok(btf) = kernel.btf() else { return Vec::new() };
    let of = |ty: kmortem_kernel::reexport::Type<'_>| -> Vec<(u32, String)> {
        let name = |name: &str| {
            let name = name.strip_prefix("VMA_")?.strip_suffix("_BIT")?;
            (!name.starts_with("ARCH") && !name.starts_with("HIGH_ARCH")).then(|| name.to_owned())
        };
        ty.enumerators()
            .filter_map(|e| Some((u32::try_from(e.value).ok()?, name(e.name)?)))
            .collect()
    };
    btf.types()
        .find(|ty| ty.enumerators().next().is_some_and(|e| e.name == "VMA_READ_BIT"))
        .map(of)
        .unwrap_or_default()
}

fn names(flags: u64, own: &[(u32, String)]) -> Vec<String> {
    let name = |bit: u32| {
        let found = own.iter().find(|(known, _)| *known == bit).map(|(_, name)| name.clone());
        let table = || NAMES.get(bit as usize).filter(|_| own.is_empty()).map(|n| (*n).to_owned());
        found.or_else(table).unwrap_or_else(|| format!("BIT_{bit}"))
    };
    (0..64).filter(|bit| flags >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_the_kernels_names() {
        assert_eq!(
            names(0x100173, &[]).join("|"),
            "READ|WRITE|MAYREAD|MAYWRITE|MAYEXEC|GROWSDOWN|ACCOUNT"
        );
        assert_eq!(names(1 << 40, &[]), ["BIT_40"]);
        let own = [(0, "READ".to_owned()), (11, "MAYBE_GUARD".to_owned())];
        assert_eq!(names(0x801, &own), ["READ", "MAYBE_GUARD"]);
    }
}

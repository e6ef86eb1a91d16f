//! Any bytes as BTF; everything that can be asked of what parses.
#![no_main]

use std::sync::Arc;

use kmortem_debuginfo::btf::Btf;
use libfuzzer_sys::fuzz_target;

/// Types that are looked at closely: each is printed with all that it contains.
const TYPES: usize = 200;

fuzz_target!(|data: &[u8]| {
    let Ok(btf) = Btf::parse(data.to_vec()) else { return };
    visit(&btf);
    let btf = Arc::new(btf);
    if let Ok(split) = Btf::parse_split(data.to_vec(), &btf) {
        visit(&split);
    }
    let _ = Btf::parse_split_distilled(data.to_vec(), data.to_vec(), &btf);
});

fn visit(btf: &Btf) {
    for ty in btf.types().take(TYPES) {
        let _ = (ty.size(), ty.strip(), ty.is_signed(), ty.target());
        assert!(ty.c_name().len() < 1 << 24);
        assert!(ty.definition_lines(true).len() < 1 << 16);
        for member in ty.members().take(TYPES) {
            if let Some(found) =
                ty.member(member.name).filter(|_| !member.name.contains(['.', '[']))
            {
                assert!(found.ty.btf().ty(found.ty.id()).is_some());
            }
        }
        let _ = ty.enumerators().count();
        if !ty.name().is_empty() {
            let _ = (btf.find(ty.name()), btf.is_percpu_variable(ty.name()));
        }
    }
}

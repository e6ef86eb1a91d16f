//! `kmem -s`: the slab caches.

use std::io::{self, Write};

use kmortem_kernel::slab::SlabCache;

use super::failed;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// Lists all caches, or those that `names` name: by name, by the name of a
/// cache that was merged into them, or by address.
pub(super) fn show(
    session: &Session,
    names: &[String],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let caches = session.kernel().slab_caches().map_err(failed("kmem"))?;
    let is = |cache: &SlabCache, name: &String| {
        let addr = u64::from_str_radix(name.trim_start_matches("0x"), 16);
        cache.is_named(name) || addr.is_ok_and(|addr| addr == cache.addr)
    };
    if let Some(unknown) = names.iter().find(|name| !caches.iter().any(|c| is(c, name))) {
        let what = format!("no slab cache is named {unknown}; `kmem -s` lists all");
        return Err(CommandError::Failed { command: "kmem", what });
    }
    let wanted = |cache: &&SlabCache| names.is_empty() || names.iter().any(|name| is(cache, name));
    let list: Vec<&SlabCache> = caches.iter().filter(wanted).collect();
    match out.is_json() {
        true => out.rows(list.iter().copied())?,
        false => render(out, &list)?,
    }
    super::note_gaps(out, list.iter().map(|cache| &cache.gaps))
}

fn render(out: &mut dyn Write, caches: &[&SlabCache]) -> io::Result<()> {
    writeln!(out, "CACHE             OBJSIZE  ALLOCATED     TOTAL  SLABS  SSIZE  NAME")?;
    for cache in caches {
        writeln!(
            out,
            "{:016x}  {:>7}  {:>9}  {:>8}  {:>5}  {:>4}k  {}",
            cache.addr,
            cache.object_size,
            cache.allocated,
            cache.objects,
            cache.slabs,
            cache.slab_size / 1024,
            cache.name
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn a_line_is_as_crash_has_it() {
        let cache = SlabCache {
            addr: 0xff2b_a215_c11a_af00,
            name: "task_struct".into(),
            aliases: None,
            object_size: 8328,
            size: 8384,
            slab_size: 32 << 10,
            objects_per_slab: 3,
            slabs: 26,
            partial_slabs: 1,
            objects: 78,
            allocated: 71,
            awaiting_rcu: 0,
            users: 1,
            flags: 0,
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render(&mut text, &[&cache]).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

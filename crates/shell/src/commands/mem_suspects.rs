//! What of the machine's memory smells of a leak or an overrun.

use kmortem_kernel::Kernel;
use kmortem_kernel::memory_use::MemoryUse;
use rayon::prelude::*;

use super::mem::{ANON, Holders};
use super::size;

/// From this part of all memory on (per cent) an owner that nobody gives back is
/// worth a remark.
const LARGE: u64 = 10;

/// Remarks, the gravest first.
pub(super) fn find(kernel: &Kernel, used: &MemoryUse, holders: &Holders, page: u64) -> Vec<String> {
    let mut suspects = damaged_caches(kernel);
    suspects.extend(large(used, holders, page));
    suspects
}

/// Slab caches whose lists of free objects lead out of their slabs, or in
/// circles: somebody wrote beyond an object's end or after it was freed.
fn damaged_caches(kernel: &Kernel) -> Vec<String> {
    let Ok(caches) = kernel.slab_caches() else { return Vec::new() };
    let damage =
        |reason: &String| reason.contains("free object") || reason.contains("freelist runs");
    let mut found: Vec<String> = caches
        .par_iter()
        .filter_map(|cache| {
            let content = kernel.slab_reader(cache.addr).and_then(|reader| reader.content(None));
            let mut reasons: Vec<String> = cache.gaps.reasons().to_vec();
            if let Ok(content) = content {
                reasons.extend(content.gaps.reasons().iter().cloned());
                let slabs = content.cpus.iter().flat_map(|cpu| cpu.slab.iter().chain(&cpu.partial));
                for slab in slabs {
                    reasons.extend(slab.gaps.reasons().iter().cloned());
                }
            }
            let reason = reasons.into_iter().find(damage)?;
            Some(format!(
                "the slab cache {} is damaged: {reason}; look for a write beyond an object of \
                 {} bytes, or after it was freed (`kmem -S {}`)",
                cache.name, cache.object_size, cache.name
            ))
        })
        .collect();
    found.sort();
    found
}

/// Owners that are large and that nobody gives back.
fn large(used: &MemoryUse, holders: &Holders, page: u64) -> Vec<String> {
    let mut suspects = Vec::new();
    let is_large = |pages: u64| pages.saturating_mul(100) >= used.total.saturating_mul(LARGE);
    let part = |pages: u64| {
        let percent = pages.saturating_mul(100).checked_div(used.total).unwrap_or(0);
        format!("{} ({percent} %)", size::bytes(pages.saturating_mul(page)))
    };
    let top = |owner: &str| holders.get(owner).and_then(|list| list.first());
    for owner in ["slab, unreclaimable", "vmalloc"] {
        if let Some(holder) = top(owner).filter(|holder| is_large(holder.pages)) {
            suspects.push(format!(
                "{} holds {} of {owner}, {}: a leak, if that is not its normal size",
                holder.name,
                part(holder.pages),
                holder.what
            ));
        }
    }
    if let Some(holder) = top(ANON)
        && holder.pages.saturating_mul(2) >= used.total
    {
        suspects.push(format!("{} holds {} for itself", holder.name, part(holder.pages)));
    }
    if let Some(holder) = top("tmpfs and shared memory").filter(|holder| is_large(holder.pages)) {
        suspects.push(format!(
            "{} holds {}: files in memory stay until they are deleted",
            holder.name,
            part(holder.pages)
        ));
    }
    for owner in ["page tables", "kernel stacks", "per-CPU memory"] {
        let pages = used.pages(owner);
        if is_large(pages) {
            suspects.push(format!("{owner} take {}", part(pages)));
        }
    }
    if is_large(used.unaccounted) {
        suspects.push(format!(
            "{} are counted nowhere: taken with alloc_pages(), by a driver for its buffers, or lost",
            part(used.unaccounted)
        ));
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::mem::Holder;
    use kmortem_kernel::gaps::Gaps;
    use kmortem_kernel::memory_use::Share;

    fn used(unaccounted: u64) -> MemoryUse {
        MemoryUse {
            total: 1000,
            shares: vec![Share { name: "page tables", pages: 99 }],
            unaccounted,
            overlap: 0,
            reserved: Vec::new(),
            balloon: None,
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn what_is_large_is_named_and_what_is_not_is_not() {
        let holder = |pages| Holder { name: "kmalloc-64".into(), pages, what: "9 objects".into() };
        let with = |pages| Holders::from_iter([("slab, unreclaimable", vec![holder(pages)])]);
        assert!(large(&used(99), &with(99), 4096).is_empty());
        let both = large(&used(100), &with(100), 4096);
        assert!(both[0].starts_with("kmalloc-64 holds 400 KB (10 %)"), "{}", both[0]);
        assert!(both[1].contains("counted nowhere"), "{}", both[1]);
    }
}

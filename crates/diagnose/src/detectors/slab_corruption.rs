//! The slab allocator found its own structures damaged: a double free, a
//! write behind an object, a free of something that is no object.
//!
//! Mechanism: SLUB's hardening (CONFIG_SLAB_FREELIST_HARDENED) has a BUG_ON
//! against freeing the object that heads the free list; slub_debug checks
//! more, and prints "BUG cache (taint): what". Evidence: the trap is in one of
//! SLUB's own functions, and its caller. Refuted by: a BUG of the same file
//! for another reason (a wrong page). Kernels: all with SLUB. Reference:
//! mm/slub.c (set_freepointer, object_err).

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::bug::place_in_source;
use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, logged_chain, look_at, module_on,
    oops_to_panic,
};

/// Functions of mm/slub.c (and slab_common.c) that free.
const FREEING: &[&str] = &[
    "kmem_cache_free",
    "kfree",
    "__slab_free",
    "slab_free",
    "do_slab_free",
    "slab_free_freelist_hook",
    "set_freepointer",
    "kmem_cache_free_bulk",
    "build_detached_freelist",
    "__kmem_cache_free",
    "kfree_nolock",
    "free_to_partial_list",
    "___cache_free",
    "memcg_slab_free_hook",
    "free_large_kmalloc",
    "__kmem_cache_do_shrink",
    "free_to_pcs",
    "__pcs_replace_full_main",
];
/// Functions of mm/slub.c that allocate or look after slabs.
const OTHERS: &[&str] = &[
    "kmem_cache_alloc",
    "kmem_cache_alloc_noprof",
    "__kmalloc",
    "__kmalloc_noprof",
    "___slab_alloc",
    "__slab_alloc",
    "get_freepointer",
    "deactivate_slab",
    "allocate_slab",
    "kmem_cache_alloc_node",
    "kmem_cache_alloc_lru",
    "check_slab",
    "object_err",
    "slab_err",
    "slab_bug",
    "check_object",
    "alloc_debug_processing",
    "free_debug_processing",
];

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[IncidentKind::SlabCorruption]);
    let slub_bug = case.own_oops().filter(|i| {
        place_in_source(i).is_some_and(|p| p.contains("mm/slub.c") || p.contains("mm/slab"))
    });
    let crashed = case.crashed.as_ref().filter(|c| c.fault().is_some());
    let place = crashed.and_then(|c| {
        let fault = c.fault()?;
        let is_slab = |f: &str| FREEING.contains(&f) || OTHERS.contains(&f);
        let at = fault.frame;
        // The trap itself must be the allocator's.
        c.stack.frames.get(at).filter(|f| is_slab(f.function()))?;
        let run = c.stack.frames.iter().skip(at).take_while(|f| is_slab(f.function())).count();
        Some((c, at, at + run))
    });
    let (Some((crashed, trap, culprit)), true) = (place, slub_bug.is_some() || logged.is_some())
    else {
        return logged.map(|i| from_log(case, i));
    };
    let freeing =
        crashed.stack.frames[trap..culprit].iter().any(|f| FREEING.contains(&f.function()));
    let name = crashed.stack.frames.get(culprit).and_then(|f| f.symbol.as_ref());
    let name = name.map_or_else(|| "an unknown function".into(), crate::fault::short);
    let cache = crate::stale::cache_on_stack(case.kernel(), crashed, trap);
    let of = cache.as_ref().map_or(String::new(), |c| format!(" of the cache {}", c.name));
    let callers = crate::fault::callers(&crashed.stack, culprit);
    let callers = match callers.is_empty() {
        true => String::new(),
        false => format!(", called by {},", arrow(&callers, 3)),
    };
    let what = match (freeing, &cache) {
        (true, Some(c)) if c.double_free => {
            format!("freed the object {:#x}{of} a second time", c.object)
        }
        (true, _) => format!("freed an object{of} that is not in use, most likely a double free"),
        (false, _) => format!("met a damaged free list{of} when it allocated"),
    };
    let proven = freeing && cache.as_ref().is_some_and(|c| c.double_free);
    let level = if proven { Level::Certain } else { Level::Likely };
    let mut finding = Finding::new(
        Kind::SlabCorruption,
        format!(
            "{name}{callers} {what}. It ran in {} ({}). {}",
            crashed.task.comm,
            crashed.task.pid,
            oops_to_panic(case)
        ),
        level,
        if proven {
            "the allocator's own check stopped this very free, and the object is free"
        } else if freeing {
            "the allocator's own check stopped this very free; the object was not found"
        } else {
            "the allocator's check fired; who damaged the list before is not recorded"
        },
    );
    finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
    finding.functions = chain(&crashed.stack, culprit);
    finding.subject = cache.as_ref().and_then(|c| Some(format!("cache {}", c.own_name.as_ref()?)));
    add_log(case, &mut finding, logged.or(slub_bug));
    if let Some(cache) = &cache {
        finding.proof(Source::Object, cache.proof.clone());
    }
    blame_module(case, &mut finding, module_on(&crashed.stack, culprit));
    let mut section = crashed_stack(crashed, "STACK", "the allocator's check");
    if let crate::finding::Section::Stack { stack, .. } = &mut section {
        stack.note(culprit, if freeing { "frees" } else { "allocates" });
    }
    finding.sections.push(section);
    finding.next.push(Advice::words(format!(
        "{name}: find the first free of this object; boot with slub_debug=FZPU to have both \
         call traces in the log"
    )));
    finding.next.push(look_at(crashed.task.pid));
    finding.next.push(Advice::run("the caches", &["kmem -s"]));
    Some(finding)
}

/// slub_debug's report, from which the kernel goes on.
fn from_log(case: &Case<'_>, logged: &crate::oops::Incident) -> Finding {
    let mut finding = Finding::new(
        Kind::SlabCorruption,
        format!("The slab allocator found damage: {}.", logged.title().trim_end_matches('.')),
        Level::Possible,
        "the log says so before the panic; the crashed stack is another",
    );
    finding.functions = logged_chain(logged);
    finding.fatal = !case.is_dead();
    add_log(case, &mut finding, Some(logged));
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "4.6 kernel BUG at mm/slub.c:435!
        4.6 invalid opcode: 0000 [#1] SMP NOPTI
        4.6 CPU: 0 PID: 247 Comm: insmod Tainted: G OE 6.1.0
        4.6 RIP: 0010:__slab_free+0x116/0x2d0
        4.7 Kernel panic - not syncing: Fatal exception";
    const STACK: [&str; 8] = [
        "panic",
        "oops_end",
        "exc_invalid_op",
        "asm_exc_invalid_op",
        "__slab_free",
        "kmem_cache_free",
        "crasher:crasher_double_free",
        "crasher:crasher_update_refs",
    ];

    #[test]
    fn the_second_free_names_its_caller() {
        let finding = detect(&case(LOG, "insmod", &STACK, Some(4))).unwrap();
        assert_eq!(finding.kind, Kind::SlabCorruption);
        assert!(
            finding.cause.starts_with("crasher_double_free+0x10 [crasher]"),
            "{}",
            finding.cause
        );
        assert!(finding.cause.contains("double free"));
        assert_eq!(finding.functions[0], "crasher:crasher_double_free");
    }

    #[test]
    fn a_bug_elsewhere_is_none() {
        let log = LOG.replace("mm/slub.c:435", "fs/inode.c:10");
        assert!(detect(&case(&log, "insmod", &STACK, Some(4))).is_none());
        let mut stack = STACK;
        stack[4] = "iput";
        assert!(detect(&case(LOG, "insmod", &stack, Some(4))).is_none());
    }
}

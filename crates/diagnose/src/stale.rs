//! Objects of the slab allocator that a bad pointer came out of.
//!
//! SLUB keeps the link to the next free object inside each free object, at
//! `kmem_cache.offset`. With CONFIG_SLAB_FREELIST_HARDENED it is scrambled:
//! link ^ `kmem_cache.random` ^ byte-swapped address of the link (mm/slub.c,
//! freelist_ptr_encode; since v5.7, 1ad53d9fa3f6). Code that uses an object
//! after its free reads that scrambled word as a pointer. When the bad
//! pointer, unscrambled, is a free neighbour (or the list's end), the object
//! that it came out of was free: no other story makes such a value.

use kmortem_kernel::layout::{CString, Embedded};
use kmortem_kernel::{Kernel, layout};

use crate::case::Crashed;
use crate::exception::Exception;

layout! {
    /// `struct kmem_cache`, mm/slab.h (include/linux/slub_def.h until v6.7)
    struct CacheLayout for "kmem_cache" {
        list: Embedded = "list",
        name: CString = "name",
        sysfs: u64 = "kobj.sd",
        bytes: u32 = "size",
        object_size: u32 = "object_size",
        free_pointer: u32 = "offset",
        random: u64 = "random",
    }
}

layout! {
    /// What `struct slab` (`struct page` until v5.17) says of its cache.
    struct SlabOwnerLayout for "slab" {
        slab_cache: u64 = "slab_cache",
    }
}

layout! {
    /// `struct page` as a slab, and as the tail of a compound page.
    struct PageOwnerLayout for "page" {
        slab_cache: u64 = "slab_cache",
        compound_head: u64 = "compound_head" | "compound_info",
    }
}

/// A slab object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlabObject {
    cache_addr: u64,
    cache: String,
    merged: bool,
    object: u64,
    slab: u64,
    size: u64,
    object_size: u64,
}

/// The freed object that a bad pointer was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stale {
    /// Its cache, with the names that share it.
    pub cache: String,
    /// The cache's name, where it is nobody else's: part of a signature. SLUB
    /// merges caches in the order in which a boot makes them.
    pub own_cache: Option<String>,
    /// Its address.
    pub object: u64,
    /// Where in it the pointer was.
    pub offset: u64,
    /// The pointer, unscrambled: the next free object, 0 at the list's end.
    link: u64,
}

impl Stale {
    /// As the source of a pointer: "a freed object ...".
    pub(crate) fn describe(&self) -> String {
        format!(
            "a freed object of the slab cache {}: what stands at its offset {:#x} is the \
             allocator's link",
            self.cache, self.offset
        )
    }

    /// As evidence.
    pub(crate) fn proof(&self) -> String {
        let link = match self.link {
            0 => "the end of the free list".to_owned(),
            link => format!("the free object {link:#x}"),
        };
        format!(
            "{} object {:#x}: the word at +{:#x}, unscrambled, is {link}",
            self.cache, self.object, self.offset
        )
    }
}

/// What the slab allocator was at when its own check fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheAtFault {
    /// The cache's name, with the names that share it.
    pub name: String,
    /// The cache's name, where it is nobody else's.
    pub own_name: Option<String>,
    /// The object.
    pub object: u64,
    /// Whether the object is the very one that heads the free list.
    pub double_free: bool,
    /// As evidence.
    pub proof: String,
}

/// Looks for a free object that holds `pointer` where SLUB keeps its link,
/// among what registers and the nearest stack words point to.
pub(crate) fn find_stale(
    kernel: &Kernel,
    crashed: &Crashed,
    exception: &Exception,
    pointer: u64,
) -> Option<Stale> {
    let caches = kernel.layout::<CacheLayout>().ok()?;
    candidates(kernel, crashed, exception).into_iter().find_map(|word| {
        let found = object_at(kernel, word)?;
        let offset = u64::from(caches.free_pointer.read(kernel, found.cache_addr).ok()?);
        let at = found.object.checked_add(offset)?;
        if kernel.read_u64(at).ok()? != pointer {
            return None;
        }
        let random = caches.random.read(kernel, found.cache_addr).unwrap_or(0);
        let link = unscramble(pointer, random, at);
        let in_slab = link >= found.slab
            && link < found.slab + (1 << 20)
            && (link - found.slab).is_multiple_of(found.size);
        (link == 0 || in_slab).then(|| Stale {
            own_cache: (!found.merged).then(|| found.cache.clone()),
            cache: found.cache,
            object: found.object,
            offset,
            link,
        })
    })
}

/// The cache and object that registers point to in frame `trap`, a function of
/// the allocator.
pub(crate) fn cache_on_stack(
    kernel: Option<&Kernel>,
    crashed: &Crashed,
    trap: usize,
) -> Option<CacheAtFault> {
    let kernel = kernel?;
    let exception = crashed.exceptions.iter().find(|e| e.frame == trap)?;
    let words = candidates(kernel, crashed, exception);
    let caches = kernel.layout::<CacheLayout>().ok()?;
    let found = words.iter().find_map(|word| {
        let found = object_at(kernel, *word)?;
        // The allocator handles the object's start, and has its cache at hand.
        (found.object == *word && words.contains(&found.cache_addr)).then_some(found)
    })?;
    let offset = u64::from(caches.free_pointer.read(kernel, found.cache_addr).ok()?);
    let random = caches.random.read(kernel, found.cache_addr).unwrap_or(0);
    let at = found.object.checked_add(offset)?;
    let link = unscramble(kernel.read_u64(at).ok()?, random, at);
    let free = link == 0
        || (link >= found.slab
            && link < found.slab + (1 << 20)
            && (link - found.slab).is_multiple_of(found.size));
    let state = if free { "its free-list link is set: it is free" } else { "in use" };
    Some(CacheAtFault {
        proof: format!(
            "{} object {:#x} ({} bytes): {state}",
            found.cache, found.object, found.object_size
        ),
        own_name: (!found.merged).then(|| found.cache.clone()),
        name: found.cache,
        object: found.object,
        double_free: free,
    })
}

fn unscramble(word: u64, random: u64, at: u64) -> u64 {
    if random == 0 { word } else { word ^ random ^ at.swap_bytes() }
}

/// Words that may be pointers to objects: registers, then the stack up to the
/// third caller.
fn candidates(kernel: &Kernel, crashed: &Crashed, exception: &Exception) -> Vec<u64> {
    let Some(map) = kernel.space().direct_map() else { return Vec::new() };
    let set = exception.registers.set();
    let registers = set.general.iter().filter_map(|name| exception.registers.named(name));
    let start = exception.registers.sp();
    let last = crashed.stack.frames.get(exception.frame + 3).or(crashed.stack.frames.last());
    let end = last.map_or(start, |f| f.sp).min(start.saturating_add(1024));
    let stack = (start..end).step_by(8).filter_map(|at| kernel.read_u64(at).ok());
    let mut words: Vec<u64> = Vec::new();
    for word in registers.chain(stack) {
        if map.contains(&word) && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The slab object that contains `addr`.
fn object_at(kernel: &Kernel, addr: u64) -> Option<SlabObject> {
    let page_layout = kernel.layout::<PageOwnerLayout>().ok()?;
    let phys = kernel.space().translate(addr).ok()?;
    let mut page = kernel.page_of(phys).ok()?;
    let head = page_layout.compound_head.read(kernel, page).ok()?;
    if head & 1 == 1 {
        page = head & !1;
    }
    let cache_addr = match kernel.layout::<SlabOwnerLayout>() {
        Ok(slab) => slab.slab_cache.read(kernel, page).ok()?,
        Err(_) => page_layout.slab_cache.read(kernel, page).ok()?,
    };
    // What is no slab has other things in that word: it must be a cache.
    let caches = kernel.layout::<CacheLayout>().ok()?;
    let head = kernel.symbol("slab_caches").ok()?;
    let known = kernel
        .list(head, caches.list.offset().ok()?, "the slab caches")
        .map_while(Result::ok)
        .any(|c| c == cache_addr);
    if !known {
        return None;
    }
    let size = u64::from(caches.bytes.read(kernel, cache_addr).ok()?);
    let slab = kernel.page_address(page).ok()?;
    let index = addr.checked_sub(slab)?.checked_div(size)?;
    let first = caches.name.read(kernel, cache_addr).ok()?;
    let cache = cache_name(kernel, cache_addr, &first);
    Some(SlabObject {
        cache_addr,
        merged: cache != first,
        cache,
        object: slab + index * size,
        slab,
        size,
        object_size: u64::from(caches.object_size.read(kernel, cache_addr).ok()?),
    })
}

layout! {
    /// `struct kernfs_node`, include/linux/kernfs.h
    struct KernfsLayout for "kernfs_node" {
        name: CString = "name",
        rb: Embedded = "rb",
        flags: u16 = "flags",
        children: Embedded = "dir.children",
        target: u64 = "symlink.target_kn",
    }
}

layout! {
    /// `struct kset`, include/linux/kobject.h
    struct KsetLayout for "kset" {
        sysfs: u64 = "kobj.sd",
    }
}

/// `KERNFS_LINK`, enum kernfs_node_type.
const KERNFS_LINK: u16 = 4;

/// The cache's name and, where SLUB merged caches of one size into it, theirs:
/// `struct kmem_cache` keeps only the first. /sys/kernel/slab has a link for
/// each (sysfs_slab_alias, mm/slub.c).
pub(crate) fn cache_name(kernel: &Kernel, cache: u64, first: &str) -> String {
    let mut others = aliases(kernel, cache).unwrap_or_default();
    others.retain(|name| name != first);
    others.sort();
    match others.len() {
        0 => first.to_owned(),
        1..=3 => format!("{first} (merged by SLUB with {})", others.join(", ")),
        n => format!("{first} (merged by SLUB with {} and {} more)", others[..2].join(", "), n - 2),
    }
}

fn aliases(kernel: &Kernel, cache: u64) -> Option<Vec<String>> {
    let node = kernel.layout::<KernfsLayout>().ok()?;
    let own = kernel.layout::<CacheLayout>().ok()?.sysfs.read(kernel, cache).ok()?;
    let kset = kernel.read_u64(kernel.symbol("slab_kset").ok()?).ok()?;
    let folder = kernel.layout::<KsetLayout>().ok()?.sysfs.read(kernel, kset).ok()?;
    let root = node.children.address(folder).ok()?;
    let children = kernel.rbtree(root, node.rb.offset().ok()?, "the files of /sys/kernel/slab");
    let links = children.ok()?.map_while(Result::ok).filter(|child| {
        node.flags.read(kernel, *child).is_ok_and(|f| f & 0xf == KERNFS_LINK)
            && node.target.read(kernel, *child).is_ok_and(|t| t == own)
    });
    Some(links.filter_map(|link| node.name.read(kernel, link).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrambled_link_comes_back() {
        let (at, random, link) =
            (0xffff_8880_0123_4560, 0x1234_5678_9abc_def0, 0xffff_8880_0123_4600);
        let word = link ^ random ^ u64::swap_bytes(at);
        assert_eq!(unscramble(word, random, at), link);
        assert_eq!(unscramble(link, 0, at), link);
    }
}

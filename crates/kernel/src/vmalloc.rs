//! Areas of the kernel's virtual memory that were handed out: vmalloc(),
//! vmap(), ioremap(), modules, kernel stacks.
//!
//! `struct vmap_area` (include/linux/vmalloc.h) says from where to where; its
//! `vm`, if any, is the `struct vm_struct` with the pages and who asked for
//! them. Areas in use were on the list `vmap_area_list`, by address, until
//! v6.9; since then (d093602919ad) they are spread over `nr_vmap_nodes` nodes,
//! each with a tree and a list of its own (`vmap_nodes[n].busy`).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct vmap_area`, include/linux/vmalloc.h
    pub struct VmapAreaLayout for "vmap_area" {
        start: u64 = "va_start",
        end: u64 = "va_end",
        list: Embedded = "list",
        rb: Embedded = "rb_node",
        vm: u64 = "vm",
    }
}

layout! {
    /// `struct vmap_node`, mm/vmalloc.c, since v6.9
    pub struct VmapNodeLayout for "vmap_node" {
        busy_head: Embedded = "busy.head",
        busy_root: Embedded = "busy.root",
    }
}

layout! {
    /// `struct vm_struct`, include/linux/vmalloc.h
    pub struct VmStructLayout for "vm_struct" {
        addr: u64 = "addr",
        bytes: u64 = "size",
        flags: u64 = "flags",
        pages: u64 = "pages",
        nr_pages: u64 = "nr_pages",
        phys_addr: u64 = "phys_addr",
        caller: u64 = "caller",
    }
}

/// Nodes are as many as CPUs, at most 128 (`vmap_init_nodes`).
const MOST_NODES: u64 = 1 << 16;

/// `VM_IOREMAP` and others (include/linux/vmalloc.h): names of the flags.
const KINDS: [(u64, &str); 6] = [
    (0x1, "ioremap"),
    (0x2, "vmalloc"),
    (0x4, "vmap"),
    (0x8, "user"),
    (0x10, "dma_coherent"),
    (0x200, "sparse"),
];

/// An area in use.
#[derive(Debug, Clone, Serialize)]
pub struct VmapArea {
    /// Address of its `struct vmap_area`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of its `struct vm_struct`; 0: none (vm_map_ram()).
    #[serde(serialize_with = "hex")]
    pub vm: u64,
    /// First address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Behind its last address, its guard page included.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// `VM_*` flags.
    #[serde(serialize_with = "hex")]
    pub flags: u64,
    /// Pages of memory that belong to it.
    pub pages: u64,
    /// Physical address of what was mapped, of ioremap() areas.
    #[serde(serialize_with = "hex")]
    pub phys: u64,
    /// Return address of who asked for it.
    #[serde(serialize_with = "hex")]
    pub caller: u64,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl VmapArea {
    /// Bytes of address space.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it spans nothing.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// What it is: "vmalloc", "ioremap", "vmap", ...
    pub fn kind(&self) -> &'static str {
        KINDS.iter().find(|(bit, _)| self.flags & bit != 0).map_or("other", |(_, name)| name)
    }
}

/// All areas.
#[derive(Debug, Clone, Default)]
pub struct VmapAreas {
    /// By address.
    pub list: Vec<VmapArea>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

impl VmapAreas {
    /// The area that `addr` lies in.
    pub fn at(&self, addr: u64) -> Option<&VmapArea> {
        let next = self.list.partition_point(|area| area.start <= addr);
        self.list[..next].last().filter(|area| addr < area.end)
    }
}

impl Kernel {
    /// All areas in use, by address.
    pub fn vmap_areas(&self) -> Result<VmapAreas> {
        let layout = self.layout::<VmapAreaLayout>()?;
        let mut areas = VmapAreas::default();
        let at = layout.list.offset()?;
        let mut heads = Vec::new();
        match self.symbol("vmap_nodes") {
            Ok(nodes) => self.vmap_heads(nodes, &mut heads)?,
            Err(_) => heads.push(self.symbol("vmap_area_list")?),
        }
        for head in heads {
            for addr in self.list(head, at, "the areas of vmalloc") {
                match addr.and_then(|addr| self.read_vmap_area(addr, &layout)) {
                    Ok(area) => areas.list.push(area),
                    Err(e) if e.is_interrupted() => return Err(e),
                    Err(e) => areas.gaps.add("areas of vmalloc", &e),
                }
            }
        }
        areas.list.sort_by_key(|area| area.start);
        Ok(areas)
    }

    /// Heads of the nodes' lists.
    fn vmap_heads(&self, nodes: u64, heads: &mut Vec<u64>) -> Result<()> {
        let node = self.layout::<VmapNodeLayout>()?;
        let count = u64::from(self.read_u32(self.symbol("nr_vmap_nodes")?)?);
        let first = self.read_u64(nodes)?;
        if count > MOST_NODES || first == 0 || node.size == 0 {
            return Err(Error::corrupt(format!("the list of {count} vmap nodes"), nodes));
        }
        for i in 0..count {
            heads.push(node.busy_head.address(first.wrapping_add(i * node.size))?);
        }
        Ok(())
    }

    fn read_vmap_area(&self, addr: u64, layout: &VmapAreaLayout) -> Result<VmapArea> {
        let mut area = VmapArea {
            addr,
            vm: layout.vm.read(self, addr)?,
            start: layout.start.read(self, addr)?,
            end: layout.end.read(self, addr)?,
            flags: 0,
            pages: 0,
            phys: 0,
            caller: 0,
            gaps: Gaps::default(),
        };
        if area.is_empty() {
            return Err(Error::corrupt("a vmap_area", addr));
        }
        if area.vm != 0 {
            let vm = self.layout::<VmStructLayout>()?;
            let mut gaps = Gaps::default();
            let mut number = |what, value: Result<u64>| gaps.keep(what, value).unwrap_or(0);
            area.flags = number("flags", vm.flags.read(self, area.vm));
            area.pages = number("pages", vm.nr_pages.read(self, area.vm));
            area.phys = number("physical address", vm.phys_addr.read(self, area.vm));
            area.caller = number("caller", vm.caller.read(self, area.vm));
            area.gaps = gaps;
        }
        Ok(area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_one_area_or_none() {
        let area = |start, end| VmapArea {
            addr: 1,
            vm: 2,
            start,
            end,
            flags: 0x22,
            pages: 1,
            phys: 0,
            caller: 0,
            gaps: Gaps::default(),
        };
        let list = vec![area(0x1000, 0x3000), area(0x8000, 0x9000)];
        let areas = VmapAreas { list, gaps: Gaps::default() };
        let at = |addr| areas.at(addr).map(|area| area.start);
        assert_eq!(
            (at(0xfff), at(0x2fff), at(0x3000), at(0x8000)),
            (None, Some(0x1000), None, Some(0x8000))
        );
        assert_eq!((areas.list[0].kind(), areas.list[0].len()), ("vmalloc", 0x2000));
    }
}

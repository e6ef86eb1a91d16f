//! Free memory: the buddy allocator's lists.
//!
//! `zone.free_area[order].free_list[migratetype]` (include/linux/mmzone.h) are
//! rings of free blocks of 2^order pages, linked through the first page's `lru`
//! (`buddy_list` since v5.18, bf75f200569d). Pages that CPUs hold for themselves
//! (`zone.per_cpu_pageset`) are on none of them.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::vmstat::{Zone, ZoneLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct free_area`, include/linux/mmzone.h
    pub struct FreeListsLayout for "free_area" {
        free_list: Embedded = "free_list",
    }
}

layout! {
    /// `struct page`, include/linux/mm_types.h: its place on a free list
    pub struct FreePageLayout for "page" {
        list: Embedded = "buddy_list" | "lru",
    }
}

/// No kernel has more orders or types.
const MOST: u64 = 64;

/// One list: the free blocks of an order and migrate type.
#[derive(Debug, Clone, Serialize)]
pub struct FreeList {
    /// Blocks are 2^order pages.
    pub order: u32,
    /// Number of the migrate type (`enum migratetype`).
    pub migrate_type: u32,
    /// Address of the list's head.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The blocks' first records.
    #[serde(skip)]
    pub blocks: Vec<u64>,
    /// Why the list ends early.
    #[serde(skip)]
    pub broken: Option<Error>,
}

impl FreeList {
    /// Free pages on it.
    pub fn pages(&self) -> u64 {
        (self.blocks.len() as u64) << self.order
    }
}

impl Kernel {
    /// The free lists of a zone, by order and type.
    pub fn free_lists(&self, zone: &Zone) -> Result<Vec<FreeList>> {
        let place = self.layout::<ZoneLayout>()?.free_area.place()?;
        let areas = self.layout::<FreeListsLayout>()?;
        let lists = areas.free_list.place()?;
        let link = self.layout::<FreePageLayout>()?.list.offset()?;
        let orders = place.size.checked_div(areas.size).unwrap_or(0).min(MOST);
        let types = (lists.size / 16).min(MOST);
        let mut all = Vec::new();
        for order in 0..orders {
            for kind in 0..types {
                let area = zone.addr.wrapping_add(place.offset + order * areas.size);
                let addr = area.wrapping_add(lists.offset + kind * 16);
                let mut list = FreeList {
                    order: order as u32,
                    migrate_type: kind as u32,
                    addr,
                    blocks: Vec::new(),
                    broken: None,
                };
                // Lists of zones that are not used were never set up.
                if zone.present != 0 {
                    for block in self.list(addr, link, "a list of free pages") {
                        match block {
                            Ok(block) => list.blocks.push(block),
                            Err(e) if e.is_interrupted() => return Err(e),
                            Err(e) => list.broken = Some(e),
                        }
                    }
                }
                all.push(list);
            }
        }
        Ok(all)
    }
}

//! I/O ports and physical addresses, and who claimed them (kernel/resource.c):
//! /proc/ioports and /proc/iomem.
//!
//! A `struct resource` (include/linux/ioport.h) lies within its parent; the
//! children of one are a chain by `sibling`, in ascending order.

use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::CString;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct resource`, include/linux/ioport.h
    pub struct ResourceLayout for "resource" {
        start: u64 = "start",
        end: u64 = "end",
        name: CString = "name",
        flags: u64 = "flags",
        sibling: u64 = "sibling",
        child: u64 = "child",
    }
}

/// No machine has more (a resource per memory block of many TB).
const MOST: usize = 1 << 20;
/// Resources nest a dozen levels.
const DEEPEST: usize = 256;

/// A claimed range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// Address of its `struct resource`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// First port or physical address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Last one.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// Who claimed it, or what it is.
    pub name: Option<String>,
    /// `IORESOURCE_*` flags.
    #[serde(serialize_with = "hex")]
    pub flags: u64,
    /// How many others it lies in.
    pub depth: u32,
}

/// A tree of resources, parents before their children.
#[derive(Debug, Clone, Serialize)]
pub struct Resources {
    /// The resources.
    pub list: Vec<Resource>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// I/O ports.
    pub fn io_ports(&self) -> Result<Resources> {
        self.resources(self.symbol("ioport_resource")?)
    }

    /// Physical addresses.
    pub fn io_memory(&self) -> Result<Resources> {
        self.resources(self.symbol("iomem_resource")?)
    }

    /// The tree whose root is at `root`.
    pub fn resources(&self, root: u64) -> Result<Resources> {
        let layout = self.layout::<ResourceLayout>()?;
        let (mut list, mut gaps) = (Vec::new(), Gaps::default());
        let mut seen = FxHashSet::default();
        // What comes next at each depth.
        let mut path = vec![root];
        while let Some(next) = path.last_mut() {
            let addr = *next;
            if addr == 0 {
                path.pop();
                continue;
            }
            if !seen.insert(addr) || list.len() >= MOST || path.len() > DEEPEST {
                gaps.add("resources", &Error::Loop { what: "the resources".into(), addr });
                path.pop();
                continue;
            }
            // The root has no siblings to look at.
            let sibling = match path.len() {
                1 => Some(0),
                _ => gaps.keep("resources", layout.sibling.read(self, addr)),
            };
            let depth = path.len() as u32 - 1;
            let read = || -> Result<(Resource, u64)> {
                let resource = Resource {
                    addr,
                    start: layout.start.read(self, addr)?,
                    end: layout.end.read(self, addr)?,
                    name: layout.name.read(self, addr).ok(),
                    flags: layout.flags.read(self, addr)?,
                    depth,
                };
                Ok((resource, layout.child.read(self, addr)?))
            };
            if let Some(next) = path.last_mut() {
                *next = sibling.unwrap_or(0);
            }
            if let Some((resource, child)) = gaps.keep("resources", read()) {
                list.push(resource);
                path.push(child);
            }
        }
        Ok(Resources { list, gaps })
    }
}

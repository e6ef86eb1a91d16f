//! Neighbours: which hardware address an IP address has (ARP, and neighbour
//! discovery of IPv6).
//!
//! `neigh_tables` (net/core/neighbour.c) points to a `struct neigh_table` for
//! each protocol; its `nht` is a hash table of `1 << hash_shift` chains of
//! `struct neighbour` (include/net/neighbour.h). The chains were linked through
//! `neighbour.next` from `hash_buckets`, and are `hlist`s since v6.13
//! (a01a67ab2fff). The protocol's address stands behind the struct.

use std::net::IpAddr;

use serde::Serialize;

use super::interface::NetDeviceLayout;
use super::{hardware_address, not_null, read_ipv4, read_ipv6};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{Embedded, Member};
use crate::stack::{hex, hex_option};
use crate::{Kernel, layout};

layout! {
    /// `struct neigh_table`, include/net/neighbour.h
    pub struct NeighTableLayout for "neigh_table" {
        family: i32 = "family",
        id: u64 = "id",
        hash: u64 = "nht",
    }
}

layout! {
    /// `struct neigh_hash_table`, include/net/neighbour.h
    pub struct NeighHashTableLayout for "neigh_hash_table" {
        heads: u64 = "hash_heads",
        buckets: u64 = "hash_buckets",
        shift: u32 = "hash_shift",
    }
}

layout! {
    /// `struct neighbour`, include/net/neighbour.h
    pub struct NeighbourLayout for "neighbour" {
        next: Embedded = "next",
        hash: Embedded = "hash",
        state: u8 = "nud_state",
        hardware: Embedded = "ha",
        dev: u64 = "dev",
        key: Embedded = "primary_key",
        probes: i32 = "probes.counter",
        queued: u32 = "arp_queue.qlen",
    }
}

layout! {
    /// `struct net_device`: what kind of hardware it is
    pub struct HardwareLayout for "net_device" {
        kind: u16 = "type",
        addr_len: u8 = "addr_len",
    }
}

/// `neigh_tables` has one for ARP, one for IPv6 (and had one for DECnet).
const MOST_TABLES: u64 = 8;
/// A chain a bucket: gc_thresh3 bounds the entries, not the table.
const LARGEST_SHIFT: u32 = 24;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
/// `MAX_ADDR_LEN` (include/linux/netdevice.h).
const MAX_ADDR_LEN: u8 = 32;

/// `NUD_*` (include/uapi/linux/neighbour.h).
const STATES: &[(u8, &str)] = &[
    (0x01, "INCOMPLETE"),
    (0x02, "REACHABLE"),
    (0x04, "STALE"),
    (0x08, "DELAY"),
    (0x10, "PROBE"),
    (0x20, "FAILED"),
    (0x40, "NOARP"),
    (0x80, "PERMANENT"),
];

/// `ARPHRD_*` (include/uapi/linux/if_arp.h), as arp(8) names them.
const HARDWARE: &[(u16, &str)] = &[
    (0, "NETROM"),
    (1, "ETHER"),
    (2, "EETHER"),
    (3, "AX25"),
    (4, "PRONET"),
    (5, "CHAOS"),
    (6, "IEEE802"),
    (7, "ARCNET"),
    (8, "APPLETLK"),
    (15, "DLCI"),
    (23, "METRICOM"),
    (32, "INFINIBAND"),
];

/// A neighbour.
#[derive(Debug, Clone, Serialize)]
pub struct Neighbour {
    /// Address of its `struct neighbour`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The table it is in ("arp_cache", "ndisc_cache").
    pub table: String,
    /// Its IP address.
    pub ip: Option<IpAddr>,
    /// Kind of hardware ("ETHER"); none that has a name.
    pub hardware: Option<&'static str>,
    /// Its hardware address.
    pub mac: Option<String>,
    /// Name of the interface behind which it is.
    pub device: Option<String>,
    /// Address of that `struct net_device`.
    #[serde(serialize_with = "hex_option")]
    pub net_device: Option<u64>,
    /// What is known of it ("REACHABLE"); several joined by `|`.
    pub state: String,
    /// How often it was asked for.
    pub probes: Option<i32>,
    /// Packets that wait for its address.
    pub queued: Option<u32>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The neighbours of all tables.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// By table, in the order of its chains.
    pub list: Vec<Neighbour>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

/// What holds for all neighbours of a table.
struct Table {
    family: i32,
    name: String,
}

impl Kernel {
    /// The neighbours that the kernel knows, of all network namespaces.
    pub fn neighbours(&self) -> Result<Neighbours> {
        let mut found = Neighbours { list: Vec::new(), gaps: Gaps::default() };
        for table in self.neighbour_tables()? {
            match table {
                Ok(0) => {}
                Ok(table) => {
                    if let Err(e) = self.neighbour_table(table, &mut found) {
                        found.gaps.add("a table of neighbours", &e);
                    }
                }
                Err(e) => found.gaps.add("a table of neighbours", &e),
            }
        }
        Ok(found)
    }

    /// Addresses of the tables; 0: a family has none.
    fn neighbour_tables(&self) -> Result<Vec<Result<u64>>> {
        match self.symbol("neigh_tables") {
            Ok(tables) => {
                let count = self.ty_of_global("neigh_tables").unwrap_or(3).min(MOST_TABLES);
                let at = |i| self.read_u64(tables.wrapping_add(i * 8));
                Ok((0..count).map(at).collect())
            }
            // What the array leads to is exported.
            Err(_) => {
                let tables = [self.symbol("arp_tbl")?].into_iter().chain(self.symbol("nd_tbl"));
                Ok(tables.map(Ok).collect())
            }
        }
    }

    /// How many pointers an array of the kernel's has, by the next symbol.
    fn ty_of_global(&self, name: &str) -> Option<u64> {
        let symbol = self.symbol_at(self.symbol(name).ok()?)?;
        Some(symbol.size / 8)
    }

    fn neighbour_table(&self, addr: u64, found: &mut Neighbours) -> Result<()> {
        let layout = self.layout::<NeighTableLayout>()?;
        let hash_layout = self.layout::<NeighHashTableLayout>()?;
        let neighbour = self.layout::<NeighbourLayout>()?;
        let name = self.read_cstring(layout.id.read(self, addr)?, 64);
        let table = Table {
            family: layout.family.read(self, addr)?,
            name: found.gaps.keep("a table's name", name).unwrap_or_default(),
        };
        let hash = not_null(layout.hash.read(self, addr)?, "the table of neighbours")?;
        let shift = hash_layout.shift.read(self, hash)?;
        if shift > LARGEST_SHIFT {
            return Err(Error::corrupt(format!("a table of 2^{shift} chains"), hash));
        }
        let linked = hash_layout.heads.exists();
        let link: &Member<Embedded> = if linked { &neighbour.hash } else { &neighbour.next };
        let link = link.offset()?;
        let heads = if linked { &hash_layout.heads } else { &hash_layout.buckets };
        let heads = self.read_bytes(heads.read(self, hash)?, 8 << shift)?;
        for head in heads.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)) {
            if head == 0 {
                continue;
            }
            // An hlist leads to the nodes, the older chains to the structs.
            let node = if linked { link } else { 0 };
            let next = if linked { 0 } else { link };
            for at in self.chain(head, next, "a chain of neighbours") {
                match at.map(|at| at.wrapping_sub(node)) {
                    Ok(at) => found.list.push(self.read_neighbour(&neighbour, at, &table)),
                    Err(e) => found.gaps.add("a chain of neighbours", &e),
                }
            }
        }
        Ok(())
    }

    fn read_neighbour(&self, layout: &NeighbourLayout, addr: u64, table: &Table) -> Neighbour {
        let mut gaps = Gaps::default();
        let key = layout.key.address(addr).and_then(|key| match table.family {
            AF_INET => read_ipv4(self, key).map(IpAddr::from),
            AF_INET6 => read_ipv6(self, key).map(IpAddr::from),
            other => Err(Error::Unavailable(format!("addresses of family {other} have no text"))),
        });
        let device = layout.dev.read(self, addr).and_then(|dev| not_null(dev, "the interface"));
        let device = gaps.keep("interface", device);
        let hardware = device.and_then(|dev| gaps.keep("hardware", self.hardware(dev)));
        let name = device.map(|dev| self.layout::<NetDeviceLayout>()?.name.read(self, dev));
        let mac = hardware.map(|(_, len)| {
            let bytes = self.read_bytes(layout.hardware.address(addr)?, u64::from(len))?;
            Ok(hardware_address(&bytes))
        });
        let state = gaps.keep("state", layout.state.read(self, addr));
        Neighbour {
            addr,
            table: table.name.clone(),
            ip: gaps.keep("address", key),
            hardware: hardware.and_then(|(kind, _)| {
                HARDWARE.iter().find(|known| known.0 == kind).map(|known| known.1)
            }),
            mac: mac.and_then(|mac| gaps.keep("hardware address", mac)),
            device: name.and_then(|name| gaps.keep("interface", name)),
            net_device: device,
            state: state.map_or_else(|| "-".to_owned(), states),
            probes: gaps.keep("probes", layout.probes.read(self, addr)),
            queued: gaps.keep("queue", layout.queued.read(self, addr)),
            gaps,
        }
    }

    /// Kind of hardware of an interface, and the length of its addresses.
    fn hardware(&self, dev: u64) -> Result<(u16, u8)> {
        let layout = self.layout::<HardwareLayout>()?;
        let len = layout.addr_len.read(self, dev)?.min(MAX_ADDR_LEN);
        Ok((layout.kind.read(self, dev)?, len))
    }
}

fn states(state: u8) -> String {
    let names: Vec<&str> = STATES.iter().filter(|s| state & s.0 != 0).map(|s| s.1).collect();
    if names.is_empty() { "NONE".to_owned() } else { names.join("|") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_flags() {
        assert_eq!(states(0), "NONE");
        assert_eq!(states(0x80), "PERMANENT");
        assert_eq!(states(0x42), "REACHABLE|NOARP");
    }
}

//! The network: interfaces of all namespaces, neighbours, sockets of tasks.
//!
//! `net_namespace_list` (net/core/net_namespace.c) is the ring of
//! `struct net`; each has its devices on `dev_base_head`.

mod interface;
mod neighbour;
mod owner;
mod queue;
mod socket;

pub use interface::{Dropped, InterfaceAddress, NetInterface, NetInterfaces, OperState};
pub use neighbour::{Neighbour, Neighbours};
pub use owner::{OwnedSocket, SocketOwner};
pub use queue::TxQueue;
pub use socket::{Socket, TaskSockets};

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Kernel;
use crate::error::{Error, Result};

/// The IPv4 address in four bytes of memory (`__be32`: network order).
fn read_ipv4(kernel: &Kernel, addr: u64) -> Result<Ipv4Addr> {
    let mut raw = [0u8; 4];
    kernel.read(addr, &mut raw)?;
    Ok(Ipv4Addr::from(raw))
}

/// The IPv6 address in 16 bytes of memory (`struct in6_addr`).
fn read_ipv6(kernel: &Kernel, addr: u64) -> Result<Ipv6Addr> {
    let mut raw = [0u8; 16];
    kernel.read(addr, &mut raw)?;
    Ok(Ipv6Addr::from(raw))
}

/// A hardware address as ip(8) writes it.
fn hardware_address(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// Turns a pointer that must not be NULL into an error where it is.
fn not_null(pointer: u64, what: &str) -> Result<u64> {
    match pointer {
        0 => Err(Error::Null(what.to_owned())),
        pointer => Ok(pointer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_of_any_length() {
        assert_eq!(hardware_address(&[0x52, 0x54, 0, 0x12, 0x34, 0xff]), "52:54:00:12:34:ff");
        assert_eq!(hardware_address(&[]), "");
    }
}

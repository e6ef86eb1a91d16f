//! Network interfaces: `struct net_device` (include/linux/netdevice.h).
//!
//! IPv4 addresses are the chain `in_device.ifa_list` of `struct in_ifaddr`
//! (include/linux/inetdevice.h), IPv6 ones the ring `inet6_dev.addr_list` of
//! `struct inet6_ifaddr` (include/net/if_inet6.h). `dev_addr` is a pointer
//! into a list of hardware addresses.

use std::net::IpAddr;

use serde::Serialize;

use super::queue::TxQueue;
use super::{hardware_address, not_null, read_ipv4, read_ipv6};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::task::Task;
use crate::vfs::NsproxyLayout;
use crate::virtio::Virtqueue;
use crate::{Kernel, layout};

layout! {
    /// `struct net`, include/net/net_namespace.h
    pub struct NetLayout for "net" {
        list: Embedded = "list",
        devices: Embedded = "dev_base_head",
        inum: u32 = "ns.inum",
    }
}

layout! {
    /// `struct net_device`, include/linux/netdevice.h
    pub struct NetDeviceLayout for "net_device" {
        list: Embedded = "dev_list",
        name: str = "name",
        index: i32 = "ifindex",
        state: u64 = "state",
        flags: u32 = "flags",
        operstate: u8 = "operstate",
        mtu: u32 = "mtu",
        dev_addr: u64 = "dev_addr",
        addr_len: u8 = "addr_len",
        ip_ptr: u64 = "ip_ptr",
        ip6_ptr: u64 = "ip6_ptr",
        device: Embedded = "dev",
        ops: u64 = "netdev_ops",
        qdisc: u64 = "qdisc",
        tx: u64 = "_tx",
        tx_queues: u32 = "real_num_tx_queues" | "num_tx_queues",
        // Moved from the device to per-CPU memory in v5.18 (625788b58445).
        core_stats: u64 = "core_stats",
        rx_dropped: u64 = "rx_dropped",
        tx_dropped: u64 = "tx_dropped",
        rx_nohandler: u64 = "rx_nohandler",
    }
}

layout! {
    /// `struct net_device_core_stats`, include/linux/netdevice.h
    pub struct CoreStatsLayout for "net_device_core_stats" {
        rx_dropped: u64 = "rx_dropped",
        tx_dropped: u64 = "tx_dropped",
        rx_nohandler: u64 = "rx_nohandler",
    }
}

layout! {
    /// `struct in_device`, include/linux/inetdevice.h
    pub struct InDeviceLayout for "in_device" {
        addresses: u64 = "ifa_list",
    }
}

layout! {
    /// `struct in_ifaddr`, include/linux/inetdevice.h
    pub struct InIfaddrLayout for "in_ifaddr" {
        next: Embedded = "ifa_next",
        local: Embedded = "ifa_local",
        prefix: u8 = "ifa_prefixlen",
    }
}

layout! {
    /// `struct inet6_dev`, include/net/if_inet6.h
    pub struct Inet6DevLayout for "inet6_dev" {
        addresses: Embedded = "addr_list",
    }
}

layout! {
    /// `struct inet6_ifaddr`, include/net/if_inet6.h
    pub struct Inet6IfaddrLayout for "inet6_ifaddr" {
        link: Embedded = "if_list",
        addr: Embedded = "addr",
        prefix: u32 = "prefix_len",
    }
}

/// Bounds for what one machine has.
const MOST_NAMESPACES: usize = 1 << 20;
const MOST_DEVICES: usize = 1 << 20;
const MOST_ADDRESSES: usize = 1 << 16;
/// MAX_ADDR_LEN (include/linux/netdevice.h).
const MAX_ADDR_LEN: u8 = 32;
/// `__LINK_STATE_NOCARRIER`: a bit of `net_device.state`.
const LINK_STATE_NOCARRIER: u64 = 1 << 2;

/// Names of `IFF_*` (include/uapi/linux/if.h), as ip(8) writes them. `RUNNING`
/// and `LOWER_UP` are not stored; `operational` and `carrier` tell.
const FLAGS: &[(u32, &str)] = &[
    (0x1, "UP"),
    (0x2, "BROADCAST"),
    (0x8, "LOOPBACK"),
    (0x10, "POINTOPOINT"),
    (0x80, "NOARP"),
    (0x100, "PROMISC"),
    (0x200, "ALLMULTI"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x1000, "MULTICAST"),
];

/// RFC 2863 state of an interface (`IF_OPER_*`, include/uapi/linux/if.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperState {
    /// The driver does not tell (loopback).
    Unknown,
    /// The device is gone.
    NotPresent,
    /// Down.
    Down,
    /// Down because a device below is.
    LowerLayerDown,
    /// Being tested.
    Testing,
    /// Waits for something outside (802.1X).
    Dormant,
    /// Up.
    Up,
    /// None that this table knows.
    Other(u8),
}

impl OperState {
    fn of(state: u8) -> OperState {
        match state {
            0 => OperState::Unknown,
            1 => OperState::NotPresent,
            2 => OperState::Down,
            3 => OperState::LowerLayerDown,
            4 => OperState::Testing,
            5 => OperState::Dormant,
            6 => OperState::Up,
            other => OperState::Other(other),
        }
    }
}

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its prefix.
    pub prefix: u8,
}

impl std::fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// Packets that the core of the network dropped (drivers count their own).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Received ones.
    pub rx: u64,
    /// Ones to be sent.
    pub tx: u64,
    /// Received ones that no protocol wanted, or on an inactive slave.
    pub rx_nohandler: u64,
}

/// A network interface.
#[derive(Debug, Clone, Serialize)]
pub struct NetInterface {
    /// Address of its `struct net_device`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of the `struct net` that it is in.
    #[serde(serialize_with = "hex")]
    pub namespace: u64,
    /// Inode number of that namespace (as in /proc/PID/ns/net).
    pub namespace_inode: Option<u32>,
    /// Its name ("eth0").
    pub name: Option<String>,
    /// Its number in the namespace.
    pub index: Option<i32>,
    /// `IFF_*` flags by name.
    pub flags: Option<Vec<&'static str>>,
    /// Whether it has a carrier.
    pub carrier: Option<bool>,
    /// Its operational state.
    pub operational: Option<OperState>,
    /// Largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Hardware address; empty for devices without.
    pub mac: Option<String>,
    /// IPv4, then IPv6 addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Driver of the device behind it ("virtio_net").
    pub driver: Option<String>,
    /// Symbol of its operations ("virtnet_netdev", "loopback_ops").
    pub operations: Option<String>,
    /// Its queueing discipline ("fq_codel", "noqueue").
    pub qdisc: Option<String>,
    /// Its transmit queues.
    pub tx_queues: Vec<TxQueue>,
    /// Queues of the virtio device behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub virtqueues: Vec<Virtqueue>,
    /// What the core dropped.
    pub dropped: Option<Dropped>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The interfaces of all namespaces.
#[derive(Debug, Clone, Serialize)]
pub struct NetInterfaces {
    /// The interfaces: the first namespace's come first.
    pub list: Vec<NetInterface>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// The network interfaces of all namespaces.
    pub fn interfaces(&self) -> Result<NetInterfaces> {
        let net = self.layout::<NetLayout>()?;
        let device = self.layout::<NetDeviceLayout>()?;
        let mut gaps = Gaps::default();
        let mut list = Vec::new();
        for namespace in self.net_namespaces(&mut gaps)? {
            let head = net.devices.address(namespace)?;
            let what = "the devices of a network namespace";
            for addr in self.list(head, device.list.offset()?, what).take(MOST_DEVICES) {
                match addr {
                    Ok(addr) => list.push(self.read_interface(&net, namespace, &device, addr)),
                    Err(e) => gaps.add("interfaces", &e),
                }
            }
        }
        Ok(NetInterfaces { list, gaps })
    }

    /// Address of the `struct net` that `task` lives in.
    pub fn net_namespace(&self, task: &Task) -> Result<u64> {
        let namespaces = self.namespaces(task.addr)?;
        self.layout::<NsproxyLayout>()?.net_ns.read(self, namespaces)
    }

    /// The `struct net`s: the first one, then the others.
    fn net_namespaces(&self, gaps: &mut Gaps) -> Result<Vec<u64>> {
        let init = self.symbol("init_net")?;
        let mut namespaces = vec![init];
        let offset = self.layout::<NetLayout>()?.list.offset()?;
        let head = self.symbol("net_namespace_list")?;
        for net in self.list(head, offset, "the network namespaces").take(MOST_NAMESPACES) {
            match net {
                Ok(net) if net == init => {}
                Ok(net) => namespaces.push(net),
                Err(e) => gaps.add("network namespaces", &e),
            }
        }
        Ok(namespaces)
    }

    fn read_interface(
        &self,
        net: &NetLayout,
        namespace: u64,
        layout: &NetDeviceLayout,
        addr: u64,
    ) -> NetInterface {
        let mut gaps = Gaps::default();
        let flags = gaps.keep("flags", layout.flags.read(self, addr));
        let state = gaps.keep("state", layout.state.read(self, addr));
        let mut addresses = Vec::new();
        for family in [Kernel::ipv4_addresses, Kernel::ipv6_addresses] {
            if let Err(e) = family(self, layout, addr, &mut addresses) {
                gaps.add("addresses", &e);
            }
        }
        let device = layout.device.address(addr);
        let driver = device.clone().and_then(|device| self.device_driver(device));
        let virtqueues = device.and_then(|device| self.parent_virtqueues(device));
        let ops = gaps.keep("operations", layout.ops.read(self, addr));
        let qdisc = layout.qdisc.read(self, addr).and_then(|qdisc| self.qdisc_name(qdisc));
        let tx = layout.tx.read(self, addr).and_then(|array| {
            let count = layout.tx_queues.read(self, addr)?;
            self.tx_queues(not_null(array, "the transmit queues")?, count, &mut gaps)
        });
        NetInterface {
            addr,
            namespace,
            namespace_inode: gaps.keep("namespace", net.inum.read(self, namespace)),
            name: gaps.keep("name", layout.name.read(self, addr)),
            index: gaps.keep("index", layout.index.read(self, addr)),
            flags: flags.map(flag_names),
            carrier: state.map(|state| state & LINK_STATE_NOCARRIER == 0),
            operational: gaps
                .keep("operational state", layout.operstate.read(self, addr))
                .map(OperState::of),
            mtu: gaps.keep("mtu", layout.mtu.read(self, addr)),
            mac: gaps.keep("hardware address", self.mac(layout, addr)),
            addresses,
            driver: gaps.keep("driver", driver).flatten(),
            operations: ops.and_then(|ops| self.symbol_at(ops)).map(|s| s.name),
            qdisc: gaps.keep("queueing discipline", qdisc),
            tx_queues: gaps.keep("transmit queues", tx).unwrap_or_default(),
            virtqueues: gaps.keep("virtio queues", virtqueues).unwrap_or_default(),
            dropped: gaps.keep("dropped packets", self.dropped(layout, addr)),
            gaps,
        }
    }

    fn mac(&self, layout: &NetDeviceLayout, addr: u64) -> Result<String> {
        let len = layout.addr_len.read(self, addr)?;
        if len > MAX_ADDR_LEN {
            return Err(Error::corrupt(format!("a hardware address of {len} bytes"), addr));
        }
        let at = layout.dev_addr.read(self, addr)?;
        Ok(hardware_address(&self.read_bytes(at, u64::from(len))?))
    }

    fn ipv4_addresses(
        &self,
        layout: &NetDeviceLayout,
        addr: u64,
        found: &mut Vec<InterfaceAddress>,
    ) -> Result<()> {
        let in_device = layout.ip_ptr.read(self, addr)?;
        if in_device == 0 {
            return Ok(());
        }
        let ifaddr = self.layout::<InIfaddrLayout>()?;
        let first = self.layout::<InDeviceLayout>()?.addresses.read(self, in_device)?;
        let chain = self.chain(first, ifaddr.next.offset()?, "the IPv4 addresses of a device");
        for entry in chain.take(MOST_ADDRESSES) {
            let entry = entry?;
            found.push(InterfaceAddress {
                ip: read_ipv4(self, ifaddr.local.address(entry)?)?.into(),
                prefix: ifaddr.prefix.read(self, entry)?,
            });
        }
        Ok(())
    }

    fn ipv6_addresses(
        &self,
        layout: &NetDeviceLayout,
        addr: u64,
        found: &mut Vec<InterfaceAddress>,
    ) -> Result<()> {
        // Without CONFIG_IPV6 there is nothing to miss.
        let Some(inet6_dev) = layout.ip6_ptr.read_if_exists(self, addr)?.filter(|p| *p != 0) else {
            return Ok(());
        };
        let ifaddr = self.layout::<Inet6IfaddrLayout>()?;
        let head = self.layout::<Inet6DevLayout>()?.addresses.address(inet6_dev)?;
        let ring = self.list(head, ifaddr.link.offset()?, "the IPv6 addresses of a device");
        for entry in ring.take(MOST_ADDRESSES) {
            let entry = entry?;
            found.push(InterfaceAddress {
                ip: read_ipv6(self, ifaddr.addr.address(entry)?)?.into(),
                prefix: ifaddr.prefix.read(self, entry)?.min(255) as u8,
            });
        }
        Ok(())
    }

    fn dropped(&self, layout: &NetDeviceLayout, addr: u64) -> Result<Dropped> {
        if !layout.core_stats.exists() {
            return Ok(Dropped {
                rx: layout.rx_dropped.read(self, addr)?,
                tx: layout.tx_dropped.read(self, addr)?,
                rx_nohandler: layout.rx_nohandler.read(self, addr)?,
            });
        }
        let mut sum = Dropped::default();
        // Allocated when the first packet is dropped.
        let per_cpu = layout.core_stats.read(self, addr)?;
        if per_cpu == 0 {
            return Ok(sum);
        }
        let stats = self.layout::<CoreStatsLayout>()?;
        for cpu in self.possible_cpus()? {
            let at = self.per_cpu_ptr(per_cpu, cpu)?;
            sum.rx = sum.rx.wrapping_add(stats.rx_dropped.read(self, at)?);
            sum.tx = sum.tx.wrapping_add(stats.tx_dropped.read(self, at)?);
            let nohandler = stats.rx_nohandler.read(self, at)?;
            sum.rx_nohandler = sum.rx_nohandler.wrapping_add(nohandler);
        }
        Ok(sum)
    }
}

fn flag_names(flags: u32) -> Vec<&'static str> {
    FLAGS.iter().filter(|f| flags & f.0 != 0).map(|f| f.1).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn addresses_print_as_ip_does() {
        let v4 = InterfaceAddress { ip: Ipv4Addr::from([10, 0, 2, 15]).into(), prefix: 24 };
        assert_eq!(v4.to_string(), "10.0.2.15/24");
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&[0xfe, 0x80]);
        bytes[15] = 1;
        let v6 = InterfaceAddress { ip: Ipv6Addr::from(bytes).into(), prefix: 64 };
        assert_eq!(v6.to_string(), "fe80::1/64");
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(flag_names(0x1003), ["UP", "BROADCAST", "MULTICAST"]);
        assert!(flag_names(0).is_empty());
        assert_eq!(OperState::of(6), OperState::Up);
        assert_eq!(OperState::of(200), OperState::Other(200));
    }
}

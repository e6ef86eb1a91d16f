//! PCI: buses, bridges and devices.
//!
//! `pci_root_buses` is a list of `struct pci_bus` (include/linux/pci.h); a bus
//! has its devices on `devices` and the buses behind its bridges on `children`;
//! `self` is the bridge that leads to it. A device of PCI Express has the
//! offset of that capability in `pcie_cap` and its kind in bits 4 to 7 of
//! `pcie_flags_reg` (`PCI_EXP_FLAGS_TYPE`).

use serde::Serialize;

use crate::device::DeviceDriverLayout;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct pci_bus`, include/linux/pci.h
    pub struct PciBusLayout for "pci_bus" {
        node: Embedded = "node",
        parent: u64 = "parent",
        children: Embedded = "children",
        devices: Embedded = "devices",
        bridge: u64 = "self",
        name: CString = "dev.kobj.name",
    }
}

layout! {
    /// `struct pci_dev`, include/linux/pci.h
    pub struct PciDevLayout for "pci_dev" {
        bus_list: Embedded = "bus_list",
        name: CString = "dev.kobj.name",
        driver: u64 = "dev.driver",
        vendor: u16 = "vendor",
        device_id: u16 = "device",
        class: u32 = "class",
        header: u8 = "hdr_type",
        pcie_cap: u8 = "pcie_cap",
        pcie_flags: u16 = "pcie_flags_reg",
        irq: u32 = "irq",
        enabled: i32 = "enable_cnt",
        error_state: u32 = "error_state",
    }
}

/// Devices on one bus (256, more behind ARI), and buses.
const MOST: usize = 1 << 16;
/// Buses nest 256 deep at most.
const DEEPEST: usize = 256;

/// A bus with its devices and the buses behind it.
#[derive(Debug, Clone, Serialize)]
pub struct PciBus {
    /// Address of its `struct pci_bus`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of the bus above it, 0: none.
    #[serde(serialize_with = "hex")]
    pub parent: u64,
    /// Its name ("0000:00").
    pub name: Option<String>,
    /// The bridge that leads to it.
    pub bridge: Option<PciDevice>,
    /// Its devices.
    pub devices: Vec<PciDevice>,
    /// The buses behind its bridges.
    pub children: Vec<PciBus>,
}

/// A device.
#[derive(Debug, Clone, Serialize)]
pub struct PciDevice {
    /// Address of its `struct pci_dev`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Where it is ("0000:00:1f.2").
    pub name: Option<String>,
    /// Class and subclass, as hexadecimal digits.
    pub class: String,
    /// Vendor, as hexadecimal digits.
    pub vendor: String,
    /// Device, as hexadecimal digits.
    pub device: String,
    /// Its kind on PCI Express; `None`: a conventional device.
    pub express: Option<PciExpress>,
    /// Whether it leads to another bus.
    pub is_bridge: bool,
    /// Its driver.
    pub driver: Option<String>,
    /// Its interrupt, as far as it has one line.
    pub irq: Option<u32>,
    /// How often it was enabled.
    pub enabled: Option<i32>,
    /// `pci_channel_state_t`: 1 normal, 2 frozen, 3 dead.
    pub channel_state: Option<u32>,
}

/// Kind of a PCI Express device (`PCI_EXP_TYPE_*`,
/// include/uapi/linux/pci_regs.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PciExpress {
    Endpoint,
    LegacyEndpoint,
    RootPort,
    Upstream,
    Downstream,
    PciBridge,
    PcieBridge,
    RootComplexEndpoint,
    RootComplexEventCollector,
    Other(u8),
}

impl PciExpress {
    /// From `pcie_flags_reg`.
    fn of(flags: u16) -> PciExpress {
        match (flags >> 4 & 0xf) as u8 {
            0 => PciExpress::Endpoint,
            1 => PciExpress::LegacyEndpoint,
            4 => PciExpress::RootPort,
            5 => PciExpress::Upstream,
            6 => PciExpress::Downstream,
            7 => PciExpress::PciBridge,
            8 => PciExpress::PcieBridge,
            9 => PciExpress::RootComplexEndpoint,
            10 => PciExpress::RootComplexEventCollector,
            other => PciExpress::Other(other),
        }
    }
}

impl Kernel {
    /// The root buses with all below them.
    pub fn pci(&self) -> Result<(Vec<PciBus>, Gaps)> {
        let head = self.symbol("pci_root_buses")?;
        let node = self.layout::<PciBusLayout>()?.node.offset()?;
        let mut gaps = Gaps::default();
        let mut buses = Vec::new();
        for bus in self.list(head, node, "the PCI buses").take(MOST) {
            let bus = bus.and_then(|bus| self.pci_bus(bus, 0, &mut gaps));
            buses.extend(gaps.keep("buses", bus));
        }
        Ok((buses, gaps))
    }

    fn pci_bus(&self, addr: u64, depth: usize, gaps: &mut Gaps) -> Result<PciBus> {
        if depth > DEEPEST {
            return Err(Error::Loop { what: "the PCI buses".into(), addr });
        }
        let layout = self.layout::<PciBusLayout>()?;
        let link = self.layout::<PciDevLayout>()?.bus_list.offset()?;
        let mut devices = Vec::new();
        for dev in self.list(layout.devices.address(addr)?, link, "the PCI devices").take(MOST) {
            devices.extend(gaps.keep("devices", dev.and_then(|dev| self.pci_device(dev))));
        }
        let mut children = Vec::new();
        let below = layout.children.address(addr)?;
        for bus in self.list(below, layout.node.offset()?, "the PCI buses").take(MOST) {
            let bus = bus.and_then(|bus| self.pci_bus(bus, depth + 1, gaps));
            children.extend(gaps.keep("buses", bus));
        }
        let bridge = match gaps.keep("bridges", layout.bridge.read(self, addr)).unwrap_or(0) {
            0 => None,
            bridge => gaps.keep("bridges", self.pci_device(bridge)),
        };
        Ok(PciBus {
            addr,
            parent: layout.parent.read(self, addr)?,
            name: gaps.keep("names", layout.name.read(self, addr)),
            bridge,
            devices,
            children,
        })
    }

    fn pci_device(&self, addr: u64) -> Result<PciDevice> {
        let layout = self.layout::<PciDevLayout>()?;
        let express = match layout.pcie_cap.read(self, addr)? {
            0 => None,
            _ => Some(PciExpress::of(layout.pcie_flags.read(self, addr)?)),
        };
        let driver = match layout.driver.read(self, addr)? {
            0 => None,
            driver => self.layout::<DeviceDriverLayout>()?.name.read(self, driver).ok(),
        };
        // PCI_HEADER_TYPE_BRIDGE, PCI_HEADER_TYPE_CARDBUS
        let header = layout.header.read(self, addr)? & 0x7f;
        Ok(PciDevice {
            addr,
            name: layout.name.read(self, addr).ok(),
            class: format!("{:04x}", layout.class.read(self, addr)? >> 8),
            vendor: format!("{:x}", layout.vendor.read(self, addr)?),
            device: format!("{:x}", layout.device_id.read(self, addr)?),
            express,
            is_bridge: matches!(header, 1 | 2),
            driver,
            irq: layout.irq.read(self, addr).ok(),
            enabled: layout.enabled.read(self, addr).ok(),
            channel_state: layout.error_state.read(self, addr).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_in_the_flags() {
        assert_eq!(PciExpress::of(0x0042), PciExpress::RootPort);
        assert_eq!(PciExpress::of(0x0002), PciExpress::Endpoint);
        assert_eq!(PciExpress::of(0x01f2), PciExpress::Other(15));
    }
}

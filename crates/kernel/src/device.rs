//! Devices by class: what /sys/class shows (drivers/base/class.c).
//!
//! A class's devices are on the klist `subsys_private.klist_devices`, by
//! `device_private.knode_class`. The class pointed to its `subsys_private`
//! (`class.p`) until v6.4 (2df418cf4b72); since then that is looked up among
//! the members of `class_kset` by its `class` pointer.

use crate::error::{Error, Result};
use crate::layout::{CString, Embedded};
use crate::{Kernel, layout};

layout! {
    /// `struct device`, include/linux/device.h
    pub struct DeviceLayout for "device" {
        name: CString = "kobj.name",
        parent: u64 = "parent",
        device_type: u64 = "type",
        driver: u64 = "driver",
        bus: u64 = "bus",
    }
}

layout! {
    /// `struct device_type`, include/linux/device.h
    pub struct DeviceTypeLayout for "device_type" {
        name: CString = "name",
    }
}

layout! {
    /// `struct device_driver`, include/linux/device/driver.h
    pub struct DeviceDriverLayout for "device_driver" {
        name: CString = "name",
    }
}

layout! {
    /// `struct device_private`, drivers/base/base.h
    pub struct DevicePrivateLayout for "device_private" {
        class_node: Embedded = "knode_class.n_node",
        class_klist: u64 = "knode_class.n_klist",
        bus_node: Embedded = "knode_bus.n_node",
        device: u64 = "device",
    }
}

layout! {
    /// `struct class`, include/linux/device/class.h
    pub struct ClassLayout for "class" {
        private: u64 = "p",
    }
}

layout! {
    /// `struct subsys_private`, drivers/base/base.h
    pub struct SubsysPrivateLayout for "subsys_private" {
        kobject_entry: Embedded = "subsys.kobj.entry",
        devices: Embedded = "klist_devices.k_list",
        class: u64 = "class",
        bus: u64 = "bus",
    }
}

layout! {
    /// `struct bus_type`, include/linux/device/bus.h
    pub struct BusPrivateLayout for "bus_type" {
        private: u64 = "p",
    }
}

layout! {
    /// `struct kset`, include/linux/kobject.h
    pub struct KsetLayout for "kset" {
        list: Embedded = "list",
    }
}

/// A machine has no more devices of one class.
const MOST: usize = 1 << 20;
/// Bit of `klist_node.n_klist`: the node is being removed (lib/klist.c).
const KNODE_DEAD: u64 = 1;

impl Kernel {
    /// The devices (`struct device`) of the class whose variable is `class`
    /// ("block_class"), in the order in which they came. A break in the list
    /// is its last item.
    pub(crate) fn class_devices(&self, class: &str) -> Result<Vec<Result<u64>>> {
        let layout = self.layout::<DevicePrivateLayout>()?;
        let subsys = self.layout::<SubsysPrivateLayout>()?;
        let head = subsys.devices.address(self.class_private(class)?)?;
        let node = layout.class_node.offset()?;
        let mut devices = Vec::new();
        for private in self.list(head, node, "the devices of a class").take(MOST) {
            let device = private.and_then(|private| {
                let dead = layout.class_klist.read(self, private)? & KNODE_DEAD != 0;
                Ok((layout.device.read(self, private)?, dead))
            });
            match device {
                Ok((_, true)) => {}
                Ok((device, false)) => devices.push(Ok(device)),
                Err(e) => devices.push(Err(e)),
            }
        }
        Ok(devices)
    }

    fn class_private(&self, name: &str) -> Result<u64> {
        let class = self.symbol(name)?;
        let private = &self.layout::<ClassLayout>()?.private;
        if private.exists() {
            return match private.read(self, class)? {
                0 => Err(Error::Null(format!("the private part of {name}"))),
                private => Ok(private),
            };
        }
        let subsys = self.layout::<SubsysPrivateLayout>()?;
        let kset = self.read_u64(self.symbol("class_kset")?)?;
        let head = self.layout::<KsetLayout>()?.list.address(kset)?;
        let entry = subsys.kobject_entry.offset()?;
        for candidate in self.list(head, entry, "the classes of devices").take(MOST) {
            let candidate = candidate?;
            if subsys.class.read(self, candidate)? == class {
                return Ok(candidate);
            }
        }
        Err(Error::Unavailable(format!("{name} is not registered")))
    }

    /// The devices (`struct device`) on the bus whose variable is `bus`
    /// ("virtio_bus"), which a module may have.
    pub(crate) fn bus_devices(&self, bus: &str) -> Result<Vec<Result<u64>>> {
        let bus = self.symbol_anywhere(bus)?;
        let layout = self.layout::<DevicePrivateLayout>()?;
        let private = self.bus_private(bus)?;
        let head = self.layout::<SubsysPrivateLayout>()?.devices.address(private)?;
        let node = layout.bus_node.offset()?;
        let devices = self.list(head, node, "the devices on a bus").take(MOST);
        Ok(devices.map(|private| layout.device.read(self, private?)).collect())
    }

    /// The `struct subsys_private` of a bus: `bus_type.p` until v6.4, then among
    /// the members of `bus_kset`.
    fn bus_private(&self, bus: u64) -> Result<u64> {
        if let Some(private) =
            self.layout::<BusPrivateLayout>()?.private.read_if_exists(self, bus)?
        {
            return Ok(private);
        }
        let subsys = self.layout::<SubsysPrivateLayout>()?;
        let kset = self.read_u64(self.symbol("bus_kset")?)?;
        let head = self.layout::<KsetLayout>()?.list.address(kset)?;
        for candidate in self.list(head, subsys.kobject_entry.offset()?, "the buses").take(MOST) {
            let candidate = candidate?;
            if subsys.bus.read(self, candidate)? == bus {
                return Ok(candidate);
            }
        }
        Err(Error::Unavailable("the bus is not registered".into()))
    }

    /// Name of the `struct device_type` of `device`; "" when it has none.
    pub(crate) fn device_type(&self, device: u64) -> Result<String> {
        match self.layout::<DeviceLayout>()?.device_type.read(self, device)? {
            0 => Ok(String::new()),
            ty => self.layout::<DeviceTypeLayout>()?.name.read(self, ty),
        }
    }

    /// The driver of `device`, or of the nearest device above it that has one.
    pub(crate) fn device_driver(&self, device: u64) -> Result<Option<String>> {
        let layout = self.layout::<DeviceLayout>()?;
        let mut at = device;
        // sysfs nests a dozen levels.
        for _ in 0..64 {
            if at == 0 {
                return Ok(None);
            }
            match layout.driver.read(self, at)? {
                0 => at = layout.parent.read(self, at)?,
                driver => {
                    let name = self.layout::<DeviceDriverLayout>()?.name.read(self, driver)?;
                    return Ok(Some(name));
                }
            }
        }
        Err(Error::Loop { what: "the parents of a device".into(), addr: device })
    }
}

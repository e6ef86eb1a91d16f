//! `dev -p`: PCI buses and devices.

use std::io::{self, Write};

use kmortem_kernel::pci::{PciBus, PciDevice, PciExpress};
use serde::Serialize;

use super::failed;
use crate::align::{Lean, center};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// A row of JSON: a device with its bus.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    bus: u64,
    bus_name: Option<&'a str>,
    #[serde(flatten)]
    device: &'a PciDevice,
}

pub(super) fn run(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (buses, gaps) = session.kernel().pci().map_err(failed("dev"))?;
    if buses.is_empty() && gaps.is_empty() {
        let what = "no PCI devices found on this system.".to_owned();
        return Err(CommandError::Failed { command: "dev", what });
    }
    for bus in &buses {
        if out.is_json() {
            rows(out, bus)?;
            continue;
        }
        writeln!(out, "{} BUSNAME", center("ROOT BUS", 16, Lean::Left))?;
        let name = bus.name.as_deref().unwrap_or("-");
        writeln!(out, "{:016x} {}", bus.addr, center(name, 7, Lean::Left))?;
        render_devices(out, bus)?;
        render_children(out, bus)?;
        writeln!(out)?;
    }
    super::note_gaps(out, std::iter::once(&gaps))
}

fn rows(out: &mut Output<'_>, bus: &PciBus) -> io::Result<()> {
    for device in &bus.devices {
        out.row(&Row { bus: bus.addr, bus_name: bus.name.as_deref(), device })?;
    }
    bus.children.iter().try_for_each(|child| rows(out, child))
}

fn render_devices(out: &mut dyn Write, bus: &PciBus) -> io::Result<()> {
    let row = |columns: [&str; 5]| {
        let widths = [16, 12, 6, 9, 10];
        let cells = columns.iter().zip(widths).map(|(text, width)| center(text, width, Lean::Left));
        format!("  {}", cells.collect::<Vec<_>>().join(" "))
    };
    writeln!(out, "{}", row(["PCI DEV", "DO:BU:SL.FN", "CLASS", "PCI_ID", "TYPE"]))?;
    for device in bus.bridge.iter().chain(&bus.devices) {
        let addr = format!("{:016x}", device.addr);
        let id = format!("{}:{}", device.vendor, device.device);
        let name = device.name.as_deref().unwrap_or("-");
        writeln!(out, "{}", row([&addr, name, &device.class, &id, &kind(device)]))?;
    }
    Ok(())
}

fn render_children(out: &mut dyn Write, bus: &PciBus) -> io::Result<()> {
    let heading = |text| center(text, 16, Lean::Left);
    for child in &bus.children {
        writeln!(out, "  {} {}", heading("PCI BUS"), heading("PARENT BUS"))?;
        writeln!(out, "  {:016x} {:016x}", child.addr, child.parent)?;
        render_devices(out, child)?;
        writeln!(out)?;
        render_children(out, child)?;
    }
    Ok(())
}

/// crash's names of the kinds; "PCI" for what is no PCI Express device.
fn kind(device: &PciDevice) -> String {
    let kind = match device.express {
        None => "PCI",
        Some(PciExpress::Endpoint) => "ENDPOINT",
        Some(PciExpress::LegacyEndpoint) => "LEG_END",
        Some(PciExpress::RootPort) => "ROOT_PORT",
        Some(PciExpress::Upstream) => "UPSTREAM",
        Some(PciExpress::Downstream) => "DOWNSTREAM",
        Some(PciExpress::PciBridge) => "PCI_BRIDGE",
        Some(PciExpress::PcieBridge) => "PCIE_BRIDGE",
        Some(PciExpress::RootComplexEndpoint) => "RC_END",
        Some(PciExpress::RootComplexEventCollector) => "RC_EC",
        Some(PciExpress::Other(_)) => "",
    };
    format!("{kind}{}", if device.is_bridge { " [BRIDGE]" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buses_behind_bridges_follow() {
        let device = |name: &str, express, is_bridge| PciDevice {
            addr: 0xffff_90a0_0107_9000,
            name: Some(name.into()),
            class: "0600".into(),
            vendor: "8086".into(),
            device: "1237".into(),
            express,
            is_bridge,
            driver: None,
            irq: None,
            enabled: None,
            channel_state: None,
        };
        let bus = |name: &str, bridge: Option<PciDevice>, devices, children| PciBus {
            addr: 0xffff_90a0_0185_f800,
            parent: 0,
            name: Some(name.into()),
            bridge,
            devices,
            children,
        };
        let port = device("0000:00:1c.0", Some(PciExpress::RootPort), true);
        let behind = bus("0000:01", Some(port.clone()), vec![], vec![]);
        let root =
            bus("0000:00", None, vec![device("0000:00:00.0", None, false), port], vec![behind]);
        let mut out = Vec::new();
        render_devices(&mut out, &root).unwrap();
        render_children(&mut out, &root).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace(" \n", " |\n"));
    }
}

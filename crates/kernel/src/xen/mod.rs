//! The hypervisor below a Xen host's dom0: its CPUs and its log.
//!
//! A host's dump has the registers that each CPU of the machine had in the
//! hypervisor, and the page tables that it ran on: all tables have Xen's own
//! memory in them. The hypervisor carries its symbols in its image
//! ([`symbols`]).
//!
//! The console ring (Xen, xen/drivers/char/console.c) is `conring`, of
//! `conring_size` bytes, a power of two; `conringp` counts what was written.

pub mod guest;
mod symbols;

use kmortem_vmcore::{HypervisorCpu, XenHost};
use serde::Serialize;

use self::symbols::Symbols;
use crate::Kernel;
use crate::arch::{PageTables, x86_64};
use crate::error::{Error, Fault, Result};
use crate::stack::hex;
use crate::symbol::SymbolAt;

const PAGE: u64 = 4096;
/// Xen's image has this much room (XEN_VIRT_START to XEN_VIRT_END, 1 GiB,
/// xen/arch/x86/include/asm/config.h) and begins at a multiple of it.
const IMAGE_ROOM: u64 = 1 << 30;
/// Images have 4 to 6 MiB.
const LARGEST_IMAGE: u64 = 32 << 20;
/// A ring of this size would hold years.
const LARGEST_RING: u32 = 64 << 20;

/// The hypervisor.
#[derive(Debug, Clone, Serialize)]
pub struct XenHypervisor {
    /// "4.17.7"
    pub version: String,
    /// What tainted it, as bits.
    pub tainted: u64,
    /// The CPUs of the machine.
    pub cpus: Vec<MachineCpu>,
    /// Why it has no symbols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_symbols: Option<String>,
}

/// A CPU of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct MachineCpu {
    /// Its place in the dump.
    pub index: usize,
    /// Where it was in the hypervisor.
    #[serde(serialize_with = "hex")]
    pub ip: u64,
    /// The function there.
    pub symbol: Option<SymbolAt>,
    /// Its stack pointer.
    #[serde(serialize_with = "hex")]
    pub sp: u64,
    /// The page tables that it ran on: machine address.
    #[serde(serialize_with = "hex")]
    pub cr3: u64,
    /// The instruction of dom0 that it came from, if it did.
    pub dom0_ip: Option<String>,
}

/// Memory of the hypervisor, by the page tables of one of its CPUs.
struct Memory<'a> {
    host: &'a XenHost,
    tables: PageTables,
    /// First address of the room for its image.
    room: u64,
}

impl<'a> Memory<'a> {
    fn of(host: &'a XenHost, cpu: &HypervisorCpu) -> Memory<'a> {
        let tables = x86_64::paging::tables(cpu.cr3, 4, 0);
        Memory { host, tables, room: cpu.ip() & !(IMAGE_ROOM - 1) }
    }

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        let machine = self.host.machine();
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let len = rest.len().min((PAGE - at % PAGE) as usize);
            let (here, behind) = rest.split_at_mut(len);
            let absent = |fault| Error::Read { addr: at, fault };
            let phys = self.tables.walk(machine, at).map_err(|e| absent(e.into()))?.phys;
            machine
                .read(phys, here)
                .map_err(|e| absent(Fault::Absent { phys, reason: e.reason }))?;
            rest = behind;
            at = at.checked_add(len as u64).ok_or(absent(Fault::NonCanonical))?;
        }
        Ok(())
    }

    fn word<const N: usize>(&self, addr: u64) -> Result<[u8; N]> {
        let mut word = [0; N];
        self.read(addr, &mut word).map(|()| word)
    }

    /// The image, with zeros where nothing is mapped: what is looked for in it
    /// has none.
    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; LARGEST_IMAGE as usize];
        for (page, addr) in image.chunks_exact_mut(PAGE as usize).zip((self.room..).step_by(4096)) {
            if self.read(addr, page).is_err() {
                page.fill(0);
            }
        }
        image
    }

    fn symbols(&self) -> Result<Symbols, String> {
        symbols::find(&self.image(), self.room)
    }
}

impl Kernel {
    /// The hypervisor below this kernel, where the dump is that of a Xen host.
    pub fn xen_hypervisor(&self) -> Option<XenHypervisor> {
        let host = self.image().xen_host()?;
        let known = host.hypervisor();
        let symbols = match known.cpus.first() {
            Some(cpu) => Memory::of(host, cpu).symbols(),
            None => Err("the dump has no registers of its CPUs".to_owned()),
        };
        let cpus = known.cpus.iter().enumerate().map(|(index, cpu)| {
            let guest = guest::registers(self.image(), host, cpu);
            MachineCpu {
                index,
                ip: cpu.ip(),
                symbol: symbols.as_ref().ok().and_then(|symbols| symbols.at(cpu.ip())),
                sp: cpu.sp(),
                cr3: cpu.cr3,
                dom0_ip: guest.map(|status| {
                    let ip = status.regs[16];
                    let symbol = self.symbol_at(ip).map(|symbol| format!(" ({symbol})"));
                    format!("{ip:#x}{}", symbol.unwrap_or_default())
                }),
            }
        });
        Some(XenHypervisor {
            version: known.version.clone(),
            tainted: known.tainted,
            cpus: cpus.collect(),
            no_symbols: symbols.as_ref().err().cloned(),
        })
    }

    /// The hypervisor's log, where the dump is that of a Xen host.
    pub fn xen_log(&self) -> Result<String> {
        let unavailable = |why: &str| Error::Unavailable(why.to_owned());
        let host =
            self.image().xen_host().ok_or(unavailable("the dump is not that of a Xen host"))?;
        let cpu = host.hypervisor().cpus.first();
        let cpu = cpu.ok_or(unavailable("the dump has no registers of the hypervisor's CPUs"))?;
        let memory = Memory::of(host, cpu);
        let symbols = memory.symbols().map_err(Error::Unavailable)?;
        let address = |name: &str| {
            symbols.address(name).ok_or_else(|| {
                Error::Unavailable(format!("the hypervisor was built without its symbol {name}"))
            })
        };
        let ring = u64::from_le_bytes(memory.word(address("conring")?)?);
        let size_at = address("conring_size")?;
        let size = u32::from_le_bytes(memory.word(size_at)?);
        let written = u32::from_le_bytes(memory.word(address("conringp")?)?);
        if !size.is_power_of_two() || size > LARGEST_RING {
            return Err(Error::corrupt(format!("conring_size ({size})"), size_at));
        }
        let mut bytes = vec![0; size as usize];
        memory.read(ring, &mut bytes)?;
        if written > size {
            // The oldest comes where the next one would go.
            bytes.rotate_left((written & (size - 1)) as usize);
        } else {
            bytes.truncate(written as usize);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

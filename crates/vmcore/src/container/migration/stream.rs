//! The sections of a stream, one after the other.

use super::ram::{QemuRamBlock, Ram};
use super::runs::Builder;
use super::vmdesc::Description;
use super::{MAGIC, cpu};
use crate::cpu::CpuState;
use crate::error::OpenError;
use crate::info::Machine;
use crate::source::Source;

const EOF: u8 = 0x00;
const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const CONFIGURATION: u8 = 0x07;
const COMMAND: u8 = 0x08;
const FOOTER: u8 = 0x7e;

const VERSION: u32 = 3;

/// A name of a machine type beyond this is none.
const LONGEST_NAME: u32 = 4096;

/// Pages of a stream that does not say their size: all of x86_64's and most of aarch64's.
const PAGE_SIZE: u64 = 4096;

/// Why reading ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The stream has no more, or nothing that makes sense: what came before counts.
    End(String),
    /// A stream that can't be read.
    Refused(String),
}

/// A place in a stream.
pub(super) struct Cursor<'a> {
    source: &'a dyn Source,
    at: u64,
    /// Bytes from `buffer_at` on. Records are read a few bytes at a time, and pages skipped: small
    /// where they are far apart, larger where they lie together.
    buffer: Vec<u8>,
    buffer_at: u64,
}

const SMALL: u64 = 32;
const LARGE: u64 = 64 << 10;

impl<'a> Cursor<'a> {
    fn new(source: &'a dyn Source) -> Cursor<'a> {
        Cursor { source, at: 0, buffer: Vec::new(), buffer_at: 0 }
    }

    pub(super) fn source(&self) -> &'a dyn Source {
        self.source
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    pub(super) fn end(&self, place: &str) -> Stop {
        Stop::End(format!("the migration stream is cut off at {:#x}, {place}", self.source.len()))
    }

    pub(super) fn bad(&self, what: String) -> Stop {
        Stop::End(format!("the migration stream is damaged at {:#x}: {what}", self.at))
    }

    pub(super) fn seek(&mut self, to: u64) -> Result<(), Stop> {
        self.at = to;
        if to > self.source.len() { Err(self.end("in a page")) } else { Ok(()) }
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), Stop> {
        self.seek(self.at.saturating_add(len))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let missing = || self.end("in a record");
        if let Some(bytes) = self.buffered() {
            self.at += N as u64;
            return Ok(bytes);
        }
        let left = self.source.len().saturating_sub(self.at);
        if left < N as u64 {
            return Err(missing());
        }
        let is_behind = self.at == self.buffer_at + self.buffer.len() as u64;
        let grown = (self.buffer.len() as u64 * 2).clamp(SMALL, LARGE);
        let len = if is_behind { grown } else { SMALL }.min(left);
        self.buffer.resize(len as usize, 0);
        self.buffer_at = self.at;
        if self.source.copy_to(self.at, &mut self.buffer).is_err() {
            self.buffer.clear();
            return Err(self.end("in a record"));
        }
        let bytes = self.buffered().ok_or_else(|| self.end("in a record"))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn buffered<const N: usize>(&self) -> Option<[u8; N]> {
        let from = usize::try_from(self.at.checked_sub(self.buffer_at)?).ok()?;
        self.buffer.get(from..from.checked_add(N)?)?.try_into().ok()
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn be16(&mut self) -> Result<u16, Stop> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32, Stop> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn be64(&mut self) -> Result<u64, Stop> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self, len: u64) -> Result<String, Stop> {
        let bytes = self.source.bytes(self.at, len as usize).map_err(|_| self.end("in a name"))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.at += len;
        Ok(text)
    }

    /// A name with its length in front.
    pub(super) fn name(&mut self) -> Result<String, Stop> {
        let len = self.u8()?;
        self.text(len.into())
    }
}

/// What a stream holds.
pub(super) struct Found {
    pub(super) machine_type: Option<String>,
    pub(super) machine: Option<Machine>,
    pub(super) page_size: u64,
    pub(super) blocks: Vec<QemuRamBlock>,
    pub(super) runs: Builder,
    pub(super) is_mapped: bool,
    pub(super) cpus: Vec<CpuState>,
    pub(super) cut_off: Option<String>,
    pub(super) oddities: Vec<String>,
}

/// Reads the whole stream, but for the pages.
pub(super) fn read(name: &str, source: &dyn Source) -> Result<Found, OpenError> {
    let mut reader = Reader {
        cursor: Cursor::new(source),
        ram: Ram::with_pages_of(PAGE_SIZE),
        ram_section: None,
        machine_type: None,
        devices: None,
        cpus: Vec::new(),
        machine: None,
        oddities: Vec::new(),
    };
    let stopped = reader.read_all();
    let cut_off = match stopped {
        Ok(()) => None,
        Err(Stop::Refused(looks_like)) => {
            return Err(OpenError::Foreign { name: name.to_owned(), looks_like });
        }
        Err(Stop::End(why)) if reader.ram.blocks.is_empty() => {
            return Err(OpenError::Truncated { name: name.to_owned(), what: why });
        }
        Err(Stop::End(why)) => Some(why),
    };
    let mut ram = reader.ram;
    ram.runs.is_cut_off = cut_off.is_some();
    Ok(Found {
        machine_type: reader.machine_type,
        machine: reader.machine,
        page_size: ram.runs.page_size,
        blocks: ram.blocks,
        runs: ram.runs,
        is_mapped: ram.is_mapped,
        cpus: reader.cpus,
        cut_off,
        oddities: reader.oddities,
    })
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    ram: Ram,
    /// Number of the section `ram`.
    ram_section: Option<u32>,
    machine_type: Option<String>,
    /// The description, once it was looked for.
    devices: Option<Option<Description>>,
    cpus: Vec<CpuState>,
    machine: Option<Machine>,
    oddities: Vec<String>,
}

impl Reader<'_> {
    fn read_all(&mut self) -> Result<(), Stop> {
        let magic: [u8; 4] = self.cursor.take()?;
        let version = self.cursor.be32()?;
        if magic != MAGIC || version != VERSION {
            let what = format!("a QEMU migration stream of version {version}; only 3 is known");
            return Err(Stop::Refused(what));
        }
        loop {
            let kind = self.cursor.u8()?;
            match kind {
                EOF => return Ok(()),
                CONFIGURATION => self.read_configuration()?,
                COMMAND => {
                    self.cursor.be16()?;
                    let len = self.cursor.be16()?;
                    self.cursor.skip(len.into())?;
                }
                SECTION_START | SECTION_FULL | SECTION_PART | SECTION_END => {
                    if !self.read_section(kind)? {
                        return Ok(());
                    }
                }
                _ => return Err(self.cursor.bad(format!("a section of kind {kind:#x}"))),
            }
        }
    }

    /// Reads a section and its footer. `false`: it and what follows can't be read, and all memory
    /// was before it.
    fn read_section(&mut self, kind: u8) -> Result<bool, Stop> {
        let section = self.cursor.be32()?;
        if matches!(kind, SECTION_START | SECTION_FULL) {
            let name = self.cursor.name()?;
            let instance = self.cursor.be32()?;
            self.cursor.be32()?;
            if name == "ram" && kind == SECTION_START {
                self.ram_section = Some(section);
            } else if !self.read_device(&name, instance)? {
                return Ok(false);
            }
        }
        if self.ram_section == Some(section) {
            self.ram.read_part(&mut self.cursor)?;
        } else if matches!(kind, SECTION_PART | SECTION_END) {
            return Err(self.cursor.bad(format!("a part of section {section}, which is not ram")));
        }
        if self.cursor.u8()? == FOOTER {
            let ends = self.cursor.be32()?;
            if ends != section {
                let what = format!("section {section} ends with the footer of {ends}");
                return Err(self.cursor.bad(what));
            }
        } else {
            // Machine types before 2.4.
            self.cursor.at -= 1;
        }
        Ok(true)
    }

    /// Reads a device's section, by the description. `false`: it can't be.
    fn read_device(&mut self, name: &str, instance: u32) -> Result<bool, Stop> {
        let source = self.cursor.source;
        let devices = self.devices.get_or_insert_with(|| Description::find(source));
        let Some(devices) = devices else {
            self.oddities.push(
                "the stream does not describe its devices: the CPUs' registers are not known"
                    .to_owned(),
            );
            return Ok(false);
        };
        let Some(device) = devices.device(name, instance) else {
            self.oddities.push(format!(
                "the device {name:?} is not in the stream's description: what follows it is left out"
            ));
            return Ok(false);
        };
        let Some(len) = device.len() else {
            return Err(self.cursor.bad(format!("the state of {name:?} has an impossible size")));
        };
        if name == "cpu" {
            let bytes = source
                .bytes(self.cursor.at, len as usize)
                .map_err(|_| self.cursor.end("in a CPU's registers"))?;
            let (machine, state) = cpu::decode(device, &bytes, self.cpus.len());
            self.machine = self.machine.or(machine);
            self.cpus.push(state);
        }
        self.cursor.skip(len)?;
        Ok(true)
    }

    fn read_configuration(&mut self) -> Result<(), Stop> {
        let len = self.cursor.be32()?;
        if len > LONGEST_NAME {
            return Err(self.cursor.bad(format!("a machine type's name of {len} bytes")));
        }
        self.machine_type = Some(self.cursor.text(len.into())?);
        while self.cursor.u8()? == SUBSECTION {
            let name = self.cursor.name()?;
            self.cursor.be32()?;
            match name.as_str() {
                "configuration/target-page-bits" => {
                    let bits = self.cursor.be32()?;
                    if !(10..=16).contains(&bits) {
                        return Err(self.cursor.bad(format!("pages of 2^{bits} bytes")));
                    }
                    self.ram.runs.page_size = 1 << bits;
                }
                "configuration/capabilities" => {
                    for _ in 0..self.cursor.be32()?.min(1024) {
                        match self.cursor.name()?.as_str() {
                            "x-ignore-shared" => self.ram.has_addresses = true,
                            "mapped-ram" | "fixed-ram" => self.ram.is_mapped = true,
                            _ => {}
                        }
                    }
                }
                "configuration/uuid" => self.cursor.skip(16)?,
                _ => {
                    let what = format!("the configuration has an unknown part, {name:?}");
                    return Err(self.cursor.bad(what));
                }
            }
        }
        self.cursor.at -= 1;
        Ok(())
    }
}

//! A dump that was opened as what is to be written.

use std::ops::Range;

use super::{Contents, Fate, Header, Runs, notes};
use crate::dump_header::DumpHeader;
use crate::elf_note::Note;
use crate::error::{Absent, ReadError};
use crate::image::Image;
use crate::info::{ContainerInfo, Machine};
use crate::machine_frames::MachineFrames;
use crate::origin::{self, Origin};

/// How closely the pages are looked at before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// What the index says is taken at its word: for forms that can say afterwards that a page is
    /// lost.
    Index,
    /// Each page is looked up, and those that are not in the file are given as lost.
    Pages,
}

/// An image's memory and headers. What the image lacks stays absent.
pub struct ImageContents<'a> {
    image: &'a Image,
    header: Header,
    check: Check,
    /// What turned out to be unreadable, ascending.
    unreadable: Vec<Range<u64>>,
}

impl<'a> ImageContents<'a> {
    /// All that the image has.
    pub fn new(image: &'a Image, check: Check) -> ImageContents<'a> {
        ImageContents { image, header: header_of(image), check, unreadable: Vec::new() }
    }

    /// What the headers will say, to add to it.
    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// Leaves out what a first attempt could not read: runs in any order.
    pub fn set_unreadable(&mut self, mut runs: Vec<Range<u64>>) {
        runs.sort_by_key(|run| run.start);
        if let Some(origin) = &mut self.header.origin {
            origin.damaged.extend(runs.iter().cloned());
            origin.damaged.sort_by_key(|run| run.start);
        }
        self.unreadable = runs;
    }

    /// Looks for pages that are lost, and keeps them for the notes of an ELF core.
    pub fn note_lost(&mut self) {
        let damaged = self.header.origin.as_ref().map_or(Vec::new(), |o| o.damaged.clone());
        let lost = self
            .runs()
            .filter(|(run, fate)| *fate == Fate::Lost && !origin::contains(&damaged, run.start));
        let lost: Vec<Range<u64>> = lost.map(|(run, _)| run).collect();
        if let Some(origin) = &mut self.header.origin {
            origin.lost = lost;
        }
    }

    fn fate(&self, addr: u64) -> Fate {
        let lost = origin::contains(&self.unreadable, addr)
            || (self.check == Check::Pages && self.is_lost(addr));
        if lost { Fate::Lost } else { Fate::Stored }
    }

    /// Part of a page may be there though the page as a whole is not.
    fn is_lost(&self, addr: u64) -> bool {
        self.image.lookup(addr).is_err() && self.image.read_uncached(addr, &mut [0]).is_err()
    }

    /// Cuts a run where the fate of its pages changes.
    fn cut(&self, run: Range<u64>) -> impl Iterator<Item = (Range<u64>, Fate)> + '_ {
        let page = self.image.page_size();
        let mut at = run.start;
        std::iter::from_fn(move || {
            if at >= run.end {
                return None;
            }
            if self.check == Check::Index && self.unreadable.is_empty() {
                return Some((std::mem::replace(&mut at, run.end)..run.end, Fate::Stored));
            }
            let (start, fate) = (at, self.fate(at));
            while at < run.end && self.fate(at) == fate {
                at = (at / page).saturating_add(1).saturating_mul(page).min(run.end);
            }
            Some((start..at, fate))
        })
    }
}

fn header_of(image: &Image) -> Header {
    let info = image.info();
    let page_size = image
        .vmcoreinfo()
        .and_then(|info| info.page_size())
        .filter(|size| size.is_power_of_two() && (4096..=65536).contains(size))
        .unwrap_or(image.page_size())
        .max(image.page_size());
    let has_vmcoreinfo = |note: &Note| note.name == "VMCOREINFO";
    let vmcoreinfo = image.vmcoreinfo().map(|info| info.raw().as_bytes().to_vec());
    let machine = info.machine.or_else(|| machine_of(image));
    let machine_frames = image.machine_frames().map(MachineFrames::to_notes).unwrap_or_default();
    Header {
        machine,
        page_size,
        dump: dump_header(image, machine),
        notes: match image.notes().is_empty() {
            true => [notes::of_cpus(image.cpus()), machine_frames].concat(),
            false => image.notes().to_vec(),
        },
        vmcoreinfo: vmcoreinfo.filter(|_| !image.notes().iter().any(has_vmcoreinfo)),
        mapped: image.mapped(),
        origin: Some(image.origin().cloned().unwrap_or_else(|| Origin {
            info: ContainerInfo { files: Vec::new(), oddities: Vec::new(), ..info.clone() },
            page_size: image.page_size(),
            header: image.header().cloned(),
            ..Origin::default()
        })),
    }
}

/// Registers tell the machine where the container does not.
fn machine_of(image: &Image) -> Option<Machine> {
    let cpu = image.cpus().first()?;
    if cpu.prstatus_arm64.is_some() {
        return Some(Machine::Aarch64);
    }
    (cpu.prstatus.is_some() || cpu.qemu.is_some()).then_some(Machine::X86_64)
}

/// The container's own header, or one made of what the rest says.
fn dump_header(image: &Image, machine: Option<Machine>) -> DumpHeader {
    let mut header = image.header().cloned().unwrap_or_default();
    let info = image.vmcoreinfo();
    let names = &mut header.utsname;
    if names.machine.is_empty()
        && let Some(machine) = machine
    {
        names.machine = machine.to_string();
    }
    if image.header().is_some() {
        return header;
    }
    if let Some(given) = &image.info().utsname {
        header.utsname.clone_from(given);
    }
    if let Some(release) = info.and_then(|info| info.osrelease()) {
        header.utsname.release = release.to_owned();
    }
    let time = image.info().timestamp.or_else(|| info.and_then(|info| info.crash_time()));
    header.timestamp = (time.unwrap_or(0), 0);
    header.phys_base = info.and_then(|info| info.number("phys_base")).unwrap_or(0) as u64;
    header.nr_cpus = image.cpus().len() as u32;
    header
}

impl Contents for ImageContents<'_> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn ram(&self) -> Runs<'_> {
        self.image.ram_runs()
    }

    fn runs(&self) -> Box<dyn Iterator<Item = (Range<u64>, Fate)> + '_> {
        let there = self.image.extents().flat_map(|run| self.cut(run));
        // What an ELF core's original had lost is not in the core.
        let Some(origin) = self.image.origin() else { return Box::new(there) };
        let gone = in_order(as_lost(&origin.lost), as_lost(&origin.damaged));
        Box::new(in_order(there, gone))
    }

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.image.read_uncached(addr, buf)?;
        match self
            .unreadable
            .iter()
            .find(|run| run.start < addr.saturating_add(buf.len() as u64) && addr < run.end)
        {
            Some(run) => Err(ReadError {
                addr: run.start.max(addr),
                reason: Absent::corrupt("it could not be read before"),
            }),
            None => Ok(()),
        }
    }
}

fn as_lost(runs: &[Range<u64>]) -> impl Iterator<Item = (Range<u64>, Fate)> + '_ {
    runs.iter().map(|run| (run.clone(), Fate::Lost))
}

/// Two ascending lists as one.
fn in_order<T>(
    a: impl Iterator<Item = (Range<u64>, T)>,
    b: impl Iterator<Item = (Range<u64>, T)>,
) -> impl Iterator<Item = (Range<u64>, T)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some((first, _)), Some((second, _))) if second.start < first.start => b.next(),
        (Some(_), _) => a.next(),
        _ => b.next(),
    })
}

//! dom0's memory within the machine's, as a container.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::p2m::Frames;
use crate::container::{Container, Stored};
use crate::error::Absent;
use crate::image::Image;
use crate::info::Completeness;
use crate::machine_frames::MachineFrames;
use crate::source::Source;

const PAGE: u64 = 4096;

pub(super) struct Dom0 {
    machine: Arc<Image>,
    frames: Frames,
}

impl Dom0 {
    pub(super) fn new(machine: Arc<Image>, frames: Frames) -> Dom0 {
        Dom0 { machine, frames }
    }

    /// Machine address of `addr`, and how many bytes follow it there too.
    fn place(&self, addr: u64) -> Result<(u64, u64), Absent> {
        let frame = addr / PAGE;
        let run = self.frames.places.run(frame).ok_or(Absent::NotRam)?;
        let machine = (run.to + (frame - run.first)) * PAGE + addr % PAGE;
        Ok((machine, run.end() * PAGE - addr))
    }
}

impl Container for Dom0 {
    fn page_size(&self) -> u64 {
        PAGE
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let (machine, _) = self.place(addr)?;
        self.machine.container().locate(machine)
    }

    fn part(&self, addr: u64, len: usize) -> Option<Cow<'_, [u8]>> {
        let (machine, there) = self.place(addr).ok()?;
        self.machine.container().part(machine, len.min(usize::try_from(there).ok()?))
    }

    fn ram(&self) -> Vec<Range<u64>> {
        let mut ram: Vec<Range<u64>> = Vec::new();
        for run in self.frames.places.iter() {
            let run = run.first * PAGE..run.end() * PAGE;
            match ram.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => ram.push(run),
            }
        }
        ram
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        let frames = self.frames.places.iter().flat_map(|run| run.first..run.end());
        let mut there =
            frames.map(|frame| frame * PAGE).filter(|addr| self.locate(*addr).is_ok()).peekable();
        Box::new(std::iter::from_fn(move || {
            let start = there.next()?;
            let mut end = start + PAGE;
            while there.next_if_eq(&end).is_some() {
                end += PAGE;
            }
            Some(start..end)
        }))
    }

    fn raw_run(&self, addr: u64, len: u64) -> Option<(&dyn Source, u64, u64)> {
        let (machine, there) = self.place(addr).ok()?;
        self.machine.container().raw_run(machine, len.min(there))
    }

    fn machine_frames(&self) -> Option<&MachineFrames> {
        Some(&self.frames.machine)
    }

    fn completeness(&self) -> Completeness {
        let ram = self.frames.places.frames();
        let stored = self.present().map(|run| (run.end - run.start) / PAGE).sum();
        let missing = ram - stored;
        let is_cut_off = self.machine.completeness().incomplete.is_some();
        Completeness {
            ram: Some(ram),
            stored: Some(stored),
            filtered: Some(if is_cut_off { 0 } else { missing }),
            lost: Some(if is_cut_off { missing } else { 0 }),
            incomplete: None,
        }
    }
}

//! The machine frames of a guest that knows of them: a paravirtual guest of Xen's.
//!
//! Such a guest has no page tables of the processor's second stage. It counts its memory in
//! pseudo-physical frames from 0 on, as any machine does, but what its page tables and CR3 hold are
//! the frames of the machine below it (Xen, docs/misc/x86-xenpv-bootloader.pandoc and
//! xen/include/public/xen.h, "machine frame"; Linux, arch/x86/xen/p2m.c). Memory that is not the
//! guest's own (Xen's, pages that another guest grants) is in its page tables too.
//!
//! In dumps of other kinds this is a note of our own, "KMORTEM" 0x4b4d0005: runs
//! { machine frame u64, frames u64, pseudo-physical frame u64 }, in one or several notes.

use crate::elf_note::Note;
use crate::frame_runs::{Builder, FrameRuns};
use crate::origin::OWNER;
use crate::source::Fields;

const KIND: u32 = 0x4b4d_0005;
const RUN: usize = 24;
/// Runs in one note: 768 KiB.
const RUNS_IN_NOTE: usize = 32 << 10;
/// Frames are of this size on x86.
const SHIFT: u32 = 12;

/// From frames of the machine to those that the guest counts in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFrames(FrameRuns);

impl MachineFrames {
    pub(crate) fn new(runs: FrameRuns) -> MachineFrames {
        MachineFrames(runs)
    }

    /// The guest's own address of what is at `machine`; none: it is not the guest's memory.
    pub fn guest_address(&self, machine: u64) -> Option<u64> {
        let frame = self.0.find(machine >> SHIFT)?;
        Some(frame << SHIFT | machine & ((1 << SHIFT) - 1))
    }

    /// Whether a note says this.
    pub(crate) fn is_in(note: &Note) -> bool {
        note.name == OWNER && note.kind == KIND
    }

    /// The notes that say it.
    pub(crate) fn to_notes(&self) -> Vec<Note> {
        let runs: Vec<[u64; 3]> = self.0.iter().map(|run| [run.first, run.count, run.to]).collect();
        let note = |part: &[[u64; 3]]| Note {
            name: OWNER.to_owned(),
            kind: KIND,
            desc: part.iter().flatten().copied().flat_map(u64::to_le_bytes).collect(),
        };
        runs.chunks(RUNS_IN_NOTE).map(note).collect()
    }

    /// What the notes say, if any of them does.
    pub(crate) fn find(notes: &[Note]) -> Option<MachineFrames> {
        let mut runs = Builder::default();
        for run in
            notes.iter().filter(|note| Self::is_in(note)).flat_map(|n| n.desc.chunks_exact(RUN))
        {
            let run = Fields(run);
            runs.push(run.u64(0)?, run.u64(8)?, run.u64(16)?);
        }
        let (runs, _) = runs.finish();
        (!runs.is_empty()).then_some(MachineFrames(runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notes_bring_all_runs_back() {
        let mut runs = Builder::default();
        (0..100_000).for_each(|n| runs.push(3 * n, 2, 2 * n));
        let frames = MachineFrames::new(runs.finish().0);
        let notes = frames.to_notes();
        assert_eq!(notes.len(), 4);
        assert_eq!(MachineFrames::find(&notes).as_ref(), Some(&frames));
        assert_eq!(frames.guest_address(0x4123), Some(0x3123));
        assert_eq!(frames.guest_address(0x2fff), None);
        assert_eq!(MachineFrames::find(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(desc in any::<Vec<u8>>()) {
            let note = Note { name: OWNER.to_owned(), kind: KIND, desc };
            if let Some(frames) = MachineFrames::find(&[note]) {
                let _ = (frames.guest_address(0), frames.guest_address(u64::MAX));
            }
        }
    }
}

//! dom0's tree of machine frames: three levels of pages of 512 words.
//!
//! An entry of the lowest level is the machine frame, with bit 63 of a page that another domain
//! granted, bit 62 of one that dom0 has where the machine has it and that is no RAM, and all bits
//! where there is none (Linux, arch/x86/include/asm/xen/page.h). Where a whole subtree is missing
//! all entries lead to one page that says so.

use std::collections::HashSet;

use crate::frame_runs::{Builder, FrameRuns};
use crate::image::Image;
use crate::machine_frames::MachineFrames;

const PAGE: usize = 4096;
const WORDS: u64 = 512;
/// Foreign, identity, and with both of them: none.
const NO_OWN_FRAME: u64 = 3 << 62;

/// dom0's memory.
pub(super) struct Frames {
    pub(super) places: FrameRuns,
    pub(super) machine: MachineFrames,
}

/// Reads the tree with its top in the machine frame `top`.
pub(super) fn read(machine: &Image, top: u64) -> Result<Frames, String> {
    if machine.page_size() != PAGE as u64 {
        return Err(format!("the container has pages of {} bytes", machine.page_size()));
    }
    let read = |frame: u64| page(machine, frame);
    let mut tree = Tree::default();
    let roots = read(top).map_err(|why| format!("the top of its list (frame {top:#x}): {why}"))?;
    for (index, middle) in (0..).zip(roots) {
        // Each page counts once: what is missing is in very many places.
        if !tree.seen.insert(middle) {
            continue;
        }
        let Ok(leaves) = read(middle) else { continue };
        for (n, leaf) in (0..).zip(leaves) {
            if tree.seen.insert(leaf)
                && let Ok(entries) = read(leaf)
            {
                tree.add((index * WORDS + n) * WORDS, &entries);
            }
        }
    }
    let (places, _) = tree.places.finish();
    if places.is_empty() {
        return Err(format!("its list (frame {top:#x}) has no frame; is dom0 a PV guest?"));
    }
    Ok(Frames { places, machine: MachineFrames::new(tree.frames.finish().0) })
}

#[derive(Default)]
struct Tree {
    seen: HashSet<u64>,
    places: Builder,
    frames: Builder,
}

impl Tree {
    fn add(&mut self, first: u64, entries: &[u64]) {
        for (frame, entry) in (first..).zip(entries) {
            if entry & NO_OWN_FRAME == 0 {
                self.places.push(frame, 1, *entry);
                self.frames.push(*entry, 1, frame);
            }
        }
    }
}

fn page(machine: &Image, frame: u64) -> Result<Vec<u64>, String> {
    let addr = frame.checked_mul(PAGE as u64).ok_or("no frame has this number")?;
    let mut bytes = vec![0; PAGE];
    machine.read(addr, &mut bytes).map_err(|error| error.to_string())?;
    let word = |word: &[u8]| word.first_chunk().map(|word| u64::from_le_bytes(*word));
    Ok(bytes.chunks_exact(8).filter_map(word).collect())
}

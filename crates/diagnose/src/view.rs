//! A stack prepared for the eye: frames by name, noise marked for folding.

use kmortem_kernel::stack::{Frame, Stack, StackEnd, Trust, base_name};
use serde::Serialize;

use crate::noise::{self, Noise};

/// A frame as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FrameView {
    /// Its number in the whole stack.
    pub number: usize,
    /// The function without compiler suffixes; the address where there is none.
    pub function: String,
    /// Bytes from the function's start.
    pub offset: u64,
    /// Its module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// What is special about this frame ("the fault", "guess: ...").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it may be folded away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// A stack as a reader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StackView {
    /// All frames, innermost first.
    pub frames: Vec<FrameView>,
    /// How it ends, if not as stacks should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl StackView {
    /// The view of `stack`. Frames before `from` (the way from the culprit to
    /// the panic) are noise whatever their names.
    pub fn new(stack: &Stack, from: usize) -> StackView {
        let mut frames: Vec<FrameView> = stack
            .frames
            .iter()
            .enumerate()
            .map(|(number, frame)| FrameView {
                number,
                function: name_of(frame),
                offset: frame.symbol.as_ref().map_or(0, |s| s.offset),
                module: frame.symbol.as_ref().and_then(|s| s.module.clone()),
                note: note_of(frame, number),
                noise: if number < from { Some(Noise::Dying) } else { noise_of(frame.function()) },
            })
            .collect();
        mark_repeats(&mut frames);
        mark_way_in(&mut frames);
        let broken = match &stack.end {
            StackEnd::Broken { reason } => Some(reason.clone()),
            _ => None,
        };
        StackView { frames, broken }
    }

    /// Puts a note on frame `number`.
    pub fn note(&mut self, number: usize, note: impl Into<String>) {
        if let Some(frame) = self.frames.iter_mut().find(|f| f.number == number) {
            frame.note = Some(note.into());
        }
    }
}

fn name_of(frame: &Frame) -> String {
    match &frame.symbol {
        Some(symbol) => base_name(&symbol.name).to_owned(),
        None => format!("{:#x}", frame.pc),
    }
}

fn note_of(frame: &Frame, number: usize) -> Option<String> {
    match &frame.trust {
        Trust::Guess(why) => Some(format!("guess: {why}")),
        _ if number > 0 && frame.is_interrupted() => Some("interrupted here".into()),
        _ => None,
    }
}

fn noise_of(function: &str) -> Option<Noise> {
    if noise::is_dying(function) {
        Some(Noise::Dying)
    } else if noise::is_entry(function) {
        Some(Noise::Entry)
    } else if noise::is_sleeping(function) {
        Some(Noise::Sleeping)
    } else {
        None
    }
}

/// The way from the entry to the first function that tells something: what
/// every system call or module load goes through. One frame is always left.
fn mark_way_in(frames: &mut [FrameView]) {
    let first = frames.iter().position(|f| f.noise.is_none());
    for i in (0..frames.len()).rev() {
        let frame = &mut frames[i];
        let common = frame.module.is_none() && noise::is_common_path(&frame.function);
        match frame.noise {
            Some(_) => {}
            None if common && frame.note.is_none() && first != Some(i) => {
                frame.noise = Some(Noise::Entry);
            }
            None => break,
        }
    }
}

/// A recursion shows its first two rounds and its last.
fn mark_repeats(frames: &mut [FrameView]) {
    let mut start = 0;
    while start < frames.len() {
        let mut end = start + 1;
        while end < frames.len()
            && frames[end].function == frames[start].function
            && frames[end].module == frames[start].module
        {
            end += 1;
        }
        if end - start > 4 {
            for frame in &mut frames[start + 2..end - 1] {
                frame.noise = Some(Noise::Repeated);
            }
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stack;

    fn shown(functions: &[&str], from: usize) -> Vec<String> {
        let view = StackView::new(&stack(functions), from);
        view.frames.into_iter().filter(|f| f.noise.is_none()).map(|f| f.function).collect()
    }

    #[test]
    fn the_way_in_and_the_way_out_are_folded() {
        let functions = [
            "panic",
            "sysrq_handle_crash",
            "write_sysrq_trigger",
            "proc_reg_write",
            "vfs_write",
            "ksys_write",
            "do_syscall_64",
        ];
        assert_eq!(shown(&functions, 1), ["sysrq_handle_crash", "write_sysrq_trigger"]);
    }

    #[test]
    fn a_common_function_in_the_middle_or_alone_stays() {
        assert_eq!(shown(&["f", "vfs_read", "g", "kthread"], 0), ["f", "vfs_read", "g"]);
        assert_eq!(shown(&["vfs_read", "ksys_read", "do_syscall_64"], 0), ["vfs_read"]);
    }

    #[test]
    fn a_recursion_keeps_its_ends() {
        let mut functions = vec!["m:r"; 50];
        functions.push("m:start");
        assert_eq!(shown(&functions, 0), ["r", "r", "r", "start"]);
    }
}

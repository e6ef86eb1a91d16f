//! The core file itself: ELF, as the kernel writes it (fs/binfmt_elf.c).
//!
//! An ELF header, program headers (one `PT_NOTE`, then a `PT_LOAD` per segment),
//! the notes, and from the next page on the memory. A segment without content in
//! the file has `p_filesz` 0. More than 65534 program headers are counted in the
//! `sh_info` of a section header (`PN_XNUM`). Notes (include/uapi/linux/elf.h,
//! elfcore.h): for each thread `NT_PRSTATUS` (signal and process numbers, times,
//! from 112 on the architecture's `elf_gregset_t`, and a word), `NT_FPREGSET` and
//! what else the architecture has; for the process `NT_PRPSINFO` (136 bytes),
//! `NT_AUXV` and `NT_FILE`.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::task::{Task, TaskState};
use kmortem_kernel::user::UserPage;
use kmortem_kernel::user_core::UserThread;
use kmortem_kernel::vma::Vma;

use super::gcore_memory::{Memory, Segment};
use crate::progress::Progress;

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
const PN_XNUM: u64 = 0xffff;
/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;

/// Everything of a core file but the memory.
pub(super) struct Core {
    mm: u64,
    machine: u16,
    page_size: u64,
    notes: Vec<u8>,
}

impl Core {
    /// Makes the notes. What of them can't be read is left out and told.
    pub(super) fn new(
        kernel: &Kernel,
        first: &Task,
        threads: &[UserThread],
        vmas: &[Vma],
        gaps: &mut Gaps,
    ) -> Core {
        let mut notes = Vec::new();
        for (i, thread) in threads.iter().enumerate() {
            note(&mut notes, CORE, NT_PRSTATUS, &prstatus(first, thread));
            // The process's own note stands behind the first thread's.
            if i == 0 {
                note(&mut notes, CORE, NT_PRPSINFO, &prpsinfo(kernel, first, gaps));
                if let Some(auxv) = gaps.keep("auxiliary vector", kernel.auxv(first.mm)) {
                    note(&mut notes, CORE, NT_AUXV, &auxv);
                }
                note(&mut notes, CORE, NT_FILE, &files(kernel, first.mm, vmas, gaps));
            }
            if let Some(floating) = &thread.core.floating {
                note(&mut notes, CORE, NT_FPREGSET, floating);
            }
            for (kind, content) in &thread.core.more {
                note(&mut notes, LINUX, *kind, content);
            }
        }
        let machine = kernel.arch().elf_machine();
        Core { mm: first.mm, machine, page_size: kernel.page_size(), notes }
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self, memory: &Memory) -> u64 {
        let there = memory.segments.iter().filter(|s| s.there);
        self.memory_start(memory) + there.map(|s| s.bytes).sum::<u64>()
    }

    fn headers(memory: &Memory) -> u64 {
        memory.segments.len() as u64 + 1
    }

    fn notes_start(memory: &Memory) -> u64 {
        let section = if Core::headers(memory) >= PN_XNUM { 64 } else { 0 };
        64 + Core::headers(memory) * 56 + section
    }

    fn memory_start(&self, memory: &Memory) -> u64 {
        (Core::notes_start(memory) + self.notes.len() as u64).next_multiple_of(self.page_size)
    }

    /// Writes the file. Zeros are left as holes.
    pub(super) fn write(
        &self,
        kernel: &Kernel,
        memory: &Memory,
        file: File,
        progress: &Progress,
    ) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        self.write_headers(&mut out, memory)?;
        out.write_all(&self.notes)?;
        out.seek(SeekFrom::Start(self.memory_start(memory)))?;
        progress.expect(memory.segments.iter().filter(|segment| segment.there).count() as u64);
        let mut buf = vec![0; CHUNK as usize];
        let space = kernel.user_space_of(self.mm).map_err(io::Error::other)?;
        for segment in memory.segments.iter().filter(|segment| segment.there) {
            let end = segment.start + segment.bytes;
            let mut at = segment.start;
            while at < end {
                if kernel.is_interrupted() {
                    return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
                }
                let (page, len) = space.run(at);
                let n = len.min(end - at).clamp(1, CHUNK);
                match page {
                    Ok(UserPage::Present(phys)) => {
                        let part = &mut buf[..n as usize];
                        let read = kernel.image().read(phys, part);
                        read.map_err(|e| io::Error::other(format!("a page is lost: {e}")))?;
                        out.write_all(part)?;
                    }
                    _ => out.seek_relative(n as i64)?,
                }
                at += n;
            }
            progress.add(1);
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        // A file that ends in zeros has its size all the same.
        file.set_len(self.bytes(memory))?;
        file.sync_all()
    }

    fn write_headers(&self, out: &mut impl Write, memory: &Memory) -> io::Result<()> {
        let headers = Core::headers(memory);
        let many = headers >= PN_XNUM;
        let mut head = Vec::new();
        head.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        put(&mut head, &[(4, 2), (self.machine.into(), 2), (1, 4), (0, 8), (64, 8)]);
        let sections = if many { 64 + headers * 56 } else { 0 };
        let count = if many { PN_XNUM } else { headers };
        let section_size = if many { 64 } else { 0 };
        put(&mut head, &[(sections, 8), (0, 4), (64, 2), (56, 2), (count, 2)]);
        put(&mut head, &[(section_size, 2), (u64::from(many), 2), (0, 2)]);
        let notes = self.notes.len() as u64;
        let start = Core::notes_start(memory);
        put(&mut head, &[(4, 4), (0, 4), (start, 8), (0, 8), (0, 8), (notes, 8), (0, 8), (4, 8)]);
        out.write_all(&head)?;
        let mut offset = self.memory_start(memory);
        for Segment { start, bytes, flags, there } in &memory.segments {
            let in_file = if *there { *bytes } else { 0 };
            let mut header = Vec::with_capacity(56);
            put(&mut header, &[(1, 4), (u64::from(*flags), 4), (offset, 8), (*start, 8), (0, 8)]);
            put(&mut header, &[(in_file, 8), (*bytes, 8), (self.page_size, 8)]);
            out.write_all(&header)?;
            offset += in_file;
        }
        if many {
            // Section 0 holds what does not fit the ELF header.
            let mut section = Vec::new();
            put(&mut section, &[(0, 8), (0, 8), (0, 8), (0, 8), (0, 8), (0, 4), (headers, 4)]);
            put(&mut section, &[(0, 8), (0, 8)]);
            out.write_all(&section)?;
        }
        Ok(())
    }
}

/// Appends little-endian numbers: (value, bytes).
fn put(out: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (value, bytes) in numbers {
        out.extend_from_slice(&value.to_le_bytes()[..*bytes]);
    }
}

/// Names of notes: of all systems, and of Linux alone.
const CORE: &[u8] = b"CORE\0";
const LINUX: &[u8] = b"LINUX\0";

/// Appends a note. Name and content are padded to words.
fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, desc: &[u8]) {
    put(out, &[(name.len() as u64, 4), (desc.len() as u64, 4), (u64::from(kind), 4)]);
    out.extend_from_slice(name);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(desc);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// `struct elf_prstatus`.
fn prstatus(first: &Task, thread: &UserThread) -> Vec<u8> {
    let mut status = vec![0; 12 + 4];
    put(&mut status, &[(thread.signals[0], 8), (thread.signals[1], 8)]);
    let pid = |pid: i32| (u64::from(pid as u32), 4);
    put(&mut status, &[pid(thread.pid), pid(first.ppid), pid(first.tgid), pid(first.tgid)]);
    status.resize(112, 0);
    for word in &thread.core.general {
        put(&mut status, &[(*word, 8)]);
    }
    put(&mut status, &[(u64::from(thread.core.floating.is_some()), 4), (0, 4)]);
    status
}

/// `struct elf_prpsinfo`.
fn prpsinfo(kernel: &Kernel, task: &Task, gaps: &mut Gaps) -> Vec<u8> {
    let zombie = u8::from(task.state == TaskState::Zombie);
    let mut info = vec![0, task.state.letter() as u8, zombie, 0];
    info.resize(8, 0);
    let (uid, gid) = gaps.keep("user and group", kernel.task_ids(task)).unwrap_or_default();
    put(&mut info, &[(u64::from(task.flags), 8), (u64::from(uid), 4), (u64::from(gid), 4)]);
    let pid = |pid: i32| (u64::from(pid as u32), 4);
    put(&mut info, &[pid(task.tgid), pid(task.ppid), pid(task.tgid), pid(task.tgid)]);
    let text = |info: &mut Vec<u8>, text: &str, len: usize| {
        let end = info.len() + len;
        info.extend(text.bytes().take(len - 1));
        info.resize(end, 0);
    };
    text(&mut info, &task.comm, 16);
    let arguments = gaps.keep("arguments", kernel.task_arguments(task)).unwrap_or_default();
    text(&mut info, &arguments.join(" "), 80);
    info
}

/// `NT_FILE`: count and page size, then start, end and page of each mapping of a
/// file, then their names.
fn files(kernel: &Kernel, mm: u64, vmas: &[Vma], gaps: &mut Gaps) -> Vec<u8> {
    let mut table = Vec::new();
    let mut names = Vec::new();
    let mut count = 0;
    for vma in vmas.iter().filter(|vma| vma.file != 0) {
        let name = gaps.keep("a file's name", kernel.vma_name(mm, vma)).flatten();
        let Some(name) = name else { continue };
        put(&mut table, &[(vma.start, 8), (vma.end, 8), (vma.pgoff, 8)]);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        count += 1;
    }
    let mut note = Vec::new();
    put(&mut note, &[(count, 8), (kernel.page_size(), 8)]);
    note.extend(table);
    note.extend(names);
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::user_core::CoreRegisters;

    #[test]
    fn notes_are_padded_to_words() {
        let mut notes = Vec::new();
        note(&mut notes, CORE, NT_AUXV, &[1, 2, 3]);
        assert_eq!(notes.len(), 12 + 8 + 4);
        assert_eq!(notes[..12], [5, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0]);
    }

    #[test]
    fn status_has_the_size_that_readers_expect() {
        let task = crate::commands::testing::task(7, "sh");
        let thread = UserThread {
            pid: 8,
            registers: None,
            unknown: None,
            core: CoreRegisters { general: (1..28).collect(), floating: None, more: Vec::new() },
            signals: [0, 0],
        };
        let status = prstatus(&task, &thread);
        assert_eq!((status.len(), status[32], status[40]), (336, 8, 7));
        assert_eq!((status[112], status[112 + 26 * 8]), (1, 27));
    }
}

//! Raw memory: bytes without a header. A hypervisor's memory file (QEMU's memory-backend-file, a
//! micro-VM's snapshot), QEMU's `pmemsave`, LiME's format "padded".
//!
//! Nothing in it says what it is or where it belongs, so it is opened only
//! - when the file is named with an address, `FILE@0x100000000`, as are all the files of the
//!   machine then; or
//! - alone, when there is a kernel's banner in it (`Linux version `, init/version.c). Then:
//!   - an arm64 kernel has its image header in memory ("ARM\x64" 56 bytes into a boundary of 64
//!     KiB, Documentation/arch/arm64/booting.rst): QEMU's virt, whose memory starts at 1 GiB;
//!   - a PC's memory starts at 0, and may have been saved with or without the hole below 4 GiB
//!     that its devices take. The kernel's own direct map says where memory was: tables full of
//!     large pages, each one behind the one before ([`Evidence`]).

use std::sync::Arc;

use super::chain::Chain;
use super::elf::{self, Piece};
use super::{Input, Opened};
use crate::error::OpenError;
use crate::info::{ContainerInfo, Machine};
use crate::source::Source;
use crate::support::Support;

pub(super) const SUPPORT: &[Support] = &[Support {
    container: "raw memory: QEMU's memory-backend-file and `pmemsave`, LiME's padded, ...",
    read: "yes: alone where a kernel is found in it, or one or several as FILE@ADDRESS",
    write: "`raw`",
    real: "`k612-null-host.raw`, `k510-hung-host.raw`, `k61-sysrq-5g.raw`",
    synthetic: "unit tests",
}];

const PAGE: u64 = 4096;
const WINDOW: u64 = 1 << 20;
const GIB4: u64 = 4 << 30;
const VIRT_RAM: u64 = 1 << 30;

/// No kernel fits in less.
const SMALLEST: u64 = 1 << 20;

/// Where memory below 4 GiB ends on machines that have a hole there: see `migration/layout.rs`;
/// VMware's, Firecracker's since v1.13 and Cloud Hypervisor's is the third, that of Firecracker up to
/// v1.12 the fourth.
const ENDS_BELOW_4G: [u64; 5] = [0x8000_0000, 0xb000_0000, 0xc000_0000, 0xd000_0000, 0xe000_0000];

/// Opens files whose addresses were given.
pub(super) fn open_at(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let mut pieces = Vec::new();
    let mut chain = Chain::default();
    for input in inputs {
        let Some(addr) = input.base else {
            let what = "has no address; name every raw file as FILE@ADDRESS".to_owned();
            return Err(OpenError::Split { name: input.name, what });
        };
        let len = input.source.len();
        let overlaps = |piece: &Piece| {
            addr < piece.addr.saturating_add(piece.len) && piece.addr < addr.saturating_add(len)
        };
        if pieces.iter().any(overlaps) || addr.checked_add(len).is_none() {
            let what = format!("{len} bytes at {addr:#x} lie over those of another file");
            return Err(OpenError::Split { name: input.name, what });
        }
        let offset = chain.push(input.source);
        pieces.push(Piece { addr, len, offset });
    }
    let files = pieces.len();
    let kind = format!("raw memory ({files} file{})", if files == 1 { "" } else { "s" });
    let info = ContainerInfo { kind, ..ContainerInfo::default() };
    let container = elf::of_pieces(Arc::new(chain), &pieces);
    Ok(Opened { container, info, notes: Vec::new(), cpus: Vec::new(), vmcoreinfo: None })
}

/// Opens a file that has a kernel in it; `None` where it has not.
pub(super) fn open_found(input: &Input) -> Option<Opened> {
    let len = input.source.len();
    if len < SMALLEST {
        return None;
    }
    let evidence = Evidence::of(input.source.as_ref());
    if !evidence.has_banner {
        return None;
    }
    let mut oddities = Vec::new();
    let pieces = if evidence.has_arm64_image {
        oddities.push(
            "raw memory of an arm64 machine, taken for one whose memory starts at 0x40000000; \
             name it as FILE@ADDRESS otherwise"
                .to_owned(),
        );
        vec![Piece { addr: VIRT_RAM, len, offset: 0 }]
    } else {
        evidence.pc(len, &mut oddities)
    };
    let machine = if evidence.has_arm64_image { Machine::Aarch64 } else { Machine::X86_64 };
    let info = ContainerInfo {
        kind: "raw memory".to_owned(),
        machine: Some(machine),
        oddities,
        ..ContainerInfo::default()
    };
    let container = elf::of_pieces(Arc::clone(&input.source), &pieces);
    Some(Opened { container, info, notes: Vec::new(), cpus: Vec::new(), vmcoreinfo: None })
}

/// What the content says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Evidence {
    has_banner: bool,
    has_arm64_image: bool,
    /// End of the memory that the direct map has below 4 GiB, and above, as far as full tables
    /// tell.
    end_below_4g: u64,
    end_above_4g: u64,
}

impl Evidence {
    /// One pass over all bytes.
    fn of(source: &dyn Source) -> Evidence {
        const BANNER: &[u8] = b"Linux version ";
        let mut found = Evidence::default();
        let finder = memchr::memmem::Finder::new(BANNER);
        let mut bytes = vec![0; WINDOW as usize];
        let mut at = 0;
        while at < source.len() {
            let len = (source.len() - at).min(WINDOW) as usize;
            let Some(window) = bytes.get_mut(..len) else { break };
            // What can't be read says nothing.
            if source.copy_to(at, window).is_ok() && window.iter().any(|byte| *byte != 0) {
                found.has_banner |= finder
                    .find_iter(window)
                    .any(|start| is_banner(window.get(start + BANNER.len()..).unwrap_or_default()));
                found.has_arm64_image |= window
                    .chunks(64 << 10)
                    .any(|block| block.get(56..60) == Some(b"ARM\x64".as_slice()));
                window.chunks_exact(PAGE as usize).for_each(|page| found.look_at(page));
            }
            at += len as u64;
        }
        found
    }

    /// Notes what a page of the direct map's tables maps: entries of large pages (present, bit 7)
    /// with the same flags, each one 2 MiB or 1 GiB behind the one before. The kernel's have the
    /// bits accessed and dirty set from the start, and are not executable; those of its first
    /// steps, which map all of 4 GiB (arch/x86/boot/compressed/head_64.S), are neither.
    fn look_at(&mut self, page: &[u8]) {
        const LARGE: u64 = 1 << 63 | 0xe1;
        const ADDR: u64 = 0x000f_ffff_ffff_f000;
        const SIZES: [(u64, u32); 2] = [(2 << 20, 64), (1 << 30, 2)];
        let mut before = 0;
        let mut runs = [1; 2];
        // Where in a table the direct map starts is random: all entries count.
        for bytes in page.as_chunks::<8>().0 {
            let entry = u64::from_le_bytes(*bytes);
            if entry & LARGE == LARGE {
                for ((size, least), run) in SIZES.iter().zip(&mut runs) {
                    *run = if entry.wrapping_sub(*size) == before { *run + 1 } else { 1 };
                    if *run >= *least {
                        self.claim((entry & ADDR & !(size - 1)).saturating_add(*size));
                    }
                }
                before = entry;
            } else {
                // Not present: no entry follows it.
                before = 0;
            }
        }
    }

    fn claim(&mut self, end: u64) {
        let place = if end <= GIB4 { &mut self.end_below_4g } else { &mut self.end_above_4g };
        *place = (*place).max(end);
    }

    /// Where `len` bytes of a PC's memory lie.
    fn pc(&self, len: u64, oddities: &mut Vec<String>) -> Vec<Piece> {
        let whole = vec![Piece { addr: 0, len, offset: 0 }];
        let smallest = ENDS_BELOW_4G.first().copied().unwrap_or(GIB4);
        if len <= smallest {
            return whole;
        }
        let known = ENDS_BELOW_4G.into_iter().find(|end| self.end_below_4g <= *end && *end <= len);
        let (Some(hole), true) = (known, self.end_above_4g > GIB4) else {
            if self.end_above_4g == 0 && len > GIB4 - (256 << 20) {
                oddities.push(
                    "raw memory of more than a PC has below 4 GiB, and no page tables that tell \
                     where the rest belongs; taken to have no hole; name it as FILE@ADDRESS \
                     otherwise"
                        .to_owned(),
                );
            }
            return whole;
        };
        // With the hole in the file the last byte is that of the machine, without it is as much
        // before that as the hole is large.
        let without = self.end_above_4g - GIB4 + hole;
        if len.abs_diff(self.end_above_4g) <= len.abs_diff(without) {
            return whole;
        }
        oddities.push(format!(
            "the kernel's page tables show that memory from file offset {hole:#x} on lies at 4 GiB"
        ));
        vec![
            Piece { addr: 0, len: hole, offset: 0 },
            Piece { addr: GIB4, len: len - hole, offset: hole },
        ]
    }
}

/// Whether what follows "Linux version " is what the kernel writes, and not the format of it.
fn is_banner(rest: &[u8]) -> bool {
    let line = rest.get(..200).unwrap_or(rest);
    line.first().is_some_and(u8::is_ascii_digit)
        && memchr::memmem::find(line, b" (").is_some()
        && line.iter().take(16).all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A table of large pages of `size`, from `addr` on.
    fn table(addr: u64, size: u64, count: u64) -> Vec<u8> {
        let entries = (0..512).map(|n| match n < count {
            true => (addr + n * size) | 0x8000_0000_0000_01e3,
            false => 0,
        });
        entries.flat_map(u64::to_le_bytes).collect()
    }

    fn evidence(tables: &[Vec<u8>]) -> Evidence {
        let mut found = Evidence::default();
        tables.iter().for_each(|table| found.look_at(table));
        found
    }

    fn layout(found: &Evidence, len: u64) -> Vec<(u64, u64, u64)> {
        let pieces = found.pc(len, &mut Vec::new());
        pieces.iter().map(|piece| (piece.addr, piece.len, piece.offset)).collect()
    }

    #[test]
    fn the_direct_map_tells_where_memory_was() {
        let tables = [
            table(GIB, 2 << 20, 512),
            table(2 * GIB, 2 << 20, 511),
            table(4 * GIB, 2 << 20, 512),
            table(5 * GIB, 2 << 20, 512),
        ];
        let found = evidence(&tables);
        assert_eq!((found.end_below_4g, found.end_above_4g), (3 * GIB - (2 << 20), 6 * GIB));
        // A memory file, and a file that was saved with the hole.
        assert_eq!(layout(&found, 5 * GIB), [(0, 3 * GIB, 0), (4 * GIB, 2 * GIB, 3 * GIB)]);
        assert_eq!(layout(&found, 6 * GIB), [(0, 6 * GIB, 0)]);
        assert_eq!(layout(&evidence(&tables[..1]), 2 * GIB), [(0, 2 * GIB, 0)]);
        // Not from the table's start on: the kernel's map starts at a random place.
        let moved = |table: Vec<u8>| [vec![0; 8 * 300], table[..8 * 212].to_vec()].concat();
        let gib_pages = evidence(&[moved(table(GIB, GIB, 2)), moved(table(4 * GIB, GIB, 3))]);
        assert_eq!((gib_pages.end_below_4g, gib_pages.end_above_4g), (3 * GIB, 7 * GIB));
    }

    #[test]
    fn other_pages_are_no_tables() {
        let noise: Vec<u8> =
            (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(evidence(&[noise, vec![0xff; 4096], vec![0; 4096]]), Evidence::default());
        // What the kernel was unpacked with, still in memory: 0x183.
        let boot = (0..512u64).map(|n| (3 << 30 | n << 21) | 0x183);
        assert_eq!(evidence(&[boot.flat_map(u64::to_le_bytes).collect()]), Evidence::default());
        // A few large pages of a process that happen to follow one another.
        assert_eq!(evidence(&[table(5 * GIB, 2 << 20, 20)]), Evidence::default());
    }

    #[test]
    fn a_banner_is_more_than_its_first_words() {
        assert!(is_banner(
            b"6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP"
        ));
        assert!(!is_banner(b"%s (%s@%s)"));
        assert!(!is_banner(b"6"));
        assert!(!is_banner(b""));
    }
}

//! What an ELF core can't say of the dump that it was made from, in notes of our own.
//!
//! Other readers pass over them: the owner is "KMORTEM", and no type is one that means registers.
//!
//! ```text
//! 0x4b4d0001  text, one KEY=value per line: format (1), kind, page_size; compression, filter_level,
//!             flattened, split_parts, why_incomplete where the original says them; and if it has
//!             the headers of kdump-compressed: sysname, nodename, release, version, machine,
//!             domainname, timestamp (SECONDS.MICROSECONDS), phys_base (hexadecimal), dump_level,
//!             max_mapnr, nr_cpus, current_cpu, incomplete, lacks_vmemmap
//! 0x4b4d0002  runs of RAM that the original was to have and has not: { start u64, end u64 }, bytes
//! 0x4b4d0003  the same of what is damaged in the original
//! 0x4b4d0004  eraseinfo
//! ```
//!
//! RAM that is in no such run and not in the file was filtered out, as in any ELF core.

use std::ops::Range;

use crate::codec::Codec;
use crate::dump_header::DumpHeader;
use crate::elf_note::Note;
use crate::info::{ContainerInfo, Utsname};
use crate::source::Fields;

/// Owner of the notes.
pub(crate) const OWNER: &str = "KMORTEM";

const TEXT: u32 = 0x4b4d_0001;
const LOST: u32 = 0x4b4d_0002;
const DAMAGED: u32 = 0x4b4d_0003;
const ERASEINFO: u32 = 0x4b4d_0004;

/// Runs in one note: 512 KiB.
const RUNS_IN_NOTE: usize = 32 << 10;
/// Runs beyond this are not taken: a million stretches of lost memory, 16 MiB.
const MAX_RUNS: usize = 1 << 20;

const CODECS: [Codec; 4] = [Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

/// The dump that this one was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What its container said of itself; no files.
    pub info: ContainerInfo,
    /// Size of its pages.
    pub page_size: u64,
    /// Its headers, if it was of a kind that has them.
    pub header: Option<DumpHeader>,
    /// RAM that it was to have and did not, ascending.
    pub lost: Vec<Range<u64>>,
    /// RAM whose bytes were damaged in it, ascending.
    pub damaged: Vec<Range<u64>>,
}

impl Origin {
    /// The notes that say it.
    pub(crate) fn to_notes(&self) -> Vec<Note> {
        let note = |kind, desc| Note { name: OWNER.to_owned(), kind, desc };
        let mut notes = vec![note(TEXT, self.text().into_bytes())];
        for (kind, runs) in [(LOST, &self.lost), (DAMAGED, &self.damaged)] {
            for part in runs.chunks(RUNS_IN_NOTE) {
                let bounds = part.iter().flat_map(|run| [run.start, run.end]);
                notes.push(note(kind, bounds.flat_map(u64::to_le_bytes).collect()));
            }
        }
        if let Some(header) = self.header.as_ref().filter(|header| !header.eraseinfo.is_empty()) {
            notes.push(note(ERASEINFO, header.eraseinfo.clone()));
        }
        notes
    }

    fn text(&self) -> String {
        let mut lines = Lines(String::new());
        let info = &self.info;
        lines.put("format", "1");
        lines.put("kind", &info.kind);
        lines.put("page_size", &self.page_size.to_string());
        let codecs: Vec<String> = info.compression.iter().map(ToString::to_string).collect();
        lines.put_some("compression", (!codecs.is_empty()).then(|| codecs.join(",")));
        lines.put_some("filter_level", info.filter_level.map(|level| level.to_string()));
        lines.put_flag("flattened", info.flattened);
        lines.put_some("split_parts", info.split_parts.map(|parts| parts.to_string()));
        lines.put_some("why_incomplete", info.incomplete.clone());
        let Some(header) = &self.header else { return lines.0 };
        let names = &header.utsname;
        for (key, value) in [
            ("sysname", &names.sysname),
            ("nodename", &names.nodename),
            ("release", &names.release),
            ("version", &names.version),
            ("machine", &names.machine),
            ("domainname", &names.domainname),
        ] {
            lines.put(key, value);
        }
        let (seconds, microseconds) = header.timestamp;
        lines.put("timestamp", &format!("{seconds}.{microseconds}"));
        lines.put("phys_base", &format!("{:x}", header.phys_base));
        lines.put("dump_level", &header.dump_level.to_string());
        lines.put("max_mapnr", &header.max_mapnr.to_string());
        lines.put("nr_cpus", &header.nr_cpus.to_string());
        lines.put("current_cpu", &header.current_cpu.to_string());
        lines.put_flag("incomplete", header.incomplete);
        lines.put_flag("lacks_vmemmap", header.lacks_vmemmap);
        lines.0
    }

    /// What the notes say, if any of them does.
    pub(crate) fn find(notes: &[Note]) -> Option<Origin> {
        let ours = || notes.iter().filter(|note| note.name == OWNER);
        let text = ours().find(|note| note.kind == TEXT)?;
        let text = String::from_utf8_lossy(&text.desc);
        let mut origin = Origin::parse_text(&text)?;
        for note in ours() {
            match note.kind {
                LOST => add_runs(&mut origin.lost, &note.desc),
                DAMAGED => add_runs(&mut origin.damaged, &note.desc),
                ERASEINFO => {
                    if let Some(header) = &mut origin.header {
                        header.eraseinfo.clone_from(&note.desc);
                    }
                }
                _ => {}
            }
        }
        Some(origin)
    }

    fn parse_text(text: &str) -> Option<Origin> {
        let get = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let number = |key: &str| get(key)?.parse::<u64>().ok();
        let page_size = number("page_size")?;
        if !page_size.is_power_of_two() || !(4096..=65536).contains(&page_size) {
            return None;
        }
        let codecs = get("compression").unwrap_or_default();
        let info = ContainerInfo {
            kind: get("kind")?,
            compression: CODECS
                .into_iter()
                .filter(|codec| codecs.split(',').any(|name| name == codec.to_string()))
                .collect(),
            filter_level: number("filter_level").and_then(|level| level.try_into().ok()),
            flattened: number("flattened") == Some(1),
            split_parts: number("split_parts").and_then(|parts| parts.try_into().ok()),
            incomplete: get("why_incomplete"),
            ..ContainerInfo::default()
        };
        let word = |key: &str| number(key).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let header = get("release").map(|release| {
            let name = |key: &str| get(key).unwrap_or_default();
            let time = get("timestamp").unwrap_or_default();
            let (seconds, microseconds) = time.split_once('.').unwrap_or((&time, "0"));
            DumpHeader {
                utsname: Utsname {
                    sysname: name("sysname"),
                    nodename: name("nodename"),
                    release,
                    version: name("version"),
                    machine: name("machine"),
                    domainname: name("domainname"),
                },
                timestamp: (seconds.parse().unwrap_or(0), microseconds.parse().unwrap_or(0)),
                phys_base: u64::from_str_radix(&name("phys_base"), 16).unwrap_or(0),
                dump_level: word("dump_level"),
                max_mapnr: number("max_mapnr").unwrap_or(0),
                nr_cpus: word("nr_cpus"),
                current_cpu: word("current_cpu"),
                incomplete: word("incomplete") == 1,
                lacks_vmemmap: word("lacks_vmemmap") == 1,
                eraseinfo: Vec::new(),
            }
        });
        Some(Origin { info, page_size, header, ..Origin::default() })
    }
}

/// Adds the runs of a note, up to the first that does not lie behind the one before it.
fn add_runs(runs: &mut Vec<Range<u64>>, desc: &[u8]) {
    for bounds in desc.chunks_exact(16) {
        let fields = Fields(bounds);
        let (Some(start), Some(end)) = (fields.u64(0), fields.u64(8)) else { return };
        if start >= end
            || runs.last().is_some_and(|last| start < last.end)
            || runs.len() == MAX_RUNS
        {
            return;
        }
        runs.push(start..end);
    }
}

/// Whether one of the ascending runs has the address.
pub(crate) fn contains(runs: &[Range<u64>], addr: u64) -> bool {
    runs.get(runs.partition_point(|run| run.end <= addr)).is_some_and(|run| run.start <= addr)
}

struct Lines(String);

impl Lines {
    /// A value is one line, whatever it holds.
    fn put(&mut self, key: &str, value: &str) {
        let value = value.replace(|c: char| c.is_control(), " ");
        self.0.push_str(&format!("{key}={value}\n"));
    }

    fn put_some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.put(key, &value);
        }
    }

    fn put_flag(&mut self, key: &str, flag: bool) {
        self.put_some(key, flag.then(|| "1".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(kind: u32, desc: &[u8]) -> Note {
        Note { name: OWNER.to_owned(), kind, desc: desc.to_vec() }
    }

    #[test]
    fn all_that_is_said_comes_back() {
        let origin = Origin {
            info: ContainerInfo {
                kind: "kdump-compressed v6".to_owned(),
                compression: vec![Codec::Lzo, Codec::Zstd],
                filter_level: Some(31),
                flattened: true,
                split_parts: Some(2),
                incomplete: Some("cut off".to_owned()),
                ..ContainerInfo::default()
            },
            page_size: 16384,
            header: Some(DumpHeader {
                utsname: Utsname {
                    sysname: "Linux".to_owned(),
                    release: "6.12=x".to_owned(),
                    domainname: "(none)".to_owned(),
                    ..Utsname::default()
                },
                timestamp: (1_795_371_000, 12),
                phys_base: 0xffff_ffff_ff00_0000,
                dump_level: 31,
                max_mapnr: 1 << 34,
                nr_cpus: 8192,
                current_cpu: 7,
                incomplete: true,
                lacks_vmemmap: true,
                eraseinfo: b"erase jiffies 8\n".to_vec(),
            }),
            lost: (0..100_000u64).map(|n| n << 13..(n << 13) + 4096).collect(),
            damaged: std::iter::once(4096..8192).collect(),
        };
        assert_eq!(Origin::find(&origin.to_notes()), Some(origin.clone()));
        let plain = Origin { header: None, ..origin };
        assert_eq!(Origin::find(&plain.to_notes()), Some(plain));
        assert_eq!(Origin::find(&[]), None);
    }

    #[test]
    fn runs_that_make_no_sense_end_the_list() {
        let text = note(TEXT, b"kind=ELF\npage_size=4096\n");
        let bounds: Vec<u8> =
            [0u64, 10, 20, 30, 25, 40, 50, 60].into_iter().flat_map(u64::to_le_bytes).collect();
        let origin = Origin::find(&[text, note(LOST, &bounds)]).unwrap();
        assert_eq!(origin.lost, [0..10, 20..30]);
        assert!(contains(&origin.lost, 29) && !contains(&origin.lost, 30));
        assert!(!contains(&origin.lost, 10) && contains(&origin.lost, 0));
    }

    #[test]
    fn a_value_can_not_add_a_line() {
        let mut origin = Origin { page_size: 4096, ..Origin::default() };
        origin.info.kind = "ELF\nflattened=1".to_owned();
        let back = Origin::find(&origin.to_notes()).unwrap();
        assert!(!back.info.flattened);
    }

    proptest! {
        #[test]
        fn any_text_and_any_runs_do_no_harm(text in any::<Vec<u8>>(), runs in any::<Vec<u8>>()) {
            let _ = Origin::find(&[note(TEXT, &text), note(LOST, &runs), note(ERASEINFO, &runs)]);
        }
    }
}

//! `pagecache`: which files the page cache holds.

use std::cmp::Reverse;
use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::page_cache::CachedFile;
use rayon::prelude::*;
use serde::Serialize;

use super::{failed, size};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "pagecache",
    summary: "lists the files that the page cache holds most of",
    arguments: "[TEXT]...",
    options: &[
        Opt::value('n', "COUNT", "this many files (20; 0: all)"),
        Opt::flag('d', "count pages that are not written yet, and list by them"),
        Opt::flag('s', "sums by file system"),
    ],
    details: "\
TEXT: only files whose path, file system or inode has it. Files of tmpfs and
shared memory are in the page cache, too: they can't be dropped, and -d leaves
them out. A file without
a name is deleted, or its name has been dropped from memory.",
    examples: &[
        ("", "the 20 files with most pages"),
        ("-n 5 bin", "five with `bin` in their path"),
        ("-d", "those with most pages that are not written yet"),
        ("-s", "by file system"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a file (pages; size in bytes)",
            members: "`inode` `mapping` `super_block` `fs_type` `device` `ino` `size` `pages` `links` `dirty` `path`",
        },
        Rows {
            options: "-s",
            row: "a file system",
            members: "`fs_type` `device` `super_block` `files` `pages`",
        },
    ],
    each: None,
    run,
};

/// Files shown unless told otherwise.
const SHOWN: usize = 20;

/// File systems that have nowhere to write their pages to: all of them are
/// marked dirty.
const IN_MEMORY: &[&str] = &["tmpfs", "devtmpfs", "shm", "ramfs", "rootfs", "hugetlbfs"];

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    file: CachedFile,
    dirty: Option<u64>,
    path: Option<String>,
}

/// A file system's part of the cache.
#[derive(Debug, Serialize)]
pub(super) struct Sum {
    pub(super) fs_type: String,
    pub(super) device: String,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    pub(super) super_block: u64,
    pub(super) files: u64,
    pub(super) pages: u64,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let count = match args.value('n').map(|word| (word, address::number(word))) {
        None => SHOWN,
        Some((_, Some(0))) => usize::MAX,
        Some((_, Some(count))) => count as usize,
        Some((word, None)) => {
            let what = format!("`{word}` is no number");
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
    };
    let (mut files, gaps) = kernel.cached_files().map_err(failed(COMMAND.name))?;
    if args.has('s') {
        let sums = sums(&files);
        match out.is_json() {
            true => out.rows(&sums)?,
            false => render_sums(out, &sums, kernel.page_size())?,
        }
        return super::note_gaps(out, [&gaps].into_iter());
    }
    files.sort_by_key(|file| (Reverse(file.pages), file.inode));
    let total: u64 = files.iter().map(|file| file.pages).sum();
    let all = files.len();
    let rows = choose(kernel, files, &args.words, count, args.has('d'));
    if out.is_json() {
        out.rows(&rows)?;
    } else {
        render(out, &rows, args.has('d'))?;
        let shown: u64 = rows.iter().map(|row| row.file.pages).sum();
        let bytes = size::bytes(total.saturating_mul(kernel.page_size()));
        writeln!(out, "{shown} of {total} pages ({bytes}), {} of {all} files", rows.len())?;
    }
    super::note_gaps(out, [&gaps].into_iter())
}

/// The first `count` files that have the words, in order. Paths and dirty pages
/// are looked up for as few as that takes.
fn choose(
    kernel: &Kernel,
    files: Vec<CachedFile>,
    words: &[String],
    count: usize,
    dirty: bool,
) -> Vec<Row> {
    let paths = kernel.inode_paths();
    let row = |file: CachedFile| {
        let path = kernel.inode_path(&paths, file.inode).ok().flatten();
        Row { file, dirty: None, path }
    };
    let has = |row: &Row| {
        words.is_empty()
            || words.iter().any(|word| {
                row.path.as_ref().is_some_and(|path| path.contains(word.as_str()))
                    || row.file.fs_type.contains(word.as_str())
                    || format!("{:x}", row.file.inode) == word.trim_start_matches("0x")
            })
    };
    if !dirty {
        return files.into_iter().map(row).filter(has).take(count).collect();
    }
    let mut rows: Vec<Row> = files
        .into_par_iter()
        .filter(|file| !IN_MEMORY.contains(&file.fs_type.as_str()))
        .filter_map(|file| {
            let dirty = kernel.dirty_pages(file.mapping).ok();
            (dirty != Some(0)).then(|| Row { dirty, ..row(file) })
        })
        .filter(has)
        .collect();
    rows.sort_by_key(|row| (Reverse(row.dirty), Reverse(row.file.pages), row.file.inode));
    rows.truncate(count);
    rows
}

/// The files by file system, most pages first.
pub(super) fn sums(files: &[CachedFile]) -> Vec<Sum> {
    let mut sums: Vec<Sum> = Vec::new();
    for file in files {
        match sums.iter_mut().find(|sum| sum.super_block == file.super_block) {
            Some(sum) => {
                sum.files += 1;
                sum.pages = sum.pages.saturating_add(file.pages);
            }
            None => sums.push(Sum {
                fs_type: file.fs_type.clone(),
                device: file.device.clone(),
                super_block: file.super_block,
                files: 1,
                pages: file.pages,
            }),
        }
    }
    sums.sort_by_key(|sum| (Reverse(sum.pages), sum.super_block));
    sums
}

fn render(out: &mut dyn Write, rows: &[Row], dirty: bool) -> io::Result<()> {
    let header = if dirty { "   DIRTY" } else { "" };
    writeln!(out, "   PAGES{header}        SIZE  INODE             TYPE      PATH")?;
    for Row { file, dirty: count, path } in rows {
        write!(out, "{:>8}", file.pages)?;
        if dirty {
            write!(out, "{:>8}", count.map_or("-".to_owned(), |count| count.to_string()))?;
        }
        let none = if file.links == Some(0) { "(deleted)" } else { "(no name in memory)" };
        writeln!(
            out,
            "{:>12}  {:016x}  {:<8}  {}",
            file.size,
            file.inode,
            file.fs_type,
            path.as_deref().unwrap_or(none)
        )?;
    }
    Ok(())
}

fn render_sums(out: &mut dyn Write, sums: &[Sum], page_size: u64) -> io::Result<()> {
    writeln!(out, "   PAGES        SIZE   FILES  SUPERBLOCK        TYPE      DEVICE")?;
    for sum in sums {
        writeln!(
            out,
            "{:>8}{:>12}{:>8}  {:016x}  {:<8}  {}",
            sum.pages,
            size::bytes(sum.pages.saturating_mul(page_size)),
            sum.files,
            sum.super_block,
            sum.fs_type,
            sum.device
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(super_block: u64, fs_type: &str, pages: u64, links: u32) -> CachedFile {
        CachedFile {
            inode: 0xff2e_5f7d_c139_d248,
            mapping: 0xff2e_5f7d_c139_d3c0,
            super_block,
            fs_type: fs_type.to_owned(),
            device: fs_type.to_owned(),
            ino: 7,
            size: 1_968_472,
            pages,
            links: Some(links),
        }
    }

    #[test]
    fn files_are_lines_with_their_pages() {
        let row =
            |file, dirty, path: Option<&str>| Row { file, dirty, path: path.map(str::to_owned) };
        let rows = [
            row(file(1, "rootfs", 481, 1), Some(3), Some("/bin/busybox")),
            row(file(2, "tmpfs", 16, 0), None, None),
            row(file(2, "ext4", 1, 1), Some(0), None),
        ];
        let mut text = Vec::new();
        render(&mut text, &rows, true).unwrap();
        render(&mut text, &rows[..1], false).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn file_systems_add_up() {
        let sums = sums(&[file(1, "tmpfs", 1, 1), file(2, "ext4", 9, 1), file(1, "tmpfs", 4, 1)]);
        let all: Vec<_> = sums.iter().map(|sum| (sum.super_block, sum.files, sum.pages)).collect();
        assert_eq!(all, [(2, 1, 9), (1, 2, 5)]);
    }
}

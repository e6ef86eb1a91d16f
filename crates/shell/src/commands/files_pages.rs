//! `files -c`, `files -p`, `files -d`: pages of files in memory, and a dentry.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::page::Page;
use kmortem_kernel::task::Task;
use kmortem_kernel::vfs::{DentryPlace, InodePages, OpenFile, TaskFiles};
use serde::Serialize;

use super::failed;
use super::files::COMMAND;
use crate::address;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// A row of JSON of `files -c`.
#[derive(Serialize)]
pub(super) struct CountsRow<'a> {
    #[serde(flatten)]
    pub(super) task: &'a Task,
    pub(super) files: Counts<'a>,
}

/// The open files of a task with their pages.
#[derive(Serialize)]
pub(super) struct Counts<'a> {
    root: &'a Option<String>,
    cwd: &'a Option<String>,
    list: Vec<CountedFile<'a>>,
    #[serde(skip)]
    gaps: Gaps,
}

/// An open file, and its pages in memory.
#[derive(Serialize)]
pub(super) struct CountedFile<'a> {
    #[serde(flatten)]
    file: &'a OpenFile,
    #[serde(serialize_with = "kmortem_kernel::stack::hex_option")]
    mapping: Option<u64>,
    pages: Option<u64>,
}

/// Looks up how many pages each of `files` has in memory.
pub(super) fn counts<'a>(kernel: &Kernel, files: &'a TaskFiles) -> Counts<'a> {
    let mut gaps = Gaps::default();
    let list = files.list.iter().map(|file| {
        let pages = file.inode.and_then(|inode| gaps.keep("pages", kernel.inode_pages(inode)));
        CountedFile {
            file,
            mapping: pages.as_ref().map(|pages| pages.mapping),
            pages: pages.map(|pages| pages.count),
        }
    });
    let list = list.collect();
    Counts { root: &files.root, cwd: &files.cwd, list, gaps }
}

/// The table of `-c`; `path` names a file.
pub(super) fn render_counts(
    out: &mut Output<'_>,
    counts: &Counts<'_>,
    path: impl Fn(&OpenFile) -> String,
) -> Result<(), CommandError> {
    if counts.list.is_empty() {
        writeln!(out, "No open files")?;
        return Ok(());
    }
    writeln!(out, " FD      INODE          I_MAPPING     NRPAGES TYPE PATH")?;
    for counted in &counts.list {
        writeln!(
            out,
            "{:>3} {:<16} {:<16} {:>7} {:<4} {}",
            counted.file.fd,
            hex(counted.file.inode),
            hex(counted.mapping),
            counted.pages.map_or("-".to_owned(), |pages| pages.to_string()),
            counted.file.kind.map_or("-", |kind| kind.crash_code()),
            path(counted.file)
        )?;
    }
    super::note_gaps(out, [&counts.gaps].into_iter())
}

fn hex(addr: Option<u64>) -> String {
    addr.map_or("-".to_owned(), |addr| format!("{addr:016x}"))
}

fn number(word: &str, what: &str) -> Result<u64, CommandError> {
    let usage = || CommandError::Usage {
        command: COMMAND.name,
        what: format!("`{word}` is no address of {what}"),
    };
    address::hex(word).ok_or_else(usage)
}

/// `files -d`: what is at a dentry.
pub(super) fn dentry(
    session: &Session,
    word: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let mounts = kernel.mounts().map_err(failed(COMMAND.name))?;
    let place = kernel.dentry_place(number(word, "a dentry")?, &mounts.list);
    let place = place.map_err(failed(COMMAND.name))?;
    match out.is_json() {
        true => out.row(&place)?,
        false => render_dentry(out, &place)?,
    }
    super::note_gaps(out, [&place.gaps].into_iter())
}

fn render_dentry(out: &mut dyn Write, place: &DentryPlace) -> io::Result<()> {
    writeln!(out, "     DENTRY           INODE           SUPERBLK     TYPE PATH")?;
    writeln!(
        out,
        "{:016x} {:<16} {:016x} {:<4} {}",
        place.dentry,
        hex(place.inode),
        place.super_block,
        place.kind.map_or("-", |kind| kind.crash_code()),
        place.path.as_deref().unwrap_or("-")
    )
}

/// A row of JSON of `files -p`. The index is that in the mapping: in a larger
/// page only the first record has one of its own.
#[derive(Serialize)]
struct PageRow<'a> {
    #[serde(flatten)]
    page: &'a Page,
}

/// `files -p`: the pages of an inode.
pub(super) fn pages(
    session: &Session,
    word: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let inode = number(word, "an inode")?;
    let inode = kernel.inode_pages(inode).map_err(failed(COMMAND.name))?;
    let entries = kernel.mapping_pages(inode.mapping).map_err(failed(COMMAND.name))?;
    let mut gaps = Gaps::default();
    if !out.is_json() {
        render_head(out, &inode)?;
    }
    let mut any = false;
    for entry in entries {
        let page = entry.and_then(|(_, page)| kernel.page_at(page));
        let Some(page) = gaps.keep("a page", page) else { continue };
        if out.is_json() {
            out.row(&PageRow { page: &page })?;
            continue;
        }
        if !std::mem::replace(&mut any, true) {
            writeln!(out, "\n      PAGE       PHYSICAL      MAPPING       INDEX CNT FLAGS")?;
        }
        render_page(out, &page)?;
    }
    super::note_gaps(out, [&gaps].into_iter())
}

fn render_head(out: &mut dyn Write, inode: &InodePages) -> io::Result<()> {
    writeln!(out, "     INODE        NRPAGES")?;
    writeln!(out, "{:016x} {:>8}", inode.inode, inode.count)
}

fn render_page(out: &mut dyn Write, page: &Page) -> io::Result<()> {
    writeln!(
        out,
        "{:016x} {:>8x} {:016x} {:>8x} {:>2} {:x} {}",
        page.addr,
        page.phys,
        page.mapping,
        page.index,
        page.refcount,
        page.flags,
        page.flag_names.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::page::PageUse;
    use kmortem_kernel::vfs::FileKind;

    #[test]
    fn pages_and_dentries_have_their_columns() {
        let page = Page {
            addr: 0xffe8_05bc_000e_ef00,
            phys: 0x3bb_c000,
            head: 0xffe8_05bc_000e_ef00,
            usage: PageUse::File,
            flags: 0xf_ffff_d000_4038,
            flag_names: ["uptodate", "dirty", "lru"].map(str::to_owned).to_vec(),
            refcount: 2,
            mapping: 0xff12_8a83_4151_e718,
            index: 4,
        };
        let place = DentryPlace {
            dentry: 0xff12_8a83_4156_4540,
            inode: None,
            super_block: 0xff12_8a83_4258_f800,
            kind: Some(FileKind::Regular),
            path: Some("/srv/dirty".to_owned()),
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render_head(&mut text, &InodePages { inode: page.mapping, mapping: 0, count: 5 }).unwrap();
        render_page(&mut text, &page).unwrap();
        render_dentry(&mut text, &place).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

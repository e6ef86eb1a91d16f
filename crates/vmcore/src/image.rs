//! A dump as physical memory.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::beside;
use crate::codec;
use crate::container::{self, Container, Input, OpenOptions, Stored};
use crate::cpu::{self, CpuState};
use crate::dump_header::DumpHeader;
use crate::elf_note::Note;
use crate::error::{Absent, OpenError, ReadError};
use crate::info::{Completeness, ContainerInfo};
#[cfg(unix)]
use crate::live;
use crate::machine_frames::MachineFrames;
use crate::mmap::MappedFile;
use crate::origin::Origin;
use crate::page_cache::{self, PageCache};
use crate::source::Source;
use crate::vmcoreinfo::VmcoreInfo;
use crate::xen_host::{self, XenHost};

/// Reads of this many bytes and more don't go through the map.
const BULK: usize = 1024;

/// A dump, opened. Cheap to open: reads headers and notes, nothing more. Threads share it.
pub struct Image {
    container: Box<dyn Container>,
    info: ContainerInfo,
    notes: Vec<Note>,
    cpus: Vec<CpuState>,
    vmcoreinfo: Option<VmcoreInfo>,
    machine_frames: Option<MachineFrames>,
    xen_host: Option<XenHost>,
    page_size: u64,
    ram: OnceLock<Vec<Range<u64>>>,
    cache: PageCache,
}

/// The bytes of one page: borrowed from the mapped file, or shared with the cache.
#[derive(Debug, Clone)]
pub struct Page<'a>(Bytes<'a>);

#[derive(Debug, Clone)]
enum Bytes<'a> {
    Mapped(&'a [u8]),
    Cached(Arc<[u8]>),
}

impl Deref for Page<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(bytes) => bytes,
            Bytes::Cached(bytes) => bytes,
        }
    }
}

impl Image {
    /// Opens a dump: one file, or all parts of a split one in any order. Of a hypervisor's snapshot
    /// one file is enough where the others have its name, or their folder.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Image, OpenError> {
        Image::open_with(paths, &OpenOptions::default())
    }

    /// Opens a dump as [`Image::open`] does, with a say in what takes time and room.
    pub fn open_with<P: AsRef<Path>>(
        paths: &[P],
        options: &OpenOptions<'_>,
    ) -> Result<Image, OpenError> {
        let paths: Vec<PathBuf> = match paths {
            [only] => beside::complete(only.as_ref()),
            several => several.iter().map(|path| path.as_ref().to_owned()).collect(),
        };
        let mut inputs = Vec::with_capacity(paths.len());
        for path in &paths {
            let (path, base) = with_address(path);
            let name = path.display().to_string();
            match open_file(&path) {
                Ok(source) => inputs.push(Input { name, source, base }),
                Err(source) => return Err(OpenError::Io { name, source }),
            }
        }
        Image::from_inputs(inputs, options)
    }

    /// Opens a dump from sources, each with the name that errors give it.
    pub fn from_sources(sources: Vec<(String, Arc<dyn Source>)>) -> Result<Image, OpenError> {
        Image::from_sources_with(sources, &OpenOptions::default())
    }

    /// Opens a dump as [`Image::from_sources`] does, with a say in what takes time and room.
    pub fn from_sources_with(
        sources: Vec<(String, Arc<dyn Source>)>,
        options: &OpenOptions<'_>,
    ) -> Result<Image, OpenError> {
        let input = |(name, source)| Input { name, source, base: None };
        Image::from_inputs(sources.into_iter().map(input).collect(), options)
    }

    fn from_inputs(inputs: Vec<Input>, options: &OpenOptions<'_>) -> Result<Image, OpenError> {
        let opened = container::open(inputs, options)?;
        let vmcoreinfo = match opened.vmcoreinfo {
            Some(text) => Some(VmcoreInfo::parse(&text)),
            None => opened
                .notes
                .iter()
                .find(|note| note.name == "VMCOREINFO")
                .map(|note| VmcoreInfo::parse(&note.desc)),
        };
        let cpus = match opened.cpus.is_empty() {
            true => cpu::parse_cpus(&opened.notes),
            false => opened.cpus,
        };
        let page_size = opened.container.page_size();
        let image = Image {
            cpus,
            machine_frames: MachineFrames::find(&opened.notes),
            xen_host: None,
            container: opened.container,
            info: opened.info,
            notes: opened.notes,
            vmcoreinfo,
            page_size,
            ram: OnceLock::new(),
            cache: PageCache::new(page_cache::DEFAULT_BYTES, page_size),
        };
        match xen_host::is_host(&image.notes) && !options.whole_machine {
            true => Ok(xen_host::open(image)),
            false => Ok(image),
        }
    }

    /// A domain of a machine that a hypervisor ran.
    pub(crate) fn of_domain(
        container: Box<dyn Container>,
        info: ContainerInfo,
        notes: Vec<Note>,
        host: XenHost,
    ) -> Image {
        let page_size = container.page_size();
        Image {
            container,
            info,
            notes,
            cpus: Vec::new(),
            vmcoreinfo: host.machine().vmcoreinfo.clone(),
            machine_frames: None,
            xen_host: Some(host),
            page_size,
            ram: OnceLock::new(),
            cache: PageCache::new(page_cache::DEFAULT_BYTES, page_size),
        }
    }

    pub(crate) fn with_oddity(mut self, oddity: String) -> Image {
        self.info.oddities.push(oddity);
        self
    }

    pub(crate) fn with_kind(mut self, kind: String) -> Image {
        self.info.kind = kind;
        self
    }

    pub(crate) fn container(&self) -> &dyn Container {
        &*self.container
    }

    /// Bounds the cache of decompressed pages (16 MiB unless told otherwise), and empties it.
    pub fn set_cache_bytes(&self, bytes: u64) {
        self.cache.resize(bytes, self.page_size);
    }

    /// What the container says about itself.
    pub fn info(&self) -> &ContainerInfo {
        &self.info
    }

    /// VMCOREINFO as the container carries it.
    pub fn vmcoreinfo(&self) -> Option<&VmcoreInfo> {
        self.vmcoreinfo.as_ref()
    }

    /// ELF notes of the container.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The CPUs, in the order of the notes.
    pub fn cpus(&self) -> &[CpuState] {
        &self.cpus
    }

    /// Size of the container's pages.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Physical ranges that were RAM as far as the container says, sorted and merged.
    pub fn ram(&self) -> &[Range<u64>] {
        self.ram.get_or_init(|| self.container.ram())
    }

    /// The page that contains the physical address `addr`.
    pub fn page(&self, addr: u64) -> Result<Page<'_>, Absent> {
        let start = addr & !(self.page_size - 1);
        let number = start / self.page_size;
        if let Some(page) = self.cache.get(number) {
            return Ok(Page(Bytes::Cached(page)));
        }
        let page: Arc<[u8]> = match self.container.locate(start)? {
            Stored::Raw { source, offset } => {
                match source.bytes(offset, self.page_size as usize)? {
                    Cow::Borrowed(bytes) => return Ok(Page(Bytes::Mapped(bytes))),
                    Cow::Owned(bytes) => bytes.into(),
                }
            }
            Stored::Assembled(bytes) => bytes.into(),
            Stored::Compressed(codec, data) => {
                let mut page: Arc<[u8]> = std::iter::repeat_n(0, self.page_size as usize).collect();
                // The Arc is new, so this is always Some.
                if let Some(bytes) = Arc::get_mut(&mut page) {
                    codec::decompress(codec, &data, bytes).map_err(Absent::corrupt)?;
                }
                page
            }
        };
        self.cache.insert(number, Arc::clone(&page));
        Ok(Page(Bytes::Cached(page)))
    }

    /// Fills `buf` from the physical address `addr` on, across pages. On an error `buf` holds what
    /// lies before the address in it.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let in_page = (at % self.page_size) as usize;
            let want = rest.len().min(self.page_size as usize - in_page);
            let (head, tail) = rest.split_at_mut(want);
            if want >= BULK && self.copy_raw(at, head) {
                rest = tail;
                at = at.saturating_add(want as u64);
                continue;
            }
            match self.page(at) {
                Ok(page) => match page.get(in_page..in_page + want) {
                    Some(bytes) => head.copy_from_slice(bytes),
                    None => {
                        let reason = Absent::corrupt("page is shorter than it should be");
                        return Err(ReadError { addr: at, reason });
                    }
                },
                Err(reason) => self.read_part(at, head, reason)?,
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
            at = at
                .checked_add(want as u64)
                .ok_or(ReadError { addr: at, reason: Absent::NotRam })?;
        }
        Ok(())
    }

    /// Fills `buf` from the physical address `addr` on as [`Image::read`] does, past the cache: for
    /// who reads all of the memory once.
    pub fn read_uncached(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr
                .checked_add(done as u64)
                .ok_or(ReadError { addr: u64::MAX, reason: Absent::NotRam })?;
            if let Some((source, offset, len)) = self.container.raw_run(at, rest.len() as u64) {
                let len = (len as usize).min(rest.len());
                if len > 0 && source.copy_to(offset, &mut rest[..len]).is_ok() {
                    done += len;
                    continue;
                }
            }
            let in_page = (at % self.page_size) as usize;
            let want = rest.len().min(self.page_size as usize - in_page);
            self.read_page(at - in_page as u64, in_page, &mut rest[..want])
                .or_else(|reason| self.read_part(at, &mut rest[..want], reason))?;
            done += want;
        }
        Ok(())
    }

    /// Fills `buf` from the page at `start`, from `in_page` on.
    fn read_page(&self, start: u64, in_page: usize, buf: &mut [u8]) -> Result<(), Absent> {
        match self.container.locate(start)? {
            Stored::Raw { source, offset } => Ok(source.copy_to(offset + in_page as u64, buf)?),
            Stored::Compressed(codec, data) if buf.len() as u64 == self.page_size => {
                codec::decompress(codec, &data, buf).map_err(Absent::corrupt)
            }
            Stored::Compressed(codec, data) => {
                let mut page = vec![0; self.page_size as usize];
                codec::decompress(codec, &data, &mut page).map_err(Absent::corrupt)?;
                buf.copy_from_slice(&page[in_page..in_page + buf.len()]);
                Ok(())
            }
            Stored::Assembled(page) => match page.get(in_page..in_page + buf.len()) {
                Some(bytes) => {
                    buf.copy_from_slice(bytes);
                    Ok(())
                }
                None => Err(Absent::corrupt("page is shorter than it should be")),
            },
        }
    }

    /// Whether the file has what the index says of the page that contains `addr`. Damage shows
    /// only when it is read.
    pub fn lookup(&self, addr: u64) -> Result<(), Absent> {
        self.container.locate(addr & !(self.page_size - 1)).map(drop)
    }

    /// Fills `buf` from one page, if that is stored as it is, without mapping it: what is read in
    /// bulk is read once, and each touch of a mapped file keeps 64 KiB of it resident.
    fn copy_raw(&self, addr: u64, buf: &mut [u8]) -> bool {
        let start = addr & !(self.page_size - 1);
        match self.container.locate(start) {
            Ok(Stored::Raw { source, offset }) => {
                source.copy_to(offset + (addr - start), buf).is_ok()
            }
            _ => false,
        }
    }

    /// Fills `buf` from a page that isn't there as a whole.
    fn read_part(&self, addr: u64, buf: &mut [u8], reason: Absent) -> Result<(), ReadError> {
        let bytes = self.container.part(addr, buf.len()).unwrap_or_default();
        let got = bytes.len().min(buf.len());
        buf[..got].copy_from_slice(&bytes[..got]);
        if got == buf.len() {
            return Ok(());
        }
        Err(ReadError { addr: addr.saturating_add(got as u64), reason })
    }

    /// Runs of physical memory that the dump has, as far as its index says, in ascending order and
    /// in whole pages. A page of a run may still turn out lost or damaged.
    pub fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        self.container.present()
    }

    /// As [`Image::present`], with the parts of pages that an ELF core may have.
    pub fn extents(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        self.container.extents()
    }

    /// As [`Image::ram`], read as it goes: a bitmap may have very many runs.
    pub fn ram_runs(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        self.container.ram_runs().unwrap_or_else(|| Box::new(self.ram().iter().cloned()))
    }

    /// Runs of RAM with the virtual address each is mapped at, as far as the container says.
    pub fn mapped(&self) -> Vec<(Range<u64>, u64)> {
        self.container.mapped()
    }

    /// The container's headers, if it is of a kind that has them or was made from one.
    pub fn header(&self) -> Option<&DumpHeader> {
        self.container.header()
    }

    /// The dump that this one was made from, if it says so.
    pub fn origin(&self) -> Option<&Origin> {
        self.container.origin()
    }

    /// Where the guest's frames lie in the machine, if its page tables hold those: a paravirtual
    /// guest of Xen's.
    pub fn machine_frames(&self) -> Option<&MachineFrames> {
        self.container.machine_frames().or(self.machine_frames.as_ref())
    }

    /// Whether this is all memory of a machine that Xen ran on, with that of several kernels.
    pub fn is_xen_host(&self) -> bool {
        xen_host::is_host(&self.notes)
    }

    /// The machine and its hypervisor, where this is the memory of dom0 alone.
    pub fn xen_host(&self) -> Option<&XenHost> {
        self.xen_host.as_ref()
    }

    /// The physical address of what an entry of a page table, or CR3, has the address `entry` of.
    /// None: it is a machine's memory that is not the guest's own.
    pub fn physical(&self, entry: u64) -> Option<u64> {
        match self.machine_frames() {
            Some(frames) => frames.guest_address(entry),
            None => Some(entry),
        }
    }

    /// How much of the machine's memory the dump has.
    pub fn completeness(&self) -> Completeness {
        let mut completeness = self.container.completeness();
        if completeness.incomplete.is_none() {
            completeness.incomplete.clone_from(&self.info.incomplete);
        }
        completeness
    }
}

/// A path, and the address behind it: `FILE@0x100000000`, unless there is a file of that name.
fn with_address(path: &Path) -> (Cow<'_, Path>, Option<u64>) {
    let whole = (Cow::Borrowed(path), None);
    let Some((file, addr)) = path.to_str().and_then(|text| text.rsplit_once('@')) else {
        return whole;
    };
    let number = match addr.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => addr.parse(),
    };
    match number {
        Ok(addr) if !path.exists() => (Cow::Owned(file.into()), Some(addr)),
        _ => whole,
    }
}

fn open_file(path: &Path) -> std::io::Result<Arc<dyn Source>> {
    #[cfg(unix)]
    if live::is_live(path) {
        return Ok(Arc::new(live::LiveCore::open(path)?));
    }
    Ok(Arc::new(MappedFile::open(path)?))
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("info", &self.info).finish_non_exhaustive()
    }
}

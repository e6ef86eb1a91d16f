//! User memory of a process, read through its own page tables.
//!
//! `mm_struct.pgd` is the direct-map address of the top table. Makedumpfile's
//! usual filters drop user pages: then every read says so.

use crate::Kernel;
use crate::arch::{PageTables, WalkError};
use crate::error::{Error, Fault, Result};
use crate::mm::MmLayout;
use crate::task::Task;
use crate::translation::EntryMeaning;

/// The address space of a process.
pub struct UserSpace<'k> {
    kernel: &'k Kernel,
    tables: PageTables,
}

impl Kernel {
    /// The user memory of a task.
    pub fn user_space(&self, task: &Task) -> Result<UserSpace<'_>> {
        if task.mm == 0 {
            return Err(Error::Unavailable(format!("{} has no user memory", task.comm)));
        }
        self.user_space_of(task.mm)
    }

    /// The user memory of the `struct mm_struct` at `mm`.
    pub fn user_space_of(&self, mm: u64) -> Result<UserSpace<'_>> {
        let pgd = self.layout::<MmLayout>()?.pgd.read(self, mm)?;
        let root = self.space().translate(pgd)?;
        let tables = self.space().tables().of_user(root);
        Ok(UserSpace { kernel: self, tables })
    }
}

/// Where a page of user memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserPage {
    /// In memory, at this physical address.
    Present(u64),
    /// In swap area number `area`, as its page `offset`.
    Swapped {
        /// Number of the area (`swap_info[]`); numbers behind the last area
        /// mean migration, device memory and the like.
        area: u32,
        /// Page in the area.
        offset: u64,
    },
    /// Never touched, or to be read from its file again.
    None,
}

impl UserSpace<'_> {
    /// Where the page at `addr` is.
    pub fn page(&self, addr: u64) -> Result<UserPage> {
        self.run(addr).0
    }

    /// Where `addr` is, and for how many bytes from there on that holds: to the
    /// end of what one entry of the page tables stands for.
    pub fn run(&self, addr: u64) -> (Result<UserPage>, u64) {
        let rest = |size: u64| size - (addr & (size - 1));
        match self.tables.walk(self.kernel.image(), addr) {
            Ok(mapping) => (Ok(UserPage::Present(mapping.phys)), rest(mapping.page_size)),
            Err(WalkError::NotPresent { level: 1, entry }) if entry != 0 => {
                let page = match self.kernel.arch().entry_meaning(self.kernel, entry) {
                    EntryMeaning::Swap { area, offset } => UserPage::Swapped { area, offset },
                    EntryMeaning::Empty | EntryMeaning::Page { .. } => UserPage::None,
                };
                (Ok(page), rest(self.tables.page_size()))
            }
            Err(WalkError::NotPresent { level, .. }) => {
                (Ok(UserPage::None), rest(1 << self.tables.shift(level)))
            }
            Err(e) => (Err(Error::Read { addr, fault: e.into() }), rest(self.tables.page_size())),
        }
    }

    /// Physical address of a user virtual one.
    pub fn translate(&self, addr: u64) -> Result<u64> {
        let walk = self.tables.walk(self.kernel.image(), addr);
        walk.map(|mapping| mapping.phys).map_err(|e| Error::Read { addr, fault: e.into() })
    }

    /// Fills `buf` from user virtual memory at `addr`.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = addr
                .checked_add(done as u64)
                .ok_or(Error::Read { addr, fault: Fault::NonCanonical })?;
            let n = ((4096 - (at & 0xfff)) as usize).min(buf.len() - done);
            let phys = self.translate(at)?;
            self.kernel.image().read(phys, &mut buf[done..done + n]).map_err(|e| Error::Read {
                addr: at,
                fault: Fault::Absent { phys, reason: e.reason },
            })?;
            done += n;
        }
        Ok(())
    }
}

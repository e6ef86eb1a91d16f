//! Unwind rules for an address: the kernel's table or its module's.

use kmortem_debuginfo::orc::{OrcEntry, OrcTable};

use crate::Kernel;
use crate::error::{Error, Result};

impl Kernel {
    /// The unwind rule for code at `pc`, from the tables of the kernel
    /// (`__start_orc_unwind_ip`, ...) or of the module that `pc` is in.
    pub(crate) fn orc_at(&self, pc: u64) -> Result<Option<OrcEntry>> {
        self.rules.get(pc, || self.find_rule(pc))
    }

    fn find_rule(&self, pc: u64) -> Result<Option<OrcEntry>> {
        let own = self.orc()?;
        let table = match self.module_at(pc) {
            Some(module) => match module.orc {
                Some((ip, entries, count)) if module.is_text(pc) => {
                    OrcTable { ip, entries, count, layout: own.layout }
                }
                _ => return Ok(None),
            },
            None if self.space().image_range().contains(&pc) => *own,
            None => return Ok(None),
        };
        table.lookup(self.space(), pc).map_err(|e| {
            let (addr, reason) = (e.addr, e.reason);
            Error::Unavailable(format!("unwind rules at {addr:#x} can't be read: {reason}"))
        })
    }

    fn orc(&self) -> Result<&OrcTable> {
        self.orc.get_or_init(|| open_table(self)).as_ref().map_err(Clone::clone)
    }
}

fn open_table(kernel: &Kernel) -> Result<OrcTable> {
    let none = |_| Error::Unavailable("this kernel was built without ORC unwind rules".into());
    let ip = kernel.symbol("__start_orc_unwind_ip").map_err(none)?;
    let count = kernel.symbol("__stop_orc_unwind_ip").map_err(none)?.saturating_sub(ip) / 4;
    let entries = kernel.symbol("__start_orc_unwind").map_err(none)?;
    let ty = kernel.ty("orc_entry").ok();
    OrcTable::open(kernel.space(), ip, entries, count, ty)
        .map_err(|e| Error::Unavailable(format!("the unwind rules can't be used: {e}")))
}

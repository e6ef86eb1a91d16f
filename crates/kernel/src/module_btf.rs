//! Types that modules bring along.
//!
//! `btf_modules` (kernel/bpf/btf.c, since v5.11, 36e68442d1af) is a list of `struct btf_module`, one
//! for each loaded module that has BTF. `btf->data` there continues vmlinux's types, and has been
//! fitted to them where the module came with a digest of its own base (`.BTF.base`, since v6.11);
//! `module->btf_data` is gone once the module is up.

use std::sync::Arc;

use kmortem_debuginfo::btf::{Btf, Type};

use crate::error::{Error, Result};
use crate::layout::{Embedded, Layout};
use crate::{Kernel, layout};

layout! {
    /// `struct btf_module`, kernel/bpf/btf.c
    pub struct BtfModuleLayout for "btf_module" {
        list: Embedded = "list",
        module: u64 = "module",
        btf: u64 = "btf",
    }
}

layout! {
    /// `struct btf`, kernel/bpf/btf.c
    pub struct BtfLayout for "btf" {
        data: u64 = "data",
        data_size: u32 = "data_size",
    }
}

/// A module's BTF is believed up to this size.
const LARGEST: u32 = 64 << 20;
/// More modules than this are none.
const MOST_MODULES: usize = 1 << 14;

/// The types of one module.
pub struct ModuleTypes {
    /// Address of its `struct module`.
    pub module: u64,
    /// Its types, on top of vmlinux's.
    pub btf: Arc<Btf>,
}

impl Kernel {
    /// The types of all modules that have some, read at the first question. What can't be read of
    /// them is as if it were not there: vmlinux's types answer without.
    pub fn module_types(&self) -> &[ModuleTypes] {
        self.module_types.get_or_init(|| self.read_module_types().unwrap_or_default())
    }

    fn read_module_types(&self) -> Result<Vec<ModuleTypes>> {
        // Not by `Kernel::layout`: what vmlinux does not have it would look for here.
        let layout = self.own_layout::<BtfModuleLayout>()?;
        let head = self.symbol("btf_modules")?;
        let entries: Vec<u64> = self
            .list(head, layout.list.offset()?, "the list of modules' types")
            .take(MOST_MODULES)
            .map_while(Result::ok)
            .collect();
        let read = |entry: &u64| self.read_types_of_module(&layout, *entry).ok();
        // On one thread: one that waits here for others could be given work that waits for this.
        Ok(entries.iter().filter_map(read).collect())
    }

    /// The members of a struct of vmlinux.
    fn own_layout<L: Layout>(&self) -> Result<L> {
        let ty = self.btf()?.find(L::TYPE).ok_or_else(|| Error::NoType(L::TYPE.to_owned()))?;
        Ok(L::resolve(ty))
    }

    fn read_types_of_module(&self, layout: &BtfModuleLayout, entry: u64) -> Result<ModuleTypes> {
        let btf = self.own_layout::<BtfLayout>()?;
        let at = layout.btf.read(self, entry)?;
        let len = btf.data_size.read(self, at)?;
        if len > LARGEST {
            return Err(Error::corrupt(format!("the size ({len}) of a module's types"), at));
        }
        let data = self.read_bytes(btf.data.read(self, at)?, u64::from(len))?;
        let parsed = Btf::parse_split(data, self.btf()?);
        let parsed = parsed.map_err(|e| Error::NoTypes(format!("a module's: {e}")))?;
        Ok(ModuleTypes { module: layout.module.read(self, entry)?, btf: Arc::new(parsed) })
    }

    /// The type `name` of a module.
    pub(crate) fn type_of_modules(&self, name: &str) -> Option<Type<'_>> {
        self.module_types().iter().find_map(|module| module.btf.find(name))
    }

    /// The type of a module's variable or function.
    pub(crate) fn type_of_module_symbol(&self, name: &str) -> Option<Type<'_>> {
        let find = |btf: &'_ Arc<Btf>| btf.variable(name).is_some() || btf.function(name).is_some();
        let module = self.module_types().iter().find(|module| find(&module.btf))?;
        module.btf.variable(name).or_else(|| module.btf.function(name))
    }
}

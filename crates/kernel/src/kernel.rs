//! One opened kernel: its memory, symbols and types.

use std::any::{Any, TypeId};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kmortem_debuginfo::btf::{Btf, Type};
use kmortem_debuginfo::kallsyms::{Kallsyms, Tables};
use kmortem_debuginfo::orc::{OrcEntry, OrcTable};
use kmortem_vmcore::{Image, VmcoreInfo};
use rustc_hash::FxHashMap;

use crate::arch::{self, Architecture, CpuStack, Located, Registers};
use crate::code_cache::CodeCache;
use crate::data_symbols::DataSymbols;
use crate::error::{Error, OpenError, Result};
use crate::layout::Layout;
use crate::module::ModuleTable;
use crate::module_btf::ModuleTypes;
use crate::object::Object;
use crate::space::AddressSpace;
use crate::symbol::SymbolAt;
use crate::task::TaskTable;

/// Largest BTF that is believed (vmlinux's is 4 to 12 MiB).
const LARGEST_BTF: u64 = 256 << 20;

/// A dead kernel. `Sync`: questions may be asked from many threads.
pub struct Kernel {
    image: Arc<Image>,
    arch: &'static dyn Architecture,
    space: AddressSpace,
    how_found: String,
    vmcoreinfo: Option<VmcoreInfo>,
    kallsyms: std::result::Result<Kallsyms, String>,
    btf: OnceLock<Result<Arc<Btf>>>,
    layouts: Mutex<FxHashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    pub(crate) data_symbols: OnceLock<Option<DataSymbols>>,
    pub(crate) modules: OnceLock<Result<ModuleTable>>,
    pub(crate) module_types: OnceLock<Vec<ModuleTypes>>,
    pub(crate) tasks: OnceLock<Result<TaskTable>>,
    pub(crate) cpu_stacks: OnceLock<Vec<CpuStack>>,
    pub(crate) cpu_registers: OnceLock<Vec<(u32, Registers)>>,
    pub(crate) thread_size: OnceLock<Result<u64>>,
    pub(crate) orc: OnceLock<Result<OrcTable>>,
    pub(crate) per_cpu: OnceLock<Result<Vec<(u32, u64)>>>,
    pub(crate) rules: CodeCache<Option<OrcEntry>>,
    pub(crate) frame_symbols: CodeCache<Option<SymbolAt>>,
}

impl Kernel {
    /// Opens the dump in `paths` (several files: the parts of a split dump).
    pub fn open_files<P: AsRef<Path>>(paths: &[P]) -> Result<Kernel, OpenError> {
        Kernel::open(Image::open(paths)?)
    }

    /// Finds the kernel in `image` and reads its symbols.
    pub fn open(image: Image) -> Result<Kernel, OpenError> {
        let image = Arc::new(image);
        let (arch, located) = arch::locate(&image)?;
        let Located { tables, image_offset, vmcoreinfo, image_range, how } = located;
        let space = AddressSpace::new(image.clone(), tables, image_range, image_offset);
        // VMCOREINFO proves that this is a kernel and names a few symbols: a
        // dump that lost the symbol table still yields what hangs on those.
        let kallsyms = match (load_kallsyms(&space, vmcoreinfo.as_ref()), &vmcoreinfo) {
            (Ok(kallsyms), _) => Ok(kallsyms),
            (Err(why), Some(_)) => Err(why),
            (Err(why), None) => return Err(OpenError::NoSymbols(why)),
        };
        let mut kernel = Kernel {
            image,
            arch,
            space,
            how_found: how,
            vmcoreinfo,
            kallsyms,
            btf: OnceLock::new(),
            layouts: Mutex::default(),
            data_symbols: OnceLock::new(),
            modules: OnceLock::new(),
            module_types: OnceLock::new(),
            tasks: OnceLock::new(),
            cpu_stacks: OnceLock::new(),
            cpu_registers: OnceLock::new(),
            thread_size: OnceLock::new(),
            orc: OnceLock::new(),
            per_cpu: OnceLock::new(),
            rules: CodeCache::default(),
            frame_symbols: CodeCache::default(),
        };
        if let Some(map) = arch.direct_map(&kernel) {
            kernel.space.set_direct_map(map);
        }
        if kernel.vmcoreinfo.is_none() {
            kernel.vmcoreinfo = kernel.own_vmcoreinfo().ok().flatten();
        }
        Ok(kernel)
    }

    /// The VMCOREINFO that the kernel keeps for itself in `vmcoreinfo_data`.
    fn own_vmcoreinfo(&self) -> Result<Option<VmcoreInfo>> {
        let data = self.read_u64(self.symbol("vmcoreinfo_data")?)?;
        let mut page = vec![0; 4096];
        self.read(data, &mut page)?;
        Ok(VmcoreInfo::find_in(&page))
    }

    /// The dump.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Bytes of the smallest page. A container may count in other pages.
    pub fn page_size(&self) -> u64 {
        self.space.tables().page_size()
    }

    /// What is particular to the processors that ran this kernel.
    pub fn arch(&self) -> &'static dyn Architecture {
        self.arch
    }

    /// Kernel virtual memory.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The switch that ends work early: while it is set every read of kernel
    /// memory fails, so that whatever walks or scans comes to its end. May be
    /// set from another thread or a signal's handler.
    pub fn interrupt(&self) -> Arc<AtomicBool> {
        self.space.interrupt().clone()
    }

    /// Whether the work should end. For loops that read physical memory.
    pub fn is_interrupted(&self) -> bool {
        self.space.interrupt().load(Ordering::Relaxed)
    }

    /// How the kernel was found in memory, for people.
    pub fn how_found(&self) -> &str {
        &self.how_found
    }

    /// VMCOREINFO: the container's, else the copy in the kernel's memory.
    pub fn vmcoreinfo(&self) -> Option<&VmcoreInfo> {
        self.vmcoreinfo.as_ref()
    }

    /// The kernel's own symbol table (modules' symbols are with the modules).
    pub fn kallsyms(&self) -> Result<&Kallsyms> {
        self.kallsyms.as_ref().map_err(|why| {
            Error::Unavailable(format!("the kernel's symbol table (kallsyms) can't be read: {why}"))
        })
    }

    /// By how much KASLR moved the kernel's image, in bytes.
    pub fn kaslr_offset(&self) -> Option<u64> {
        if let Some(offset) = self.vmcoreinfo.as_ref().and_then(|v| v.kernel_offset()) {
            return Some(offset);
        }
        self.arch.kaslr_offset(self)
    }

    // --- memory -----------------------------------------------------------

    /// Fills `buf` from kernel virtual memory.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.space.read(addr, buf)
    }

    /// `len` bytes of kernel virtual memory; `len` is bounded to 1 GiB.
    pub fn read_bytes(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        if len > 1 << 30 {
            return Err(Error::corrupt(format!("a size of {len} bytes"), addr));
        }
        let mut buf = vec![0; len as usize];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }

    /// A little-endian 64-bit word, or pointer.
    pub fn read_u64(&self, addr: u64) -> Result<u64> {
        let mut raw = [0; 8];
        self.read(addr, &mut raw)?;
        Ok(u64::from_le_bytes(raw))
    }

    /// A little-endian 32-bit word.
    pub fn read_u32(&self, addr: u64) -> Result<u32> {
        let mut raw = [0; 4];
        self.read(addr, &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    /// Text up to a NUL, at most `limit` bytes. Invalid UTF-8 is replaced.
    pub fn read_cstring(&self, addr: u64, limit: usize) -> Result<String> {
        if addr == 0 {
            return Err(Error::Null("a string".into()));
        }
        let mut text = Vec::new();
        while text.len() < limit {
            let at = addr.wrapping_add(text.len() as u64);
            let room = (4096 - (at & 0xfff)) as usize;
            let mut piece = vec![0; room.min(limit - text.len()).min(64)];
            self.read(at, &mut piece)?;
            if let Some(end) = piece.iter().position(|b| *b == 0) {
                text.extend_from_slice(&piece[..end]);
                break;
            }
            text.extend_from_slice(&piece);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    // --- types ------------------------------------------------------------

    /// The kernel's types. Read and indexed at the first question.
    pub fn btf(&self) -> Result<&Arc<Btf>> {
        self.btf.get_or_init(|| self.load_btf().map(Arc::new)).as_ref().map_err(Clone::clone)
    }

    fn load_btf(&self) -> Result<Btf> {
        let start = self.symbol("__start_BTF");
        let stop = self.symbol("__stop_BTF");
        let (Ok(start), Ok(stop)) = (start, stop) else {
            let why = match self.kallsyms() {
                Ok(_) => "this kernel was built without BTF".to_owned(),
                Err(lost) => format!("BTF can't be found: {lost}"),
            };
            return Err(Error::NoTypes(why));
        };
        let len = stop.wrapping_sub(start);
        if len == 0 || len > LARGEST_BTF {
            return Err(Error::NoTypes(format!("BTF has an impossible size ({len} bytes)")));
        }
        let data = self
            .read_bytes(start, len)
            .map_err(|e| Error::NoTypes(format!("BTF can't be read: {e}")))?;
        Btf::parse(data).map_err(|e| Error::NoTypes(format!("BTF is damaged: {e}")))
    }

    /// A type by name ("task_struct", "struct task_struct", "pid_t").
    pub fn ty(&self, name: &str) -> Result<Type<'_>> {
        let found = self.btf()?.find(name).or_else(|| self.type_of_modules(name));
        found.ok_or_else(|| Error::NoType(name.to_owned()))
    }

    /// The members that `L` declares, resolved once per dump.
    pub fn layout<L: Layout>(&self) -> Result<Arc<L>> {
        let id = TypeId::of::<L>();
        let known = self.layouts.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(layout) = known.and_then(|any| any.downcast::<L>().ok()) {
            return Ok(layout);
        }
        let layout = Arc::new(L::resolve(self.ty(L::TYPE)?));
        self.layouts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, layout.clone() as Arc<dyn Any + Send + Sync>);
        Ok(layout)
    }

    /// The type that the dump has for the variable or function `name`.
    pub fn type_of_symbol(&self, name: &str) -> Option<Type<'_>> {
        let btf = self.btf().ok()?;
        let own = btf.variable(name).or_else(|| btf.function(name));
        own.or_else(|| self.type_of_module_symbol(name))
    }

    /// The global variable `name` with the type that BTF, or the table of
    /// well-known globals, gives it.
    pub fn object(&self, name: &str) -> Result<Object<'_>> {
        let addr = self.symbol(name)?;
        let btf = self.btf()?;
        if let Some(ty) = btf.variable(name) {
            return Ok(Object::new(self, addr, ty));
        }
        let ty = crate::global::global_type(name)
            .ok_or_else(|| Error::NoType(format!("the variable {name}")))?;
        self.object_at(ty, addr)
    }

    /// The object of type `type_name` at `addr`.
    pub fn object_at(&self, type_name: &str, addr: u64) -> Result<Object<'_>> {
        Ok(Object::new(self, addr, self.ty(type_name)?))
    }
}

/// Reads kallsyms from where VMCOREINFO says its tables are (since v6.0, some
/// distributions earlier), else searches the kernel's image for them.
fn load_kallsyms(
    space: &AddressSpace,
    info: Option<&VmcoreInfo>,
) -> std::result::Result<Kallsyms, String> {
    let anchors: Vec<(&str, u64)> = ["_stext", "init_uts_ns"]
        .into_iter()
        .filter_map(|name| Some((name, info?.symbol(name)?)))
        .collect();
    let mut first_try = None;
    if let Some(tables) = info.and_then(|info| tables_of(space, info)) {
        match Kallsyms::load(space, &tables, &anchors) {
            Ok(kallsyms) => return Ok(kallsyms),
            Err(e) => first_try = Some(e.to_string()),
        }
    }
    match Kallsyms::scan(space, space.image_range(), &anchors) {
        Ok((_, kallsyms)) => Ok(kallsyms),
        Err(e) => Err(match first_try {
            Some(first) => format!("{first}; {e}"),
            None => e.to_string(),
        }),
    }
}

/// Table addresses out of VMCOREINFO's `SYMBOL(kallsyms_*)`. It leaves
/// `kallsyms_markers` out: one `u32` per 256 names, before the token table in
/// every order that scripts/kallsyms.c has written; from v6.2 (60443c88f3a8)
/// to v6.3 with 3 bytes per symbol (`kallsyms_seqs_of_names`) between them.
/// Each table is padded to 4 or 8 bytes.
fn tables_of(space: &AddressSpace, info: &VmcoreInfo) -> Option<Tables> {
    let word = |addr: u64| {
        let mut raw = [0; 4];
        space.read(addr, &mut raw).ok().map(|()| u32::from_le_bytes(raw))
    };
    let num_syms = word(info.symbol("kallsyms_num_syms")?)?;
    let token_table = info.symbol("kallsyms_token_table")?;
    let markers = match info.symbol("kallsyms_markers") {
        Some(addr) => addr,
        None => {
            let packed = token_table.checked_sub(u64::from(num_syms.div_ceil(256)) * 4)?;
            let before_seqs = packed.checked_sub(u64::from(num_syms) * 3)?;
            // The first marker is 0, the second is where name 256 starts.
            [packed, before_seqs]
                .into_iter()
                .flat_map(|at| (0..=3).map(move |n| (at & !3) - 4 * n))
                .find(|at| {
                    word(*at) == Some(0)
                        && word(at + 4).is_some_and(|w| (512..1 << 16).contains(&w))
                })?
        }
    };
    Some(Tables {
        num_syms,
        names: info.symbol("kallsyms_names")?,
        markers,
        token_table,
        token_index: info.symbol("kallsyms_token_index")?,
        offsets: info.symbol("kallsyms_offsets").or_else(|| info.symbol("kallsyms_addresses"))?,
        relative_base: info.symbol("kallsyms_relative_base"),
        seqs_of_names: info.symbol("kallsyms_seqs_of_names"),
    })
}

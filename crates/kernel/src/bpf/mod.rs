//! Loaded BPF programs and maps.
//!
//! `prog_idr` and `map_idr` (kernel/bpf/syscall.c) lead from IDs to `struct
//! bpf_prog` and `struct bpf_map` (include/linux/bpf.h). What the verifier made
//! of the program's instructions stands at the end of its `bpf_prog`; the code
//! that runs is at `bpf_func`. Names of types are those of `enum bpf_prog_type`
//! and `enum bpf_map_type`.

mod insn;

pub use insn::BpfInstruction;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct idr`, include/linux/idr.h
    pub struct IdrLayout for "idr" {
        root: Embedded = "idr_rt",
    }
}

layout! {
    /// `struct bpf_prog`, include/linux/bpf.h (filter.h until v6.6)
    pub struct BpfProgLayout for "bpf_prog" {
        pages: u32 = "pages",
        jited: bool = "jited",
        gpl_compatible: bool = "gpl_compatible",
        kind: u32 = "type",
        len: u32 = "len",
        jited_len: u32 = "jited_len",
        tag: Embedded = "tag",
        func: u64 = "bpf_func",
        aux: u64 = "aux",
        insns: Embedded = "insnsi",
    }
}

layout! {
    /// `struct bpf_prog_aux`, include/linux/bpf.h
    pub struct BpfProgAuxLayout for "bpf_prog_aux" {
        map_count: u32 = "used_map_cnt",
        maps: u64 = "used_maps",
        load_time: u64 = "load_time",
        name: str = "name",
        user: u64 = "user",
    }
}

layout! {
    /// `struct bpf_map`, include/linux/bpf.h
    pub struct BpfMapLayout for "bpf_map" {
        kind: u32 = "map_type",
        flags: u32 = "map_flags",
        key_size: u32 = "key_size",
        value_size: u32 = "value_size",
        max_entries: u32 = "max_entries",
        name: str = "name",
        // Maps were charged to their user's locked memory until v5.11.
        pages: u32 = "memory.pages" | "pages",
        user: u64 = "memory.user" | "user",
    }
}

layout! {
    /// `struct bpf_ringbuf_map`, kernel/bpf/ringbuf.c: for its size
    pub struct BpfRingbufMapLayout for "bpf_ringbuf_map" {
        map: Embedded = "map",
    }
}

layout! {
    /// `struct user_struct`, include/linux/sched/user.h
    pub struct UserStructLayout for "user_struct" {
        uid: u32 = "uid.val",
    }
}

/// IDs count up, objects are bounded by memory.
const MOST_OBJECTS: usize = 1 << 20;
/// `BPF_COMPLEXITY_LIMIT_INSNS` is a million; rewriting adds to it.
const MOST_INSTRUCTIONS: u32 = 1 << 22;
/// `BPF_MAP_TYPE_RINGBUF` and `USER_RINGBUF` (include/uapi/linux/bpf.h).
const RINGBUFS: [&str; 2] = ["RINGBUF", "USER_RINGBUF"];
/// Pages of a ring buffer that are not data: the kernel's, and two for the
/// positions of producer and consumer (kernel/bpf/ringbuf.c).
const RINGBUF_META_PAGES: u64 = 3;
/// Longest machine code that is looked at.
const LONGEST_CODE: u32 = 16 << 20;

/// A loaded BPF program.
#[derive(Debug, Clone, Serialize)]
pub struct BpfProgram {
    /// Its ID.
    pub id: u64,
    /// Address of its `struct bpf_prog`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of its `struct bpf_prog_aux`.
    #[serde(serialize_with = "hex")]
    pub aux: u64,
    /// Its type ("SOCKET_FILTER", "KPROBE").
    pub kind: String,
    /// Hash of its instructions.
    pub tag: String,
    /// IDs of the maps that it uses.
    pub maps: Vec<u64>,
    /// Its name; empty without.
    pub name: String,
    /// Bytes of its instructions.
    pub translated_bytes: u64,
    /// Bytes of its machine code; 0: it is interpreted.
    pub jited_bytes: u32,
    /// Address of the function that runs it.
    #[serde(serialize_with = "hex")]
    pub function: u64,
    /// Bytes of memory that hold it.
    pub memory_bytes: Option<u64>,
    /// When it was loaded, ns after boot.
    pub load_time_ns: Option<u64>,
    /// Whether it may call what is for GPL programs only.
    pub gpl_compatible: Option<bool>,
    /// User that loaded it.
    pub uid: Option<u32>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A BPF map.
#[derive(Debug, Clone, Serialize)]
pub struct BpfMap {
    /// Its ID.
    pub id: u64,
    /// Address of its `struct bpf_map`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its type ("HASH", "RINGBUF").
    pub kind: String,
    /// `BPF_F_*` flags it was made with.
    pub flags: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// Its name; empty without.
    pub name: String,
    /// Bytes it is charged with; from v5.11 on as bpf(2) tells them, worked
    /// out from its sizes.
    pub memory_bytes: u64,
    /// User that made it, where the kernel keeps that (until v5.11).
    pub uid: Option<u32>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// All programs and maps.
#[derive(Debug, Clone)]
pub struct Bpf {
    /// By ID.
    pub programs: Vec<BpfProgram>,
    /// By ID.
    pub maps: Vec<BpfMap>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

impl Kernel {
    /// The BPF programs and maps that are loaded.
    pub fn bpf(&self) -> Result<Bpf> {
        let mut gaps = Gaps::default();
        let mut maps = Vec::new();
        for (id, addr) in self.bpf_ids("map_idr", &mut gaps)? {
            maps.extend(gaps.keep("a map", self.bpf_map(id, addr)));
        }
        let mut programs = Vec::new();
        for (id, addr) in self.bpf_ids("prog_idr", &mut gaps)? {
            programs.extend(gaps.keep("a program", self.bpf_program(id, addr, &maps)));
        }
        Ok(Bpf { programs, maps, gaps })
    }

    /// IDs and addresses in the `struct idr` called `name`. An ID starts at
    /// 1; the tree starts at `idr_base`, which is 0 here.
    fn bpf_ids(&self, name: &str, gaps: &mut Gaps) -> Result<Vec<(u64, u64)>> {
        let symbol = self.symbol_if_built(name)?.ok_or_else(|| {
            Error::Unavailable("this kernel was built without the bpf() system call".into())
        })?;
        let root = self.layout::<IdrLayout>()?.root.address(symbol)?;
        let mut ids = Vec::new();
        for entry in self.xarray(root)?.take(MOST_OBJECTS) {
            ids.extend(gaps.keep(name, entry));
        }
        Ok(ids)
    }

    fn bpf_program(&self, id: u64, addr: u64, maps: &[BpfMap]) -> Result<BpfProgram> {
        let layout = self.layout::<BpfProgLayout>()?;
        let aux_layout = self.layout::<BpfProgAuxLayout>()?;
        let mut gaps = Gaps::default();
        let aux = layout.aux.read(self, addr)?;
        let tag = self.read_bytes(layout.tag.address(addr)?, 8)?;
        let used = gaps.keep("maps", self.used_maps(&aux_layout, aux, maps));
        let pages = gaps.keep("pages", layout.pages.read(self, addr));
        Ok(BpfProgram {
            id,
            addr,
            aux,
            kind: self.enum_name("bpf_prog_type", "BPF_PROG_TYPE_", layout.kind.read(self, addr)?),
            tag: tag.iter().map(|byte| format!("{byte:02x}")).collect(),
            maps: used.unwrap_or_default(),
            name: gaps.keep("name", aux_layout.name.read(self, aux)).unwrap_or_default(),
            translated_bytes: u64::from(layout.len.read(self, addr)?) * insn::SIZE,
            jited_bytes: layout.jited_len.read(self, addr)?,
            function: layout.func.read(self, addr)?,
            memory_bytes: pages.map(|pages| u64::from(pages) << 12),
            load_time_ns: gaps.keep("load time", aux_layout.load_time.read(self, aux)),
            gpl_compatible: gaps.keep("licence", layout.gpl_compatible.read(self, addr)),
            uid: gaps.keep("user", self.uid_of(aux_layout.user.read(self, aux))),
            gaps,
        })
    }

    fn used_maps(&self, layout: &BpfProgAuxLayout, aux: u64, maps: &[BpfMap]) -> Result<Vec<u64>> {
        let count = layout.map_count.read(self, aux)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let raw = self.read_bytes(layout.maps.read(self, aux)?, u64::from(count) * 8)?;
        let used = raw.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok(used.filter_map(|addr| maps.iter().find(|map| map.addr == addr)).map(|m| m.id).collect())
    }

    fn uid_of(&self, user: Result<u64>) -> Result<u32> {
        match user? {
            0 => Err(Error::Null("the user".into())),
            user => self.layout::<UserStructLayout>()?.uid.read(self, user),
        }
    }

    fn bpf_map(&self, id: u64, addr: u64) -> Result<BpfMap> {
        let layout = self.layout::<BpfMapLayout>()?;
        let mut gaps = Gaps::default();
        let mut map = BpfMap {
            id,
            addr,
            kind: self.enum_name("bpf_map_type", "BPF_MAP_TYPE_", layout.kind.read(self, addr)?),
            flags: layout.flags.read(self, addr)?,
            key_size: layout.key_size.read(self, addr)?,
            value_size: layout.value_size.read(self, addr)?,
            max_entries: layout.max_entries.read(self, addr)?,
            name: layout.name.read(self, addr)?,
            memory_bytes: 0,
            uid: None,
            gaps: Gaps::default(),
        };
        map.memory_bytes = match layout.pages.read_if_exists(self, addr)? {
            Some(pages) => u64::from(pages) << 12,
            None => self.map_memory(&map)?,
        };
        if layout.user.exists() {
            map.uid = gaps.keep("user", self.uid_of(layout.user.read(self, addr)));
        }
        map.gaps = gaps;
        Ok(map)
    }

    /// What the kernel takes a map to need (bpf_map_memory_footprint,
    /// kernel/bpf/syscall.c v5.11, and ringbuf_map_mem_usage).
    fn map_memory(&self, map: &BpfMap) -> Result<u64> {
        let entries = u64::from(map.max_entries);
        if RINGBUFS.contains(&map.kind.as_str()) {
            let data = entries >> 12;
            let pointers = (RINGBUF_META_PAGES + 2 * data) * 8;
            let pages = (RINGBUF_META_PAGES + data) << 12;
            return Ok(self.layout::<BpfRingbufMapLayout>()?.size + pointers + pages);
        }
        let entry = match map.kind.contains("PERCPU") {
            true => {
                let cpus = self.possible_cpus()?.len() as u64;
                u64::from(map.key_size) + u64::from(map.value_size).next_multiple_of(8) * cpus
            }
            false => u64::from(map.key_size) + u64::from(map.value_size),
        };
        Ok(entries.saturating_mul(entry.next_multiple_of(8)).saturating_add(4095) & !4095)
    }

    /// The name of a value of an enum, without its prefix.
    fn enum_name(&self, name: &str, prefix: &str, value: u32) -> String {
        let ty = self.ty(&format!("enum {name}"));
        let found = ty.ok().and_then(|ty| {
            let mut all = ty.strip().enumerators();
            all.find(|e| e.value == i64::from(value)).map(|e| e.name.to_owned())
        });
        match found {
            Some(name) => name.strip_prefix(prefix).map_or(name.clone(), str::to_owned),
            None => value.to_string(),
        }
    }

    /// The instructions of `program`, as the verifier left them.
    pub fn bpf_instructions(&self, program: &BpfProgram, bpf: &Bpf) -> Result<Vec<BpfInstruction>> {
        let layout = self.layout::<BpfProgLayout>()?;
        let count = program.translated_bytes / insn::SIZE;
        if count > u64::from(MOST_INSTRUCTIONS) {
            let what = format!("a program of {count} instructions");
            return Err(Error::corrupt(what, program.addr));
        }
        let bytes =
            self.read_bytes(layout.insns.address(program.addr)?, program.translated_bytes)?;
        Ok(insn::parse(&bytes, &|address| self.bpf_name(address, &bpf.maps)))
    }

    /// The machine code of `program`; `None`: it is interpreted.
    pub fn bpf_code(&self, program: &BpfProgram) -> Result<Option<Vec<u8>>> {
        match program.jited_bytes {
            0 => Ok(None),
            len if len > LONGEST_CODE => {
                Err(Error::corrupt(format!("a program of {len} bytes of code"), program.addr))
            }
            len => self.read_bytes(program.function, u64::from(len)).map(Some),
        }
    }

    /// What an instruction's constant or call means.
    fn bpf_name(&self, meaning: insn::Meaning, maps: &[BpfMap]) -> Option<String> {
        match meaning {
            insn::Meaning::Map(addr) => {
                maps.iter().find(|map| map.addr == addr).map(|map| format!("map[id:{}]", map.id))
            }
            // Calls are relative to a function that does nothing else.
            insn::Meaning::Helper(imm) => {
                let base = self.symbol("__bpf_call_base").ok()?;
                let symbol = self.symbol_at(base.wrapping_add(i64::from(imm) as u64))?;
                (symbol.offset == 0).then_some(symbol.name)
            }
        }
    }
}

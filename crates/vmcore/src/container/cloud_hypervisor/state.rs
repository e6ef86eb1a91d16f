//! The sections of state.json that matter: see [`super`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::container::kvm::{self, Regs, Sregs};
use crate::cpu::{CpuState, QemuCpuState, QemuSegment};
use crate::source::Fields;

/// A section of a vCPU has some hundred kilobytes.
const MAX_SECTION: usize = 4 << 20;
/// Zones of memory, and what was plugged in.
const MAX_RANGES: u64 = 4096;
const MAX_VCPUS: usize = 8192;
const KERNEL_GS_BASE: u64 = 0xc000_0102;

/// What is known of a state.
#[derive(Debug)]
pub(super) struct State {
    /// Address and length, in the order of the file.
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) cpus: Vec<CpuState>,
    pub(super) oddities: Vec<String>,
}

/// A section and those in it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Section {
    snapshots: BTreeMap<String, Section>,
    snapshot_data: Data,
}

/// What a section holds, in any of the three forms.
#[derive(Debug, Default)]
struct Data(Vec<u8>);

impl State {
    pub(super) fn parse(bytes: &[u8]) -> Result<State, String> {
        let top: Section = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Some(memory) = top.snapshots.get("memory-manager") else {
            return Err("it has no section memory-manager".to_owned());
        };
        let ranges = ranges(&memory.snapshot_data.0)?;
        let mut oddities = Vec::new();
        let cpus = match top.snapshots.get("cpu-manager") {
            Some(manager) => cpus(manager, &mut oddities),
            None => Vec::new(),
        };
        if cpus.is_empty() {
            oddities.push("no registers are found in the state".to_owned());
        }
        Ok(State { ranges, cpus, oddities })
    }
}

/// The ranges of memory, which do not overlap.
fn ranges(data: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    #[derive(serde::Deserialize)]
    struct Manager {
        memory_ranges: Table,
    }
    #[derive(serde::Deserialize)]
    struct Table {
        data: Vec<Range>,
    }
    #[derive(serde::Deserialize)]
    struct Range {
        gpa: u64,
        length: u64,
    }
    let found: Vec<(u64, u64)> = if data.starts_with(b"{") {
        let manager: Manager =
            serde_json::from_slice(data).map_err(|error| format!("memory-manager: {error}"))?;
        manager.memory_ranges.data.iter().map(|range| (range.gpa, range.length)).collect()
    } else {
        let fields = Fields(data);
        let count = fields.u64(0).filter(|count| *count <= MAX_RANGES);
        let count = count.ok_or("memory-manager: no count of memory_ranges")? as usize;
        let pair = |index: usize| fields.u64(8 + 16 * index).zip(fields.u64(16 + 16 * index));
        let all: Option<Vec<_>> = (0..count).map(pair).collect();
        all.ok_or_else(|| format!("memory-manager: it ends within {count} memory_ranges"))?
    };
    if found.is_empty() || found.len() as u64 > MAX_RANGES {
        return Err(format!("memory-manager has {} memory_ranges", found.len()));
    }
    for (index, (addr, len)) in found.iter().enumerate() {
        let wrong =
            |what: &str| Err(format!("memory_ranges {index}: {len:#x} bytes at {addr:#x} {what}"));
        let Some(end) = addr.checked_add(*len).filter(|end| *end < 1 << 52 && *len > 0) else {
            return wrong("can't be");
        };
        let before = found.iter().take(index);
        if before.clone().any(|(other, len)| *addr < other + len && *other < end) {
            return wrong("overlap another range");
        }
    }
    Ok(found)
}

fn cpus(manager: &Section, oddities: &mut Vec<String>) -> Vec<CpuState> {
    // "10" is after "9".
    let numbered = |(name, section): (&String, _)| Some((name.parse::<u32>().ok()?, section));
    let sections: BTreeMap<u32, &Section> = manager.snapshots.iter().filter_map(numbered).collect();
    let mut cpus = Vec::new();
    for (number, section) in sections.into_iter().take(MAX_VCPUS) {
        match registers(&section.snapshot_data.0) {
            Ok(state) => cpus.push(CpuState::of_x86_64(state, number as usize)),
            Err(what) => oddities.push(format!("vCPU {number}: {what}")),
        }
    }
    cpus
}

fn registers(data: &[u8]) -> Result<QemuCpuState, String> {
    if data.len() > MAX_SECTION {
        return Err(format!("its section has {} bytes", data.len()));
    }
    let state: Value = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    let state = ["Kvm", "Mshv"].iter().find_map(|name| state.get(name)).unwrap_or(&state);
    let field = |name: &str| state.get(name).ok_or_else(|| format!("it has no \"{name}\""));
    let regs = regs(field("regs")?).ok_or("its \"regs\" are no registers of x86_64")?;
    let sregs = sregs(field("sregs")?).ok_or("its \"sregs\" are no registers of x86_64")?;
    if !sregs.is_long_mode() {
        return Err("it runs no 64-bit kernel".to_owned());
    }
    let gs_base = state.get("msrs").and_then(|msrs| msr(msrs, KERNEL_GS_BASE));
    Ok(kvm::qemu_state(&regs, &sregs, gs_base))
}

/// A structure's bytes, if it is written as such.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    value.as_array()?.iter().map(byte).collect()
}

fn regs(value: &Value) -> Option<Regs> {
    const NAMES: [&str; 16] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    if value.is_array() {
        return Regs::parse(&bytes(value)?);
    }
    let number = |name: &str| value.get(name)?.as_u64();
    let mut regs = Regs { rip: number("rip")?, rflags: number("rflags")?, ..Regs::default() };
    for (register, name) in regs.gprs.iter_mut().zip(NAMES) {
        *register = number(name)?;
    }
    Some(regs)
}

fn sregs(value: &Value) -> Option<Sregs> {
    const SEGMENTS: [&str; 8] = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"];
    if value.is_array() {
        return Sregs::parse(&bytes(value)?);
    }
    let number = |name: &str| value.get(name)?.as_u64();
    let mut sregs = Sregs {
        gdt: table(value.get("gdt")?)?,
        idt: table(value.get("idt")?)?,
        cr: [number("cr0")?, 0, number("cr2")?, number("cr3")?, number("cr4")?],
        efer: number("efer")?,
        ..Sregs::default()
    };
    for (place, name) in sregs.segments.iter_mut().zip(SEGMENTS) {
        *place = segment(value.get(name)?)?;
    }
    Some(sregs)
}

fn table(value: &Value) -> Option<QemuSegment> {
    let limit = u32::try_from(value.get("limit")?.as_u64()?).ok()?;
    Some(QemuSegment { limit, base: value.get("base")?.as_u64()?, ..QemuSegment::default() })
}

fn segment(value: &Value) -> Option<QemuSegment> {
    let byte = |name: &str| u8::try_from(value.get(name)?.as_u64()?).ok();
    let kind = byte("type_").or_else(|| byte("type"))?;
    let bits = [
        byte("present")?,
        byte("dpl")?,
        byte("db")?,
        byte("s")?,
        byte("l")?,
        byte("g")?,
        byte("avl")?,
    ];
    let selector = u32::try_from(value.get("selector")?.as_u64()?).ok()?;
    Some(QemuSegment { selector, flags: kvm::flags(kind, bits), ..table(value)? })
}

/// The MSR of that number, wherever the list is: entries have been `{ index, data }` in every form
/// but that of bytes, and the list has been within another one.
fn msr(value: &Value, index: u64) -> Option<u64> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| msr(item, index)),
        Value::Object(fields) if fields.get("index").and_then(Value::as_u64) == Some(index) => {
            fields.get("data")?.as_u64()
        }
        Value::Object(fields) => fields.values().find_map(|item| msr(item, index)),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section's data")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(Data(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Data, A::Error> {
        #[derive(serde::Deserialize)]
        struct Named {
            snapshot: Vec<u8>,
        }
        let mut data = Data::default();
        while let Some(name) = fields.next_key::<String>()? {
            if !data.0.is_empty() {
                fields.next_value::<IgnoredAny>()?;
            } else if name == "state" {
                data.0 = fields.next_value::<String>()?.into_bytes();
            } else {
                data.0 = fields.next_value::<Named>()?.snapshot;
            }
        }
        Ok(data)
    }
}

//! The description of the devices' state at the end of a stream, by which a field is found by its
//! name in whatever version of QEMU.
//!
//! `{"page_size": 4096, "devices": [{"name", "instance_id", "fields": [{"name", "type", "size",
//! "array_len", "index", "struct": {"fields"}}], "subsections": [{"vmsd_name", "fields",
//! "subsections"}]}]}` (QEMU, migration/vmstate.c, `vmsd_desc_field_start()`). A field's size is
//! what it takes in the stream, of an array (`array_len`) that of one element. Elements of arrays
//! that differ are listed one by one, each with its `index`. A subsection starts with its kind (1
//! byte), the length of its name (1), the name and its version (4).

use serde::Deserialize;

use crate::source::Source;

/// Looked for in the last bytes of a file: some 110 KB, more with many devices.
const LONGEST: u64 = 8 << 20;

/// Kind of the section that it is (`QEMU_VM_VMDESCRIPTION`).
const KIND: u8 = 0x06;

/// A device's state beyond this is not walked over.
const LARGEST_STATE: u64 = 1 << 40;

#[derive(Debug, Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    devices: Vec<Device>,
}

/// A device, or a subsection.
#[derive(Debug, Deserialize)]
pub(super) struct Device {
    #[serde(default)]
    name: String,
    #[serde(default)]
    instance_id: u64,
    #[serde(default)]
    vmsd_name: String,
    #[serde(default)]
    pub(super) fields: Vec<Field>,
    #[serde(default)]
    subsections: Vec<Device>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Field {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    size: u64,
    array_len: Option<u64>,
    #[serde(rename = "struct")]
    members: Option<Members>,
}

/// What a field that is a structure has.
#[derive(Debug, Deserialize)]
struct Members {
    #[serde(default)]
    fields: Vec<Field>,
}

impl Description {
    /// The description in the last bytes of a file.
    pub(super) fn find(source: &dyn Source) -> Option<Description> {
        let len = source.len().min(LONGEST);
        let tail = source.bytes(source.len() - len, len as usize).ok()?;
        // Memory that is near may have such bytes too: only what says its own length counts.
        let candidates = memchr::memchr_iter(KIND, &tail).filter_map(|at| {
            let size = tail.get(at + 1..)?.first_chunk::<4>()?;
            let start = at + 5;
            let end = start.checked_add(u32::from_be_bytes(*size) as usize)?;
            let json = tail.get(start..end)?;
            (json.starts_with(b"{\"") && json.ends_with(b"}")).then_some(json)
        });
        candidates.take(16).find_map(|json| serde_json::from_slice(json).ok())
    }

    pub(super) fn device(&self, name: &str, instance: u32) -> Option<&Device> {
        let is_it = |d: &&Device| d.name == name && d.instance_id == u64::from(instance);
        self.devices.iter().find(is_it)
    }
}

impl Device {
    /// Bytes it takes in the stream.
    pub(super) fn len(&self) -> Option<u64> {
        let fields = total(&self.fields)?;
        let subsections = self.subsections.iter().try_fold(0u64, |sum, part| {
            let header = 1 + 1 + part.vmsd_name.len() as u64 + 4;
            sum.checked_add(header)?.checked_add(part.len()?)
        })?;
        fields.checked_add(subsections).filter(|len| *len <= LARGEST_STATE)
    }
}

fn total(fields: &[Field]) -> Option<u64> {
    fields.iter().try_fold(0u64, |sum, field| sum.checked_add(field.total()?))
}

impl Field {
    fn total(&self) -> Option<u64> {
        self.size.checked_mul(self.array_len.unwrap_or(1))
    }
}

/// Fields with the bytes they were saved as.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) fields: &'a [Field],
    pub(super) bytes: &'a [u8],
}

impl<'a> State<'a> {
    /// The elements of the field `name`: one, unless it is an array.
    fn elements(self, name: &str) -> Vec<(&'a Field, &'a [u8])> {
        let mut found = Vec::new();
        let mut at = 0u64;
        for field in self.fields {
            let Some(total) = field.total() else { break };
            let range =
                usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(total)).ok());
            if field.name == name
                && field.size > 0
                && let Some(bytes) = range.and_then(|(from, to)| self.bytes.get(from..to))
            {
                found.extend(bytes.chunks_exact(field.size as usize).map(|bytes| (field, bytes)));
            }
            at = at.saturating_add(total);
        }
        found
    }

    /// The numbers of the field `name`.
    pub(super) fn numbers(self, name: &str) -> Vec<u64> {
        let elements = self.elements(name);
        elements.into_iter().filter_map(|(_, bytes)| number(bytes)).collect()
    }

    pub(super) fn number(self, name: &str) -> Option<u64> {
        self.numbers(name).first().copied()
    }

    /// The structures of the field `name`.
    pub(super) fn structures(self, name: &str) -> Vec<State<'a>> {
        let elements = self.elements(name).into_iter();
        elements
            .filter_map(|(field, bytes)| {
                Some(State { fields: &field.members.as_ref()?.fields, bytes })
            })
            .collect()
    }
}

/// A big-endian number.
fn number(bytes: &[u8]) -> Option<u64> {
    let is_number = matches!(bytes.len(), 1 | 2 | 4 | 8);
    is_number.then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

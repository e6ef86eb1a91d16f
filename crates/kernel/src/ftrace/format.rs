//! What trace events mean: the kernel's own descriptions.
//!
//! `ftrace_events` (kernel/trace/trace_events.c) is the ring of `struct
//! trace_event_call` (include/linux/trace_events.h): name, ID, text format, and
//! through its class the fields (`struct ftrace_event_field`,
//! kernel/trace/trace.h), newest first. Those of events that begin a system
//! call are in its `struct syscall_metadata`. All events begin with
//! `ftrace_common_fields`.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::{Kernel, layout};

layout! {
    /// `struct trace_event_call`, include/linux/trace_events.h
    pub struct EventCallLayout for "trace_event_call" {
        list: Embedded = "list",
        class: u64 = "class",
        name: u64 = "name",
        id: i32 = "event.type",
        print_fmt: u64 = "print_fmt",
        data: u64 = "data",
    }
}

layout! {
    /// `struct trace_event_class`, include/linux/trace_events.h
    pub struct EventClassLayout for "trace_event_class" {
        system: CString = "system",
        get_fields: u64 = "get_fields",
        fields: Embedded = "fields",
    }
}

layout! {
    /// `struct syscall_metadata`, include/trace/syscall.h
    pub struct SyscallMetadataLayout for "syscall_metadata" {
        enter_fields: Embedded = "enter_fields",
    }
}

layout! {
    /// `struct ftrace_event_field`, kernel/trace/trace.h
    pub struct EventFieldLayout for "ftrace_event_field" {
        link: Embedded = "link",
        name: CString = "name",
        ty: CString = "type",
        offset: u32 = "offset",
        bytes: u32 = "size",
        signed: bool = "is_signed",
    }
}

/// A kernel has about 2,000 events; modules and probes add to them.
const MOST_EVENTS: usize = 1 << 16;
/// Most fields of an event.
const MOST_FIELDS: usize = 1 << 10;
/// Longest text format.
const LONGEST_FORMAT: usize = 1 << 16;
/// Where kernel addresses begin: text read as a pointer never is one.
const KERNEL_HALF: u64 = 0xff00_0000_0000_0000;

/// An event's description.
#[derive(Debug, Clone, Serialize)]
pub struct EventFormat {
    /// Its ID, with which its events begin.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// The system it belongs to ("sched").
    pub system: String,
    /// Its own fields by offset.
    pub fields: Vec<Field>,
    /// How the kernel writes it: a format and its arguments in C.
    pub print_fmt: String,
}

/// A field of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type in C; `__data_loc` is a place in the event.
    pub ty: String,
    /// Where it is in the event.
    pub offset: u32,
    /// Its bytes.
    pub size: u32,
    /// Whether it is a signed number.
    pub signed: bool,
}

/// What a field has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// A signed number.
    Signed(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// A pointer, as text.
    Pointer(String),
    /// Text.
    Text(String),
    /// An array of numbers.
    Numbers(Vec<u64>),
}

/// Descriptions of all events, and the fields that they have in common.
#[derive(Debug, Clone)]
pub struct EventFormats {
    /// By ID.
    pub list: Vec<EventFormat>,
    /// Fields with which each event begins.
    pub common: Vec<Field>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

impl EventFormats {
    /// The description of the event `id`.
    pub fn find(&self, id: i32) -> Option<&EventFormat> {
        let at = self.list.partition_point(|format| format.id < id);
        self.list.get(at).filter(|format| format.id == id)
    }
}

impl Kernel {
    /// The descriptions of all trace events.
    pub fn event_formats(&self) -> Result<EventFormats> {
        let layout = self.layout::<EventCallLayout>()?;
        let mut gaps = Gaps::default();
        let mut list = Vec::new();
        let head = self.symbol("ftrace_events")?;
        for call in self.list(head, layout.list.offset()?, "the trace events").take(MOST_EVENTS) {
            let format = call.and_then(|call| self.event_format(&layout, call));
            list.extend(gaps.keep("a trace event", format));
        }
        list.sort_by_key(|format: &EventFormat| format.id);
        let common = self.symbol("ftrace_common_fields").and_then(|head| self.event_fields(head));
        let common = gaps.keep("common fields", common).unwrap_or_default();
        Ok(EventFormats { list, common, gaps })
    }

    fn event_format(&self, layout: &EventCallLayout, call: u64) -> Result<EventFormat> {
        let class_layout = self.layout::<EventClassLayout>()?;
        let class = layout.class.read(self, call)?;
        // Names, or a `struct tracepoint` that begins with a pointer to one:
        // which, a flag tells whose value has changed.
        let name = layout.name.read(self, call)?;
        let name = match self.read_u64(name) {
            Ok(text) if text >= KERNEL_HALF => text,
            _ => name,
        };
        let fields = match class_layout.get_fields.read(self, class)? {
            0 => class_layout.fields.address(class)?,
            _ => {
                let data = layout.data.read(self, call)?;
                self.layout::<SyscallMetadataLayout>()?.enter_fields.address(data)?
            }
        };
        let print_fmt = match layout.print_fmt.read(self, call)? {
            0 => String::new(),
            text => self.read_cstring(text, LONGEST_FORMAT)?,
        };
        Ok(EventFormat {
            id: layout.id.read(self, call)?,
            name: self.read_cstring(name, 256)?,
            system: class_layout.system.read(self, class)?,
            fields: self.event_fields(fields)?,
            print_fmt,
        })
    }

    fn event_fields(&self, head: u64) -> Result<Vec<Field>> {
        let layout = self.layout::<EventFieldLayout>()?;
        let mut fields = Vec::new();
        for field in self.list(head, layout.link.offset()?, "the fields of a trace event") {
            let field = field?;
            if fields.len() == MOST_FIELDS {
                return Err(Error::corrupt("the fields of a trace event", head));
            }
            fields.push(Field {
                name: layout.name.read(self, field)?,
                ty: layout.ty.read(self, field)?,
                offset: layout.offset.read(self, field)?,
                size: layout.bytes.read(self, field)?,
                signed: layout.signed.read(self, field)?,
            });
        }
        fields.reverse();
        Ok(fields)
    }
}

impl Field {
    /// The field's value in an event; none: the event ends before it.
    pub fn value(&self, event: &[u8]) -> Option<FieldValue> {
        let start = self.offset as usize;
        if self.ty.starts_with("__data_loc") || self.ty.starts_with("__rel_loc") {
            let place = u32::from_le_bytes(*event.get(start..)?.first_chunk()?);
            let (offset, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
            let base = if self.ty.starts_with("__rel_loc") { start + 4 } else { 0 };
            return Some(self.array(event.get(base + offset..base + offset + len)?));
        }
        // An array without a size reaches to the end of the event.
        let end =
            if self.size == 0 { event.len() } else { start.checked_add(self.size as usize)? };
        let bytes = event.get(start..end)?;
        if self.ty.contains('[') || !matches!(bytes.len(), 1 | 2 | 4 | 8) {
            return Some(self.array(bytes));
        }
        let number = little_endian(bytes);
        Some(if self.ty.ends_with('*') {
            FieldValue::Pointer(format!("{number:#x}"))
        } else if self.signed {
            let unused = 64 - bytes.len() as u32 * 8;
            FieldValue::Signed((number << unused) as i64 >> unused)
        } else {
            FieldValue::Unsigned(number)
        })
    }

    fn array(&self, bytes: &[u8]) -> FieldValue {
        let element = self.ty.trim_start_matches("__data_loc").trim_start_matches("__rel_loc");
        let element = element.trim().split('[').next().unwrap_or_default().trim();
        if element == "char" || element == "const char" {
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            return FieldValue::Text(String::from_utf8_lossy(text).into_owned());
        }
        let size = match element {
            "unsigned long" | "long" | "u64" | "__u64" | "s64" => 8,
            "int" | "unsigned int" | "u32" | "__u32" | "s32" | "unsigned" => 4,
            "short" | "unsigned short" | "u16" | "__u16" => 2,
            _ => 1,
        };
        FieldValue::Numbers(bytes.chunks(size).map(little_endian).collect())
    }
}

/// A number of up to 8 bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(ty: &str, offset: u32, size: u32, signed: bool) -> Field {
        Field { name: "f".to_owned(), ty: ty.to_owned(), offset, size, signed }
    }

    #[test]
    fn values_are_read_by_their_type() {
        let event = b"\xfe\xff\xff\xff\x0c\x00\x04\x00abc\0hi!\0\x01\x00\x00\x00";
        assert_eq!(field("int", 0, 4, true).value(event), Some(FieldValue::Signed(-2)));
        assert_eq!(field("u8", 0, 1, false).value(event), Some(FieldValue::Unsigned(0xfe)));
        let text = |text: &str| Some(FieldValue::Text(text.to_owned()));
        assert_eq!(field("char[4]", 8, 4, false).value(event), text("abc"));
        assert_eq!(field("__data_loc char[]", 4, 4, false).value(event), text("hi!"));
        assert_eq!(field("u32[]", 16, 0, false).value(event), Some(FieldValue::Numbers(vec![1])));
        assert_eq!(
            field("void *", 16, 4, false).value(event),
            Some(FieldValue::Pointer("0x1".into()))
        );
        assert_eq!(field("u64", 16, 8, false).value(event), None, "the event ends before");
    }
}

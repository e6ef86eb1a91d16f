//! The kernel's log: what `dmesg` would have shown.
//!
//! Two formats, told apart by the symbols that the kernel has: the lockless
//! ring of v5.10 and later ([`ringbuffer`]: `prb`), and the variable-length
//! records of v3.5 to v5.9 ([`log_buf`]: `log_first_idx`). Member offsets come
//! from BTF, or from VMCOREINFO (`log_buf_vmcoreinfo_setup`,
//! kernel/printk/printk.c), so that the log can be read of kernels without
//! type information. Timestamps are those of `local_clock()`.

use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};

mod log_buf;
mod ringbuffer;
mod safe;

pub use safe::{SafeBuffer, SafeMessage};

/// No member of printk's structures lies further in, and none is larger.
const LARGEST_STRUCT: u64 = 4096;

/// Bytes from the dump, or why they are not there.
type Reader<'a> = dyn Fn(u64, &mut [u8]) -> Result<()> + 'a;

/// `LOG_NEWLINE`: the text ended with a newline (which is not kept).
pub const LOG_NEWLINE: u8 = 2;
/// `LOG_CONT`: a fragment of a continued line.
pub const LOG_CONT: u8 = 8;

/// The kernel's log.
#[derive(Debug, Clone, Serialize)]
pub struct Log {
    /// How the kernel kept it.
    pub format: LogFormat,
    /// Records, oldest first.
    pub records: Vec<Record>,
    /// Records that should be there and can't be shown.
    pub damage: Vec<Damage>,
    /// Messages that the kernel could not store at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// How a kernel keeps its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `struct printk_ringbuffer`, since v5.10 (896fbe20b4e2).
    Ringbuffer,
    /// `struct printk_log` in `log_buf`, v3.5 to v5.9.
    LogBuf,
}

/// How far a record had got when the machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// Complete.
    Finalized,
    /// Stored; its line could still have been continued.
    Committed,
    /// Being written: what is there may be incomplete.
    Reserved,
}

/// One message.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Its sequence number since boot.
    pub seq: u64,
    /// Nanoseconds on the scheduler's clock (about the time since boot).
    pub ts_ns: u64,
    /// Severity: 0 emergency to 7 debug.
    pub level: u8,
    /// syslog facility; 0 is the kernel, others come from /dev/kmsg.
    pub facility: u8,
    /// `LOG_*` flags.
    pub flags: u8,
    /// How far it had got.
    pub state: RecordState,
    /// Who printed it, where the kernel notes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The message; several lines where it has newlines. Bytes that are not
    /// UTF-8 are replaced.
    pub text: String,
    /// Why the text is not, or not wholly, there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// The device that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<LogDevice>,
}

/// Who printed a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Thread, where it printed as itself (not in an interrupt), or where
    /// the kernel notes both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// CPU, where it printed from an interrupt, or the kernel notes both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Name of the thread (`CONFIG_PRINTK_EXECUTION_CTX`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
}

impl Caller {
    /// From `caller_id`: a thread, or with bit 31 set a CPU
    /// (`printk_caller_id`, kernel/printk/printk.c). `second` is the other
    /// of the two, where the kernel notes both.
    fn of(id: u32, second: Option<u32>, comm: Option<String>) -> Caller {
        let mut caller = Caller { comm: comm.filter(|c| !c.is_empty()), ..Caller::default() };
        for id in [Some(id), second].into_iter().flatten() {
            match id & 1 << 31 {
                0 => caller.pid = Some(id),
                _ => caller.cpu = Some(id & !(1 << 31)),
            }
        }
        caller
    }
}

/// The device of a message (`struct dev_printk_info`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogDevice {
    /// Such as "pci".
    pub subsystem: String,
    /// Such as "+pci:0000:00:02.0" or "b8:0".
    pub device: String,
}

/// A record that can't be shown.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// Its sequence number, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Log {
    /// The last record one of whose lines contains `text`.
    pub fn last_with(&self, text: &str) -> Option<&Record> {
        self.records.iter().rev().find(|r| r.text.contains(text))
    }

    /// Every line of every record, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = (&Record, &str)> {
        self.records.iter().flat_map(|r| r.text.split('\n').map(move |line| (r, line)))
    }
}

impl Kernel {
    /// The kernel's log. Read anew at every call.
    pub fn log(&self) -> Result<Log> {
        let read = |addr: u64, buf: &mut [u8]| self.read(addr, buf);
        if let Ok(prb) = self.log_symbol("prb") {
            let ring = self.read_u64(prb)?;
            return ringbuffer::read(&read, &ringbuffer::Offsets::of(self)?, ring);
        }
        log_buf::read(&read, &log_buf::Offsets::of(self)?, &log_buf::Place::of(self)?)
    }

    fn log_symbol(&self, name: &str) -> Result<u64> {
        let noted = || self.vmcoreinfo().and_then(|info| info.symbol(name));
        self.symbol(name).or_else(|e| noted().ok_or(e))
    }

    /// Offset of a member of one of printk's structures.
    fn log_offset(&self, ty: &str, member: &str) -> Result<u64> {
        let e = match self.object_at(ty, 0).and_then(|o| o.field(member)) {
            Ok(field) if field.addr() < LARGEST_STRUCT => return Ok(field.addr()),
            Ok(_) => Error::corrupt(format!("the place of {member} in struct {ty}"), 0),
            Err(e) => e,
        };
        let noted = self.vmcoreinfo().and_then(|i| i.offset(&format!("{ty}.{member}")));
        noted.filter(|n| *n < LARGEST_STRUCT).ok_or(e)
    }

    /// Size of one of printk's structures.
    fn log_size(&self, ty: &str) -> Result<u64> {
        let size = match self.ty(ty) {
            Ok(found) => found.size(),
            Err(_) => self.vmcoreinfo().and_then(|i| i.size(ty)),
        };
        size.filter(|n| (1..LARGEST_STRUCT).contains(n))
            .ok_or_else(|| Error::NoType(format!("size of struct {ty}")))
    }
}

/// Both formats in the memory that `read` gives, at `base`.
#[cfg(fuzzing)]
pub(crate) fn fuzz(base: u64, read: &Reader<'_>) {
    let _ = ringbuffer::read(read, &ringbuffer::Offsets::v6_1(), base);
    let _ = log_buf::read(read, &log_buf::Offsets::v5_4(), &log_buf::Place::fuzz(base, read));
}

fn read_u64(read: &Reader<'_>, addr: u64) -> Result<u64> {
    let mut raw = [0; 8];
    read(addr, &mut raw)?;
    Ok(u64::from_le_bytes(raw))
}

fn read_u32(read: &Reader<'_>, addr: u64) -> Result<u32> {
    let mut raw = [0; 4];
    read(addr, &mut raw)?;
    Ok(u32::from_le_bytes(raw))
}

/// An unsigned number of `N` bytes at `at` in a structure's bytes. A structure
/// that ends before it has none.
fn number<const N: usize>(bytes: &[u8], at: u64) -> u64 {
    let mut raw = [0; 8];
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    if let Some(found) = start.checked_add(N).and_then(|end| bytes.get(start..end)) {
        raw[..N].copy_from_slice(found);
    }
    u64::from_le_bytes(raw)
}

/// Text up to its NUL in a field of `len` bytes at `at`.
fn text_field(bytes: &[u8], at: u64, len: usize) -> String {
    let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let field = &bytes[start..start.saturating_add(len).min(bytes.len())];
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_a_thread_or_a_cpu() {
        assert_eq!(Caller::of(17, None, None).pid, Some(17));
        let irq = Caller::of(0x8000_0003, None, None);
        assert_eq!((irq.pid, irq.cpu), (None, Some(3)));
        let both = Caller::of(17, Some(0x8000_0001), Some("sh".into()));
        assert_eq!((both.pid, both.cpu, both.comm.as_deref()), (Some(17), Some(1), Some("sh")));
    }

    #[test]
    fn fields_past_the_end_are_empty() {
        assert_eq!(number::<8>(&[1, 2, 3], 0), 0);
        assert_eq!(number::<2>(&[1, 2, 3], 1), 0x302);
        assert_eq!(text_field(b"ab\0cd", 3, 16), "cd");
        assert_eq!(text_field(b"ab", 9, 16), "");
    }
}

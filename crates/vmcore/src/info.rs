//! What a container says about itself, as plain values.

use serde::Serialize;

use crate::codec::Codec;

/// Machine whose memory was dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// AMD64, Intel 64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Machine {
    /// The machine of that name as `uname -m` gives it.
    pub fn from_name(name: &str) -> Option<Machine> {
        match name {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            _ => None,
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Machine::X86_64 => "x86_64",
            Machine::Aarch64 => "aarch64",
        })
    }
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Path as it was given.
    pub name: String,
    /// Bytes in it.
    pub size: u64,
}

/// `struct new_utsname` of a container's header. Empty where the writer had nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Utsname {
    pub sysname: String,
    pub nodename: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub domainname: String,
}

/// What a container says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ContainerInfo {
    /// The container, e.g. "kdump-compressed v6".
    pub kind: String,
    /// The inputs, in the order of the memory they hold.
    pub files: Vec<FileInfo>,
    /// Machine, if the container says it.
    pub machine: Option<Machine>,
    /// Codecs in use, as far as a look at the header and a sample of pages tells.
    pub compression: Vec<Codec>,
    /// makedumpfile's dump level, if the container says it.
    pub filter_level: Option<u32>,
    /// What lay around the container, from the outside in: compression of the whole file, a
    /// flattened stream, libvirt's header.
    pub layers: Vec<String>,
    /// Whether the input was a flattened stream.
    pub flattened: bool,
    /// Number of parts of a split dump.
    pub split_parts: Option<u32>,
    /// System name of the header, if it has one that isn't empty.
    pub utsname: Option<Utsname>,
    /// Seconds since 1970 in the header, if there.
    pub timestamp: Option<u64>,
    /// Why the dump is incomplete, as far as its headers tell; [`crate::Image::completeness`]
    /// looks at the pages too.
    pub incomplete: Option<String>,
    /// Whatever else was odd, one sentence each.
    pub oddities: Vec<String>,
}

/// How much of the machine's memory the dump has. Counts in pages of the container; `None` where
/// counting would mean reading much of the dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Completeness {
    /// Pages of RAM the machine had.
    pub ram: Option<u64>,
    /// Pages the dump has, as far as its index says, less those counted as lost.
    pub stored: Option<u64>,
    /// Pages of RAM left out by a filter.
    pub filtered: Option<u64>,
    /// Pages that the index has and the file has not.
    pub lost: Option<u64>,
    /// Why the dump is known to be incomplete.
    pub incomplete: Option<String>,
}

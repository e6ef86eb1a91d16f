//! The system as a whole: which kernel, on what, how it ended.
//!
//! `init_uts_ns.name` (`struct new_utsname`) has what uname(2) gives,
//! `saved_command_line` (init/main.c) what the boot loader passed on.

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;
use crate::panic::{CrashedTask, Panic};
use crate::platform::Platform;
use crate::taint::Taints;

/// Boot configurations make command lines longer than a page.
const LONGEST_COMMAND_LINE: usize = 64 << 10;

/// The system.
#[derive(Debug, Clone, Serialize)]
pub struct System {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `uname -m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodename: Option<String>,
    /// NIS domain name; "(none)" where none was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Kernel command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// What taints the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taints: Option<Taints>,
    /// CPU numbers.
    pub cpus: CpuCounts,
    /// The machine below.
    pub platform: Platform,
    /// What `panic()` said; none when it was not called, or the log lacks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<Panic>,
    /// The CPU that panicked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_cpu: Option<u32>,
    /// The task in whose context the kernel died; none in the dump of a
    /// machine that lived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crashed: Option<CrashedTask>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// How many CPUs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuCounts {
    /// That could ever be plugged in.
    pub possible: usize,
    /// That the machine had.
    pub present: usize,
    /// That count as online. A panic takes all but its own offline.
    pub online: usize,
}

impl Kernel {
    /// The system. What can't be read is named in `unread`.
    pub fn system(&self) -> Result<System> {
        let mut unread = Vec::new();
        let log = keep(self.log(), "the log", &mut unread);
        let release = self.uts("release").or_else(|e| {
            let noted = self.vmcoreinfo().and_then(|info| info.osrelease());
            noted.map(str::to_owned).ok_or(e)
        })?;
        let count = |which: &str| self.cpus(which).map(|cpus| cpus.len());
        let mut word = |member| keep(self.uts(member), member, &mut unread);
        Ok(System {
            release,
            version: word("version"),
            machine: word("machine"),
            nodename: word("nodename"),
            domainname: word("domainname"),
            command_line: keep(self.kernel_command_line(), "the command line", &mut unread),
            taints: keep(self.taints(), "taints", &mut unread),
            cpus: CpuCounts {
                possible: count("possible")?,
                present: count("present")?,
                online: count("online")?,
            },
            platform: self.platform(),
            panic: log.as_ref().and_then(|log| log.panic()),
            panic_cpu: keep(self.panic_cpu(), "panic_cpu", &mut unread).flatten(),
            crashed: keep(self.crashed_task(), "the crashed task", &mut unread).flatten(),
            unread,
        })
    }

    /// The kernel's command line.
    pub fn kernel_command_line(&self) -> Result<String> {
        let text = self.read_u64(self.symbol("saved_command_line")?)?;
        self.read_cstring(text, LONGEST_COMMAND_LINE)
    }

    fn uts(&self, member: &str) -> Result<String> {
        self.object("init_uts_ns")?.field("name")?.field(member)?.string()
    }
}

/// The value, or a note why there is none.
fn keep<T>(result: Result<T>, what: &str, unread: &mut Vec<String>) -> Option<T> {
    result.map_err(|e| unread.push(format!("{what}: {e}"))).ok()
}

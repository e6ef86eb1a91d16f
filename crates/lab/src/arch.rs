//! The machines that guests are: what QEMU calls them, and who builds for them.
//!
//! Everything runs on an amd64 host; programs and modules of arm64 guests are
//! cross-built.

use serde::Deserialize;

/// An architecture, as Debian names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86_64.
    #[default]
    Amd64,
    /// aarch64.
    Arm64,
}

impl Arch {
    /// Debian's name.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// Where a suite lists its packages.
    pub(crate) fn index(self) -> String {
        format!("main/binary-{}/Packages.xz", self.name())
    }

    /// QEMU's program.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
        }
    }

    /// What QEMU needs to be told of the machine.
    pub(crate) fn machine(self) -> &'static [&'static str] {
        match self {
            Arch::Amd64 => &["-vga", "std"],
            Arch::Arm64 => &["-machine", "virt"],
        }
    }

    /// The serial console, as the kernel's command line names it.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Arch::Amd64 => "ttyS0",
            Arch::Arm64 => "ttyAMA0",
        }
    }

    /// What stands before the names of the tools that build for it.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Arch::Amd64 => "",
            Arch::Arm64 => "aarch64-linux-gnu-",
        }
    }

    /// What the kernel's makefiles need to be told to build for it.
    pub(crate) fn make(self) -> &'static [&'static str] {
        match self {
            Arch::Amd64 => &[],
            Arch::Arm64 => &["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"],
        }
    }
}

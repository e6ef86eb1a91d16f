//! The firmware's strings about the machine, as /sys/class/dmi/id has them.
//!
//! `dmi_ident` (drivers/firmware/dmi_scan.c) is an array of strings by `enum
//! dmi_field` (include/linux/mod_devicetable.h); what the firmware does not say
//! is NULL.

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;
use crate::gaps::Gaps;

/// A string of the firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DmiString {
    /// What it says, as the kernel names it ("DMI_SYS_VENDOR").
    pub field: String,
    /// The string.
    pub value: String,
}

impl Kernel {
    /// The strings that there are.
    pub fn dmi_strings(&self) -> Result<(Vec<DmiString>, Gaps)> {
        let table = self.symbol("dmi_ident")?;
        let (mut strings, mut gaps) = (Vec::new(), Gaps::default());
        for field in self.ty("dmi_field")?.enumerators() {
            // Fields are numbered from 0 (none); the rest have a handful.
            let Some(index) = u64::try_from(field.value).ok().filter(|n| *n < 256) else {
                continue;
            };
            if matches!(field.name, "DMI_NONE" | "DMI_STRING_MAX" | "DMI_OEM_STRING") {
                continue;
            }
            let read = || match self.read_u64(table.wrapping_add(index * 8))? {
                0 => Ok(None),
                at => self.read_cstring(at, 4096).map(Some),
            };
            if let Some(value) = gaps.keep(field.name, read()).flatten() {
                strings.push(DmiString { field: field.name.to_owned(), value });
            }
        }
        Ok((strings, gaps))
    }
}

//! The machine that the kernel ran on: processor, hypervisor, maker.
//!
//! The processor is `boot_cpu_data` (`struct cpuinfo_x86`). The hypervisor that
//! the kernel talks to is `x86_hyper_type` (enum x86_hypervisor_type,
//! arch/x86/kernel/cpu/hypervisor.c); one that it has no interface with still
//! sets a bit of CPUID. The maker's strings are `dmi_ident`
//! (drivers/firmware/dmi_scan.c), an array of strings by `enum dmi_field`.

use serde::Serialize;

use crate::error::Result;
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct cpuinfo_x86`, arch/x86/include/asm/processor.h
    pub struct CpuinfoLayout for "cpuinfo_x86" {
        vendor: str = "x86_vendor_id",
        model_name: str = "x86_model_id",
        family: u8 = "x86",
        model: u8 = "x86_model",
        stepping: u8 = "x86_stepping" | "x86_mask",
        microcode: u32 = "microcode",
        capability: Embedded = "x86_capability",
    }
}

/// `X86_FEATURE_HYPERVISOR` (arch/x86/include/asm/cpufeatures.h): word 4, bit 31.
const HYPERVISOR_WORD: u64 = 4;

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub struct Platform {
    /// The boot CPU's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuModel>,
    /// The hypervisor below; none on bare metal, or where nothing tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<Hypervisor>,
    /// What the firmware says of the maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dmi: Option<Dmi>,
}

/// A processor model.
#[derive(Debug, Clone, Serialize)]
pub struct CpuModel {
    /// Such as "GenuineIntel".
    pub vendor: String,
    /// Its name, as its maker gives it.
    pub name: String,
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
    /// Microcode revision.
    pub microcode: u32,
}

/// What a virtual machine runs on.
#[derive(Debug, Clone, Serialize)]
pub struct Hypervisor {
    /// Its name.
    pub name: String,
    /// What says so.
    pub evidence: String,
}

/// Strings of the firmware's DMI (SMBIOS) tables.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Dmi {
    /// Maker of the machine ("QEMU", "Amazon EC2").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sys_vendor: Option<String>,
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_version: Option<String>,
    /// Maker of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_vendor: Option<String>,
    /// Version of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_version: Option<String>,
    /// Maker of the chassis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chassis_vendor: Option<String>,
    /// Asset tag of the chassis: some clouds tell themselves apart by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chassis_asset_tag: Option<String>,
}

impl Kernel {
    /// The machine that the kernel ran on. What can't be read is left out.
    pub fn platform(&self) -> Platform {
        let dmi = self.dmi().ok();
        Platform { cpu: self.cpu_model().ok(), hypervisor: self.hypervisor(dmi.as_ref()), dmi }
    }

    fn cpu_model(&self) -> Result<CpuModel> {
        let layout = self.layout::<CpuinfoLayout>()?;
        let cpu = self.symbol("boot_cpu_data")?;
        Ok(CpuModel {
            vendor: layout.vendor.read(self, cpu)?,
            name: layout.model_name.read(self, cpu)?.trim().to_owned(),
            family: layout.family.read(self, cpu)?,
            model: layout.model.read(self, cpu)?,
            stepping: layout.stepping.read(self, cpu)?,
            microcode: layout.microcode.read(self, cpu)?,
        })
    }

    fn hypervisor(&self, dmi: Option<&Dmi>) -> Option<Hypervisor> {
        let paravirtual = self.symbol("x86_hyper_type").and_then(|a| self.read_u32(a));
        if let Ok(value) = paravirtual {
            let name = self.ty("x86_hypervisor_type").ok().and_then(|ty| {
                let found = ty.enumerators().find(|e| e.value == i64::from(value))?;
                Some(found.name.to_owned())
            });
            let evidence = name.unwrap_or_else(|| value.to_string());
            if value != 0 {
                return Some(Hypervisor {
                    name: hypervisor_name(&evidence).to_owned(),
                    evidence: format!("x86_hyper_type is {evidence}"),
                });
            }
        }
        let layout = self.layout::<CpuinfoLayout>().ok()?;
        let words = layout.capability.read(self, self.symbol("boot_cpu_data").ok()?).ok()?;
        let virtual_cpu = self.read_u32(words + HYPERVISOR_WORD * 4).ok()? >> 31 == 1;
        let evidence = "CPUID has the hypervisor bit";
        virtual_cpu.then(|| match dmi.and_then(|dmi| dmi.sys_vendor.as_ref()) {
            Some(vendor) => Hypervisor {
                name: vendor.clone(),
                evidence: format!("{evidence}, and the firmware names {vendor}"),
            },
            None => Hypervisor { name: "unknown".into(), evidence: evidence.into() },
        })
    }

    fn dmi(&self) -> Result<Dmi> {
        let strings = self.symbol("dmi_ident")?;
        let fields = self.ty("dmi_field")?;
        let string = |name: &str| {
            let index = fields.enumerators().find(|e| e.name == name)?.value;
            let at = strings.checked_add(u64::try_from(index).ok()?.checked_mul(8)?)?;
            let text = self.read_cstring(self.read_u64(at).ok()?, 256).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Ok(Dmi {
            sys_vendor: string("DMI_SYS_VENDOR"),
            product_name: string("DMI_PRODUCT_NAME"),
            product_version: string("DMI_PRODUCT_VERSION"),
            bios_vendor: string("DMI_BIOS_VENDOR"),
            bios_version: string("DMI_BIOS_VERSION"),
            chassis_vendor: string("DMI_CHASSIS_VENDOR"),
            chassis_asset_tag: string("DMI_CHASSIS_ASSET_TAG"),
        })
    }
}

/// A hypervisor's name from the kernel's enumerator.
fn hypervisor_name(enumerator: &str) -> &str {
    match enumerator.strip_prefix("X86_HYPER_").unwrap_or(enumerator) {
        "VMWARE" => "VMware",
        "MS_HYPERV" => "Microsoft Hyper-V",
        "XEN_PV" => "Xen (paravirtual guest)",
        "XEN_HVM" => "Xen (hardware virtual machine)",
        "JAILHOUSE" => "Jailhouse",
        "BHYVE" => "bhyve",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::hypervisor_name;

    #[test]
    fn hypervisors_have_names() {
        assert_eq!(hypervisor_name("X86_HYPER_KVM"), "KVM");
        assert_eq!(hypervisor_name("X86_HYPER_MS_HYPERV"), "Microsoft Hyper-V");
        assert_eq!(hypervisor_name("9"), "9");
    }
}

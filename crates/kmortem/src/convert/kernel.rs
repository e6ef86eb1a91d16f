//! What only the kernel knows and the headers of another container want.

use kmortem_kernel::Kernel;
use kmortem_vmcore::writer::Header;
use kmortem_vmcore::{Machine, Utsname};

/// Adds what the kernel in the dump says to what its container says. Gives a sentence for what
/// was added to the dump itself, and for whom.
pub(super) fn add(header: &mut Header, kernel: &Kernel) -> Option<String> {
    let image = kernel.image();
    let names = &mut header.dump.utsname;
    let unnamed = names.release.is_empty() || names.version.is_empty();
    if unnamed && let Ok(system) = kernel.system() {
        *names = Utsname {
            sysname: "Linux".to_owned(),
            nodename: system.nodename.unwrap_or_default(),
            release: system.release,
            version: system.version.unwrap_or_default(),
            machine: system.machine.unwrap_or(std::mem::take(&mut names.machine)),
            domainname: system.domainname.unwrap_or_default(),
        };
        if image.header().is_none() {
            header.dump.nr_cpus = header.dump.nr_cpus.max(system.cpus.present as u32);
            header.dump.current_cpu = system.panic_cpu.unwrap_or(0);
        }
    }
    // A header that says no time is kept as it is.
    if image.header().is_none()
        && header.dump.timestamp.0 == 0
        && let Ok(clock) = kernel.clock()
        && let Ok(seconds) = u64::try_from(clock.realtime_ns / 1_000_000_000)
    {
        header.dump.timestamp = (seconds, 0);
    }
    if image.header().is_none()
        && let Some(base) = phys_base(kernel)
    {
        header.dump.phys_base = base;
    }
    if header.mapped.is_empty()
        && let Some(map) = kernel.space().linear()
    {
        // The map may begin below zero: it wraps.
        let first = if (map.phys as i64) < 0 { 0 } else { map.phys };
        let vaddr = map.range.start.wrapping_add(first.wrapping_sub(map.phys));
        let end = first.saturating_add(map.range.end.saturating_sub(vaddr));
        header.mapped = vec![(first..end, vaddr)];
    }
    if image.vmcoreinfo().is_none()
        && let Some(info) = kernel.vmcoreinfo()
    {
        header.vmcoreinfo = Some(info.raw().as_bytes().to_vec());
        if image.machine_frames().is_some() {
            return Some(
                "a paravirtual guest's page tables hold frames of the machine: which pages these \
                 are stands in a note of our own, and only kmortem reads the result"
                    .to_owned(),
            );
        }
        return Some("VMCOREINFO was found in memory and added, so that others open it".to_owned());
    }
    None
}

/// Where the image was loaded, less where it was linked to be.
fn phys_base(kernel: &Kernel) -> Option<u64> {
    /// `__START_KERNEL_map` (arch/x86/include/asm/page_64_types.h).
    const X86_64_LINKED_AT: u64 = 0xffff_ffff_8000_0000;
    let noted = kernel.vmcoreinfo().and_then(|info| info.number("phys_base"));
    noted.map(|base| base as u64).or_else(|| {
        let offset = kernel.space().image_offset()?;
        let is_x86 = kernel.image().info().machine == Some(Machine::X86_64);
        is_x86.then(|| X86_64_LINKED_AT.wrapping_sub(offset))
    })
}

/// Whether the container leaves something open that the kernel would know.
pub(super) fn is_wanted(header: &Header, is_elf: bool) -> bool {
    let names = &header.dump.utsname;
    let unknown = names.release.is_empty() || names.version.is_empty();
    let no_info =
        header.vmcoreinfo.is_none() && !header.notes.iter().any(|note| note.name == "VMCOREINFO");
    no_info
        || if is_elf { header.mapped.is_empty() } else { unknown || header.dump.timestamp.0 == 0 }
}

//! What only the kernel knows and the headers of another container want.

use kmortem_kernel::Kernel;
use kmortem_vmcore::Utsname;
use kmortem_vmcore::writer::Header;

/// Adds what the kernel in the dump says to what its container says. Gives a sentence for what
/// was added to the dump itself.
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
    if header.dump.timestamp.0 == 0
        && let Ok(clock) = kernel.clock()
        && let Ok(seconds) = u64::try_from(clock.realtime_ns / 1_000_000_000)
    {
        header.dump.timestamp = (seconds, 0);
    }
    if image.header().is_none()
        && let Some(base) = kernel.space().phys_base()
    {
        header.dump.phys_base = base;
    }
    if header.mapped.is_empty()
        && let Some(map) = kernel.space().direct_map()
    {
        header.mapped = vec![(0..map.end - map.start, map.start)];
    }
    if image.vmcoreinfo().is_none()
        && let Some(info) = kernel.vmcoreinfo()
    {
        header.vmcoreinfo = Some(info.raw().as_bytes().to_vec());
        return Some("VMCOREINFO was found in memory and added, so that others open it".to_owned());
    }
    None
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

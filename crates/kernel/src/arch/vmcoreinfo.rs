//! VMCOREINFO in memory: the kernel keeps it in a page of its own, which
//! starts with `OSRELEASE=` (kernel/vmcore_info.c, kernel/crash_core.c before).

use kmortem_vmcore::{Image, VmcoreInfo};

/// The smallest page of any architecture: the text begins at a multiple of it.
const PAGE: u64 = 4096;

/// Tries each VMCOREINFO that is in memory, with a sentence that says where it
/// was; the first that `take` can use is taken.
pub(super) fn search<T>(
    image: &Image,
    mut take: impl FnMut(VmcoreInfo, &str) -> Result<T, String>,
) -> Result<T, String> {
    let mut pages = 0u64;
    let mut refused = None;
    for range in image.present() {
        let mut addr = range.start & !(PAGE - 1);
        while addr < range.end {
            pages += 1;
            let mut start = [0; 10];
            if image.read(addr, &mut start).is_ok() && &start == b"OSRELEASE=" {
                let mut page = vec![0; PAGE as usize];
                let found = image.read(addr, &mut page).ok().and(VmcoreInfo::find_in(&page));
                if let Some(info) = found {
                    let source = format!("VMCOREINFO found in memory at physical {addr:#x}");
                    match take(info, &source) {
                        Ok(found) => return Ok(found),
                        Err(why) => refused = Some(why),
                    }
                }
            }
            addr += PAGE;
        }
    }
    Err(match refused {
        Some(why) => format!("a VMCOREINFO found in memory {why}"),
        None => format!("none of its {pages} pages holds a VMCOREINFO"),
    })
}

//! Any bytes as VMCOREINFO.
#![no_main]

use kmortem_vmcore::VmcoreInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let info = VmcoreInfo::parse(data);
    let _ = (info.osrelease(), info.build_id(), info.crash_time(), info.kernel_offset());
    let _ = (info.page_size(), info.symbol("init_uts_ns"), info.number("phys_base"));
    for (key, _) in info.iter() {
        assert!(info.get(key).is_some());
    }
    // What it printed of itself means the same again.
    assert_eq!(VmcoreInfo::parse(info.raw().as_bytes()).iter().count(), info.iter().count());
    let _ = VmcoreInfo::find_in(data);
});

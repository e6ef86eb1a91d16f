//! VMCOREINFO: what the kernel says about itself to whoever reads its dump.
//!
//! Lines of `KEY=value`, or `KIND(name)=value` (kernel/vmcore_info.c, earlier crash_core.c;
//! Documentation/admin-guide/kdump/vmcoreinfo.rst). Values: `SYMBOL(..)` hexadecimal without
//! prefix, `SIZE`, `OFFSET`, `LENGTH` decimal, `NUMBER` decimal, signed, or hexadecimal with `0x`,
//! `KERNELOFFSET` hexadecimal without prefix, `CRASHTIME` and `PAGESIZE` decimal. The kernel holds
//! the text in one page (`VMCOREINFO_BYTES`), but an array of lines may grow, and other writers
//! have no such bound.

use rustc_hash::FxHashMap;

/// Text beyond this is not taken: sixteen times what any kernel writes.
pub(crate) const MAX_LEN: usize = 64 << 10;

/// A parsed VMCOREINFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmcoreInfo {
    raw: String,
    lines: Vec<(String, String)>,
    /// Key to its first line.
    by_key: FxHashMap<String, usize>,
}

impl VmcoreInfo {
    /// Parses the text up to the first NUL. Lines without `=` are left out.
    pub fn parse(text: &[u8]) -> VmcoreInfo {
        let text = &text[..text.len().min(MAX_LEN)];
        let raw = crate::source::text_until_nul(text);
        let lines: Vec<(String, String)> = raw
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let mut by_key = FxHashMap::default();
        for (index, (key, _)) in lines.iter().enumerate() {
            by_key.entry(key.clone()).or_insert(index);
        }
        VmcoreInfo { raw, lines, by_key }
    }

    /// The VMCOREINFO that starts at the start of `page`, if one does. In the kernel's memory it
    /// fills a page of its own, which lets it be found without any symbol.
    pub fn find_in(page: &[u8]) -> Option<VmcoreInfo> {
        if !page.starts_with(b"OSRELEASE=") {
            return None;
        }
        let info = VmcoreInfo::parse(page);
        // The words alone may be a string of the kernel's, or of a tool that reads dumps.
        info.osrelease()
            .is_some_and(|release| !release.is_empty() && !release.contains('%'))
            .then_some(())?;
        (info.page_size().is_some() || info.lines.len() > 8).then_some(info)
    }

    /// Value of a line, by all that stands before `=`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.by_key.get(key).and_then(|&line| self.lines.get(line)).map(|(_, value)| value.as_str())
    }

    fn of_kind(&self, kind: &str, name: &str) -> Option<&str> {
        self.get(&format!("{kind}({name})"))
    }

    /// Address of a symbol, after KASLR.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        parse_hex(self.of_kind("SYMBOL", name)?)
    }

    /// A number: an enumerator, a flag, a variable's value.
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.of_kind("NUMBER", name)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as i64),
            // VA_BITS-wide masks come as unsigned decimals above i64::MAX.
            None => {
                text.parse().ok().or_else(|| text.parse::<u64>().ok().map(|value| value as i64))
            }
        }
    }

    /// Size of a structure.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.of_kind("SIZE", name)?.parse().ok()
    }

    /// Offset of a member, named `struct.member`.
    pub fn offset(&self, member: &str) -> Option<u64> {
        self.of_kind("OFFSET", member)?.parse().ok()
    }

    /// Length of an array.
    pub fn length(&self, name: &str) -> Option<u64> {
        self.of_kind("LENGTH", name)?.parse().ok()
    }

    /// Release of the kernel, as `uname -r` gives it.
    pub fn osrelease(&self) -> Option<&str> {
        self.get("OSRELEASE")
    }

    /// Build id of vmlinux in hexadecimal (since v5.10).
    pub fn build_id(&self) -> Option<&str> {
        self.get("BUILD-ID")
    }

    /// Seconds since 1970 at the crash; missing where a hypervisor took the dump.
    pub fn crash_time(&self) -> Option<u64> {
        self.get("CRASHTIME")?.parse().ok()
    }

    /// How far KASLR moved the kernel's text.
    pub fn kernel_offset(&self) -> Option<u64> {
        parse_hex(self.get("KERNELOFFSET")?)
    }

    /// Size of the kernel's pages.
    pub fn page_size(&self) -> Option<u64> {
        self.get("PAGESIZE")?.parse().ok()
    }

    /// All lines as key and value, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The text.
    pub fn raw(&self) -> &str {
        &self.raw
    }
}

fn parse_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"OSRELEASE=6.1.0-56-cloud-amd64\nBUILD-ID=53e5\nPAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffffff94e196c0\nOFFSET(list_head.next)=0\nSIZE(page)=64\n\
        LENGTH(zone.free_area)=11\nNUMBER(phys_base)=-1048576\nNUMBER(kimage_voffset)=0xffff80007fe00000\n\
        NUMBER(KERNEL_IMAGE_SIZE)=1073741824\nNUMBER(mask)=18446744073709551615\nKERNELOFFSET=13200000\n\
        garbage\n=\nCRASHTIME=1795371000\nPAGESIZE=8192\n\0SYMBOL(behind)=1\n";

    #[test]
    fn each_kind_of_line_has_its_base() {
        let info = VmcoreInfo::parse(TEXT);
        assert_eq!(info.osrelease(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(info.build_id(), Some("53e5"));
        assert_eq!(info.symbol("init_uts_ns"), Some(0xffff_ffff_94e1_96c0));
        assert_eq!(info.offset("list_head.next"), Some(0));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.length("zone.free_area"), Some(11));
        assert_eq!(info.number("phys_base"), Some(-1_048_576));
        assert_eq!(info.number("kimage_voffset"), Some(0xffff_8000_7fe0_0000_u64 as i64));
        assert_eq!(info.number("mask"), Some(-1));
        assert_eq!(info.kernel_offset(), Some(0x1320_0000));
        assert_eq!(info.crash_time(), Some(1_795_371_000));
        assert_eq!(info.symbol("behind"), None, "behind the NUL");
        assert_eq!(info.symbol("nothing"), None);
    }

    #[test]
    fn the_first_of_two_equal_keys_counts() {
        assert_eq!(VmcoreInfo::parse(TEXT).page_size(), Some(4096));
        assert_eq!(VmcoreInfo::parse(TEXT).iter().filter(|(key, _)| *key == "PAGESIZE").count(), 2);
    }

    #[test]
    fn only_a_page_that_starts_with_it_has_it() {
        assert!(VmcoreInfo::find_in(TEXT).is_some());
        assert!(VmcoreInfo::find_in(&TEXT[1..]).is_none());
        assert!(VmcoreInfo::find_in(b"OSRELEASE=%s\nPAGESIZE=%ld\n").is_none());
        assert!(VmcoreInfo::find_in(b"OSRELEASE=\0").is_none());
        assert!(VmcoreInfo::find_in(b"").is_none());
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_text_do_no_harm() {
        let info = VmcoreInfo::parse(&[0xff; 100]);
        assert_eq!(info.iter().count(), 0);
        let info = VmcoreInfo::parse(&b"A=1\n".repeat(1 << 20));
        assert!(info.raw().len() <= MAX_LEN);
    }
}

//! Xen's dump-core, after Xen's docs/misc/dump-core-format.txt and the public headers
//! (arch-x86/xen.h, arch-x86/xen-x86_64.h, elfnote.h).

use crate::bytes::Bytes;
use crate::{PAGE, notes, page};

const EHDR: u64 = 64;
const SHDR: u64 = 64;
const CONTEXT: u64 = 5168;

/// Registers of a vCPU, in the order of `vcpu_guest_context`.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct XenVcpu {
    pub flags: u64,
    /// r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi.
    pub general: [u64; 15],
    pub rip: u64,
    pub cs: u16,
    pub rflags: u64,
    pub rsp: u64,
    /// ss, es, ds, fs, gs.
    pub segments: [u16; 5],
    pub cr: [u64; 8],
    pub fs_base: u64,
    pub gs_base_kernel: u64,
    pub gs_base_user: u64,
}

impl XenVcpu {
    /// The structure; what is not set is zeros but for the vectors of the virtual IDT.
    pub fn context(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        bytes.put64(512, self.flags);
        for (n, register) in self.general.iter().enumerate() {
            bytes.put64(520 + 8 * n as u64, *register);
        }
        bytes.put32(640, 0xdead);
        bytes.put64(648, self.rip);
        bytes.put16(656, self.cs);
        bytes.put(660, &[1]);
        bytes.put64(664, self.rflags);
        bytes.put64(672, self.rsp);
        for (n, selector) in self.segments.iter().enumerate() {
            bytes.put16(680 + 8 * n as u64, *selector);
        }
        for vector in 0..256u64 {
            bytes.put(720 + 16 * vector, &[vector as u8]);
        }
        for (n, register) in self.cr.iter().enumerate() {
            bytes.put64(4984 + 8 * n as u64, *register);
        }
        bytes.put64(5144, self.fs_base);
        bytes.put64(5152, self.gs_base_kernel);
        bytes.put64(CONTEXT - 8, self.gs_base_user);
        bytes.0
    }
}

/// A dump-core.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct XenCore {
    pub machine: u16,
    pub magic: u64,
    /// What the header says; `None`: what there is.
    pub header_pages: Option<u64>,
    pub header_vcpus: Option<u64>,
    pub page_size: u64,
    pub vcpus: Vec<Vec<u8>>,
    /// Frame number, frame in the machine, content.
    pub pages: Vec<(u64, u64, Vec<u8>)>,
    /// Sections that are left out.
    pub without: Vec<&'static str>,
}

impl XenCore {
    /// A PV guest of `pages` pages with the test kit's content, in the machine from frame 0x5000
    /// on in reverse.
    pub fn pv(pages: u64) -> XenCore {
        let one = |pfn| (pfn, 0x5000 + pages - 1 - pfn, page(pfn));
        XenCore {
            machine: 62,
            magic: 0xf00f_ebed,
            header_pages: None,
            header_vcpus: None,
            page_size: PAGE,
            vcpus: Vec::new(),
            pages: (0..pages).map(one).collect(),
            without: Vec::new(),
        }
    }

    /// An HVM or PVH guest.
    pub fn hvm(pages: u64) -> XenCore {
        XenCore { magic: 0xf00f_ebee, ..XenCore::pv(pages) }
    }

    /// Whether it is a PV guest.
    pub fn is_pv(&self) -> bool {
        self.magic == 0xf00f_ebed
    }

    /// The bytes of the file.
    pub fn build(&self) -> Vec<u8> {
        let (mut pages, mut table) = (Vec::new(), Vec::new());
        for (frame, machine, content) in &self.pages {
            pages.extend(content);
            table.extend(frame.to_le_bytes());
            if self.is_pv() {
                table.extend(machine.to_le_bytes());
            }
        }
        let (table_name, entry) = if self.is_pv() { (".xen_p2m", 16) } else { (".xen_pfn", 8) };
        let sections: Vec<(&str, u32, u64, Vec<u8>)> = vec![
            (".note.Xen", 7, 0, self.notes()),
            (".xen_prstatus", 1, CONTEXT, self.vcpus.concat()),
            (".xen_shared_info", 1, PAGE, vec![0; PAGE as usize]),
            (".xen_pages", 1, PAGE, pages),
            (table_name, 1, entry, table),
        ];
        let sections: Vec<_> =
            sections.into_iter().filter(|(name, ..)| !self.without.contains(name)).collect();

        let mut file = Bytes::default();
        let count = sections.len() as u64 + 2;
        file.put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file.put16(16, 4);
        file.put16(18, self.machine);
        file.put32(20, 1);
        file.put64(40, EHDR);
        file.put16(52, 64);
        file.put16(54, 56);
        file.put16(58, SHDR as u16);
        file.put16(60, count as u16);
        file.put16(62, 1);
        let mut names = b"\0.shstrtab\0".to_vec();
        let mut at = EHDR + SHDR * count;
        for (index, (name, kind, entry, bytes)) in sections.iter().enumerate() {
            if *name == ".xen_pages" {
                at = at.next_multiple_of(PAGE);
            }
            let header = EHDR + SHDR * (index as u64 + 2);
            let fields = [at, bytes.len() as u64, *entry];
            put_section(&mut file, header, names.len() as u32, *kind, fields);
            file.put(at, bytes);
            names.extend(name.as_bytes());
            names.push(0);
            at += bytes.len() as u64;
        }
        put_section(&mut file, EHDR + SHDR, 1, 3, [at, names.len() as u64, 0]);
        file.put(at, &names);
        file.0
    }

    fn notes(&self) -> Vec<u8> {
        let pages = self.header_pages.unwrap_or(self.pages.len() as u64);
        let vcpus = self.header_vcpus.unwrap_or(self.vcpus.len() as u64);
        let header = [self.magic, vcpus, pages, self.page_size];
        let header: Vec<u8> = header.into_iter().flat_map(u64::to_le_bytes).collect();
        // extra_version, compile_info, capabilities, changeset, platform_parameters, pagesize.
        let mut version: Vec<u8> = [4u64, 17].into_iter().flat_map(u64::to_le_bytes).collect();
        version.extend(b".7");
        version.resize(1276, 0);
        [
            notes::note("Xen", 0x200_0000, &[]),
            notes::note("Xen", 0x200_0001, &header),
            notes::note("Xen", 0x200_0002, &version),
            notes::note("Xen", 0x200_0003, &1u64.to_le_bytes()),
        ]
        .concat()
    }
}

/// Offset, size, size of an entry.
fn put_section(file: &mut Bytes, at: u64, name: u32, kind: u32, fields: [u64; 3]) {
    let [offset, size, entry] = fields;
    file.put32(at, name);
    file.put32(at + 4, kind);
    file.put64(at + 24, offset);
    file.put64(at + 32, size);
    file.put64(at + 56, entry);
}

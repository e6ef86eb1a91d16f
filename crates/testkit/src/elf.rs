//! ELF cores, field by field (elf(5)).

use crate::bytes::Bytes;

/// A `PT_LOAD`.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// `p_vaddr`.
    pub vaddr: u64,
    /// `p_paddr`.
    pub paddr: u64,
    /// `p_memsz`.
    pub mem_len: u64,
    /// What the file has of it: `p_filesz` is its length.
    pub bytes: Vec<u8>,
}

/// An ELF core. The default is an empty one of x86_64.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Elf {
    pub class: u8,
    pub data: u8,
    pub kind: u16,
    pub machine: u16,
    pub flags: u32,
    /// `e_ehsize`; QEMU 7.2 writes 8.
    pub ehsize: u16,
    /// Where the program headers lie; QEMU 7.2: 192.
    pub phoff: u64,
    /// Write the number of segments into section header 0, which then lies at 64.
    pub xnum: bool,
    /// One `PT_NOTE` each.
    pub notes: Vec<Vec<u8>>,
    pub loads: Vec<Load>,
}

impl Default for Elf {
    fn default() -> Elf {
        Elf {
            class: 2,
            data: 1,
            kind: 4,
            machine: 62,
            flags: 0,
            ehsize: 64,
            phoff: 64,
            xnum: false,
            notes: Vec::new(),
            loads: Vec::new(),
        }
    }
}

impl Elf {
    /// Adds a segment whose RAM is all in the file.
    #[must_use]
    pub fn load(mut self, paddr: u64, bytes: Vec<u8>) -> Elf {
        self.loads.push(Load { vaddr: 0, paddr, mem_len: bytes.len() as u64, bytes });
        self
    }

    /// The bytes of the file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = Bytes::default();
        let count = self.notes.len() + self.loads.len();
        let phoff = if self.xnum { self.phoff.max(128) } else { self.phoff };
        file.put(0, &[0x7f, b'E', b'L', b'F', self.class, self.data, 1]);
        file.put16(16, self.kind);
        file.put16(18, self.machine);
        file.put32(20, 1);
        file.put64(32, phoff);
        file.put64(40, if self.xnum { 64 } else { 0 });
        file.put32(48, self.flags);
        file.put16(52, self.ehsize);
        file.put16(54, 56);
        file.put16(56, if self.xnum { 0xffff } else { count as u16 });
        file.put16(58, 64);
        file.put16(60, u16::from(self.xnum));
        file.put16(62, 0);
        if self.xnum {
            file.put32(64 + 44, count as u32);
        }
        let mut header = phoff;
        let mut data = phoff + 56 * count as u64;
        for note in &self.notes {
            put_phdr(&mut file, header, 4, [data, 0, 0, note.len() as u64, note.len() as u64]);
            file.put(data, note);
            header += 56;
            data += note.len() as u64;
        }
        for load in &self.loads {
            let len = load.bytes.len() as u64;
            put_phdr(&mut file, header, 1, [data, load.vaddr, load.paddr, len, load.mem_len]);
            file.put(data, &load.bytes);
            header += 56;
            data += len;
        }
        file.0
    }
}

/// Offset, vaddr, paddr, filesz, memsz.
fn put_phdr(file: &mut Bytes, at: u64, kind: u32, fields: [u64; 5]) {
    file.put32(at, kind);
    file.put32(at + 4, 0);
    for (index, field) in fields.into_iter().enumerate() {
        file.put64(at + 8 + 8 * index as u64, field);
    }
    file.put64(at + 48, 0);
}

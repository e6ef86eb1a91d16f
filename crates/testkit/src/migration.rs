//! QEMU migration streams, after QEMU's docs/devel/migration and migration/ram.c.

use crate::{PAGE, page};

/// A record of the section `ram`.
#[derive(Debug, Clone)]
pub enum Record {
    /// A page of a block, by its number in it.
    Page(usize, u64, Vec<u8>),
    /// A page that one byte fills.
    Fill(usize, u64, u8),
    /// Words as they are.
    Raw(Vec<u8>),
}

/// A migration stream.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Machine type.
    pub machine: String,
    /// Blocks: names and sizes in bytes.
    pub blocks: Vec<(String, u64)>,
    /// Records, in two parts if there are many.
    pub records: Vec<Record>,
    /// x86_64 CPUs: each with this value in every register, and CR3.
    pub cpus: Vec<(u64, u64)>,
    /// Whether sections have footers.
    pub footers: bool,
    /// mapped-ram: pages at fixed places, the file aligned to this.
    pub mapped: Option<u64>,
    /// Bytes of another container in front, which mapped-ram's offsets count too.
    pub base: u64,
}

impl Migration {
    /// A PC of `pages` pages, each with the test kit's content.
    pub fn of(pages: u64) -> Migration {
        Migration {
            machine: "pc-i440fx-7.2".to_owned(),
            blocks: vec![("pc.ram".to_owned(), pages * PAGE), ("vga.vram".to_owned(), 2 * PAGE)],
            records: (0..pages).map(|pfn| Record::Page(0, pfn, page(pfn))).collect(),
            cpus: vec![(0x11, 0x1000), (0x22, 0x2000)],
            footers: true,
            mapped: None,
            base: 0,
        }
    }

    /// The stream.
    pub fn build(&self) -> Vec<u8> {
        let mut out = b"QEVM\0\0\0\x03".to_vec();
        out.push(7);
        counted32(&mut out, self.machine.as_bytes());
        if self.mapped.is_some() {
            out.push(5);
            counted8(&mut out, "configuration/capabilities");
            out.extend(1u32.to_be_bytes());
            out.extend(1u32.to_be_bytes());
            counted8(&mut out, "mapped-ram");
        }
        self.section(&mut out, 1, 2, Some(("ram", 0, 4)), |out| self.ram_start(out));
        if self.mapped.is_none() {
            let half = self.records.len() / 2;
            self.section(&mut out, 2, 2, None, |out| self.ram_part(out, &self.records[..half]));
            self.section(&mut out, 3, 2, None, |out| self.ram_part(out, &self.records[half..]));
        } else {
            self.section(&mut out, 3, 2, None, |out| out.extend(0x10u64.to_be_bytes()));
        }
        self.section(&mut out, 4, 3, Some(("timer", 0, 2)), |out| out.extend([7; 24]));
        for (index, (value, cr3)) in self.cpus.iter().enumerate() {
            let header = Some(("cpu", index as u32, 12));
            self.section(&mut out, 4, 4, header, |out| cpu(out, *value, *cr3));
        }
        out.push(0);
        out.push(6);
        counted32(&mut out, self.description().as_bytes());
        out
    }

    fn section(
        &self,
        out: &mut Vec<u8>,
        kind: u8,
        id: u32,
        header: Option<(&str, u32, u32)>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        out.push(kind);
        out.extend(id.to_be_bytes());
        if let Some((name, instance, version)) = header {
            counted8(out, name);
            out.extend(instance.to_be_bytes());
            out.extend(version.to_be_bytes());
        }
        body(out);
        if self.footers {
            out.push(0x7e);
            out.extend(id.to_be_bytes());
        }
    }

    fn ram_start(&self, out: &mut Vec<u8>) {
        let total: u64 = self.blocks.iter().map(|(_, len)| len).sum();
        out.extend((total | 4).to_be_bytes());
        for (index, (name, len)) in self.blocks.iter().enumerate() {
            counted8(out, name);
            out.extend(len.to_be_bytes());
            let Some(alignment) = self.mapped else { continue };
            let bitmap_at = self.base + out.len() as u64 + 28;
            let mut bitmap = vec![0u8; (len / PAGE).div_ceil(64) as usize * 8];
            let pages_at = (bitmap_at + bitmap.len() as u64).next_multiple_of(alignment);
            out.extend(1u32.to_be_bytes());
            out.extend(PAGE.to_be_bytes());
            out.extend(bitmap_at.to_be_bytes());
            out.extend(pages_at.to_be_bytes());
            let bitmap_in_file = out.len();
            out.extend(&bitmap);
            let pages = (pages_at - self.base) as usize;
            out.resize(pages + *len as usize, 0);
            for record in &self.records {
                if let Record::Page(block, number, bytes) = record
                    && *block == index
                {
                    bitmap[*number as usize / 8] |= 1 << (number % 8);
                    let at = pages + (number * PAGE) as usize;
                    out[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
            out[bitmap_in_file..bitmap_in_file + bitmap.len()].copy_from_slice(&bitmap);
        }
        out.extend(0x10u64.to_be_bytes());
    }

    fn ram_part(&self, out: &mut Vec<u8>, records: &[Record]) {
        let mut last = None;
        for record in records {
            let (block, number, flag, content) = match record {
                Record::Page(block, number, bytes) => (block, number, 8u64, bytes.clone()),
                Record::Fill(block, number, byte) => (block, number, 2, vec![*byte]),
                Record::Raw(bytes) => {
                    out.extend(bytes);
                    continue;
                }
            };
            let again = last == Some(*block);
            let word = (number * PAGE) | flag | if again { 0x20 } else { 0 };
            out.extend(word.to_be_bytes());
            if !again {
                counted8(out, &self.blocks[*block].0);
            }
            last = Some(*block);
            out.extend(content);
        }
        out.extend(0x10u64.to_be_bytes());
    }

    fn description(&self) -> String {
        let timer = r#"{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2,
            "fields": [{"name": "a", "type": "int64", "size": 8, "array_len": 3}]}"#;
        let mut devices = vec![timer.to_owned()];
        for index in 0..self.cpus.len() {
            devices.push(format!(
                "{{\"name\": \"cpu\", \"instance_id\": {index}, \"vmsd_name\": \"cpu\", \
                 \"version\": 12, \"fields\": [{}], \"subsections\": [{{\"vmsd_name\": \
                 \"cpu/more\", \"version\": 1, \"fields\": [{{\"name\": \"x\", \"type\": \"uint8\", \
                 \"size\": 1}}]}}]}}",
                cpu_fields()
            ));
        }
        format!("{{\"page_size\": {PAGE}, \"devices\": [{}]}}", devices.join(", "))
    }
}

fn counted8(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn counted32(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

const TABLES: [&str; 4] = ["ldt", "tr", "gdt", "idt"];

/// Registers, in another order than QEMU's: names count.
fn cpu(out: &mut Vec<u8>, value: u64, cr3: u64) {
    out.extend(value.to_be_bytes());
    out.extend((0..16u64).flat_map(|n| (value + n).to_be_bytes()));
    out.extend([0xee; 5]);
    for index in 0..6 + TABLES.len() as u64 {
        out.extend((index as u32).to_be_bytes());
        out.extend((value << 32 | index).to_be_bytes());
        out.extend([0; 8]);
    }
    for word in [0x8005_0033, 0xdead_0000, cr3, 0x20, 0x246, value + 0x1000] {
        out.extend(u64::to_be_bytes(word));
    }
    // The subsection.
    out.push(5);
    counted8(out, "cpu/more");
    out.extend(1u32.to_be_bytes());
    out.push(9);
}

fn cpu_fields() -> String {
    let number =
        |name: &str| format!("{{\"name\": \"{name}\", \"type\": \"uint64\", \"size\": 8}}");
    let members = "{\"fields\": [{\"name\": \"selector\", \"type\": \"uint32\", \"size\": 4}, \
                   {\"name\": \"base\", \"type\": \"uint64\", \"size\": 8}, {\"name\": \"limit\", \
                   \"type\": \"uint32\", \"size\": 4}, {\"name\": \"flags\", \"type\": \"uint32\", \
                   \"size\": 4}]}";
    let mut fields = vec![
        number("env.eip"),
        "{\"name\": \"env.regs\", \"array_len\": 16, \"type\": \"uint64\", \"size\": 8}".to_owned(),
        "{\"name\": \"unused\", \"type\": \"unused_buffer\", \"size\": 5}".to_owned(),
        format!(
            "{{\"name\": \"env.segs\", \"array_len\": 6, \"type\": \"struct\", \"struct\": \
             {members}, \"size\": 20}}"
        ),
    ];
    fields.extend(TABLES.iter().map(|name| {
        format!(
            "{{\"name\": \"env.{name}\", \"type\": \"struct\", \"struct\": {members}, \"size\": 20}}"
        )
    }));
    fields.extend(
        ["env.cr[0]", "env.cr[2]", "env.cr[3]", "env.cr[4]", "env.eflags", "env.kernelgsbase"]
            .map(number),
    );
    fields.join(", ")
}

/// A stream behind libvirt's header, as `virsh save` writes it.
pub fn libvirt_save(stream: &[u8], format: u32) -> Vec<u8> {
    let xml = b"<domain type='qemu'/>\0";
    let mut out = b"LibvirtQemudSave".to_vec();
    for word in [2, xml.len() as u32, 0, format, 0] {
        out.extend(word.to_le_bytes());
    }
    out.resize(92, 0);
    out.extend(xml);
    out.extend(stream);
    out
}

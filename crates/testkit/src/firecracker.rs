//! Firecracker's state file, after src/vmm/src/persist.rs, src/vmm/src/vstate/memory.rs and
//! src/vmm/src/arch/x86_64/vcpu.rs of its releases. What the reader passes over is noise.

use crate::vcpu::Vcpu;

/// How the structures are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FcEncoding {
    /// v0.24 to v1.6, with the data version.
    Versionize(u16),
    /// v1.7 to v1.14: "1.0.0" to "8.0.0".
    Bincode(&'static str),
    /// From v1.15 on, "9.0.0": a column per field. What crate bitcode 0.6 makes of one or more
    /// vCPUs was looked at; lengths and packing before the bytes are noise here.
    Bitcode(&'static str),
}

/// A region of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FcRegion {
    pub addr: u64,
    pub len: u64,
    /// Whether it was plugged in, and the parts that have memory.
    pub hotplug: bool,
    pub slots: Vec<bool>,
}

/// How a region is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Offset,
    Plain,
    Slots,
}

/// A state.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Firecracker {
    pub magic: u64,
    pub encoding: FcEncoding,
    pub mem_size_mib: u64,
    pub regions: Vec<FcRegion>,
    pub vcpus: Vec<Vcpu>,
    /// Added to the right checksum.
    pub wrong_by: u64,
}

impl Firecracker {
    /// A guest with RAM at these addresses.
    pub fn of(encoding: FcEncoding, ranges: &[(u64, u64)], vcpus: &[Vcpu]) -> Firecracker {
        let region = |(addr, len): &(u64, u64)| FcRegion {
            addr: *addr,
            len: *len,
            hotplug: false,
            slots: vec![true],
        };
        Firecracker {
            magic: 0x0710_1984_8664_0000,
            encoding,
            mem_size_mib: ranges.iter().map(|(_, len)| len).sum::<u64>() >> 20,
            regions: ranges.iter().map(region).collect(),
            vcpus: vcpus.to_vec(),
            wrong_by: 0,
        }
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.encoding {
            FcEncoding::Versionize(version) => {
                out.extend((self.magic | 1).to_le_bytes());
                out.extend(version.to_le_bytes());
                self.body(&mut out, Shape::Offset, false);
            }
            FcEncoding::Bincode(version) => {
                out.extend(self.magic.to_le_bytes());
                string(&mut out, version);
                let major: u32 = version.split('.').next().expect("a number").parse().expect("one");
                let shape = match *version {
                    "8.0.0" => Shape::Slots,
                    _ if major >= 5 => Shape::Plain,
                    _ => Shape::Offset,
                };
                self.body(&mut out, shape, major >= 2);
            }
            FcEncoding::Bitcode(version) => {
                out.push(0);
                out.extend(self.magic.to_le_bytes());
                out.push(version.len() as u8);
                out.extend(version.as_bytes());
                self.columns(&mut out);
            }
        }
        let crc = crc64(&out).wrapping_add(self.wrong_by);
        out.extend(crc.to_le_bytes());
        out
    }

    fn body(&self, out: &mut Vec<u8>, shape: Shape, has_lens: bool) {
        // vm_info: mem_size_mib, smt, cpu_template, boot_source, huge_pages.
        out.extend(self.mem_size_mib.to_le_bytes());
        out.push(1);
        out.extend(3u32.to_le_bytes());
        string(out, "/srv/vmlinux");
        out.push(0);
        out.push(1);
        string(out, "console=ttyS0 reboot=k panic=1");
        out.extend(0u32.to_le_bytes());
        self.regions(out, shape);
        noise(out, 600, 1);
        out.extend((self.vcpus.len() as u64).to_le_bytes());
        for vcpu in &self.vcpus {
            let mut field = |bytes: Vec<u8>| {
                if has_lens {
                    out.extend((bytes.len() as u64).to_le_bytes());
                }
                out.extend(bytes);
            };
            for (index, value) in [(0x174, 0x10), (0xc000_0102, vcpu.kernel_gs_base), (0x10, 99)] {
                field(Vcpu::kvm_msr(index, value));
            }
            // Debug registers, the local APIC, mp_state.
            let mut between = Vec::new();
            noise(&mut between, 128 + 1024 + 4, 2);
            field(between);
            field(vcpu.kvm_regs());
            field(vcpu.kvm_sregs());
            noise(out, 4096, 3);
        }
    }

    fn columns(&self, out: &mut Vec<u8>) {
        noise(out, 1500, 7);
        for vcpu in &self.vcpus {
            for (index, value) in [(0x174, 0x10), (0xc000_0102, vcpu.kernel_gs_base), (0x10, 99)] {
                out.extend(Vcpu::kvm_msr(index, value));
            }
        }
        out.extend([0x01, 0x90, 0x00]);
        out.extend(self.vcpus.iter().flat_map(Vcpu::kvm_regs));
        // Lengths: as 16-bit numbers, and how they are packed.
        out.extend(vec![0xff; self.vcpus.len()]);
        out.push(4);
        out.extend(self.vcpus.iter().flat_map(|_| 312u16.to_le_bytes()));
        out.push(0);
        out.extend(self.vcpus.iter().flat_map(Vcpu::kvm_sregs));
        noise(out, 1500, 8);
    }

    fn regions(&self, out: &mut Vec<u8>, shape: Shape) {
        out.extend((self.regions.len() as u64).to_le_bytes());
        let mut offset = 0;
        for region in &self.regions {
            out.extend(region.addr.to_le_bytes());
            out.extend(region.len.to_le_bytes());
            match shape {
                Shape::Offset => out.extend(u64::to_le_bytes(offset)),
                Shape::Plain => {}
                Shape::Slots => {
                    out.extend(u32::from(region.hotplug).to_le_bytes());
                    out.extend((region.slots.len() as u64).to_le_bytes());
                    out.extend(region.slots.iter().map(|slot| u8::from(*slot)));
                }
            }
            offset += region.len;
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Bytes of no meaning, the same for the same seed.
fn noise(out: &mut Vec<u8>, len: usize, seed: u64) {
    let mut state = seed;
    for _ in 0..len {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Much of a real state is zeros.
        out.push(if state >> 62 == 0 { (state >> 40) as u8 } else { 0 });
    }
}

/// Bit by bit, from the polynomial as it is written down.
fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = 0u64;
    for byte in bytes {
        for bit in 0..8 {
            let top = crc >> 63 ^ u64::from(byte >> bit & 1);
            crc = crc << 1 ^ if top == 1 { 0xad93_d235_94c9_35a9 } else { 0 };
        }
    }
    crc.reverse_bits()
}

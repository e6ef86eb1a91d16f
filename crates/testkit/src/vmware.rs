//! VMware's checkpoint state, after illumos' kvm_vmss.c, crash's vmware_vmss.h and Volatility's page
//! "VMware Snapshot File".

use crate::bytes::Bytes;
use crate::vcpu::Vcpu;

/// A value of a tag.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum VmssValue {
    /// Up to 61 bytes, in the tag.
    Plain(Vec<u8>),
    /// A block with so many bytes of padding before it.
    Block { padding: u16, compressed: bool, bytes: Vec<u8> },
}

/// A named value.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct VmssTag {
    pub group: &'static str,
    pub name: &'static str,
    pub indices: Vec<u32>,
    pub value: VmssValue,
}

/// A state: groups and their tags.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Vmss {
    pub magic: u32,
    pub groups: Vec<&'static str>,
    pub tags: Vec<VmssTag>,
}

impl VmssTag {
    fn number(
        group: &'static str,
        name: &'static str,
        indices: &[u32],
        value: u64,
        len: usize,
    ) -> VmssTag {
        let value = VmssValue::Plain(value.to_le_bytes()[..len].to_vec());
        VmssTag { group, name, indices: indices.to_vec(), value }
    }

    fn block(name: &'static str, cpu: u32, bytes: Vec<u8>) -> VmssTag {
        let value = VmssValue::Block { padding: 0, compressed: false, bytes };
        VmssTag { group: "cpu", name, indices: vec![cpu], value }
    }

    /// A tag of the group `memory`.
    pub fn memory(name: &'static str, indices: &[u32], value: u64) -> VmssTag {
        VmssTag::number("memory", name, indices, value, 4)
    }
}

impl Vmss {
    /// The state of a machine whose memory is in a .vmem: regions { PPN, PageNum, pages }.
    pub fn of(regions: &[(u64, u64, u64)], vcpus: &[Vcpu]) -> Vmss {
        let mut tags = vec![VmssTag::memory("align_mask", &[], 0xffff)];
        tags.push(VmssTag::memory("regionsCount", &[], regions.len() as u64));
        for (index, (ppn, page_num, pages)) in regions.iter().enumerate() {
            let index = [index as u32];
            tags.push(VmssTag::memory("regionPageNum", &index, *page_num));
            tags.push(VmssTag::memory("regionPPN", &index, *ppn));
            tags.push(VmssTag::memory("regionSize", &index, *pages));
        }
        tags.push(VmssTag::number("cpu", "cpu:numVCPUs", &[], vcpus.len() as u64, 4));
        for (index, vcpu) in vcpus.iter().enumerate() {
            tags.extend(registers(index as u32, vcpu));
        }
        Vmss { magic: 0xbed2_bed2, groups: vec!["Checkpoint", "cpu", "memory"], tags }
    }

    /// The same with the memory in it, behind so much padding. It is the last of the file.
    pub fn with_memory(mut self, padding: u16, bytes: Vec<u8>) -> Vmss {
        let value = VmssValue::Block { padding, compressed: false, bytes };
        self.tags.push(VmssTag { group: "memory", name: "Memory", indices: vec![0, 0], value });
        self
    }

    /// The same with the registers in blocks, as newer ESX has them.
    pub fn with_blocks(mut self, vcpus: &[Vcpu]) -> Vmss {
        let is_old = |tag: &VmssTag| {
            let name = tag.name;
            matches!(name, "CR64" | "IDTR") || (name.starts_with('r') && name != "rip")
        };
        self.tags.retain(|tag| tag.group != "cpu" || !is_old(tag));
        for (index, vcpu) in vcpus.iter().enumerate() {
            let [ax, bx, cx, dx, si, di, sp, bp, rest @ ..] = vcpu.gprs;
            let words = [ax, cx, dx, bx, bp, sp, si, di].into_iter().chain(rest);
            let index = index as u32;
            self.tags.push(VmssTag::block(
                "gpregs",
                index,
                words.flat_map(u64::to_le_bytes).collect(),
            ));
            let words = vcpu.cr.into_iter().chain([0; 4]);
            self.tags.push(VmssTag::block(
                "CR64",
                index,
                words.flat_map(u64::to_le_bytes).collect(),
            ));
            let table = [vcpu.idt.0.to_le_bytes().as_slice(), &vcpu.idt.1.to_le_bytes()].concat();
            self.tags.push(VmssTag::block("IDTR", index, table));
        }
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut out = Bytes::default();
        out.put32(0, self.magic);
        out.put32(4, 8);
        out.put32(8, self.groups.len() as u32);
        let mut at = 12 + 80 * self.groups.len() as u64;
        for (index, group) in self.groups.iter().enumerate() {
            let head = 12 + 80 * index as u64;
            let start = at;
            out.put(head, group.as_bytes());
            for tag in self.tags.iter().filter(|tag| tag.group == *group) {
                let bytes = self.tag(tag);
                out.put(at, &bytes);
                at += bytes.len() as u64;
            }
            out.put16(at, 0);
            at += 2;
            out.put64(head + 64, start);
            out.put64(head + 72, at - start);
        }
        out.0
    }

    fn tag(&self, tag: &VmssTag) -> Vec<u8> {
        let size = match &tag.value {
            VmssValue::Plain(bytes) => bytes.len() as u8,
            VmssValue::Block { compressed: true, .. } => 62,
            VmssValue::Block { .. } => 63,
        };
        let mut out = vec![size | (tag.indices.len() as u8) << 6, tag.name.len() as u8];
        out.extend(tag.name.as_bytes());
        out.extend(tag.indices.iter().flat_map(|index| index.to_le_bytes()));
        match &tag.value {
            VmssValue::Plain(bytes) => out.extend(bytes),
            VmssValue::Block { padding, bytes, .. } => {
                let width = if self.magic & 0xf == 0 { 4 } else { 8 };
                for _ in ["in the file", "in memory"] {
                    out.extend(&(bytes.len() as u64).to_le_bytes()[..width]);
                }
                out.extend(padding.to_le_bytes());
                out.extend(vec![0xee; usize::from(*padding)]);
                out.extend(bytes);
            }
        }
        out
    }
}

fn registers(cpu: u32, vcpu: &Vcpu) -> Vec<VmssTag> {
    const NAMES: [&str; 16] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    let number = |name, indices: &[u32], value, len| {
        let indices = [&[cpu], indices].concat();
        VmssTag::number("cpu", name, &indices, value, len)
    };
    let mut tags = vec![
        number("eflags", &[], vcpu.rflags, 4),
        number("rip", &[], vcpu.rip, 8),
        number("halted", &[], 0, 1),
    ];
    for (name, value) in NAMES.into_iter().zip(vcpu.gprs) {
        tags.push(number(name, &[], value, 8));
    }
    for (index, (selector, base)) in (0..).zip(vcpu.segments) {
        tags.push(number("S", &[index], selector.into(), 4));
        tags.push(number("S.base64", &[index], base, 8));
    }
    for (index, value) in (0..).zip(vcpu.cr) {
        tags.push(number("CR64", &[index], value, 8));
        tags.push(number("CR", &[index], value & 0xffff_ffff, 4));
    }
    for (name, (limit, base)) in [("GDTR", vcpu.gdt), ("IDTR", vcpu.idt)] {
        tags.push(number(name, &[0], limit.into(), 2));
        tags.push(number(name, &[1], base & 0xffff_ffff, 4));
        tags.push(number(name, &[2], base >> 32, 4));
    }
    tags
}

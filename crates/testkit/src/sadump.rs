//! sadump's partitions, sets of disks and media, after crash's sadump.h and the comments of
//! libkdumpfile's sadump.c.

use std::collections::BTreeMap;

use crate::bytes::Bytes;
use crate::vcpu::Vcpu;

/// A dump.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Sadump {
    pub block_size: u64,
    pub header_version: u32,
    pub max_mapnr: u64,
    /// Page frames that are RAM, and whether each is in the dump.
    pub pfns: BTreeMap<u64, bool>,
    /// CPUs by APIC ID.
    pub vcpus: Vec<Option<Vcpu>>,
    /// Pages that each disk of a set takes but the last; empty: no set.
    pub pages_on_disks: Vec<u64>,
    /// A media header is before it all.
    pub is_media: bool,
    pub sequential_num: u8,
    pub sub_hdr_size: u32,
    pub bitmap_blocks: u32,
}

impl Sadump {
    /// A partition with all of these page frames.
    pub fn of(pfns: impl IntoIterator<Item = u64>, vcpus: &[Vcpu]) -> Sadump {
        let pfns: BTreeMap<u64, bool> = pfns.into_iter().map(|pfn| (pfn, true)).collect();
        let max_mapnr = pfns.last_key_value().map_or(1, |(pfn, _)| pfn + 1);
        Sadump {
            block_size: 4096,
            header_version: 1,
            max_mapnr,
            pfns,
            vcpus: vcpus.iter().cloned().map(Some).collect(),
            pages_on_disks: Vec::new(),
            is_media: false,
            sequential_num: 1,
            sub_hdr_size: (4 + vcpus.len() as u32 * 1040).div_ceil(4096),
            bitmap_blocks: max_mapnr.div_ceil(8 * 4096) as u32,
        }
    }

    fn disks(&self) -> usize {
        match self.pages_on_disks.len() {
            0 => 0,
            others => others + 1,
        }
    }

    /// All headers and bitmaps; the pages follow. Of a set those of the first disk.
    pub fn head(&self) -> Vec<u8> {
        let mut out = Bytes::default();
        let mut at = 0;
        if self.is_media {
            out.put(0, &[0x11; 16]);
            out.put(16, &[0x22; 16]);
            out.put(48, &[self.sequential_num, 1, 0, 1]);
            at = 4096;
        }
        let disks = self.disks();
        let set = at + self.block_size;
        let dump = set + if disks > 0 { self.block_size } else { 0 };
        let sub = dump + self.block_size;
        let ram = sub + u64::from(self.sub_hdr_size) * self.block_size;
        let dumped = ram + u64::from(self.bitmap_blocks) * self.block_size;
        let data = dumped + u64::from(self.bitmap_blocks) * self.block_size;
        let used = self.pages_on_disks.first().map_or(0, |pages| data + pages * self.block_size);
        self.part(&mut out, at, if disks > 0 { 1 } else { 0 }, used);
        if disks > 0 {
            out.put32(set, 1);
            out.put32(set + 4, disks as u32);
            for disk in 2..=disks as u64 {
                out.put(set + 16 + 32 * (disk - 2), &[0x30 + disk as u8; 16]);
            }
        }
        out.put(dump, b"sadump\0\0");
        out.put32(dump + 8, self.header_version);
        out.put32(dump + 40, self.block_size as u32);
        out.put32(dump + 48, self.sub_hdr_size);
        out.put32(dump + 52, self.bitmap_blocks);
        out.put32(dump + 56, self.bitmap_blocks);
        out.put32(dump + 80, self.vcpus.len() as u32);
        match self.header_version {
            0 => out.put32(dump + 60, self.max_mapnr as u32),
            _ => out.put64(dump + 88, self.max_mapnr),
        }
        out.put32(sub, self.vcpus.len() as u32 * 1024);
        let states = sub + 4 + 16 * self.vcpus.len() as u64;
        for (id, vcpu) in self.vcpus.iter().enumerate() {
            out.put64(sub + 4 + 16 * id as u64, id as u64);
            if let Some(vcpu) = vcpu {
                smram(&mut out, states + 1024 * id as u64, vcpu);
            }
        }
        let mut bits = vec![0u8; (data - ram) as usize];
        let second = (dumped - ram) as usize;
        for (pfn, is_dumped) in &self.pfns {
            let (byte, bit) = ((pfn / 8) as usize, 0x80 >> (pfn % 8));
            bits[byte] |= bit;
            bits[second + byte] |= if *is_dumped { bit } else { 0 };
        }
        out.put(ram, &bits);
        out.0
    }

    /// The header of a further disk of a set, from 2 on, for so many pages.
    pub fn further(&self, disk: u32, pages: u64) -> Vec<u8> {
        let mut out = Bytes::default();
        self.part(&mut out, 0, disk, self.block_size * (1 + pages));
        out.0
    }

    /// The files, with what `page` gives for each page frame.
    pub fn build(&self, page: impl Fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
        let dumped = self.pfns.iter().filter(|(_, is_dumped)| **is_dumped).map(|(pfn, _)| *pfn);
        let mut dumped: Vec<u64> = dumped.collect();
        let mut files = Vec::new();
        let mut file = self.head();
        for (number, pages) in (2..).zip(&self.pages_on_disks) {
            let rest = dumped.split_off(*pages as usize);
            file.extend(dumped.into_iter().flat_map(&page));
            dumped = rest;
            let next = self.pages_on_disks.get(number as usize - 1).copied();
            let next = next.unwrap_or(dumped.len() as u64);
            files.push(std::mem::replace(&mut file, self.further(number, next)));
        }
        file.extend(dumped.into_iter().flat_map(&page));
        files.push(file);
        files
    }

    fn part(&self, out: &mut Bytes, at: u64, disk: u32, used: u64) {
        out.put(at, b"sadump\0\0");
        out.put32(at + 8, 1);
        out.put(at + 88, &[0x11; 16]);
        out.put(at + 104, &[0x22; 16]);
        out.put(at + 120, &[0x30 + disk as u8; 16]);
        out.put32(at + 152, disk);
        out.put64(at + 160, used);
        let mut magic = 0x1234_5678u32;
        for word in (168..self.block_size).step_by(4) {
            out.put32(at + word, magic);
            magic = magic.wrapping_add(7).wrapping_mul(11);
        }
    }
}

fn smram(out: &mut Bytes, at: u64, vcpu: &Vcpu) {
    let [ax, bx, cx, dx, si, di, sp, bp, r8, r9, r10, r11, r12, r13, r14, r15] = vcpu.gprs;
    let upwards = [r15, r14, r13, r12, r11, r10, r9, r8, ax, cx, dx, bx, sp, bp, si, di];
    for (index, register) in (0..).zip(upwards) {
        out.put64(at + 796 + 8 * index, register);
    }
    // Reserved, and yet not zero.
    out.put64(at, 0xdead_beef);
    for (upper, lower, (limit, base)) in [(464, 652, vcpu.gdt), (472, 660, vcpu.idt)] {
        out.put32(at + upper, (base >> 32) as u32);
        out.put32(at + lower, base as u32);
        out.put32(at + lower + 4, limit.into());
    }
    out.put32(at + 576, vcpu.cr[4] as u32);
    let [es, cs, ss, ds, fs, gs, ldt, tr] = vcpu.segments.map(|(selector, _)| u32::from(selector));
    for (index, selector) in (0..).zip([es, cs, ss, ds, fs, gs, ldt, tr]) {
        out.put32(at + 936 + 4 * index, selector);
    }
    for (index, register) in (0..).zip([vcpu.rip, 0xd01, vcpu.rflags, vcpu.cr[3], vcpu.cr[0]]) {
        out.put64(at + 984 + 8 * index, register);
    }
}

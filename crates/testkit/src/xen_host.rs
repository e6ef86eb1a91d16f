//! The dump of a machine that Xen ran on, after Xen's xen/include/xen/elfcore.h and
//! xen/include/public/arch-x86/xen.h.

use std::collections::BTreeMap;

use crate::{Elf, Load, PAGE, notes, page};

const WORDS: u64 = 512;
/// Frames of the tree: the top, and the two pages that say that a subtree is missing.
const TREE: u64 = 3;

/// A host with a PV dom0.
#[derive(Debug, Clone)]
pub struct XenHost {
    /// dom0's pages: number, frame in the machine, content.
    pub pages: Vec<(u64, u64, Vec<u8>)>,
    /// Other pages of the machine: frame, content.
    pub others: Vec<(u64, Vec<u8>)>,
    /// Entries of the tree that are no frames of dom0's: number and entry.
    pub entries: Vec<(u64, u64)>,
    /// First of the frames that the tree is put in.
    pub tree: u64,
    /// Each CPU's registers in the hypervisor, and CR3.
    pub cpus: Vec<([u64; 27], u64)>,
    /// dom0's.
    pub vmcoreinfo: Option<String>,
    /// Machine address of the string of the extra version.
    pub extra_version: u64,
    /// Whether the crash info says where the hypervisor lies.
    pub says_place: bool,
    /// Frame of the tree's top, if not the real one.
    pub top: Option<u64>,
}

impl XenHost {
    /// dom0 with `pages` pages of the test kit's content, in the machine from frame 0x5000 on in
    /// reverse; the other frames of the machine belong to others.
    pub fn of(pages: u64) -> XenHost {
        XenHost {
            pages: (0..pages).map(|pfn| (pfn, 0x5000 + pages - 1 - pfn, page(pfn))).collect(),
            others: vec![(0x10, [b".7\0".as_slice(), &[0; 4093]].concat())],
            entries: Vec::new(),
            tree: 0x1000,
            cpus: Vec::new(),
            vmcoreinfo: None,
            extra_version: 0x10 * PAGE,
            says_place: true,
            top: None,
        }
    }

    /// The core as the capture kernel has it.
    pub fn elf(&self) -> Elf {
        let mut machine: BTreeMap<u64, Vec<u8>> = self.others.iter().cloned().collect();
        machine.extend(self.pages.iter().map(|(_, frame, bytes)| (*frame, bytes.clone())));
        machine.extend(self.tree_pages());
        let mut elf = Elf { notes: vec![self.notes()], ..Elf::default() };
        for (frame, bytes) in machine {
            match elf.loads.last_mut() {
                Some(last) if last.paddr + last.mem_len == frame * PAGE => {
                    last.mem_len += PAGE;
                    last.bytes.extend(bytes);
                }
                _ => elf.loads.push(Load { vaddr: 0, paddr: frame * PAGE, mem_len: PAGE, bytes }),
            }
        }
        elf
    }

    fn tree_pages(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut leaves: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let own = self.pages.iter().map(|(pfn, frame, _)| (*pfn, *frame));
        for (pfn, entry) in own.chain(self.entries.iter().copied()) {
            let leaf = leaves.entry(pfn / WORDS).or_insert_with(|| vec![u64::MAX; 512]);
            leaf[(pfn % WORDS) as usize] = entry;
        }
        let (missing_middle, missing_leaf) = (self.tree + 1, self.tree + 2);
        let mut next = self.tree + TREE;
        let mut middles: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (index, leaf) in leaves {
            let empty = || vec![missing_leaf; 512];
            let middle = middles.entry(index / WORDS).or_insert_with(empty);
            middle[(index % WORDS) as usize] = next;
            found.insert(next, bytes_of(&leaf));
            next += 1;
        }
        let mut top = vec![missing_middle; 512];
        for (index, middle) in middles {
            top[index as usize] = next;
            found.insert(next, bytes_of(&middle));
            next += 1;
        }
        found.insert(self.tree, bytes_of(&top));
        found.insert(missing_middle, bytes_of(&[missing_leaf; 512]));
        found.insert(missing_leaf, bytes_of(&[u64::MAX; 512]));
        found
    }

    /// Each CPU's registers and control registers; the crash info follows those of the first.
    fn notes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut info = vec![4, 17, self.extra_version, 0, 0, 0, 0, 0];
        if self.says_place {
            info.push(0x1fa0_0000);
        }
        info.push(self.top.unwrap_or(self.tree));
        let info = notes::note("Xen", 0x100_0001, &bytes_of(&info));
        for (index, (regs, cr3)) in self.cpus.iter().enumerate() {
            bytes.extend(notes::prstatus_x86_64(0, regs));
            let control = [0x8005_0033, 0, *cr3, 0x660];
            bytes.extend(notes::note("Xen", 0x100_0002, &bytes_of(&control)));
            if index == 0 {
                bytes.extend(&info);
            }
        }
        if self.cpus.is_empty() {
            bytes.extend(&info);
        }
        let symbols = b"PAGESIZE=4096\nSYMBOL(pgd_l4)=ffff82d0405a1000\n";
        bytes.extend(notes::note("VMCOREINFO_XEN", 0, symbols));
        if let Some(text) = &self.vmcoreinfo {
            bytes.extend(notes::vmcoreinfo(text));
        }
        bytes
    }
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

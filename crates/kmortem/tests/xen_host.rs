//! A Xen host's dump, put together field by field: the bundled dump's memory as dom0's, and a
//! hypervisor below it with page tables, stacks, symbols and a console ring. No Xen was there.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guest_of_xen;
mod same;

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_of_xen::{PAGE, general_registers, machine_frame, pv_pages, sample};
use kmortem_kernel::Kernel;
use kmortem_testkit::{XenHost, xen_symbols};
use kmortem_vmcore::{Image, Source};

/// Room for the hypervisor's image, and its map of all memory.
const ROOM: u64 = 0xffff_82d0_4000_0000;
const TEXT: u64 = 0x20_0000;
const DIRECT_MAP: u64 = 0xffff_8300_0000_0000;
/// Frames that are the hypervisor's.
const FIRST_FRAME: u64 = 0x20;
const STACK: usize = 32 << 10;
const RING: usize = 4096;

/// Pages of the hypervisor, and the tables that map them.
struct Hypervisor {
    pages: BTreeMap<u64, Vec<u8>>,
    next: u64,
    root: u64,
}

impl Hypervisor {
    /// The root is a page of dom0's.
    fn new(root: u64) -> Hypervisor {
        let pages = BTreeMap::from([(root, vec![0; PAGE as usize])]);
        Hypervisor { pages, next: FIRST_FRAME, root }
    }

    fn page(&mut self, bytes: &[u8]) -> u64 {
        let frame = self.next;
        self.next += 1;
        let mut page = bytes.to_vec();
        page.resize(PAGE as usize, 0);
        self.pages.insert(frame, page);
        frame
    }

    /// Puts bytes at a virtual address.
    fn put(&mut self, addr: u64, bytes: &[u8]) {
        for (addr, bytes) in (addr..).step_by(PAGE as usize).zip(bytes.chunks(PAGE as usize)) {
            let frame = self.page(bytes);
            let mut table = self.root;
            for shift in [39, 30, 21] {
                table = match self.entry(table, addr >> shift) {
                    0 => {
                        let below = self.page(&[]);
                        self.set_entry(table, addr >> shift, below);
                        below
                    }
                    entry => entry >> 12,
                };
            }
            self.set_entry(table, addr >> 12, frame);
        }
    }

    fn entry(&self, table: u64, index: u64) -> u64 {
        let at = (index % 512 * 8) as usize;
        u64::from_le_bytes(self.pages[&table][at..at + 8].try_into().unwrap())
    }

    fn set_entry(&mut self, table: u64, index: u64, frame: u64) {
        let at = (index % 512 * 8) as usize;
        let entry = (frame << 12 | 0x63).to_le_bytes();
        self.pages.get_mut(&table).unwrap()[at..at + 8].copy_from_slice(&entry);
    }
}

/// Functions, then the ring's variables, then the symbols.
fn image(ring: u64, written: u32) -> Vec<u8> {
    let functions: Vec<String> = (0..300).map(|n| format!("tarch/x86/x.c#function{n}")).collect();
    let text = TEXT as u32;
    let mut symbols: Vec<(u32, &str)> =
        (text..).step_by(16).zip(functions.iter().map(String::as_str)).collect();
    let data = text + 0x2000;
    symbols.extend([
        (data, "ddrivers/char/console.c#conring"),
        (data + 8, "ddrivers/char/console.c#conring_size"),
        (data + 12, "bdrivers/char/console.c#conringp"),
    ]);
    let mut bytes = vec![0x90; 0x2000];
    bytes.extend(ring.to_le_bytes());
    bytes.extend((RING as u32).to_le_bytes());
    bytes.extend(written.to_le_bytes());
    bytes.extend(xen_symbols(&symbols));
    bytes
}

/// A stack with the guest's registers at its top, below as much as Xen 4.17 has there.
fn stack(registers: &kmortem_kernel::arch::Registers) -> Vec<u8> {
    let get = |name: &str| registers.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v);
    let (ip, flags, sp) = (get("rip"), get("rflags"), get("rsp"));
    let words = [0xfb_0000_0000, ip, 0xe033, flags, sp, 0xe02b];
    let words = general_registers(registers).into_iter().chain(words);
    let saved: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let mut stack = vec![0; STACK];
    let at = STACK - 0x118;
    stack[at..at + saved.len()].copy_from_slice(&saved);
    stack
}

#[test]
fn dom0_answers_as_the_dump_it_was_made_of_and_the_hypervisor_too() {
    let kernel = Kernel::open_files(&[sample()]).unwrap();
    let mut host = XenHost::of(0);
    host.pages = pv_pages(&kernel);
    let spare = host.pages.iter().map(|(frame, ..)| frame).max().unwrap() + 1;

    let mut xen = Hypervisor::new(machine_frame(spare));
    let ring_at = DIRECT_MAP + 0x10_0000;
    // What was written last stands before what was written first.
    let mut log = b"(XEN) first line\n(XEN) second line\n".repeat(150);
    let written = log.len();
    let mut ring = vec![0; RING];
    for (n, byte) in log.iter().enumerate() {
        ring[n % RING] = *byte;
    }
    log.drain(..written - RING);
    xen.put(ring_at, &ring);
    xen.put(ROOM + TEXT, &image(ring_at, written as u32));
    let offsets = kernel.per_cpu_offsets().unwrap();
    let cr3 = xen.root * PAGE;
    // The machine's CPUs are not in the order of dom0's.
    for (n, (cpu, registers)) in kernel.cpu_registers().iter().enumerate().rev() {
        let stack_at = DIRECT_MAP + 0x20_0000 + (n * STACK) as u64;
        xen.put(stack_at, &stack(registers));
        let mut regs = [0; 27];
        regs[16] = ROOM + TEXT + 16 * n as u64 + 5;
        regs[19] = stack_at + STACK as u64 - 0x400;
        regs[22] = offsets.iter().find(|(of, _)| of == cpu).unwrap().1;
        host.cpus.push((regs, cr3));
    }
    let root = xen.pages.remove(&xen.root).unwrap();
    host.pages.push((spare, xen.root, root));
    host.others.extend(xen.pages);
    host.tree = 1 << 22;

    let source: Arc<dyn Source> = Arc::new(host.elf().build());
    let image = Image::from_sources(vec![("host".to_owned(), source)]).unwrap();
    let dom0 = Kernel::open(image).unwrap();
    let (ours, theirs) = (same::told(&dom0).unwrap(), same::told(&kernel).unwrap());
    let diff = similar::TextDiff::from_lines(&theirs, &ours);
    assert!(ours == theirs, "{}", diff.unified_diff());
    let ips = |kernel: &Kernel| {
        kernel.cpu_registers().iter().map(|(cpu, regs)| (*cpu, regs.ip())).collect::<Vec<_>>()
    };
    assert_eq!(ips(&dom0), ips(&kernel));

    let hypervisor = dom0.xen_hypervisor().unwrap();
    assert_eq!((hypervisor.version.as_str(), hypervisor.no_symbols), ("4.17.7", None));
    let count = kernel.cpu_registers().len();
    assert_eq!(hypervisor.cpus.len(), count);
    for (cpu, n) in hypervisor.cpus.iter().zip((0..count).rev()) {
        assert_eq!(cpu.symbol.as_ref().unwrap().to_string(), format!("function{n}+0x5"));
        let ip = format!("{:#x}", kernel.cpu_registers()[n].1.ip());
        assert!(cpu.dom0_ip.as_ref().unwrap().starts_with(&ip), "{:?}", cpu.dom0_ip);
    }
    assert_eq!(dom0.xen_log().unwrap().as_bytes(), log);
    assert!(kernel.xen_hypervisor().is_none() && kernel.xen_log().is_err());
}

//! Writes the seeds of this crate's fuzz targets: `cargo run --example seeds -- fuzz/seeds`.

#[path = "../../debuginfo/tests/build/mod.rs"]
mod build;

use std::path::Path;

use build::kallsyms::{Encoding, Form, KERNEL, Order, RODATA, with_borders};
use kmortem_testkit::{Elf, notes};

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds DIRECTORY");
        return Ok(());
    };
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let directory = Path::new(&directory).join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), bytes)
    };
    write("log", "ringbuffer", &ringbuffer())?;
    write("log", "log_buf", &log_buf())?;
    write("open_kernel", "log", &kernel())
}

/// A 64-bit word.
fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Where the target `log` puts what it is given.
const FUZZED: u64 = 0xffff_8880_0000_0000;

/// A ring of v6.1 with four descriptors and 128 bytes of text: `struct
/// printk_ringbuffer` at 0, descriptors at 128, infos at 256, text at 640.
fn ringbuffer() -> Vec<u8> {
    let mut bytes = vec![0; 768];
    let (head, tail) = (6, 4);
    for (at, word) in [
        (0, 2),
        (8, FUZZED + 128),
        (16, FUZZED + 256),
        (24, head),
        (32, tail),
        (48, 7),
        (56, FUZZED + 640),
        (64, 72),
        (72, 0),
    ] {
        put(&mut bytes, at, word);
    }
    for id in tail..=head {
        let (slot, nth) = ((id % 4) as usize, id - tail);
        let block = 24 * nth;
        let text = b"Linux versions ";
        put(&mut bytes, 128 + 24 * slot, 2 << 62 | id);
        put(&mut bytes, 128 + 24 * slot + 8, block);
        put(&mut bytes, 128 + 24 * slot + 16, block + 24);
        let info = 256 + 88 * slot;
        put(&mut bytes, info, nth);
        put(&mut bytes, info + 8, 1000 * nth);
        put(&mut bytes, info + 16, text.len() as u64 | (6 << 5 | 2) << 24 | 77 << 32);
        let data = 640 + block as usize;
        put(&mut bytes, data, id);
        bytes[data + 8..data + 8 + text.len()].copy_from_slice(text);
    }
    bytes
}

/// Length, first and next index; then two records and the mark that the log
/// goes on at the buffer's start.
fn log_buf() -> Vec<u8> {
    let records = printk_logs();
    let next = records.len() as u64;
    let mut bytes: Vec<u8> = [next + 32, 0, next].iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend(records);
    bytes.resize(bytes.len() + 32, 0);
    bytes
}

fn printk_logs() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (ts, text, dict) in [(1, "Linux version", ""), (2, "e1000", "SUBSYSTEM=pci\0DEVICE=+pci:0")]
    {
        let len = (16 + text.len() + dict.len()).next_multiple_of(8);
        let end = bytes.len() + len;
        bytes.extend(u64::to_le_bytes(ts));
        for n in [len, text.len(), dict.len()] {
            bytes.extend((n as u16).to_le_bytes());
        }
        bytes.extend([0, 6 << 5 | 2]);
        bytes.extend(text.bytes().chain(dict.bytes()));
        bytes.resize(end, 0);
    }
    bytes
}

/// `__START_KERNEL_map`
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Physical address of the three page tables.
const TABLES: u64 = 0x1000;
/// The page of the log's variables and buffer, at the end of the read-only data.
const LOG: u64 = RODATA + 0xf_0000;

/// A dump of a kernel that has page tables, symbols and a log, no types. Its
/// VMCOREINFO says where.
fn kernel() -> Vec<u8> {
    let form = Form {
        encoding: Encoding::BaseRelative,
        order: Order::Since64,
        long_lengths: true,
        alignment: 8,
    };
    let symbol = |i: u64| (KERNEL + 0x40 * i, 't', format!("sys_call_{i}"));
    let mut symbols: Vec<_> = (1..40).map(symbol).collect();
    for (at, name) in
        [(0, "log_buf"), (8, "log_buf_len"), (12, "log_first_idx"), (16, "log_next_idx")]
    {
        symbols.push((LOG + at, 'd', name.to_owned()));
    }
    symbols.push((LOG + 24, 'd', "log_first_seq".to_owned()));
    let written = build::kallsyms::write(&with_borders(symbols), form);
    let records = printk_logs();
    let mut log = vec![0; 32];
    put(&mut log, 0, LOG + 32);
    put(&mut log, 8, records.len() as u64 + 16);
    put(&mut log, 16, records.len() as u64);
    log.extend(records);
    log.resize(log.len() + 16, 0);

    // The image lies 1:1 behind __START_KERNEL_map, in pages of 2 MiB.
    let mut tables = vec![0; 3 * 4096];
    put(&mut tables, 511 * 8, (TABLES + 0x1000) | 0x63);
    put(&mut tables, 4096 + 510 * 8, (TABLES + 0x2000) | 0x63);
    let first = (KERNEL - START_KERNEL_MAP) >> 21;
    for slot in first..first + 5 {
        put(&mut tables, 8192 + slot as usize * 8, slot << 21 | 0xe3);
    }
    let t = &written.tables;
    let places = [t.names, t.markers, t.token_table, t.token_index, t.offsets];
    let places = places.into_iter().chain(t.relative_base);
    let (start, end) = places.fold((u64::MAX, 0), |(a, b), p| (a.min(p), b.max(p)));
    let (start, end) = (start - 8, end + 4 * u64::from(t.num_syms) + 8);
    let piece = written.rodata[(start - RODATA) as usize..(end - RODATA) as usize].to_vec();
    let vmcoreinfo = format!(
        "OSRELEASE=5.4.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)={KERNEL:x}\n\
         SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={KERNEL:x}\nNUMBER(phys_base)=0\n\
         SYMBOL(kallsyms_num_syms)={:x}\nSYMBOL(kallsyms_names)={:x}\nSYMBOL(kallsyms_markers)={:x}\n\
         SYMBOL(kallsyms_token_table)={:x}\nSYMBOL(kallsyms_token_index)={:x}\n\
         SYMBOL(kallsyms_offsets)={:x}\nSYMBOL(kallsyms_relative_base)={:x}\n\
         SIZE(printk_log)=16\nOFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\n\
         OFFSET(printk_log.text_len)=10\nOFFSET(printk_log.dict_len)=12\n",
        START_KERNEL_MAP + TABLES,
        LOG + 4088,
        t.names,
        t.markers,
        t.token_table,
        t.token_index,
        t.offsets,
        t.relative_base.unwrap_or(0),
    );
    log.resize(4096, 0);
    put(&mut log, 4088, u64::from(t.num_syms));
    let mut elf = Elf::default()
        .load(TABLES, tables)
        .load(start - START_KERNEL_MAP, piece)
        .load(LOG - START_KERNEL_MAP, log);
    elf.notes =
        vec![[notes::prstatus_x86_64(1, &[0; 27]), notes::vmcoreinfo(&vmcoreinfo)].concat()];
    elf.build()
}

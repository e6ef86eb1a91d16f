//! Writes the seeds of this crate's fuzz targets: `cargo run --example seeds -- fuzz/seeds`.

#[path = "../tests/build/mod.rs"]
mod build;

use std::path::Path;

use build::btf::{
    ARRAY, Builder, CONST, DATASEC, ENUM64, FUNC, PTR, SIGNED, STRUCT, TYPEDEF, UNION, VAR,
};
use build::kallsyms::{Encoding, Form, KERNEL, Order, RODATA, with_borders};
use build::orc;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds DIRECTORY");
        return Ok(());
    };
    let directory = Path::new(&directory);
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), bytes)
    };
    write("btf", "kernel", &btf())?;
    for (name, form) in kallsyms_forms() {
        let (tables, memory) = kallsyms(form);
        write("kallsyms", name, &[tables, memory.clone()].concat())?;
        write("kallsyms_scan", name, &memory)?;
    }
    for form in orc::FORMS {
        write("orc", &format!("{form:?}").to_lowercase(), &orc_tables(form))?;
    }
    Ok(())
}

fn btf() -> Vec<u8> {
    let mut b = Builder::new();
    let int = b.int("int", 4, SIGNED);
    let array = b.record(ARRAY, "", false, 0, 0, &[int, int, 16]);
    let inner = b.composite(UNION, "", 64, &[("a", array, 0), ("b", int, 0)]);
    let outer = b.bitfields("task_struct", 72, &[("", inner, 0, 0), ("bits", int, 512, 3)]);
    let pointer = b.to(PTR, outer);
    let konst = b.to(CONST, pointer);
    let typedef = b.named(TYPEDEF, "task_t", konst);
    let proto = b.proto(int, &[("task", typedef), ("", 0)]);
    b.record(FUNC, "do_exit", false, 1, proto, &[]);
    let var = b.record(VAR, "current_task", false, 0, pointer, &[1]);
    b.record(DATASEC, ".data..percpu", false, 1, 8, &[var, 0, 8]);
    b.enumeration("state", true, &[("RUNNING", 0), ("DEAD", -1)]);
    b.record(ENUM64, "flags", false, 1, 8, &[0, 1, 2]);
    b.composite(STRUCT, "list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    b.finish_with_layout(&[(0, 0); 20])
}

fn kallsyms_forms() -> [(&'static str, Form); 4] {
    let v5_10 = Form {
        encoding: Encoding::AbsolutePercpu,
        order: Order::UpTo63 { seqs: false },
        long_lengths: false,
        alignment: 8,
    };
    let v6_2 = Form { order: Order::UpTo63 { seqs: true }, long_lengths: true, ..v5_10 };
    let v6_15 = Form { order: Order::Since64, encoding: Encoding::BaseRelative, ..v6_2 };
    let v7_0 = Form { encoding: Encoding::PlaceRelative, alignment: 4, ..v6_15 };
    [("v5_10", v5_10), ("v6_2", v6_2), ("v6_15", v6_15), ("v7_0", v7_0)]
}

/// Where the fuzz targets put what they are given: shortly before the tables.
const FUZZED: u64 = RODATA + 0x3_0100;

/// What the target `kallsyms` takes: the count, and where in the rest each table is; the rest.
fn kallsyms(form: Form) -> (Vec<u8>, Vec<u8>) {
    let symbol = |i: u64| (KERNEL + 0x40 * i, 't', format!("sys_call_{i}"));
    let written = build::kallsyms::write(&with_borders((1..280).map(symbol).collect()), form);
    let t = &written.tables;
    let start = FUZZED;
    let places = [
        t.names,
        t.markers,
        t.token_table,
        t.token_index,
        t.offsets,
        t.relative_base.unwrap_or(start),
    ];
    let mut tables = (t.num_syms as u16).to_le_bytes().to_vec();
    tables.extend(places.iter().flat_map(|place| ((place - start) as u16).to_le_bytes()));
    let end = places.iter().max().map_or(start, |last| last + 4 * u64::from(t.num_syms) + 8);
    let memory = &written.rodata[(start - RODATA) as usize..(end - RODATA) as usize];
    (tables, memory.to_vec())
}

/// What the target `orc` takes: an address, and as many offsets as entries.
fn orc_tables(form: orc::Form) -> Vec<u8> {
    let text = 0xffff_ffff_8100_0000;
    let rules: Vec<orc::Rule> = (0..40)
        .map(|i| (text + 16 * i, "sp", 8, "prev_sp", -16, orc::Kind::Call))
        .chain([(text + 0x1000, "undefined", 0, "undefined", 0, orc::Kind::EndOfStack)])
        .collect();
    let (ips, entries) = orc::write(&rules, form, 0xffff_ffff_8200_0000);
    [&[0x33, 0, 0, 0xff], ips.as_slice(), entries.as_slice()].concat()
}

//! Prints the log of a dump as dmesg would: `cargo run --example log -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    let start = std::time::Instant::now();
    let log = kernel.log()?;
    eprintln!("{} records, {} damaged, {:?}", log.records.len(), log.damage.len(), start.elapsed());
    for (record, line) in log.lines() {
        let us = record.ts_ns / 1000;
        println!("[{:5}.{:06}] {line}", us / 1_000_000, us % 1_000_000);
        if let Some(why) = &record.incomplete {
            eprintln!("record {}: {why}", record.seq);
        }
    }
    for damage in &log.damage {
        eprintln!("damage: {damage:?}");
    }
    Ok(())
}

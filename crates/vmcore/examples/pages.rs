//! Prints what a dump says about itself, and the CRC-32 of every page it has.
//!
//! `cargo run --release -p kmortem-vmcore --example pages -- [--quiet] FILE...`
//!
//! Two dumps of the same memory in two containers, or the output of another reader, can be
//! compared with diff(1).

use std::io::Write;

use kmortem_vmcore::Image;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let quiet = files.iter().position(|arg| arg == "--quiet").map(|at| files.remove(at)).is_some();
    let start = std::time::Instant::now();
    let image = Image::open(&files)?;
    let opened = start.elapsed();
    eprintln!("{:#?}", image.info());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut pages, mut absent) = (0u64, 0u64);
    for run in image.present() {
        for addr in run.step_by(image.page_size() as usize) {
            match image.page(addr) {
                Ok(page) => {
                    pages += 1;
                    let mut crc = flate2::Crc::new();
                    crc.update(&page);
                    if !quiet {
                        writeln!(out, "{addr:#x} {:08x}", crc.sum())?;
                    }
                }
                Err(reason) => {
                    absent += 1;
                    writeln!(out, "{addr:#x} {reason}")?;
                }
            }
        }
    }
    out.flush()?;
    eprintln!("opened in {opened:?}, {pages} pages, {absent} absent, {:?} in all", start.elapsed());
    eprintln!("{:?}", image.completeness());
    eprintln!("{} notes, {} CPUs, RAM {:x?}", image.notes().len(), image.cpus().len(), image.ram());
    if let Some(info) = image.vmcoreinfo() {
        eprintln!("{:?}, {} lines", info.osrelease(), info.iter().count());
    }
    Ok(())
}

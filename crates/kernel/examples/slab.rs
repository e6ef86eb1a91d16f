//! Prints the slab caches of a dump: `cargo run --example slab -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    kernel.btf()?;
    let start = std::time::Instant::now();
    let caches = kernel.slab_caches()?;
    eprintln!("{} caches in {:?}", caches.len(), start.elapsed());
    println!("CACHE             OBJSIZE  ALLOCATED     TOTAL  SLABS  SSIZE  NAME");
    for cache in &caches {
        println!(
            "{:x}  {:7}  {:9}  {:8}  {:5}  {:4}k  {}",
            cache.addr,
            cache.object_size,
            cache.allocated,
            cache.objects,
            cache.slabs,
            cache.slab_size / 1024,
            cache.name
        );
        if let Some(aliases) = cache.aliases.as_ref().filter(|a| !a.is_empty()) {
            println!("    aliases: {}", aliases.join(" "));
        }
        for reason in cache.gaps.reasons() {
            println!("    missing: {reason}");
        }
    }
    Ok(())
}

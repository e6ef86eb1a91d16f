//! Prints the memory of a dump's machine: `cargo run --example memory -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    kernel.btf()?;
    let tasks = kernel.tasks()?;
    let start = std::time::Instant::now();
    let memory = kernel.memory()?;
    eprintln!("memory in {:?}", start.elapsed());
    let show = |name: &str, pages: Option<u64>| match pages {
        Some(pages) => println!("{name:>14} {pages:>9}"),
        None => println!("{name:>14} unknown"),
    };
    let (huge, huge_free) = memory.huge_total_and_free();
    show("TOTAL", Some(memory.total));
    show("FREE", Some(memory.free));
    show("USED", Some(memory.used()));
    show("AVAILABLE", memory.available);
    show("SHMEM", memory.shmem);
    show("BUFFERS", memory.buffers);
    show("CACHED", memory.cached);
    show("SLAB", memory.slab());
    show("PER CPU", memory.per_cpu);
    show("VMALLOC", memory.vmalloc);
    show("HUGE", Some(huge));
    show("HUGE FREE", Some(huge_free));
    show("SWAP", memory.swap_total);
    show("SWAP FREE", memory.swap_free);
    show("COMMIT LIMIT", memory.commit_limit);
    show("COMMITTED", memory.committed.and_then(|c| u64::try_from(c).ok()));
    for (name, value) in &memory.counters.0 {
        println!("  {name} {value}");
    }
    for (name, value) in kernel.vm_events()?.0.iter().filter(|(_, value)| *value != 0) {
        println!("  {name} {value}");
    }
    for zone in memory.nodes.iter().flat_map(|node| &node.zones) {
        println!(
            "node {} {} free {} pcp {} min {} low {} high {} present {} managed {} {:?}",
            zone.node,
            zone.name,
            zone.free,
            zone.per_cpu_free,
            zone.min,
            zone.low,
            zone.high,
            zone.present,
            zone.managed,
            zone.free_blocks
        );
    }
    for reason in memory.gaps.reasons() {
        println!("missing: {reason}");
    }
    let start = std::time::Instant::now();
    for task in tasks.list.iter().filter(|t| t.is_leader()) {
        match kernel.task_memory(task) {
            Ok(Some(m)) => println!(
                "[{:>5}] {:>5} {:>8} {:>8} {:>6} {:>6} {:>6} {:>10} {} {:?}",
                task.pid,
                task.tgid,
                m.total_vm,
                m.rss(),
                m.rss_file,
                m.rss_anon,
                m.rss_shmem,
                m.page_tables_bytes.unwrap_or(0),
                task.comm,
                kernel.task_arguments(task).map_err(|e| e.to_string())
            ),
            Ok(None) => {}
            Err(e) => println!("[{:>5}] {}: {e}", task.pid, task.comm),
        }
    }
    eprintln!("memory of tasks in {:?}", start.elapsed());
    Ok(())
}

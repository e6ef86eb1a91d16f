//! Prints who waits for whom: `cargo run --example locks -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    let start = std::time::Instant::now();
    let graph = kernel.wait_graph()?;
    eprintln!("{} waits in {:?}", graph.waits.len(), start.elapsed());
    for wait in &graph.waits {
        let state = kernel.tasks()?.at(wait.waiter.addr).map(|task| task.state);
        let name = wait.lock.name();
        println!(
            "{:?} {state:?} waits for {:?} {:#x} {name:?} bit {:?} {:?} {:?}: {:?}",
            wait.waiter.task,
            wait.lock.kind,
            wait.lock.addr,
            wait.lock.bit_name,
            wait.mode,
            wait.known_by,
            wait.lock.owner
        );
    }
    println!("cycles: {:#x?}", graph.cycles);
    Ok(())
}

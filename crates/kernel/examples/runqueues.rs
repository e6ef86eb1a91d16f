//! Prints what each CPU runs and what waits for it:
//! `cargo run --example runqueues -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    for queue in kernel.runqueues()? {
        let current = kernel.tasks()?.at(queue.current).map(|task| (task.pid, &task.comm));
        println!(
            "CPU {} {:#x} current {current:?} running {} switches {:?} iowait {:?} clock {} ns",
            queue.cpu,
            queue.addr,
            queue.nr_running,
            queue.nr_switches,
            queue.nr_iowait,
            queue.clock_ns
        );
        if let Some(stop) = &queue.stop {
            println!("  stop {stop:?}");
        }
        let classes = [("dl", &queue.deadline), ("rt", &queue.realtime), ("fair", &queue.fair)];
        for (class, tasks) in classes {
            for task in tasks {
                println!("  {class} {task:?}");
            }
        }
        for why in &queue.unread {
            println!("  unread {why}");
        }
    }
    Ok(())
}

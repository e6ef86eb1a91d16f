//! Prints the control groups of a dump: `cargo run --example cgroups -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    let tasks = kernel.tasks()?;
    let start = std::time::Instant::now();
    let cgroups = kernel.cgroups()?;
    eprintln!("{} cgroups in {:?}", cgroups.len(), start.elapsed());
    for hierarchy in kernel.cgroup_hierarchies()? {
        println!("{hierarchy:x?}");
    }
    for cgroup in &cgroups {
        println!(
            "{} hierarchy {} level {} tasks {:?} dying {} pids {:?}",
            cgroup.path, cgroup.hierarchy, cgroup.level, cgroup.tasks, cgroup.dying, cgroup.pids
        );
        if let Some(memory) = &cgroup.memory {
            println!(
                "  usage {} max {:?} high {:?} failures {:?} swap {:?} max {:?} kernel {:?}",
                memory.usage,
                memory.max,
                memory.high,
                memory.failures,
                memory.swap_usage,
                memory.swap_max,
                memory.kernel
            );
            println!("  events {:?}", memory.events.0);
            let stat = memory.stat.0.iter().filter(|(_, value)| *value != 0);
            println!("  stat {:?}", stat.collect::<Vec<_>>());
            println!("  missing {:?}", memory.gaps.reasons());
        }
        println!("  missing {:?}", cgroup.gaps.reasons());
    }
    for task in tasks.list.iter().filter(|t| t.mm != 0) {
        let all = kernel.task_cgroups(task).map_err(|e| e.to_string());
        println!("{} {}: {:?} {all:?}", task.pid, task.comm, kernel.task_cgroup(task));
    }
    Ok(())
}

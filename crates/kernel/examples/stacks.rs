//! Prints the stack of every task of a dump: `cargo run --example stacks -- VMCORE...`
use kmortem_kernel::Kernel;
use kmortem_kernel::stack::{StackEnd, Trust};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = std::time::Instant::now();
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    eprintln!("opened in {:?}: {}", start.elapsed(), kernel.how_found());
    let tasks = kernel.tasks()?;
    for task in &tasks.list {
        println!(
            "PID {} {} {:?} cpu {} active {}",
            task.pid, task.comm, task.state, task.cpu, task.active
        );
        let stack = kernel.stack(task);
        for (i, frame) in stack.frames.iter().enumerate() {
            let name = frame.symbol.as_ref().map_or("?".to_owned(), ToString::to_string);
            let mark = match &frame.trust {
                Trust::Guess(why) => format!("  GUESS {why}"),
                _ => String::new(),
            };
            let regs = if frame.registers.is_some() { " (interrupted)" } else { "" };
            println!("  #{i} {:#x} {:#x} {name}{regs}{mark}", frame.at, frame.pc);
        }
        match stack.end {
            StackEnd::User { registers } => println!("  user {:#x}", registers.ip()),
            StackEnd::ThreadStart => println!("  start of thread"),
            StackEnd::Broken { reason } => println!("  BROKEN {reason}"),
        }
    }
    for e in &tasks.broken {
        println!("broken: {e}");
    }
    eprintln!("{} tasks, {:?}", tasks.list.len(), start.elapsed());
    Ok(())
}

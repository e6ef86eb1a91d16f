//! Prints what a dump says of its system as a whole:
//! `cargo run --example system -- VMCORE...`
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Kernel::open_files(&files)?;
    println!("{:#?}", kernel.system()?);
    println!("{:#?}", kernel.clock()?);
    if let Some(crashed) = kernel.crashed_task()? {
        println!("crashed: {:?}", kernel.tasks()?.at(crashed.task));
    }
    Ok(())
}

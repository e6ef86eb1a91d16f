//! Prints the report of a dump: `cargo run --release --example report -- [--json|--markdown] VMCORE...`
use kmortem_diagnose::{TextOptions, render_markdown, render_text, report};
use kmortem_kernel::Kernel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = std::time::Instant::now();
    let (options, files): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let kernel = Kernel::open_files(&files)?;
    let opened = start.elapsed();
    let report = report(&kernel);
    eprintln!("opened in {opened:?}, report in {:?}", start.elapsed() - opened);
    let has = |name: &str| options.iter().any(|o| o == name);
    if has("--json") {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if has("--markdown") {
        print!("{}", render_markdown(&report));
    } else {
        let options = TextOptions { full: has("--full"), ..TextOptions::default() };
        print!("{}", render_text(&report, &options));
    }
    Ok(())
}

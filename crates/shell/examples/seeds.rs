//! Writes the seeds of this crate's fuzz targets: `cargo run --example seeds -- fuzz/seeds`.

use std::path::Path;

use kmortem_shell::registry::COMMANDS;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds DIRECTORY");
        return Ok(());
    };
    let write = |target: &str, name: &str, text: &str| {
        let directory = Path::new(&directory).join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), text)
    };
    for command in COMMANDS {
        // The last examples have the most in them.
        if let Some((words, _)) = command.examples.last() {
            // `*` is no name for a file.
            let name = if command.name == "*" { "star" } else { command.name };
            write("command", name, &format!("{} {words}", command.name))?;
        }
        if command.name == "p" {
            for (n, (words, _)) in command.examples.iter().enumerate() {
                write("expression", &format!("example-{n}"), words)?;
            }
        }
    }
    Ok(())
}

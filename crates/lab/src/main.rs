//! The lab's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kmortem_lab::{Boot, Format, Hypervisor, Lab, Result};

/// Boots real kernels, kills them in known ways, keeps the vmcores.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists the dumps of the matrix; a star marks those in the cache.
    List,
    /// Makes dumps; without names those that the tests stand on.
    Make {
        /// Dumps, BOOT or BOOT.FORMAT.
        names: Vec<String>,
        /// Every dump of the matrix but the large ones, in every format.
        #[arg(long)]
        all: bool,
        /// Only of this kernel.
        #[arg(long)]
        kernel: Option<String>,
        /// Only of this scenario.
        #[arg(long)]
        scenario: Option<String>,
        /// Guests that run at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Prints the path of a dump (of each part of a split one).
    Path {
        /// Dump, BOOT or BOOT.FORMAT.
        name: String,
    },
    /// Prints the kernels, fetching those that are missing.
    Kernels {
        /// Takes what the suites have now.
        #[arg(long)]
        update: bool,
    },
    /// Sets up the programs kmortem is compared with, and prints where they are.
    Peers {
        /// Kernels whose debug vmlinux to fetch (about 300 MB each); all without names.
        kernels: Vec<String>,
    },
    /// Removes what nothing leads to any more.
    Gc,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut lab = Lab::open()?;
    match arguments.command {
        Verb::List => list(&lab)?,
        Verb::Make { names, all, kernel, scenario, jobs } => {
            lab.set_jobs(jobs);
            let wanted = |boot: &Boot| {
                kernel.as_ref().is_none_or(|name| *name == boot.kernel)
                    && scenario.as_ref().is_none_or(|name| *name == boot.scenario)
            };
            let narrowed = kernel.is_some() || scenario.is_some();
            let names = if names.is_empty() { select(&lab, all, narrowed, wanted) } else { names };
            return Ok(make(&lab, &names));
        }
        Verb::Path { name } => {
            for file in lab.dump(&name)?.files {
                println!("{}", file.display());
            }
        }
        Verb::Kernels { update } => kernels(&lab, update)?,
        Verb::Peers { kernels } => peers(&lab, kernels)?,
        Verb::Gc => {
            for path in lab.collect_garbage()? {
                println!("removed {path}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The dumps of a selection: those the tests stand on, or all that fit in 1 GB.
fn select(lab: &Lab, all: bool, narrowed: bool, wanted: impl Fn(&Boot) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut boots: Vec<&Boot> = lab.matrix().boots.iter().filter(|boot| wanted(boot)).collect();
    // It takes minutes: the others are made beside it.
    boots.sort_by_key(|boot| boot.hypervisor != Hypervisor::XenPvh);
    for boot in boots {
        let large = boot.memory_mb > 1024;
        if large || (boot.on_demand && !all && !narrowed) {
            continue;
        }
        names.push(boot.name.clone());
        for format in &boot.formats {
            names.push(dump_name(boot, *format));
        }
    }
    names
}

fn dump_name(boot: &Boot, format: Format) -> String {
    format!("{}.{}", boot.name, format.name())
}

fn list(lab: &Lab) -> Result<()> {
    for boot in &lab.matrix().boots {
        let title = &lab.matrix().scenario(&boot.scenario)?.title;
        println!("{} {:<22} {title}", mark(lab, &boot.name)?, boot.name);
        for format in &boot.formats {
            let name = dump_name(boot, *format);
            println!("{} {name}", mark(lab, &name)?);
        }
    }
    Ok(())
}

fn mark(lab: &Lab, name: &str) -> Result<char> {
    Ok(if lab.find(name)?.is_some() { '*' } else { ' ' })
}

fn make(lab: &Lab, names: &[String]) -> ExitCode {
    let failed = lab.make(names);
    eprintln!("lab: {} of {} dumps", names.len() - failed.len(), names.len());
    for (name, error) in &failed {
        eprintln!("lab: {name} FAILED: {error}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn kernels(lab: &Lab, update: bool) -> Result<()> {
    for spec in &lab.matrix().kernels {
        let kernel = if update { lab.update_kernel(&spec.name)? } else { lab.kernel(&spec.name)? };
        println!(
            "{:<5} {:<28} {:<24} {}",
            kernel.name,
            kernel.record.release,
            kernel.record.version,
            kernel.root.display()
        );
    }
    Ok(())
}

fn peers(lab: &Lab, mut kernels: Vec<String>) -> Result<()> {
    if kernels.is_empty() {
        kernels = lab.matrix().kernels.iter().map(|kernel| kernel.name.clone()).collect();
    }
    let mut peers = lab.peer_programs()?;
    for kernel in &kernels {
        peers.push(lab.vmlinux(kernel)?);
    }
    for peer in peers {
        println!("{:<17} {:<24} {}", peer.name, peer.version, peer.path.display());
    }
    Ok(())
}

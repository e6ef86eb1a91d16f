//! `kmortem info`: what a dump is, before anything is asked of it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use kmortem_kernel::Kernel;
use kmortem_vmcore::{Completeness, ContainerInfo, Image, VmcoreInfo};
use serde::Serialize;

use crate::Dump;
use crate::error::CliError;

/// Shows what a dump is: container, completeness, kernel, crash time, panic message
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    dump: Dump,
    /// The answer as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmortem info vmcore
  kmortem info --json vmcore | jq .kernel.release
  kmortem info vmcore.1 vmcore.2      a split dump: name all parts
  kmortem info low.raw@0 high.raw@0x100000000   raw memory, with its addresses";

/// All that `info` says. Also its JSON.
#[derive(Serialize)]
struct Info {
    container: ContainerInfo,
    completeness: Completeness,
    kernel: KernelInfo,
}

/// What is known of the kernel.
#[derive(Default, Serialize)]
struct KernelInfo {
    release: Option<String>,
    machine: Option<String>,
    build_id: Option<String>,
    crash_time: Option<CrashTime>,
    /// None also where the log could be read and has no panic.
    panic_message: Option<String>,
    kaslr_offset: Option<String>,
    /// How the kernel was found in memory.
    found: Option<String>,
    /// Why the kernel itself can't be read.
    unreadable: Option<String>,
    /// Members that could not be read, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unread: BTreeMap<&'static str, String>,
}

impl KernelInfo {
    fn unknown(&self, member: &str) -> String {
        self.unread.get(member).map_or("unknown".to_owned(), |why| format!("unknown: {why}"))
    }
}

#[derive(Serialize)]
struct CrashTime {
    /// Seconds since 1970.
    seconds: u64,
    utc: String,
    /// Who says so.
    source: &'static str,
}

pub(crate) fn run(args: &InfoArgs) -> Result<ExitCode, CliError> {
    let image = crate::open::image(&args.dump.files)?;
    let mut info = Info {
        container: image.info().clone(),
        completeness: image.completeness(),
        kernel: from_container(&image),
    };
    let opened = Kernel::open(image);
    let mut failure = None;
    match opened {
        Ok(kernel) => ask_kernel(&kernel, &mut info.kernel),
        Err(error) => {
            info.kernel.unreadable = Some(error.to_string());
            let incomplete = info.completeness.incomplete.clone();
            failure = Some(CliError::Open { error, incomplete });
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &info).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        render(&mut out, &info)?;
    }
    out.flush()?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What the container says of the kernel.
fn from_container(image: &Image) -> KernelInfo {
    let header = image.info();
    let uts = header.utsname.as_ref();
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    let mut kernel = KernelInfo {
        release: uts.and_then(|u| text(&u.release)),
        machine: header.machine.map(|m| m.to_string()),
        ..KernelInfo::default()
    };
    if let Some(seconds) = header.timestamp {
        kernel.crash_time = Some(crash_time(seconds, "the dump's header"));
    }
    if let Some(vmcoreinfo) = image.vmcoreinfo() {
        add_vmcoreinfo(&mut kernel, vmcoreinfo);
    }
    kernel
}

fn add_vmcoreinfo(kernel: &mut KernelInfo, info: &VmcoreInfo) {
    if let Some(release) = info.osrelease() {
        kernel.release = Some(release.to_owned());
    }
    if let Some(build_id) = info.build_id() {
        kernel.build_id = Some(build_id.to_owned());
    }
    if let Some(seconds) = info.crash_time() {
        kernel.crash_time = Some(crash_time(seconds, "VMCOREINFO"));
    }
}

fn crash_time(seconds: u64, source: &'static str) -> CrashTime {
    CrashTime { seconds, utc: kmortem_shell::date::utc(seconds), source }
}

/// What only the kernel's memory tells.
fn ask_kernel(kernel: &Kernel, info: &mut KernelInfo) {
    info.found = Some(kernel.how_found().to_owned());
    info.kaslr_offset = kernel.kaslr_offset().map(|offset| format!("{offset:#x}"));
    if let Some(vmcoreinfo) = kernel.vmcoreinfo() {
        add_vmcoreinfo(info, vmcoreinfo);
    }
    if info.crash_time.is_none() {
        // No kexec noted it: the clock stood still when the machine did.
        match kernel.clock() {
            Ok(clock) => {
                let seconds = u64::try_from(clock.realtime_ns / 1_000_000_000).ok();
                info.crash_time = seconds.map(|s| crash_time(s, "the kernel's clock"));
            }
            Err(e) => drop(info.unread.insert("crash_time", e.to_string())),
        }
    }
    match kernel.log() {
        Ok(log) => info.panic_message = log.panic().map(|p| p.message),
        Err(e) => drop(info.unread.insert("panic_message", e.to_string())),
    }
}

fn render(out: &mut dyn Write, info: &Info) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{:<14}{value}", format!("{name}:"));
    for file in &info.container.files {
        line("file", &format!("{} ({})", file.name, bytes(file.size)))?;
    }
    // Some have their place in the container's line.
    let told = |layer: &&String| !matches!(layer.as_str(), "flattened" | "archive");
    for layer in info.container.layers.iter().filter(told) {
        line("wrapped in", layer)?;
    }
    let flattened = if info.container.flattened { ", flattened" } else { "" };
    line("container", &format!("{}{flattened}", info.container.kind))?;
    if let Some(parts) = info.container.split_parts {
        line("split", &format!("{parts} parts"))?;
    }
    let codecs: Vec<String> = info.container.compression.iter().map(ToString::to_string).collect();
    line(
        "compression",
        if codecs.is_empty() { "none".to_owned() } else { codecs.join(", ") }.as_str(),
    )?;
    let level = info.container.filter_level;
    line("filter level", &level.map_or("not stated".to_owned(), filter_level))?;
    line("completeness", &completeness(&info.completeness))?;
    for oddity in &info.container.oddities {
        line("note", oddity)?;
    }
    let kernel = &info.kernel;
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or("unknown".to_owned());
    let machine = kernel.machine.as_ref().map_or(String::new(), |m| format!(" ({m})"));
    line("kernel", &format!("{}{machine}", or_unknown(&kernel.release)))?;
    line("build-id", &or_unknown(&kernel.build_id))?;
    let time = kernel.crash_time.as_ref().map(|t| format!("{} ({})", t.utc, t.source));
    line("crash time", &time.unwrap_or_else(|| kernel.unknown("crash_time")))?;
    line("panic", &panic(kernel))?;
    if let Some(found) = &kernel.found {
        line("found", found)?;
    }
    if let Some(why) = &kernel.unreadable {
        line("unreadable", why)?;
    }
    Ok(())
}

fn panic(kernel: &KernelInfo) -> String {
    let log_was_read = kernel.found.is_some() && !kernel.unread.contains_key("panic_message");
    match &kernel.panic_message {
        Some(message) => format!("{message:?}"),
        None if log_was_read => "none in the log".to_owned(),
        None => kernel.unknown("panic_message"),
    }
}

/// makedumpfile's `-d` bits (makedumpfile(8)).
fn filter_level(level: u32) -> String {
    const LEFT_OUT: [&str; 5] = ["zero", "cache", "private cache", "user", "free"];
    let kinds: Vec<&str> =
        LEFT_OUT.iter().enumerate().filter(|(i, _)| level >> i & 1 == 1).map(|(_, k)| *k).collect();
    match kinds.is_empty() {
        true => format!("{level} (nothing left out)"),
        false => format!("{level} (left out: {} pages)", kinds.join(", ")),
    }
}

fn completeness(known: &Completeness) -> String {
    let counts = [
        ("of RAM", known.ram),
        ("stored", known.stored),
        ("filtered out", known.filtered),
        ("lost", known.lost.filter(|lost| *lost > 0)),
    ];
    let counts: Vec<String> =
        counts.iter().filter_map(|(what, n)| n.map(|n| format!("{n} {what}"))).collect();
    let whole = match &known.incomplete {
        Some(why) => format!("INCOMPLETE: {why}"),
        None => "complete".to_owned(),
    };
    match counts.is_empty() {
        true => whole,
        false => format!("{whole} (pages: {})", counts.join(", ")),
    }
}

/// "60.9 MB", in units of 1024.
fn bytes(n: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_say_what_is_left_out() {
        assert_eq!(filter_level(0), "0 (nothing left out)");
        assert_eq!(filter_level(9), "9 (left out: zero, user pages)");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(64_000_000), "61.0 MB");
    }

    #[test]
    fn an_incomplete_dump_says_so_first() {
        let known = Completeness {
            stored: Some(10),
            lost: Some(2),
            incomplete: Some("cut off".into()),
            ..Completeness::default()
        };
        assert_eq!(completeness(&known), "INCOMPLETE: cut off (pages: 10 stored, 2 lost)");
    }
}

//! The first process ended, or there was none to start.
//!
//! Mechanism: `do_exit` of PID 1 panics ("Attempted to kill init!
//! exitcode=0x..."); before that, a missing root file system or init program
//! panics in `mount_root` and `kernel_init`. Evidence: the panic's words, the
//! crashed task is PID 1. The exit code's low 7 bits are a signal, the next
//! byte is what exit() got (wait(2)). Refuted by: an oops of PID 1 before (its
//! death is then a consequence). Kernels: all. Reference: kernel/exit.c,
//! init/main.c, init/do_mounts.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};

use super::common::{add_log, chain, crashed_stack};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let panic = case.panic_text();
    let mut finding = if let Some((_, code)) = panic.split_once("Attempted to kill init!") {
        init_ended(case, code)
    } else if panic.contains("Unable to mount root fs")
        || panic.contains("No working init found")
        || panic.contains("Requested init")
    {
        let asked = case.kernel().and_then(|k| k.kernel_command_line().ok()).and_then(|line| {
            line.split_whitespace().find(|w| w.starts_with("root=")).map(str::to_owned)
        });
        let asked = asked.map_or(String::new(), |root| format!(" The command line says {root}."));
        let mut finding = Finding::new(
            Kind::NoRoot,
            format!("The machine could not start: {panic}.{asked}"),
            Level::Certain,
            "the kernel itself says so; nothing ran before",
        );
        finding.next.push(Advice::words(
            "check root= on the command line, the initramfs, and the disk's driver in it",
        ));
        finding
    } else {
        return None;
    };
    if let Some(crashed) = &case.crashed {
        finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
        finding.functions = chain(&crashed.stack, crashed.own);
        finding.sections.push(crashed_stack(crashed, "STACK", ""));
    }
    add_log(case, &mut finding, None);
    Some(finding)
}

fn init_ended(case: &Case<'_>, code: &str) -> Finding {
    let code =
        code.trim().strip_prefix("exitcode=0x").and_then(|c| u32::from_str_radix(c, 16).ok());
    let how = match code {
        Some(c) if c & 0x7f != 0 => {
            let signal = c & 0x7f;
            format!("was killed by signal {signal}{}", signal_name(signal))
        }
        Some(c) => format!("ended with exit code {}", c >> 8 & 0xff),
        None => "ended".to_owned(),
    };
    let comm = case.crashed.as_ref().map_or("init", |c| c.task.comm.as_str());
    let mut finding = Finding::new(
        Kind::InitDied,
        format!("The first process, {comm} (1), {how}; the kernel can't go on without it."),
        Level::Certain,
        "the panic gives the exit code, and PID 1 is the task that panicked",
    );
    if case.crashed.as_ref().is_some_and(|c| c.task.tgid != 1) {
        finding.confidence.level = Level::Likely;
        finding.against.push("the task that panicked is not PID 1".into());
    }
    if let Some(code) = code {
        finding.proof(Source::Log, format!("exit code {code:#x}: wait(2) status"));
    }
    finding.subject = Some(how);
    finding.next.push(Advice::run("what it said before it died", &["log"]));
    finding
}

fn signal_name(signal: u32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS: a page of its program could not be read?)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn the_exit_code_is_told() {
        let log = |code: &str| {
            format!("3.0 Kernel panic - not syncing: Attempted to kill init! exitcode={code}")
        };
        let with = |code: &str| {
            let mut case = case(&log(code), "systemd", &["panic", "do_exit"], None);
            case.crashed.as_mut().unwrap().task.tgid = 1;
            detect(&case).unwrap()
        };
        assert!(with("0x00000100").cause.contains("ended with exit code 1"));
        let killed = with("0x0000000b");
        assert!(killed.cause.contains("signal 11 (SIGSEGV)"), "{}", killed.cause);
        assert_eq!(killed.confidence.level, Level::Certain);
    }

    #[test]
    fn a_missing_root_is_its_own_kind() {
        let log =
            "1.0 Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";
        assert_eq!(detect(&case(log, "swapper/0", &["panic"], None)).unwrap().kind, Kind::NoRoot);
    }

    #[test]
    fn another_panic_is_none() {
        let log = "1.0 Kernel panic - not syncing: Attempted to kill the idle task!";
        assert!(detect(&case(log, "swapper/0", &["panic"], None)).is_none());
    }
}

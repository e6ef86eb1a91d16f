//! The differences that are meant to be there. Each row names the commands, how
//! the lines look that it explains, and the words of the page that tells users
//! of it (docs/crash-differences.md). A line that no row explains is wrong.

use crate::diff::Hunk;

/// One difference that is meant.
pub(crate) struct Accepted {
    /// Commands in which it may stand.
    pub commands: &'static [&'static str],
    /// Takes the lines out of a hunk that it explains.
    pub explain: fn(&mut Hunk),
    /// Words that stand in docs/crash-differences.md.
    pub documented: &'static str,
}

const BT: &[&str] = &["bt", "bt -a", "bt 1", "bt 2", "foreach bt"];

const PS: &[&str] = &["ps", "ps -u", "ps -s"];

pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        commands: BT,
        explain: registers,
        documented: "at the registers that the dump has of that CPU",
    },
    Accepted {
        commands: BT,
        explain: |hunk| hunk.take_pairs(one_word_below),
        documented: "the address of the word that holds its return address, 8 below",
    },
    Accepted {
        commands: BT,
        explain: |hunk| hunk.take_pairs(module_init),
        documented: "a module's init function is `_MODULE_INIT_TEXT_START_name`",
    },
    Accepted {
        commands: BT,
        explain: |hunk| hunk.take_pairs(same_place_other_name),
        documented: "of names that share an address, another one now and then",
    },
    Accepted {
        commands: BT,
        explain: callers_behind_irq_stack,
        documented: "5.10: a bogus exception frame at the end of the IRQ stack, callers lost",
    },
    Accepted {
        commands: BT,
        explain: caller_of_panic,
        documented: "the caller of `panic` is missing",
    },
    Accepted {
        commands: BT,
        explain: interrupted_twice,
        documented: "a function that an NMI or exception interrupted stands twice",
    },
    Accepted {
        commands: PS,
        explain: |hunk| hunk.take_pairs(memory_without_holes),
        documented: "%MEM of the pages that nodes span, holes too",
    },
    Accepted {
        commands: PS,
        explain: |hunk| hunk.take_pairs(less_memory),
        documented: "RSS leaves out what the process counts below zero",
    },
    Accepted {
        commands: &["ps -t"],
        explain: |hunk| hunk.take_pairs(run_time),
        documented: "`ps -t`: RUN TIME from whole seconds",
    },
    Accepted {
        commands: &["sys"],
        explain: |hunk| hunk.take_pairs(debug_kernel),
        documented: "KERNEL names the debug kernel",
    },
    Accepted {
        commands: &["sys"],
        explain: |hunk| hunk.take_pairs(uptime),
        documented: "UPTIME counts jiffies, for 1000 a second",
    },
    Accepted {
        commands: &["sys -t"],
        explain: taint_meanings,
        documented: "and a line for each letter that says what it means",
    },
    Accepted {
        commands: &["log -T"],
        explain: |hunk| hunk.take_pairs(log_time),
        documented: "`log -T` counts from a boot time in whole seconds",
    },
    Accepted {
        commands: &["kmem -i"],
        explain: |hunk| hunk.take_pairs(per_cpu_parts),
        documented: "FREE, CACHED, SLAB and COMMITTED without (some of) the parts that each CPU keeps",
    },
    Accepted {
        commands: &["files", "files 1", "foreach files"],
        explain: |hunk| hunk.take_pairs(pipe_name),
        documented: "`files`: a pipe has no name",
    },
    Accepted {
        commands: &["dev -d"],
        explain: |hunk| hunk.take_pairs(read_and_write),
        documented: "`dev -d`: ASYNC and SYNC on 5.10",
    },
];

/// `[sp] function at pc [module]`
#[derive(PartialEq)]
struct Frame<'a> {
    sp: u64,
    function: &'a str,
    pc: u64,
}

fn frame(line: &str) -> Option<Frame<'_>> {
    let (sp, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (function, rest) = rest.split_once(" at ")?;
    let pc = rest.split(' ').next()?;
    Some(Frame { sp: hex(sp)?, function, pc: hex(pc)? })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// A block of registers: function and address of `[exception RIP: f+1]`.
fn exception(block: &str) -> Option<(&str, u64)> {
    let mut lines = block.lines();
    let place = lines.next()?.trim_start().strip_prefix("[exception RIP: ")?;
    let rip = lines.next()?.trim_start().strip_prefix("RIP: ")?;
    Some((place.split(['+', ']']).next()?, hex(rip.split(' ').next()?)?))
}

/// Registers where crash has a frame of the same function, or none at all; and
/// the frames from there to the one that it begins with.
fn registers(hunk: &mut Hunk) {
    let crash = &mut hunk.crash;
    let first = hunk.before.starts_with("PID: ");
    hunk.kmortem.retain(|ours| {
        let Some((function, rip)) = exception(ours) else { return !first || frame(ours).is_none() };
        crash.retain(|line| frame(line).is_none_or(|f| f.function != function && f.pc != rip));
        false
    });
}

fn one_word_below(crash: &str, kmortem: &str) -> bool {
    let (Some(theirs), Some(ours)) = (frame(crash), frame(kmortem)) else { return false };
    theirs.sp == ours.sp + 8 && theirs.pc == ours.pc && theirs.function == ours.function
}

fn module_init(crash: &str, kmortem: &str) -> bool {
    crash.contains(" _MODULE_INIT_TEXT_START_") && same_place_other_name(crash, kmortem)
}

fn same_place_other_name(crash: &str, kmortem: &str) -> bool {
    let (Some(theirs), Some(ours)) = (frame(crash), frame(kmortem)) else { return false };
    theirs.sp == ours.sp && theirs.pc == ours.pc
}

/// Frames that only kmortem has, directly behind the stack's mark, where crash
/// has none, or registers that it doubts itself.
fn callers_behind_irq_stack(hunk: &mut Hunk) {
    if !hunk.before.starts_with("--- <IRQ stack>") {
        return;
    }
    if hunk.crash.iter().any(|line| line.starts_with("WARNING: possibly bogus exception frame")) {
        hunk.crash.retain(|line| exception(line).is_none() && !line.starts_with("WARNING: "));
    }
    if hunk.crash.is_empty() {
        hunk.kmortem.retain(|line| frame(line).is_none());
    }
}

fn caller_of_panic(hunk: &mut Hunk) {
    if frame(&hunk.before).is_some_and(|f| f.function == "panic") && hunk.crash.is_empty() {
        hunk.kmortem.retain(|line| frame(line).is_none_or(|f| !f.function.ends_with(".cold")));
    }
}

/// A frame only crash has, of what the registers or the stack's mark before
/// it say.
fn interrupted_twice(hunk: &mut Hunk) {
    let rip = exception(&hunk.before).map(|(_, rip)| rip);
    let mark = hunk.before.ends_with(" exception stack> ---");
    if let [line] = &hunk.crash[..]
        && let Some(frame) = frame(line)
        && (mark || rip == Some(frame.pc))
    {
        hunk.crash.clear();
    }
}

/// Both lines alike, but for the words at which `differ` holds.
fn words_differ(crash: &str, kmortem: &str, differ: impl Fn(usize, &str, &str) -> bool) -> bool {
    let theirs: Vec<&str> = crash.split_whitespace().collect();
    let ours: Vec<&str> = kmortem.split_whitespace().collect();
    crash.len() == kmortem.len()
        && theirs.len() == ours.len()
        && theirs.iter().zip(&ours).enumerate().all(|(i, (a, b))| a == b || differ(i, a, b))
}

/// Both lines of `ps` alike, but for numbers at whose column and difference
/// (crash's less kmortem's) `differ` holds.
fn columns_differ(crash: &str, kmortem: &str, differ: impl Fn(usize, f64) -> bool) -> bool {
    // The mark of a running task is a word of its own.
    let marked = usize::from(crash.starts_with('>'));
    words_differ(crash, kmortem, |i, theirs, ours| {
        let (Ok(theirs), Ok(ours)) = (theirs.parse::<f64>(), ours.parse::<f64>()) else {
            return false;
        };
        differ(i.wrapping_sub(marked), theirs - ours)
    })
}

const PERCENT: usize = 5;
const RSS: usize = 7;

fn memory_without_holes(crash: &str, kmortem: &str) -> bool {
    columns_differ(crash, kmortem, |column, more| column == PERCENT && (-0.11..0.0).contains(&more))
}

fn less_memory(crash: &str, kmortem: &str) -> bool {
    let rss =
        |line: &str| line.trim_start_matches('>').split_whitespace().nth(RSS).map(str::to_owned);
    let differs = rss(crash) != rss(kmortem);
    differs
        && columns_differ(crash, kmortem, |column, more| match column {
            PERCENT => more.abs() < 0.2,
            RSS => (0.0..=64.0 * 4.0).contains(&more),
            _ => false,
        })
}

/// `01:02:03`
fn seconds(clock: &str) -> Option<i64> {
    let parts: Vec<i64> = clock.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [h, m, s] => Some((h * 60 + m) * 60 + s),
        _ => None,
    }
}

/// A second more or less is one that was rounded; some seconds less are ticks
/// that a guest lost when its host was busy (crash counts ticks, the timekeeper
/// makes up for them); a minute and more comes of ticks of 4 ms taken for 1 ms,
/// because they are counted from five minutes before the boot.
fn rounded_or_wrong_hz(longer: &str, shorter: &str) -> bool {
    let (Some(longer), Some(shorter)) = (seconds(longer), seconds(shorter)) else { return false };
    matches!(longer - shorter, -30..=1 | 60..)
}

fn run_time(crash: &str, kmortem: &str) -> bool {
    crash.starts_with("    RUN TIME: ")
        && words_differ(crash, kmortem, |i, theirs, ours| {
            i == 2 && rounded_or_wrong_hz(theirs, ours)
        })
}

fn uptime(crash: &str, kmortem: &str) -> bool {
    crash.starts_with("      UPTIME: ")
        && words_differ(crash, kmortem, |i, theirs, ours| {
            i == 1 && rounded_or_wrong_hz(theirs, ours)
        })
}

/// `[Mon Nov 23 13:53:33 UTC 2026] text`. Where the uptime is too long, the
/// boot is too early.
fn log_time(crash: &str, kmortem: &str) -> bool {
    crash.starts_with('[')
        && words_differ(crash, kmortem, |i, theirs, ours| {
            i == 3 && rounded_or_wrong_hz(ours, theirs)
        })
}

fn debug_kernel(crash: &str, kmortem: &str) -> bool {
    let tainted = |line: &str| line.ends_with("  [TAINTED]");
    crash.starts_with("      KERNEL: /")
        && kmortem.starts_with("      KERNEL: (symbols and types of the dump)")
        && tainted(crash) == tainted(kmortem)
}

/// `           O: out-of-tree module was loaded`, for a letter of the mask.
fn taint_meanings(hunk: &mut Hunk) {
    let letters = hunk.before.split_whitespace().nth(2).unwrap_or("").to_owned();
    hunk.kmortem.retain(|line| {
        let letter = line.strip_prefix("           ").and_then(|l| l.split_once(": "));
        letter.is_none_or(|(letter, _)| letter.len() != 1 || !letters.contains(letter))
    });
}

/// `   SLAB   2577   10.1 MB   4% of TOTAL MEM`. A CPU keeps back up to 125
/// pages of a counter of a zone or node (kernel/mm/vmstat.c), and of
/// the committed memory up to a part that grows with the machine's.
fn per_cpu_parts(crash: &str, kmortem: &str) -> bool {
    let line = |text: &str| -> Option<(String, i64)> {
        let (name, rest) = text.trim_start().split_once("  ")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    let (Some((name, theirs)), Some((our_name, ours))) = (line(crash), line(kmortem)) else {
        return false;
    };
    name == our_name
        && match name.as_str() {
            "FREE" | "USED" | "CACHED" | "SLAB" => (theirs - ours).abs() <= 250,
            "COMMITTED" => ours > theirs,
            _ => false,
        }
}

fn pipe_name(crash: &str, kmortem: &str) -> bool {
    crash.ends_with(" FIFO")
        && kmortem.strip_prefix(crash).is_some_and(|name| {
            name.strip_prefix(" pipe:[").and_then(|n| n.strip_suffix(']')).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            })
        })
}

fn read_and_write(crash: &str, kmortem: &str) -> bool {
    crash.starts_with("MAJOR ") && crash.replace("ASYNC  SYNC", " READ WRITE") == kmortem
}

//! What is done to both answers before they are compared, and nothing else:
//!
//! 1. Blanks at the ends of lines, and empty lines at the end of an answer, do
//!    not count.
//! 2. Counters of the session: frames of `bt` have no numbers (one more moves
//!    all others; kmortem's must count up from 0, which is checked here), and
//!    values that `p` and `gdb` show have none (`$7`: crash counts on).
//! 3. An answer without data is compared as such, whatever its words: crash's
//!    when it is empty or holds nothing but errors, kmortem's when it is empty
//!    (its errors and remarks stand elsewhere), or `(none found)` from both.
//! 4. What kmortem remarks on standard error, beside an answer, is not compared.
//! 5. The file and line of code, which need debuginfo, are dropped from crash's
//!    lines.
//! 6. The name of the file with the debug kernel is dropped.
//! 7. A symbol's name stands for its address, as each program's own table has
//!    it (see [`names`](crate::names)): some share one, some lose `.isra.0`.
//!    Symbols at one address have no order in the lists of `sym`, nor areas of
//!    memory in those of `search`; whole lists of them have no such suffixes.
//! 8. What names no object is dropped: labels of the compiler (`.LC3`), and names
//!    that crash makes up for areas of modules.
//! 9. The letter of a module's symbol is `t` for code and `?` for anything else:
//!    crash has no other, but for code that is exported.
//! 10. Characters beyond ASCII in a value are bytes: whether a terminal could
//!     show them is not the dump's.
//! 11. In `bt`, a block of registers is one line, so that no line of one block is
//!     taken for that of another.

use crate::common::Done;

/// Stands for an answer without data.
pub(crate) const NOTHING: &str = "(nothing)";

/// Where the kernel puts modules: 1 GB and more above the start of its own
/// image (`MODULES_VADDR`, arch/x86/include/asm/pgtable_64_types.h).
const MODULES: u64 = 0xffff_ffff_c000_0000;

/// crash's answer to `command`.
pub(crate) fn of_crash(command: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    if lines.iter().all(|line| refuses(command, line)) {
        return vec![NOTHING.to_owned()];
    }
    let lines = lines.into_iter().filter_map(|line| without_source(command, line));
    let lines: Vec<String> = lines.filter_map(without_label).collect();
    comparable(command, lines.iter().map(String::as_str).collect())
}

/// kmortem's answer to `command`.
pub(crate) fn of_kmortem(command: &str, done: &Done) -> Vec<String> {
    if done.stdout.trim() == "(none found)" {
        return vec![NOTHING.to_owned()];
    }
    if done.stdout.trim().is_empty() && (done.code == 0 || !done.stderr.is_empty()) {
        return vec![NOTHING.to_owned()];
    }
    let lines = done.stdout.trim_end().lines().map(str::trim_end);
    let lines: Vec<String> = lines.filter_map(without_label).collect();
    let mut lines = comparable(command, lines.iter().map(String::as_str).collect());
    if is_bt(command)
        && let Err(why) = frames_count_up(&done.stdout)
    {
        lines.push(why);
    }
    if done.code != 0 && done.stderr.is_empty() {
        lines.push(format!("exit code {} without a word", done.code));
    }
    lines
}

fn comparable(command: &str, text: Vec<&str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text {
        if !is_bt(command) {
            lines.push(one_letter(command, &bytes(&unnumbered(&no_kernel(line)))));
            continue;
        }
        let line = frame_number(line).map_or(line, |(_, rest)| rest);
        match lines.last_mut() {
            // The block begins with `[exception RIP: ...]`, or with `RIP:`
            // where user space was left.
            Some(last) if is_register(line) && in_block(last) => {
                last.push('\n');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    // Nor have the areas of memory, where a line is no part of a block.
    let block = |word: &str| matches!(word, "-t" | "-T" | "-x");
    if command.starts_with("search ") && !command.split(' ').any(block) {
        lines.sort_by_cached_key(|line| line.split(':').next().map(place_of));
    }
    if matches!(command, "sym -l" | "sym -M") || command.starts_with("sym -m ") {
        lines.iter_mut().for_each(cut_suffix);
        lines.sort_by_cached_key(|line| place_and_name(line));
    }
    lines
}

/// A line of crash's that says no.
fn refuses(command: &str, line: &str) -> bool {
    const STARTS: [&str; 12] = [
        "symbol not found: ",
        "possible alternatives:",
        "  (none found)",
        "(none found)",
        "Usage:",
        "Enter \"help ",
        "No symbol \"",
        "No struct type named ",
        "gdb request failed: ",
        "gdb: ",
        "invalid id or address: ",
        "crash: ",
    ];
    let usage = line.starts_with("  ") && line.contains('[') && line.contains(']');
    // `vtop: invalid input`: a command's word on itself.
    let on_itself = line.split_once(": ").is_some_and(|(name, rest)| {
        let foreach = command.starts_with("foreach ");
        let named = command.split(' ').take(if foreach { usize::MAX } else { 1 });
        !rest.is_empty() && named.chain(["struct"]).any(|word| word == name)
    });
    let unknown = line.ends_with(": kernel virtual address not found in mem map");
    // `struct list_head struct: invalid kernel virtual address: 48  type: ...`
    let unread = line.contains(" struct: invalid ") && line.contains(" virtual address: ");
    let unmangled = command
        .strip_prefix("rustfilt ")
        .is_some_and(|name| line == name || line == "Not a rust symbol:");
    usage
        || unmangled
        || unknown
        || unread
        || line.is_empty()
        || on_itself
        || STARTS.iter().any(|start| line.starts_with(start))
}

/// `ffff... (T) schedule .../kernel/sched/core.c: 6833` without its end; none
/// where `bt -l` and `dis -l` have a line for it.
fn without_source<'l>(command: &str, line: &'l str) -> Option<&'l str> {
    const LISTS: [&str; 3] = ["sym", "sys -c", "kmem "];
    let (start, file) = line
        .rsplit_once(' ')
        .and_then(|(before, number)| {
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let before = before.strip_suffix(':').filter(|_| digits)?;
            Some(before.rsplit_once(' ').unwrap_or(("", before)))
        })
        .unwrap_or((line, ""));
    let source = file.contains('/') && [".c", ".h", ".S"].iter().any(|end| file.ends_with(end));
    let starts = |commands: &[&str]| commands.iter().any(|c| command.starts_with(c));
    match source {
        true if (is_bt(command) || command.starts_with("dis")) && start.trim().is_empty() => None,
        true if starts(&LISTS) => Some(start.trim_end()),
        _ => Some(line),
    }
}

/// `base = 0xffffffffc0528000 <.LC14+241>,` without the label; none where a line
/// is there for the label: `ffffffffc0528000 (?) .LC14`.
fn without_label(line: &str) -> Option<String> {
    let is_label = |name: &str| {
        name.starts_with(".L") || name.starts_with("_MODULE_") && name.contains("_START_")
    };
    if line.split_once(") ").is_some_and(|(_, name)| name.starts_with(".L")) {
        return None;
    }
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, from)) = rest.split_once(" <") {
        let Some((name, behind)) = from.split_once('>') else { break };
        out.push_str(before);
        if !is_label(name) {
            out.push_str(&format!(" <{name}>"));
        }
        rest = behind;
    }
    Some(out + rest)
}

/// `      KERNEL: /path/vmlinux  [TAINTED]`, without the path.
fn no_kernel(line: &str) -> String {
    const TITLE: &str = "      KERNEL: ";
    match line.strip_prefix(TITLE) {
        Some(rest) if rest.ends_with("  [TAINTED]") => format!("{TITLE}  [TAINTED]"),
        Some(_) => TITLE.to_owned(),
        None => line.to_owned(),
    }
}

/// `ffffffffc0306000 (T) name`, with the letter that crash has.
fn one_letter(command: &str, line: &str) -> String {
    let of_module = || -> Option<String> {
        let (address, rest) = line.split_once(" (")?;
        let (letter, name) = rest.split_once(") ")?;
        u64::from_str_radix(address, 16).ok().filter(|address| *address >= MODULES)?;
        let letter = match letter {
            "t" | "T" => 't',
            _ => '?',
        };
        Some(format!("{address} ({letter}) {name}"))
    };
    let shown = command.starts_with("sym") || command.starts_with("kmem ");
    shown.then(of_module).flatten().unwrap_or_else(|| line.to_owned())
}

/// Characters beyond ASCII as gdb writes bytes that are no text.
fn bytes(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                bytes.for_each(|byte| out.push_str(&format!("\\{byte:03o}")));
            }
        }
    }
    out
}

fn is_bt(command: &str) -> bool {
    command.split(' ').any(|word| word == "bt")
}

fn place_of(address: &str) -> u64 {
    u64::from_str_radix(address, 16).unwrap_or(u64::MAX)
}

/// Of `ffff... (t) name`, what it is sorted by.
fn place_and_name(line: &str) -> (u64, String) {
    let (address, rest) = line.split_once(' ').unwrap_or((line, ""));
    let name = rest.get(4..).unwrap_or(rest);
    (place_of(address), name.to_owned())
}

/// `ffff... (t) name.isra.0` without what the compiler added; `.data` is whole.
fn cut_suffix(line: &mut String) {
    let end = line.split_once(") ").and_then(|(start, name)| {
        let at = name.find('.').filter(|at| *at > 0 && !name.contains(' '))?;
        Some(start.len() + ") ".len() + at)
    });
    line.truncate(end.unwrap_or(line.len()));
}

/// `$7 = 1` and `jiffies = $7 = 1`, without the number.
fn unnumbered(line: &str) -> String {
    let numbered = line.split_once('$').and_then(|(before, rest)| {
        // An array begins on the next line.
        let open = rest.strip_suffix(" =").map(|number| (number, ""));
        let (number, value) = rest.split_once(" = ").or(open)?;
        let starts = before.is_empty() || before.ends_with(" = ");
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (starts && digits).then(|| format!("{before}$ = {value}"))
    });
    numbered.unwrap_or_else(|| line.to_owned())
}

/// `   RIP: ffff...  RSP: ...`
fn is_register(line: &str) -> bool {
    let mut words = line.split_whitespace();
    line.starts_with("    ")
        && words.next().is_some_and(|name| name.len() > 1 && name.ends_with(':'))
        && words.next().is_some_and(|value| value.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn in_block(unit: &str) -> bool {
    let last = unit.rsplit('\n').next().unwrap_or(unit);
    last.starts_with("    [exception RIP: ") || is_register(last)
}

/// ` #3 [sp] function at pc`: the number, and the rest.
fn frame_number(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.trim_start().strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, rest))
}

fn frames_count_up(text: &str) -> Result<(), String> {
    let mut next = 0;
    for line in text.lines() {
        if line.starts_with("PID: ") {
            next = 0;
        }
        if let Some((number, _)) = frame_number(line) {
            if number != next {
                return Err(format!("frame {next} is missing before `{line}`"));
            }
            next += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kmortem(command: &str, code: i32, stdout: &str, stderr: &str) -> Vec<String> {
        of_kmortem(command, &Done { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() })
    }

    #[test]
    fn an_answer_without_data_is_none_whatever_its_words() {
        let refused = [NOTHING];
        assert_eq!(of_crash("sym x", "symbol not found: x\npossible alternatives:\n"), refused);
        assert_eq!(of_crash("rd 0", "rd: invalid kernel virtual address: 0\n"), refused);
        assert_eq!(kmortem("rd 0", 1, "", "rd: 0x0 is not mapped\n"), refused);
        assert_eq!(of_crash("log -s", ""), refused);
        assert_eq!(kmortem("log -s", 0, "", "log: no such buffers\n"), refused);
        // Data with a word on something is an answer.
        assert_ne!(of_crash("rd 1", "rd: invalid\n1: 2\n"), refused);
        assert_ne!(of_crash("rd 1", "vtop: invalid\n"), refused);
        assert_ne!(kmortem("rd 0", 1, "0: -\n", "rd: 0x0 is not mapped\n"), refused);
    }

    #[test]
    fn remarks_beside_an_answer_are_not_compared() {
        assert_eq!(kmortem("kmem -f", 0, "a\nb \n\n", "kmem: c\n"), ["a", "b"]);
        assert_eq!(kmortem("kmem -f", 1, "", ""), ["exit code 1 without a word"]);
    }

    #[test]
    fn the_line_of_code_is_dropped() {
        let lines = "1 (T) f debian/build/kernel/sched/core.c: 6833\n2 (T) g\n3 (T) h a.c: b";
        assert_eq!(of_crash("sym -l", lines), ["1 (T) f", "2 (T) g", "3 (T) h a.c: b"]);
        let lines = "#0 [1] f at 2\n    /usr/src/kernel/fork.c: 12\n#1 [2] g at 3\n";
        assert_eq!(of_crash("bt -l", lines), ["[1] f at 2", "[2] g at 3"]);
        assert_eq!(of_crash("ps -a", "fs/read_write.c: 1"), ["fs/read_write.c: 1"]);
    }

    #[test]
    fn labels_name_nothing() {
        let lines = "a = 0x1 <.LC14+241>, b = 0x2 <_MODULE_DATA_START_x>,\n1 (?) .LC0\n2 (d) g";
        assert_eq!(of_crash("struct a", lines), ["a = 0x1, b = 0x2,", "2 (d) g"]);
        assert_eq!(of_crash("dis f", "call 0x1 <f+3>"), ["call 0x1 <f+3>"]);
    }

    #[test]
    fn the_file_of_the_kernel_is_dropped() {
        let [crash, kmortem] =
            ["/vmlinux", "(symbols)"].map(|name| format!("      KERNEL: {name}"));
        assert_eq!(of_crash("sys", &crash), super::tests::kmortem("sys", 0, &kmortem, ""));
        let tainted = format!("{crash}  [TAINTED]");
        assert_ne!(of_crash("sys", &crash), of_crash("sys", &tainted));
    }

    #[test]
    fn letters_of_modules_are_two() {
        let lines = "ffffffffc0306000 (T) f\nffffffffc0306010 (d) g\nffffffff95000000 (T) h";
        let same = ["ffffffffc0306000 (t) f", "ffffffffc0306010 (?) g", "ffffffff95000000 (T) h"];
        assert_eq!(of_crash("sym -q f", lines), same);
    }

    #[test]
    fn lists_of_symbols_have_neither_an_order_at_an_address_nor_suffixes() {
        let lines = "1 (t) b.isra.0\n1 (t) a\n0 (D) c.3";
        assert_eq!(of_crash("sym -l", lines), ["0 (D) c", "1 (t) a", "1 (t) b"]);
        assert_eq!(of_crash("sym b", "1 (t) b.isra.0"), ["1 (t) b.isra.0"]);
    }

    #[test]
    fn text_beyond_ascii_is_bytes() {
        assert_eq!(of_crash("struct a", "b = \"é\\316\""), ["b = \"\\303\\251\\316\""]);
    }

    #[test]
    fn frames_lose_their_numbers_and_have_to_count_up() {
        assert_eq!(of_crash("bt", "PID: 1\n #0 [1] f at 2"), ["PID: 1", "[1] f at 2"]);
        assert_eq!(of_crash("p jiffies", "jiffies = $3 = 1"), ["jiffies = $ = 1"]);
        let gap = kmortem("bt", 0, "PID: 1\n #1 [1] f at 2\n", "");
        assert!(gap.last().unwrap().contains("frame 0 is missing"));
    }

    #[test]
    fn a_block_of_registers_is_one_line() {
        let block = "    [exception RIP: f+1]\n    RIP: 1  RSP: 2\n    RAX: 3";
        assert_eq!(of_crash("bt", block), [block]);
    }
}

//! crash's commands on the bundled dump: all answer, in text and in JSON.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Done, kmortem, kmortem_in};
use kmortem_shell::registry::{COMMANDS as COMMANDS_OF_HELP, Command};
use rayon::prelude::*;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");

const COMMANDS: &[&str] = &[
    "sys",
    "sys -t",
    "bt",
    "bt -a",
    "bt -s -x 1",
    "bt -f 1",
    "bt -r 1",
    "bt -c 0",
    "bt -p",
    "foreach bt",
    "foreach UN bt",
    "foreach files",
    "foreach net -s",
    "foreach active ps",
    "ps",
    "ps -u",
    "ps -k",
    "ps -G",
    "ps -A",
    "ps -s",
    "ps -l",
    "ps -m",
    "ps -t",
    "ps -p 1",
    "ps -c 1",
    "ps -g 1",
    "ps -S",
    "ps -y FIFO",
    "log",
    "log -t",
    "log -T",
    "log -m -d",
    "mod",
    "mod -t",
    "kmem -i",
    "kmem -s",
    "kmem -s task_struct",
    "files",
    "mount",
    "net",
    "net -s 1",
    "dev -d",
    "runq",
    "runq -t",
    "runq -m",
    "set",
    "set 1",
    "help",
    "help bt",
];

/// What answers by doing something, or by saying nothing of a dump without any.
const SILENT: &[&str] = &[
    "!",
    "alias ",
    "blk",
    "bpf",
    "bt -v",
    "dev -D",
    "exit",
    "locks -c",
    "log -s",
    "pagecache -d",
    "q",
    "search -s init_task -l 1k",
    "swap",
    "trace show",
    "xen",
];

/// What has no rows.
const TEXT_ONLY: &[&str] = &["help", "alias", "extend", "exit", "q"];

fn run(commands: &[&str], json: bool) -> Done {
    let mut args = vec!["run", SAMPLE];
    for command in commands {
        args.extend(["-c", command]);
    }
    if json {
        args.push("--json");
    }
    // Some commands write files where they are.
    let folder = tempfile::tempdir().unwrap();
    kmortem_in(folder.path(), args)
}

/// Every example that a command's help shows, and `COMMANDS`.
fn lines() -> Vec<String> {
    let examples = COMMANDS_OF_HELP.iter().flat_map(|command| {
        let line = |(words, _): &(&str, &str)| format!("{} {words}", command.name);
        command.examples.iter().map(line).collect::<Vec<_>>()
    });
    let mut lines: Vec<String> = COMMANDS.iter().map(|line| (*line).to_owned()).collect();
    lines.extend(examples.map(|line| line.trim_end().to_owned()));
    lines.sort();
    lines.dedup();
    lines
}

/// Runs `check` on all lines at once, and tells of all that failed.
fn check_all(lines: Vec<String>, check: impl Fn(&str) -> Result<(), String> + Sync) {
    let failed: Vec<String> = lines.par_iter().filter_map(|line| check(line).err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), lines.len(), failed.join("\n"));
}

#[test]
fn every_command_and_example_answers() {
    check_all(lines(), |line| {
        let done = run(&[line], false);
        match done.code {
            0 if !done.stdout.is_empty() || SILENT.iter().any(|s| line.starts_with(s)) => Ok(()),
            _ => Err(format!("{line}: {done:?}")),
        }
    });
}

#[test]
fn json_rows_name_their_command_and_hold_what_is_documented() {
    let texts = |line: &str| TEXT_ONLY.iter().any(|text| line.split(' ').next() == Some(text));
    check_all(lines().into_iter().filter(|line| !texts(line)).collect(), |line| {
        let done = run(&[line], true);
        if done.code != 0 {
            return Err(format!("{line}: {done:?}"));
        }
        let mut rows = 0;
        for row in done.stdout.lines() {
            let row: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(row).map_err(|e| format!("{line}: {e}: {row}"))?;
            let name = row.get("command").and_then(|name| name.as_str());
            let command = COMMANDS_OF_HELP.iter().find(|c| Some(c.name) == name);
            let command = command.ok_or_else(|| format!("{line}: no command in {row:?}"))?;
            if !line.split([' ', '|']).any(|word| word == command.name) && !has_alias(line) {
                return Err(format!("{line}: answered by {}", command.name));
            }
            let known = |key: &str| key == "command" || documented(command, key, 3);
            let unknown: Vec<&String> = row.keys().filter(|key| !known(key)).collect();
            if !unknown.is_empty() {
                return Err(format!("{line}: not documented: {unknown:?}"));
            }
            rows += 1;
        }
        let silent = SILENT.iter().any(|s| line.starts_with(s));
        if rows > 0 || silent { Ok(()) } else { Err(format!("{line}: no rows")) }
    });
}

/// Whether the command says what `key` of its rows is, by itself or by "as
/// `OTHER`".
fn documented(command: &Command, key: &str, depth: usize) -> bool {
    let has = |members: &str| members.contains(&format!("`{key}`"));
    let by_other = |members: &str| {
        let name = members.split_once("as `").and_then(|(_, rest)| rest.split('`').next());
        let other = COMMANDS_OF_HELP.iter().find(|c| Some(c.name) == name);
        depth > 0 && other.is_some_and(|other| documented(other, key, depth - 1))
    };
    command.rows.iter().any(|rows| has(rows.members) || by_other(rows.members))
}

/// Whether a line begins with another name of a command.
fn has_alias(line: &str) -> bool {
    let first = line.split(' ').next().unwrap_or("");
    !COMMANDS_OF_HELP.iter().any(|command| command.name == first)
}

#[test]
fn the_page_on_json_is_that_of_the_commands() {
    let table: String = COMMANDS_OF_HELP
        .iter()
        .flat_map(|c| c.rows.iter().map(move |row| (c.name, row)))
        .map(|(name, row)| {
            let line = format!("{name} {}", row.options.replace(", ", "`, `"));
            format!("| `{}` | {} | {} |\n", line.trim_end(), row.row, row.members)
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/run-json.md");
    let page = std::fs::read_to_string(path).unwrap();
    let head = "| command | a row is | members |\n|---|---|---|\n";
    let (before, rest) = page.split_once(head).unwrap();
    let (_, behind) = rest.split_once("\n\n").unwrap();
    let wanted = format!("{before}{head}{table}\n{behind}");
    if std::env::var_os("KMORTEM_UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == wanted, "stale: KMORTEM_UPDATE_DOCS=1 cargo test --test commands writes it");
}

#[test]
fn the_worst_outcome_is_the_exit_code_and_the_others_answer() {
    let bad = run(&["set", "bt 99999", "set"], false);
    assert_eq!(bad.code, 1);
    assert_eq!(bad.stdout.matches("COMMAND:").count(), 2, "{bad:?}");
    assert!(bad.stderr.contains("bt: 99999 is neither"), "{bad:?}");

    assert_eq!(run(&["struct nonesuch 1"], false).code, 1);
    let misused = run(&["bt -z", "bt 99999", "pss"], false);
    assert_eq!(misused.code, 2);
    assert!(misused.stderr.contains("did you mean `ps`?"), "{misused:?}");
}

#[test]
fn set_changes_what_later_commands_speak_of() {
    let done = run(&["set 1", "bt", "files"], false);
    assert_eq!(done.stdout.matches("PID: 1        TASK: ").count(), 2, "{done:?}");
}

#[test]
fn the_report_has_three_forms() {
    let text = kmortem(["report", SAMPLE]);
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    assert!(text.stdout.contains("CAUSE"), "{text:?}");
    assert!(!text.stdout.contains('\x1b'), "colour in a pipe");
    let coloured = kmortem(["report", "--color", "always", SAMPLE]);
    assert!(coloured.stdout.contains('\x1b'), "{coloured:?}");
    let json = kmortem(["report", "--json", SAMPLE]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["cause"].is_object());
    assert_eq!(kmortem(["report", "--markdown", SAMPLE]).code, 0);
}

#[test]
fn info_names_the_kernel_and_why_it_died() {
    let done = kmortem(["info", "--json", SAMPLE]);
    assert_eq!(done.code, 0);
    let info: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(info["kernel"]["release"].as_str().unwrap().starts_with("6.12."));
    assert_eq!(info["kernel"]["panic_message"], "hung_task: blocked tasks");
    // QEMU notes no time: what the dead kernel's clock shows.
    assert_eq!(info["kernel"]["crash_time"]["source"], "the kernel's clock");
    let sys = run(&["sys"], true);
    let sys: serde_json::Value = serde_json::from_str(&sys.stdout).unwrap();
    let clock = sys["clock"]["realtime_ns"].as_u64().unwrap();
    assert_eq!(info["kernel"]["crash_time"]["seconds"], clock / 1_000_000_000);
    assert_eq!(info["kernel"]["build_id"].as_str().unwrap().len(), 40);
    assert_eq!(info["container"]["kind"], "kdump-compressed v6");
}

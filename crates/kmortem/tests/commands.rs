//! crash's commands on the bundled dump: all answer, in text and in JSON.

mod common;

use common::{Done, kmortem};

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

fn run(commands: &[&str], json: bool) -> Done {
    let mut args = vec!["run", SAMPLE];
    for command in commands {
        args.extend(["-c", command]);
    }
    if json {
        args.push("--json");
    }
    kmortem(args)
}

#[test]
fn every_command_answers() {
    for command in COMMANDS {
        let done = run(&[command], false);
        assert_eq!(done.code, 0, "{command}: {done:?}");
        assert_eq!(done.stderr, "", "{command}");
        assert!(!done.stdout.is_empty(), "{command}");
    }
}

#[test]
fn every_row_of_json_names_its_command() {
    for command in COMMANDS.iter().filter(|c| !c.starts_with("help")) {
        let done = run(&[command], true);
        assert_eq!(done.code, 0, "{command}: {done:?}");
        let mut words = command.split(' ');
        let first = words.next();
        let name = match first {
            Some("foreach") => words.find(|w| ["bt", "files", "net", "ps"].contains(w)),
            name => name,
        };
        let mut rows = 0;
        for line in done.stdout.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(row["command"].as_str(), name, "{command}");
            rows += 1;
        }
        assert!(rows > 0, "{command}");
    }
}

#[test]
fn the_worst_outcome_is_the_exit_code_and_the_others_answer() {
    let bad = run(&["set", "bt 99999", "set"], false);
    assert_eq!(bad.code, 1);
    assert_eq!(bad.stdout.matches("COMMAND:").count(), 2, "{bad:?}");
    assert!(bad.stderr.contains("bt: 99999 is neither"), "{bad:?}");

    assert_eq!(run(&["vtop 1"], false).code, 1);
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

//! kmortem on a terminal: script(1) lends one.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");
const PROMPT: &str = "kmortem> ";
const PATIENCE: Duration = Duration::from_secs(30);
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// A session on a terminal of 12 rows.
struct Terminal {
    child: Child,
    stdin: ChildStdin,
    /// What it has shown, and how much of that was expected already.
    shown: Arc<Mutex<String>>,
    seen: usize,
}

impl Terminal {
    fn open(state: &Path, pager: &str) -> Terminal {
        let mut terminal = Terminal::start(state, pager, &format!("shell --no-rc '{SAMPLE}'"));
        terminal.expect(PROMPT);
        terminal
    }

    /// kmortem with these words of a command line.
    fn start(state: &Path, pager: &str, words: &str) -> Terminal {
        let kmortem = env!("CARGO_BIN_EXE_kmortem");
        let line = format!("stty rows 12 cols 80; exec '{kmortem}' {words}");
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("XDG_STATE_HOME", state)
            .env("KMORTEM_PAGER", pager)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buf) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        });
        Terminal { child, stdin, shown, seen: 0 }
    }

    fn keys(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Waits until `text` shows, and gives what stood before it.
    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            {
                let shown = self.shown.lock().unwrap();
                let new = shown.get(self.seen..).unwrap_or_default();
                if let Some(at) = new.find(text) {
                    let before = new[..at].to_owned();
                    self.seen += at + text.len();
                    return before;
                }
                assert!(Instant::now() < end, "`{text}` does not show:\n{new}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a line and gives what it showed.
    fn run(&mut self, line: &str) -> String {
        self.keys(&format!("{line}\r"));
        self.expect("\r\n");
        self.expect(PROMPT)
    }

    /// Gives up the line that was begun.
    fn give_up(&mut self) {
        self.keys(CTRL_C);
        self.expect("\r\n");
        self.expect(PROMPT);
    }

    /// Leaves with Ctrl-D, and gives the exit code.
    fn leave(mut self) -> Option<i32> {
        self.keys(CTRL_D);
        self.exit_code()
    }

    /// Waits for the end.
    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                panic!("the session does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn ctrl_c_ends_the_command_or_the_line_and_ctrl_d_the_session() {
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(state.path(), "cat");
    terminal.keys("repeat -1 ps -S\r");
    terminal.expect("UN: 3");
    terminal.keys(CTRL_C);
    terminal.expect("interrupted");
    terminal.expect(PROMPT);
    // What was typed is given up, and the next line stands alone.
    terminal.keys("ps -S nonsense");
    terminal.expect("nonsense");
    terminal.give_up();
    assert!(terminal.run("ps -S").contains("RU: 4"));
    assert!(terminal.run("nonsense").contains("no such command"));
    assert_eq!(terminal.leave(), Some(0));
}

#[test]
fn tab_completes_commands_options_types_members_and_tasks() {
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(state.path(), "cat");
    for (typed, completed) in [
        ("runq\t", "runq"),
        ("exte\t", "extend"),
        ("struct task_struct.pid_l\t", "task_struct.pid_links"),
        ("p ((struct task_struct *) 1)->mm->pgtables_b\t", "->mm->pgtables_bytes"),
        ("sym schedule_hrtimeout_range_c\t", "schedule_hrtimeout_range_clock"),
        ("bt khungt\t", "khungtaskd"),
        ("set print_m\t", "print_max"),
        ("help outp\t", "output"),
    ] {
        terminal.keys(typed);
        terminal.expect(completed);
        terminal.give_up();
    }
    assert_eq!(terminal.leave(), Some(0));
}

#[test]
fn lines_are_there_in_the_next_session() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Terminal::open(state.path(), "cat");
    first.run("ps -S");
    first.run("set radix 16");
    assert_eq!(first.leave(), Some(0));
    let mut second = Terminal::open(state.path(), "cat");
    assert!(second.run("h").contains("[1] ps -S\r\n[2] set radix 16\r\n"));
    // The line that comes back is shown behind a prompt of its own.
    assert_eq!(second.run("r 1"), "");
    second.expect("RU: 4");
    second.expect(PROMPT);
    assert!(second.run(UP).contains("RU: 4"));
    assert_eq!(second.leave(), Some(0));
}

#[test]
fn long_answers_go_through_the_pager_and_its_end_is_theirs() {
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(state.path(), "sed -u s/^/paged:/");
    assert!(!terminal.run("ps -S").contains("paged:"));
    assert!(terminal.run("ps").contains("paged:      PID"));
    assert!(!terminal.run("ps | head -n 20").contains("paged:"));
    terminal.run("set scroll off");
    assert!(!terminal.run("ps").contains("paged:"));
    assert_eq!(terminal.leave(), Some(0));

    let mut terminal = Terminal::open(state.path(), "head -n 2");
    assert_eq!(terminal.run("log").matches("\r\n").count(), 2);
    assert!(terminal.run("ps -S").contains("RU: 4"));
    assert_eq!(terminal.leave(), Some(0));
}

#[test]
fn ctrl_c_ends_what_runs_without_a_prompt_between_two_lines() {
    let state = tempfile::tempdir().unwrap();
    let words = format!("run '{SAMPLE}' -c 'repeat -1 ps -S' -c 'sys -t'");
    let mut terminal = Terminal::start(state.path(), "cat", &words);
    terminal.expect("UN: 3");
    terminal.keys(CTRL_C);
    let last = terminal.expect("interrupted");
    // The terminal shows the keys wherever the answer stands.
    let last = last.replace("^C", "");
    let whole = |line: &str| ["", "RU: 4", "IN: 35", "ID: 40", "UN: 3"].contains(&line.trim());
    assert!(last.split("\r\n").all(whole), "{last}");
    assert_eq!(terminal.exit_code(), Some(130));
    assert!(!terminal.shown.lock().unwrap().contains("TAINTED"), "the next command ran");
}

#[test]
fn ctrl_c_ends_a_statement_of_sql() {
    let state = tempfile::tempdir().unwrap();
    let forever =
        "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n";
    let words = format!("sql '{SAMPLE}' -c 'select 40 + 2' -c '{forever}' -c 'select 7 * 11'");
    let mut terminal = Terminal::start(state.path(), "cat", &words);
    std::thread::sleep(Duration::from_secs(1));
    terminal.keys(CTRL_C);
    terminal.expect("interrupted");
    assert_eq!(terminal.exit_code(), Some(130));
    let shown = terminal.shown.lock().unwrap();
    assert!(shown.contains("42") && !shown.contains("77"), "{shown}");
}

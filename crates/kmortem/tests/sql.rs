//! `kmortem sql` on the bundled dump.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Done, kmortem};
use serde_json::Value;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");

fn sql(args: &[&str]) -> Done {
    kmortem([&["sql", SAMPLE], args].concat())
}

/// Rows of an answer that has to be whole.
fn rows(statement: &str) -> Vec<Value> {
    let done = sql(&[statement, "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{statement}: {done:?}");
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn one(statement: &str) -> Value {
    let mut rows = rows(statement);
    assert_eq!(rows.len(), 1, "{statement}");
    rows.remove(0)
}

#[test]
fn every_table_has_rows_for_every_column() {
    let tables = sql(&[".tables"]).stdout;
    let names: Vec<&str> = tables.lines().map(|l| l.split_whitespace().next().unwrap()).collect();
    assert!(names.len() >= 23, "{names:?}");
    for name in names {
        let done = sql(&[&format!("select * from {name}"), "--json"]);
        assert_eq!(done.code, 0, "{name}: {done:?}");
        // This machine was idle: no request and no work was under way.
        if !["block_requests", "works"].contains(&name) {
            assert!(!done.stdout.is_empty(), "{name} is empty: {done:?}");
        }
        let schema = sql(&[&format!(".schema {name}")]).stdout;
        if let Some(line) = done.stdout.lines().next() {
            let row: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            assert_eq!(row.len(), schema.lines().count() - 1, "{name}: {line}\n{schema}");
        }
    }
}

#[test]
fn tasks_are_those_of_ps() {
    let ps = kmortem(["run", SAMPLE, "-c", "ps", "--json"]).stdout;
    let from_sql = rows("select addr, pid, comm, state_name as state from tasks order by addr");
    let mut from_ps: Vec<Value> = ps
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let member = |name: &str| (name.to_owned(), row[name].clone());
            Value::Object(["addr", "pid", "comm", "state"].into_iter().map(member).collect())
        })
        .collect();
    from_ps.sort_by_key(|row| row["addr"].to_string());
    assert_eq!(from_sql, from_ps);
}

#[test]
fn tables_join() {
    // Who waits for the mutex of this dump, in what function, for whom.
    let waiters = rows(
        "select w.pid, t.comm, w.kind, w.name, o.comm as owner, f.function
         from waits w join tasks t on t.addr = w.task
         join tasks o on o.addr = w.owner
         join frames f on f.task = w.task and f.module = 'crasher'
         order by w.pid, f.depth limit 1",
    );
    let expected = serde_json::json!({
        "pid": 194, "comm": "crasher_waiter", "kind": "mutex",
        "name": "crasher_table_lock [crasher]",
        "owner": "crasher_owner", "function": "crasher_wait_for_table",
    });
    assert_eq!(waiters, [expected]);
}

#[test]
fn what_sql_counts_other_commands_count_too() {
    let frames = kmortem(["run", SAMPLE, "-c", "foreach bt", "--json"]).stdout;
    let count: usize = frames
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["stack"]["frames"].as_array().unwrap().len()
        })
        .sum();
    assert_eq!(one("select count(*) as n from frames")["n"], count);
    let report = kmortem(["report", SAMPLE, "--json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let cause = one("select kind, cause from findings where rank = 0");
    assert_eq!(
        (&cause["kind"], &cause["cause"]),
        (&report["cause"]["kind"], &report["cause"]["cause"])
    );
}

#[test]
fn answers_are_tables_csv_or_json() {
    let statement = "select pid, comm, mm is null as kernel, mm from tasks where pid in (1, 2)
        order by pid desc; select 'a,b' as \"x\"";
    let text = sql(&[statement]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].trim_end(), "pid  comm      kernel  mm");
    assert_eq!(lines[2], "  2  kthreadd       1  -");
    assert_eq!(lines[4..], ["", "x", "---", "a,b"]);
    let csv = sql(&[statement, "--csv"]).stdout;
    assert!(csv.starts_with("pid,comm,kernel,mm\r\n2,kthreadd,1,\r\n1,init,0,0x"), "{csv}");
    assert!(csv.ends_with("\r\n\nx\r\n\"a,b\"\r\n"), "{csv:?}");
    let json = sql(&[statement, "--json"]).stdout;
    assert!(
        json.starts_with("{\"pid\":2,\"comm\":\"kthreadd\",\"kernel\":1,\"mm\":null}\n"),
        "{json}"
    );
    assert!(json.ends_with("{\"x\":\"a,b\"}\n"), "{json}");
}

#[test]
fn wrong_sql_exits_with_2_and_says_what_is_meant() {
    for (statement, told) in [
        ("select * from taks", "did you mean tasks?"),
        ("select stat from tasks", "did you mean state?"),
        ("select pid form tasks", "syntax error"),
        ("select pid from tasks; delete from tasks", "can only read"),
        (".schema taks", "did you mean tasks?"),
        (".what now", "no such command"),
    ] {
        let done = sql(&["-c", statement]);
        assert_eq!(done.code, 2, "{statement}: {done:?}");
        assert!(done.stderr.contains(told), "{statement}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{statement}: {done:?}");
    }
    // What was asked before the mistake is answered.
    assert!(sql(&["select 7 as n; select x"]).stdout.contains("7\n"));
}

#[test]
fn what_can_t_be_read_is_null_and_told() {
    // The filter took the command lines out of this dump.
    let done = sql(&["select argv from tasks where pid = 1", "--json"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "{\"argv\":null}\n"));
    assert!(done.stderr.starts_with("sql: tasks: argv: address 0x7"), "{done:?}");
}

#[test]
fn statements_come_from_several_places() {
    let done = sql(&["-c", "select 1 as a", "-c", "select 2 as b", "--json"]);
    assert_eq!(done.stdout, "{\"a\":1}\n{\"b\":2}\n");
    // Standard input is empty here: nothing is asked, nothing answered.
    let done = sql(&["-"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    let done = kmortem(["sql", "no-such-file", "select 1"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("no-such-file"), "{done:?}");
}

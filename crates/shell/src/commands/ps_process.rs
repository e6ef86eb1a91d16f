//! `ps -a` and `ps -r`: what a process was started with, and its limits.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::rlimit::ResourceLimit;
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::task_header;
use crate::output::Output;

/// A row of JSON of `ps -a`.
#[derive(Serialize)]
struct Started<'a> {
    #[serde(flatten)]
    task: &'a Task,
    arguments: Option<Vec<String>>,
    environment: Option<Vec<String>>,
    /// Why one of the two can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// The arguments and the environment of processes. They are user memory.
pub(super) fn arguments(kernel: &Kernel, chosen: &[&Task], out: &mut Output<'_>) -> io::Result<()> {
    for task in chosen {
        let mut unread = None;
        let mut keep = |strings: kmortem_kernel::Result<Vec<String>>| {
            strings.map_err(|e| unread = Some(e.to_string())).ok()
        };
        let arguments = keep(kernel.task_arguments(task));
        let environment = keep(kernel.task_environment(task));
        let started = Started { task, arguments, environment, unread };
        match out.is_json() {
            true => out.row(&started)?,
            false => render_arguments(out, &started)?,
        }
    }
    Ok(())
}

fn render_arguments(out: &mut dyn Write, started: &Started<'_>) -> io::Result<()> {
    task_header::render(out, started.task)?;
    if started.task.mm == 0 {
        return writeln!(out, "ps: no user stack\n");
    }
    let reason = || format!("<unreadable: {}>", started.unread.as_deref().unwrap_or("unknown"));
    match &started.arguments {
        Some(arguments) => writeln!(out, "ARG: {} ", arguments.join(" "))?,
        None => writeln!(out, "ARG: {}", reason())?,
    }
    match &started.environment {
        Some(environment) => writeln!(out, "ENV: {}", environment.join("\n     "))?,
        None => writeln!(out, "ENV: {}", reason())?,
    }
    writeln!(out)
}

/// A row of JSON of `ps -r`.
#[derive(Serialize)]
struct Limits<'a> {
    #[serde(flatten)]
    task: &'a Task,
    limits: Option<Vec<ResourceLimit>>,
    /// Why they can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// The resource limits of processes.
pub(super) fn limits(kernel: &Kernel, chosen: &[&Task], out: &mut Output<'_>) -> io::Result<()> {
    for task in chosen {
        let (limits, unread) = match kernel.resource_limits(task) {
            Ok(limits) => (Some(limits), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let limits = Limits { task, limits, unread };
        match out.is_json() {
            true => out.row(&limits)?,
            false => render_limits(out, &limits)?,
        }
    }
    Ok(())
}

fn render_limits(out: &mut dyn Write, limits: &Limits<'_>) -> io::Result<()> {
    task_header::render(out, limits.task)?;
    let Some(list) = &limits.limits else {
        let reason = limits.unread.as_deref().unwrap_or("unknown");
        return writeln!(out, "<unreadable: {reason}>\n");
    };
    let value = |value: Option<u64>| value.map_or("(unlimited)".to_owned(), |v| v.to_string());
    writeln!(out, "{:>12}   {:^11}   {:^11}", "RLIMIT", "CURRENT", "MAXIMUM")?;
    for limit in list {
        let (current, maximum) = (value(limit.current), value(limit.maximum));
        writeln!(out, "{:>12}   {current:^11}   {maximum:^11}", limit.name)?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn limits_stand_in_the_middle_of_their_columns() {
        let task = testing::task(1, "init");
        let limit = |name, current, maximum| ResourceLimit { name, current, maximum };
        let list = vec![
            limit("CPU", None, None),
            limit("STACK", Some(8 << 20), None),
            limit("SIGPENDING", Some(792), Some(0)),
        ];
        let mut text = Vec::new();
        render_limits(&mut text, &Limits { task: &task, limits: Some(list), unread: None })
            .unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn what_is_filtered_out_says_so() {
        let mut task = testing::task(1, "init");
        task.mm = 0xffff_8880_0100_0000;
        let started = Started {
            task: &task,
            arguments: Some(vec!["sh".into(), "/init".into()]),
            environment: None,
            unread: Some("filtered out".into()),
        };
        let mut text = Vec::new();
        render_arguments(&mut text, &started).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

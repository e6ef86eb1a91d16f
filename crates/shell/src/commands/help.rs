//! `help`: what there is, and how to use it.

use std::io::{self, Write};

use serde::Serialize;

use super::help_topics::TOPICS;
use crate::alias::Aliases;
use crate::args::{Args, Opt};
use crate::error::{CommandError, Outcome};
use crate::output::Output;
use crate::registry::{COMMANDS, Command, Rows, find};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "help",
    summary: "lists the commands, or explains some",
    arguments: "[COMMAND | ALIAS | input | output | all]...",
    options: &[
        Opt::flag('a', "the aliases, as `alias` lists them"),
        Opt::flag('D', "what the dump file says of itself"),
        Opt::flag('n', "the same"),
    ],
    details: "\
`input` and `output` explain what a line may hold besides a command. crash's other options show
tables of its own insides, which kmortem does not have.",
    examples: &[
        ("", "all commands"),
        ("bt", "options and examples of bt"),
        ("output", "pipes, files and the pager"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a command",
            members: "`name` `group` `summary` `arguments` `options` `examples`",
        },
        Rows { options: "-D, -n", row: "the dump", members: "`container` `vmcoreinfo`" },
    ],
    each: None,
    run,
};

/// The commands by subject. A test sees to it that all are here.
const GROUPS: &[(&str, &[&str])] = &[
    ("tasks", &["bt", "foreach", "ps", "runq", "set", "sig", "task", "waitq"]),
    (
        "memory",
        &[
            "btop",
            "kmem",
            "mem",
            "pagecache",
            "pte",
            "ptob",
            "ptov",
            "rd",
            "search",
            "swap",
            "vm",
            "vtop",
            "wr",
        ],
    ),
    (
        "types and symbols",
        &[
            "*", "ascii", "dis", "eval", "gdb", "list", "p", "rustfilt", "struct", "sym", "tree",
            "union", "whatis",
        ],
    ),
    ("kernel", &["irq", "locks", "log", "mach", "mod", "sys", "timer", "trace", "wq", "xen"]),
    ("devices", &["blk", "dev", "sbitmapq", "virtio"]),
    (
        "files, network, control groups",
        &["bpf", "cgroup", "files", "fuser", "gcore", "ipcs", "mount", "net"],
    ),
    ("session", &["alias", "exit", "extend", "help", "q", "repeat"]),
];

/// A row of JSON.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    group: &'static str,
    summary: &'static str,
    arguments: &'static str,
    options: Vec<Choice>,
    examples: Vec<Example>,
}

#[derive(Serialize)]
struct Choice {
    option: String,
    help: &'static str,
}

#[derive(Serialize)]
struct Example {
    line: String,
    what: &'static str,
}

/// A row of JSON of `help -D`.
#[derive(Serialize)]
struct DumpFile<'a, C: Serialize> {
    container: &'a C,
    vmcoreinfo: Vec<&'a str>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.has('a') {
        return session.run("alias", out);
    }
    if args.has('D') || args.has('n') {
        return show_dump(session, out);
    }
    if args.words.is_empty() {
        if out.is_json() {
            let here = COMMANDS.iter();
            here.map(|command| row(command)).try_for_each(|row| out.row(&row))?;
            return Ok(());
        }
        return Ok(render_list(out, COMMANDS)?);
    }
    for (i, word) in args.words.iter().enumerate() {
        if i > 0 && !out.is_json() {
            writeln!(out)?;
        }
        explain(&session.aliases, word, out)?;
    }
    Ok(())
}

/// The page of a command, topic or alias, for who has no session.
pub fn page(topic: &str, out: &mut Output<'_>) -> io::Result<Outcome> {
    match explain(&Aliases::default(), topic, out) {
        Ok(()) => Ok(Outcome::Answered),
        Err(CommandError::Io(error)) => Err(error),
        Err(error) => {
            out.error(&error)?;
            Ok(Outcome::from(&error))
        }
    }
}

fn explain(aliases: &Aliases, word: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let show = |command: &Command, out: &mut Output<'_>| match out.is_json() {
        true => out.row(&row(command)),
        false => render_command(out, command),
    };
    if word == "all" {
        for (i, command) in COMMANDS.iter().enumerate() {
            if i > 0 && !out.is_json() {
                writeln!(out)?;
            }
            show(command, out)?;
        }
        return Ok(());
    }
    if let Some((name, text)) = TOPICS.iter().find(|(name, _)| *name == word) {
        if out.is_json() {
            let what = format!("{name} is a text, which has no rows");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
        return Ok(writeln!(out, "{text}")?);
    }
    if let Some(alias) = aliases.find(word) {
        let stands_for = alias.command.clone();
        if !out.is_json() {
            writeln!(out, "{word} stands for `{stands_for}`\n")?;
        }
        let first = stands_for.split_whitespace().next().unwrap_or_default();
        return match find(first) {
            Ok(command) => Ok(show(command, out)?),
            Err(_) => Ok(()),
        };
    }
    Ok(show(find(word)?, out)?)
}

fn group(name: &str) -> &'static str {
    GROUPS.iter().find(|(_, names)| names.contains(&name)).map_or("session", |(group, _)| group)
}

fn row(command: &Command) -> Row {
    let here = command.options.iter().filter(|o| o.is_here());
    Row {
        name: command.name,
        group: group(command.name),
        summary: command.summary,
        arguments: command.arguments,
        options: here.map(|o| Choice { option: o.usage(), help: o.help }).collect(),
        examples: command
            .examples
            .iter()
            .map(|(words, what)| Example { line: format!("{} {words}", command.name), what })
            .collect(),
    }
}

/// `help -D`: the container, and the VMCOREINFO in it.
fn show_dump(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let container = kernel.image().info();
    let raw = kernel.vmcoreinfo().map(|v| v.raw()).unwrap_or_default();
    let vmcoreinfo: Vec<&str> = raw.lines().collect();
    if out.is_json() {
        return Ok(out.row(&DumpFile { container, vmcoreinfo })?);
    }
    for file in &container.files {
        writeln!(out, "        file: {} ({} bytes)", file.name, file.size)?;
    }
    writeln!(out, "   container: {}", container.kind)?;
    if let Some(level) = container.filter_level {
        writeln!(out, "filter level: {level}")?;
    }
    if vmcoreinfo.is_empty() {
        writeln!(out, "  vmcoreinfo: (none)")?;
    } else {
        writeln!(out, "  vmcoreinfo:")?;
    }
    for line in vmcoreinfo {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

fn render_list(out: &mut dyn Write, commands: &[&Command]) -> io::Result<()> {
    for (group, names) in GROUPS {
        let here = |c: &&&Command| names.contains(&c.name);
        let mut shown = commands.iter().filter(here).peekable();
        if shown.peek().is_some() {
            writeln!(out, "{group}:")?;
        }
        for command in shown {
            writeln!(out, "  {:<9} {}", command.name, command.summary)?;
        }
    }
    writeln!(
        out,
        "\n`help COMMAND` shows its options and examples, `help input` and `help output` what else a \
         line may hold."
    )
}

fn render_command(out: &mut dyn Write, command: &Command) -> io::Result<()> {
    writeln!(out, "{}: {}\n", command.name, command.summary)?;
    write!(out, "usage: {}", command.name)?;
    if command.options.iter().any(|o| o.is_here()) {
        write!(out, " [OPTIONS]")?;
    }
    if !command.arguments.is_empty() {
        write!(out, " {}", command.arguments)?;
    }
    writeln!(out)?;
    for option in command.options.iter().filter(|o| o.is_here()) {
        writeln!(out, "  {:<12} {}", option.usage(), option.help)?;
    }
    if !command.details.is_empty() {
        writeln!(out, "\n{}", command.details)?;
    }
    if !command.examples.is_empty() {
        writeln!(out, "\nexamples:")?;
    }
    for (words, what) in command.examples {
        writeln!(out, "  {:<24} {what}", format!("{} {words}", command.name))?;
    }
    let later: Vec<String> =
        command.options.iter().filter(|o| !o.is_here()).map(|o| format!("-{}", o.letter)).collect();
    if !later.is_empty() {
        writeln!(out, "\nof crash's options, not there yet: {}", later.join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Opt;

    #[test]
    fn help_shows_all_that_is_known() {
        const WALK: Command = Command {
            name: "walk",
            summary: "goes somewhere",
            arguments: "[WHERE]",
            options: &[Opt::value('c', "CPU", "on one CPU"), Opt::later('x')],
            details: "Slowly.",
            examples: &[("-c 1 home", "goes home")],
            takes_all: false,
            rows: &[],
            each: None,
            run,
        };
        let mut text = Vec::new();
        render_command(&mut text, &WALK).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
        walk: goes somewhere

        usage: walk [OPTIONS] [WHERE]
          -c CPU       on one CPU

        Slowly.

        examples:
          walk -c 1 home           goes home

        of crash's options, not there yet: -x
        ");
    }

    #[test]
    fn every_command_has_one_group() {
        for command in COMMANDS {
            let of = GROUPS.iter().filter(|(_, names)| names.contains(&command.name));
            assert_eq!(of.count(), 1, "{}", command.name);
        }
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_command_has_help() {
        for command in COMMANDS.iter() {
            let mut text = Vec::new();
            render_command(&mut text, command).unwrap();
            // What is refused has no examples that work.
            assert!(!command.examples.is_empty() || command.name == "wr", "{}", command.name);
            assert!(text.starts_with(command.name.as_bytes()));
        }
    }
}

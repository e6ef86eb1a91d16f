//! `help`: what there is, and how to use it.

use std::io::{self, Write};

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{COMMANDS, Command, find};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "help",
    summary: "lists the commands, or explains some",
    arguments: "[COMMAND]...",
    options: &[],
    details: "",
    examples: &[("", "all commands"), ("bt", "options and examples of bt")],
    takes_all: false,
    rows: &[],
    each: None,
    run,
};

fn run(_: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.words.is_empty() {
        return Ok(render_list(out, COMMANDS)?);
    }
    for (i, word) in args.words.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        render_command(out, find(word)?)?;
    }
    Ok(())
}

fn render_list(out: &mut dyn Write, commands: &[&Command]) -> io::Result<()> {
    for command in commands.iter().filter(|c| c.is_here()) {
        writeln!(out, "{:<9} {}", command.name, command.summary)?;
    }
    writeln!(out, "\n`help COMMAND` shows its options and examples.")
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
    fn every_command_has_help() {
        for command in COMMANDS.iter().filter(|c| c.is_here()) {
            let mut text = Vec::new();
            render_command(&mut text, command).unwrap();
            assert!(!command.summary.is_empty() && !command.examples.is_empty());
            assert!(text.starts_with(command.name.as_bytes()));
        }
    }
}

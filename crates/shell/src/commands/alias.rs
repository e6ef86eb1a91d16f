//! `alias`: words that stand for the beginning of a command line.

use std::io::{self, Write};

use serde::Serialize;

use crate::alias::Alias;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "alias",
    summary: "lists the aliases, makes one, or removes one",
    arguments: "[NAME [COMMAND...]]",
    options: &[],
    details: "\
An alias is the first word of a line and stands for the words of its COMMAND. A COMMAND with a
pipe or redirection stands in quotes; an empty one (\"\") removes the alias.",
    examples: &[
        ("", "all aliases"),
        ("blocked foreach UN bt", "makes `blocked` show the stacks of blocked tasks"),
        ("top5 \"ps -l | head -5\"", "with a pipe"),
        ("dmesg", "what `dmesg` stands for"),
        ("lsmod \"\"", "removes `lsmod`"),
    ],
    takes_all: true,
    rows: &[Rows { options: "", row: "an alias", members: "`origin` `name` `alias`" }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    origin: &'a str,
    name: &'a str,
    alias: &'a str,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let failed = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let chosen = match args.words.as_slice() {
        [] => None,
        [name] => Some(name),
        [name, empty] if empty.trim().is_empty() => {
            if !session.aliases.remove(name) {
                return Err(failed(format!("{name} is no alias")));
            }
            if !out.is_json() {
                writeln!(out, "alias deleted: {name}")?;
            }
            return Ok(());
        }
        [name, command @ ..] => {
            let origin = session.alias_origin.clone();
            let alias = Alias { origin, name: name.clone(), command: command.join(" ") };
            session.aliases.add(alias).map_err(failed)?;
            Some(name)
        }
    };
    let all = session.aliases.list();
    let shown: Vec<&Alias> = all.iter().filter(|a| chosen.is_none_or(|n| *n == a.name)).collect();
    if let (Some(name), true) = (chosen, shown.is_empty()) {
        return Err(failed(format!("{name} is no alias")));
    }
    if out.is_json() {
        for a in shown {
            out.row(&Row { origin: a.origin.name(), name: &a.name, alias: &a.command })?;
        }
        return Ok(());
    }
    Ok(render(out, &shown)?)
}

fn render(out: &mut dyn Write, aliases: &[&Alias]) -> io::Result<()> {
    let width = aliases.iter().map(|a| a.origin.name().len()).max().unwrap_or(0).max(7);
    writeln!(out, "{:<width$}  ALIAS    COMMAND", "ORIGIN")?;
    for alias in aliases {
        writeln!(out, "{:<width$}  {:<7}  {} ", alias.origin.name(), alias.name, alias.command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alias::Origin;

    #[test]
    fn the_table_has_the_shape_of_crash() {
        let alias = |origin, name: &str| Alias { origin, name: name.into(), command: "ps".into() };
        let home = alias(Origin::File("$HOME/.crashrc".into()), "a");
        let runtime = alias(Origin::Runtime, "processes");
        let mut text = Vec::new();
        render(&mut text, &[&home, &runtime]).unwrap();
        render(&mut text, &[&runtime]).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
        ORIGIN          ALIAS    COMMAND
        $HOME/.crashrc  a        ps 
        runtime         processes  ps 
        ORIGIN   ALIAS    COMMAND
        runtime  processes  ps
        ");
    }
}

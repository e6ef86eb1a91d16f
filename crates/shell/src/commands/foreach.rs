//! `foreach`: a command for many tasks.

use kmortem_kernel::task::{Task, TaskTable};

use super::tasks;
use crate::args::{self, Args};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{self, Command, EachFn};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "foreach",
    summary: "runs a command for all tasks, or for some",
    arguments: "[FILTER]... COMMAND [OPTIONS]",
    options: &[],
    details: "\
Commands: bt, files, net, ps. Filters, of which each one given widens the choice among the
first three kinds and narrows it by the last:
  PID, TASK          these tasks
  NAME               tasks of that name
  kernel, user       kernel threads, or tasks of user space
  gleader            leaders of thread groups only
  active             tasks that a CPU was running
  RU IN UN ID ST TR ZO DE PA NE    tasks in that state (see `ps`)",
    examples: &[
        ("bt", "the stacks of all tasks"),
        ("UN bt", "the stacks of all that wait uninterruptibly"),
        ("kthreadd bt -s", "the stacks of all tasks named kthreadd"),
        ("active ps", "what the CPUs were running"),
    ],
    takes_all: true,
    rows: &[],
    each: None,
    run,
};

const STATES: &[&str] = &["RU", "IN", "UN", "ID", "ST", "TR", "ZO", "DE", "PA", "NE", "SW", "WA"];

/// Which tasks are meant. An empty list of a kind means all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    /// PIDs and addresses, as typed.
    numbers: Vec<String>,
    names: Vec<String>,
    states: Vec<String>,
    kernel: bool,
    user: bool,
    leader: bool,
    active: bool,
}

impl Filter {
    fn add(&mut self, word: &str) {
        match word {
            "kernel" => self.kernel = true,
            "user" => self.user = true,
            "gleader" => self.leader = true,
            "active" => self.active = true,
            state if STATES.contains(&state) => self.states.push(state.to_owned()),
            number if target::is_number(number) => self.numbers.push(number.to_owned()),
            // A name that looks like a keyword is typed with a backslash.
            name => self.names.push(name.strip_prefix('\\').unwrap_or(name).to_owned()),
        }
    }

    fn apply<'t>(&self, table: &'t TaskTable) -> Result<Vec<&'t Task>, CommandError> {
        let mut named: Vec<&Task> = Vec::new();
        for number in &self.numbers {
            named.extend(target::find(COMMAND.name, table, number)?);
        }
        let any = self.numbers.is_empty() && self.names.is_empty();
        let wanted = |task: &&Task| {
            any || named.iter().any(|n| n.addr == task.addr) || self.names.contains(&task.comm)
        };
        Ok(table.list.iter().filter(wanted).filter(|task| self.fits(task)).collect())
    }

    fn fits(&self, task: &Task) -> bool {
        let kind = self.kernel == self.user || self.kernel == is_kernel(task);
        let state = task.state.crash_code();
        kind && (!self.leader || task.is_leader())
            && (!self.active || task.active)
            && (self.states.is_empty() || self.states.iter().any(|s| s == state))
    }
}

/// Idle tasks count as the kernel's own.
fn is_kernel(task: &Task) -> bool {
    task.is_kernel_thread() || task.pid == 0
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    let mut filter = Filter::default();
    let mut words = args.words.iter();
    let command = loop {
        match words.next().map(String::as_str) {
            None => return Err(usage(format!("no command for the tasks ({})", each_names()))),
            Some(name) if each(name).is_some() => break name,
            Some(option) if option.starts_with('-') => {
                return Err(usage(format!("{option} stands before the command")));
            }
            Some(word) => filter.add(word),
        }
    };
    let rest: Vec<String> = words.cloned().collect();
    let Some((command, show)) = each(command) else { return Ok(()) };
    let args = args::parse(command.name, command.options, &rest)?;
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    let chosen = filter.apply(table)?;
    // What follows is that command's answer, in JSON too.
    out.begin(command.name);
    show(session, &chosen, &args, out)
}

/// The command `name`, if it answers for many tasks.
fn each(name: &str) -> Option<(&'static Command, EachFn)> {
    let command = registry::COMMANDS.iter().find(|c| c.name == name)?;
    Some((command, command.each?))
}

fn each_names() -> String {
    let each = registry::COMMANDS.iter().filter(|c| c.each.is_some());
    each.map(|c| c.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &str) -> Filter {
        let mut filter = Filter::default();
        words.split_whitespace().for_each(|word| filter.add(word));
        filter
    }

    #[test]
    fn words_are_told_apart() {
        let found = filter("UN bash 12 ffff888005c44180 kernel \\user cafe");
        assert_eq!(
            found,
            Filter {
                numbers: vec!["12".into(), "ffff888005c44180".into()],
                names: vec!["bash".into(), "user".into(), "cafe".into()],
                states: vec!["UN".into()],
                kernel: true,
                ..Filter::default()
            }
        );
    }
}

//! `foreach`: a command for many tasks.

use kmortem_kernel::task::{Task, TaskTable};
use regex_lite::Regex;

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
    arguments: "[FILTER]... COMMAND [OPTIONS] [WORDS]",
    options: &[],
    details: "\
Commands: bt, files, net, ps, set, sig, task, vm, vtop. Filters of the first four kinds widen the
choice, the others narrow it:
  PID, TASK          these tasks
  NAME               tasks of that name; \\NAME where it could be taken for something else
  'REGEX'            tasks whose name matches, in single quotes
  kernel, user       kernel threads, or tasks of user space
  gleader            leaders of thread groups of user space
  active             tasks that a CPU was running
  RU IN UN ID ST TR ZO DE PA NE    tasks in that state (see `ps`)",
    examples: &[
        ("bt", "the stacks of all tasks"),
        ("UN bt", "the stacks of all that wait uninterruptibly"),
        ("init bt -s", "the stacks of all tasks named init"),
        ("'^kworker/0' ps", "all tasks whose name begins with kworker/0"),
        ("active ps", "what the CPUs were running"),
    ],
    takes_all: true,
    rows: &[],
    each: None,
    run,
};

const STATES: &[&str] = &["RU", "IN", "UN", "ID", "ST", "TR", "ZO", "DE", "PA", "NE", "SW", "WA"];

/// `TASK_COMM_LEN` without the NUL (include/linux/sched.h): the kernel cuts
/// names there, so a longer one means the same.
const LONGEST_NAME: usize = 15;

/// Which tasks are meant. An empty list of a kind means all.
#[derive(Debug, Default)]
struct Filter {
    /// PIDs and addresses, as typed.
    numbers: Vec<String>,
    names: Vec<String>,
    regexes: Vec<Regex>,
    state: Option<String>,
    kernel: bool,
    user: bool,
    leader: bool,
    active: bool,
}

impl Filter {
    /// Takes a word of the command line; the error is a sentence's end.
    fn add(&mut self, word: &str, single_quoted: bool) -> Result<(), String> {
        match word {
            regex if single_quoted => {
                let regex = Regex::new(regex)
                    .map_err(|error| format!("'{regex}' is no regular expression: {error}"))?;
                self.regexes.push(regex);
            }
            "kernel" => self.kernel = true,
            "user" => self.user = true,
            "gleader" => (self.user, self.leader) = (true, true),
            "active" => self.active = true,
            state if STATES.contains(&state) => {
                if self.state.replace(state.to_owned()).is_some_and(|before| before != state) {
                    return Err("only one state can be asked for".into());
                }
            }
            number if target::is_number(number) => self.numbers.push(number.to_owned()),
            // A name that looks like a keyword is typed with a backslash.
            name => {
                let name = name.strip_prefix('\\').unwrap_or(name);
                self.names.push(name.chars().take(LONGEST_NAME).collect());
            }
        }
        if self.kernel && self.user {
            return Err("kernel and user exclude each other".into());
        }
        Ok(())
    }

    fn apply<'t>(
        &self,
        session: &Session,
        table: &'t TaskTable,
    ) -> Result<Vec<&'t Task>, CommandError> {
        let mut named: Vec<&Task> = Vec::new();
        for number in &self.numbers {
            named.extend(target::find(COMMAND.name, table, number)?);
        }
        for name in &self.names {
            let before = named.len();
            named.extend(table.list.iter().filter(|t| t.comm == *name));
            if named.len() == before {
                // `de` and `cafe` may be numbers, too.
                let found = target::find(COMMAND.name, table, name).map_err(|_| {
                    let what = format!("no task has the name, PID or address {name}");
                    CommandError::Failed { command: COMMAND.name, what }
                })?;
                named.extend(found);
            }
        }
        let mut named: Vec<u64> = named.iter().map(|t| t.addr).collect();
        named.sort_unstable();
        let any = self.numbers.is_empty() && self.names.is_empty() && self.regexes.is_empty();
        let wanted = |task: &&Task| {
            any || named.binary_search(&task.addr).is_ok()
                || self.regexes.iter().any(|regex| regex.is_match(&task.comm))
        };
        let fits = |task: &&Task| self.fits(session, task);
        Ok(table.list.iter().filter(wanted).filter(fits).collect())
    }

    fn fits(&self, session: &Session, task: &Task) -> bool {
        let kind = self.kernel == self.user || self.kernel == is_kernel(task);
        let state = task.state.crash_code();
        let active = || match session.marked_active(task.cpu) {
            Some(marked) => marked == task.addr,
            None => task.active,
        };
        kind && (!self.leader || task.is_leader())
            && (!self.active || active())
            && self.state.as_ref().is_none_or(|s| s == state)
    }
}

/// Idle tasks count as the kernel's own.
fn is_kernel(task: &Task) -> bool {
    task.is_kernel_thread() || task.pid == 0
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    let mut filter = Filter::default();
    let mut rest: Vec<String> = Vec::new();
    let mut words = args.words.iter().enumerate();
    let command = loop {
        match words.next().map(|(i, word)| (word.as_str(), args.is_single_quoted(i))) {
            None => return Err(usage(format!("no command for the tasks ({})", each_names()))),
            Some((name, false)) if each(name).is_some() => break name,
            // Options may stand before the command, as everywhere in crash.
            Some((option, false)) if option.starts_with('-') => {
                rest.push(option.to_owned());
                if option.ends_with(['R', 'y']) {
                    rest.extend(words.next().map(|(_, value)| value.clone()));
                }
            }
            Some((word, quoted)) => filter.add(word, quoted).map_err(usage)?,
        }
    };
    rest.extend(words.map(|(_, word)| word.clone()));
    let Some((command, show)) = each(command) else { return Ok(()) };
    let args = args::parse(command.name, command.options, &rest)?;
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    let chosen = filter.apply(session, table)?;
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

    fn filter(words: &[(&str, bool)]) -> Result<Filter, String> {
        let mut filter = Filter::default();
        words.iter().try_for_each(|(word, quoted)| filter.add(word, *quoted))?;
        Ok(filter)
    }

    #[test]
    fn words_are_told_apart() {
        let words = ["UN", "bash", "12", "ffff888005c44180", "kernel", "\\user", "cafe"];
        let found = filter(&words.map(|word| (word, false))).unwrap();
        assert_eq!(found.numbers, ["12", "ffff888005c44180"]);
        assert_eq!(found.names, ["bash", "user", "cafe"]);
        assert_eq!(found.state.as_deref(), Some("UN"));
        assert!(found.kernel && !found.user);
    }

    #[test]
    fn single_quotes_hold_regular_expressions() {
        let found = filter(&[("^kworker/[0-9]+:", true), ("user", true)]).unwrap();
        assert_eq!(found.regexes.len(), 2);
        assert!(found.regexes[0].is_match("kworker/0:1") && !found.user);
        let error = filter(&[("(", true)]).unwrap_err();
        assert!(error.starts_with("'(' is no regular expression"), "{error}");
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        assert!(filter(&[("kernel", false), ("user", false)]).is_err());
        assert!(filter(&[("kernel", false), ("gleader", false)]).is_err());
        assert!(filter(&[("UN", false), ("IN", false)]).is_err());
        assert!(filter(&[("UN", false), ("UN", false)]).is_ok());
    }

    #[test]
    fn names_are_cut_where_the_kernel_cuts_them() {
        let found = filter(&[("pool_workqueue_release", false)]).unwrap();
        assert_eq!(found.names, ["pool_workqueue_"]);
    }
}

//! The one list of commands.

use std::cmp::Reverse;

use kmortem_kernel::task::Task;

use crate::args::{Args, Opt};
use crate::commands;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// A command: its help as data, and what it runs.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// One line on what it answers.
    pub summary: &'static str,
    /// Words behind the name, for help.
    pub arguments: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// What else there is to know, for help.
    pub details: &'static str,
    /// (words behind the name, what that does)
    pub examples: &'static [(&'static str, &'static str)],
    /// Whether words with a dash are left to the command itself.
    pub takes_all: bool,
    /// What its rows of JSON hold; `docs/run-json.md` is made of these.
    pub rows: &'static [Rows],
    /// Answers for the tasks that `foreach` chose, where it can.
    pub each: Option<EachFn>,
    /// Answers.
    pub run: RunFn,
}

/// Runs a command: on the session, with its arguments.
pub type RunFn = fn(&mut Session, &Args, &mut Output<'_>) -> Result<(), CommandError>;

/// Runs a command for tasks that `foreach` chose.
pub type EachFn = fn(&Session, &[&Task], &Args, &mut Output<'_>) -> Result<(), CommandError>;

/// One kind of JSON row that a command gives.
pub struct Rows {
    /// The options that give it (`-d, -D`); empty: all that are not named elsewhere.
    pub options: &'static str,
    /// What a row is.
    pub row: &'static str,
    /// Its members, each in backquotes, with what explains them.
    pub members: &'static str,
}

/// All commands, by name.
pub const COMMANDS: &[&Command] = &[
    &commands::star::COMMAND,
    &commands::alias::COMMAND,
    &commands::ascii::COMMAND,
    &commands::blk::COMMAND,
    &commands::bpf::COMMAND,
    &commands::bt::COMMAND,
    &commands::btop::COMMAND,
    &commands::cgroup::COMMAND,
    &commands::dev::COMMAND,
    &commands::dis::COMMAND,
    &commands::eval::COMMAND,
    &commands::exit::COMMAND,
    &commands::extend::COMMAND,
    &commands::files::COMMAND,
    &commands::foreach::COMMAND,
    &commands::fuser::COMMAND,
    &commands::gcore::COMMAND,
    &commands::gdb::COMMAND,
    &commands::help::COMMAND,
    &commands::ipcs::COMMAND,
    &commands::irq::COMMAND,
    &commands::kmem::COMMAND,
    &commands::list::COMMAND,
    &commands::locks::COMMAND,
    &commands::log::COMMAND,
    &commands::mach::COMMAND,
    &commands::mem::COMMAND,
    &commands::module::COMMAND,
    &commands::mount::COMMAND,
    &commands::net::COMMAND,
    &commands::print::COMMAND,
    &commands::pagecache::COMMAND,
    &commands::ps::COMMAND,
    &commands::pte::COMMAND,
    &commands::ptob::COMMAND,
    &commands::ptov::COMMAND,
    &commands::exit::Q,
    &commands::rd::COMMAND,
    &commands::repeat::COMMAND,
    &commands::runq::COMMAND,
    &commands::rustfilt::COMMAND,
    &commands::sbitmapq::COMMAND,
    &commands::search::COMMAND,
    &commands::set::COMMAND,
    &commands::sig::COMMAND,
    &commands::structure::COMMAND,
    &commands::swap::COMMAND,
    &commands::sym::COMMAND,
    &commands::sys::COMMAND,
    &commands::task::COMMAND,
    &commands::timer::COMMAND,
    &commands::trace::COMMAND,
    &commands::tree::COMMAND,
    &commands::union::COMMAND,
    &commands::virtio::COMMAND,
    &commands::vm::COMMAND,
    &commands::vtop::COMMAND,
    &commands::waitq::COMMAND,
    &commands::whatis::COMMAND,
    &commands::wq::COMMAND,
    &commands::wr::COMMAND,
    &commands::xen::COMMAND,
];

/// The command `name`.
pub fn find(name: &str) -> Result<&'static Command, CommandError> {
    if let Some(command) = COMMANDS.iter().find(|c| c.name == name) {
        return Ok(command);
    }
    Err(CommandError::Unknown { name: name.to_owned(), suggestion: nearest(name) })
}

/// The command whose name is most like `name`, if any is like it: few letters
/// apart, or one the start of the other.
fn nearest(name: &str) -> Option<String> {
    let wanted = name.to_lowercase();
    let names = COMMANDS.iter().map(|c| c.name);
    let alike = |candidate: &&str| {
        let starts =
            wanted.len() >= 2 && (candidate.starts_with(&wanted) || wanted.starts_with(*candidate));
        let near = distance(&wanted, candidate) <= if wanted.len() > 3 { 2 } else { 1 };
        candidate.len() > 1 && (starts || near)
    };
    names
        .filter(alike)
        .min_by_key(|candidate| {
            let common = candidate.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count();
            (distance(&wanted, candidate), Reverse(common))
        })
        .map(str::to_owned)
}

/// Letters to insert, drop, change or swap with a neighbour to get from `a`
/// to `b` (optimal string alignment).
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str) -> String {
        match find(name) {
            Ok(command) => panic!("{} found", command.name),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_are_sorted_and_there_once() {
        let names: Vec<&str> = COMMANDS.iter().map(|c| c.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn options_are_there_once_and_all_are_explained() {
        for command in COMMANDS {
            for (i, option) in command.options.iter().enumerate() {
                let twice = command.options[..i].iter().any(|o| o.letter == option.letter);
                assert!(!twice, "{} -{}", command.name, option.letter);
                assert!(!option.is_here() || !option.help.is_empty());
            }
        }
    }

    #[test]
    fn slips_get_a_suggestion() {
        assert!(error("pss").contains("did you mean `ps`?"));
        assert!(error("tb").contains("did you mean `bt`?"));
        assert!(error("forech").contains("did you mean `foreach`?"));
        assert!(error("BT").contains("did you mean `bt`?"));
        assert!(!error("zzzzzz").contains("did you mean"));
    }
}

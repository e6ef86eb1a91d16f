//! Options of a command, as crash(8) reads them: single letters, grouped
//! (`-ukG`) or apart, before or after the other words, a value behind the
//! letter or as the next word. `--` ends the options.

use crate::error::CommandError;

/// Whether an option works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Here,
    /// crash has it, kmortem does not yet.
    Later,
}

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Its letter.
    pub letter: char,
    /// What its value is called in help; none for a plain flag.
    pub value: Option<&'static str>,
    /// What it does, for help.
    pub help: &'static str,
    state: State,
}

impl Opt {
    /// An option without a value.
    pub const fn flag(letter: char, help: &'static str) -> Opt {
        Opt { letter, value: None, help, state: State::Here }
    }

    /// An option with a value.
    pub const fn value(letter: char, value: &'static str, help: &'static str) -> Opt {
        Opt { letter, value: Some(value), help, state: State::Here }
    }

    /// An option of crash that is not there yet.
    pub const fn later(letter: char) -> Opt {
        Opt { letter, value: None, help: "", state: State::Later }
    }

    /// Whether it can be used.
    pub fn is_here(&self) -> bool {
        self.state == State::Here
    }
}

/// The words behind a command, sorted into options and the rest.
#[derive(Debug, Default)]
pub struct Args {
    options: Vec<(char, Option<String>)>,
    /// What is no option, in order.
    pub words: Vec<String>,
}

impl Args {
    /// All words as they are, options among them.
    pub fn words_only(words: &[String]) -> Args {
        Args { options: Vec::new(), words: words.to_vec() }
    }

    /// Whether the option was given.
    pub fn has(&self, letter: char) -> bool {
        self.count(letter) > 0
    }

    /// How often it was given (`-SS`).
    pub fn count(&self, letter: char) -> usize {
        self.options.iter().filter(|(l, _)| *l == letter).count()
    }

    /// The value of its last use.
    pub fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(l, _)| *l == letter).and_then(|(_, v)| v.as_deref())
    }

    /// The options in the order in which they were given.
    pub fn letters(&self) -> impl Iterator<Item = char> + '_ {
        self.options.iter().map(|(l, _)| *l)
    }
}

/// Sorts `words` (without the command's name) by the options of `command`.
pub fn parse(
    command: &'static str,
    options: &[Opt],
    words: &[String],
) -> Result<Args, CommandError> {
    let mut args = Args::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            args.words.extend(rest.cloned());
            break;
        }
        let Some(group) = word.strip_prefix('-').filter(|g| !g.is_empty()) else {
            args.words.push(word.clone());
            continue;
        };
        for (at, letter) in group.char_indices() {
            let Some(option) = options.iter().find(|o| o.letter == letter) else {
                let what = format!("no option -{letter}");
                return Err(CommandError::Usage { command, what });
            };
            if !option.is_here() {
                return Err(CommandError::NotYet(format!("{command} -{letter}")));
            }
            let value = match option.value {
                None => None,
                Some(name) => {
                    let behind = &group[at + letter.len_utf8()..];
                    let value = match behind {
                        "" => rest.next().cloned(),
                        behind => Some(behind.to_owned()),
                    };
                    let what = || format!("-{letter} needs a value ({name})");
                    Some(value.ok_or_else(|| CommandError::Usage { command, what: what() })?)
                }
            };
            let ends = value.is_some();
            args.options.push((letter, value));
            if ends {
                break;
            }
        }
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Opt] = &[
        Opt::flag('a', "all"),
        Opt::flag('s', "symbols"),
        Opt::value('c', "CPU", "of a CPU"),
        Opt::later('e'),
    ];

    fn parse_line(line: &str) -> Result<Args, CommandError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse("bt", OPTIONS, &words)
    }

    #[test]
    fn options_may_be_grouped_and_stand_anywhere() {
        let args = parse_line("12 -as 34 -s").unwrap();
        assert!(args.has('a'));
        assert_eq!(args.count('s'), 2);
        assert_eq!(args.words, ["12", "34"]);
    }

    #[test]
    fn values_stand_behind_or_next() {
        assert_eq!(parse_line("-c1").unwrap().value('c'), Some("1"));
        assert_eq!(parse_line("-ac 1,2 x").unwrap().value('c'), Some("1,2"));
        let error = parse_line("-c").unwrap_err().to_string();
        assert!(error.contains("needs a value (CPU)"), "{error}");
    }

    #[test]
    fn two_dashes_end_the_options() {
        let args = parse_line("-- -a -").unwrap();
        assert!(!args.has('a'));
        assert_eq!(args.words, ["-a", "-"]);
    }

    #[test]
    fn unknown_and_later_options_are_told_apart() {
        assert!(parse_line("-z").unwrap_err().is_usage());
        let later = parse_line("-e").unwrap_err();
        assert!(matches!(later, CommandError::NotYet(_)));
        assert!(later.to_string().starts_with("bt -e: known from crash"));
    }
}

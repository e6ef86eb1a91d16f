//! Options of a command, as crash(8) reads them: single letters, grouped
//! (`-ukG`), doubled (`-SS`) or apart, before or after the other words, a value
//! behind the letter or as the next word. Some commands have numbers as options
//! (`-16`). `--` ends the options; where no option is a digit, so is a negative
//! number a word as any other.

use crate::error::CommandError;
use crate::line::Word;

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
    /// Its letter; the first digit of one that is a number.
    pub letter: char,
    /// What is typed behind the dash where that is more than the letter.
    number: Option<&'static str>,
    /// What its value is called in help; none for a plain flag.
    pub value: Option<&'static str>,
    /// Whether it may be given without its value.
    optional: bool,
    /// What it does, for help.
    pub help: &'static str,
    state: State,
}

impl Opt {
    /// An option without a value.
    pub const fn flag(letter: char, help: &'static str) -> Opt {
        Opt { letter, number: None, value: None, optional: false, help, state: State::Here }
    }

    /// An option with a value.
    pub const fn value(letter: char, value: &'static str, help: &'static str) -> Opt {
        Opt { value: Some(value), ..Opt::flag(letter, help) }
    }

    /// An option whose value may be left out. The next word is its value if it
    /// is no option itself.
    pub const fn optional(letter: char, value: &'static str, help: &'static str) -> Opt {
        Opt { optional: true, ..Opt::value(letter, value, help) }
    }

    /// A number as an option (`-16`). [`Args::number`] tells the one given.
    pub const fn number(digits: &'static str, help: &'static str) -> Opt {
        let letter = digits.as_bytes()[0] as char;
        Opt { number: Some(digits), ..Opt::flag(letter, help) }
    }

    /// An option of crash that is not there yet.
    pub const fn later(letter: char) -> Opt {
        Opt { state: State::Later, ..Opt::flag(letter, "") }
    }

    /// Whether it can be used.
    pub fn is_here(&self) -> bool {
        self.state == State::Here
    }

    /// How it is typed, with its value: `-c CPU`, `-b [N]`, `-16`.
    pub fn usage(&self) -> String {
        let dash = match self.number {
            Some(digits) => format!("-{digits}"),
            None => format!("-{}", self.letter),
        };
        match self.value {
            Some(value) if self.optional => format!("{dash} [{value}]"),
            Some(value) => format!("{dash} {value}"),
            None => dash,
        }
    }
}

/// The words behind a command, sorted into options and the rest.
#[derive(Debug, Default)]
pub struct Args {
    options: Vec<(char, Option<String>)>,
    /// What is no option, in order.
    pub words: Vec<String>,
    /// Which of `words` began with a single quote; known of words as they are.
    single_quoted: Vec<bool>,
    /// What stood behind the command's name, as typed.
    raw: String,
}

impl Args {
    /// All words as they are, options among them.
    pub fn words_only(words: &[String]) -> Args {
        Args { words: words.to_vec(), ..Args::default() }
    }

    /// All words as they are, with the quotes that they had.
    pub(crate) fn words_as_typed(words: &[Word]) -> Args {
        Args {
            words: words.iter().map(|w| w.text.clone()).collect(),
            single_quoted: words.iter().map(|w| w.quote == Some('\'')).collect(),
            ..Args::default()
        }
    }

    /// The same with what was typed behind the command's name.
    pub(crate) fn with_raw(self, raw: &str) -> Args {
        Args { raw: raw.trim().to_owned(), ..self }
    }

    /// What was typed behind the command's name: for expressions, whose quotes
    /// and blanks matter. Empty where the words came from elsewhere.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether the word at `index` began with a single quote, in a command
    /// that takes its words as they are.
    pub(crate) fn is_single_quoted(&self, index: usize) -> bool {
        self.single_quoted.get(index).copied().unwrap_or(false)
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

    /// The values of all its uses, in order.
    pub fn values(&self, letter: char) -> impl Iterator<Item = &str> + '_ {
        self.options.iter().filter(move |(l, _)| *l == letter).filter_map(|(_, v)| v.as_deref())
    }

    /// The number that was given last as an option (`-16`).
    pub fn number(&self) -> Option<u32> {
        self.options
            .iter()
            .rev()
            .find_map(|(l, v)| v.as_deref().filter(|_| l.is_ascii_digit())?.parse().ok())
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
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            args.words.extend(rest.cloned());
            break;
        }
        let Some(group) = word.strip_prefix('-').filter(|g| is_group(g, options)) else {
            args.words.push(word.clone());
            continue;
        };
        if let Some(number) = options.iter().find(|o| o.number == Some(group)) {
            args.options.push((number.letter, Some(group.to_owned())));
            continue;
        }
        for (at, letter) in group.char_indices() {
            let known = options.iter().find(|o| o.letter == letter && o.number.is_none());
            let Some(option) = known else {
                let what = format!("no option -{letter}");
                return Err(CommandError::Usage { command, what });
            };
            if !option.is_here() {
                return Err(CommandError::NotYet(format!("{command} -{letter}")));
            }
            let Some(name) = option.value else {
                args.options.push((letter, None));
                continue;
            };
            let value = match &group[at + letter.len_utf8()..] {
                "" if option.optional => rest.next_if(|next| !is_option(next, options)).cloned(),
                "" => rest.next().cloned(),
                behind => Some(behind.to_owned()),
            };
            if value.is_none() && !option.optional {
                let what = format!("-{letter} needs a value ({name})");
                return Err(CommandError::Usage { command, what });
            }
            args.options.push((letter, value));
            break;
        }
    }
    Ok(args)
}

/// Whether what stands behind a dash is meant as options.
fn is_group(group: &str, options: &[Opt]) -> bool {
    let digits = options.iter().any(|o| o.letter.is_ascii_digit());
    group.starts_with(|c: char| digits || !c.is_ascii_digit())
}

fn is_option(word: &str, options: &[Opt]) -> bool {
    word.strip_prefix('-').is_some_and(|group| is_group(group, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Opt] = &[
        Opt::flag('a', "all"),
        Opt::flag('s', "symbols"),
        Opt::value('c', "CPU", "of a CPU"),
        Opt::later('e'),
        Opt::optional('b', "N", "bytes"),
    ];
    const NUMBERS: &[Opt] = &[Opt::number("8", "bytes"), Opt::number("16", "halves")];

    fn parse_with(options: &[Opt], line: &str) -> Result<Args, CommandError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse("bt", options, &words)
    }

    fn parse_line(line: &str) -> Result<Args, CommandError> {
        parse_with(OPTIONS, line)
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

    #[test]
    fn values_may_be_optional_and_repeated() {
        let args = parse_line("-b -a -c 1 -c2").unwrap();
        assert_eq!((args.has('b'), args.value('b')), (true, None));
        assert_eq!(args.values('c').collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(parse_line("-b 4").unwrap().value('b'), Some("4"));
        assert_eq!(parse_line("-b4 5").unwrap().words, ["5"]);
        assert_eq!(parse_line("-b").unwrap().value('b'), None);
    }

    #[test]
    fn numbers_are_options_where_a_command_has_some() {
        let args = parse_with(NUMBERS, "-8 init_task -16").unwrap();
        assert_eq!((args.number(), args.words.len()), (Some(16), 1));
        assert!(parse_with(NUMBERS, "-7").unwrap_err().is_usage());
        assert_eq!(parse_line("-7 -a").unwrap().words, ["-7"]);
        assert_eq!(NUMBERS[1].usage(), "-16");
    }
}

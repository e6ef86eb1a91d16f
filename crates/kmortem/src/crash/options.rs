//! crash(8)'s command line.
//!
//! Its options are those of `crash --help` (9.0.2). Most of them help crash to
//! find what kmortem finds by itself: they are accepted and change nothing.

use std::path::PathBuf;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// The next word, unless that is an option.
    Maybe,
}

/// What an option does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It is handled by name in [`Options::apply`].
    This,
    /// Nothing: kmortem needs no such help.
    Nothing,
    /// Nothing, which may surprise: the sentence says why.
    Told(&'static str),
}

use Does::{Nothing, This, Told};
use Takes::{Maybe, Value};

/// (name, what it takes, what it does)
const OPTIONS: &[(&str, Takes, Does)] = &[
    ("-s", Takes::Nothing, This),
    ("-i", Value, This),
    ("-h", Maybe, This),
    ("--help", Maybe, This),
    ("-v", Takes::Nothing, This),
    ("--version", Takes::Nothing, This),
    ("--buildinfo", Takes::Nothing, This),
    ("-t", Takes::Nothing, This),
    ("-g", Takes::Nothing, This),
    ("--osrelease", Value, This),
    ("--build-id", Value, This),
    ("--log", Value, This),
    ("-e", Value, This),
    ("-d", Value, This),
    ("--hex", Takes::Nothing, This),
    ("--dec", Takes::Nothing, This),
    ("--no_scroll", Takes::Nothing, This),
    ("--less", Takes::Nothing, This),
    ("--more", Takes::Nothing, This),
    ("--CRASHPAGER", Takes::Nothing, This),
    ("--no_crashrc", Takes::Nothing, This),
    ("--no_panic", Takes::Nothing, This),
    ("--offline", Value, This),
    ("-S", Takes::Nothing, Nothing),
    ("-f", Takes::Nothing, Nothing),
    ("-k", Takes::Nothing, Nothing),
    ("-L", Takes::Nothing, Nothing),
    ("-c", Value, Nothing),
    ("-p", Value, Nothing),
    ("-m", Value, Nothing),
    ("--machdep", Value, Nothing),
    ("-x", Takes::Nothing, Told("extensions can't be loaded; `extend` names what does their work")),
    ("-o", Value, Told("no ELF copy of the dump is written")),
    ("--active", Takes::Nothing, Told("all tasks are there, not the active ones only")),
    ("--memory_module", Value, Nothing),
    ("--memory_device", Value, Nothing),
    ("--no_kallsyms", Takes::Nothing, Nothing),
    ("--no_modules", Takes::Nothing, Nothing),
    ("--no_ikconfig", Takes::Nothing, Nothing),
    ("--no_data_debug", Takes::Nothing, Nothing),
    ("--no_kmem_cache", Takes::Nothing, Nothing),
    ("--no_elf_notes", Takes::Nothing, Nothing),
    ("--no_strip", Takes::Nothing, Nothing),
    ("--kmem_cache_delay", Takes::Nothing, Nothing),
    ("--readnow", Takes::Nothing, Nothing),
    ("--smp", Takes::Nothing, Nothing),
    ("--cpus", Value, Nothing),
    ("--hyper", Takes::Nothing, Told("sessions of a Xen hypervisor are not there")),
    ("--p2m_mfn", Value, Nothing),
    ("--xen_phys_start", Value, Nothing),
    ("--zero_excluded", Takes::Nothing, Told("what the dump lacks is never shown as zeros")),
    ("--mod", Value, Nothing),
    ("--src", Value, Nothing),
    ("--reloc", Value, Nothing),
    ("--hash", Value, Nothing),
    ("--kaslr", Value, Nothing),
    ("--max-malloc-bufs", Value, Nothing),
    ("--minimal", Takes::Nothing, Nothing),
    ("--kvmhost", Value, Nothing),
    ("--kvmio", Value, Nothing),
];

/// What is wanted in place of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instead {
    /// How to call it, or the page of a command.
    Help(Option<String>),
    Version,
    BuildInfo,
    /// Of the dump in a file: its release, its build ID, its log.
    OsRelease(PathBuf),
    BuildId(PathBuf),
    Log(PathBuf),
}

/// A command line that was understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Files, whatever they are.
    pub files: Vec<PathBuf>,
    pub instead: Option<Instead>,
    pub silent: bool,
    pub inputs: Vec<PathBuf>,
    /// `-t`: the date of the crash, and nothing else.
    pub date_only: bool,
    /// `-g`: whether the namelist has debuginfo.
    pub debug_query: bool,
    pub no_rc: bool,
    pub no_panic: bool,
    /// Command lines of `set` that the options stand for.
    pub settings: Vec<String>,
    /// What an option does not do.
    pub notes: Vec<String>,
}

impl Options {
    /// Reads the words behind the program's name. The error says what was not
    /// understood.
    pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                options.files.extend(words.by_ref().map(PathBuf::from));
                break;
            }
            if word == "-" || !word.starts_with('-') {
                options.files.push(PathBuf::from(word));
                continue;
            }
            // Letters may stand together, the last one before its value.
            let mut group: Vec<(String, Option<String>)> = Vec::new();
            if word.starts_with("--") {
                let (name, value) =
                    word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
                group.push((name.to_owned(), value.map(str::to_owned)));
            } else {
                let letters = &word[1..];
                for (at, letter) in letters.char_indices() {
                    let name = format!("-{letter}");
                    let behind = &letters[at + letter.len_utf8()..];
                    let takes = find(&name)?.1;
                    if takes != Takes::Nothing && !behind.is_empty() {
                        group.push((name, Some(behind.to_owned())));
                        break;
                    }
                    group.push((name, None));
                }
            }
            for (name, value) in group {
                let (name, takes, does) = *find(&name)?;
                let next_is_value = words.peek().is_some_and(|next| !next.starts_with('-'));
                let value = match (takes, value) {
                    (Takes::Nothing, Some(_)) => return Err(format!("{name} takes no value")),
                    (Takes::Nothing, None) => None,
                    (_, Some(value)) => Some(value),
                    (Maybe, None) if !next_is_value => None,
                    (Maybe, None) => words.next().cloned(),
                    (Value, None) => {
                        let value = words.next().cloned();
                        Some(value.ok_or_else(|| format!("{name} needs a value"))?)
                    }
                };
                match does {
                    Nothing => {}
                    Told(why) => options.notes.push(format!("{name}: {why}")),
                    This => options.apply(name, value)?,
                }
            }
        }
        Ok(options)
    }

    fn apply(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let mut set = |words: &str| self.settings.push(format!("set {words}"));
        let text = value.as_deref().unwrap_or_default();
        let path = || PathBuf::from(text);
        match name {
            "-s" => self.silent = true,
            "-i" => self.inputs.push(path()),
            "-h" | "--help" => self.instead = Some(Instead::Help(value)),
            "-v" | "--version" => self.instead = Some(Instead::Version),
            "--buildinfo" => self.instead = Some(Instead::BuildInfo),
            "--osrelease" => self.instead = Some(Instead::OsRelease(path())),
            "--build-id" => self.instead = Some(Instead::BuildId(path())),
            "--log" => self.instead = Some(Instead::Log(path())),
            "-t" => self.date_only = true,
            "-g" => self.debug_query = true,
            "--no_crashrc" => self.no_rc = true,
            "--no_panic" => self.no_panic = true,
            "-e" if matches!(text, "vi" | "emacs") => set(&format!("edit {text}")),
            "-d" if text.parse::<u64>().is_ok() => set(&format!("debug {text}")),
            "--offline" if matches!(text, "show" | "hide") => set(&format!("offline {text}")),
            "--hex" => set("radix 16"),
            "--dec" => set("radix 10"),
            "--no_scroll" => set("scroll off"),
            "--less" | "--more" | "--CRASHPAGER" => set(&format!("scroll {}", &name[2..])),
            _ => return Err(format!("{name} can't be `{text}`")),
        }
        Ok(())
    }
}

/// The option `name`; a long one may be cut where it is still the only one.
fn find(name: &str) -> Result<&'static (&'static str, Takes, Does), String> {
    if let Some(option) = OPTIONS.iter().find(|(n, ..)| *n == name) {
        return Ok(option);
    }
    let mut alike = OPTIONS.iter().filter(|(n, ..)| name.len() > 3 && n.starts_with(name));
    match (alike.next(), alike.next()) {
        (Some(option), None) => Ok(option),
        _ => Err(format!("{name} is no option of crash")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn files_and_options_stand_in_any_order() {
        let options = parse("vmlinux -s vmcore -i cmds --no_scroll").unwrap();
        assert_eq!(options.files, [PathBuf::from("vmlinux"), PathBuf::from("vmcore")]);
        assert!(options.silent);
        assert_eq!(options.inputs, [PathBuf::from("cmds")]);
        assert_eq!(options.settings, ["set scroll off"]);
    }

    #[test]
    fn values_stand_behind_or_next() {
        assert_eq!(parse("-icmds").unwrap().inputs, [PathBuf::from("cmds")]);
        assert_eq!(parse("--kaslr=auto vmcore").unwrap().files.len(), 1);
        assert_eq!(parse("--kaslr auto vmcore -m phys_base=0").unwrap().files.len(), 1);
        assert_eq!(parse("-sSd 7").unwrap().settings, ["set debug 7"]);
        assert!(parse("-i").unwrap_err().contains("needs a value"));
        assert!(parse("--smp=2").unwrap_err().contains("takes no value"));
    }

    #[test]
    fn help_may_name_a_command() {
        assert_eq!(parse("-h").unwrap().instead, Some(Instead::Help(None)));
        assert_eq!(parse("--help bt").unwrap().instead, Some(Instead::Help(Some("bt".into()))));
        assert_eq!(parse("-h -s").unwrap().instead, Some(Instead::Help(None)));
    }

    #[test]
    fn long_names_may_be_cut_where_they_are_clear() {
        assert!(parse("--no_modu").is_ok());
        assert!(parse("--no_").unwrap_err().contains("no option of crash"));
        assert!(parse("-Z").unwrap_err().contains("-Z is no option of crash"));
        assert!(parse("-e joe").unwrap_err().contains("can't be `joe`"));
    }

    #[test]
    fn what_may_surprise_is_told() {
        assert_eq!(parse("--zero_excluded --minimal").unwrap().notes.len(), 1);
    }
}

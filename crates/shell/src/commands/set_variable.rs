//! The variables of `set`, under crash's names and in its shapes.

use std::io::Write;
use std::path::PathBuf;

use kmortem_kernel::Kernel;
use serde::Serialize;

use super::set::COMMAND;
use crate::address;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::settings::{EditMode, ErrorsTo, Pager, Radix, Settings};

/// All variables, in the order of `set -v`.
const VARIABLES: &[&str] = &[
    "scroll",
    "radix",
    "refresh",
    "print_max",
    "print_array",
    "console",
    "debug",
    "core",
    "hash",
    "silent",
    "edit",
    "namelist",
    "dumpfile",
    "unwind",
    "zero_excluded",
    "null-stop",
    "gdb",
    "scope",
    "offline",
    "redzone",
    "error",
];

/// Words that set a variable by themselves: the variable and its value.
const SHORT: &[(&str, &str, &str)] = &[
    ("hex", "radix", "16"),
    ("dec", "radix", "10"),
    ("vi", "edit", "vi"),
    ("emacs", "edit", "emacs"),
    ("null_stop", "null-stop", ""),
];

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    variable: &'a str,
    value: &'a str,
}

/// Names of all variables.
pub(crate) fn names() -> impl Iterator<Item = String> {
    VARIABLES.iter().map(|name| (*name).to_owned())
}

pub(super) fn is_variable(word: &str) -> bool {
    VARIABLES.contains(&word) || SHORT.iter().any(|(short, ..)| *short == word)
}

/// `set -v`.
pub(super) fn show_all(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    for name in VARIABLES {
        let value = value(session, name);
        if out.is_json() {
            out.row(&Row { variable: name, value: &value })?;
        } else {
            writeln!(out, "{name:>14}: {value}")?;
        }
    }
    Ok(())
}

/// Shows or sets the variables that `words` name, each with its value if that
/// follows.
pub(super) fn run(
    session: &mut Session,
    words: &[String],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (name, given) = match SHORT.iter().find(|(short, ..)| *short == word) {
            Some((_, name, "")) => (*name, words.next()),
            Some((_, name, value)) => (*name, Some(*value)),
            None => match VARIABLES.iter().find(|name| **name == word) {
                Some(name) => (*name, words.next()),
                None => return Err(usage(format!("{word} is no variable"))),
            },
        };
        if let Some(value) = given {
            let scope = if name == "scope" { Some(scope(session.kernel(), value)?) } else { None };
            let known = assign(session.settings_mut(), name, value, scope);
            known.map_err(|takes| usage(format!("{name} is {takes}, not `{value}`")))?;
            if let Some(why) = without_effect(name, value) {
                out.note(why)?;
            }
        }
        let value = value(session, name);
        if out.is_json() {
            out.row(&Row { variable: name, value: &value })?;
        } else {
            match name {
                "radix" => writeln!(out, "output radix: {value}")?,
                // As wide as in `set -v`, which crash shows of this one only.
                "offline" => writeln!(out, "      offline: {value}")?,
                "core" => writeln!(out, "core: {value} ({})", core(&value))?,
                _ => writeln!(out, "{name}: {value}")?,
            }
        }
    }
    Ok(())
}

/// Why this value of a variable changes no answer.
fn without_effect(name: &str, value: &str) -> Option<&'static str> {
    let on = matches!(value, "on" | "1");
    let off = matches!(value, "off" | "0");
    match name {
        "zero_excluded" if on => {
            Some("zero_excluded stays off: what the dump lacks is never shown as zeros")
        }
        "hash" if off => Some("hash changes nothing: every list is watched for loops"),
        "core" if on => Some("core changes nothing: an error message needs no core file"),
        "refresh" if on || off => {
            Some("refresh changes nothing: the tasks of a dump stay the same")
        }
        "unwind" if on || off => {
            Some("unwind changes nothing: stacks are always unwound by the kernel's own ORC tables")
        }
        "scope" if value != "0" => Some(
            "scope changes nothing: the dump's types (BTF) have no scopes; of types with one name \
             the kernel's own comes before those of modules",
        ),
        "debug" if value != "0" => Some("debug changes nothing: there are no debug messages"),
        "console" => Some("console changes nothing: there are no debug messages to send there"),
        _ => None,
    }
}

/// What crash says of `core`.
fn core(value: &str) -> &'static str {
    match value {
        "on" => "drop core on error message",
        _ => "do NOT drop core on error message",
    }
}

fn scope(kernel: &Kernel, word: &str) -> Result<u64, CommandError> {
    match address::address(COMMAND.name, kernel, word)? {
        0 => Ok(0),
        addr if kernel.symbol_at(addr).is_some() => Ok(addr),
        _ => {
            let what = format!("{word} is no address of the kernel's text");
            Err(CommandError::Failed { command: COMMAND.name, what })
        }
    }
}

/// Sets a variable; the error says what it takes.
fn assign(
    settings: &mut Settings,
    name: &str,
    value: &str,
    scope: Option<u64>,
) -> Result<(), &'static str> {
    let on = || match value {
        "on" | "1" => Ok(true),
        "off" | "0" => Ok(false),
        _ => Err("on or off"),
    };
    match name {
        "scroll" => match value {
            "less" => (settings.scroll, settings.pager) = (true, Pager::Less),
            "more" => (settings.scroll, settings.pager) = (true, Pager::More),
            "CRASHPAGER" => (settings.scroll, settings.pager) = (true, Pager::Environment),
            _ => settings.scroll = on().map_err(|_| "on, off, less, more or CRASHPAGER")?,
        },
        "radix" => match value {
            "10" | "dec" => settings.radix = Radix::Decimal,
            "16" | "hex" | "0x10" => settings.radix = Radix::Hex,
            _ => return Err("10 or 16"),
        },
        "print_max" => settings.print_max = number(value)?,
        "debug" => settings.debug = number(value)?,
        "print_array" => settings.print_array = on()?,
        "null-stop" => settings.null_stop = on()?,
        "silent" => settings.silent = on()?,
        "gdb" => settings.gdb = on()?,
        "refresh" => settings.refresh = on()?,
        "core" => settings.core = on()?,
        "redzone" => settings.redzone = on()?,
        "unwind" => settings.unwind = on()?,
        // A number of queues is meant, which only crash has.
        "hash" => settings.hash = number(value).map(|n| n > 0).or_else(|_| on())?,
        "zero_excluded" => drop(on()?),
        "edit" => match value {
            "vi" => settings.edit = EditMode::Vi,
            "emacs" => settings.edit = EditMode::Emacs,
            _ => return Err("vi or emacs"),
        },
        "offline" => match value {
            "show" => settings.offline_hide = false,
            "hide" => settings.offline_hide = true,
            _ => return Err("show or hide"),
        },
        "error" => match value {
            "default" => settings.error = ErrorsTo::StandardError,
            "redirect" => settings.error = ErrorsTo::Answer,
            path => settings.error = ErrorsTo::File(PathBuf::from(path)),
        },
        "scope" => settings.scope = scope.unwrap_or(0),
        // The kernel is the dump's own; there is no console to write to.
        "namelist" | "console" => {}
        "dumpfile" => return Err("what was opened"),
        _ => return Err("unknown"),
    }
    Ok(())
}

fn number(value: &str) -> Result<u64, &'static str> {
    address::number(value).ok_or("a number")
}

/// The value of a variable, as crash words it.
fn value(session: &Session, name: &str) -> String {
    let settings = session.settings();
    let on = |value: bool| if value { "on" } else { "off" }.to_owned();
    match name {
        "scroll" => {
            let pager = match settings.pager {
                Pager::Less => "less",
                Pager::More => "more",
                Pager::Environment => "CRASHPAGER",
            };
            format!("{} ({pager})", on(settings.scroll))
        }
        "radix" => match settings.radix {
            Radix::Decimal => "10 (decimal)".into(),
            Radix::Hex => "16 (hex)".into(),
        },
        "refresh" => on(settings.refresh),
        "print_max" => settings.print_max.to_string(),
        "print_array" => on(settings.print_array),
        "console" => "not set".into(),
        "debug" => settings.debug.to_string(),
        "core" => on(settings.core),
        "hash" => on(settings.hash),
        "silent" => on(settings.silent),
        "edit" => match settings.edit {
            EditMode::Vi => "vi".into(),
            EditMode::Emacs => "emacs".into(),
        },
        "namelist" => settings
            .namelist
            .clone()
            .unwrap_or_else(|| "(symbols and types of the dump)".to_owned()),
        "dumpfile" => {
            let files = &session.kernel().image().info().files;
            files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(" ")
        }
        "unwind" => on(settings.unwind),
        "zero_excluded" => on(false),
        "null-stop" => on(settings.null_stop),
        "gdb" => on(settings.gdb),
        "scope" => match (settings.scope, session.kernel().symbol_at(settings.scope)) {
            (0, _) => "0 (not set)".into(),
            (addr, Some(symbol)) => format!("{addr:x} ({})", symbol.name),
            (addr, None) => format!("{addr:x}"),
        },
        "offline" => if settings.offline_hide { "hide" } else { "show" }.into(),
        "redzone" => on(settings.redzone),
        "error" => match &settings.error {
            ErrorsTo::StandardError => "default".into(),
            ErrorsTo::Answer => "redirect".into(),
            ErrorsTo::File(path) => path.display().to_string(),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<Settings, &'static str> {
        let mut settings = Settings::default();
        assign(&mut settings, name, value, None).map(|()| settings)
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(set("radix", "16").unwrap().radix, Radix::Hex);
        assert_eq!(set("radix", "8").unwrap_err(), "10 or 16");
        assert_eq!(set("print_max", "0x20").unwrap().print_max, 32);
        assert_eq!(set("scroll", "more").unwrap().pager, Pager::More);
        assert!(!set("scroll", "off").unwrap().scroll);
        assert!(set("scroll", "perhaps").is_err());
        assert!(set("offline", "hide").unwrap().offline_hide);
        assert_eq!(set("error", "redirect").unwrap().error, ErrorsTo::Answer);
        assert!(set("hash", "32768").unwrap().hash);
    }

    #[test]
    fn every_variable_can_be_set_or_says_why_not() {
        for name in VARIABLES {
            assert_ne!(set(name, "on").err(), Some("unknown"), "{name}");
        }
        assert!(is_variable("hex") && is_variable("null_stop") && !is_variable("1234"));
    }
}

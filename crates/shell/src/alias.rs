//! Aliases: words that stand for the beginning of a command line.

use crate::registry;

/// How an alias came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// crash has it by itself.
    Builtin,
    /// A command made it.
    Runtime,
    /// An rc file made it.
    File(String),
}

impl Origin {
    /// As `alias` shows it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Origin::Builtin => "builtin",
            Origin::Runtime => "runtime",
            Origin::File(name) => name,
        }
    }
}

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    pub origin: Origin,
    pub name: String,
    pub command: String,
}

/// crash's own aliases.
const BUILTIN: &[(&str, &str)] = &[
    ("man", "help"),
    ("?", "help"),
    ("quit", "q"),
    ("sf", "set scroll off"),
    ("sn", "set scroll on"),
    ("hex", "set radix 16"),
    ("dec", "set radix 10"),
    ("g", "gdb"),
    ("px", "p -x"),
    ("pd", "p -d"),
    ("for", "foreach"),
    ("size", "*"),
    ("dmesg", "log"),
    ("lsmod", "mod"),
    ("last", "ps -l"),
];

/// All aliases of a session, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct Aliases {
    list: Vec<Alias>,
}

impl Default for Aliases {
    fn default() -> Aliases {
        let builtin = |&(name, command): &(&str, &str)| Alias {
            origin: Origin::Builtin,
            name: name.to_owned(),
            command: command.to_owned(),
        };
        Aliases { list: BUILTIN.iter().map(builtin).collect() }
    }
}

impl Aliases {
    pub(crate) fn list(&self) -> &[Alias] {
        &self.list
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Alias> {
        self.list.iter().find(|a| a.name == name)
    }

    /// Makes, or changes, an alias. An error is a sentence's end.
    pub(crate) fn add(&mut self, alias: Alias) -> Result<(), String> {
        if registry::find(&alias.name).is_ok() {
            return Err(format!("{} is the name of a command", alias.name));
        }
        let first = first_word(&alias.command).0;
        let known = first.starts_with('!') || self.find(first).is_some();
        if !known && registry::find(first).is_err() {
            return Err(format!("{first} is no command"));
        }
        self.list.retain(|a| a.name != alias.name);
        self.list.push(alias);
        Ok(())
    }

    /// Whether there was one to remove.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|a| a.name != name);
        self.list.len() < before
    }

    /// `line` with the alias that it begins with replaced, if any. An alias
    /// may begin with another one; each one counts once, so that this ends.
    pub(crate) fn expand(&self, line: &str) -> String {
        let mut line = line.trim_start().to_owned();
        let mut used: Vec<&str> = Vec::new();
        loop {
            let (name, rest) = first_word(&line);
            let Some(alias) = self.find(name).filter(|a| !used.contains(&a.name.as_str())) else {
                return line;
            };
            used.push(&alias.name);
            line = format!("{}{rest}", alias.command);
        }
    }
}

/// The word that `line` begins with, which a pipe or redirection also ends.
fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let ends = |(i, c): (usize, char)| c.is_whitespace() || (i > 0 && "|!<>".contains(c));
    line.split_at(line.char_indices().find(|at| ends(*at)).map_or(line.len(), |(i, _)| i))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(name: &str, command: &str) -> Alias {
        Alias { origin: Origin::Runtime, name: name.into(), command: command.into() }
    }

    #[test]
    fn the_first_word_is_replaced() {
        let aliases = Aliases::default();
        assert_eq!(aliases.expand("dmesg -t"), "log -t");
        assert_eq!(aliases.expand("dmesg|tail"), "log|tail");
        assert_eq!(aliases.expand("  px jiffies"), "p -x jiffies");
        assert_eq!(aliases.expand("ps dmesg"), "ps dmesg");
        assert_eq!(aliases.expand("? bt"), "help bt");
    }

    #[test]
    fn aliases_may_build_on_others_but_not_go_round() {
        let mut aliases = Aliases::default();
        aliases.add(alias("pj", "px jiffies")).unwrap();
        assert_eq!(aliases.expand("pj"), "p -x jiffies");
        aliases.add(alias("px", "pj")).unwrap();
        assert_eq!(aliases.expand("pj"), "pj jiffies");
    }

    #[test]
    fn an_alias_is_a_new_name_for_something_known() {
        let mut aliases = Aliases::default();
        assert!(aliases.add(alias("ps", "bt")).unwrap_err().contains("name of a command"));
        assert!(aliases.add(alias("x", "nonsense")).unwrap_err().contains("no command"));
        aliases.add(alias("up", "ps | grep up")).unwrap();
        aliases.add(alias("now", "!date")).unwrap();
        assert_eq!(aliases.expand("up"), "ps | grep up");
        assert!(aliases.remove("up") && !aliases.remove("up"));
    }
}

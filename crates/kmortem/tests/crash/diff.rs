//! What two answers do not have in common, as hunks of lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmortem_kernel::Kernel;
use similar::{ChangeTag, TextDiff};

/// A place where two answers differ.
#[derive(Debug)]
pub(crate) struct Hunk {
    /// The common line before it.
    pub before: String,
    /// Lines that only crash has.
    pub crash: Vec<String>,
    /// Lines that only kmortem has.
    pub kmortem: Vec<String>,
    /// The dump that was asked about.
    pub about: Arc<About>,
}

/// What the rows of accepted differences have to know of a dump.
#[derive(Default)]
pub(crate) struct About {
    /// By how many seconds crash's uptime is ahead of the timekeeper's, with the
    /// right length of a tick and with 1 ms.
    pub ahead_s: [i64; 2],
    pub kernel: Option<Kernel>,
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("About").field("ahead_s", &self.ahead_s).finish_non_exhaustive()
    }
}

impl About {
    /// Whether the kernel's page tables map `address`.
    pub(crate) fn maps(&self, address: u64) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.space().walk(address).is_ok())
    }

    /// Address of a symbol of the kernel.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        self.kernel.as_ref()?.symbol(name).ok()
    }

    /// Whether `address` lies in what a module has for its start only.
    pub(crate) fn is_module_init(&self, address: u64) -> bool {
        let modules = self.kernel.as_ref().and_then(|kernel| kernel.modules().ok());
        modules.into_iter().flatten().any(|module| {
            module.memory.iter().any(|part| part.init && part.range.contains(&address))
        })
    }

    /// Whether the kernel has a type of this name.
    pub(crate) fn is_type(&self, name: &str) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.ty(name).is_ok())
    }
}

impl Hunk {
    fn behind(before: &str) -> Hunk {
        let (crash, kmortem) = (Vec::new(), Vec::new());
        Hunk { before: before.to_owned(), crash, kmortem, about: Arc::default() }
    }

    /// How many lines differ, none if all are explained.
    pub(crate) fn lines(&self) -> usize {
        self.crash.len().max(self.kmortem.len())
    }

    /// Where it stands, and the first lines of each side.
    pub(crate) fn shown(&self, lines: usize) -> String {
        let side = |mark: &str, all: &[String]| -> String {
            all.iter().take(lines).map(|line| format!("\n  {mark} {line}")).collect()
        };
        let (crash, kmortem) = (side("crash  ", &self.crash), side("kmortem", &self.kmortem));
        format!("behind `{}`{crash}{kmortem}", self.before)
    }

    /// Takes out pairs of one line each, in order, for which `same` holds.
    pub(crate) fn take_pairs(&mut self, same: impl Fn(&str, &str) -> bool) {
        self.crash.retain(|theirs| {
            let ours = self.kmortem.iter().position(|ours| same(theirs, ours));
            if let Some(ours) = ours {
                self.kmortem.remove(ours);
            }
            ours.is_none()
        });
    }
}

/// The same of lists by address with very many lines, each 64 KiB by itself: what
/// a diff takes grows with lines times differences.
pub(crate) fn hunks_by_address(crash: &[String], kmortem: &[String]) -> Vec<Hunk> {
    let mut parts: BTreeMap<u64, [Vec<String>; 2]> = BTreeMap::new();
    for (side, lines) in [crash, kmortem].into_iter().enumerate() {
        for line in lines {
            let address = line.split(' ').next().unwrap_or_default();
            let part = u64::from_str_radix(address, 16).unwrap_or(u64::MAX) >> 16;
            parts.entry(part).or_default()[side].push(line.clone());
        }
    }
    parts.values().flat_map(|[crash, kmortem]| hunks(crash, kmortem)).collect()
}

/// The hunks between two answers (Myers' diff).
pub(crate) fn hunks(crash: &[String], kmortem: &[String]) -> Vec<Hunk> {
    let theirs: Vec<&str> = crash.iter().map(String::as_str).collect();
    let ours: Vec<&str> = kmortem.iter().map(String::as_str).collect();
    // Long answers with nothing in common: hunks may be larger than need be.
    let diff = TextDiff::configure().timeout(Duration::from_secs(2)).diff_slices(&theirs, &ours);
    let mut hunks = vec![Hunk::behind("")];
    for change in diff.iter_all_changes() {
        let Some(hunk) = hunks.last_mut() else { break };
        match change.tag() {
            ChangeTag::Delete => hunk.crash.push(change.value().to_owned()),
            ChangeTag::Insert => hunk.kmortem.push(change.value().to_owned()),
            ChangeTag::Equal if hunk.lines() > 0 => hunks.push(Hunk::behind(change.value())),
            ChangeTag::Equal => change.value().clone_into(&mut hunk.before),
        }
    }
    hunks.retain(|hunk| hunk.lines() > 0);
    hunks
}

#[test]
fn common_lines_part_hunks() {
    let lines = |text: &str| text.chars().map(|c| c.to_string()).collect::<Vec<_>>();
    let found = hunks(&lines("abcXdef"), &lines("aYcdZZef"));
    let found: Vec<_> =
        found.iter().map(|h| (h.before.as_str(), h.crash.concat(), h.kmortem.concat())).collect();
    let hunk = |before, crash: &str, kmortem: &str| (before, crash.to_owned(), kmortem.to_owned());
    assert_eq!(found, [hunk("a", "b", "Y"), hunk("c", "X", ""), hunk("d", "", "ZZ")]);
    assert!(hunks(&lines("same"), &lines("same")).is_empty());
    let symbols = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let found = hunks_by_address(&symbols("10 a\n10010 b\n10020 c"), &symbols("10 a\n10020 c"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].crash.concat(), found[0].kmortem.len()), ("10010 b".to_owned(), 0));
}

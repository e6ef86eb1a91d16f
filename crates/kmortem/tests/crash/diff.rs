//! What two answers do not have in common, as hunks of lines.

use std::collections::VecDeque;

/// A place where two answers differ.
#[derive(Debug)]
pub(crate) struct Hunk {
    /// The common line before it.
    pub before: String,
    /// Lines that only crash has.
    pub crash: Vec<String>,
    /// Lines that only kmortem has.
    pub kmortem: Vec<String>,
}

impl Hunk {
    /// How many lines differ, none if all are explained.
    pub(crate) fn lines(&self) -> usize {
        self.crash.len().max(self.kmortem.len())
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

/// The hunks of a longest common subsequence.
pub(crate) fn hunks(crash: &[String], kmortem: &[String]) -> Vec<Hunk> {
    // longest[i][j]: of crash[i..] and kmortem[j..].
    let width = kmortem.len() + 1;
    let mut longest = vec![0u32; (crash.len() + 1) * width];
    for i in (0..crash.len()).rev() {
        for j in (0..kmortem.len()).rev() {
            longest[i * width + j] = match crash[i] == kmortem[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let mut crash: VecDeque<&String> = crash.iter().collect();
    let mut kmortem: VecDeque<&String> = kmortem.iter().collect();
    let rows = crash.len();
    let mut hunks = Vec::new();
    let mut hunk = Hunk { before: String::new(), crash: Vec::new(), kmortem: Vec::new() };
    loop {
        match (crash.front(), kmortem.front()) {
            (Some(theirs), Some(ours)) if theirs == ours => {
                let next = Hunk { before: (*ours).clone(), crash: Vec::new(), kmortem: Vec::new() };
                hunks.push(std::mem::replace(&mut hunk, next));
                crash.pop_front();
                kmortem.pop_front();
            }
            (Some(theirs), ours) => {
                let at = (rows - crash.len()) * width + (width - 1 - kmortem.len());
                match ours {
                    Some(ours) if longest[at + 1] > longest[at + width] => {
                        hunk.kmortem.push((*ours).clone());
                        kmortem.pop_front();
                    }
                    _ => {
                        hunk.crash.push((*theirs).clone());
                        crash.pop_front();
                    }
                }
            }
            (None, Some(ours)) => {
                hunk.kmortem.push((*ours).clone());
                kmortem.pop_front();
            }
            (None, None) => break,
        }
    }
    hunks.push(hunk);
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
}

//! What is missing of an answer, with the reason for each hole.
//!
//! A filtered or damaged dump answers most of a question. The value then has
//! `None` where something could not be read, and its `gaps` say why.

use serde::Serialize;

use crate::error::{Error, Result};

/// One value names at most so many holes: the first ones tell the reason.
const MOST: usize = 64;

/// Reasons for what an answer lacks. Empty: it is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Gaps(Vec<String>);

impl Gaps {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reasons.
    pub fn reasons(&self) -> &[String] {
        &self.0
    }

    /// The value, or `None` with the reason kept.
    pub fn keep<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.add(what, &e);
                None
            }
        }
    }

    /// Adds the reasons of a part.
    pub fn extend(&mut self, part: Gaps) {
        for reason in part.0 {
            if self.0.len() < MOST && !self.0.contains(&reason) {
                self.0.push(reason);
            }
        }
    }

    /// Keeps the reason why `what` is missing.
    pub fn add(&mut self, what: &str, error: &Error) {
        if self.0.len() < MOST {
            let reason = format!("{what}: {error}");
            if !self.0.contains(&reason) {
                self.0.push(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_hole_once_and_not_without_end() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.keep("mtu", Ok(1500)), Some(1500));
        assert!(gaps.is_empty());
        for _ in 0..2 {
            let none: Option<u32> = gaps.keep("mtu", Err(Error::Null("a device".into())));
            assert_eq!(none, None);
        }
        assert_eq!(gaps.reasons(), ["mtu: a device is NULL"]);
        for i in 0..1000 {
            gaps.add("name", &Error::NoSymbol(format!("s{i}")));
        }
        assert_eq!(gaps.reasons().len(), MOST);
    }
}

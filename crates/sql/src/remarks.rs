//! What tables lack and why, each reason once, and not without end.

/// A table tells so many reasons: the first ones say what is wrong.
const MOST: usize = 8;

/// The remarks on what was read for one statement.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    list: Vec<(&'static str, String)>,
    /// Further ones, by table.
    more: Vec<(&'static str, usize)>,
}

impl Remarks {
    /// One more reason why `table` is not whole.
    pub(crate) fn add(&mut self, table: &'static str, reason: &str) {
        let of_table = || self.list.iter().filter(|(t, _)| *t == table);
        if of_table().any(|(_, told)| told == reason) {
            return;
        }
        if of_table().count() < MOST {
            self.list.push((table, reason.to_owned()));
            return;
        }
        match self.more.iter_mut().find(|(t, _)| *t == table) {
            Some((_, count)) => *count += 1,
            None => self.more.push((table, 1)),
        }
    }

    /// As lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let first = self.list.iter().map(|(table, reason)| format!("{table}: {reason}"));
        let more = self.more.iter();
        first.chain(more.map(|(table, count)| format!("{table}: and {count} more remarks")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_each_reason_once_and_few_of_many() {
        let mut remarks = Remarks::default();
        for i in 0..20 {
            remarks.add("tasks", &format!("{i} is missing"));
            remarks.add("tasks", "0 is missing");
        }
        remarks.add("frames", "0 is missing");
        let lines: Vec<String> = remarks.lines().collect();
        assert_eq!(lines.len(), MOST + 2);
        assert_eq!(lines[0], "tasks: 0 is missing");
        assert_eq!(lines[MOST], "frames: 0 is missing");
        assert_eq!(lines[MOST + 1], "tasks: and 12 more remarks");
    }
}

//! What is read, written and tested, container by container: docs/formats.md is made from this.

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// The container, and who writes it.
    pub container: &'static str,
    /// What of it is read, and what is not.
    pub read: &'static str,
    /// As what `kmortem convert` writes it; empty: it does not.
    pub write: &'static str,
    /// Files of the real program that tests open: dumps of the lab (lab/dumps.toml).
    pub real: &'static str,
    /// What tests build in code.
    pub synthetic: &'static str,
}

/// The table, containers first, then what may lie around them.
pub fn support() -> Vec<Support> {
    use crate::container::{FORMATS, SNAPSHOTS};
    let containers = FORMATS.iter().chain(SNAPSHOTS).flat_map(|format| format.support);
    let rest = [crate::container::RAW_SUPPORT, crate::container::LAYERS_SUPPORT];
    containers.chain(rest.into_iter().flatten()).copied().collect()
}

/// The table in Markdown.
pub fn table() -> String {
    let mut text = String::from(
        "| container | read | write (`convert --to`) | tested on real files | synthetic |\n\
         |---|---|---|---|---|\n",
    );
    for row in support() {
        let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let cells = [row.container, row.read, row.write, row.real, row.synthetic].map(cell);
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/formats.md is made from the containers' own rows. To write it anew:
    /// `KMORTEM_UPDATE_DOCS=1 cargo test -p kmortem-vmcore the_page_has_the_table`.
    #[test]
    fn the_page_has_the_table() {
        const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- end of table -->\n"];
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
        let there = std::fs::read_to_string(path).unwrap();
        let (intro, rest) = there.split_once(MARKS[0]).unwrap();
        let (_, end) = rest.split_once(MARKS[1]).unwrap();
        let fresh = format!("{intro}{}{}{}{end}", MARKS[0], table(), MARKS[1]);
        if std::env::var_os("KMORTEM_UPDATE_DOCS").is_some() {
            std::fs::write(path, fresh).unwrap();
        } else {
            assert!(there == fresh, "stale: see the comment of this test");
        }
    }

    #[test]
    fn every_row_is_tested_somehow() {
        for row in support() {
            assert!(!row.container.is_empty() && !row.read.is_empty());
            assert!(!row.real.is_empty() || !row.synthetic.is_empty(), "{}", row.container);
            let text = [row.container, row.read, row.write, row.real, row.synthetic].concat();
            assert!(!text.contains('|') && !text.contains('\n'));
        }
    }

    /// The dumps that rows name are made by the lab.
    #[test]
    fn dumps_that_are_named_are_in_the_matrix() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lab/dumps.toml");
        let matrix = std::fs::read_to_string(path).unwrap();
        for row in support() {
            for name in row.real.split(['`']).skip(1).step_by(2).filter(|name| name.contains('.')) {
                let (boot, format) = name.split_once('.').unwrap();
                assert!(matrix.contains(boot) || boot.ends_with("-sysrq"), "{name}");
                assert!(matrix.contains(&format!("\"{format}\"")), "{name}");
            }
        }
    }
}

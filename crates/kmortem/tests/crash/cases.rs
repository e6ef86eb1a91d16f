//! What is asked: the lines of `cases/*.txt`, one command each.
//!
//! `{name}` stands for something of the dump that has another address in each:
//! see [`Variables`]. `#` begins a comment. A case of a dump that lacks what it
//! names is left out there.

use std::collections::BTreeMap;
use std::path::Path;

/// All cases, in the order of files and lines.
pub(crate) fn all() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/cases");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases: Vec<String> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines {
            assert!(!cases.iter().any(|case| case == line), "{line} stands there twice");
            cases.push(line.to_owned());
        }
    }
    cases
}

/// Asked first: the answers fill the variables; the last has all symbols.
pub(crate) const QUESTIONS: [&str; 11] = [
    "ps",
    "vm 1",
    "files 1",
    "mount",
    "mod",
    "kmem -s",
    "kmem -p",
    "ps -s 1",
    "sym runqueues",
    "rd free_vmap_area_root",
    "sym -l",
];

/// What `{name}` in a case stands for, as crash shows it.
pub(crate) struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    /// From crash's answers to [`QUESTIONS`].
    pub(crate) fn of(answers: &[Option<String>]) -> Variables {
        let answer = |i: usize| answers.get(i).and_then(Option::as_deref).unwrap_or("");
        let (ps, vm, files) = (answer(0), answer(1), answer(2));
        let (mount, modules, caches) = (answer(3), answer(4), answer(5));
        let (pages, stacks) = (answer(6), answer(7));
        let has_memory = |row: &[&str]| row[0] != "1" && row.len() == 9 && row[7] != "0";
        // Of a file: the last bit of an anonymous page's is a mark.
        let is_cached = |row: &[&str]| {
            row.len() > 6 && row[6].contains("uptodate") && row[2].ends_with(['0', '8'])
        };
        let is_file = |row: &[&str]| row.len() > 5 && row[4] == "REG" || row.get(4) == Some(&"CHR");
        let found = [
            // The task_struct of PID 1, of kthreadd.
            ("init", row(ps, "PID", |row| row[0] == "1", 3)),
            ("kthreadd", row(ps, "PID", |row| row[0] == "2", 3)),
            // Another process.
            ("user", row(ps, "PID", has_memory, 0)),
            ("comm", row(ps, "PID", has_memory, 8)),
            // PID 1's stack.
            ("stack", row(stacks, "PID", |row| row[0] == "1", 3)),
            // PID 1's memory: mm_struct, page tables, first area.
            ("mm", row(vm, "MM", |_| true, 0)),
            ("pgd", row(vm, "MM", |_| true, 1)),
            ("vma", row(vm, "VMA", |_| true, 0)),
            ("start", row(vm, "VMA", |_| true, 1)),
            // An open file of PID 1.
            ("file", row(files, "FD", is_file, 1)),
            ("dentry", row(files, "FD", is_file, 2)),
            ("inode", row(files, "FD", is_file, 3)),
            ("path", row(files, "FD", is_file, 5)),
            // A page that is in use.
            ("page", row(pages, "PAGE", |row| row.len() > 5 && row[4] == "1", 0)),
            // The address_space of one in the page cache.
            ("mapping", row(pages, "PAGE", is_cached, 2)),
            // The offset of a per-CPU variable.
            ("runqueues", answer(8).split(' ').next().map(str::to_owned)),
            // The node at the root of a red-black tree.
            ("rbnode", answer(9).split_whitespace().nth(1).map(str::to_owned)),
            ("mount", row(mount, "MOUNT", |_| true, 0)),
            ("superblock", row(mount, "MOUNT", |_| true, 1)),
            ("module", row(modules, "MODULE", |_| true, 0)),
            ("modname", row(modules, "MODULE", |_| true, 1)),
            ("modbase", row(modules, "MODULE", |_| true, 2)),
            ("cache", row(caches, "CACHE", |row| row.last() == Some(&"task_struct"), 0)),
        ];
        Variables(found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    /// The case with its variables filled in, if the dump has them.
    pub(crate) fn fill(&self, case: &str) -> Option<String> {
        let mut filled = String::new();
        let mut rest = case;
        while let Some((before, from)) = rest.split_once('{') {
            let (name, behind) = from.split_once('}')?;
            filled.push_str(before);
            match self.0.get(name) {
                Some(value) => filled.push_str(value),
                // Braces of the case itself, as in a format.
                None if name.contains(' ') || name.is_empty() => {
                    filled.push_str(&format!("{{{name}}}"));
                }
                None => return None,
            }
            rest = behind;
        }
        Some(filled + rest)
    }
}

/// The word in `column` of the first row below the heading that begins with
/// `heading` for which `wanted` holds.
fn row(
    answer: &str,
    heading: &str,
    wanted: impl Fn(&[&str]) -> bool,
    column: usize,
) -> Option<String> {
    let mut lines = answer.lines();
    lines.find(|line| line.split_whitespace().next() == Some(heading))?;
    lines.find_map(|line| {
        // The mark of a running task is glued to nothing.
        let words: Vec<&str> = line.trim_start_matches('>').split_whitespace().collect();
        let fits = !words.is_empty() && wanted(&words);
        fits.then(|| words.get(column).map(|word| (*word).to_owned())).flatten()
    })
}

#[test]
fn variables_come_from_rows_under_their_heading() {
    let ps = "  PID PPID CPU TASK\n> 0 0 0 ffff1\n  1 0 1 ffff2\n  2 0 0 ffff3";
    let vm = "PID: 1\n  MM PGD\naa bb\n VMA START\ncc dd\nee ff";
    let variables = Variables::of(&[Some(ps.to_owned()), Some(vm.to_owned()), None]);
    assert_eq!(
        variables.fill("struct task_struct {init} {vma}").unwrap(),
        "struct task_struct ffff2 cc"
    );
    assert_eq!(variables.fill("vtop {start}").unwrap(), "vtop dd");
    assert_eq!(variables.fill("mount {inode}"), None);
}

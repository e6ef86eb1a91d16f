//! Memory.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["kmem -i"],
        explain: |hunk| hunk.take_pairs(per_cpu_parts),
        documented: "FREE, CACHED, SLAB and COMMITTED without (some of) the parts that each CPU keeps",
    },
    Accepted {
        commands: &["kmem -n"],
        explain: |hunk| {
            hunk.take_pairs(|crash, kmortem| crash.replace(" UNKNOWN ", " ONLINE  ") == kmortem);
        },
        documented: "`kmem -n`: memory blocks are UNKNOWN on 6.12",
    },
];

/// `   SLAB   2577   10.1 MB   4% of TOTAL MEM`. A CPU keeps back up to 125
/// pages of a counter of a zone or node (kernel/mm/vmstat.c), and of
/// the committed memory up to a part that grows with the machine's.
fn per_cpu_parts(crash: &str, kmortem: &str) -> bool {
    let line = |text: &str| -> Option<(String, i64)> {
        let (name, rest) = text.trim_start().split_once("  ")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    let (Some((name, theirs)), Some((our_name, ours))) = (line(crash), line(kmortem)) else {
        return false;
    };
    name == our_name
        && match name.as_str() {
            "FREE" | "USED" | "CACHED" | "SLAB" => (theirs - ours).abs() <= 250,
            "COMMITTED" => ours > theirs,
            _ => false,
        }
}

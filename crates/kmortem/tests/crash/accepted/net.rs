//! Programs that the kernel runs for others.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[Accepted {
    commands: &["bpf -p*", "bpf -P*"],
    explain: |hunk| hunk.take_pairs(load_time),
    documented: "LOAD_TIME counts from the boot of the machine that crash runs on",
}];

/// `     LOAD_TIME: Mon Nov 23 12:53:26 2026`, with whatever date.
fn load_time(crash: &str, kmortem: &str) -> bool {
    let date = |line: &str| -> Option<usize> {
        let words: Vec<&str> = line.strip_prefix("     LOAD_TIME: ")?.split_whitespace().collect();
        let [_, _, _, time, year] = words[..] else { return None };
        (time.split(':').count() == 3 && year.parse::<u16>().is_ok()).then_some(line.len())
    };
    date(crash).is_some() && date(crash) == date(kmortem)
}

//! Times that crash rounds, or counts wrongly.

use super::{Accepted, words_differ};

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["ps -t*"],
        explain: |hunk| {
            let ahead = hunk.about.ahead_s;
            hunk.take_pairs(|crash, kmortem| run_time(crash, kmortem, ahead));
        },
        documented: "`ps -t`: RUN TIME from whole seconds",
    },
    Accepted {
        commands: &["sys"],
        explain: |hunk| {
            let ahead = hunk.about.ahead_s;
            hunk.take_pairs(|crash, kmortem| uptime(crash, kmortem, ahead));
        },
        documented: "UPTIME counts jiffies, for 1000 a second",
    },
    Accepted {
        commands: &["log -T"],
        explain: |hunk| {
            let ahead = hunk.about.ahead_s;
            hunk.take_pairs(|crash, kmortem| log_time(crash, kmortem, ahead));
        },
        documented: "`log -T` counts from a boot time in whole seconds",
    },
];

/// `01:02:03`
fn seconds(clock: &str) -> Option<i64> {
    let parts: Vec<i64> = clock.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [h, m, s] => Some((h * 60 + m) * 60 + s),
        _ => None,
    }
}

/// Whether crash's time is ahead of kmortem's by what its count of ticks is, a
/// second more or less for rounding.
fn ahead_by(crash: &str, kmortem: &str, ahead: [i64; 2]) -> bool {
    let (Some(theirs), Some(ours)) = (seconds(crash), seconds(kmortem)) else { return false };
    // log -T: a day may lie between the two.
    let day = |s: i64| (s + 43_200).rem_euclid(86_400) - 43_200;
    ahead.iter().any(|ahead| day(theirs - ours - ahead).abs() <= 1)
}

fn run_time(crash: &str, kmortem: &str, ahead: [i64; 2]) -> bool {
    crash.starts_with("    RUN TIME: ")
        && words_differ(crash, kmortem, |i, theirs, ours| i == 2 && ahead_by(theirs, ours, ahead))
}

fn uptime(crash: &str, kmortem: &str, ahead: [i64; 2]) -> bool {
    crash.starts_with("      UPTIME: ")
        && words_differ(crash, kmortem, |i, theirs, ours| i == 1 && ahead_by(theirs, ours, ahead))
}

/// `[Mon Nov 23 13:53:33 UTC 2026] text`. Where the uptime is too long, the
/// boot is too early.
fn log_time(crash: &str, kmortem: &str, ahead: [i64; 2]) -> bool {
    crash.starts_with('[')
        && words_differ(crash, kmortem, |i, theirs, ours| i == 3 && ahead_by(ours, theirs, ahead))
}

//! A short name for a bug: the same on every boot and every machine.
//!
//! Two dumps with one signature died of one thing, as far as a stack can tell.
//! It is made of the kind, the functions that identify it (noise dropped,
//! compiler suffixes cut, modules named) and the subject (a lock, a cache).
//! Addresses, offsets, PIDs, CPUs and times are never in it. `hash` is FNV-1a
//! over the whole: short enough to say over the phone.

use serde::Serialize;

use crate::finding::Finding;
use crate::noise;

/// Functions that take part: more would split one bug by its callers' callers.
const LONGEST_CHAIN: usize = 5;

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// Version of the way it is made. Hashes of different versions do not compare.
    pub version: u32,
    /// Ten hexadecimal digits.
    pub hash: String,
    /// For people: "null-deref crasher:crasher_null_deref < crasher:crasher_update_refs".
    pub title: String,
    /// What the hash is over.
    pub parts: Vec<String>,
}

impl Signature {
    /// The signature of a finding.
    pub fn of(finding: &Finding) -> Signature {
        let chain = chain(&finding.functions);
        let mut parts = vec![finding.kind.word().to_owned()];
        parts.extend(finding.subject.as_deref().map(normal));
        parts.extend(chain.iter().cloned());
        let most = if finding.subject.is_some() { 1 } else { 2 };
        let shown: Vec<&str> = chain.iter().take(most).map(String::as_str).collect();
        let mut title = finding.kind.word().to_owned();
        if let Some(subject) = &finding.subject {
            title = format!("{title} {}", normal(subject));
        }
        if !shown.is_empty() {
            title = format!("{title} {}", shown.join(" < "));
        }
        Signature { version: 1, hash: hash(&parts), title, parts }
    }
}

/// The functions that tell: without noise, and without paths that unrelated
/// bugs share unless nothing else is left.
fn chain(functions: &[String]) -> Vec<String> {
    let name = |f: &String| f.rsplit(':').next().unwrap_or(f).to_owned();
    let own: Vec<String> =
        functions.iter().filter(|f| !noise::is_noise(&name(f))).cloned().collect();
    let telling: Vec<String> =
        own.iter().filter(|f| !noise::is_common_path(&name(f))).cloned().collect();
    let mut chosen = if telling.is_empty() { own } else { telling };
    chosen.dedup();
    chosen.truncate(LONGEST_CHAIN);
    chosen
}

/// Digits vary between boots (eth0, kworker/1:2): runs of them become `N`.
fn normal(subject: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for c in subject.chars() {
        if c.is_ascii_digit() {
            if !in_number {
                out.push('N');
            }
            in_number = true;
        } else {
            in_number = false;
            out.push(c);
        }
    }
    out
}

fn hash(parts: &[String]) -> String {
    let mut value: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        value = (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{:010x}", value >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Kind, Level};

    fn finding(functions: &[&str], subject: Option<&str>) -> Finding {
        let mut finding = Finding::new(Kind::HungTask, "", Level::Certain, "");
        finding.functions = functions.iter().map(|f| (*f).to_owned()).collect();
        finding.subject = subject.map(str::to_owned);
        finding
    }

    #[test]
    fn it_is_pinned_across_releases() {
        let signature = Signature::of(&finding(&["m:a", "m:b"], Some("mutex m:lock")));
        assert_eq!(signature.title, "hung-task mutex m:lock m:a");
        assert_eq!(signature.hash, "93387280ea");
    }

    #[test]
    fn noise_and_shared_paths_do_not_count() {
        let long = finding(
            &["panic", "m:f", "do_one_initcall", "__x64_sys_finit_module", "do_syscall_64"],
            None,
        );
        assert_eq!(Signature::of(&long).hash, Signature::of(&finding(&["m:f"], None)).hash);
        let only_shared = Signature::of(&finding(&["do_init_module", "do_syscall_64"], None));
        assert_eq!(only_shared.parts, ["hung-task", "do_init_module"]);
    }

    #[test]
    fn numbers_of_devices_and_workers_do_not_split_a_bug() {
        let a = Signature::of(&finding(&["f"], Some("disk vda1 of kworker/0:1")));
        let b = Signature::of(&finding(&["f"], Some("disk vda2 of kworker/13:7")));
        assert_eq!(a, b);
    }

    #[test]
    fn a_recursion_counts_once() {
        let deep = Signature::of(&finding(&["m:f"; 200], None));
        assert_eq!(deep.parts, ["hung-task", "m:f"]);
    }
}

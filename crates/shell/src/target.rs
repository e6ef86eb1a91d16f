//! Which tasks a word on the command line means.

use kmortem_kernel::task::{Task, TaskTable};

use crate::error::CommandError;

/// Tasks that `word` names: a PID (0: the idle task of every CPU), or the
/// address of a `task_struct`, in hexadecimal with or without `0x`. As crash
/// does, a number that is no PID in decimal is tried as a hexadecimal one.
pub(crate) fn find<'k>(
    command: &'static str,
    tasks: &'k TaskTable,
    word: &str,
) -> Result<Vec<&'k Task>, CommandError> {
    let by_pid = |pid: i32| tasks.list.iter().filter(|t| t.pid == pid).collect::<Vec<_>>();
    let decimal = word.parse::<i32>().map(by_pid).unwrap_or_default();
    if !decimal.is_empty() {
        return Ok(decimal);
    }
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    if let Ok(number) = u64::from_str_radix(hex, 16) {
        if let Some(task) = tasks.at(number) {
            return Ok(vec![task]);
        }
        let pids = i32::try_from(number).map(by_pid).unwrap_or_default();
        if !pids.is_empty() {
            return Ok(pids);
        }
    }
    let what = format!("{word} is neither a PID nor the address of a task; `ps` lists both");
    Err(CommandError::Failed { command, what })
}

/// Whether `word` can only be meant as a PID or an address.
pub(crate) fn is_number(word: &str) -> bool {
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let digits = hex.unwrap_or(word);
    let is_hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_hex && (hex.is_some() || digits.len() == 16 || digits.chars().all(|c| c.is_ascii_digit()))
}

/// Numbers of CPUs in crash's form: `1,3-5`, `all` or `a`.
pub(crate) fn cpus(
    command: &'static str,
    word: &str,
    possible: &[u32],
) -> Result<Vec<u32>, CommandError> {
    if matches!(word, "a" | "all") {
        return Ok(possible.to_vec());
    }
    let bad = |part: &str| CommandError::Usage {
        command,
        what: format!("`{part}` is no CPU of this machine (it has {})", ranges(possible)),
    };
    let mut chosen = Vec::new();
    for part in word.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) else {
            return Err(bad(part));
        };
        let before = chosen.len();
        chosen.extend(possible.iter().filter(|cpu| (from..=to).contains(cpu)));
        if chosen.len() == before {
            return Err(bad(part));
        }
    }
    Ok(chosen)
}

/// `0-3,5` for a list of CPUs.
pub(crate) fn ranges(cpus: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(*first..).take_while(|(cpu, next)| **cpu == *next).count();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&match run {
            1 => first.to_string(),
            _ => format!("{first}-{}", rest[run - 1]),
        });
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_names() {
        for word in ["0", "1234", "0xff", "ffff888005c44180"] {
            assert!(is_number(word), "{word}");
        }
        // "cafe" and "bad" may be names of programs.
        for word in ["cafe", "bad", "", "0x", "kworker/0:1"] {
            assert!(!is_number(word), "{word}");
        }
    }

    #[test]
    fn cpu_lists_are_checked_against_the_machine() {
        let possible = [0, 1, 2, 3, 8];
        assert_eq!(cpus("bt", "0,2-3", &possible).unwrap(), [0, 2, 3]);
        assert_eq!(cpus("bt", "all", &possible).unwrap(), possible);
        let error = cpus("bt", "5", &possible).unwrap_err().to_string();
        assert!(error.contains("it has 0-3,8"), "{error}");
        assert!(cpus("bt", "x", &possible).is_err());
    }
}

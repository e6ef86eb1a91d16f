//! Shared by the tests that stand on the lab's dumps.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use kmortem_lab::{Lab, LabDump};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// Runs `check` on every standard dump of the lab and on those `also` named, and
/// fails with the names of all dumps that did not pass and why.
/// `KMORTEM_DUMPS=k61-live,k7x-sysrq` runs it on those dumps only.
pub(crate) fn for_each_dump(also: &[&str], check: impl Fn(&LabDump) -> Result<(), String> + Sync) {
    let lab = Lab::open().unwrap();
    let names = match std::env::var("KMORTEM_DUMPS") {
        Ok(names) => names.split(',').map(str::to_owned).collect(),
        Err(_) => {
            [lab.standard_dumps(), also.iter().map(|&name| name.to_owned()).collect()].concat()
        }
    };
    assert!(!names.is_empty(), "the lab has no dumps");
    let failed = Mutex::new(Vec::new());
    names.clone().into_par_iter().for_each(|name| {
        let result = lab.dump(&name).map_err(|e| e.to_string()).and_then(|dump| check(&dump));
        if let Err(why) = result {
            failed.lock().unwrap().push(format!("{name}:\n    {why}"));
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    assert!(failed.is_empty(), "{} of {} dumps:\n{}", failed.len(), names.len(), failed.join("\n"));
}

//! Every dump of the lab, held against drgn on the same dump.
//!
//! drgn reads the distribution's debug vmlinux; kmortem reads nothing but the
//! dump. What the kernel crate finds ([`kernel`]), the rows of the commands
//! ([`rows`]) and their text ([`percent_crash`]) must agree. Where drgn is wrong the page on its differences says
//! so; its scripts (lab/peers/answers) go round that.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kmortem_kernel::Kernel;
use serde_json::Value;

#[path = "../common/mod.rs"]
mod common;
mod kernel;
#[path = "../lab/mod.rs"]
mod lab;
mod percent_crash;
mod rows;

/// Guests that hold something of everything.
const BUSY: [&str; 4] = ["k510-busy", "k61-busy", "k612-busy", "k7x-busy"];

#[test]
fn drgn_agrees_on_every_dump() {
    lab::for_each_dump(&BUSY, |dump| {
        // Other containers of the same memory are compared with it in
        // `formats`; without VMCOREINFO drgn opens nothing.
        if dump.name.contains('.') || !dump.boot.vmcoreinfo {
            return Ok(());
        }
        let answers = kmortem_lab::answers(dump).map_err(|e| e.to_string())?;
        let text = std::fs::read_to_string(&answers).map_err(|e| e.to_string())?;
        let drgn: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let kernel = Kernel::open_files(&dump.files).map_err(|e| e.to_string())?;
        let mut wrong = kernel::compare(&kernel, &drgn);
        wrong.extend(rows::compare(dump, &drgn["rows"]));
        wrong.extend(percent_crash::compare(dump, &drgn["percent_crash"]));
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("\n    ")),
        }
    });
}

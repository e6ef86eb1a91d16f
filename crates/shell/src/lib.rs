//! crash(8)'s commands over the kernel model.
//!
//! A [`Session`] holds an opened kernel and the task that commands speak of
//! when none is named. [`Session::run`] takes one command line: `alias` and
//! `line` take it apart, [`registry`] finds the command, [`args`] reads its
//! options, and the command in `commands/` asks the kernel model and renders
//! the answer through [`Output`], as text in crash's shape or as JSON.
//!
//! One file per command in `commands/`; its options, help and examples are
//! data in that file, and [`registry`] is the only list of them. Rendering
//! never reads memory: render functions take values and a writer.
#![forbid(unsafe_code)]

mod address;
mod alias;
mod align;
pub mod args;
mod arithmetic;
mod commands;
pub mod complete;
pub mod date;
pub mod error;
mod fallback;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod line;
mod memory;
pub mod output;
mod pattern;
mod printf;
pub mod progress;
pub mod rc;
pub mod registry;
mod run;
pub mod script;
pub mod session;
pub mod settings;
mod target;
#[allow(dead_code, unused_imports)]
mod value;

pub use commands::help::page as help;
pub use error::{CommandError, Outcome};
pub use output::Output;
pub use session::Session;

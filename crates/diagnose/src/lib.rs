//! What killed the machine, how sure that is, and what to do.
//!
//! [`report`] asks the dead kernel, lets the detectors ([`detectors`], one per
//! way to die) judge, and gives a [`Report`]: plain values, serialisable, with
//! a documented schema. [`render_text`] and [`render_markdown`] show it. A
//! report never fails: what can't be had says why.
//!
//! Witnesses are asked in this order: registers and objects, then stacks, then
//! the log. Where they disagree the report says so.
#![forbid(unsafe_code)]

mod address;
mod case;
mod context;
pub mod detectors;
mod exception;
mod fault;
pub mod finding;
mod lockup;
mod member;
mod noise;
pub mod oops;
mod origin;
mod render;
mod report;
mod rest;
pub mod signature;
mod stale;
mod storage;
#[cfg(test)]
mod testing;
mod text;
mod tmpfs;
pub mod view;

pub use case::{Case, Crashed, TaskStack};
pub use render::markdown::render_markdown;
pub use render::text::{TextOptions, render_text};
pub use report::{CrashedFacts, DumpFacts, MachineFacts, Report, SCHEMA, WhenFacts, report};
pub use rest::{Missing, Rest};

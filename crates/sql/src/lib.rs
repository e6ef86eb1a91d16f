//! Questions to a dead kernel in SQL.
//!
//! The layers, from the ground: [`schema`] says what a table is, [`tables`]
//! declares them all, [`engine`] fills what a statement reads and runs it,
//! [`render`] shows rows, [`session`] takes lines (statements and the commands
//! of [`dot`]).
#![forbid(unsafe_code)]

mod cell;
mod dot;
mod engine;
mod error;
mod remarks;
mod render;
mod schema;
mod session;
mod tables;

pub use dot::is_command;
pub use engine::Engine;
pub use error::SqlError;
pub use render::Format;
pub use session::Session;

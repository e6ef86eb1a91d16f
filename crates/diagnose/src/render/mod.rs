//! A report as text and as Markdown. Rendering reads values only: no dump.

mod line;
pub(crate) mod markdown;
mod phrases;
mod section;
pub(crate) mod text;

#[cfg(test)]
mod sample;

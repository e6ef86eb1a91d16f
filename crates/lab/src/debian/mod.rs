//! As much of a Debian archive as the lab needs: signed indices, versions, packages.

pub(crate) mod archive;
pub(crate) mod control;
pub(crate) mod indices;
pub(crate) mod version;

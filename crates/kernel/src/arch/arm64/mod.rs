//! arm64 (aarch64).

pub mod paging;

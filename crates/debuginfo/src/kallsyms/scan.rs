//! placeholder
use super::{Kallsyms, KallsymsError, Tables};
use crate::memory::Memory;
use std::ops::Range;
pub(super) fn scan(
    _memory: &dyn Memory,
    range: Range<u64>,
    _anchors: &[(&str, u64)],
) -> Result<(Tables, Kallsyms), KallsymsError> {
    Err(KallsymsError::NotFound { range, reason: "x" })
}

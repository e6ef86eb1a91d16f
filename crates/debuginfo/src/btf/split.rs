//! placeholder
use super::{Btf, BtfError};
use std::sync::Arc;
pub(super) fn parse(data: Vec<u8>, _distilled: Vec<u8>, base: &Arc<Btf>) -> Result<Btf, BtfError> {
    Btf::parse_split(data, base)
}

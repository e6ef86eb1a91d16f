//! What hypervisors' snapshots have in common: a file of state and one of memory.

use super::{Input, head_of};
use crate::error::OpenError;

/// The input that is the state, by its first bytes, and the other one.
pub(super) fn state_and_memory(
    inputs: Vec<Input>,
    is_state: fn(&[u8]) -> bool,
    whose: &str,
) -> Result<(Input, Option<Input>), OpenError> {
    let (states, memories): (Vec<Input>, Vec<Input>) =
        inputs.into_iter().partition(|input| is_state(&head_of(input)));
    let (mut states, mut memories) = (states.into_iter(), memories.into_iter());
    let (Some(state), memory) = (states.next(), memories.next()) else {
        return Err(OpenError::NoInput);
    };
    match states.next().or_else(|| memories.next()) {
        Some(Input { name, .. }) => {
            let what = format!("is one file too many: {whose} has one of state and one of memory");
            Err(OpenError::Split { name, what })
        }
        None => Ok((state, memory)),
    }
}

//! `search`.

use crate::registry::Command;

pub(crate) const COMMAND: Command = Command::later("search");

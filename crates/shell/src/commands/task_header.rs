//! The line above what a command says of a task. Scripts parse it: exactly
//! one blank behind each colon, then padding.

use std::io::{self, Write};

use kmortem_kernel::task::Task;

/// `PID: 1        TASK: ffff...  CPU: 0    COMMAND: "init"`
pub(super) fn render(out: &mut dyn Write, task: &Task) -> io::Result<()> {
    writeln!(
        out,
        "PID: {:<7}  TASK: {:016x}  CPU: {:<3}  COMMAND: \"{}\"",
        task.pid, task.addr, task.cpu, task.comm
    )
}

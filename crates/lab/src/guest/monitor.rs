//! QEMU's machine protocol (QMP) over its standard input and output.
//!
//! Source: https://www.qemu.org/docs/master/interop/qmp-spec.html: one JSON
//! object per line; a greeting, then for each command a `return` or an `error`,
//! with events in between.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// A connection to QEMU. Errors are texts: the guest's name is added above.
#[derive(Debug)]
pub(crate) struct Monitor {
    stdin: ChildStdin,
    replies: Receiver<Value>,
}

impl Monitor {
    /// Waits for the greeting and ends the negotiation of capabilities.
    pub(crate) fn open(stdin: ChildStdin, stdout: ChildStdout) -> Result<Monitor, String> {
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                let Ok(value) = serde_json::from_str(&line) else { continue };
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let mut monitor = Monitor { stdin, replies };
        monitor.execute("qmp_capabilities", json!({}), Duration::from_secs(60))?;
        Ok(monitor)
    }

    /// Runs a command and returns what it returns.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, String> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        writeln!(self.stdin, "{line}").map_err(|error| format!("QEMU is gone: {error}"))?;
        loop {
            let reply = self.replies.recv_timeout(limit);
            let mut reply = reply.map_err(|_| format!("QEMU did not answer {command}"))?;
            if let Some(error) = reply.get("error") {
                return Err(format!("QEMU refused {command}: {error}"));
            }
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}

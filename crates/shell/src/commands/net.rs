//! `net`: network interfaces, and sockets of tasks.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use kmortem_kernel::net::{NetInterface, Socket, TaskSockets};
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::{chosen, failed, task_header};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "net",
    summary: "lists network interfaces, or the sockets of a task",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::flag('s', "the open sockets of the task"),
        Opt::flag('n', "the interfaces that the task sees"),
        Opt::later('S'),
        Opt::later('a'),
        Opt::later('N'),
        Opt::later('R'),
        Opt::later('x'),
        Opt::later('d'),
    ],
    details: "\
Without options: the interfaces of the first network namespace. JSON has those
of all namespaces, with state, queues and drops.",
    examples: &[
        ("", "interfaces and their addresses"),
        ("-s 1", "the sockets of PID 1"),
        ("-n 1", "the interfaces in the namespace of PID 1"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "an interface, of any namespace",
            members: "`addr` `namespace` `name` `index` `flags` `carrier` `operational` `mtu` `mac` `addresses` `driver` `qdisc` `tx_queues` `dropped` `namespace_inode` `operations` `virtqueues`",
        },
        Rows {
            options: "-s",
            row: "a task",
            members: "as `set`, `unreadable`, and `sockets`: `list` (`fd` `socket` `sock` `family` `kind` `protocol` `state` `local` `remote` `receive_bytes` `send_bytes` ...)",
        },
    ],
    each: Some(show),
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    if !args.has('s') && !args.has('n') {
        if let Some(word) = args.words.first() {
            let what = format!("`{word}` needs -s (sockets) or -n (interfaces)");
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
        return interfaces(session, None, out);
    }
    let chosen = chosen(COMMAND.name, session, args, out)?;
    show(session, &chosen, args, out)
}

/// Shows what the options want of `chosen`.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if !args.has('s') {
        return chosen.iter().try_for_each(|task| interfaces(session, Some(task), out));
    }
    let mut first = true;
    for task in chosen {
        let sockets = session.kernel().sockets(task);
        if let (Err(error), [_]) = (&sockets, chosen) {
            return Err(failed(COMMAND.name)(error.clone()));
        }
        let (sockets, unreadable) = match sockets {
            Ok(sockets) => (Some(sockets), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if out.is_json() {
            out.row(&SocketsRow { task, sockets, unreadable })?;
            continue;
        }
        if !std::mem::take(&mut first) {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        match &sockets {
            Some(sockets) => {
                render_sockets(out, &sockets.list)?;
                super::note_gaps(out, sockets.list.iter().map(|s| &s.gaps).chain([&sockets.gaps]))?;
            }
            None => writeln!(out, "<unreadable: {}>", unreadable.unwrap_or_default())?,
        }
    }
    Ok(())
}

/// A row of JSON of `net -s`.
#[derive(Serialize)]
struct SocketsRow<'a> {
    #[serde(flatten)]
    task: &'a Task,
    sockets: Option<TaskSockets>,
    unreadable: Option<String>,
}

fn interfaces(
    session: &Session,
    task: Option<&Task>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let interfaces = kernel.interfaces().map_err(failed(COMMAND.name))?;
    let namespace = match task {
        Some(task) => Some(kernel.net_namespace(task).map_err(failed(COMMAND.name))?),
        // The first namespace's come first.
        None => interfaces.list.first().map(|i| i.namespace),
    };
    let all = out.is_json() && task.is_none();
    let wanted = |i: &&NetInterface| all || Some(i.namespace) == namespace;
    let list: Vec<&NetInterface> = interfaces.list.iter().filter(wanted).collect();
    if out.is_json() {
        out.rows(list.iter().copied())?;
    } else {
        if let Some(task) = task {
            task_header::render(out, task)?;
        }
        render_interfaces(out, &list)?;
    }
    super::note_gaps(out, list.iter().map(|i| &i.gaps).chain([&interfaces.gaps]))
}

fn render_interfaces(out: &mut dyn Write, interfaces: &[&NetInterface]) -> io::Result<()> {
    writeln!(out, "   NET_DEVICE     NAME       IP ADDRESS(ES)")?;
    for interface in interfaces {
        let name = interface.name.as_deref().unwrap_or("-");
        let addresses: Vec<String> = interface.addresses.iter().map(|a| a.ip.to_string()).collect();
        writeln!(out, "{:016x}  {name:<10} {}", interface.addr, addresses.join(", "))?;
    }
    Ok(())
}

fn render_sockets(out: &mut dyn Write, sockets: &[Socket]) -> io::Result<()> {
    if sockets.is_empty() {
        return writeln!(out, "No open sockets.");
    }
    writeln!(out, "FD      SOCKET            SOCK       FAMILY:TYPE SOURCE-PORT DESTINATION-PORT")?;
    for socket in sockets {
        let at = |at: Option<u64>| at.map_or(format!("{:<16}", "-"), |at| format!("{at:016x}"));
        let kind = format!(
            "{}:{}",
            socket.family.as_deref().unwrap_or("-"),
            socket.kind.as_deref().unwrap_or("-")
        );
        write!(out, "{:>2} {} {} {kind:<12}", socket.fd, at(socket.socket), at(socket.sock))?;
        let ends = [socket.local, socket.remote];
        let ends: String =
            ends.into_iter().flatten().map(|addr| format!(" {}", end(addr))).collect();
        writeln!(out, "{ends}")?;
    }
    Ok(())
}

/// `127.0.0.1-80`; IPv6 addresses with all their groups, as crash has them.
fn end(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|group| format!("{group:x}")).join(":"),
    };
    format!("{ip}-{}", addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    fn socket(family: &str, kind: &str, ends: Option<(&str, &str)>) -> Socket {
        Socket {
            fd: 3,
            file: 0,
            socket: Some(0xffff_88d0_0143_2700),
            sock: ends.map(|_| 0xffff_88d0_029e_0000),
            family: Some(family.to_owned()),
            kind: Some(kind.to_owned()),
            protocol: None,
            protocol_number: None,
            state: None,
            local: ends.map(|(local, _)| local.parse().unwrap()),
            remote: ends.map(|(_, remote)| remote.parse().unwrap()),
            unix_path: None,
            receive_packets: None,
            receive_bytes: None,
            receive_limit: None,
            send_bytes: None,
            send_limit: None,
            accept_queue: None,
            accept_limit: None,
            error: None,
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn sockets_show_both_ends() {
        let sockets = [
            socket("INET", "STREAM", Some(("127.0.0.1:44274", "127.0.0.1:80"))),
            socket("INET6", "STREAM", Some(("[::ffff:127.0.0.1]:80", "[::]:0"))),
            socket("UNIX", "STREAM", None),
        ];
        let mut text = Vec::new();
        render_sockets(&mut text, &sockets).unwrap();
        render_sockets(&mut text, &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

//! `net -s`, `net -S`, `net -l`: sockets of tasks, and of all tasks with their
//! owners.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use kmortem_kernel::net::{OwnedSocket, Socket, TaskSockets};
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::net::COMMAND;
use super::{failed, task_header};
use crate::address;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::value::{Reader, Shown, Style};

/// A row of JSON of `net -s`.
#[derive(Serialize)]
struct SocketsRow<'a> {
    #[serde(flatten)]
    task: &'a Task,
    sockets: Option<TaskSockets>,
    unreadable: Option<String>,
}

/// Shows the sockets of `chosen`: `-s` as a table, `-S` as structs.
pub(super) fn of_tasks(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut first = true;
    for task in chosen {
        let sockets = no_files(session.kernel().sockets(task));
        if let (Err(error), [_]) = (&sockets, chosen) {
            return Err(failed(COMMAND.name)(error.clone()));
        }
        let (mut sockets, unreadable) = match sockets {
            Ok(sockets) => (Some(sockets), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let (Some(sockets), Some(reference)) = (&mut sockets, args.value('R')) {
            sockets.list.retain(|socket| refers(socket, reference));
        }
        if args.has('R') && sockets.as_ref().is_none_or(|sockets| sockets.list.is_empty()) {
            continue;
        }
        if out.is_json() {
            out.row(&SocketsRow { task, sockets, unreadable })?;
            continue;
        }
        // With -R each task is followed by a blank line, else only parted by one.
        if !std::mem::take(&mut first) && !args.has('R') {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        match &sockets {
            Some(sockets) if args.has('S') && !sockets.list.is_empty() => {
                structs(session, &sockets.list, args, out)?;
            }
            Some(sockets) => {
                render_sockets(out, &sockets.list)?;
                super::note_gaps(out, sockets.list.iter().map(|s| &s.gaps).chain([&sockets.gaps]))?;
            }
            None => writeln!(out, "<unreadable: {}>", unreadable.unwrap_or_default())?,
        }
        if args.has('R') && !args.has('S') {
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A task that has exited has no files, and so no sockets.
fn no_files(sockets: kmortem_kernel::Result<TaskSockets>) -> kmortem_kernel::Result<TaskSockets> {
    match sockets {
        Err(kmortem_kernel::Error::Null(_)) => {
            Ok(TaskSockets { list: Vec::new(), gaps: Default::default() })
        }
        sockets => sockets,
    }
}

/// Whether `reference` is the socket's descriptor or one of its addresses.
fn refers(socket: &Socket, reference: &str) -> bool {
    let addr = address::hex(reference);
    reference.parse() == Ok(socket.fd)
        || addr.is_some_and(|addr| {
            [socket.socket, socket.sock, Some(socket.file)].contains(&Some(addr))
        })
}

/// The `struct socket` and the protocol's struct of each.
fn structs(
    session: &Session,
    sockets: &[Socket],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let style = Style::of(session.settings(), args);
    for socket in sockets {
        let at = |at: Option<u64>| at.map_or(format!("{:<16}", "-"), |at| format!("{at:016x}"));
        writeln!(out, "FD       SOCKET             SOCK      ")?;
        writeln!(out, "{:>2}  {}  {}", socket.fd, at(socket.socket), at(socket.sock))?;
        writeln!(out)?;
        let kind = match socket.family.as_deref() {
            Some("INET" | "INET6") => "inet_sock",
            Some("UNIX") => "unix_sock",
            Some("NETLINK") => "netlink_sock",
            Some("PACKET") => "packet_sock",
            _ => "sock",
        };
        for (name, addr) in [("socket", socket.socket), (kind, socket.sock)] {
            let Some(addr) = addr else { continue };
            // A protocol's own struct may be in a module whose types are not there.
            let object = kernel.object_at(name, addr).or_else(|_| kernel.object_at("sock", addr));
            let object = object.map_err(failed(COMMAND.name))?;
            Shown::whole(&mut Reader::of(session, false), &object).render(out, style)?;
        }
        writeln!(out)?;
    }
    super::note_gaps(out, sockets.iter().map(|socket| &socket.gaps))
}

fn render_sockets(out: &mut dyn Write, sockets: &[Socket]) -> io::Result<()> {
    if sockets.is_empty() {
        return writeln!(out, "No open sockets.");
    }
    writeln!(out, "FD      SOCKET            SOCK       FAMILY:TYPE SOURCE-PORT DESTINATION-PORT")?;
    for socket in sockets {
        let at = |at: Option<u64>| at.map_or(format!("{:<16}", "-"), |at| format!("{at:016x}"));
        // crash gives the kinds that most sockets have a common width.
        let blank = if socket.kind.as_deref() == Some("DGRAM") { "  " } else { " " };
        let kind = format!("{}{blank}", kind(socket));
        write!(out, "{:>2} {} {} {kind}", socket.fd, at(socket.socket), at(socket.sock))?;
        if socket.family.as_deref() == Some("INET") {
            write!(out, " ")?;
        }
        let ends = [socket.local, socket.remote];
        let ends: Vec<String> = ends.into_iter().flatten().map(end).collect();
        writeln!(out, "{}", ends.join(" "))?;
    }
    Ok(())
}

/// `INET:STREAM`; of netlink sockets with the family, `NETLINK/ROUTE:RAW`.
fn kind(socket: &Socket) -> String {
    let family = socket.family.as_deref().unwrap_or("-");
    let part = match (family, socket.protocol_number) {
        ("NETLINK", Some(number)) => match NETLINK.iter().find(|known| known.0 == number) {
            Some((_, name)) => format!("/{name}"),
            None => format!("/{number}"),
        },
        _ => String::new(),
    };
    format!("{family}{part}:{}", socket.kind.as_deref().unwrap_or("-"))
}

/// `NETLINK_*` (include/uapi/linux/netlink.h).
const NETLINK: &[(u16, &str)] = &[
    (0, "ROUTE"),
    (2, "USERSOCK"),
    (3, "FIREWALL"),
    (4, "SOCK_DIAG"),
    (5, "NFLOG"),
    (6, "XFRM"),
    (7, "SELINUX"),
    (8, "ISCSI"),
    (9, "AUDIT"),
    (10, "FIB_LOOKUP"),
    (11, "CONNECTOR"),
    (12, "NETFILTER"),
    (13, "IP6_FW"),
    (14, "DNRTMSG"),
    (15, "KOBJECT_UEVENT"),
    (16, "GENERIC"),
    (18, "SCSITRANSPORT"),
    (19, "ECRYPTFS"),
    (20, "RDMA"),
    (21, "CRYPTO"),
    (22, "SMC"),
];

/// `127.0.0.1-80`; IPv6 addresses with all their groups, as crash has them.
fn end(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|group| format!("{group:x}")).join(":"),
    };
    format!("{ip}-{}", addr.port())
}

/// `net -l`: each socket of the machine once, with who has it open.
pub(super) fn all(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (sockets, gaps) = session.kernel().all_sockets().map_err(failed(COMMAND.name))?;
    match out.is_json() {
        true => out.rows(&sockets)?,
        false => render_all(out, &sockets)?,
    }
    super::note_gaps(out, sockets.iter().map(|owned| &owned.socket.gaps).chain([&gaps]))
}

fn render_all(out: &mut dyn Write, sockets: &[OwnedSocket]) -> io::Result<()> {
    writeln!(
        out,
        "      SOCK       FAMILY:TYPE      STATE         RECV-Q  SEND-Q LOCAL -> REMOTE  OWNERS"
    )?;
    for owned in sockets {
        let socket = &owned.socket;
        let sock = socket.sock.map_or("-".to_owned(), |sock| format!("{sock:016x}"));
        // Only TCP and what borrows its states tells more than "CLOSE".
        let state = socket.state.as_deref().unwrap_or("-");
        let accepting = state == "LISTEN";
        let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
        let (receive, send) = match accepting {
            true => (number(socket.accept_queue), number(socket.accept_limit)),
            false => (number(socket.receive_bytes), number(socket.send_bytes)),
        };
        let ends = match (socket.local, socket.remote, &socket.unix_path) {
            (Some(local), Some(remote), _) => format!("{} -> {}", end(local), end(remote)),
            (Some(local), None, _) => end(local),
            (_, _, Some(path)) => path.clone(),
            _ => "-".to_owned(),
        };
        let owners: Vec<String> = owned
            .owners
            .iter()
            .map(|owner| format!("{}({}/{})", owner.comm, owner.pid, owner.fd))
            .collect();
        writeln!(
            out,
            "{sock:<16} {:<16} {state:<12} {receive:>7} {send:>7} {ends}  {}",
            kind(socket),
            owners.join(",")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;
    use kmortem_kernel::net::SocketOwner;

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

    #[test]
    fn the_queue_of_a_listening_socket_is_what_waits_for_accept() {
        let owner = |pid, fd| SocketOwner { pid, comm: "httpd".to_owned(), fd };
        let mut listening = socket("INET", "STREAM", Some(("0.0.0.0:80", "0.0.0.0:0")));
        listening.state = Some("LISTEN".to_owned());
        (listening.accept_queue, listening.accept_limit) = (Some(1), Some(9));
        let mut bound = socket("UNIX", "DGRAM", None);
        bound.unix_path = Some("@busyd".to_owned());
        bound.receive_bytes = Some(768);
        let sockets = [
            OwnedSocket { socket: listening, owners: vec![owner(173, 3), owner(189, 3)] },
            OwnedSocket { socket: bound, owners: vec![owner(202, 18)] },
        ];
        let mut text = Vec::new();
        render_all(&mut text, &sockets).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn a_reference_is_a_descriptor_or_an_address() {
        let socket = socket("UNIX", "STREAM", None);
        assert!(refers(&socket, "3") && refers(&socket, "ffff88d001432700"));
        assert!(!refers(&socket, "33") && !refers(&socket, "ffff88d001432701"));
    }
}

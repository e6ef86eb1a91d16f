//! `net`: network interfaces, neighbours, and sockets of tasks.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use kmortem_kernel::net::{Neighbour, NetInterface};
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::{chosen, failed, net_sockets, task_header};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "net",
    summary: "lists network interfaces, neighbours, and sockets",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::flag('s', "the open sockets of the task"),
        Opt::flag('S', "the same, with their structs"),
        Opt::flag(
            'l',
            "all sockets that tasks have open, with queues and owners (crash has no such)",
        ),
        Opt::flag('n', "the interfaces that the task sees"),
        Opt::flag('a', "neighbours: the ARP cache"),
        Opt::flag('A', "the same, and the neighbours of IPv6 (crash has no such)"),
        Opt::value('N', "NUMBER", "an IPv4 address as text"),
        Opt::value('R', "REFERENCE", "with -s or -S: a socket's descriptor or address"),
        Opt::flag('x', "with -S: numbers in hexadecimal"),
        Opt::flag('d', "with -S: numbers in decimal"),
    ],
    details: "\
Without options: the interfaces of the first network namespace. JSON has those
of all namespaces, with state, queues and drops. -l shows bytes that wait to be
read and to be sent; for a listening socket connections that wait for accept,
and their limit.",
    examples: &[
        ("", "interfaces and their addresses"),
        ("-s 1", "the sockets of PID 1"),
        ("-n 1", "the interfaces in PID 1's namespace"),
        ("-l", "all sockets with who has them open"),
        ("-A", "which hardware address an IP address has"),
        ("-N 0x100007f", "127.0.0.1"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "an interface, of any namespace",
            members: "`addr` `namespace` `name` `index` `flags` `carrier` `operational` `mtu` `mac` `addresses` `driver` `qdisc` `tx_queues` `dropped` `namespace_inode` `operations` `virtqueues` `gaps`",
        },
        Rows {
            options: "-s, -S",
            row: "a task",
            members: "as `set`, `unreadable`, and `sockets`: `list` (`fd` `socket` `sock` `family` `kind` `protocol` `state` `local` `remote` `receive_bytes` `send_bytes` ...)",
        },
        Rows {
            options: "-l",
            row: "a socket",
            members: "as a socket of `-s` (`fd` and `file` are those of its first owner): `fd` `file` `socket` `sock` `family` `kind` `protocol` `protocol_number` `state` `local` `remote` `unix_path` `receive_packets` `receive_bytes` `receive_limit` `send_bytes` `send_limit` `accept_queue` `accept_limit` `error` `gaps`, and `owners` (`pid` `comm` `fd`)",
        },
        Rows {
            options: "-a, -A",
            row: "a neighbour",
            members: "`addr` `table` `ip` `hardware` `mac` `device` `net_device` `state` `probes` `queued` `gaps`",
        },
        Rows { options: "-N", row: "the address", members: "`number` `ip`" },
    ],
    each: Some(show),
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let of_tasks = ['s', 'S', 'n'].into_iter().any(|letter| args.has(letter));
    if args.has('R') && !args.has('s') && !args.has('S') {
        let what = "-R needs -s or -S".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    if !of_tasks {
        if let Some(word) = args.words.first() {
            let what = format!("`{word}` needs -s or -S (sockets) or -n (interfaces)");
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
        let neighbours_too = args.has('a') || args.has('A');
        return match (args.value('N'), neighbours_too, args.has('l')) {
            (Some(word), ..) => address_text(word, out),
            (_, true, _) => neighbours(session, args.has('A'), out),
            (_, _, true) => net_sockets::all(session, out),
            _ => interfaces(session, None, out),
        };
    }
    let chosen = chosen(COMMAND.name, session, args, out)?;
    match chosen.as_slice() {
        [task] if args.has('n') => interfaces(session, Some(task), out),
        _ => show(session, &chosen, args, out),
    }
}

/// Shows what the options want of `chosen`.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if args.has('s') || args.has('S') {
        return net_sockets::of_tasks(session, chosen, args, out);
    }
    chosen.iter().try_for_each(|task| {
        if !out.is_json() {
            task_header::render(out, task)?;
        }
        interfaces(session, Some(task), out)
    })
}

/// A row of JSON of `net -N`.
#[derive(Serialize)]
struct AddressRow {
    number: u32,
    ip: Ipv4Addr,
}

/// The text of an address as memory has it: network order in a number that
/// was read as little-endian.
fn address_text(word: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let number = address::number(word).or_else(|| address::hex(word));
    let Some(number) = number.and_then(|n| u32::try_from(n).ok()) else {
        let what = format!("`{word}` is no number of 32 bits");
        return Err(CommandError::Usage { command: COMMAND.name, what });
    };
    let ip = Ipv4Addr::from(number.to_le_bytes());
    match out.is_json() {
        true => out.row(&AddressRow { number, ip })?,
        false => writeln!(out, "{ip}")?,
    }
    Ok(())
}

fn neighbours(session: &Session, of_ipv6: bool, out: &mut Output<'_>) -> Result<(), CommandError> {
    let mut found = session.kernel().neighbours().map_err(failed(COMMAND.name))?;
    // An address that can't be read may be one of IPv4.
    let all = of_ipv6 || out.is_json();
    found.list.retain(|neighbour| all || !neighbour.ip.is_some_and(|ip| ip.is_ipv6()));
    match out.is_json() {
        true => out.rows(&found.list)?,
        false => render_neighbours(out, &found.list)?,
    }
    super::note_gaps(out, found.list.iter().map(|n| &n.gaps).chain([&found.gaps]))
}

fn render_neighbours(out: &mut dyn Write, neighbours: &[Neighbour]) -> io::Result<()> {
    writeln!(out, "NEIGHBOUR        IP ADDRESS      HW TYPE    HW ADDRESS         DEVICE  STATE")?;
    for neighbour in neighbours {
        let ip = neighbour.ip.map_or("-".to_owned(), |ip| ip.to_string());
        let mac = neighbour.mac.clone().unwrap_or_else(|| "-".to_owned());
        // Hardware without a name may not write its addresses with colons.
        let mac = if neighbour.hardware.is_some() { mac } else { mac.replace(':', " ") };
        writeln!(
            out,
            "{:016x} {ip:<15} {:<10} {mac:<18} {:<7} {}",
            neighbour.addr,
            neighbour.hardware.unwrap_or("UNKNOWN"),
            neighbour.device.as_deref().unwrap_or("-"),
            neighbour.state
        )?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn neighbours_of_nameless_hardware_have_no_colons() {
        let neighbour = |ip: &str, hardware, device: &str, state: &str| Neighbour {
            addr: 0xff12_8a83_4293_4600,
            table: "arp_cache".to_owned(),
            ip: ip.parse().ok(),
            hardware,
            mac: Some("00:00:0c:07:ac:00".to_owned()),
            device: Some(device.to_owned()),
            net_device: None,
            state: state.to_owned(),
            probes: None,
            queued: None,
            gaps: Gaps::default(),
        };
        let neighbours = [
            neighbour("10.0.2.99", Some("ETHER"), "eth0", "REACHABLE"),
            neighbour("0.0.0.0", None, "lo", "NOARP"),
            neighbour("fe80::5054:ff:fe12:3456", Some("ETHER"), "eth0", "STALE"),
        ];
        let mut text = Vec::new();
        render_neighbours(&mut text, &neighbours).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}

//! `sockets` of processes, and the network's `interfaces`.

use kmortem_kernel::Kernel;
use kmortem_kernel::net::{NetInterface, Socket};
use rayon::prelude::*;

use super::file::with_files;
use crate::cell::{Cell, hex, hex_option, list, word};
use crate::schema::{BATCH, Column, FillError, Rows, Table};

/// A socket with whose it is.
pub(crate) struct SocketRow {
    task: u64,
    pid: i32,
    socket: Socket,
}

pub(crate) const SOCKETS: Table<SocketRow> = Table {
    name: "sockets",
    doc: "a socket that a process has open",
    columns: &[
        Column::address("task", "whose it is (`tasks.addr`)", |_, r| hex(r.task)),
        Column::integer("pid", "the task's thread ID", |_, r| r.pid.into()),
        Column::integer("fd", "file descriptor", |_, r| r.socket.fd.into()),
        Column::address("file", "its `struct file`", |_, r| hex(r.socket.file)),
        Column::address("socket", "its `struct socket`", |_, r| hex_option(r.socket.socket)),
        Column::address("sock", "its `struct sock`", |_, r| hex_option(r.socket.sock)),
        Column::text("family", "INET, INET6, UNIX, ...", |_, r| r.socket.family.as_deref().into()),
        Column::text("type", "STREAM, DGRAM, ...", |_, r| r.socket.kind.as_deref().into()),
        Column::text("protocol", "TCP, UDP, ...", |_, r| r.socket.protocol.as_deref().into()),
        Column::text("state", "LISTEN, ESTABLISHED, ...", |_, r| r.socket.state.as_deref().into()),
        Column::text("local_ip", "own address", |_, r| {
            r.socket.local.map(|a| a.ip().to_string()).into()
        }),
        Column::integer("local_port", "own port", |_, r| r.socket.local.map(|a| a.port()).into()),
        Column::text("remote_ip", "the other side's address", |_, r| {
            r.socket.remote.map(|a| a.ip().to_string()).into()
        }),
        Column::integer("remote_port", "the other side's port; 0: not connected", |_, r| {
            r.socket.remote.map(|a| a.port()).into()
        }),
        Column::text("path", "name of a UNIX socket", |_, r| r.socket.unix_path.as_deref().into()),
        Column::integer("receive_packets", "packets that nobody has read yet", |_, r| {
            r.socket.receive_packets.into()
        }),
        Column::quantity("receive_bytes", "bytes", "memory of received data", |_, r| {
            r.socket.receive_bytes.into()
        }),
        Column::quantity("receive_limit", "bytes", "limit of that", |_, r| {
            r.socket.receive_limit.into()
        }),
        Column::quantity("send_bytes", "bytes", "memory of data to send", |_, r| {
            r.socket.send_bytes.into()
        }),
        Column::quantity("send_limit", "bytes", "limit of that", |_, r| r.socket.send_limit.into()),
        Column::integer("accept_queue", "connections that wait to be accepted", |_, r| {
            r.socket.accept_queue.into()
        }),
        Column::integer("accept_limit", "most that may wait", |_, r| r.socket.accept_limit.into()),
        Column::integer("error", "pending error (errno)", |_, r| r.socket.error.into()),
    ],
    rows: sockets,
};

fn sockets(kernel: &Kernel, rows: &mut Rows<'_, SocketRow>) -> Result<(), FillError> {
    for batch in with_files(kernel, rows)?.chunks(BATCH) {
        let found: Vec<_> = batch.par_iter().map(|task| kernel.sockets(task)).collect();
        for (task, sockets) in batch.iter().zip(found) {
            match sockets {
                Ok(sockets) => {
                    rows.gaps(&sockets.gaps);
                    for socket in sockets.list {
                        rows.gaps(&socket.gaps);
                        rows.push(&SocketRow { task: task.addr, pid: task.pid, socket })?;
                    }
                }
                Err(error) => rows.remark(format_args!("PID {}: {error}", task.pid)),
            }
        }
    }
    Ok(())
}

pub(crate) const INTERFACES: Table<NetInterface> = Table {
    name: "interfaces",
    doc: "a network interface, of any namespace",
    columns: &[
        Column::address("addr", "its `struct net_device`", |_, i| hex(i.addr)),
        Column::address("namespace", "its `struct net`", |_, i| hex(i.namespace)),
        Column::integer("namespace_inode", "the namespace as /proc/PID/ns/net names it", |_, i| {
            i.namespace_inode.into()
        }),
        Column::text("name", "its name", |_, i| i.name.as_deref().into()),
        Column::integer("ifindex", "its number", |_, i| i.index.into()),
        Column::text("flags", "UP, RUNNING, ...", |_, i| i.flags.as_deref().map(list).into()),
        Column::flag("carrier", "it has a link", |_, i| i.carrier.into()),
        Column::text("operational", "operational state", |_, i| word(&i.operational)),
        Column::quantity("mtu", "bytes", "largest packet", |_, i| i.mtu.into()),
        Column::text("mac", "hardware address", |_, i| i.mac.as_deref().into()),
        Column::text("addresses", "IP addresses with their prefixes", |_, i| {
            let addresses: Vec<String> = i.addresses.iter().map(ToString::to_string).collect();
            list(&addresses)
        }),
        Column::text("driver", "its driver", |_, i| i.driver.as_deref().into()),
        Column::text("qdisc", "queueing discipline", |_, i| i.qdisc.as_deref().into()),
        Column::integer("tx_queues", "transmit queues", |_, i| i.tx_queues.len().into()),
        Column::integer("tx_queues_stopped", "of them stopped by driver or limit", |_, i| {
            let stopped = i.tx_queues.iter().filter(|q| q.stopped_by_driver || q.stopped_by_limit);
            stopped.count().into()
        }),
        Column::quantity(
            "bytes_in_flight",
            "bytes",
            "bytes that the hardware has; NULL: not counted",
            |_, i| in_flight(i),
        ),
        Column::integer("rx_dropped", "received packets dropped by the stack", |_, i| {
            i.dropped.as_ref().map(|d| d.rx).into()
        }),
        Column::integer("tx_dropped", "packets dropped before sending", |_, i| {
            i.dropped.as_ref().map(|d| d.tx).into()
        }),
    ],
    rows: interfaces,
};

/// Where no queue counts them there is no sum.
fn in_flight(interface: &NetInterface) -> Cell {
    let counts: Vec<u64> = interface
        .tx_queues
        .iter()
        .filter_map(|queue| queue.bytes_in_flight.map(u64::from))
        .collect();
    if counts.is_empty() { Cell::Null } else { counts.iter().sum::<u64>().into() }
}

fn interfaces(kernel: &Kernel, rows: &mut Rows<'_, NetInterface>) -> Result<(), FillError> {
    let interfaces = kernel.interfaces()?;
    rows.gaps(&interfaces.gaps);
    for interface in &interfaces.list {
        rows.gaps(&interface.gaps);
        rows.push(interface)?;
    }
    Ok(())
}

//! Sockets of a task: `struct socket` (include/linux/net.h) is the
//! `private_data` of a socket's file, `struct sock` (include/net/sock.h) the
//! protocol's side of it.

use std::net::SocketAddr;

use serde::Serialize;

use super::{not_null, read_ipv4, read_ipv6};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::task::Task;
use crate::vfs::{FileKind, FileLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct socket`, include/linux/net.h
    pub struct SocketLayout for "socket" {
        kind: u16 = "type",
        sk: u64 = "sk",
    }
}

layout! {
    /// `struct sock` with its `struct sock_common`, include/net/sock.h
    pub struct SockLayout for "sock" {
        family: u16 = "__sk_common.skc_family",
        state: u8 = "__sk_common.skc_state",
        proto: u64 = "__sk_common.skc_prot",
        local: Embedded = "__sk_common.skc_rcv_saddr",
        local_port: u16 = "__sk_common.skc_num",
        remote: Embedded = "__sk_common.skc_daddr",
        remote_port: u16 = "__sk_common.skc_dport",
        local6: Embedded = "__sk_common.skc_v6_rcv_saddr",
        remote6: Embedded = "__sk_common.skc_v6_daddr",
        protocol: u16 = "sk_protocol",
        error: i32 = "sk_err",
        receive_packets: u32 = "sk_receive_queue.qlen",
        receive_bytes: u32 = "sk_backlog.rmem_alloc.counter",
        receive_limit: u32 = "sk_rcvbuf",
        send_bytes: u32 = "sk_wmem_queued",
        send_limit: u32 = "sk_sndbuf",
        accept_queue: u32 = "sk_ack_backlog",
        accept_limit: u32 = "sk_max_ack_backlog",
    }
}

layout! {
    /// `struct inet_sock`, include/net/inet_sock.h: the port it was bound to
    /// last, which `skc_num` forgets when a connection fails.
    pub struct InetSockLayout for "inet_sock" {
        source_port: u16 = "inet_sport",
    }
}

layout! {
    /// `struct proto`, include/net/sock.h
    pub struct ProtoLayout for "proto" {
        name: str = "name",
    }
}

layout! {
    /// `struct unix_sock`, include/net/af_unix.h
    pub struct UnixSockLayout for "unix_sock" {
        addr: u64 = "addr",
        peer: u64 = "peer",
    }
}

layout! {
    /// `struct unix_address`, include/net/af_unix.h: `len` counts the family's
    /// two bytes too.
    pub struct UnixAddressLayout for "unix_address" {
        len: u32 = "len",
        name: Embedded = "name",
    }
}

/// Address families (include/linux/socket.h).
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const FAMILIES: &[(u16, &str)] = &[
    (AF_UNIX, "UNIX"),
    (AF_INET, "INET"),
    (AF_INET6, "INET6"),
    (15, "KEY"),
    (16, "NETLINK"),
    (17, "PACKET"),
    (21, "RDS"),
    (29, "CAN"),
    (30, "TIPC"),
    (31, "BLUETOOTH"),
    (38, "ALG"),
    (40, "VSOCK"),
    (43, "SMC"),
    (44, "XDP"),
];

/// Socket types (include/linux/net.h).
const TYPES: &[(u16, &str)] = &[
    (1, "STREAM"),
    (2, "DGRAM"),
    (3, "RAW"),
    (4, "RDM"),
    (5, "SEQPACKET"),
    (6, "DCCP"),
    (10, "PACKET"),
];

/// `TCP_*` states (include/net/tcp_states.h); other protocols use some of
/// them.
const STATES: &[&str] = &[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

/// Longest `sockaddr_un.sun_path`.
const LONGEST_UNIX_PATH: u32 = 108;

/// A socket that a task has open.
#[derive(Debug, Clone, Serialize)]
pub struct Socket {
    /// File descriptor.
    pub fd: u32,
    /// Address of its `struct file`.
    #[serde(serialize_with = "hex")]
    pub file: u64,
    /// Address of its `struct socket`.
    #[serde(serialize_with = "hex_option")]
    pub socket: Option<u64>,
    /// Address of its `struct sock`.
    #[serde(serialize_with = "hex_option")]
    pub sock: Option<u64>,
    /// Address family ("INET", "UNIX").
    pub family: Option<String>,
    /// Type ("STREAM", "DGRAM").
    pub kind: Option<String>,
    /// The protocol's name ("TCP", "UDPv6").
    pub protocol: Option<String>,
    /// Its number (of an IP protocol, or a netlink family).
    pub protocol_number: Option<u16>,
    /// State ("LISTEN", "ESTABLISHED").
    pub state: Option<String>,
    /// Own address and port, for IPv4 and IPv6.
    pub local: Option<SocketAddr>,
    /// The other side's, for IPv4 and IPv6; port 0: not connected.
    pub remote: Option<SocketAddr>,
    /// Bound name of a UNIX socket; `@` begins an abstract one.
    pub unix_path: Option<String>,
    /// Packets that nobody has read yet.
    pub receive_packets: Option<u32>,
    /// Memory of received data, in bytes.
    pub receive_bytes: Option<u32>,
    /// Limit of that.
    pub receive_limit: Option<u32>,
    /// Memory of data that is not sent or not acknowledged, in bytes.
    pub send_bytes: Option<u32>,
    /// Limit of that.
    pub send_limit: Option<u32>,
    /// Connections that wait for `accept`, for a listening socket.
    pub accept_queue: Option<u32>,
    /// Limit of that.
    pub accept_limit: Option<u32>,
    /// Pending error (an errno), 0 without.
    pub error: Option<i32>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The sockets of a task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskSockets {
    /// The sockets by descriptor.
    pub list: Vec<Socket>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// Sockets that `task` has open.
    pub fn sockets(&self, task: &Task) -> Result<TaskSockets> {
        let files = self.files(task)?;
        let sockets = files.list.iter().filter(|f| f.kind == Some(FileKind::Socket));
        Ok(TaskSockets {
            list: sockets.map(|f| self.read_socket(f.fd, f.file)).collect(),
            gaps: files.gaps,
        })
    }

    fn read_socket(&self, fd: u32, file: u64) -> Socket {
        let mut gaps = Gaps::default();
        let socket = gaps.keep("socket", self.socket_of_file(file));
        let (mut kind, mut sock) = (None, None);
        if let Some((layout, socket)) = self.layout::<SocketLayout>().ok().zip(socket) {
            kind = gaps.keep("type", layout.kind.read(self, socket));
            let found = layout.sk.read(self, socket);
            sock = gaps.keep("sock", found.and_then(|sk| not_null(sk, "the sock (it is closed)")));
        }
        let mut value = Socket {
            fd,
            file,
            socket,
            sock,
            family: None,
            kind: kind.map(|k| name_of(TYPES, k)),
            protocol: None,
            protocol_number: None,
            state: None,
            local: None,
            remote: None,
            unix_path: None,
            receive_packets: None,
            receive_bytes: None,
            receive_limit: None,
            send_bytes: None,
            send_limit: None,
            accept_queue: None,
            accept_limit: None,
            error: None,
            gaps,
        };
        if let Some(sock) = sock
            && let Err(e) = self.read_sock(sock, &mut value)
        {
            value.gaps.add("sock", &e);
        }
        value
    }

    /// `sock_from_file`: only files with the operations of sockets have one.
    fn socket_of_file(&self, file: u64) -> Result<u64> {
        let layout = self.layout::<FileLayout>()?;
        let ops = layout.op.read(self, file)?;
        if self.symbol("socket_file_ops").is_ok_and(|socket_ops| socket_ops != ops) {
            let name = self.symbol_at(ops).map_or_else(|| format!("{ops:#x}"), |s| s.name);
            return Err(Error::Unavailable(format!("its file has the operations {name}")));
        }
        not_null(layout.private_data.read(self, file)?, "the socket")
    }

    fn read_sock(&self, sock: u64, value: &mut Socket) -> Result<()> {
        let layout = self.layout::<SockLayout>()?;
        let gaps = &mut value.gaps;
        let family = layout.family.read(self, sock)?;
        value.family = Some(name_of(FAMILIES, family));
        let proto = layout.proto.read(self, sock).and_then(|proto| {
            self.layout::<ProtoLayout>()?.name.read(self, not_null(proto, "the protocol")?)
        });
        value.protocol = gaps.keep("protocol", proto);
        value.protocol_number = gaps.keep("protocol", layout.protocol.read(self, sock));
        value.state = gaps.keep("state", layout.state.read(self, sock)).map(state_name);
        value.receive_packets = gaps.keep("queue", layout.receive_packets.read(self, sock));
        value.receive_bytes = gaps.keep("queue", layout.receive_bytes.read(self, sock));
        value.receive_limit = gaps.keep("limit", layout.receive_limit.read(self, sock));
        value.send_bytes = gaps.keep("queue", layout.send_bytes.read(self, sock));
        value.send_limit = gaps.keep("limit", layout.send_limit.read(self, sock));
        if value.state.as_deref() == Some("LISTEN") {
            value.accept_queue = gaps.keep("backlog", layout.accept_queue.read(self, sock));
            value.accept_limit = gaps.keep("backlog", layout.accept_limit.read(self, sock));
        }
        value.error = gaps.keep("error", layout.error.read(self, sock));
        match family {
            AF_INET | AF_INET6 => {
                value.local =
                    gaps.keep("local address", self.endpoint(&layout, sock, family, true));
                value.remote =
                    gaps.keep("remote address", self.endpoint(&layout, sock, family, false));
            }
            AF_UNIX => value.unix_path = gaps.keep("name", self.unix_path(sock)).flatten(),
            _ => {}
        }
        Ok(())
    }

    /// One end of an IP socket. `skc_num` is in host order, `skc_dport` in
    /// network order.
    fn endpoint(
        &self,
        layout: &SockLayout,
        sock: u64,
        family: u16,
        local: bool,
    ) -> Result<SocketAddr> {
        let (v4, v6) = match local {
            true => (&layout.local, &layout.local6),
            false => (&layout.remote, &layout.remote6),
        };
        let port = match local {
            true => match self.layout::<InetSockLayout>()?.source_port.read(self, sock)? {
                0 => layout.local_port.read(self, sock)?,
                port => port.swap_bytes(),
            },
            false => layout.remote_port.read(self, sock)?.swap_bytes(),
        };
        Ok(match family {
            AF_INET => (read_ipv4(self, v4.address(sock)?)?, port).into(),
            _ => (read_ipv6(self, v6.address(sock)?)?, port).into(),
        })
    }

    fn unix_path(&self, sock: u64) -> Result<Option<String>> {
        let address = match self.layout::<UnixSockLayout>()?.addr.read(self, sock)? {
            0 => return Ok(None),
            address => address,
        };
        let layout = self.layout::<UnixAddressLayout>()?;
        let len = layout.len.read(self, address)?.saturating_sub(2);
        if len > LONGEST_UNIX_PATH {
            return Err(Error::corrupt(format!("a UNIX address of {len} bytes"), address));
        }
        let path = self.read_bytes(layout.name.address(address)?.wrapping_add(2), len.into())?;
        Ok(unix_name(&path))
    }
}

/// `sun_path`: text up to a NUL; an abstract name begins with one, which is
/// written as `@`, as are further ones in it (/proc/net/unix).
fn unix_name(path: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match path {
        [] => None,
        [0, ..] => Some(text(path).replace('\0', "@")),
        _ => path.split(|b| *b == 0).next().map(text),
    }
}

fn name_of(names: &[(u16, &str)], number: u16) -> String {
    match names.iter().find(|n| n.0 == number) {
        Some((_, name)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

/// States are numbered from 1.
fn state_name(state: u8) -> String {
    let name = usize::from(state).checked_sub(1).and_then(|i| STATES.get(i));
    name.map_or_else(|| state.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_names_plain_and_abstract() {
        assert_eq!(unix_name(b""), None);
        assert_eq!(unix_name(b"/run/a.sock\0\0"), Some("/run/a.sock".into()));
        assert_eq!(unix_name(b"\0bus\0x"), Some("@bus@x".into()));
    }

    #[test]
    fn numbers_without_a_name_stay_numbers() {
        assert_eq!(name_of(FAMILIES, 2), "INET");
        assert_eq!(name_of(FAMILIES, 45), "45");
        assert_eq!(state_name(1), "ESTABLISHED");
        assert_eq!(state_name(10), "LISTEN");
        assert_eq!(state_name(0), "0");
        assert_eq!(state_name(77), "77");
    }
}

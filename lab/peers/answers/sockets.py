"""Sockets that tasks hold: what they are, where they lead, what they queue."""

import ipaddress

from drgn import cast
from drgn.helpers.linux.fs import for_each_file
from drgn.helpers.linux.net import SOCKET_I
from drgn.helpers.linux.pid import for_each_task

from common import addr

STATES = (
    "? ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK"
    " LISTEN CLOSING NEW_SYN_RECV"
).split()
S_IFMT, S_IFSOCK = 0o170000, 0o140000


FAMILIES = {1: "UNIX", 2: "INET", 10: "INET6", 16: "NETLINK", 17: "PACKET", 40: "VSOCK"}
KINDS = {1: "STREAM", 2: "DGRAM", 3: "RAW", 5: "SEQPACKET"}


def ends(sk, family):
    """Local and remote address, as text."""
    common, inet = sk.__sk_common, cast("struct inet_sock *", sk)
    local = int.from_bytes(inet.inet_sport.value_().to_bytes(2, "little"), "big")
    remote = int.from_bytes(common.skc_dport.value_().to_bytes(2, "little"), "big")
    if family == "INET6":
        near = bytes(common.skc_v6_rcv_saddr.in6_u.u6_addr8.value_())
        far = bytes(common.skc_v6_daddr.in6_u.u6_addr8.value_())
        return f"[{v6(near)}]:{local}", f"[{v6(far)}]:{remote}"
    near = common.skc_rcv_saddr.value_().to_bytes(4, "little")
    far = common.skc_daddr.value_().to_bytes(4, "little")
    return f"{ipaddress.IPv4Address(near)}:{local}", f"{ipaddress.IPv4Address(far)}:{remote}"


def v6(raw):
    ip = ipaddress.IPv6Address(raw)
    return f"::ffff:{ip.ipv4_mapped}" if ip.ipv4_mapped else str(ip)


def row(socket):
    sk = socket.sk.read_()
    common = sk.__sk_common
    family = FAMILIES[common.skc_family.value_()]
    row = {
        "socket": addr(socket),
        "sock": addr(sk),
        "family": family,
        "kind": KINDS[socket.type.value_()],
        "protocol": common.skc_prot.name.string_().decode(),
        "protocol_number": sk.sk_protocol.value_(),
        "state": STATES[common.skc_state.value_()],
        "receive_packets": sk.sk_receive_queue.qlen.value_(),
        "receive_bytes": sk.sk_backlog.rmem_alloc.counter.value_(),
        "receive_limit": sk.sk_rcvbuf.value_(),
        "send_limit": sk.sk_sndbuf.value_(),
        "send_bytes": sk.sk_wmem_queued.value_(),
        "error": sk.sk_err.value_(),
    }
    if family in ("INET", "INET6"):
        row["local"], row["remote"] = ends(sk, family)
    return row


def rows(prog):
    found = {}
    for task in for_each_task(prog):
        # Threads share the files of their process.
        leader = task.group_leader
        if not task.files or (task != leader and task.files == leader.files):
            continue
        for fd, file in for_each_file(task):
            if not file:  # Reserved for a file that is still to come.
                continue
            inode = file.f_inode.read_()
            if inode.i_mode.value_() & S_IFMT != S_IFSOCK:
                continue
            socket = SOCKET_I(inode)
            if not socket.sk:
                continue
            known = found.setdefault(socket.value_(), {**row(socket), "owners": []})
            known["owners"].append({"pid": task.pid.value_(), "fd": fd})
    return list(found.values())

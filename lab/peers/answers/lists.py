"""Lists of (address, name): what a kernel has of a kind."""

from drgn.helpers.linux.block import disk_name, for_each_disk
from drgn.helpers.linux.fs import for_each_mount, mount_dst, mount_fstype
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.net import for_each_net, for_each_netdev
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.slab import for_each_slab_cache

from common import string, text


def log(prog):
    return [(r.timestamp, r.level, text(r.text)) for r in get_printk_records(prog)]


def modules(prog):
    return [text(m.name.string_()) for m in for_each_module(prog)]


def mounts(prog):
    return [
        (m.value_(), text(mount_fstype(m)), text(mount_dst(m))) for m in for_each_mount(prog)
    ]


def netdevs(prog):
    devices = (d for net in for_each_net(prog) for d in for_each_netdev(net))
    return [(d.value_(), text(d.name.string_())) for d in devices]


def disks(prog):
    return [(d.value_(), text(disk_name(d))) for d in for_each_disk(prog)]


def slab_caches(prog):
    return [(string(c.name), c.object_size.value_()) for c in for_each_slab_cache(prog)]

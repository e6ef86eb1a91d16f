"""virtio devices and their rings."""

from drgn import container_of
from drgn.helpers.linux.device import bus_for_each_dev, dev_name
from drgn.helpers.linux.list import list_for_each_entry

from common import Unknown, addr, member, text


def ring(queue):
    vring = container_of(queue, "struct vring_virtqueue", "vq")
    split = member(vring, "split")
    ring = split.vring if split is not None else vring.vring
    return {
        "descriptors": addr(ring.desc),
        "size": ring.num.value_(),
        "available": ring.avail.idx.value_(),
        "used": ring.used.idx.value_(),
        "taken_back": vring.last_used_idx.value_() & 0xFFFF,
        "broken": bool(vring.broken),
    }


def queues(device):
    for queue in list_for_each_entry("struct virtqueue", device.vqs.address_of_(), "list"):
        yield {
            "addr": addr(queue),
            "index": queue.index.value_(),
            "name": text(queue.name.string_()),
            "free": queue.num_free.value_(),
            "ring": ring(queue),
        }


def rows(prog):
    if "virtio_bus" not in prog:
        raise Unknown("virtio is a module here, and drgn has no debug information of modules")
    for dev in bus_for_each_dev(prog["virtio_bus"].address_of_()):
        device = container_of(dev, "struct virtio_device", "dev")
        yield {
            "addr": addr(device),
            "name": text(dev_name(dev)),
            "id": device.id.device.value_(),
            "driver": text(dev.driver.name.string_()) if dev.driver else None,
            "queues": list(queues(device)),
        }

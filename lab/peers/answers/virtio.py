"""virtio devices and their rings."""

from drgn import container_of
from drgn.helpers.linux.device import bus_for_each_dev, dev_name
from drgn.helpers.linux.list import list_for_each_entry

from common import Unknown, addr, member, text


LAST = 1 << 15  # of an index: its wrap counter


def packed_ring(vring):
    packed = vring.packed
    size = packed.vring.num.value_()
    last = vring.last_used_idx.value_()
    wrap = member(packed, "used_wrap_counter")
    wrap = bool(last & LAST) if wrap is None else bool(wrap)
    last &= LAST - 1
    held = [packed.desc_state[i].num.value_() for i in range(size) if packed.desc_state[i].data]
    at, unseen = last, 0
    while unseen < len(held):
        desc = packed.vring.desc[at]
        flags = desc.flags.value_()
        if not bool(flags & 1 << 7) == bool(flags & 1 << 15) == wrap:
            break
        at += packed.desc_state[desc.id.value_()].num.value_()
        wrap, at = (not wrap, at - size) if at >= size else (wrap, at)
        unseen += 1
    return {
        "descriptors": addr(packed.vring.desc),
        "size": size,
        "available": packed.next_avail_idx.value_(),
        "used": at,
        "outstanding": len(held) - unseen,
        "taken_back": last,
        "not_taken": unseen,
        "not_told": vring.num_added.value_(),
        "broken": bool(vring.broken),
    }


def is_packed(vring):
    flag = member(vring, "packed_ring")
    return bool(flag) if flag is not None else "PACKED" in vring.layout.format_(type_name=False)


def ring(queue):
    vring = container_of(queue, "struct vring_virtqueue", "vq")
    if is_packed(vring):
        return packed_ring(vring)
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

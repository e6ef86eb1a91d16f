"""Claimed ranges of ports and of physical memory."""

from drgn.helpers.linux.ioport import for_each_resource

from common import addr, string


def rows(prog):
    for space, root in (("port", "ioport_resource"), ("memory", "iomem_resource")):
        for resource in for_each_resource(prog[root].address_of_()):
            yield {
                "space": space,
                "addr": addr(resource),
                "start": hex(resource.start.value_()),
                "end": hex(resource.end.value_()),
                "name": string(resource.name),
                "flags": hex(resource.flags.value_()),
            }

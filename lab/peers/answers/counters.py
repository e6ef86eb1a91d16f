"""Counters of zones, nodes and events.

Those of zones and nodes are shown as they are: below zero where a CPU still
holds back what it added. drgn's helpers show zero then, as the kernel does.
"""

from drgn.helpers.linux.vmstat import global_vm_event_state

from common import enumerators


def counted(prog, enum, value):
    """Values by name. The last name is the number of them; _BASE is another name of the next."""
    names = enumerators(prog, enum)[:-1]
    return {name: value(index) for name, index in names if not name.endswith("_BASE")}


def rows(prog):
    zone, node = prog["vm_zone_stat"], prog["vm_node_stat"]
    yield {
        "zones": counted(prog, "enum zone_stat_item", lambda i: zone[i].counter.value_()),
        "nodes": counted(prog, "enum node_stat_item", lambda i: node[i].counter.value_()),
        "events": counted(prog, "enum vm_event_item", lambda i: global_vm_event_state(prog, i)),
    }

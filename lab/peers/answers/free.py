"""Free blocks by zone, order and kind of their mobility."""

from drgn.helpers.linux.list import list_for_each
from drgn.helpers.linux.mmzone import for_each_online_pgdat

from common import addr


def rows(prog):
    for node in for_each_online_pgdat(prog):
        for zone in node.node_zones:
            for order, area in enumerate(zone.free_area):
                for kind, head in enumerate(area.free_list):
                    # A zone without memory has no lists.
                    listed = list_for_each(head.address_of_()) if head.next else ()
                    blocks = sum(1 for _ in listed)
                    yield {
                        "node": node.node_id.value_(),
                        "zone": zone.name.string_().decode(),
                        "order": order,
                        "migrate_type": kind,
                        "addr": addr(head.address_of_()),
                        "free_blocks": blocks,
                        "pages": blocks << order,
                    }

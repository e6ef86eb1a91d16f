"""Swap areas."""

from drgn.helpers.linux.swap import for_each_swap_info, swap_file_path, swap_usage_in_pages

from common import addr, text


def rows(prog):
    for area in for_each_swap_info(prog):
        yield {
            "addr": addr(area),
            "pages": area.pages.value_(),
            "used": swap_usage_in_pages(area),
            "priority": area.prio.value_(),
            "file": addr(area.swap_file),
            "path": text(swap_file_path(area)),
        }

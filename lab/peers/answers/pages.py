"""A sample of the page frames."""

from drgn.helpers.linux.mm import (
    compound_head,
    decode_page_flags,
    for_each_valid_page_range,
    page_flags,
)

from common import addr

WANTED = 1500


def row(pfn, page):
    names = [name.removeprefix("PG_") for name in decode_page_flags(page).split("|")]
    return {
        "addr": addr(page),
        "phys": hex(pfn * page.prog_["PAGE_SIZE"].value_()),
        "head": addr(compound_head(page)),
        "refcount": page._refcount.counter.value_(),
        "flags": hex(page_flags(page).value_()),
        "mapping": addr(page.mapping),
        "index": page.index.value_() if hasattr(page, "index") else page.__folio_index.value_(),
    }


def rows(prog):
    ranges = list(for_each_valid_page_range(prog))
    frames = sum(end - start for start, end, _ in ranges)
    # An odd step, so that it falls on the tails of compound pages too.
    step = frames // WANTED | 1
    for start, end, mem_map in ranges:
        for pfn in range(start, end, step):
            page = row(pfn, mem_map + pfn)
            yield f"kmem -p {page['phys']}", page

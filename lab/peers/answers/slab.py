"""Objects of slabs: on a sample of slab pages, which are free and which are not."""

from drgn import cast
from drgn.helpers.linux.mm import PageSlab, compound_head, for_each_valid_page_range, page_to_virt
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.slab import for_each_slab_cache, slab_object_info

from common import addr, cpus, member

SLABS, OBJECTS = 40, 8


def awaiting_rcu(prog):
    """Objects that wait in a CPU's sheaf for RCU: drgn takes them for allocated."""
    found = set()
    for cache in for_each_slab_cache(prog):
        per_cpu = member(cache, "cpu_sheaves")
        if per_cpu:
            for cpu in cpus(prog):
                sheaf = per_cpu_ptr(per_cpu, cpu).rcu_free.read_()
                if sheaf:
                    found |= {o.value_() for o in sheaf.objects[: sheaf.size]}
    return found


def slabs(prog):
    """Heads of slab pages, spread over memory."""
    found = {}
    for start, end, mem_map in for_each_valid_page_range(prog):
        for pfn in range(start, end, 7):
            page = compound_head(mem_map + pfn)
            if PageSlab(page):
                found[page.value_()] = page
    return list(found.values())[:: max(len(found) // SLABS, 1)]


def objects(page):
    """Addresses of the first objects of a slab.

    Their number is in struct page until 5.17, then in struct slab. Behind the
    last one drgn counts on, into what is left of the slab.
    """
    count = member(page, "objects")
    if count is None:
        count = cast("struct slab *", page).objects
    base = page_to_virt(page)
    size = slab_object_info(page.prog_, base).slab_cache.size.value_()
    return [base.value_() + i * size for i in range(min(count.value_(), OBJECTS))]


def rows(prog):
    awaiting = awaiting_rcu(prog)
    some = {at for page in slabs(prog) for at in objects(page)}
    for at in sorted(some | set(sorted(awaiting)[:OBJECTS])):
        info = slab_object_info(prog, at)
        if not info.allocated:
            state = "free"
        else:
            state = "awaiting_rcu" if at in awaiting else "allocated"
        yield f"kmem {at:#x}", {
            "address": hex(at),
            "object": {"cache": addr(info.slab_cache), "start": hex(info.address), "state": state},
        }

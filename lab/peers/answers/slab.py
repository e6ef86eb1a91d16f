"""Objects of slabs: on a sample of slab pages, which are free and which are not.

drgn does not know sheaves (arrays of free objects in front of the slabs, since
6.18): what they hold is free, though no slab's list has it.
"""

from drgn import cast
from drgn.helpers.linux.mm import PageSlab, compound_head, for_each_valid_page_range, page_to_virt
from drgn.helpers.linux.nodemask import for_each_online_node
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.slab import for_each_slab_cache, slab_object_info

from common import addr, cpus, member

SLABS, OBJECTS = 40, 8


def barn_of(cache, node):
    """The node's full sheaves; they moved from the node's lists into the cache in 7.1."""
    per_node = member(cache, "per_node")
    if per_node is not None:
        return per_node[node].barn
    return member(cache.node[node], "barn") if cache.node[node] else None


def sheaf(s):
    return {s.objects[i].value_() for i in range(s.size.value_())} if s else set()


def in_sheaves(prog):
    """Objects that lie in sheaves of CPUs and barns of nodes: free ones, and those that RCU keeps."""
    found, awaiting = set(), set()
    for cache in for_each_slab_cache(prog):
        per_cpu = member(cache, "cpu_sheaves")
        if per_cpu is None:
            break
        if per_cpu:
            for cpu in cpus(prog):
                sheaves = per_cpu_ptr(per_cpu, cpu)
                found |= sheaf(sheaves.main) | sheaf(sheaves.spare)
                awaiting |= sheaf(sheaves.rcu_free)
        for node in for_each_online_node(prog):
            barn = barn_of(cache, node)
            if barn:
                for s in list_for_each_entry(
                    "struct slab_sheaf", barn.sheaves_full.address_of_(), "barn_list"
                ):
                    found |= sheaf(s)
    return found, awaiting


def slabs(prog):
    """Heads of slab pages, spread over memory."""
    found = []
    for start, end, mem_map in for_each_valid_page_range(prog):
        for pfn in range(start, end, 7):
            page = mem_map + pfn
            if PageSlab(compound_head(page)):
                found.append(compound_head(page))
    return found[:: max(len(found) // SLABS, 1)]


def objects(page):
    """How many fit: in struct page until 5.17, then in struct slab."""
    count = member(page, "objects")
    return (cast("struct slab *", page).objects if count is None else count).value_()


def rows(prog):
    free, awaiting = in_sheaves(prog)
    for page in slabs(prog):
        base = page_to_virt(page)
        info = slab_object_info(prog, base)
        cache = info.slab_cache
        size = cache.size.value_()
        # Behind the last object drgn counts on, into what is left of the slab.
        for index in range(min(objects(page), OBJECTS)):
            at = base.value_() + index * size
            info = slab_object_info(prog, at)
            if not info.allocated or info.address in free:
                state = "free"
            elif info.address in awaiting:
                state = "awaiting_rcu"
            else:
                state = "allocated"
            yield f"kmem {at:#x}", {
                "address": hex(at),
                "object": {
                    "cache": addr(info.slab_cache),
                    "start": hex(info.address),
                    "state": state,
                },
            }

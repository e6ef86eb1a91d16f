"""Slab caches: how many objects they have and gave away."""

from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.slab import for_each_slab_cache, slab_cache_usage

from common import addr, cpus, member, string


def freed_to_active(prog, cache):
    """Objects of the CPUs' active slabs that another CPU freed: on the list of the slab itself."""
    per_cpu = member(cache, "cpu_slab")
    active = [member(per_cpu_ptr(per_cpu, cpu), "slab", "page") for cpu in cpus(prog)] if per_cpu else []
    return sum(slab.objects.value_() - slab.inuse.value_() for slab in active if slab)


def rows(prog):
    for cache in for_each_slab_cache(prog):
        usage = slab_cache_usage(cache)
        # drgn does not see those.
        free = usage.free_objs + freed_to_active(prog, cache)
        yield {
            "addr": addr(cache),
            "name": string(cache.name),
            "object_size": cache.object_size.value_(),
            "size": cache.size.value_(),
            "slabs": usage.num_slabs,
            "objects": usage.num_objs,
            "allocated": usage.num_objs - free,
        }

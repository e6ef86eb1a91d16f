"""Control groups: the tree, its tasks, and what memory and pids count and allow."""

from drgn import container_of
from drgn.helpers.linux.cgroup import cgroup_path, css_for_each_descendant_pre
from drgn.helpers.linux.list import list_for_each_entry

from common import addr, text

LONG_MAX = 0x7FFFFFFFFFFFFFFF
PIDS_MAX = 4194304 + 1


def size(pages):
    return pages.value_() * pages.prog_["PAGE_SIZE"].value_()


def limit(pages):
    # PAGE_COUNTER_MAX is LONG_MAX / PAGE_SIZE.
    value, page = size(pages), pages.prog_["PAGE_SIZE"].value_()
    return None if value >= LONG_MAX // page * page else value


def memory(css):
    group = container_of(css, "struct mem_cgroup", "css")
    return {
        "addr": addr(group),
        "usage": size(group.memory.usage.counter),
        "max": limit(group.memory.max),
        "high": limit(group.memory.high),
        "low": size(group.memory.low),
        "min": size(group.memory.min),
    }


def pids(css):
    group = container_of(css, "struct pids_cgroup", "css")
    most = group.limit.counter.value_()
    return {
        "current": group.counter.counter.value_(),
        "max": None if most >= PIDS_MAX else most,
    }


def tasks(cgroup):
    links = list_for_each_entry("struct cgrp_cset_link", cgroup.cset_links.address_of_(), "cset_link")
    return sum(link.cset.nr_tasks.value_() for link in links)


def rows(prog):
    roots = prog["cgroup_roots"].address_of_()
    memory_id, pids_id = prog["memory_cgrp_id"].value_(), prog["pids_cgrp_id"].value_()
    for root in list_for_each_entry("struct cgroup_root", roots, "root_list"):
        for css in css_for_each_descendant_pre(root.cgrp.self.address_of_()):
            cgroup = css.cgroup.read_()
            row = {
                "addr": addr(cgroup),
                "path": text(cgroup_path(cgroup)),
                "hierarchy": root.hierarchy_id.value_(),
                "level": cgroup.level.value_(),
                "tasks": tasks(cgroup),
            }
            for name, index, answer in (("memory", memory_id, memory), ("pids", pids_id, pids)):
                css = cgroup.subsys[index].read_()
                row[name] = answer(css) if css else None
            yield row

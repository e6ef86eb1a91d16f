"""Pools of workers: what they run and what waits for them."""

from drgn.helpers.linux.idr import idr_for_each_entry
from drgn.helpers.linux.list import list_for_each_entry

from common import addr


def works(head):
    return [
        {"work": addr(work), "function": addr(work.func)}
        for work in list_for_each_entry("struct work_struct", head.address_of_(), "entry")
    ]


def worker(w):
    current = None
    if w.current_work:
        current = {"work": addr(w.current_work), "function": addr(w.current_func)}
    return {
        "addr": addr(w),
        "id": w.id.value_(),
        "task": addr(w.task),
        "pid": w.task.pid.value_() if w.task else None,
        "current": current,
        "scheduled": works(w.scheduled),
    }


def rows(prog):
    for _, pool in idr_for_each_entry(prog["worker_pool_idr"].address_of_(), "struct worker_pool"):
        cpu = pool.cpu.value_()
        workers = list_for_each_entry("struct worker", pool.workers.address_of_(), "node")
        yield {
            "addr": addr(pool),
            "id": pool.id.value_(),
            "cpu": None if cpu < 0 else cpu,
            "nice": pool.attrs.nice.value_(),
            "nr_workers": pool.nr_workers.value_(),
            "nr_idle": pool.nr_idle.value_(),
            "pending": works(pool.worklist),
            "workers": [worker(w) for w in workers],
        }

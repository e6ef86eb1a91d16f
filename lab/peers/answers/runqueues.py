"""Run queues of CPUs."""

from drgn.helpers.linux.sched import (
    cfs_rq_for_each_entity,
    cpu_rq,
    rq_for_each_rt_task,
    sched_entity_to_task,
)

from common import addr, cpus


def queued(task):
    return {"task": addr(task), "pid": task.pid.value_(), "prio": task.prio.value_()}


def fair(rq):
    """Tasks in the trees of the queue, in their order: the current one is in none."""
    for entity, _, is_current, is_task in cfs_rq_for_each_entity(rq.cfs.address_of_()):
        if is_task and not is_current:
            yield queued(sched_entity_to_task(entity))


def rows(prog):
    for cpu in cpus(prog):
        rq = cpu_rq(prog, cpu)
        yield {
            "cpu": cpu,
            "addr": addr(rq),
            "current": addr(rq.curr),
            "idle": addr(rq.idle),
            "clock_ns": rq.clock.value_(),
            "nr_running": rq.nr_running.value_(),
            "nr_switches": rq.nr_switches.value_(),
            "nr_iowait": rq.nr_iowait.counter.value_(),
            "realtime": [queued(t) for t in rq_for_each_rt_task(rq)],
            "fair": list(fair(rq)),
        }

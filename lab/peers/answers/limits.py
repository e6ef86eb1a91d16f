"""Resource limits of tasks."""

from drgn.helpers.linux.resource import task_rlimits

from common import addr, tasks


def rows(prog):
    for task in tasks(prog):
        limits = task_rlimits(task).items()
        yield {
            "addr": addr(task),
            "limits": [{"name": n, "current": l.cur, "maximum": l.max} for n, l in limits],
        }

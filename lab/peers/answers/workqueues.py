"""Workqueues: their rescuers, and what they run or hold back."""

from drgn.helpers.linux.list import list_for_each_entry

from common import addr, member, string
from workers import works


def rows(prog):
    queues = prog["workqueues"].address_of_()
    for queue in list_for_each_entry("struct workqueue_struct", queues, "list"):
        active, inactive, pools = 0, [], []
        pwqs = list_for_each_entry("struct pool_workqueue", queue.pwqs.address_of_(), "pwqs_node")
        for pwq in pwqs:
            active += pwq.nr_active.value_()
            # delayed_works until 5.16.
            inactive += works(member(pwq, "inactive_works", "delayed_works"))
            pools.append(pwq.pool.id.value_())
        yield {
            "addr": addr(queue),
            "name": queue.name.string_().decode(),
            "rescuer": addr(queue.rescuer),
            "active": active,
            "inactive": inactive,
            "pools": pools,
        }

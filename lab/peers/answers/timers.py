"""Timers on the wheels."""

from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.timer import timer_base_for_each

from common import addr, cpus

TIMER_DEFERRABLE = 0x00080000
TIMER_PINNED = 0x00100000


def rows(prog):
    for cpu in cpus(prog):
        for base in per_cpu(prog["timer_bases"], cpu):
            for timer in timer_base_for_each(base.address_of_()):
                flags = timer.flags.value_()
                yield {
                    "cpu": cpu,
                    "base_addr": addr(base.address_of_()),
                    "addr": addr(timer),
                    "expires": timer.expires.value_(),
                    "function": addr(timer.function),
                    "deferrable": bool(flags & TIMER_DEFERRABLE),
                    "pinned": bool(flags & TIMER_PINNED),
                }

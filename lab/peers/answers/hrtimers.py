"""High-resolution timers."""

from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.timer import hrtimer_clock_base_for_each

from common import addr, cpus, enumerators, member


def rows(prog):
    clocks = {value: name for name, value in enumerators(prog, "enum hrtimer_base_type")}
    for cpu in cpus(prog):
        for index, clock in enumerate(per_cpu(prog["hrtimer_bases"], cpu).clock_base):
            # Until 6.17 a clock is known by the function that reads it.
            get_time = member(clock, "get_time")
            name = clocks[index] if get_time is None else prog.symbol(get_time).name
            for timer in hrtimer_clock_base_for_each(clock.address_of_()):
                yield {
                    "cpu": cpu,
                    "clock": name,
                    "clock_addr": addr(clock.address_of_()),
                    "addr": addr(timer),
                    "soft_expires_ns": timer._softexpires.value_(),
                    "expires_ns": timer.node.expires.value_(),
                    "function": addr(timer.function),
                }

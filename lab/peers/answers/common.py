"""What the subjects share: how kmortem's JSON rows write values.

Every subject is a file with `rows(prog)`: the rows that `kmortem run --json`
must give for a command, as far as drgn knows their members; or pairs of a
command line and the row that must be its answer.
"""

from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import idle_task

PF_KTHREAD = 0x00200000


class Unknown(Exception):
    """drgn can't know this of the kernel."""


def addr(pointer):
    """An address, as JSON rows hold it."""
    return hex(pointer.value_())


def text(bytes_):
    return bytes_.decode(errors="replace")


def string(pointer):
    """The text behind a char pointer; None for NULL."""
    return text(pointer.string_()) if pointer else None


def member(obj, *names):
    """The first member that this kernel has; None if it has none of them."""
    for name in names:
        try:
            return getattr(obj, name)
        except AttributeError:
            continue
    return None


def count_stopped_cpus(prog):
    """Lets drgn see every possible CPU as online.

    A panic takes the other CPUs offline, with what they counted, ran and held;
    drgn's helpers look at online CPUs only and would miss it.
    """
    online, possible = prog.symbol("__cpu_online_mask"), prog.symbol("__cpu_possible_mask")

    def read(address, count, offset, physical):
        return prog.read(possible.address + address - online.address, count)

    prog.add_memory_segment(online.address, online.size, read)


def cpus(prog):
    """Every possible CPU."""
    return list(for_each_possible_cpu(prog))


def tasks(prog):
    """All tasks with the idle ones, which are on no list of processes."""
    yield from (idle_task(prog, cpu) for cpu in cpus(prog))
    yield from (task for task in for_each_task(prog) if task.pid)


def user_tasks(prog):
    """Tasks that are no kernel threads; a zombie has no address space any more."""
    return [t for t in tasks(prog) if not t.flags.value_() & PF_KTHREAD]


def enumerators(prog, name):
    """(name, value) of an enum."""
    return [(e.name, e.value) for e in prog.type(name).enumerators]

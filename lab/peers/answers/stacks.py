"""Tasks and their stacks."""

from drgn import FaultError
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_cpu, task_state_to_char


def frames(prog, task):
    try:
        trace = prog.stack_trace(task)
    except (ValueError, FaultError) as e:
        return {"error": str(e)}
    rows = []
    for frame in trace:
        if frame.is_inline:
            continue
        try:
            symbol = frame.symbol().name
        except LookupError:
            symbol = None
        rows.append((frame.pc, symbol, frame.interrupted))
    return {"frames": rows[:256]}


def task(prog, t):
    return {
        "addr": t.value_(),
        "pid": t.pid.value_(),
        "tgid": t.tgid.value_(),
        "comm": t.comm.string_().decode(errors="replace"),
        "state": task_state_to_char(t),
        "cpu": task_cpu(t),
        "stack": frames(prog, t),
    }


def tasks(prog):
    return [task(prog, t) for t in for_each_task(prog)]

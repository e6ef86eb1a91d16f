"""Signals: handlers, what is blocked and what is pending."""

from drgn.helpers.linux.list import list_for_each_entry

from common import addr, tasks

HANDLERS = {0: "SIG_DFL", 1: "SIG_IGN", (1 << 64) - 1: "SIG_ERR"}


def mask(sigset):
    return hex(sigset.sig[0].value_())


def pending(p):
    queue = list_for_each_entry("struct sigqueue", p.list.address_of_(), "list")
    return {
        "set": mask(p.signal),
        "queue": [{"signal": q.info.si_signo.value_(), "siginfo": addr(q.info.address_of_())} for q in queue],
    }


def actions(task):
    for number, action in enumerate(task.sighand.action, 1):
        handler = action.sa.sa_handler.value_()
        yield {
            "signal": number,
            "addr": addr(action.address_of_()),
            "handler": HANDLERS.get(handler, hex(handler)),
            "mask": mask(action.sa.sa_mask),
            "flags": hex(action.sa.sa_flags.value_()),
        }


def rows(prog):
    for task in tasks(prog):
        signals = {"blocked": mask(task.blocked), "pending": pending(task.pending)}
        if task.sighand:
            signals["process"] = {
                "signal_struct": addr(task.signal),
                "threads": task.signal.nr_threads.value_(),
                "actions": list(actions(task)),
                "pending": pending(task.signal.shared_pending),
            }
        yield {"addr": addr(task), "pid": task.pid.value_(), "signals": signals}

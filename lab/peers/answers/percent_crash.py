"""drgn's own %crash commands: what crash's commands show, in columns of its own."""

import contextlib
import io

from drgn.commands import run_command
from drgn.helpers.linux.pid import find_task

LINES = """
    irq
    irq -d
    irq -b
    irq -a
    irq -s
    timer
    timer -r
    dev -i
    dev -p
    mod
    mount
    swap
    ipcs
    bpf
    net
    net -a
    runq
    runq -t
    runq -m
    runq -g
    ps
    ps -l
    ps -t
    ps -r
    sig 1
    foreach sig
    files 1
    vm 1
    log
    waitq log_wait
    kmem -f
    kmem -g
    kmem -h
    kmem -n
    kmem -o
    kmem -v
    kmem -z
    kmem -V
    sig -l
    rd -s linux_banner 8
    rd -a linux_banner
    ascii 61626364
    eval 0x1234 + 5
    btop 123456
    ptob 1e
""".strip().splitlines()


def answer(prog, line):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            run_command(prog, f"crash {line}", globals={"prog": prog})
        except Exception as e:  # noqa: BLE001: whatever it is, it is the answer
            return {"error": f"{type(e).__name__}: {e}"}
    return text.getvalue()


def context(prog):
    """The task that commands are about: the one that panicked, else init."""
    try:
        return prog.crashed_thread().object
    except LookupError:
        return find_task(prog, 1)


def answers(prog):
    prog.config["crash_context"] = context(prog)
    return {line: answer(prog, line) for line in map(str.strip, LINES)}

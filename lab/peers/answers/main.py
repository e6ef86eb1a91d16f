"""What drgn answers about a dump, as JSON: kmortem's answers are held against it.

Run by the lab:  drgn -q -c VMCORE -s VMLINUX main.py
(drgn is the judge here because it reads the distribution's own debuginfo,
which kmortem never looks at.)
"""

import importlib
import json
import sys
import traceback

import lists
import percent_crash
import stacks
import symbols
from common import Unknown, count_stopped_cpus

# Files with rows(prog): what must be in the rows of a command.
SUBJECTS = """
    bpf caches cgroups counters files free hrtimers ipc irqs limits pages requests resources runqueues
    signals slab sockets swap timers virtio vmalloc vmas waitqueues workers workqueues
""".split()


def attempt(question):
    """Where a helper fails on this kernel, its error is the answer."""
    try:
        return question(prog)
    except Exception as e:  # noqa: BLE001: whatever it is, it is the answer
        place = traceback.extract_tb(e.__traceback__)[-1]
        return {"error": f"{type(e).__name__}: {e} ({place.name}, line {place.lineno})"}


def rows(subject):
    try:
        return {"rows": list(importlib.import_module(subject).rows(prog))}
    except Unknown as why:
        return {"unknown": str(why)}


# Before the rest: stacks are of the machine as it stopped.
answers = {
    "symbols": symbols.symbols(prog),
    "types": symbols.types(prog),
    "tasks": stacks.tasks(prog),
    "log": attempt(lists.log),
    "modules": attempt(lists.modules),
    "mounts": attempt(lists.mounts),
    "netdevs": attempt(lists.netdevs),
    "disks": attempt(lists.disks),
    "slab_caches": attempt(lists.slab_caches),
}
count_stopped_cpus(prog)
answers["rows"] = {subject: attempt(lambda _: rows(subject)) for subject in SUBJECTS}
answers["percent_crash"] = attempt(percent_crash.answers)
json.dump(answers, sys.stdout)

# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the scripts that measure share: the lab, and the costs of a process."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KMORTEM = os.path.join(ROOT, "target/release/kmortem")


@dataclass
class Costs:
    """What a process took."""

    wall: float
    # CPU seconds: a busy machine hardly stretches them.
    cpu: float
    # Peak resident memory, pages of mapped files included.
    mib: float
    status: int


def lab(*args):
    """What the lab's command prints."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "kmortem-lab", "--", *args]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def peers():
    """Name of a peer program or debug kernel -> its path."""
    lines = (line.split(None, 2) for line in lab("peers").splitlines())
    return {name: path for name, _version, path in lines}


def dump(name):
    """Path of a dump: a file, or what the lab calls so."""
    return name if os.path.exists(name) else lab("path", name).split()[0]


def build():
    """kmortem as it is used."""
    command = ["cargo", "build", "--quiet", "--release", "-p", "kmortem"]
    subprocess.run(command, cwd=ROOT, check=True)


def warm(*paths):
    """Reads files, so that they are in the page cache."""
    for path in paths:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def measure(command, stdin="", limit=None, cwd=None):
    """Costs of `command`; None when it takes longer than `limit` seconds.

    GNU time starts it, because a process inherits the peak of the one that
    forks it, and Python's is larger than kmortem's. CPU seconds are the
    kernel's of GNU time and its child: its own count in steps of 10 ms.
    """
    gnu_time = shutil.which("time")
    if not gnu_time:
        sys.exit("it needs GNU time; as root: apt-get install time")
    with tempfile.NamedTemporaryFile("r") as figures:
        timed = [gnu_time, "-q", "-f", "%M", "-o", figures.name, *command]
        start = time.monotonic()
        process = subprocess.Popen(
            timed,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            # A group of its own, to end all of it.
            start_new_session=True,
        )
        late = threading.Timer(limit or 0, os.killpg, (process.pid, 9))
        if limit:
            late.start()
        try:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode < 0:
            return None
        mib = int(figures.read().split()[-1]) / 1024
    return Costs(wall, usage.ru_utime + usage.ru_stime, mib, process.returncode)


def script(text):
    """A file with a script for drgn, which reads its script twice and so not from a pipe."""
    file = tempfile.NamedTemporaryFile("w", suffix=".py")
    file.write(text)
    file.flush()
    scripts.append(file)
    return file.name


# Files that go when the program ends.
scripts = []


def best(runs, *args, **kwargs):
    """The least of several runs: other work on the machine only ever adds."""
    done = [measure(*args, **kwargs) for _ in range(runs)]
    return Costs(
        min(d.wall for d in done),
        min(d.cpu for d in done),
        max(d.mib for d in done),
        done[-1].status,
    )

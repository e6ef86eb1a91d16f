"""Makes a dump of a machine with very many tasks out of a real dump.

    drgn -q -c VMCORE -s VMLINUX crowd.py VMCORE OUTPUT COUNT

VMCORE is QEMU's or kdump's ELF dump. To its RAM a region at 4 GiB and above is
added with COUNT processes, copies of the tasks that slept when the machine
died (all of them in turn): each has a `task_struct`, a `signal_struct`, a
`struct pid` and a kernel stack of its own, with its own PID and name. They are
linked into the list of tasks (init_task.tasks) and into the first PID
namespace's table of PIDs (init_pid_ns.idr, built anew as an xarray of nodes),
the region is mapped into the direct map, so that kmortem, crash and drgn all
find them. Open files, memory and cgroups are those of the copied task.

Layouts come from the debug vmlinux, through drgn. Pages of zeros are holes in
OUTPUT: about 17 KiB a task are written.
"""

import os
import struct
import sys

from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.idr import idr_for_each
from drgn.helpers.linux.mm import follow_phys
from drgn.helpers.linux.pid import find_task
from drgn.helpers.linux.sched import task_state_to_char

PAGE = 4096
REGION = 4 << 30
FIRST_PID = 4096
# x86: present, writable, accessed, dirty, a large page, no execution.
LARGE_PAGE = 1 | 2 | 0x20 | 0x40 | 0x80 | 1 << 63


def offset(type_name, *paths):
    ty = prog.type(type_name)
    for path in paths:
        try:
            base, value = 0, ty
            for part in path.split("."):
                member = value.member(part)
                base, value = base + member.offset, member.type
                while hasattr(value, "type") and value.kind.name == "TYPEDEF":
                    value = value.type
            return base
        except LookupError:
            continue
    raise LookupError(f"{type_name} has none of {paths}")


def up(value, unit):
    return (value + unit - 1) // unit * unit


class Overlay:
    """Words of the old RAM that change: physical address -> bytes."""

    def __init__(self):
        self.words = {}

    def put(self, virtual, value):
        mm = prog["init_mm"].address_of_()
        self.words[follow_phys(mm, virtual).value_()] = struct.pack("<Q", value)

    def put_phys(self, physical, value):
        self.words[physical] = struct.pack("<Q", value)


class Template:
    """A task to copy, with the places in it and its stack that change."""

    def __init__(self, task, size, stack_size):
        self.comm = task.comm.string_().decode("utf-8", "replace")
        self.addr = task.value_()
        self.task = bytearray(prog.read(self.addr, size))
        self.stack = task.stack.value_()
        words = bytearray(prog.read(self.stack, stack_size))
        # Only what is above the stack pointer means anything.
        self.sp = task.thread.sp.value_() - self.stack
        self.from_ = self.sp // PAGE * PAGE
        self.words = words[self.from_ :]
        # Words that point into the stack itself.
        at = range(self.from_, stack_size, 8)
        value = {a: struct.unpack_from("<Q", words, a)[0] for a in at}
        self.own = [
            (a - self.from_, v - self.stack)
            for a, v in value.items()
            if 0 <= v - self.stack < stack_size
        ]
        self.signal = bytearray(prog.read(task.signal.value_(), prog.type("struct signal_struct").size))
        pid_size = prog.type("struct pid").size
        # numbers[] has one element for the first namespace.
        pid_size = max(pid_size, offset("struct pid", "numbers") + 16)
        self.pid = bytearray(prog.read(task.thread_pid.value_(), pid_size))


def templates(size, stack_size):
    found = []
    for task in list_for_each_entry(
        "struct task_struct", prog["init_task"].tasks.address_of_(), "tasks"
    ):
        sleeps = task_state_to_char(task) in "SDI" and not task.on_cpu
        first_namespace = task.thread_pid.value_() and task.thread_pid.level == 0
        if sleeps and first_namespace and task.stack.value_():
            found.append(Template(task, size, stack_size))
    return found


class Xarray:
    """The nodes of an xarray over dense indices (include/linux/xarray.h)."""

    SLOTS = 64

    def __init__(self, entries):
        self.size = prog.type("struct xa_node").size
        self.slots = offset("struct xa_node", "slots")
        self.shift = offset("struct xa_node", "shift")
        self.count = offset("struct xa_node", "count")
        self.marks = offset("struct xa_node", "tags", "marks")
        self.array = offset("struct xa_node", "array")
        levels = [entries]
        while True:
            parents = sorted({index // self.SLOTS for index in levels[-1]})
            levels.append(dict.fromkeys(parents))
            if parents == [0]:
                break
        self.levels = levels

    def nodes(self):
        return sum(len(level) for level in self.levels[1:])

    def build(self, base):
        """Bytes of all nodes, to lie at `base`; and the root's xa_head."""
        out, at, below = bytearray(), base, self.levels[0]
        xa = prog["init_pid_ns"].idr.idr_rt.address_of_().value_()
        for height, level in enumerate(self.levels[1:]):
            addresses = {index: at + n * self.size for n, index in enumerate(level)}
            made = {index: bytearray(self.size) for index in level}
            for index, value in below.items():
                node = made[index // self.SLOTS]
                struct.pack_into("<Q", node, self.slots + index % self.SLOTS * 8, value)
                node[self.count] += 1
            for index, node in made.items():
                node[self.shift] = 6 * height
                struct.pack_into("<Q", node, self.array, xa)
                out += node
            at += len(level) * self.size
            # A pointer to a node has 2 in its low bits.
            below = {index: address | 2 for index, address in addresses.items()}
        return out, below[0]


def old_pids():
    """PID -> struct pid of those that are there."""
    return {nr: entry.value_() for nr, entry in idr_for_each(prog["init_pid_ns"].idr)}


def map_region(overlay, base, length):
    """1 GiB pages in the table that maps the direct map's beginning."""
    top = prog["init_mm"].pgd.value_()
    # 4 levels have it at 0xffff8880... and above.
    five_levels = base < 0xFFFF << 48
    table = follow_phys(prog["init_mm"].address_of_(), top).value_()
    for shift in ([48, 39] if five_levels else [39]):
        entry = struct.unpack("<Q", prog.read(table + (base >> shift & 511) * 8, 8, True))[0]
        assert entry & 1, "the direct map has no table"
        table = entry & 0x000F_FFFF_FFFF_F000
    first = (base >> 30 & 511) + (REGION >> 30)
    count = up(length, 1 << 30) >> 30
    assert first + count <= 512, "the direct map begins too high in its table"
    for n in range(count):
        overlay.put_phys(table + (first + n) * 8, REGION + (n << 30) | LARGE_PAGE)


class Output:
    """An ELF core: the old one's notes and RAM, and the region."""

    def __init__(self, path, source):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.source = source

    def begin(self, overlay, length):
        old = open(self.source, "rb")
        header = bytearray(old.read(64))
        phoff, count = struct.unpack_from("<Q", header, 32)[0], struct.unpack_from("<H", header, 56)[0]
        old.seek(phoff)
        segments = [list(struct.unpack("<IIQQQQQQ", old.read(56))) for _ in range(count)]
        at = up(64 + 56 * (count + 1), PAGE)
        self.segments = []
        for segment in segments:
            kind, _, start, _, paddr, size = segment[:6]
            old.seek(start)
            segment[2] = at
            for done in range(0, size, 1 << 20):
                data = bytearray(old.read(min(1 << 20, size - done)))
                if kind == 1:
                    for phys, word in overlay.words.items():
                        if 0 <= phys - paddr - done <= len(data) - 8:
                            data[phys - paddr - done : phys - paddr - done + 8] = word
                self.write(at + done, data)
            self.segments.append(segment)
            at = up(at + size, PAGE)
        self.region = at
        self.segments.append([1, 0, at, 0, REGION, length, length, 0])
        struct.pack_into("<QQ", header, 32, 64, 0)
        struct.pack_into("<HHHHHH", header, 52, 64, 56, count + 1, 0, 0, 0)
        os.pwrite(self.file, header, 0)
        for n, segment in enumerate(self.segments):
            os.pwrite(self.file, struct.pack("<IIQQQQQQ", *segment), 64 + 56 * n)
        os.ftruncate(self.file, at + length)

    def write(self, at, data):
        """Page by page; those of zeros stay holes."""
        if data.count(0) != len(data):
            os.pwrite(self.file, data, at)

    def put(self, at, data):
        os.pwrite(self.file, data, self.region + at)


def main(source, path, count):
    task_size = up(prog.type("struct task_struct").size, 64)
    init = find_task(prog, 1)
    stack_size = init.stack_vm_area.nr_pages.value_() * PAGE
    models = templates(task_size, stack_size)
    base = prog["page_offset_base"].value_() + REGION
    signal_size = up(len(models[0].signal), 64)
    pid_size = up(len(models[0].pid), 64)

    pids = old_pids()
    numbers = []
    nr = FIRST_PID
    while len(numbers) < count:
        if nr not in pids:
            numbers.append(nr)
        nr += 1
    # The region: stacks, tasks, signals, pids, the nodes of the xarray.
    stacks = base
    tasks = up(stacks + count * stack_size, PAGE)
    signals = up(tasks + count * task_size, PAGE)
    new_pids = up(signals + count * signal_size, PAGE)
    tree = up(new_pids + count * pid_size, PAGE)
    entries = dict(pids)
    entries.update((nr, new_pids + i * pid_size) for i, nr in enumerate(numbers))
    xarray = Xarray(entries)
    nodes, head = xarray.build(tree)
    length = up(tree + len(nodes), PAGE) - base

    t = lambda *paths: offset("struct task_struct", *paths)
    at_tasks, at_pid, at_tgid, at_comm = t("tasks"), t("pid"), t("tgid"), t("comm")
    at_stack, at_sp, at_signal = t("stack"), t("thread.sp"), t("signal")
    at_thread, at_leader, at_pidp = t("thread_node"), t("group_leader"), t("thread_pid")
    at_links, at_area = t("pid_links"), t("stack_vm_area")
    try:
        at_group = t("thread_group")
    except LookupError:
        at_group = None
    at_head = offset("struct signal_struct", "thread_head")
    at_threads = offset("struct signal_struct", "nr_threads")
    at_pids = offset("struct signal_struct", "pids")
    at_chains, at_numbers = offset("struct pid", "tasks"), offset("struct pid", "numbers")

    overlay = Overlay()
    list_head = prog["init_task"].tasks.address_of_()
    last = list_head.prev.value_()
    new_first, new_last = tasks + at_tasks, tasks + (count - 1) * task_size + at_tasks
    overlay.put(last, new_first)
    overlay.put(list_head.value_() + 8, new_last)
    overlay.put(prog["init_pid_ns"].idr.idr_rt.xa_head.address_of_().value_(), head)
    map_region(overlay, base - REGION, length)
    output = Output(path, source)
    output.begin(overlay, length)

    pack = struct.pack_into
    for start in range(0, count, 1024):
        chunk = range(start, min(start + 1024, count))
        many_tasks, many_signals, many_pids = bytearray(), bytearray(), bytearray()
        for i in chunk:
            model = models[i % len(models)]
            task, signal, pid = bytearray(model.task), bytearray(model.signal), bytearray(model.pid)
            addr, own_stack = tasks + i * task_size, stacks + i * stack_size
            signal_addr, pid_addr = signals + i * signal_size, new_pids + i * pid_size
            pack("<ii", task, at_pid, numbers[i], numbers[i])
            assert at_tgid == at_pid + 4
            comm = f"{model.comm[:8]}-{i}".encode()[:15]
            task[at_comm : at_comm + 16] = comm.ljust(16, b"\0")
            before = last if i == 0 else addr - task_size + at_tasks
            after = list_head.value_() if i == count - 1 else addr + task_size + at_tasks
            pack("<QQ", task, at_tasks, after, before)
            pack("<Q", task, at_stack, own_stack)
            pack("<Q", task, at_area, 0)
            pack("<Q", task, at_sp, own_stack + model.sp)
            pack("<Q", task, at_signal, signal_addr)
            pack("<Q", task, at_leader, addr)
            pack("<Q", task, at_pidp, pid_addr)
            pack("<QQ", task, at_thread, signal_addr + at_head, signal_addr + at_head)
            if at_group is not None:
                pack("<QQ", task, at_group, addr + at_group, addr + at_group)
            pack("<QQQQ", task, at_links, 0, pid_addr + at_chains, 0, pid_addr + at_chains + 8)
            pack("<QQ", signal, at_head, addr + at_thread, addr + at_thread)
            pack("<i", signal, at_threads, 1)
            pack("<Q", signal, at_pids + 8, pid_addr)
            pack("<QQQQ", pid, at_chains, addr + at_links, addr + at_links + 16, 0, 0)
            pack("<i", pid, at_numbers, numbers[i])
            stack = bytearray(model.words)
            for at, to in model.own:
                pack("<Q", stack, at, own_stack + to)
            output.put(own_stack + model.from_ - base, stack)
            many_tasks += task.ljust(task_size, b"\0")
            many_signals += signal.ljust(signal_size, b"\0")
            many_pids += pid.ljust(pid_size, b"\0")
        output.put(tasks + start * task_size - base, many_tasks)
        output.put(signals + start * signal_size - base, many_signals)
        output.put(new_pids + start * pid_size - base, many_pids)
    output.put(tree - base, nodes)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

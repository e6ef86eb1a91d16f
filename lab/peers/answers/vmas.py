"""Address spaces of tasks and their mappings."""

from drgn.helpers.linux.fs import d_path
from drgn.helpers.linux.mm import for_each_vma

from common import addr, text, user_tasks


def mapping(vma):
    file = vma.vm_file.read_()
    row = {
        "addr": addr(vma),
        "start": hex(vma.vm_start.value_()),
        "end": hex(vma.vm_end.value_()),
        "flags": hex(vma.vm_flags.value_()),
        "pgoff": vma.vm_pgoff.value_(),
        "file": addr(file),
    }
    if file:
        # drgn does not ask d_dname for the name: it gives the file system's instead.
        name = text(d_path(file.f_path.address_of_()))
        if not name.startswith("["):
            row["name"] = name
    return row


def rows(prog):
    spaces = {}
    for task in user_tasks(prog):
        mm = task.mm.read_()
        if not mm:
            yield {"addr": addr(task), "mm": "0x0", "vmas": []}
            continue
        if mm.value_() not in spaces:
            spaces[mm.value_()] = [mapping(vma) for vma in for_each_vma(mm)]
        yield {
            "addr": addr(task),
            "pid": task.pid.value_(),
            "mm": addr(mm),
            "pgd": addr(mm.pgd),
            "total_vm_kib": mm.total_vm.value_() * prog["PAGE_SIZE"].value_() // 1024,
            "vmas": spaces[mm.value_()],
        }

"""Areas of vmalloc."""

from drgn.helpers.linux.mm import for_each_vmap_area

from common import addr


def rows(prog):
    for area in for_each_vmap_area(prog):
        vm = area.vm.read_()
        row = {
            "addr": addr(area),
            "start": hex(area.va_start.value_()),
            "end": hex(area.va_end.value_()),
        }
        if vm:
            row |= {
                "vm": addr(vm),
                "flags": hex(vm.flags.value_()),
                "pages": vm.nr_pages.value_(),
                "phys": hex(vm.phys_addr.value_()),
                "caller": addr(vm.caller),
            }
        yield row

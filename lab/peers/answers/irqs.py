"""Interrupts: descriptors, their chips, actions and counts."""

from drgn.helpers.linux.irq import for_each_irq_desc, irq_desc_chip_name, irq_desc_kstat_cpu

from common import addr, cpus, string, text


def actions(desc):
    action = desc.action
    while action:
        yield {
            "addr": addr(action),
            "name": string(action.name) or "",
            "thread": addr(action.thread),
            "dev_id": addr(action.dev_id),
            "flags": action.flags.value_(),
        }
        action = action.next


def rows(prog):
    for irq, desc in for_each_irq_desc(prog):
        chip = irq_desc_chip_name(desc)
        yield {
            "irq": irq,
            "addr": addr(desc),
            "hwirq": desc.irq_data.hwirq.value_(),
            "chip": text(chip) if chip else None,
            "actions": list(actions(desc)),
            "counts": [{"cpu": cpu, "count": irq_desc_kstat_cpu(desc, cpu)} for cpu in cpus(prog)],
            "depth": desc.depth.value_(),
            "unhandled": desc.irqs_unhandled.value_(),
        }

"""Wait queues: the log's, those of processes for their children, of pages, of kswapd."""

from drgn.helpers.linux.mmzone import for_each_online_pgdat
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.wait import waitqueue_for_each_entry

from common import addr

WQ_FLAG_EXCLUSIVE = 1


def heads(prog):
    yield prog["log_wait"].address_of_()
    for node in for_each_online_pgdat(prog):
        yield node.kswapd_wait.address_of_()
        yield node.kcompactd_wait.address_of_()
    for task in for_each_task(prog):
        if task.pid == task.tgid and task.mm:
            yield task.signal.wait_chldexit.address_of_()
    try:
        pages = prog["folio_wait_table"]
    except KeyError:
        pages = prog["page_wait_table"]
    yield from (head.address_of_() for head in pages if head.head.next != head.head.address_of_())


def entry(e):
    return {
        "addr": addr(e),
        "task": addr(e.private),
        "function": {"name": e.prog_.symbol(e.func).name},
        "exclusive": bool(e.flags.value_() & WQ_FLAG_EXCLUSIVE),
    }


def rows(prog):
    for head in heads(prog):
        entries = [entry(e) for e in waitqueue_for_each_entry(head)]
        yield f"waitq {addr(head)}", {"addr": addr(head), "entries": entries}

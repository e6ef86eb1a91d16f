"""Block requests in flight."""

from drgn.helpers.linux.block import (
    blk_rq_bytes,
    blk_rq_pos,
    disk_name,
    for_each_disk,
    op_is_write,
    req_op,
    request_queue_busy_iter,
)

from common import addr


def rows(prog):
    for disk in for_each_disk(prog):
        for request in request_queue_busy_iter(disk.queue):
            yield {
                "disk": disk_name(disk).decode(),
                "addr": addr(request),
                "hw_queue": request.mq_hctx.queue_num.value_(),
                "tag": request.tag.value_(),
                "is_write": op_is_write(req_op(request)),
                "sector": blk_rq_pos(request).value_(),
                "bytes": blk_rq_bytes(request).value_(),
                "start_ns": request.start_time_ns.value_(),
                "issued_ns": request.io_start_time_ns.value_(),
                "bio": addr(request.bio),
            }

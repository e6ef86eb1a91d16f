"""System V shared memory, semaphores and message queues."""

from drgn.helpers.linux.ipc import (
    for_each_sysv_msg_queue,
    for_each_sysv_sem_array,
    for_each_sysv_shm,
)

from common import addr

SHM_DEST, SHM_LOCKED = 0o1000, 0o2000


def common(kind, obj, perm):
    return {
        "kind": kind,
        "addr": addr(obj),
        "key": perm.key.value_() & 0xFFFFFFFF,
        "id": perm.id.value_(),
        "uid": perm.uid.val.value_(),
        "gid": perm.gid.val.value_(),
        "creator_uid": perm.cuid.val.value_(),
        "mode": perm.mode.value_() & 0o777,
    }


def pid(pointer):
    """The number that a struct pid has in the first namespace."""
    return pointer.numbers[0].nr.value_() if pointer else 0


def rows(prog):
    for shm in for_each_sysv_shm(prog):
        mode = shm.shm_perm.mode.value_()
        yield {
            **common("shared_memory", shm, shm.shm_perm),
            "bytes": shm.shm_segsz.value_(),
            "attached": shm.shm_nattch.value_(),
            "destroyed": bool(mode & SHM_DEST),
            "locked": bool(mode & SHM_LOCKED),
            "inode": addr(shm.shm_file.f_inode),
            "resident_pages": shm.shm_file.f_inode.i_mapping.nrpages.value_(),
            "creator_pid": pid(shm.shm_cprid),
            "last_pid": pid(shm.shm_lprid),
            "attach_time": shm.shm_atim.value_(),
            "detach_time": shm.shm_dtim.value_(),
            "change_time": shm.shm_ctim.value_(),
        }
    for sem in for_each_sysv_sem_array(prog):
        count = sem.sem_nsems.value_()
        yield {
            **common("semaphores", sem, sem.sem_perm),
            "count": count,
            "values": [sem.sems[i].semval.value_() for i in range(count)],
            "change_time": sem.sem_ctime.value_(),
        }
    for queue in for_each_sysv_msg_queue(prog):
        yield {
            **common("message_queue", queue, queue.q_perm),
            "bytes": queue.q_cbytes.value_(),
            "messages": queue.q_qnum.value_(),
            "limit_bytes": queue.q_qbytes.value_(),
            "last_sender_pid": pid(queue.q_lspid),
            "last_receiver_pid": pid(queue.q_lrpid),
            "send_time": queue.q_stime.value_(),
            "receive_time": queue.q_rtime.value_(),
            "change_time": queue.q_ctime.value_(),
        }

//! System V IPC: shared memory segments, semaphore arrays, message queues.
//!
//! `ipc_namespace.ids` (include/linux/ipc_namespace.h) has one `struct ipc_ids`
//! for each kind, in the order of `IPC_SEM_IDS`, `IPC_MSG_IDS`, `IPC_SHM_IDS`
//! (ipc/util.h). Its `ipcs_idr` leads to the `struct kern_ipc_perm`
//! (include/linux/ipc.h) that each object embeds.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::task::Task;
use crate::vfs::{FileLayout, InodeLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct nsproxy`, include/linux/nsproxy.h
    pub struct NsproxyIpcLayout for "nsproxy" {
        ipc_ns: u64 = "ipc_ns",
    }
}

layout! {
    /// `struct ipc_namespace`, include/linux/ipc_namespace.h
    pub struct IpcNamespaceLayout for "ipc_namespace" {
        ids: Embedded = "ids",
    }
}

layout! {
    /// `struct ipc_ids`, include/linux/ipc_namespace.h
    pub struct IpcIdsLayout for "ipc_ids" {
        in_use: i32 = "in_use",
        idr: Embedded = "ipcs_idr.idr_rt",
    }
}

layout! {
    /// `struct kern_ipc_perm`, include/linux/ipc.h
    pub struct KernIpcPermLayout for "kern_ipc_perm" {
        deleted: bool = "deleted",
        id: i32 = "id",
        key: u32 = "key",
        uid: u32 = "uid.val",
        gid: u32 = "gid.val",
        creator_uid: u32 = "cuid.val",
        mode: u32 = "mode",
    }
}

layout! {
    /// `struct shmid_kernel`, ipc/shm.c
    pub struct ShmidKernelLayout for "shmid_kernel" {
        perm: Embedded = "shm_perm",
        file: u64 = "shm_file",
        nattch: u64 = "shm_nattch",
        bytes: u64 = "shm_segsz",
        attached: i64 = "shm_atim",
        detached: i64 = "shm_dtim",
        changed: i64 = "shm_ctim",
        creator: u64 = "shm_cprid",
        last: u64 = "shm_lprid",
    }
}

layout! {
    /// `struct sem_array`, ipc/sem.c
    pub struct SemArrayLayout for "sem_array" {
        perm: Embedded = "sem_perm",
        changed: i64 = "sem_ctime",
        count: u32 = "sem_nsems",
        sems: Embedded = "sems",
    }
}

layout! {
    /// `struct sem`, ipc/sem.c
    pub struct SemLayout for "sem" {
        value: i32 = "semval",
    }
}

layout! {
    /// `struct msg_queue`, ipc/msg.c
    pub struct MsgQueueLayout for "msg_queue" {
        perm: Embedded = "q_perm",
        sent: i64 = "q_stime",
        received: i64 = "q_rtime",
        changed: i64 = "q_ctime",
        bytes: u64 = "q_cbytes",
        messages: u64 = "q_qnum",
        limit: u64 = "q_qbytes",
        last_sender: u64 = "q_lspid",
        last_receiver: u64 = "q_lrpid",
    }
}

layout! {
    /// `struct address_space`, include/linux/fs.h
    pub struct MappingPagesLayout for "address_space" {
        nrpages: u64 = "nrpages",
    }
}

layout! {
    /// `struct shmem_inode_info`, include/linux/shmem_fs.h
    pub struct ShmemInodeLayout for "shmem_inode_info" {
        swapped: u64 = "swapped",
        inode: Embedded = "vfs_inode",
    }
}

layout! {
    /// `struct pid`, include/linux/pid.h: `numbers` has a `struct upid` for each
    /// namespace, the first one's first.
    pub struct PidNumbersLayout for "pid" {
        numbers: Embedded = "numbers",
    }
}

layout! {
    /// `struct upid`, include/linux/pid.h
    pub struct UpidLayout for "upid" {
        number: i32 = "nr",
    }
}

/// `ipc_namespace.ids` (ipc/util.h).
const IPC_SEM_IDS: u64 = 0;
const IPC_MSG_IDS: u64 = 1;
const IPC_SHM_IDS: u64 = 2;
/// `SHM_DEST` and `SHM_LOCKED` (include/linux/shm.h), above the permissions.
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;
/// `SEMMSL_MAX` is 32000 unless raised at run time.
const MOST_SEMAPHORES: u32 = 1 << 20;
/// Objects of one kind (`IPCMNI_EXTEND`, ipc/util.h).
const MOST_OBJECTS: usize = 1 << 24;

/// What all three kinds have (`struct kern_ipc_perm`).
#[derive(Debug, Clone, Serialize)]
pub struct IpcPermissions {
    /// Key that programs know it by; 0: private.
    pub key: u32,
    /// ID.
    pub id: i32,
    /// User that owns it.
    pub uid: u32,
    /// Group that owns it.
    pub gid: u32,
    /// User that made it.
    pub creator_uid: u32,
    /// Permissions (`0o600`), without flags.
    pub mode: u32,
}

/// A shared memory segment.
#[derive(Debug, Clone, Serialize)]
pub struct SharedMemory {
    /// Address of its `struct shmid_kernel`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Key, ID, owner.
    #[serde(flatten)]
    pub permissions: IpcPermissions,
    /// Size in bytes.
    pub bytes: u64,
    /// Pages of the base size that it spans.
    pub pages: u64,
    /// How often it is attached.
    pub attached: u64,
    /// It goes when nobody has it attached any more.
    pub destroyed: bool,
    /// Its pages are kept from being swapped out.
    pub locked: bool,
    /// Its `struct inode`.
    #[serde(serialize_with = "hex_option")]
    pub inode: Option<u64>,
    /// Pages that it has in memory (of the base size).
    pub resident_pages: Option<u64>,
    /// Pages that it has in swap.
    pub swapped_pages: Option<u64>,
    /// PID of the process that made it.
    pub creator_pid: Option<i32>,
    /// PID that attached or detached it last.
    pub last_pid: Option<i32>,
    /// When it was last attached, seconds since 1970 (0: never).
    pub attach_time: i64,
    /// When it was last detached.
    pub detach_time: i64,
    /// When it was made or changed.
    pub change_time: i64,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// An array of semaphores.
#[derive(Debug, Clone, Serialize)]
pub struct SemaphoreArray {
    /// Address of its `struct sem_array`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Key, ID, owner.
    #[serde(flatten)]
    pub permissions: IpcPermissions,
    /// How many semaphores it has.
    pub count: u32,
    /// Their values.
    pub values: Vec<i32>,
    /// When it was made or changed, seconds since 1970.
    pub change_time: i64,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A message queue.
#[derive(Debug, Clone, Serialize)]
pub struct MessageQueue {
    /// Address of its `struct msg_queue`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Key, ID, owner.
    #[serde(flatten)]
    pub permissions: IpcPermissions,
    /// Bytes in it.
    pub bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Most bytes that it takes.
    pub limit_bytes: u64,
    /// PID that sent last.
    pub last_sender_pid: Option<i32>,
    /// PID that received last.
    pub last_receiver_pid: Option<i32>,
    /// When that was sent, seconds since 1970 (0: never).
    pub send_time: i64,
    /// When that was received.
    pub receive_time: i64,
    /// When it was made or changed.
    pub change_time: i64,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The objects of one kind, and why some may be missing.
#[derive(Debug, Clone)]
pub struct IpcObjects<T> {
    /// By index in the kernel's table.
    pub list: Vec<T>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

impl Kernel {
    /// Address of the `struct ipc_namespace` of `task`; without one, the first.
    pub fn ipc_namespace(&self, task: Option<&Task>) -> Result<u64> {
        match task {
            None => self.symbol("init_ipc_ns"),
            Some(task) => {
                let nsproxy = self.namespaces(task.addr)?;
                self.layout::<NsproxyIpcLayout>()?.ipc_ns.read(self, nsproxy)
            }
        }
    }

    /// Shared memory segments of the `struct ipc_namespace` at `namespace`.
    pub fn shared_memory(&self, namespace: u64) -> Result<IpcObjects<SharedMemory>> {
        let embedded = self.layout::<ShmidKernelLayout>()?.perm.offset()?;
        self.ipc_objects(namespace, IPC_SHM_IDS, embedded, Kernel::read_segment)
    }

    /// Semaphore arrays of the `struct ipc_namespace` at `namespace`.
    pub fn semaphores(&self, namespace: u64) -> Result<IpcObjects<SemaphoreArray>> {
        let embedded = self.layout::<SemArrayLayout>()?.perm.offset()?;
        self.ipc_objects(namespace, IPC_SEM_IDS, embedded, Kernel::read_semaphores)
    }

    /// Message queues of the `struct ipc_namespace` at `namespace`.
    pub fn message_queues(&self, namespace: u64) -> Result<IpcObjects<MessageQueue>> {
        let embedded = self.layout::<MsgQueueLayout>()?.perm.offset()?;
        self.ipc_objects(namespace, IPC_MSG_IDS, embedded, Kernel::read_queue)
    }

    /// Objects of a kind that are not deleted. `embedded` is where they have
    /// their `kern_ipc_perm`.
    fn ipc_objects<T>(
        &self,
        namespace: u64,
        kind: u64,
        embedded: u64,
        read: fn(&Kernel, u64, IpcPermissions) -> Result<T>,
    ) -> Result<IpcObjects<T>> {
        let ids = self.layout::<IpcIdsLayout>()?;
        let array = self.layout::<IpcNamespaceLayout>()?.ids.address(namespace)?;
        let at = array.wrapping_add(kind * ids.size);
        let perm_layout = self.layout::<KernIpcPermLayout>()?;
        let mut objects = IpcObjects { list: Vec::new(), gaps: Gaps::default() };
        for entry in self.xarray(ids.idr.address(at)?)?.take(MOST_OBJECTS) {
            let object = entry.and_then(|(_, perm)| {
                if perm_layout.deleted.read(self, perm)? {
                    return Ok(None);
                }
                let permissions = self.ipc_permissions(&perm_layout, perm)?;
                read(self, perm.wrapping_sub(embedded), permissions).map(Some)
            });
            objects.list.extend(objects.gaps.keep("an IPC object", object).flatten());
        }
        Ok(objects)
    }

    fn ipc_permissions(&self, layout: &KernIpcPermLayout, perm: u64) -> Result<IpcPermissions> {
        Ok(IpcPermissions {
            key: layout.key.read(self, perm)?,
            id: layout.id.read(self, perm)?,
            uid: layout.uid.read(self, perm)?,
            gid: layout.gid.read(self, perm)?,
            creator_uid: layout.creator_uid.read(self, perm)?,
            // Flags of shared memory stand above the permissions.
            mode: layout.mode.read(self, perm)?,
        })
    }

    fn read_segment(&self, addr: u64, mut permissions: IpcPermissions) -> Result<SharedMemory> {
        let layout = self.layout::<ShmidKernelLayout>()?;
        let flags = permissions.mode;
        permissions.mode &= 0o777;
        let mut gaps = Gaps::default();
        let inode = layout.file.read(self, addr).and_then(|file| match file {
            0 => Err(Error::Null("the file of a segment".into())),
            file => self.layout::<FileLayout>()?.inode.read(self, file),
        });
        let inode = gaps.keep("inode", inode);
        let pages = inode.and_then(|inode| gaps.keep("pages", self.segment_pages(inode)));
        let bytes = layout.bytes.read(self, addr)?;
        Ok(SharedMemory {
            addr,
            permissions,
            bytes,
            pages: bytes.div_ceil(self.page_size()),
            attached: layout.nattch.read(self, addr)?,
            destroyed: flags & SHM_DEST != 0,
            locked: flags & SHM_LOCKED != 0,
            inode,
            resident_pages: pages.map(|pages| pages.0),
            swapped_pages: pages.map(|pages| pages.1),
            creator_pid: gaps.keep("creator", self.pid_number(layout.creator.read(self, addr))),
            last_pid: gaps.keep("last user", self.pid_number(layout.last.read(self, addr))),
            attach_time: layout.attached.read(self, addr)?,
            detach_time: layout.detached.read(self, addr)?,
            change_time: layout.changed.read(self, addr)?,
            gaps,
        })
    }

    /// Pages of a segment's inode in memory and in swap. Those of hugetlbfs
    /// count in huge pages; the block size of the inode says how large.
    fn segment_pages(&self, inode: u64) -> Result<(u64, u64)> {
        let layout = self.layout::<InodeLayout>()?;
        let mapping = layout.mapping.read(self, inode)?;
        let pages = self.layout::<MappingPagesLayout>()?.nrpages.read(self, mapping)?;
        let sb = layout.sb.read(self, inode)?;
        if self.fs_type(sb)? == "hugetlbfs" {
            let bits = layout.block_bits.read(self, inode)?;
            let factor = 1u64.checked_shl(u32::from(bits).saturating_sub(12));
            let factor = factor.ok_or_else(|| Error::corrupt("a block size", inode))?;
            return Ok((pages.wrapping_mul(factor), 0));
        }
        let info = self.layout::<ShmemInodeLayout>()?;
        let info_at = inode.wrapping_sub(info.inode.offset()?);
        Ok((pages, info.swapped.read(self, info_at)?))
    }

    /// Number of a `struct pid`; 0 for none.
    fn pid_number(&self, pid: Result<u64>) -> Result<i32> {
        match pid? {
            0 => Ok(0),
            pid => {
                let first = self.layout::<PidNumbersLayout>()?.numbers.address(pid)?;
                self.layout::<UpidLayout>()?.number.read(self, first)
            }
        }
    }

    fn read_semaphores(&self, addr: u64, permissions: IpcPermissions) -> Result<SemaphoreArray> {
        let layout = self.layout::<SemArrayLayout>()?;
        let count = layout.count.read(self, addr)?;
        if count > MOST_SEMAPHORES {
            return Err(Error::corrupt(format!("an array of {count} semaphores"), addr));
        }
        let mut gaps = Gaps::default();
        let sem = self.layout::<SemLayout>()?;
        let first = layout.sems.address(addr)?;
        let values = (0..u64::from(count))
            .map_while(|i| {
                gaps.keep("values", sem.value.read(self, first.wrapping_add(i * sem.size)))
            })
            .collect();
        Ok(SemaphoreArray {
            addr,
            permissions,
            count,
            values,
            change_time: layout.changed.read(self, addr)?,
            gaps,
        })
    }

    fn read_queue(&self, addr: u64, permissions: IpcPermissions) -> Result<MessageQueue> {
        let layout = self.layout::<MsgQueueLayout>()?;
        let mut gaps = Gaps::default();
        Ok(MessageQueue {
            addr,
            permissions,
            bytes: layout.bytes.read(self, addr)?,
            messages: layout.messages.read(self, addr)?,
            limit_bytes: layout.limit.read(self, addr)?,
            last_sender_pid: gaps
                .keep("last sender", self.pid_number(layout.last_sender.read(self, addr))),
            last_receiver_pid: gaps
                .keep("last receiver", self.pid_number(layout.last_receiver.read(self, addr))),
            send_time: layout.sent.read(self, addr)?,
            receive_time: layout.received.read(self, addr)?,
            change_time: layout.changed.read(self, addr)?,
            gaps,
        })
    }
}

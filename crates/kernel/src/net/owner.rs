//! All sockets that processes have open, each with those who have it.

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::socket::Socket;
use crate::Kernel;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::task::Task;

/// Who has a socket open.
#[derive(Debug, Clone, Serialize)]
pub struct SocketOwner {
    /// Process ID.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// File descriptor.
    pub fd: u32,
}

/// A socket with its owners.
#[derive(Debug, Clone, Serialize)]
pub struct OwnedSocket {
    /// The socket, as its first owner has it.
    #[serde(flatten)]
    pub socket: Socket,
    /// Processes that have it open.
    pub owners: Vec<SocketOwner>,
}

impl Kernel {
    /// Each socket that a process has open. Sockets without a file (in
    /// TIME_WAIT, not yet accepted, the kernel's own) are not among them.
    pub fn all_sockets(&self) -> Result<(Vec<OwnedSocket>, Gaps)> {
        let tasks = self.tasks()?;
        let processes: Vec<&Task> =
            tasks.list.iter().filter(|task| task.is_leader() && task.mm != 0).collect();
        let found: Vec<_> = processes.par_iter().map(|task| (*task, self.sockets(task))).collect();
        let mut gaps = Gaps::default();
        let mut list: Vec<OwnedSocket> = Vec::new();
        let mut by_file: FxHashMap<u64, usize> = FxHashMap::default();
        for (task, sockets) in found {
            let Some(sockets) = gaps.keep("sockets of a process", sockets) else { continue };
            gaps.extend(sockets.gaps);
            for socket in sockets.list {
                let owner = SocketOwner { pid: task.pid, comm: task.comm.clone(), fd: socket.fd };
                let at = *by_file.entry(socket.file).or_insert_with(|| {
                    list.push(OwnedSocket { socket, owners: Vec::new() });
                    list.len() - 1
                });
                if let Some(owned) = list.get_mut(at) {
                    owned.owners.push(owner);
                }
            }
        }
        Ok((list, gaps))
    }
}

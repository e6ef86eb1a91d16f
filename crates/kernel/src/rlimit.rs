//! Resource limits of processes: `signal_struct.rlim[]`, numbered by
//! include/uapi/asm-generic/resource.h (the same on x86 and arm64).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::task::Task;
use crate::{Kernel, layout};

layout! {
    /// `struct signal_struct`: its limits
    pub struct ProcessLimitsLayout for "signal_struct" {
        rlim: Embedded = "rlim",
    }
}

layout! {
    /// `struct rlimit`, include/uapi/linux/resource.h
    pub struct RlimitLayout for "rlimit" {
        current: u64 = "rlim_cur",
        maximum: u64 = "rlim_max",
    }
}

/// `RLIMIT_*` in order.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceLimit {
    /// `RLIMIT_` and this.
    pub name: &'static str,
    /// What holds now; none: no limit.
    pub current: Option<u64>,
    /// How far the process may raise it; none: as far as it likes.
    pub maximum: Option<u64>,
}

impl Kernel {
    /// The resource limits of a task's process.
    pub fn resource_limits(&self, task: &Task) -> Result<Vec<ResourceLimit>> {
        if task.signal == 0 {
            return Err(Error::Null(format!("the limits of task {} (it is dead)", task.pid)));
        }
        let process = self.layout::<ProcessLimitsLayout>()?;
        let size = process.rlim.place()?.size;
        let first = process.rlim.address(task.signal)?;
        let entry = self.layout::<RlimitLayout>()?;
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let count = (size / entry.size.max(1)).min(NAMES.len() as u64);
        (0..count)
            .zip(NAMES)
            .map(|(i, name)| {
                let at = first.wrapping_add(i * entry.size);
                let current = finite(entry.current.read(self, at)?);
                Ok(ResourceLimit { name, current, maximum: finite(entry.maximum.read(self, at)?) })
            })
            .collect()
    }
}

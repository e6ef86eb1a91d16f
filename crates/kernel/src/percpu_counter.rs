//! `struct percpu_counter` (include/linux/percpu_counter.h): a sum that is
//! spread over the CPUs.
//!
//! `count` has what was folded in; `counters` is a per-CPU `s32` for the rest,
//! up to `percpu_counter_batch` on each CPU. A CPU's part is folded in when it
//! is unplugged (`percpu_counter_cpu_dead`), but not when a panic stops it: the
//! value is `count` plus the parts of all *possible* CPUs. The kernel's own
//! quick read (`percpu_counter_read`) is `count` alone.

use crate::error::Result;
use crate::{Kernel, layout};

layout! {
    /// `struct percpu_counter`, include/linux/percpu_counter.h
    pub struct PercpuCounterLayout for "percpu_counter" {
        count: i64 = "count",
        counters: u64 = "counters",
    }
}

impl Kernel {
    /// Exact value of the `struct percpu_counter` at `addr`.
    pub fn percpu_counter(&self, addr: u64) -> Result<i64> {
        let layout = self.layout::<PercpuCounterLayout>()?;
        let count = layout.count.read(self, addr)?;
        // Without SMP there are no parts; before percpu_counter_init, none yet.
        let counters = match layout.counters.read_if_exists(self, addr)? {
            None | Some(0) => return Ok(count),
            Some(counters) => counters,
        };
        let mut sum = count;
        for &(_, offset) in self.per_cpu_table()? {
            let part = self.read_u32(counters.wrapping_add(offset))? as i32;
            sum = sum.wrapping_add(i64::from(part));
        }
        Ok(sum)
    }
}

//! Processors and per-CPU data.
//!
//! A per-CPU variable's symbol is an offset (or, from v6.15, an address in the
//! image) to which `__per_cpu_offset[cpu]` is added: the same sum in both
//! schemes (include/asm-generic/percpu.h). After a panic the other CPUs count
//! as offline although they were running: sums go over the possible ones.

use crate::Kernel;
use crate::error::{Error, Result};

/// NR_CPUS of the largest distribution kernels is 8192.
const MOST_CPUS: u32 = 1 << 16;

impl Kernel {
    /// CPU numbers set in one of the kernel's masks ("possible", "present",
    /// "online", "active").
    pub fn cpus(&self, which: &str) -> Result<Vec<u32>> {
        let mask = self.symbol(&format!("__cpu_{which}_mask"))?;
        let bits = self.nr_cpu_ids()?;
        self.cpumask_bits(mask, bits)
    }

    /// CPU numbers set in the `struct cpumask` at `addr`.
    pub fn cpumask(&self, addr: u64) -> Result<Vec<u32>> {
        self.cpumask_bits(addr, self.nr_cpu_ids()?)
    }

    fn cpumask_bits(&self, addr: u64, bits: u32) -> Result<Vec<u32>> {
        let bytes = self.read_bytes(addr, u64::from(bits.div_ceil(64)) * 8)?;
        Ok((0..bits).filter(|cpu| bytes[(cpu / 8) as usize] >> (cpu % 8) & 1 == 1).collect())
    }

    /// CPUs that the kernel could have had: those with per-CPU data.
    pub fn possible_cpus(&self) -> Result<Vec<u32>> {
        self.cpus("possible")
    }

    /// One more than the highest possible CPU number.
    pub fn nr_cpu_ids(&self) -> Result<u32> {
        let n = match self.symbol("nr_cpu_ids") {
            Ok(addr) => self.read_u32(addr)?,
            // Kernels for a fixed number of CPUs have no variable; the mask's
            // own type tells its width.
            Err(_) => self.ty("cpumask")?.size().unwrap_or(0) as u32 * 8,
        };
        if n == 0 || n > MOST_CPUS {
            return Err(Error::corrupt(format!("nr_cpu_ids ({n})"), self.symbol("nr_cpu_ids")?));
        }
        Ok(n)
    }

    /// (CPU, what is added to a per-CPU address to reach its copy) of every
    /// possible CPU: for sums over all of them.
    pub fn per_cpu_offsets(&self) -> Result<Vec<(u32, u64)>> {
        self.per_cpu_table().map(<[_]>::to_vec)
    }

    /// The same, read once: sums over all CPUs are made for every process.
    pub(crate) fn per_cpu_table(&self) -> Result<&[(u32, u64)]> {
        let read = || self.read_per_cpu_table();
        self.per_cpu.get_or_init(read).as_deref().map_err(Clone::clone)
    }

    fn read_per_cpu_table(&self) -> Result<Vec<(u32, u64)>> {
        let table = self.symbol("__per_cpu_offset")?;
        let raw = self.read_bytes(table, u64::from(self.nr_cpu_ids()?) * 8)?;
        let word = |cpu: u32| raw.chunks_exact(8).nth(cpu as usize)?.try_into().ok();
        let offset = |cpu: u32| Some((cpu, u64::from_le_bytes(word(cpu)?)));
        Ok(self.possible_cpus()?.into_iter().filter_map(offset).collect())
    }

    /// What is added to a per-CPU symbol to reach `cpu`'s copy.
    pub fn per_cpu_offset(&self, cpu: u32) -> Result<u64> {
        if cpu >= self.nr_cpu_ids()? {
            return Err(Error::Unavailable(format!("there is no CPU {cpu}")));
        }
        self.read_u64(self.symbol("__per_cpu_offset")? + u64::from(cpu) * 8)
    }

    /// Address of `cpu`'s copy of the per-CPU symbol `name`.
    pub fn per_cpu(&self, name: &str, cpu: u32) -> Result<u64> {
        Ok(self.symbol(name)?.wrapping_add(self.per_cpu_offset(cpu)?))
    }

    /// Address of `cpu`'s copy of dynamically allocated per-CPU memory
    /// (a `__percpu` pointer read from a structure).
    pub fn per_cpu_ptr(&self, ptr: u64, cpu: u32) -> Result<u64> {
        Ok(ptr.wrapping_add(self.per_cpu_offset(cpu)?))
    }
}

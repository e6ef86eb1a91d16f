//! Rings of virtio devices: what the driver has handed over, and what the
//! device has given back.
//!
//! A split ring (virtio specification 2.7) is three arrays: descriptors of 16
//! bytes, the ring of what the driver made available { u16 flags, u16 idx, u16
//! ring[num] }, and the ring of what the device used { u16 flags, u16 idx, ... }.
//! Both indices only grow, modulo 65536. `struct vring` has their addresses and
//! number. It lies within `struct vring_virtqueue` (drivers/virtio/virtio_ring.c)
//! behind the `struct virtqueue`; where that is in a module, its types are the
//! module's, which kernels before v5.11 do not keep. Then `struct vring` is known
//! by what it holds: a power of two, and three addresses of which the second is
//! that of the first array's end.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct vring_virtqueue`, drivers/virtio/virtio_ring.c
    pub struct VringVirtqueueLayout for "vring_virtqueue" {
        queue: Embedded = "vq",
        packed: bool = "packed_ring",
        layout: u32 = "layout",     // enum vq_layout, in place of it since v7.1
        broken: bool = "broken",
        last_used: u16 = "last_used_idx",
        added: u32 = "num_added",
        number: u32 = "split.vring.num" | "vring.num", // alone until v5.1
        descriptors: u64 = "split.vring.desc" | "vring.desc",
        available: u64 = "split.vring.avail" | "vring.avail",
        used: u64 = "split.vring.used" | "vring.used",
    }
}

/// Queues have 32768 entries at most.
pub(crate) const LARGEST: u32 = 1 << 15;
/// How far behind the `struct virtqueue` its `struct vring` is sought.
const SEARCHED: u64 = 512;

/// The ring of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vring {
    /// Address of the descriptors.
    #[serde(serialize_with = "hex")]
    pub descriptors: u64,
    /// How many there are.
    pub size: u32,
    /// What the driver made available, counted modulo 65536; in a packed ring,
    /// where it adds the next.
    pub available: u16,
    /// What the device has used, counted modulo 65536; in a packed ring, where it
    /// puts the next.
    pub used: u16,
    /// What the device has not given back.
    pub outstanding: u16,
    /// What the driver has taken back, counted modulo 65536, or where it looks
    /// next in a packed ring; `None`: this kernel's types don't tell.
    pub taken_back: Option<u16>,
    /// What the device has used and the driver has not taken back; `None`: as above.
    pub not_taken: Option<u16>,
    /// What the driver added and has not told the device; `None`: as above.
    pub not_told: Option<u32>,
    /// The driver has given the queue up; `None`: as above.
    pub broken: Option<bool>,
}

impl Kernel {
    /// The ring of the `struct virtqueue` at `queue`; `None`: none can be found.
    pub fn vring(&self, queue: u64) -> Result<Option<Vring>> {
        let typed = self.layout::<VringVirtqueueLayout>().ok();
        let typed = typed.as_ref();
        if self.has_packed_ring(queue) == Some(true) {
            // Of buffers in order, the device may give back the last one only.
            return match self.is_in_order(queue) {
                true => Ok(None),
                false => self.packed_ring(queue).map(Some),
            };
        }
        let found = match typed.filter(|layout| layout.number.exists()) {
            Some(layout) => Some(layout.read(self, queue)?),
            None => self.find_split_ring(queue)?,
        };
        let Some((size, [descriptors, available, used])) = found else { return Ok(None) };
        let index = |ring: u64| Ok((self.read_u32(ring)? >> 16) as u16);
        let (available, used) = (index(available)?, index(used)?);
        let taken_back = typed.and_then(|l| l.last_used.read(self, queue).ok());
        Ok(Some(Vring {
            descriptors,
            size,
            available,
            used,
            outstanding: available.wrapping_sub(used),
            taken_back,
            not_taken: taken_back.map(|taken| used.wrapping_sub(taken)),
            not_told: typed.and_then(|l| l.added.read(self, queue).ok()),
            broken: typed.and_then(|l| l.broken.read(self, queue).ok()),
        }))
    }

    /// The `struct vring` behind the `struct virtqueue` at `queue`, without its type.
    fn find_split_ring(&self, queue: u64) -> Result<Option<(u32, [u64; 3])>> {
        let behind = self.ty("virtqueue")?.size().unwrap_or(0).next_multiple_of(8);
        let memory = self.read_bytes(queue.wrapping_add(behind), SEARCHED)?;
        let words: Vec<u64> = memory
            .chunks_exact(8)
            .map(|word| word.try_into().map(u64::from_le_bytes).unwrap_or(0))
            .collect();
        Ok(words.windows(4).find_map(split_ring))
    }

    /// Whether the queue has a packed ring; `None`: the kernel's types don't tell.
    pub(crate) fn has_packed_ring(&self, queue: u64) -> Option<bool> {
        let layout = self.layout::<VringVirtqueueLayout>().ok()?;
        if layout.packed.exists() {
            return layout.packed.read(self, queue).ok();
        }
        self.kind_of_ring(queue).map(|name| name.contains("PACKED"))
    }

    fn is_in_order(&self, queue: u64) -> bool {
        self.kind_of_ring(queue).is_some_and(|name| name.contains("IN_ORDER"))
    }

    /// The constant of `enum vq_layout`, which kernels have since v7.1.
    fn kind_of_ring(&self, queue: u64) -> Option<&str> {
        let layout = self.layout::<VringVirtqueueLayout>().ok()?;
        let kind = i64::from(layout.layout.read(self, queue).ok()?);
        let kinds = self.ty("enum vq_layout").ok()?;
        kinds.enumerators().find(|e| e.value == kind).map(|e| e.name)
    }
}

impl VringVirtqueueLayout {
    /// Number of descriptors, and the addresses of the three arrays.
    fn read(&self, kernel: &Kernel, queue: u64) -> Result<(u32, [u64; 3])> {
        let size = self.number.read(kernel, queue)?;
        if !size.is_power_of_two() || size > LARGEST {
            return Err(Error::corrupt(format!("a ring of {size} descriptors"), queue));
        }
        let arrays = [&self.descriptors, &self.available, &self.used];
        let [descriptors, available, used] = arrays.map(|array| array.read(kernel, queue));
        Ok((size, [descriptors?, available?, used?]))
    }
}

/// `struct vring` in four words: the number, and the addresses of descriptors,
/// available ring and used ring.
fn split_ring(words: &[u64]) -> Option<(u32, [u64; 3])> {
    let [number, descriptors, available, used] = *words else { return None };
    // Behind the number are 4 bytes of padding.
    let size = number as u32;
    let kernel = |addr: u64| addr >> 47 == (1 << 17) - 1 || addr >> 56 == 0xff;
    let fits = size.is_power_of_two()
        && size <= LARGEST
        && kernel(descriptors)
        && descriptors.is_multiple_of(16)
        && available == descriptors.wrapping_add(u64::from(size) * 16)
        && used > available
        && used - available < (6 + u64::from(size) * 2).next_multiple_of(1 << 16);
    fits.then_some((size, [descriptors, available, used]))
}

#[cfg(test)]
mod tests {
    use super::split_ring;

    #[test]
    fn a_ring_is_known_by_its_arrays() {
        let desc = 0xffff_8880_0100_0000u64;
        let words = [128, desc, desc + 2048, desc + 4096];
        assert_eq!(split_ring(&words), Some((128, [desc, desc + 2048, desc + 4096])));
        assert_eq!(split_ring(&[127, desc, desc + 127 * 16, desc + 4096]), None);
        assert_eq!(split_ring(&[128, desc, desc + 2064, desc + 4096]), None);
        assert_eq!(split_ring(&[128, desc, desc + 2048, desc]), None);
        assert_eq!(split_ring(&[128, 0x1000, 0x1800, 0x2000]), None);
        assert_eq!(split_ring(&[128, desc]), None);
    }
}

//! Packed rings of virtio devices (virtio specification 2.8): one array of
//! descriptors { le64 addr, le32 len, le16 id, le16 flags }, which driver and
//! device both write.
//!
//! There are no counters: a descriptor is the device's or the driver's by two of
//! its flags, AVAIL and USED. The driver sets AVAIL to its wrap counter and USED
//! to the opposite; the device answers with both alike, and with the id of the
//! buffer, one descriptor for however many that buffer had. Both counters turn
//! at the array's end. What the driver keeps (drivers/virtio/virtio_ring.c): where
//! it adds and where it looks next, and for each id what it stands for and how
//! many descriptors it has. Its own counter of the device's rounds is bit 15 of
//! `last_used_idx` (commit a7722890dcf3, in v6.0), before a member of its own.

use crate::error::{Error, Result};
use crate::virtio_ring::{LARGEST, Vring};
use crate::{Kernel, layout};

layout! {
    /// `struct vring_virtqueue`, drivers/virtio/virtio_ring.c
    pub struct PackedVirtqueueLayout for "vring_virtqueue" {
        broken: bool = "broken",
        last_used: u16 = "last_used_idx",
        added: u32 = "num_added",
        number: u32 = "packed.vring.num",
        descriptors: u64 = "packed.vring.desc",
        next_available: u16 = "packed.next_avail_idx",
        used_wrap: bool = "packed.used_wrap_counter", // until v6.0
        states: u64 = "packed.desc_state",
    }
}

layout! {
    /// `struct vring_desc_state_packed`, drivers/virtio/virtio_ring.c
    pub struct PackedStateLayout for "vring_desc_state_packed" {
        data: u64 = "data",
        number: u16 = "num",
    }
}

/// Bytes of a descriptor, and where its id and its flags are.
const DESCRIPTOR: usize = 16;
const ID: usize = 12;
const FLAGS: usize = 14;
/// `VRING_PACKED_DESC_F_AVAIL` and `_USED` (include/uapi/linux/virtio_ring.h).
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// `VRING_PACKED_EVENT_F_WRAP_CTR`: the wrap counter's bit of an index.
const WRAP: u16 = 1 << 15;

/// A place in the array, and the round in which the ring comes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Kernel {
    /// The packed ring of the `struct virtqueue` at `queue`. `available`, `used`
    /// and `taken_back` are places in it.
    pub(crate) fn packed_ring(&self, queue: u64) -> Result<Vring> {
        let layout = self.layout::<PackedVirtqueueLayout>()?;
        let size = layout.number.read(self, queue)?;
        if size == 0 || size > LARGEST {
            return Err(Error::corrupt(format!("a ring of {size} descriptors"), queue));
        }
        let last_used = layout.last_used.read(self, queue)?;
        let next = match layout.used_wrap.read_if_exists(self, queue)? {
            Some(wrap) => Place { index: last_used, wrap },
            None => Place { index: last_used & !WRAP, wrap: last_used & WRAP != 0 },
        };
        let descriptors = layout.descriptors.read(self, queue)?;
        let ring = self.read_bytes(descriptors, u64::from(size) * DESCRIPTOR as u64)?;
        let lengths = self.packed_buffers(layout.states.read(self, queue)?, size)?;
        let (unseen, used) = used_behind(&ring, &lengths, next)
            .ok_or_else(|| Error::corrupt("a packed ring's used descriptors", descriptors))?;
        let held = lengths.iter().flatten().count() as u16;
        Ok(Vring {
            descriptors,
            size,
            available: layout.next_available.read(self, queue)?,
            used: used.index,
            outstanding: held.saturating_sub(unseen),
            taken_back: Some(next.index),
            not_taken: Some(unseen),
            not_told: layout.added.read(self, queue).ok(),
            broken: layout.broken.read(self, queue).ok(),
        })
    }

    /// Of each id, how many descriptors its buffer has; `None`: it is free.
    fn packed_buffers(&self, states: u64, size: u32) -> Result<Vec<Option<u16>>> {
        let layout = self.layout::<PackedStateLayout>()?;
        let state = self.ty("vring_desc_state_packed")?.size().unwrap_or(0);
        let buffers = (0..u64::from(size)).map(|id| {
            let at = states.wrapping_add(id * state);
            Ok(match layout.data.read(self, at)? {
                0 => None,
                _ => Some(layout.number.read(self, at)?),
            })
        });
        buffers.collect()
    }
}

/// How many buffers the device has given back from `next` on, and where it is
/// now; `None`: what stands there can't be.
fn used_behind(ring: &[u8], lengths: &[Option<u16>], next: Place) -> Option<(u16, Place)> {
    let size = lengths.len() as u16;
    let word = |index: u16, at: usize| {
        let bytes = ring.get(usize::from(index) * DESCRIPTOR + at..)?.first_chunk()?;
        Some(u16::from_le_bytes(*bytes))
    };
    let (mut place, mut found) = (next, 0);
    // Not once more around: what is taken back stays marked as used.
    let mut left = size;
    while left > 0 {
        let flags = word(place.index, FLAGS)?;
        if (flags & AVAIL != 0) != place.wrap || (flags & USED != 0) != place.wrap {
            break;
        }
        let id = word(place.index, ID)?;
        let length = lengths.get(usize::from(id)).copied().flatten()?;
        left = left.checked_sub(length.max(1))?;
        place.index += length.max(1);
        if place.index >= size {
            place = Place { index: place.index - size, wrap: !place.wrap };
        }
        found += 1;
    }
    Some((found, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptors as { id, AVAIL, USED }.
    fn ring(descriptors: &[(u16, bool, bool)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, available, used) in descriptors {
            let flags = u16::from(*available) << 7 | u16::from(*used) << 15;
            bytes.extend([0; ID]);
            bytes.extend(id.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
        }
        bytes
    }

    fn at(index: u16, wrap: bool) -> Place {
        Place { index, wrap }
    }

    #[test]
    fn what_the_device_gave_back_ends_where_its_flags_do() {
        let lengths = [Some(1), Some(2), None, None];
        // The driver added 0 and 1 in the first round; the device gave 1 back, at
        // the place of the first descriptor.
        let bytes = ring(&[(1, true, true), (1, true, false), (1, true, false), (0, false, false)]);
        assert_eq!(used_behind(&bytes, &lengths, at(0, true)), Some((1, at(2, true))));
        // Nothing, as the second round sees it.
        assert_eq!(used_behind(&bytes, &lengths, at(0, false)), Some((0, at(0, false))));
    }

    #[test]
    fn the_round_ends_behind_the_last_descriptor() {
        let lengths = [Some(1), Some(2), Some(1), None];
        let bytes = ring(&[(2, true, true), (0, true, true), (0, true, true), (1, true, true)]);
        // Buffers 0 and 1 in the round that ends; 1 has a descriptor at the start
        // of the next, which is behind it.
        assert_eq!(used_behind(&bytes, &lengths, at(2, true)), Some((2, at(1, false))));
    }

    #[test]
    fn a_ring_that_is_all_used_is_gone_through_once() {
        let bytes = ring(&[(0, true, true), (1, true, true)]);
        assert_eq!(used_behind(&bytes, &[Some(1), Some(1)], at(0, true)), Some((2, at(0, false))));
    }

    #[test]
    fn damage_is_told() {
        let bytes = ring(&[(0, true, true), (1, true, true)]);
        // An id that nobody has, one beyond the ring, one too long for it.
        assert_eq!(used_behind(&bytes, &[None, Some(1)], at(0, true)), None);
        let far = ring(&[(7, true, true), (1, true, true)]);
        assert_eq!(used_behind(&far, &[Some(1), Some(1)], at(0, true)), None);
        assert_eq!(used_behind(&bytes, &[Some(3), Some(1)], at(0, true)), None);
        assert_eq!(used_behind(&bytes, &[Some(1), Some(1)], at(9, true)), None);
    }
}

//! The memory of one object, with the reason for each part that is not there.

use std::ops::Range;

use kmortem_kernel::Kernel;

/// Larger objects than this are none of the kernel's.
pub(crate) const LARGEST: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// Fills a buffer from an address, or says why not.
type ReadFn<'r> = &'r dyn Fn(u64, &mut [u8]) -> Result<(), String>;

/// An object's bytes: read from the dump, or the result of a computation.
pub(crate) struct Bytes {
    /// Where they lie; `None` for a computed value.
    addr: Option<u64>,
    data: Vec<u8>,
    /// What of them could not be read, and why. Ascending.
    holes: Vec<(Range<u64>, String)>,
}

impl Bytes {
    /// A value that lies nowhere.
    pub(crate) fn computed(data: Vec<u8>) -> Bytes {
        Bytes { addr: None, data, holes: Vec::new() }
    }

    /// Reads `size` bytes at `addr` by means of `read`, which fails for what is not in the dump:
    /// page by page where the whole can't be had.
    pub(crate) fn read_with(addr: u64, size: u64, read: ReadFn<'_>) -> Bytes {
        if size > LARGEST {
            let why = format!("an object of {size} bytes is larger than what is shown");
            return Bytes { addr: Some(addr), data: Vec::new(), holes: vec![(0..size, why)] };
        }
        let mut data = vec![0; size as usize];
        let mut holes = Vec::new();
        if read(addr, &mut data).is_err() {
            let mut done = 0;
            while done < size {
                let at = addr.wrapping_add(done);
                let end = (done + PAGE - at % PAGE).min(size);
                if let Err(why) = read(at, &mut data[done as usize..end as usize]) {
                    holes.push((done..end, why));
                }
                done = end;
            }
        }
        Bytes { addr: Some(addr), data, holes }
    }

    /// Reads `size` bytes of kernel memory.
    pub(crate) fn read(kernel: &Kernel, addr: u64, size: u64) -> Bytes {
        Bytes::read_with(addr, size, &|at, buf| kernel.read(at, buf).map_err(|e| e.to_string()))
    }

    /// Address of the byte at `offset`.
    pub(crate) fn address(&self, offset: u64) -> Option<u64> {
        Some(self.addr?.wrapping_add(offset))
    }

    /// `len` bytes at `offset`, or why they are not there.
    pub(crate) fn get(&self, offset: u64, len: u64) -> Result<&[u8], String> {
        let outside = || "outside of the object".to_owned();
        let end = offset.checked_add(len).ok_or_else(outside)?;
        let hole = self.holes.iter().find(|(hole, _)| hole.start < end && offset < hole.end);
        if let Some((_, why)) = hole {
            return Err(why.clone());
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        range.and_then(|(from, to)| self.data.get(from..to)).ok_or_else(outside)
    }

    /// Why nothing of it is there, if so.
    pub(crate) fn nothing(&self) -> Option<&str> {
        let len = self.data.len().max(1) as u64;
        let missing: u64 = self.holes.iter().map(|(hole, _)| hole.end - hole.start).sum();
        let (_, why) = self.holes.first().filter(|_| missing >= len)?;
        Some(why)
    }

    /// A little-endian integer of up to 16 bytes at `offset`.
    pub(crate) fn integer(&self, offset: u64, len: u64) -> Result<u128, String> {
        let bytes = self.get(offset, len.min(16))?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }

    /// `width` bits from bit `offset` on, counted as little-endian machines do.
    pub(crate) fn bits(&self, offset: u64, width: u32) -> Result<u128, String> {
        let (first, last) = (offset / 8, (offset + u64::from(width.max(1)) - 1) / 8);
        let unit = self.integer(first, (last - first + 1).min(16))?;
        let mask = 1_u128.checked_shl(width).map_or(u128::MAX, |bit| bit - 1);
        Ok(unit >> (offset % 8) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_missing_costs_its_own_bytes() {
        let read = |at: u64, buf: &mut [u8]| {
            let bad = at < 0x3000 && at + buf.len() as u64 > 0x2000;
            buf.fill(7);
            if bad { Err("filtered".to_owned()) } else { Ok(()) }
        };
        let bytes = Bytes::read_with(0x1ff0, 0x1020, &read);
        assert_eq!(bytes.get(0, 0x10), Ok([7; 16].as_slice()));
        assert_eq!(bytes.get(0xf, 2), Err("filtered".to_owned()));
        assert_eq!(bytes.integer(0x1010, 2), Ok(0x707));
        assert!(bytes.get(0x1020, 1).is_err());
        assert!(Bytes::read_with(0, u64::MAX, &read).get(0, 1).is_err());
    }

    #[test]
    fn bitfields_may_cross_bytes() {
        let bytes = Bytes::computed(vec![0b1010_0000, 0b0000_0011]);
        assert_eq!(bytes.bits(5, 5), Ok(0b11101));
        assert_eq!(bytes.bits(0, 1), Ok(0));
    }
}

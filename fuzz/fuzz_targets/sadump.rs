//! Any bytes behind the header of sadump's partition, alone or as the first disk of a set.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

/// A partition header that is right: the rest is not looked at with a wrong one.
fn partition(disk: u8) -> Vec<u8> {
    let mut header = b"sadump\0\0".to_vec();
    header.resize(168, 0);
    header[152] = disk;
    header[161] = 0xff;
    let mut magic = 1u32;
    while header.len() < 4096 {
        header.extend(magic.to_le_bytes());
        magic = magic.wrapping_add(7).wrapping_mul(11);
    }
    header
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let first = |disk| [partition(disk), rest.to_vec()].concat();
    match kind % 3 {
        0 => image::check(first(0)),
        1 => image::check_all(vec![first(1), [partition(2), vec![0x5a; 16384]].concat()]),
        _ => image::check([vec![0; 48], vec![1], vec![0; 4047], first(0)].concat()),
    }
});

//! x86_64.

pub mod active;
pub mod exceptions;
mod height;
pub(crate) mod last_call;
pub mod locate;
pub mod mapped;
pub mod paging;
pub mod registers;
pub mod stacks;
pub mod unwind;

/// `__START_KERNEL_map`: where the kernel's image is linked to
/// (arch/x86/include/asm/page_64_types.h).
pub const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// End of the range in which KASLR may place the image; modules follow
/// (`KERNEL_IMAGE_SIZE` with KASLR, arch/x86/include/asm/page_64_types.h).
pub const KERNEL_IMAGE_SIZE: u64 = 1 << 30;
/// Page size of the hardware's smallest page.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes that are pushed at `ip` in the function that starts at `entry`.
#[cfg(fuzzing)]
pub(crate) fn stack_height(
    entry: u64,
    ip: u64,
    read: impl Fn(u64, &mut [u8; 15]) -> Option<usize>,
) -> Option<i64> {
    height::count(entry, ip, read).map(|height| height.pushed)
}

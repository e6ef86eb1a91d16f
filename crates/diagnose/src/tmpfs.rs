//! How much the mounted tmpfs hold.
//!
//! `struct shmem_sb_info` (include/linux/shmem_fs.h) counts the blocks (pages)
//! of a tmpfs in `used_blocks`, a percpu_counter; the kernel only counts where
//! the mount has a size limit, which is the default. It hangs on
//! `super_block.s_fs_info`.

use kmortem_kernel::layout;
use kmortem_kernel::layout::Embedded;

use crate::case::Case;

layout! {
    /// `struct super_block`, include/linux/fs.h
    struct SuperLayout for "super_block" {
        fs_info: u64 = "s_fs_info",
    }
}

layout! {
    /// `struct shmem_sb_info`, include/linux/shmem_fs.h
    struct ShmemLayout for "shmem_sb_info" {
        used_blocks: Embedded = "used_blocks",
    }
}

/// A mounted tmpfs.
pub(crate) struct TmpfsUse {
    /// Where it is mounted.
    pub(crate) path: String,
    /// What its files hold.
    pub(crate) bytes: u64,
}

/// The mounted tmpfs that hold anything, the largest first.
pub(crate) fn largest_mounts(case: &Case<'_>) -> Vec<TmpfsUse> {
    let Some(kernel) = case.kernel() else { return Vec::new() };
    // The crashed task may see mounts that init does not.
    let mounts = match &case.crashed {
        Some(c) if c.task.mm != 0 => kernel.mounts_of(&c.task).or_else(|_| kernel.mounts()),
        _ => kernel.mounts(),
    };
    let (Ok(mounts), Ok(sb_layout), Ok(shmem)) =
        (mounts, kernel.layout::<SuperLayout>(), kernel.layout::<ShmemLayout>())
    else {
        return Vec::new();
    };
    let size = kernel.page_size();
    let mut seen = Vec::new();
    let mut found: Vec<TmpfsUse> = mounts
        .list
        .iter()
        .filter(|m| m.fs_type.as_deref() == Some("tmpfs"))
        .filter_map(|m| {
            let sb = m.super_block?;
            if seen.contains(&sb) {
                return None;
            }
            seen.push(sb);
            let info = sb_layout.fs_info.read(kernel, sb).ok()?;
            let used = kernel.percpu_counter(shmem.used_blocks.address(info).ok()?).ok()?;
            let bytes = u64::try_from(used).ok()? * size;
            (bytes > 0).then(|| TmpfsUse { path: m.path.clone().unwrap_or_default(), bytes })
        })
        .collect();
    found.sort_by_key(|m| std::cmp::Reverse(m.bytes));
    found
}

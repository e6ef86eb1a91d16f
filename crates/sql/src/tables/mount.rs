//! `mounts`: the file systems of the first task's mount namespace.

use kmortem_kernel::Kernel;
use kmortem_kernel::vfs::Mount;

use crate::cell::{hex, hex_option, list};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const MOUNTS: Table<Mount> = Table {
    name: "mounts",
    doc: "a mounted file system, as PID 1 sees it",
    columns: &[
        Column::address("addr", "its `struct mount`", |_, m| hex(m.addr)),
        Column::address("vfsmount", "the `struct vfsmount` in it", |_, m| hex(m.vfsmount)),
        Column::address("super_block", "its `struct super_block`", |_, m| {
            hex_option(m.super_block)
        }),
        Column::integer("id", "as in /proc/PID/mountinfo", |_, m| m.id.into()),
        Column::text("fs_type", "type of file system", |_, m| m.fs_type.as_deref().into()),
        Column::text("device", "what is mounted", |_, m| m.device.as_deref().into()),
        Column::text("dev", "its device number, major:minor", |_, m| {
            m.dev.map(|(major, minor)| format!("{major}:{minor}")).into()
        }),
        Column::text("path", "where", |_, m| m.path.as_deref().into()),
        Column::text("options", "options of the mount", |_, m| list(&m.options)),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, Mount>) -> Result<(), FillError> {
    let mounts = kernel.mounts()?;
    rows.gaps(&mounts.gaps);
    for mount in &mounts.list {
        rows.gaps(&mount.gaps);
        rows.push(mount)?;
    }
    Ok(())
}

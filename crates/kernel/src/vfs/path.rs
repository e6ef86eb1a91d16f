//! Path names, as the kernel's `d_path` (fs/d_path.c) makes them.
//!
//! From a dentry upwards: names are joined until the root of the file system
//! (`vfsmount.mnt_root`), then the walk goes on at the mount point in the
//! parent mount, until a mount that is its own parent. Pipes, sockets and
//! their like are in no tree of names; their file systems make the name up
//! (`dentry_operations.d_dname`).

use std::sync::Arc;

use super::{DentryLayout, InodeLayout, MountLayout, VfsmountLayout};
use crate::error::{Error, Result};
use crate::layout::CString;
use crate::{Kernel, layout};

layout! {
    /// `struct dentry_operations`, include/linux/dcache.h
    pub struct DentryOperationsLayout for "dentry_operations" {
        dname: u64 = "d_dname",
    }
}

layout! {
    /// `struct ns_common`, include/linux/ns_common.h: what an inode of nsfs
    /// has as its `i_private`.
    pub struct NsCommonLayout for "ns_common" {
        ops: u64 = "ops",
        inum: u32 = "inum",
    }
}

layout! {
    /// `struct proc_ns_operations`, include/linux/proc_ns.h
    pub struct ProcNsOperationsLayout for "proc_ns_operations" {
        name: CString = "name",
    }
}

/// No path is longer in names (PATH_MAX is 4096 bytes per system call, but
/// trees may be deeper) ...
const MOST_STEPS: usize = 1 << 14;
/// ... or in bytes.
const LONGEST: usize = 1 << 16;
/// Most bytes of one name: NAME_MAX is 255, made-up names may be longer.
const LONGEST_NAME: u32 = 4096;

/// The links that a path is made of.
trait Tree {
    /// Root dentry of the file system that is mounted.
    fn root(&self, vfsmount: u64) -> Result<u64>;
    /// Mount and dentry that it is mounted on. `None`: the topmost mount.
    fn mounted_on(&self, vfsmount: u64) -> Result<Option<(u64, u64)>>;
    /// The directory that a dentry is in; a root is its own parent.
    fn parent(&self, dentry: u64) -> Result<u64>;
    /// Its last name.
    fn name(&self, dentry: u64) -> Result<String>;
}

/// Joins the names from the topmost mount down to `dentry`. A dentry that is
/// not below its mount's root was renamed out of a bind mount: its path begins
/// with "(unreachable)", as the kernel writes it.
fn join(tree: &impl Tree, mut vfsmount: u64, mut dentry: u64) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut prefix = "";
    for _ in 0..MOST_STEPS {
        if dentry == tree.root(vfsmount)? {
            match tree.mounted_on(vfsmount)? {
                Some(place) => (vfsmount, dentry) = place,
                None => return Ok(text(prefix, &names)),
            }
            continue;
        }
        let parent = tree.parent(dentry)?;
        if parent == dentry {
            prefix = "(unreachable)";
            return Ok(text(prefix, &names));
        }
        let name = tree.name(dentry).map_err(|e| lost(&names, &e))?;
        bytes += name.len() + 1;
        if bytes > LONGEST {
            break;
        }
        names.push(name);
        dentry = parent;
    }
    Err(Error::Loop { what: "a path".into(), addr: dentry })
}

fn text(prefix: &str, names: &[String]) -> String {
    let mut path = prefix.to_owned();
    for name in names.iter().rev() {
        path.push('/');
        path.push_str(name);
    }
    if path.len() == prefix.len() {
        path.push('/');
    }
    path
}

/// The known end of a path helps even when its start can't be read.
fn lost(names: &[String], error: &Error) -> Error {
    match names {
        [] => error.clone(),
        _ => Error::Unavailable(format!("only its end {} is known: {error}", text("...", names))),
    }
}

/// The tree in the dump.
struct Dump<'k> {
    kernel: &'k Kernel,
    mount: Arc<MountLayout>,
    vfsmount: Arc<VfsmountLayout>,
    dentry: Arc<DentryLayout>,
}

impl Tree for Dump<'_> {
    fn root(&self, vfsmount: u64) -> Result<u64> {
        self.vfsmount.root.read(self.kernel, vfsmount)
    }

    fn mounted_on(&self, vfsmount: u64) -> Result<Option<(u64, u64)>> {
        let mount = vfsmount.wrapping_sub(self.mount.mnt.offset()?);
        let parent = self.mount.parent.read(self.kernel, mount)?;
        if parent == mount {
            return Ok(None);
        }
        if parent == 0 {
            return Err(Error::Null("the parent of a mount".into()));
        }
        let point = self.mount.mountpoint.read(self.kernel, mount)?;
        Ok(Some((self.mount.mnt.address(parent)?, point)))
    }

    fn parent(&self, dentry: u64) -> Result<u64> {
        match self.dentry.parent.read(self.kernel, dentry)? {
            0 => Err(Error::Null("the parent of a dentry".into())),
            parent => Ok(parent),
        }
    }

    fn name(&self, dentry: u64) -> Result<String> {
        let len = self.dentry.name_len.read(self.kernel, dentry)?;
        if len > LONGEST_NAME {
            return Err(Error::corrupt(format!("a name of {len} bytes"), dentry));
        }
        let name = self.dentry.name.read(self.kernel, dentry)?;
        let bytes = self.kernel.read_bytes(name, u64::from(len))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Kernel {
    fn names(&self) -> Result<Dump<'_>> {
        Ok(Dump {
            kernel: self,
            mount: self.layout()?,
            vfsmount: self.layout()?,
            dentry: self.layout()?,
        })
    }

    /// Path of `dentry` in the mount whose `struct vfsmount` is at `vfsmount`,
    /// from the root of its namespace.
    pub fn path(&self, vfsmount: u64, dentry: u64) -> Result<String> {
        if vfsmount == 0 || dentry == 0 {
            return Err(Error::Null("a path".into()));
        }
        let tree = self.names()?;
        if let Some(name) = self.made_up_name(&tree, vfsmount, dentry)? {
            return Ok(name);
        }
        join(&tree, vfsmount, dentry)
    }

    /// Path of `dentry` from the root of its file system, where that is not
    /// mounted.
    pub(super) fn path_unmounted(&self, dentry: u64) -> Result<String> {
        let tree = self.names()?;
        let mut names = Vec::new();
        let mut at = dentry;
        for _ in 0..MOST_STEPS {
            let parent = tree.parent(at)?;
            if parent == at {
                return Ok(text("", &names));
            }
            names.push(tree.name(at)?);
            at = parent;
        }
        Err(Error::Loop { what: "a path".into(), addr: at })
    }

    /// Whether the name of `dentry` is gone (`d_unlinked`: not hashed, and no
    /// root).
    pub fn is_deleted(&self, dentry: u64) -> Result<bool> {
        let layout = self.layout::<DentryLayout>()?;
        let unhashed = layout.hashed.read(self, dentry)? == 0;
        Ok(unhashed && layout.parent.read(self, dentry)? != dentry)
    }

    /// The name that a file system without names gives (`d_dname`).
    fn made_up_name(&self, tree: &Dump, vfsmount: u64, dentry: u64) -> Result<Option<String>> {
        let op = tree.dentry.op.read(self, dentry)?;
        if op == 0 {
            return Ok(None);
        }
        let dname = self.layout::<DentryOperationsLayout>()?.dname.read(self, op)?;
        if dname == 0 {
            return Ok(None);
        }
        // A root that something is mounted from has a place in the tree.
        if tree.parent(dentry)? == dentry && tree.root(vfsmount)? == dentry {
            return Ok(None);
        }
        let layout = self.layout::<InodeLayout>()?;
        let inode = tree.dentry.inode.read(self, dentry)?;
        let ino = || layout.ino.read(self, inode);
        let maker = self.symbol_at(dname).map(|s| s.name).unwrap_or_default();
        Ok(Some(match maker.as_str() {
            "pipefs_dname" => format!("pipe:[{}]", ino()?),
            "sockfs_dname" => format!("socket:[{}]", ino()?),
            "anon_inodefs_dname" => format!("anon_inode:{}", tree.name(dentry)?),
            "pidfs_dname" => "anon_inode:[pidfd]".to_owned(),
            "dmabuffs_dname" => format!("/dmabuf:{}", tree.name(dentry)?),
            "ns_dname" => {
                let ns = layout.private.read(self, inode)?;
                let ops = self.layout::<NsCommonLayout>()?.ops.read(self, ns)?;
                let kind = self.layout::<ProcNsOperationsLayout>()?.name.read(self, ops)?;
                format!("{kind}:[{}]", ino()?)
            }
            // simple_dname and those that follow its way.
            _ => format!("/{}", tree.name(dentry)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Dentries: (parent, name); mounts: (root, mounted on).
    #[derive(Default)]
    struct Synthetic {
        dentries: HashMap<u64, (u64, &'static str)>,
        mounts: HashMap<u64, (u64, Option<(u64, u64)>)>,
    }

    fn absent(addr: u64) -> Error {
        Error::corrupt("nothing", addr)
    }

    impl Tree for Synthetic {
        fn root(&self, mount: u64) -> Result<u64> {
            self.mounts.get(&mount).map(|m| m.0).ok_or_else(|| absent(mount))
        }
        fn mounted_on(&self, mount: u64) -> Result<Option<(u64, u64)>> {
            self.mounts.get(&mount).map(|m| m.1).ok_or_else(|| absent(mount))
        }
        fn parent(&self, dentry: u64) -> Result<u64> {
            self.dentries.get(&dentry).map(|d| d.0).ok_or_else(|| absent(dentry))
        }
        fn name(&self, dentry: u64) -> Result<String> {
            let name = self.dentries.get(&dentry).map(|d| d.1.to_owned());
            name.filter(|n| *n != "?").ok_or_else(|| absent(dentry))
        }
    }

    /// `/` is mount 1 with /var (11) and /var/log (12); mount 2 lies on
    /// /var/log and has its own app/out (22).
    fn sample() -> Synthetic {
        Synthetic {
            dentries: HashMap::from([
                (10, (10, "/")),
                (11, (10, "var")),
                (12, (11, "log")),
                (20, (20, "/")),
                (21, (20, "app")),
                (22, (21, "out")),
            ]),
            mounts: HashMap::from([(1, (10, None)), (2, (20, Some((1, 12))))]),
        }
    }

    #[test]
    fn joins_names_across_mounts() {
        let tree = sample();
        assert_eq!(join(&tree, 1, 10).ok().as_deref(), Some("/"));
        assert_eq!(join(&tree, 1, 12).ok().as_deref(), Some("/var/log"));
        assert_eq!(join(&tree, 2, 20).ok().as_deref(), Some("/var/log"));
        assert_eq!(join(&tree, 2, 22).ok().as_deref(), Some("/var/log/app/out"));
    }

    #[test]
    fn a_bind_mount_shows_its_part_of_the_file_system_only() {
        let mut tree = sample();
        tree.mounts.insert(3, (21, Some((1, 11))));
        assert_eq!(join(&tree, 3, 22).ok().as_deref(), Some("/var/out"));
        // 20 is above the bind mount's root.
        assert_eq!(join(&tree, 3, 20).ok().as_deref(), Some("(unreachable)/"));
    }

    #[test]
    fn loops_end() {
        let mut tree = sample();
        tree.dentries.insert(11, (12, "var"));
        assert!(matches!(join(&tree, 1, 12), Err(Error::Loop { .. })));
        let mut tree = sample();
        tree.mounts.insert(1, (10, Some((2, 20))));
        assert!(matches!(join(&tree, 2, 22), Err(Error::Loop { .. })));
    }

    #[test]
    fn an_unreadable_name_leaves_the_known_end() {
        let mut tree = sample();
        tree.dentries.insert(11, (10, "?"));
        let reason = join(&tree, 2, 22).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(reason.starts_with("only its end .../log/app/out is known: "), "{reason}");
    }
}

//! Keeping the node daemon inside of its directory, whatever workers leave there.
//!
//! Workers write below the base directory: they have to, their sandboxes live there. A worker that somebody has taken
//! over may replace a directory by a link to `/etc`, in the moment between two steps of the daemon, and no check of
//! the daemon can come between. So the kernel is told, once, that the daemon follows no link there at all.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind_recursive, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::layout::{at, make_private_dir};

/// Lets this thread, and those that it starts from now on, follow no symbolic link below `base`, which is made if
/// need be. Whoever meets one gets `ELOOP`; links can be made and read. Other processes see nothing of it.
///
/// To be called before a runtime starts its threads. A link on the way to `base` is followed, and so is one in a file
/// system that is mounted somewhere below it.
///
/// # Errors
/// Without the right to mount, or with a kernel before 5.10.
pub fn refuse_links(base: &Path) -> io::Result<()> {
    make_private_dir(base)?;
    let base = base.canonicalize().map_err(|error| at(base, error))?;
    let confine = || -> rustix::io::Result<()> {
        // SAFETY: mounts of its own affect neither the memory nor the open files of this thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
        // What the machine mounts later is seen here, and nothing of what is mounted here is seen there.
        let hears = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", hears)?;
        let kept = kept(statvfs(&base)?.f_flag);
        mount_bind_recursive(&base, &base)?;
        mount_remount(&base, MountFlags::BIND | MountFlags::NOSYMFOLLOW | kept, "")
    };
    confine().map_err(|error| at(&base, error.into()))
}

/// What a mount is told already, which a remount would take back.
fn kept(flags: StatVfsMountFlags) -> MountFlags {
    let same = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
    ];
    let set = same.into_iter().filter(|(has, _)| flags.contains(*has));
    set.map(|(_, keep)| keep).collect()
}

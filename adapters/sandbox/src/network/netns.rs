//! Named network namespaces: a file below `/run/netns` that a namespace is mounted on, the convention of
//! `ip netns`, which can therefore show and repair them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::netlink::Netlink;
use crate::layout::at;

const RUN_NETNS: &str = "/run/netns";

/// `NSFS_MAGIC` of `linux/magic.h`: what a namespace file's file system calls itself.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A namespace that is there.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    file: File,
}

/// Where a namespace of that name is mounted.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(RUN_NETNS).join(name)
}

impl Netns {
    /// Makes a namespace, or adopts the one of that name: after a restart in place the old one is as good
    /// as new, and may still be in use by the sandbox of the previous incarnation.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        if let Some(existing) = Self::open(name)? {
            return Ok(existing);
        }
        let path = path(name);
        fs::create_dir_all(RUN_NETNS).map_err(|error| at(Path::new(RUN_NETNS), error))?;
        File::create(&path).map_err(|error| at(&path, error))?;
        let target = path.clone();
        // Only a thread of its own may leave the namespace: everything else of this process stays.
        let made = in_new_thread(move || {
            // SAFETY: leaving a network namespace affects neither memory nor open files.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
            mount_bind("/proc/thread-self/ns/net", &target)?;
            Ok(())
        });
        if let Err(error) = made {
            let _ = fs::remove_file(&path);
            return Err(at(&path, error));
        }
        Self::open(name)?.ok_or_else(|| {
            at(
                &path,
                io::Error::other("is no namespace after mounting one there"),
            )
        })
    }

    /// The namespace of that name; `None` when nothing, or a leftover plain file, is there.
    pub(crate) fn open(name: &str) -> io::Result<Option<Self>> {
        let path = path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, error)),
        };
        let is_namespace = statfs(&path)?.f_type as u64 == NSFS_MAGIC;
        Ok(is_namespace.then_some(Self { path, file }))
    }

    /// Removes the namespace of that name; it is fine when there is none. The kernel drops it, and its
    /// links, once the last process in it is gone.
    pub(crate) fn remove(name: &str) -> io::Result<()> {
        let path = path(name);
        while Self::open(name)?.is_some() {
            unmount(&path, UnmountFlags::DETACH).map_err(|error| at(&path, error.into()))?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// A route socket of this namespace.
    pub(crate) fn netlink(&self) -> io::Result<Netlink> {
        let file = self.file.try_clone()?;
        in_new_thread(move || {
            enter(&file)?;
            Netlink::open()
        })
    }
}

/// Moves the calling thread into a namespace, for good.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    use std::os::fd::AsFd;
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Hides `/proc/sys/net` in a mount namespace of its own. For use between fork and exec.
///
/// runsc up to 20240729 takes the presence of `/proc/sys/net/core/rmem_default` for proof that it runs in
/// the machine's own network namespace, and refuses; kernels since 6.x show that file in every namespace.
pub(crate) fn hide_proc_sys_net() -> io::Result<()> {
    // SAFETY: between fork and exec the child has one thread, and shares no memory that depends on its mounts.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(
        "none",
        "/proc/sys/net",
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )?;
    Ok(())
}

fn in_new_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("netns".into()).spawn(work)?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
}

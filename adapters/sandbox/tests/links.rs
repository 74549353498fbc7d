//! Links that a worker plants where the node daemon works. Needs root.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use holdfast_sandbox::bundle::{ContainerConfig, write_container, write_identity, write_pause};
use holdfast_sandbox::confinement::refuse_links;
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::{ActorRef, Label};

/// What the daemon does for an actor, as far as directories and files are concerned.
fn lay_out(dirs: &ActorDirs, actor: &ActorRef) -> Result<(), Box<dyn std::error::Error>> {
    dirs.reset()?;
    let rootfs = dirs.rootfs("main");
    fs::create_dir_all(&rootfs)?;
    // As many images have it.
    fs::create_dir_all(rootfs.join("var/run"))?;
    symlink("/var/run", rootfs.join("run"))?;
    write_files(dirs, actor)
}

fn write_files(dirs: &ActorDirs, actor: &ActorRef) -> Result<(), Box<dyn std::error::Error>> {
    write_identity(dirs, actor)?;
    write_pause(dirs, Path::new("/netns"), &[])?;
    let container = ContainerConfig {
        name: Label::container("main")?,
        command: vec!["/x".into()],
        env: vec![],
        durable_mounts: vec![(Label::parse("volume", "data")?, "/data".into())],
    };
    write_container(dirs, Path::new("/netns"), &container)?;
    Ok(())
}

/// A directory of somebody else, and what has become of it.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bundles", "identity", "restore-state", "runsc-state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("precious"), "precious").unwrap();
        }
        fs::write(dir.path().join("file"), "precious").unwrap();
        Self(dir)
    }

    fn state(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let mut left = vec![self.0.path().to_owned()];
        while let Some(path) = left.pop() {
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.path().display().to_string();
                if entry.file_type().unwrap().is_dir() {
                    left.push(entry.path());
                    files.push((name, "a directory".to_owned()));
                } else {
                    files.push((name, fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

fn replace_by_link(path: &Path, target: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
    symlink(target, path).unwrap();
}

/// Whether a link was met: `ELOOP`, which passes through what names the path.
fn is_refused(error: &io::Error) -> bool {
    error.to_string().contains("Too many levels of symbolic links")
}

/// Runs `work` on a thread that follows no link below `base`.
fn confined<T: Send>(base: &Path, work: impl FnOnce() -> T + Send) -> T {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            refuse_links(base).unwrap();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn actor() -> ActorRef {
    ActorRef::parse("ns", "t", "a")
        .unwrap()
        .within(Some("team"))
        .unwrap()
}

#[test]
fn a_daemon_that_follows_no_links_works_as_ever_where_there_are_none() {
    let base = tempfile::tempdir().unwrap();
    let dirs = Layout::new(base.path()).actor(&actor());
    confined(base.path(), || {
        lay_out(&dirs, &actor()).unwrap();
        lay_out(&dirs, &actor()).unwrap();
    });
    // Others see what it has made, and nothing of its mount.
    assert!(dirs.rootfs("main").join("var/run/ate").is_dir());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(base.path().to_str().unwrap()));
}

#[test]
fn whatever_a_worker_replaces_by_a_link_nothing_outside_is_read_written_or_removed() {
    let places: [(&str, &str); 8] = [
        ("actors", ""),
        ("actors/team", ""),
        ("actors/team/ns:t:a", ""),
        ("actors/team/ns:t:a/identity", "identity"),
        ("actors/team/ns:t:a/identity/actor-id", "file"),
        ("actors/team/ns:t:a/bundles", "bundles"),
        ("actors/team/ns:t:a/bundles/main", ""),
        ("actors/team/ns:t:a/bundles/main/config.json", "file"),
    ];
    for (place, target) in places {
        let base = tempfile::tempdir().unwrap();
        let dirs = Layout::new(base.path()).actor(&actor());
        let victim = Victim::new();
        let before = victim.state();
        let planted = base.path().join(place);
        let (emptied, has_written) = confined(base.path(), || {
            lay_out(&dirs, &actor()).unwrap();
            replace_by_link(&planted, &victim.0.path().join(target));
            // A worker may be faster than any step.
            let has_written = write_files(&dirs, &actor()).is_ok();
            (dirs.reset(), has_written)
        });
        assert_eq!(victim.state(), before, "{place}");
        // Some links are simply taken away, as what is left of the actor before.
        if let Err(error) = emptied {
            let is_in_the_way = error.kind() == io::ErrorKind::AlreadyExists;
            assert!(is_refused(&error) || is_in_the_way, "{place}: {error}");
        }
        assert!(!has_written, "{place}");
    }
}

#[test]
fn files_behind_planted_links_cannot_be_read() {
    let base = tempfile::tempdir().unwrap();
    let dirs = Layout::new(base.path()).actor(&actor());
    let victim = Victim::new();
    confined(base.path(), || {
        dirs.reset().unwrap();
        let image = dirs.checkpoint_state().join("checkpoint.img");
        symlink(victim.0.path().join("file"), &image).unwrap();
        let error = fs::read(&image).unwrap_err();
        assert!(is_refused(&error), "{error}");
        replace_by_link(&dirs.checkpoint_state(), &victim.0.path().join("bundles"));
        let error = fs::read(dirs.checkpoint_state().join("precious")).unwrap_err();
        assert!(is_refused(&error), "{error}");
    });
    // The test can tell: without it both are read.
    assert_eq!(
        fs::read(dirs.checkpoint_state().join("precious")).unwrap(),
        b"precious"
    );
}

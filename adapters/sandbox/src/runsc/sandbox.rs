//! One activation in gVisor, as sequences of runsc commands.
//!
//! `run` and `restore` are used without a `create` before them: they create what does not exist, and every
//! runsc process that is not started saves some 20 ms. Measured with 20240729 on two cores, medians of 8:
//! create, start, create, start 263 ms; run, run 230 ms; create, restore, create, restore 321 ms;
//! restore, restore 260 ms.
//!
//! A checkpoint is written uncompressed (the next stage compresses, and in parallel): 128 ms instead of
//! 800 ms for 256 MB, no difference for a tiny actor; and through the page cache, because the next stage
//! reads it from there: O_DIRECT takes 168 ms.
//!
//! The sandbox is known to have stopped when the reaper has collected it, so `state` is never asked. A
//! sandbox that shall go is killed first and deleted then: 25 ms instead of 230, and the same whether it
//! responds or hangs.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::command::{Arg, Invocation, KILL_LIMIT, NetworkFlag, RunscError, Starts};
use super::flags::{Feature, Runtime};
use crate::activation::{Activation, CheckpointError, Container, Fate, SandboxError, Scope, step};
use crate::bundle::{Adaptation, adapt};
use crate::census::{self, Mark};
use crate::data;
use crate::layout::{ActorDirs, make_dir, remove_dir};
use crate::names::PAUSE;
use crate::network::{ACTOR_ADDRESS, WorkerNetwork};
use crate::readyz::wait_until_ready;
use crate::reaper::{Process, Reaper};

/// How long a sandbox may take to exit after its checkpoint is written, or after it failed.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
const FAILED_CHECKPOINT_EXIT_LIMIT: Duration = Duration::from_secs(1);

/// What an image has beside the memory of the programs: the state of gVisor's kernel.
const IMAGE_OVERHEAD_BYTES: u64 = 4 << 20;

/// Starts gVisor sandboxes.
#[derive(Debug)]
pub(crate) struct Gvisor {
    pub reaper: &'static Reaper,
    /// Without one, actors have no network at all.
    pub network: Option<Arc<WorkerNetwork>>,
}

/// A gVisor sandbox that was started.
#[derive(Debug)]
pub(crate) struct GvisorSandbox {
    runtime: Arc<Runtime>,
    reaper: &'static Reaper,
    network: Option<Arc<WorkerNetwork>>,
    dirs: ActorDirs,
    containers: Vec<Container>,
    durable_dirs: DurableDirs,
    sandbox: Option<Process>,
    is_frozen: bool,
}

/// Who keeps the contents of durable directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DurableDirs {
    /// gVisor, inside the sandbox. A full snapshot includes them, and it can snapshot them alone.
    InSandbox,
    /// The host. They go into an archive of our own beside whatever gVisor writes.
    OnHost,
}

#[derive(Debug, Clone, Copy)]
enum Begin {
    Boot,
    Restore(Scope),
}

impl Gvisor {
    pub(crate) fn run(&self, activation: &Activation) -> Result<GvisorSandbox, SandboxError> {
        self.begin(activation, Begin::Boot)
    }

    pub(crate) fn restore(
        &self,
        activation: &Activation,
        scope: Scope,
    ) -> Result<GvisorSandbox, SandboxError> {
        self.begin(activation, Begin::Restore(scope))
    }

    fn begin(&self, activation: &Activation, begin: Begin) -> Result<GvisorSandbox, SandboxError> {
        let runsc = activation.runsc.as_deref().ok_or(SandboxError::NoRunsc)?;
        if self.network.is_none()
            && let Some(probed) = activation
                .containers
                .iter()
                .find(|container| container.readyz.is_some())
        {
            return Err(SandboxError::NoNetworkToProbe {
                container: probed.name.to_string(),
            });
        }
        let runtime = Runtime::detect(runsc, self.reaper)?;
        let dirs = activation.dirs.clone();
        let archive = dirs.restore_state().join(data::ARCHIVE);
        let has_archive = matches!(begin, Begin::Restore(_)) && archive.exists();
        let in_sandbox = runtime.snapshots_directories() && !has_archive;
        if matches!(begin, Begin::Restore(Scope::Data)) && !has_archive && !in_sandbox {
            return Err(SandboxError::ForeignSnapshot {
                archive: data::ARCHIVE,
                version: runtime.version(),
            });
        }
        let mut sandbox = GvisorSandbox {
            runtime,
            reaper: self.reaper,
            network: self.network.clone(),
            dirs,
            containers: activation.containers.clone(),
            durable_dirs: if in_sandbox {
                DurableDirs::InSandbox
            } else {
                DurableDirs::OnHost
            },
            sandbox: None,
            is_frozen: false,
        };
        if sandbox.has_leftovers() {
            sweep(&sandbox.dirs)?;
        }
        sandbox.prepare(has_archive.then_some(archive.as_path()))?;
        let started = sandbox
            .start(activation, begin)
            .and_then(|()| sandbox.wait_until_ready());
        if let Err(error) = started {
            if let Err(left) = sandbox.stop() {
                tracing::error!(actor = %activation.actor, error = %left, "a failed start could not be cleaned up");
            }
            return Err(error);
        }
        Ok(sandbox)
    }
}

impl GvisorSandbox {
    /// The process whose end is the sandbox's end.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.sandbox.as_ref()
    }

    pub(crate) fn checkpoint(&mut self, scope: Scope) -> Result<Vec<String>, CheckpointError> {
        let written = self.write_checkpoint(scope);
        if written.is_err() {
            let _ = remove_dir(&self.dirs.checkpoint_state());
            if self.is_running() {
                return written.map_err(|cause| CheckpointError {
                    cause,
                    sandbox: Fate::Alive,
                });
            }
        }
        // The snapshot is taken, or lost with the sandbox. Either way nothing of it stays.
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "a sandbox could not be cleaned up after its checkpoint");
        }
        written.map_err(|cause| CheckpointError {
            cause,
            sandbox: Fate::Dead,
        })
    }

    pub(crate) fn freeze(&mut self) -> Result<(), SandboxError> {
        if !self.is_frozen {
            self.control("pause")?;
            self.is_frozen = true;
        }
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<(), SandboxError> {
        if self.is_frozen {
            self.control("resume")?;
            self.is_frozen = false;
        }
        Ok(())
    }

    /// Ends the sandbox, whatever state it is in, and removes what runsc knows of it.
    pub(crate) fn stop(&mut self) -> Result<(), SandboxError> {
        self.kill()?;
        let targets: Vec<&str> = self.container_names().chain([PAUSE]).collect();
        let deleted = self
            .invocation()
            .run("delete", &[&"-force"], &targets, Starts::Nothing, None);
        if deleted.is_err() || self.has_leftovers() {
            // With the sandbox dead, what is left is files; and a gofer that took its time, perhaps.
            if let Err(error) = deleted {
                tracing::debug!(%error, "removing the remains of a dead sandbox by hand");
            }
            sweep(&self.dirs)?;
        }
        // The next start does this again. Until then it makes a connection to nobody fail at once.
        if let Some(Err(error)) = self.network.as_ref().map(|network| network.reset()) {
            tracing::warn!(%error, "the actor's network is not ready for the next one");
        }
        Ok(())
    }

    /// Whether runsc has anything on record for this actor.
    fn has_leftovers(&self) -> bool {
        fs::read_dir(self.dirs.runsc_state()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Undoes what an earlier start that was cut short may have left, and fits the bundles to this runtime.
    fn prepare(&self, archive: Option<&Path>) -> Result<(), SandboxError> {
        make_dir(&self.dirs.runsc_state(), 0o700).map_err(step("make the runsc state directory"))?;
        let pidfiles = self.dirs.pidfile(PAUSE);
        make_dir(pidfiles.parent().unwrap_or(&pidfiles), 0o700)
            .map_err(step("make the pidfile directory"))?;
        if let Some(archive) = archive {
            data::unpack(archive, &self.dirs.durable_dirs())
                .map_err(step("unpack the durable directories"))?;
        }
        let adaptation = Adaptation {
            write_durable_dirs_through: self.durable_dirs == DurableDirs::OnHost,
            drop_network_path: self.network.is_none(),
        };
        for name in [PAUSE].into_iter().chain(self.container_names()) {
            adapt(&self.dirs.bundle(name), adaptation)?;
            // A start that was killed leaves this file, and the next one refuses to go on because of it. Its name ends
            // with that of the sandbox, in whichever container's rootfs it is.
            let filestore = self.dirs.rootfs(name).join(format!(".gvisor.filestore.{PAUSE}"));
            match fs::remove_file(&filestore) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(step("remove a left-over gVisor filestore")(error));
                }
                _ => {}
            }
        }
        if let Some(network) = &self.network {
            network.reset()?;
        }
        Ok(())
    }

    fn start(&mut self, activation: &Activation, begin: Begin) -> Result<(), SandboxError> {
        match begin {
            Begin::Restore(Scope::Data) if self.durable_dirs == DurableDirs::InSandbox => {
                self.boot_with_directories()?;
            }
            _ => self.begin_container(PAUSE, begin, Starts::Sandbox, None)?,
        }
        self.sandbox = Some(self.adopt()?);
        for container in &activation.containers {
            let name = container.name.as_str();
            let streams = activation
                .output
                .open(&container.name)
                .map_err(step("open the container's log"))?;
            self.begin_container(name, begin, Starts::Container, Some(streams))?;
        }
        Ok(())
    }

    /// Starts one container, the sandbox's own or a user's, from its program or from the snapshot.
    fn begin_container(
        &self,
        name: &str,
        begin: Begin,
        starts: Starts,
        streams: Option<std::os::fd::OwnedFd>,
    ) -> Result<(), RunscError> {
        let bundle = self.dirs.bundle(name);
        let pidfile = self.dirs.pidfile(name);
        let image = self.dirs.restore_state();
        let mut args: Vec<Arg<'_>> = vec![&"-detach", &"-bundle", &bundle, &"-pid-file", &pidfile];
        let subcommand = match begin {
            Begin::Boot | Begin::Restore(Scope::Data) => "run",
            Begin::Restore(Scope::Full) => {
                args.extend([&"-image-path" as Arg<'_>, &image]);
                // Reading past the page cache only pays when nobody waits for it.
                if self.runtime.has(Feature::RestoreBackground) {
                    args.push(&"-background");
                    if self.runtime.has(Feature::RestoreDirect) {
                        args.push(&"-direct");
                    }
                }
                "restore"
            }
        };
        self.invocation().run(subcommand, &args, &[name], starts, streams)
    }

    /// Starts the sandbox with the durable directories of a snapshot that gVisor itself made.
    fn boot_with_directories(&self) -> Result<(), RunscError> {
        let bundle = self.dirs.bundle(PAUSE);
        let pidfile = self.dirs.pidfile(PAUSE);
        let image = self.dirs.restore_state();
        let create: [Arg<'_>; 6] = [
            &"-bundle",
            &bundle,
            &"-pid-file",
            &pidfile,
            &"-fs-restore-image-path",
            &image,
        ];
        self.invocation()
            .run("create", &create, &[PAUSE], Starts::Nothing, None)?;
        self.invocation()
            .run("start", &[], &[PAUSE], Starts::Sandbox, None)
    }

    /// The sandbox process, which the command that started it has left to us.
    fn adopt(&self) -> Result<Process, SandboxError> {
        let pidfile = self.dirs.pidfile(PAUSE);
        let text = fs::read_to_string(&pidfile).map_err(step("read the sandbox's pid"))?;
        let pid = text.trim().parse().ok();
        let died = || RunscError::SandboxDied {
            during: "its start".into(),
            status: None,
        };
        Ok(pid.and_then(|pid| self.reaper.adopt(pid)).ok_or_else(died)?)
    }

    fn wait_until_ready(&self) -> Result<(), SandboxError> {
        let probes: Vec<_> = self
            .containers
            .iter()
            .filter_map(|container| Some((container.name.as_str(), container.readyz.as_ref()?)))
            .collect();
        wait_until_ready(IpAddr::V4(ACTOR_ADDRESS), &probes, || !self.is_running())?;
        Ok(())
    }

    fn write_checkpoint(&mut self, scope: Scope) -> Result<Vec<String>, SandboxError> {
        let dir = self.dirs.checkpoint_state();
        remove_dir(&dir)
            .and_then(|()| make_dir(&dir, 0o700))
            .map_err(step("empty the checkpoint directory"))?;
        self.ensure_running("checkpoint")?;
        let mounts: Vec<PathBuf> = self
            .containers
            .iter()
            .flat_map(|container| container.durable_mounts.iter().map(PathBuf::from))
            .collect();
        let archive = dir.join(data::ARCHIVE);
        match (scope, self.durable_dirs) {
            (Scope::Data, _) if mounts.is_empty() => return Err(SandboxError::NoDurableDir),
            (Scope::Data, DurableDirs::InSandbox) => {
                let mut args: Vec<Arg<'_>> = vec![&"-image-path", &dir];
                for mount in &mounts {
                    args.extend([&"-path" as Arg<'_>, mount]);
                }
                self.save("fscheckpoint", &args)?;
            }
            (Scope::Data, DurableDirs::OnHost) => {
                // Frozen, the directories cannot change under the archive; and if it fails, life goes on.
                let was_frozen = self.is_frozen;
                self.freeze()?;
                if let Err(error) = data::pack(&self.dirs.durable_dirs(), &archive) {
                    if !was_frozen {
                        self.thaw()?;
                    }
                    return Err(step("archive the durable directories")(error));
                }
            }
            (Scope::Full, keeper) => {
                self.ensure_room(&dir)?;
                let mut args: Vec<Arg<'_>> = vec![&"-image-path", &dir];
                if self.runtime.has(Feature::CheckpointCompression) {
                    args.extend([&"-compression" as Arg<'_>, &"none"]);
                }
                self.save("checkpoint", &args)?;
                self.wait_for_exit()?;
                if keeper == DurableDirs::OnHost && !mounts.is_empty() {
                    data::pack(&self.dirs.durable_dirs(), &archive)
                        .map_err(step("archive the durable directories"))?;
                }
            }
        }
        files(&dir).map_err(step("list the checkpoint's files"))
    }

    /// Refuses a checkpoint for which there is no room: runsc would notice half-way, and the sandbox does not survive
    /// that. Others may take the room meanwhile, so this spares most sandboxes and not all.
    fn ensure_room(&self, dir: &Path) -> Result<(), SandboxError> {
        let held = self.sandbox.as_ref().map_or(0, |sandbox| memory(sandbox.id()));
        let needed = held + IMAGE_OVERHEAD_BYTES;
        let disk = rustix::fs::statvfs(dir).map_err(|error| step("look at the disk")(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= needed {
            return Ok(());
        }
        let full = format!("the actor holds {needed} bytes, and {free} are free; make room, and it goes on");
        Err(step("begin a checkpoint")(io::Error::new(
            io::ErrorKind::StorageFull,
            full,
        )))
    }

    /// Writes an image of the whole sandbox. If that fails, only the sandbox's own end tells whether it
    /// took harm: a full disk kills it, a file in the way does not.
    fn save(&self, subcommand: &str, args: &[Arg<'_>]) -> Result<(), SandboxError> {
        let saved = self
            .invocation()
            .run(subcommand, args, &[PAUSE], Starts::Nothing, None);
        match &saved {
            Err(error) if error.is_timeout() => self.kill()?,
            Err(_) => drop(
                self.sandbox
                    .as_ref()
                    .and_then(|s| s.wait_timeout(FAILED_CHECKPOINT_EXIT_LIMIT)),
            ),
            Ok(()) => {}
        }
        Ok(saved?)
    }

    /// After a full checkpoint the sandbox ends by itself, and only then nothing writes any more.
    fn wait_for_exit(&self) -> Result<(), SandboxError> {
        match &self.sandbox {
            Some(sandbox) if sandbox.wait_timeout(EXIT_LIMIT).is_none() => self.kill(),
            _ => Ok(()),
        }
    }

    /// A command about the living sandbox that must not hang, and after which a hung one is killed.
    fn control(&self, subcommand: &str) -> Result<(), SandboxError> {
        self.ensure_running(subcommand)?;
        let done = self
            .invocation()
            .run(subcommand, &[], &[PAUSE], Starts::Nothing, None);
        if done.as_ref().is_err_and(RunscError::is_timeout) {
            self.kill()?;
        }
        Ok(done?)
    }

    /// Kills the sandbox and waits until it is gone. Without knowing its process (a start was cut short),
    /// whatever works on this root is killed.
    fn kill(&self) -> Result<(), SandboxError> {
        let Some(sandbox) = &self.sandbox else {
            return kill_all(&self.dirs.runsc_state());
        };
        sandbox.signal(Signal::KILL);
        match sandbox.wait_timeout(KILL_LIMIT) {
            Some(_) => Ok(()),
            None => Err(RunscError::Unkillable {
                pid: sandbox.id(),
                after: KILL_LIMIT,
            }
            .into()),
        }
    }

    fn ensure_running(&self, during: &str) -> Result<(), RunscError> {
        let status = self.sandbox.as_ref().and_then(Process::exited);
        if self.sandbox.is_some() && status.is_none() {
            return Ok(());
        }
        Err(RunscError::SandboxDied {
            during: during.to_owned(),
            status,
        })
    }

    fn is_running(&self) -> bool {
        self.ensure_running("").is_ok()
    }

    fn container_names(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(|container| container.name.as_str())
    }

    fn invocation(&self) -> Invocation<'_> {
        Invocation {
            runtime: &self.runtime,
            reaper: self.reaper,
            root: self.dirs.runsc_state(),
            sandbox: self.sandbox.as_ref().map(Process::id),
            network: if self.network.is_some() {
                NetworkFlag::Sandbox
            } else {
                NetworkFlag::None
            },
        }
    }
}

/// Ends whatever still runs on an actor's runsc root, and forgets what runsc recorded there.
///
/// For what an earlier incarnation left, and as the last resort after a failed `delete`. Processes go
/// first: a sandbox whose record is gone could not be found again.
pub(crate) fn sweep(dirs: &ActorDirs) -> Result<(), SandboxError> {
    let root = dirs.runsc_state();
    if !root.exists() {
        return Ok(());
    }
    kill_all(&root)?;
    remove_dir(&root)
        .and_then(|()| make_dir(&root, 0o700))
        .map_err(step("empty the runsc state directory"))
}

fn kill_all(root: &Path) -> Result<(), SandboxError> {
    match census::kill_all(Mark::RunscRoot(root), KILL_LIMIT).map_err(step("look through /proc"))? {
        None => Ok(()),
        Some(pid) => Err(RunscError::Unkillable {
            pid,
            after: KILL_LIMIT,
        }
        .into()),
    }
}

/// How much memory the programs in a sandbox hold: gVisor keeps it in a file that has no name. Nothing if that cannot
/// be found.
fn memory(sandbox: i32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    const BLOCK_BYTES: u64 = 512;
    let open = fs::read_dir(format!("/proc/{sandbox}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let is_memory = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:runsc-memory"))
    };
    let sizes = open
        .map(|entry| entry.path())
        .filter(is_memory)
        .filter_map(|path| Some(fs::metadata(path).ok()?.blocks() * BLOCK_BYTES));
    // The same file may be open several times.
    sizes.max().unwrap_or(0)
}

/// The regular files of a directory, sorted.
fn files(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().into_string();
            names.push(name.map_err(|name| io::Error::other(format!("odd file name {name:?}")))?);
        }
    }
    names.sort();
    Ok(names)
}

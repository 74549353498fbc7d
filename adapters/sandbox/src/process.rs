//! Containers as plain processes, for machines that cannot run gVisor. **There is no isolation**: a program
//! sees the machine's files and network, with the rights of the worker.
//!
//! What an actor gets: the program from its image, in its own process group; as working directory the
//! first durable volume; the environment of its specification, and the variables below. Only durable
//! directories are snapshotted, by archiving them while everything is stopped.
//!
//! Programs must be static, or fit the machine's own libraries; paths inside the image mean nothing to them.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::Signal;

use crate::activation::{Activation, CheckpointError, Container, Fate, SandboxError, Scope, step};
use crate::bundle::Spec;
use crate::census::{self, MARK_VARIABLE, Mark};
use crate::data;
use crate::layout::{ActorDirs, make_dir, remove_dir};
use crate::readyz::wait_until_ready;
use crate::reaper::{Process, Reaper};
use crate::runsc::RunscError;

/// Where a program finds its first durable directory.
const DATA_VARIABLE: &str = "HOLDFAST_DATA_DIR";
/// Where a program finds what a container sees at `/run/ate`.
const IDENTITY_VARIABLE: &str = "HOLDFAST_IDENTITY_DIR";

const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Starts plain processes.
#[derive(Debug)]
pub(crate) struct Plain {
    pub reaper: &'static Reaper,
    /// Where actors answer: the pod's address, or the loopback address.
    pub address: IpAddr,
}

/// An actor as a set of plain processes.
#[derive(Debug)]
pub(crate) struct ProcessSandbox {
    reaper: &'static Reaper,
    dirs: ActorDirs,
    containers: Vec<Container>,
    processes: Vec<Process>,
    is_frozen: bool,
}

impl Plain {
    pub(crate) fn new(reaper: &'static Reaper, address: IpAddr) -> Self {
        static WARN: Once = Once::new();
        WARN.call_once(|| {
            tracing::warn!(
                "THE PROCESS SANDBOX ISOLATES NOTHING: actors run as plain processes with this worker's rights, and \
                 only their durable directories are snapshotted. Use it for development, on machines that cannot \
                 run gVisor."
            );
        });
        Self { reaper, address }
    }

    pub(crate) fn run(&self, activation: &Activation) -> Result<ProcessSandbox, SandboxError> {
        sweep(&activation.dirs)?;
        let mut sandbox = ProcessSandbox {
            reaper: self.reaper,
            dirs: activation.dirs.clone(),
            containers: activation.containers.clone(),
            processes: Vec::new(),
            is_frozen: false,
        };
        let started = sandbox
            .start(activation)
            .and_then(|()| self.wait_until_ready(&sandbox));
        if let Err(error) = started {
            if let Err(left) = sandbox.stop() {
                tracing::error!(actor = %activation.actor, error = %left, "a failed start could not be cleaned up");
            }
            return Err(error);
        }
        Ok(sandbox)
    }

    pub(crate) fn restore(
        &self,
        activation: &Activation,
        scope: Scope,
    ) -> Result<ProcessSandbox, SandboxError> {
        if scope == Scope::Full {
            return Err(SandboxError::MemoryNotSupported);
        }
        let archive = activation.dirs.restore_state().join(data::ARCHIVE);
        data::unpack(&archive, &activation.dirs.durable_dirs())
            .map_err(step("unpack the durable directories"))?;
        self.run(activation)
    }

    fn wait_until_ready(&self, sandbox: &ProcessSandbox) -> Result<(), SandboxError> {
        let probes: Vec<_> = sandbox
            .containers
            .iter()
            .filter_map(|container| Some((container.name.as_str(), container.readyz.as_ref()?)))
            .collect();
        let ready = wait_until_ready(self.address, &probes, || sandbox.exited().is_some());
        // That a program ended says more than that it did not answer.
        match sandbox.exited() {
            Some(error) => Err(error),
            None => Ok(ready?),
        }
    }
}

impl ProcessSandbox {
    /// The processes of its containers; it has failed when one of them ends.
    pub(crate) fn processes(&self) -> &[Process] {
        &self.processes
    }

    pub(crate) fn checkpoint(&mut self, scope: Scope) -> Result<Vec<String>, CheckpointError> {
        let written = self.write_checkpoint(scope);
        if written.is_err() {
            let _ = remove_dir(&self.dirs.checkpoint_state());
            if self.exited().is_none() {
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
        self.signal(Signal::STOP)?;
        self.is_frozen = true;
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<(), SandboxError> {
        self.signal(Signal::CONT)?;
        self.is_frozen = false;
        Ok(())
    }

    /// Ends all processes of the actor, also those that left their group.
    pub(crate) fn stop(&mut self) -> Result<(), SandboxError> {
        for process in &self.processes {
            process.signal_group(Signal::KILL);
        }
        sweep(&self.dirs)?;
        match self
            .processes
            .iter()
            .find(|process| process.wait_timeout(KILL_LIMIT).is_none())
        {
            None => Ok(()),
            Some(stuck) => Err(RunscError::Unkillable {
                pid: stuck.id(),
                after: KILL_LIMIT,
            }
            .into()),
        }
    }

    fn start(&mut self, activation: &Activation) -> Result<(), SandboxError> {
        for container in &activation.containers {
            let streams = activation
                .output
                .open(&container.name)
                .map_err(step("open the container's log"))?;
            let mut command = self.command(container.name.as_str())?;
            let copy = streams.try_clone().map_err(step("open the container's log"))?;
            command
                .stdin(Stdio::null())
                .stdout(streams)
                .stderr(copy)
                .process_group(0);
            let program = command.get_program().to_string_lossy().into_owned();
            let spawned = self
                .reaper
                .spawn(&mut command)
                .map_err(|error| SandboxError::Program {
                    container: container.name.to_string(),
                    program,
                    fault: format!("cannot be run: {error}"),
                })?;
            self.processes.push(spawned);
        }
        Ok(())
    }

    fn command(&self, container: &str) -> Result<Command, SandboxError> {
        let spec = Spec::read(&self.dirs.bundle(container))?;
        let [program, args @ ..] = spec.args() else {
            return Err(crate::bundle::BundleError::NoCommand {
                container: container.to_owned(),
            }
            .into());
        };
        let rootfs = self.dirs.rootfs(container);
        let env: Vec<(&str, &str)> = spec
            .env()
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let search = env
            .iter()
            .find(|(name, _)| *name == "PATH")
            .map_or("", |(_, value)| value);
        let path = find_program(&rootfs, program, search).map_err(|error| SandboxError::Program {
            container: container.to_owned(),
            program: program.clone(),
            fault: format!("cannot be used: {error}"),
        })?;
        let data = self.data_dir(container)?;
        let mut command = Command::new(path);
        command
            .args(args)
            .env_clear()
            .envs(env)
            .env(MARK_VARIABLE, self.dirs.root())
            .env(DATA_VARIABLE, &data)
            .env(IDENTITY_VARIABLE, self.dirs.identity())
            .current_dir(&data);
        Ok(command)
    }

    /// The first durable volume, or the root file system when there is none.
    fn data_dir(&self, container: &str) -> Result<PathBuf, SandboxError> {
        let listed = fs::read_dir(self.dirs.durable_dirs()).and_then(|entries| {
            let mut volumes = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()?;
            volumes.sort();
            Ok(volumes)
        });
        let volumes = listed.map_err(step("list the durable volumes"))?;
        Ok(volumes
            .into_iter()
            .next()
            .unwrap_or_else(|| self.dirs.rootfs(container)))
    }

    fn write_checkpoint(&mut self, scope: Scope) -> Result<Vec<String>, SandboxError> {
        if scope == Scope::Full {
            return Err(SandboxError::MemoryNotSupported);
        }
        if self
            .containers
            .iter()
            .all(|container| container.durable_mounts.is_empty())
        {
            return Err(SandboxError::NoDurableDir);
        }
        if let Some(error) = self.exited() {
            return Err(error);
        }
        let dir = self.dirs.checkpoint_state();
        remove_dir(&dir)
            .and_then(|()| make_dir(&dir, 0o700))
            .map_err(step("empty the checkpoint directory"))?;
        let was_frozen = self.is_frozen;
        self.freeze()?;
        if let Err(error) = data::pack(&self.dirs.durable_dirs(), &dir.join(data::ARCHIVE)) {
            if !was_frozen {
                self.thaw()?;
            }
            return Err(step("archive the durable directories")(error));
        }
        Ok(vec![data::ARCHIVE.to_owned()])
    }

    fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        if let Some(error) = self.exited() {
            return Err(error);
        }
        for process in &self.processes {
            process.signal_group(signal);
        }
        census::signal(Mark::Environment(self.dirs.root()), signal).map_err(step("look through /proc"))
    }

    fn exited(&self) -> Option<SandboxError> {
        self.containers
            .iter()
            .zip(&self.processes)
            .find_map(|(container, process)| {
                let status = process.exited()?;
                Some(SandboxError::Exited {
                    container: container.name.to_string(),
                    status,
                })
            })
    }
}

/// Ends all processes an earlier incarnation started for an actor.
pub(crate) fn sweep(dirs: &ActorDirs) -> Result<(), SandboxError> {
    let mark = Mark::Environment(dirs.root());
    match census::kill_all(mark, KILL_LIMIT).map_err(step("look through /proc"))? {
        None => Ok(()),
        Some(pid) => Err(RunscError::Unkillable {
            pid,
            after: KILL_LIMIT,
        }
        .into()),
    }
}

/// Finds a program as the container would: an absolute path in its root file system, or a name in `search`.
/// Links are followed as if the root file system were the whole world.
fn find_program(rootfs: &Path, program: &str, search: &str) -> io::Result<PathBuf> {
    let root = File::open(rootfs).map_err(|error| crate::layout::at(rootfs, error))?;
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![Path::new("/").join(program)]
    } else {
        search
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| Path::new(dir).join(program))
            .collect()
    };
    let mut fault = io::Error::new(io::ErrorKind::NotFound, "not in the image");
    for candidate in candidates {
        match open_inside(&root, &candidate) {
            Ok(path) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

fn open_inside(root: &File, path: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    let meta = fs::metadata(&handle)?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not an executable file",
        ));
    }
    fs::read_link(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Discard;
    use crate::bundle::{ContainerConfig, write_container};
    use crate::layout::Layout;
    use crate::names::{ActorRef, Label};
    use std::net::Ipv4Addr;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// An actor whose image holds the machine's own shell.
    fn shell(base: &Path, script: &str) -> Activation {
        let actor = ActorRef::parse("ns", "t", "a").unwrap();
        let dirs = Layout::new(base).actor(&actor);
        dirs.reset().unwrap();
        let rootfs = dirs.rootfs("main");
        fs::create_dir_all(rootfs.join("usr/bin")).unwrap();
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), rootfs.join("usr/bin/dash")).unwrap();
        symlink("usr/bin", rootfs.join("bin")).unwrap();
        symlink("/bin/dash", rootfs.join("usr/bin/sh")).unwrap();
        let name = Label::container("main").unwrap();
        let container = ContainerConfig {
            name: name.clone(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![],
            durable_mounts: vec![(Label::parse("volume", "data").unwrap(), "/data".into())],
        };
        write_container(&dirs, Path::new("/none"), &container).unwrap();
        Activation {
            actor,
            dirs,
            runsc: None,
            containers: vec![Container {
                name,
                readyz: None,
                durable_mounts: vec!["/data".into()],
            }],
            output: Arc::new(Discard),
        }
    }

    fn wait_for(path: &Path) -> String {
        loop {
            match fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn data_survives_a_checkpoint_and_the_processes_do_not() {
        let base = tempfile::tempdir().unwrap();
        let script =
            "n=0; read n < count; n=$((n+1)); echo $n > count; /bin/sleep 1000 & exec /bin/sleep 1000";
        let activation = shell(base.path(), script);
        let plain = Plain::new(Reaper::of_this_process().unwrap(), LOOPBACK);
        let count = activation.dirs.durable_dirs().join("data/count");

        let mut sandbox = plain.run(&activation).unwrap();
        assert_eq!(wait_for(&count), "1\n");
        assert_eq!(sandbox.checkpoint(Scope::Data).unwrap(), [data::ARCHIVE]);
        assert_eq!(
            census::find(Mark::Environment(activation.dirs.root())).unwrap(),
            [0; 0]
        );

        fs::remove_file(&count).unwrap();
        fs::remove_dir(activation.dirs.restore_state()).unwrap();
        fs::rename(
            activation.dirs.checkpoint_state(),
            activation.dirs.restore_state(),
        )
        .unwrap();
        let mut sandbox = plain.restore(&activation, Scope::Data).unwrap();
        while wait_for(&count) != "2\n" {
            std::thread::yield_now();
        }
        sandbox.stop().unwrap();
        sandbox.stop().unwrap();
    }

    #[test]
    fn memory_cannot_be_snapshotted_and_the_error_says_what_to_set() {
        let base = tempfile::tempdir().unwrap();
        let activation = shell(base.path(), "exec /bin/sleep 1000");
        let plain = Plain::new(Reaper::of_this_process().unwrap(), LOOPBACK);
        let mut sandbox = plain.run(&activation).unwrap();
        let error = sandbox.checkpoint(Scope::Full).unwrap_err();
        assert_eq!(error.sandbox, Fate::Alive);
        assert!(
            error.to_string().contains("set onPause and onCommit to Data"),
            "{error}"
        );
        assert!(matches!(
            plain.restore(&activation, Scope::Full),
            Err(SandboxError::MemoryNotSupported)
        ));
        sandbox.stop().unwrap();
    }

    #[test]
    fn a_program_that_ends_is_reported_with_its_status() {
        let base = tempfile::tempdir().unwrap();
        let activation = shell(base.path(), "exit 7");
        let plain = Plain::new(Reaper::of_this_process().unwrap(), LOOPBACK);
        let error = match plain.run(&activation) {
            Err(error) => error,
            Ok(mut sandbox) => {
                sandbox.processes()[0].wait();
                sandbox.checkpoint(Scope::Data).unwrap_err().cause
            }
        };
        assert!(
            matches!(error, SandboxError::Exited { status, .. } if status.code() == Some(7)),
            "{error}"
        );
    }

    #[test]
    fn a_program_is_looked_up_inside_the_image_only() {
        let base = tempfile::tempdir().unwrap();
        let rootfs = base.path();
        fs::create_dir(rootfs.join("bin")).unwrap();
        symlink("/bin/sh", rootfs.join("bin/outside")).unwrap();
        symlink("../../../../../../bin/sh", rootfs.join("bin/above")).unwrap();
        for program in ["/bin/outside", "/bin/above", "outside", "/bin/sh", "sh", "/bin"] {
            assert!(find_program(rootfs, program, "/bin").is_err(), "{program}");
        }
        fs::copy("/bin/true", rootfs.join("bin/true")).unwrap();
        assert_eq!(
            find_program(rootfs, "true", "/usr/bin:/bin").unwrap(),
            rootfs.join("bin/true")
        );
    }
}

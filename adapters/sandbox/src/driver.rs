//! One face for both classes of sandbox.

use std::net::IpAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use crate::activation::{Activation, CheckpointError, SandboxError, Scope};
use crate::layout::ActorDirs;
use crate::network::WorkerNetwork;
use crate::process::{self, Plain, ProcessSandbox};
use crate::reaper::Reaper;
use crate::runsc::{self, Gvisor, GvisorSandbox};

/// Starts sandboxes of one class.
#[derive(Debug)]
pub struct Driver(Class);

#[derive(Debug)]
enum Class {
    Gvisor(Gvisor),
    Process(Plain),
}

/// A sandbox that was started. Dropping it leaves it running; [`Sandbox::stop`] ends it.
#[derive(Debug)]
pub struct Sandbox(Kind);

#[derive(Debug)]
enum Kind {
    Gvisor(GvisorSandbox),
    Process(ProcessSandbox),
}

impl Driver {
    /// gVisor. Without `network` actors have none.
    pub fn gvisor(reaper: &'static Reaper, network: Option<Arc<WorkerNetwork>>) -> Self {
        Self(Class::Gvisor(Gvisor { reaper, network }))
    }

    /// Plain processes without isolation, which answer at `address`. Warns about it, once.
    pub fn process(reaper: &'static Reaper, address: IpAddr) -> Self {
        Self(Class::Process(Plain::new(reaper, address)))
    }

    /// Starts an actor from its image, and waits until it is ready. On error nothing of it is left.
    pub fn run(&self, activation: &Activation) -> Result<Sandbox, SandboxError> {
        Ok(Sandbox(match &self.0 {
            Class::Gvisor(gvisor) => Kind::Gvisor(gvisor.run(activation)?),
            Class::Process(plain) => Kind::Process(plain.run(activation)?),
        }))
    }

    /// Starts an actor from the snapshot in its restore directory, and waits until it is ready. On error
    /// nothing of it is left. The snapshot must have been verified: gVisor restores flipped bits silently.
    pub fn restore(&self, activation: &Activation, scope: Scope) -> Result<Sandbox, SandboxError> {
        Ok(Sandbox(match &self.0 {
            Class::Gvisor(gvisor) => Kind::Gvisor(gvisor.restore(activation, scope)?),
            Class::Process(plain) => Kind::Process(plain.restore(activation, scope)?),
        }))
    }
}

impl Sandbox {
    /// Writes a snapshot to the checkpoint directory, and ends the sandbox. Returns the snapshot's files,
    /// sorted. They are written, but not forced to disk.
    pub fn checkpoint(&mut self, scope: Scope) -> Result<Vec<String>, CheckpointError> {
        match &mut self.0 {
            Kind::Gvisor(sandbox) => sandbox.checkpoint(scope),
            Kind::Process(sandbox) => sandbox.checkpoint(scope),
        }
    }

    /// Stops time in the sandbox. Freezing a frozen one does nothing.
    pub fn freeze(&mut self) -> Result<(), SandboxError> {
        match &mut self.0 {
            Kind::Gvisor(sandbox) => sandbox.freeze(),
            Kind::Process(sandbox) => sandbox.freeze(),
        }
    }

    /// Lets time go on. Thawing one that is not frozen does nothing.
    pub fn thaw(&mut self) -> Result<(), SandboxError> {
        match &mut self.0 {
            Kind::Gvisor(sandbox) => sandbox.thaw(),
            Kind::Process(sandbox) => sandbox.thaw(),
        }
    }

    /// Ends the sandbox, hung or not, and removes all that is left of it. Stopping a stopped one does
    /// nothing.
    pub fn stop(&mut self) -> Result<(), SandboxError> {
        match &mut self.0 {
            Kind::Gvisor(sandbox) => sandbox.stop(),
            Kind::Process(sandbox) => sandbox.stop(),
        }
    }

    /// How it ended, `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.processes().iter().find_map(crate::reaper::Process::exited)
    }

    /// Calls `subscriber` once, as soon as the sandbox has ended, whoever ended it. It runs on the reaper's
    /// thread, so it must only pass the news on.
    pub fn on_exit(&self, subscriber: impl FnOnce(ExitStatus) + Send + 'static) {
        let subscriber = Arc::new(Mutex::new(Some(subscriber)));
        for process in self.processes() {
            let subscriber = subscriber.clone();
            process.on_exit(move |status| {
                let first = subscriber
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .take();
                if let Some(subscriber) = first {
                    subscriber(status);
                }
            });
        }
    }

    fn processes(&self) -> &[crate::reaper::Process] {
        match &self.0 {
            Kind::Gvisor(sandbox) => sandbox.process().map(std::slice::from_ref).unwrap_or_default(),
            Kind::Process(sandbox) => sandbox.processes(),
        }
    }
}

/// Ends whatever an earlier incarnation of a worker left running for an actor, of either class.
pub fn sweep(dirs: &ActorDirs) -> Result<(), SandboxError> {
    process::sweep(dirs)?;
    runsc::sweep(dirs)
}

//! Being told to stop: by the operating system, or by hand.

use tokio::sync::watch;

/// A request to stop that every clone sees. Once made it cannot be taken back.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: watch::Sender<bool>,
}

impl Shutdown {
    /// A token that only [`Shutdown::trigger`] sets off.
    pub fn new() -> Self {
        Self {
            requested: watch::Sender::new(false),
        }
    }

    /// A token that also goes off when this process is asked to stop, see [`signalled`].
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signal() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let signal = signalled()?;
        let token = shutdown.clone();
        tokio::spawn(async move {
            let name = signal.await;
            // First of all: whatever becomes of the log, this process stops.
            token.trigger();
            tracing::info!(signal = name, "asked to stop");
        });
        Ok(shutdown)
    }

    /// Asks everyone who waits on a clone of this token to stop.
    pub fn trigger(&self) {
        self.requested.send_replace(true);
    }

    /// Whether stopping has been asked for.
    pub fn is_triggered(&self) -> bool {
        *self.requested.borrow()
    }

    /// Resolves once stopping has been asked for, at once if it already was.
    pub fn triggered(&self) -> impl Future<Output = ()> + Send + 'static {
        let sender = self.requested.clone();
        async move {
            let mut requested = sender.subscribe();
            // `sender` lives as long as this future, so the channel cannot close under it.
            let _ = requested.wait_for(|requested| *requested).await;
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Installs handlers at once; the future resolves with the name of the first SIGTERM, SIGINT or SIGHUP to
/// arrive. SIGHUP, which tells that the terminal is gone, means nothing to a process that was started with it
/// ignored, as by `nohup`.
///
/// # Errors
/// When the handlers cannot be installed.
#[cfg(not(madsim))]
pub fn signalled() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = match ignores_hangup() {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    let insisted = insisted()?;
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            name = insisted => name,
            _ = hung_up => "SIGHUP",
        }
    })
}

/// As [`signalled`], for SIGTERM and SIGINT only: somebody wants it to end now. A terminal that is closed
/// says SIGHUP twice, once by the shell and once by the kernel, and that is no second wish.
///
/// # Errors
/// When the handlers cannot be installed.
#[cfg(not(madsim))]
pub fn insisted() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Whether this process ignores SIGHUP: the lowest bit of a mask in hexadecimal, see proc(5).
#[cfg(not(madsim))]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// The simulator knows one signal: `Handle::send_ctrl_c`.
///
/// # Errors
/// None in the simulator.
#[cfg(madsim)]
pub fn signalled() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    insisted()
}

/// The same in the simulator.
///
/// # Errors
/// None in the simulator.
#[cfg(madsim)]
pub fn insisted() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        "SIGINT"
    })
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trigger_reaches_those_who_wait_and_those_who_come_later() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_triggered());
        let waiting = tokio::spawn(shutdown.triggered());
        shutdown.clone().trigger();
        waiting.await.unwrap();
        shutdown.triggered().await;
        assert!(shutdown.is_triggered());
    }

    #[tokio::test]
    async fn a_signal_to_this_process_sets_the_token_off() {
        use rustix::process::{Signal, getpid, kill_process};
        let hangup = (!ignores_hangup()).then_some(Signal::HUP);
        for signal in [Signal::TERM, Signal::INT].into_iter().chain(hangup) {
            let shutdown = Shutdown::on_signal().unwrap();
            kill_process(getpid(), signal).unwrap();
            shutdown.triggered().await;
        }
    }
}

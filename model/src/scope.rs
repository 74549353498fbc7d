//! What a world consists of, and how much may go wrong in it.

use crate::defect::Defect;
use holdfast_core::session::OnLapse;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use std::fmt;

/// A small world, all of whose histories are looked at.
#[derive(Clone, Debug)]
pub struct Scope {
    /// How many nodes: one or two.
    pub nodes: usize,
    /// How many workers on each.
    pub workers_per_node: usize,
    /// What was asked for, and done, before anything may go wrong.
    pub before: Vec<Wish>,
    /// What callers ask for, one list per caller: each waits for a verdict before it asks again.
    pub callers: Vec<Vec<Wish>>,
    /// How many actors.
    pub actors: usize,
    /// How often what may happen.
    pub budget: Budget,
    /// Whether the store's answer is a message of its own.
    pub answers: Answers,
    /// Which messages that nobody waits for are looked at.
    pub late: Late,
    /// The settings of all machines.
    pub settings: Settings,
    /// A defect that is planted, to see that it is found.
    pub defect: Option<Defect>,
}

/// What a caller asks for, of the actor with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Make it serve.
    Resume(usize),
    /// Put it to sleep in the object store.
    Suspend(usize),
    /// Put it to sleep on its node.
    Pause(usize),
    /// Delete it.
    Delete(usize),
    /// Bring it back to its last good snapshot.
    Revert(usize),
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Resume(actor) => write!(f, "resume {}", actor_name(*actor)),
            Wish::Suspend(actor) => write!(f, "suspend {}", actor_name(*actor)),
            Wish::Pause(actor) => write!(f, "pause {}", actor_name(*actor)),
            Wish::Delete(actor) => write!(f, "delete {}", actor_name(*actor)),
            Wish::Revert(actor) => write!(f, "revert {}", actor_name(*actor)),
        }
    }
}

/// How the store's answers travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// With the operation, as one step.
    AtOnce,
    /// After it, as a step of its own: anything may happen in between.
    InFlight,
}

/// What becomes of messages whose senders have given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// All of them arrive sooner or later.
    All,
    /// Those that can do nothing any more, whenever they arrive, are forgotten at once: see
    /// [`crate::futile`].
    Able,
}

/// How often each thing may happen in one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A replica dies, or is told to leave.
    pub crashes: u8,
    /// A message or an answer is lost, delayed or repeated.
    pub messages: u8,
    /// A replica is not scheduled for longer than its session, or its leases, live.
    pub pauses: u8,
    /// An atelet dies and starts again with its journal.
    pub restarts: u8,
    /// A sandbox dies.
    pub losses: u8,
    /// A step of a node fails.
    pub mishaps: u8,
    /// A node's journal refuses what it is given, or takes its time.
    pub journals: u8,
    /// A node and the replicas do not reach each other, perhaps until long after the node's session.
    pub silences: u8,
    /// A replica's watch of the store falls behind.
    pub lags: u8,
    /// A node's report is held up on its way, and may reach either replica.
    pub reports: u8,
    /// A timer fires although something is still on its way.
    pub hastes: u8,
    /// A replica sweeps.
    pub sweeps: u8,
    /// A timer fires at all.
    pub fires: u8,
}

/// Something that may happen in one history, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// See [`Budget::crashes`].
    Crash,
    /// See [`Budget::messages`].
    Message,
    /// See [`Budget::pauses`].
    Pause,
    /// See [`Budget::restarts`].
    Restart,
    /// See [`Budget::losses`].
    Loss,
    /// See [`Budget::mishaps`].
    Mishap,
    /// See [`Budget::journals`].
    Journal,
    /// See [`Budget::silences`].
    Silence,
    /// See [`Budget::lags`].
    Lag,
    /// See [`Budget::reports`].
    Report,
    /// See [`Budget::hastes`].
    Haste,
    /// See [`Budget::sweeps`].
    Sweep,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 12] = [
        Fault::Crash,
        Fault::Message,
        Fault::Pause,
        Fault::Restart,
        Fault::Loss,
        Fault::Mishap,
        Fault::Journal,
        Fault::Silence,
        Fault::Lag,
        Fault::Report,
        Fault::Haste,
        Fault::Sweep,
    ];
}

impl Budget {
    /// Each of these may happen once.
    pub fn once(faults: &[Fault]) -> Budget {
        let mut budget = Budget::CALM;
        for fault in faults {
            *budget.of(*fault) += 1;
        }
        budget
    }

    fn of(&mut self, fault: Fault) -> &mut u8 {
        match fault {
            Fault::Crash => &mut self.crashes,
            Fault::Message => &mut self.messages,
            Fault::Pause => &mut self.pauses,
            Fault::Restart => &mut self.restarts,
            Fault::Loss => &mut self.losses,
            Fault::Mishap => &mut self.mishaps,
            Fault::Journal => &mut self.journals,
            Fault::Silence => &mut self.silences,
            Fault::Lag => &mut self.lags,
            Fault::Report => &mut self.reports,
            Fault::Haste => &mut self.hastes,
            Fault::Sweep => &mut self.sweeps,
        }
    }

    /// Nothing goes wrong; timers fire as they must.
    pub const CALM: Budget = Budget {
        crashes: 0,
        messages: 0,
        pauses: 0,
        restarts: 0,
        losses: 0,
        mishaps: 0,
        journals: 0,
        silences: 0,
        lags: 0,
        reports: 0,
        hastes: 0,
        sweeps: 0,
        fires: 6,
    };
}

/// How long a store may take to lose a write, where that matters.
const COLLECT_AFTER: Duration = Duration::from_secs(10);

/// The longest that anything is put off by a setting: in effect, never.
const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// The default settings, without what would only repeat itself (replicas' sessions are the
/// model's), without sessions of nodes and without collection.
pub fn settings() -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.node.on_lapse = OnLapse::Keep;
    settings.session.ttl = NEVER;
    settings.session.renew_every = NEVER;
    settings.workflow.collect_after = NEVER;
    settings
}

impl Scope {
    /// A world in which nothing goes wrong, with two replicas.
    pub fn of(nodes: usize, workers_per_node: usize, actors: usize, callers: Vec<Vec<Wish>>) -> Scope {
        Scope {
            nodes,
            workers_per_node,
            actors,
            before: Vec::new(),
            callers,
            budget: Budget::CALM,
            answers: Answers::AtOnce,
            late: Late::Able,
            settings: settings(),
            defect: None,
        }
    }

    /// The same world, where this may go wrong, each once.
    #[must_use]
    pub fn with_faults(self, faults: &[Fault]) -> Scope {
        Scope {
            budget: Budget::once(faults),
            ..self
        }
    }

    /// The same world, some time after this was asked for and done.
    #[must_use]
    pub fn after(self, before: &[Wish]) -> Scope {
        Scope {
            before: before.to_vec(),
            ..self
        }
    }

    /// The same world, in which what nothing points at is deleted after a while.
    #[must_use]
    pub fn with_collection(mut self) -> Scope {
        self.settings.workflow.collect_after = COLLECT_AFTER;
        self
    }

    /// The same world, in which nodes may run what they run for as long as they are heard.
    #[must_use]
    pub fn with_sessions(mut self) -> Scope {
        self.settings.node.on_lapse = OnLapse::Freeze;
        self
    }

    /// Whether snapshots are collected.
    pub fn collects(&self) -> bool {
        self.settings.workflow.collect_after < NEVER
    }

    /// The same world with a defect in it.
    #[must_use]
    pub fn with_defect(self, defect: Defect) -> Scope {
        Scope {
            defect: Some(defect),
            ..self
        }
    }
}

/// What it consists of and what callers ask for, and behind a semicolon what may go wrong.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.nodes * self.workers_per_node;
        write!(
            f,
            "{} actor{} on {} worker{} of {} node{}: ",
            self.actors,
            plural(self.actors),
            workers,
            plural(workers),
            self.nodes,
            plural(self.nodes)
        )?;
        let list = |wishes: &[Wish]| {
            let words: Vec<String> = wishes.iter().map(Wish::to_string).collect();
            words.join(", ")
        };
        if !self.before.is_empty() {
            write!(f, "after {}: ", list(&self.before))?;
        }
        let callers: Vec<String> = self.callers.iter().map(|wishes| list(wishes)).collect();
        f.write_str(&callers.join(" | "))?;
        if self.collects() {
            f.write_str(", with collection")?;
        }
        if self.settings.node.on_lapse == OnLapse::Freeze {
            f.write_str(", with sessions")?;
        }
        if self.answers == Answers::InFlight {
            f.write_str(", the store's answers apart")?;
        }
        let mut budget = self.budget;
        let faults = Fault::ALL.map(|fault| (*budget.of(fault), fault));
        let words: Vec<String> = faults
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, fault)| format!("{count} {fault:?}").to_lowercase())
            .collect();
        let words = if words.is_empty() {
            String::from("nothing")
        } else {
            words.join(", ")
        };
        write!(f, "; {words}")
    }
}

/// What an actor is called.
pub(crate) fn actor_name(actor: usize) -> &'static str {
    if actor == 0 { "a" } else { "b" }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

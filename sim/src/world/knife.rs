//! The knife: it numbers the effects of a run, and at one of them lets something happen to the process
//! that makes it, or to the message that carries it (design section 5).

use super::{Answered, Event, World};
use crate::fact::Fact;
use crate::latency::STORE_SILENT;
use crate::plan::{MILLI, SECOND};
use crate::story::line::Line;
use holdfast_core::effect::{StoreError, StoreOp, Verb};
use holdfast_core::id::{EffectId, OpId, PodUid};
use holdfast_core::node::{self, Work};
use holdfast_core::replica;

/// How long a message that is overtaken by everything else is on its way, in microseconds: by then
/// whoever took over has finished.
const LATE: u64 = 25 * SECOND;
/// The longest that a process is away before it is started again, in microseconds.
const AWAY_MAX: u64 = 5 * SECOND;

/// Where an effect is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// It was decided and has not left.
    NotSent,
    /// It is on its way.
    NotApplied,
    /// It has happened; the answer is on its way.
    NotAcknowledged,
    /// The answer is there and nobody has looked at it.
    NotProcessed,
}

impl Cut {
    /// All four.
    pub const ALL: [Cut; 4] = [
        Cut::NotSent,
        Cut::NotApplied,
        Cut::NotAcknowledged,
        Cut::NotProcessed,
    ];
}

/// What happens at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mishap {
    /// The process dies. What it had sent and was not applied lands when everybody else is done.
    Dies,
    /// The pod of the process is replaced by another one of its name.
    Vanishes,
    /// The process sleeps long enough for its peers to take it for dead, not long enough to doubt its
    /// own lease.
    Naps,
    /// The process sleeps until its leases have run out.
    Sleeps,
    /// The process lives on and hears that nobody answers: the message was lost, or lands late, or its
    /// answer was lost.
    Unheard,
    /// The message is delivered once more when everybody is done.
    Repeats,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Mishap; 6] = [
        Mishap::Dies,
        Mishap::Vanishes,
        Mishap::Naps,
        Mishap::Sleeps,
        Mishap::Unheard,
        Mishap::Repeats,
    ];
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault {
    /// Where the effect is cut.
    pub cut: Cut,
    /// What happens there.
    pub mishap: Mishap,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A replica.
    Replica(usize),
    /// The atelet of a node.
    Node(usize),
    /// An ateom.
    Ateom(usize, PodUid),
}

/// What carries an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// A replica's operation on the store.
    Store,
    /// A replica's call to a node.
    Call,
    /// A node's report to a replica.
    Report,
    /// A node's question to an ateom.
    Ask,
    /// What a process does itself, to its disk.
    Own,
    /// What an ateom does to a sandbox.
    Act,
}

/// One numbered effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its number, from 1.
    pub number: u64,
    /// During which event of the world it came about.
    pub event: u64,
    /// Who makes it.
    pub who: Who,
    /// What carries it.
    pub carrier: Carrier,
    /// What it is.
    pub what: &'static str,
}

impl Effect {
    /// Every mishap at every cut that makes sense for what carries the effect.
    pub fn faults(&self) -> Vec<Fault> {
        let all = |mishap| Cut::ALL.map(|cut| Fault { cut, mishap }).to_vec();
        let some = |mishap, cuts: &[Cut]| cuts.iter().map(|&cut| Fault { cut, mishap }).collect();
        let mut faults = self.deaths();
        match self.carrier {
            Carrier::Store | Carrier::Call | Carrier::Report => {
                faults.extend(all(Mishap::Naps));
                faults.extend(all(Mishap::Sleeps));
                let unheard = [Cut::NotSent, Cut::NotApplied, Cut::NotAcknowledged];
                faults.extend::<Vec<Fault>>(some(Mishap::Unheard, &unheard));
                faults.extend::<Vec<Fault>>(some(Mishap::Repeats, &[Cut::NotAcknowledged]));
            }
            Carrier::Ask => {
                faults.extend(all(Mishap::Naps));
                faults.extend(all(Mishap::Sleeps));
            }
            // There is nothing between it and its process.
            Carrier::Own => {
                faults.extend::<Vec<Fault>>(some(Mishap::Sleeps, &[Cut::NotSent, Cut::NotProcessed]));
            }
            Carrier::Act => faults.extend(all(Mishap::Vanishes)),
        }
        faults
    }

    /// The death of its process, at each of the four cuts.
    pub fn deaths(&self) -> Vec<Fault> {
        Cut::ALL
            .map(|cut| Fault {
                cut,
                mishap: Mishap::Dies,
            })
            .to_vec()
    }
}

/// What is numbered, and what is armed.
#[derive(Clone, Debug, Default)]
pub(super) struct Knife {
    /// How many effects there have been; none before the part of the run that is looked at.
    count: Option<u64>,
    armed: Vec<(u64, Fault)>,
    traps: Vec<(Trap, Fault)>,
    log: Option<Vec<Effect>>,
    /// A step that always fails.
    broken: Option<Work>,
    /// When the last consequence of a fault arrives.
    until: u64,
}

impl Knife {
    pub(super) fn is_broken(&self, work: &Work) -> bool {
        self.broken.as_ref() == Some(work)
    }
}

/// The moment that a fault waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// The answer to an effect reaches its process, in this life.
    Answer(Who, u32, EffectId),
    /// An ateom has done this.
    Act(PodUid, OpId),
}

/// A message that is about to be sent.
pub(super) struct Message {
    pub who: Who,
    pub life: u32,
    pub effect: EffectId,
    pub carrier: Carrier,
    pub what: &'static str,
    /// When it arrives, unless something happens.
    pub arrives: u64,
    pub event: Event,
}

impl World {
    /// From now on effects are numbered, and written down if they are to be.
    pub(crate) fn number_effects(&mut self) {
        self.knife.count = Some(0);
        self.began = self.now;
    }

    pub(crate) fn record_effects(&mut self) {
        self.knife.log = Some(Vec::new());
    }

    pub(crate) fn recorded_effects(&mut self) -> Vec<Effect> {
        self.knife.log.take().unwrap_or_default()
    }

    /// How many effects have been numbered.
    pub(crate) fn effects(&self) -> u64 {
        self.knife.count.unwrap_or_default()
    }

    /// Something will happen at the effect of that number.
    pub(crate) fn arm(&mut self, number: u64, fault: Fault) {
        self.knife.armed.push((number, fault));
    }

    /// From now on this step always fails, or none does.
    pub(crate) fn break_step(&mut self, work: Option<Work>) {
        self.knife.broken = work;
    }

    /// Whether all that was armed has happened, with all its consequences.
    pub(crate) fn is_unarmed(&self) -> bool {
        self.knife.armed.is_empty() && self.knife.traps.is_empty() && self.now >= self.knife.until
    }

    /// Whether something that was armed is still to happen.
    pub(crate) fn faults_end(&self) -> u64 {
        self.knife.until
    }

    /// Numbers an effect; the answer is what happens to it.
    pub(super) fn cut(&mut self, who: &Who, carrier: Carrier, what: &'static str) -> Option<Fault> {
        let count = self.knife.count.as_mut()?;
        *count += 1;
        let number = *count;
        let event = self.events;
        if let Some(log) = &mut self.knife.log {
            log.push(Effect {
                number,
                event,
                who: who.clone(),
                carrier,
                what,
            });
        }
        let armed = self.knife.armed.iter().position(|(at, _)| *at == number)?;
        let (_, fault) = self.knife.armed.remove(armed);
        // What lands late at the store is the last of what is wrong there.
        match fault.mishap {
            Mishap::Dies | Mishap::Vanishes if fault.cut != Cut::NotApplied => {}
            _ if carrier != Carrier::Store => {}
            _ => self.wrong_for(LATE),
        }
        self.tell(Line::Cut(fault, number, what, who));
        Some(fault)
    }

    /// Sends a message, or lets happen to it what is to happen.
    pub(super) fn send(&mut self, message: Message) {
        let Message {
            who,
            life,
            effect,
            carrier,
            what,
            arrives,
            event,
        } = message;
        let Some(Fault { cut, mishap }) = self.cut(&who, carrier, what) else {
            return self.at(arrives, event);
        };
        let travels = arrives - self.now;
        match (mishap, cut) {
            (Mishap::Dies | Mishap::Vanishes, Cut::NotSent) => self.befall(&who, life, mishap),
            (Mishap::Dies | Mishap::Vanishes, Cut::NotApplied) => {
                // What a process does itself, or asks next door, goes with it.
                if !matches!(carrier, Carrier::Own | Carrier::Ask) {
                    self.late(event);
                }
                self.befall(&who, life, mishap);
            }
            (Mishap::Naps | Mishap::Sleeps, Cut::NotSent) => {
                self.befall(&who, life, mishap);
                self.at(self.now + self.sleep(mishap) + travels, event);
            }
            (Mishap::Naps | Mishap::Sleeps, Cut::NotApplied) => {
                self.befall(&who, life, mishap);
                self.at(self.now + self.sleep(mishap) / 2, event);
            }
            (Mishap::Dies | Mishap::Vanishes | Mishap::Naps | Mishap::Sleeps, Cut::NotAcknowledged)
                if carrier != Carrier::Own =>
            {
                self.at(arrives, event);
                self.expect(arrives);
                self.at(arrives, Event::Befalls(who, life, mishap));
            }
            (
                Mishap::Dies | Mishap::Vanishes | Mishap::Naps | Mishap::Sleeps,
                Cut::NotAcknowledged | Cut::NotProcessed,
            ) => {
                self.knife
                    .traps
                    .push((Trap::Answer(who, life, effect), Fault { cut, mishap }));
                self.at(arrives, event);
            }
            (Mishap::Unheard, cut) => {
                if let Some(answer) = self.no_answer(&who, life, effect, &event) {
                    self.within(STORE_SILENT, answer);
                }
                match cut {
                    Cut::NotSent => {}
                    Cut::NotApplied => self.late(event),
                    Cut::NotAcknowledged | Cut::NotProcessed => {
                        let event = self.deafened(event);
                        self.at(arrives, event);
                    }
                }
            }
            (Mishap::Repeats, _) => {
                self.late(event.clone());
                self.at(arrives, event);
            }
        }
    }

    /// The message lands when everybody is done, and its answer is heard by nobody.
    fn late(&mut self, event: Event) {
        let event = self.deafened(event);
        let at = self.now + LATE;
        self.expect(at + SECOND);
        self.at(at, event);
    }

    fn expect(&mut self, until: u64) {
        self.knife.until = self.knife.until.max(until);
    }

    fn deafened(&mut self, event: Event) -> Event {
        match event {
            Event::AtStore(replica, life, effect, op, _) => {
                Event::AtStore(replica, life, effect, op, Answered::Cut)
            }
            Event::ReportArrives(node, _, report) => Event::ReportArrives(node, 0, report),
            Event::OrderArrives(call, order) => Event::OrderArrives(self.deaf_call(call), order),
            event => event,
        }
    }

    /// What tells the sender of a message that nobody answers.
    fn no_answer(&mut self, who: &Who, life: u32, effect: EffectId, event: &Event) -> Option<Event> {
        match (who, event) {
            (Who::Replica(index), Event::AtStore(..)) => {
                let away = StoreError::Unavailable("the store does not answer".into());
                let answer = replica::Input::Stored(effect, Err(away));
                Some(Event::Replica(*index, life, answer))
            }
            (_, Event::OrderArrives(call, _)) => Some(Event::CallEnds(*call, super::replicas::unreachable())),
            (Who::Node(index), Event::ReportArrives(..)) => {
                let answer = node::Input::Reported(Err("no replica answers".into()));
                Some(Event::Node(*index, life, answer))
            }
            _ => None,
        }
    }

    fn sleep(&self, mishap: Mishap) -> u64 {
        let lease = self.settings.lease;
        let sleep = match mishap {
            Mishap::Naps => lease.ttl * 2 / 3,
            _ => lease.ttl * 3 / 2,
        };
        sleep.as_micros() as u64
    }

    /// Something happens to a process, if it is still in that life.
    pub(super) fn befall(&mut self, who: &Who, life: u32, mishap: Mishap) {
        let until = self.now + self.sleep(mishap);
        let is_death = matches!(mishap, Mishap::Dies | Mishap::Vanishes);
        match who {
            Who::Replica(index) if self.replicas[*index].life == life => {
                if is_death {
                    self.kill_replica(*index);
                } else {
                    self.replicas[*index].paused_until = until;
                    self.fact(Fact::Slept {
                        replica: *index,
                        until,
                    });
                }
            }
            Who::Node(index) if self.hosts[*index].life == life => {
                if is_death {
                    self.kill_node(*index);
                } else {
                    self.node_sleeps(*index, until);
                }
            }
            Who::Ateom(index, uid) => {
                let is_it = |ateom: &crate::host::Ateom| ateom.is_up && ateom.run == life;
                if self.hosts[*index].ateoms.get(uid).is_some_and(is_it) {
                    if mishap == Mishap::Vanishes {
                        self.replace_pod(*index, uid);
                    } else {
                        let is_noticed = self.rng.permille(500);
                        self.kill_ateom(*index, uid, is_noticed);
                    }
                }
            }
            Who::Replica(_) | Who::Node(_) => return,
        }
        self.expect(if is_death { self.now + AWAY_MAX } else { until });
    }

    /// The answer to an effect has reached its process: whether something happens before it is
    /// looked at.
    pub(super) fn is_felled(&mut self, who: Who, life: u32, effect: EffectId) -> bool {
        let trap = Trap::Answer(who, life, effect);
        let Some(fault) = self.sprung(&trap) else {
            return false;
        };
        let Trap::Answer(who, ..) = trap else { return false };
        self.befall(&who, life, fault.mishap);
        true
    }

    pub(super) fn sprung(&mut self, trap: &Trap) -> Option<Fault> {
        let at = self.knife.traps.iter().position(|(set, _)| set == trap)?;
        Some(self.knife.traps.remove(at).1)
    }

    /// Numbers what an ateom is about to do, and lets happen what is to happen before it has.
    pub(super) fn cut_act(&mut self, index: usize, uid: &PodUid, op: OpId, work: &Work) {
        let Some(run) = self.hosts[index].ateoms.get(uid).map(|a| a.run) else {
            return;
        };
        let who = Who::Ateom(index, uid.clone());
        let what = match work {
            Work::Boot { .. } => "ateom boots",
            Work::Thaw { .. } => "ateom thaws",
            Work::Capture => "ateom captures",
            _ => "ateom stops",
        };
        let Some(fault) = self.cut(&who, Carrier::Act, what) else {
            return;
        };
        match fault.cut {
            Cut::NotSent => self.befall(&who, run, fault.mishap),
            Cut::NotApplied => {
                // It takes at least twice as long.
                let at = self.now + 10 * MILLI;
                self.expect(at);
                self.at(at, Event::Befalls(who, run, fault.mishap));
            }
            Cut::NotAcknowledged | Cut::NotProcessed => {
                self.knife.traps.push((Trap::Act(uid.clone(), op), fault));
            }
        }
    }
}

/// What an operation on the store is called, if it is an effect of a workflow, of a repair or of a
/// report; a replica's own session and lists are not.
pub(super) fn name_of(op: &StoreOp) -> Option<&'static str> {
    Some(match op {
        StoreOp::GetActor(_) => "GetActor",
        StoreOp::PutActor { .. } => "PutActor",
        StoreOp::DeleteActor { .. } => "DeleteActor",
        StoreOp::AcquireLease { steal: Some(_), .. } => "StealLease",
        StoreOp::AcquireLease { .. } => "AcquireLease",
        StoreOp::RenewLease { .. } => "RenewLease",
        StoreOp::ReleaseLease { .. } => "ReleaseLease",
        StoreOp::GetWorker(_) => "GetWorker",
        StoreOp::PutWorker { .. } => "PutWorker",
        StoreOp::DeleteWorker { .. } => "DeleteWorker",
        StoreOp::GetSession(_) => "GetSession",
        StoreOp::PutNode(_) => "PutNode",
        StoreOp::LapseNode { .. } => "LapseNode",
        _ => return None,
    })
}

/// What a node call is called.
pub(super) fn name_of_call(verb: &Verb) -> &'static str {
    match verb {
        Verb::Run { .. } => "Run",
        Verb::Restore { .. } => "Restore",
        Verb::Checkpoint { .. } => "Checkpoint",
        Verb::Upload { .. } => "Upload",
        Verb::Stop => "Stop",
        Verb::Thaw => "Thaw",
    }
}

/// What a step on a node is called, and what carries it.
pub(super) fn name_of_step(work: &Work) -> (&'static str, Carrier) {
    match work {
        Work::Clear => ("Clear", Carrier::Own),
        Work::Fetch => ("Fetch", Carrier::Own),
        Work::Assemble => ("Assemble", Carrier::Own),
        Work::Save(_) => ("Save", Carrier::Own),
        Work::Upload => ("Upload", Carrier::Own),
        Work::Boot { .. } => ("Boot", Carrier::Ask),
        Work::Thaw { .. } => ("Thaw", Carrier::Ask),
        Work::Capture => ("Capture", Carrier::Ask),
        Work::Stop => ("Stop", Carrier::Ask),
    }
}

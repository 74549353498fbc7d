//! The actors of a run: who sleeps, who runs, and who is in somebody's hands.
//!
//! A call that moves an actor has it for itself until it is answered, so that what is measured is the server
//! and not two clients in each other's way. Where a kind of call has nobody to ask about, its counterpart is
//! asked for instead, which brings that about.

use super::mix::Kind;

/// What is known of an actor that nobody has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Suspended,
    Paused,
    Running,
}

/// An actor in somebody's hands.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub name: String,
    /// What it was when it was taken; none if it is yet to be created.
    was: Option<State>,
}

/// What became of a call about an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It is where it was, as far as anybody knows.
    Failed,
    /// It will not come back by asking again: crashed, or deleted by somebody else.
    Lost,
}

/// Who may run, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so many run at once.
    pub running: usize,
    /// At most so many exist at once.
    pub actors: usize,
}

/// All actors of a run.
#[derive(Debug)]
pub struct Herd {
    prefix: String,
    limits: Limits,
    suspended: Vec<String>,
    paused: Vec<String>,
    running: Vec<String>,
    /// Those that exist, in hand or not.
    alive: usize,
    /// Those that run, or are about to, in hand or not.
    awake: usize,
    next: u64,
}

impl Herd {
    /// No actors yet; their names will begin with `prefix`.
    pub fn new(prefix: &str, limits: Limits) -> Herd {
        Herd {
            prefix: prefix.to_owned(),
            limits,
            suspended: Vec::new(),
            paused: Vec::new(),
            running: Vec::new(),
            alive: 0,
            awake: 0,
            next: 0,
        }
    }

    /// How many exist.
    pub fn len(&self) -> usize {
        self.alive
    }

    /// How many run, or are about to.
    pub fn awake(&self) -> usize {
        self.awake
    }

    /// An actor that an earlier run has left.
    pub fn adopt(&mut self, name: String, state: State) {
        self.alive += 1;
        self.awake += usize::from(state == State::Running);
        let number = name
            .strip_prefix(&self.prefix)
            .and_then(|number| number.parse().ok());
        self.next = self
            .next
            .max(number.map_or(0, |number: u64| number.saturating_add(1)));
        self.pool(state).push(name);
    }

    /// A call of `kind`, or of what has to come first, and the actor for it. None if all are in others' hands.
    pub fn take(&mut self, kind: Kind, random: u64) -> Option<(Kind, Held)> {
        let kinds: &[Kind] = match kind {
            Kind::Create if self.alive >= self.limits.actors => &[Kind::Delete, Kind::Suspend],
            Kind::Create => &[Kind::Create],
            Kind::Delete => &[Kind::Delete, Kind::Create],
            Kind::Resume if self.awake >= self.limits.running => &[Kind::Suspend],
            Kind::Resume => &[Kind::Resume, Kind::Suspend],
            Kind::Suspend => &[Kind::Suspend, Kind::Resume],
            Kind::Pause => &[Kind::Pause, Kind::Resume],
            Kind::ResumeRunning => &[Kind::ResumeRunning, Kind::Resume],
            Kind::Get | Kind::Update => &[kind],
            Kind::ListActors | Kind::ListWorkers | Kind::ListAtespaces => return None,
        };
        kinds
            .iter()
            .find_map(|kind| Some((*kind, self.pick(*kind, random)?)))
    }

    /// Puts an actor back, after a call of `kind`.
    pub fn put(&mut self, kind: Kind, held: Held, outcome: Outcome) {
        let after = match (outcome, kind) {
            (Outcome::Lost, _) => None,
            (Outcome::Failed, _) => held.was,
            (Outcome::Done, Kind::Create | Kind::Suspend) => Some(State::Suspended),
            (Outcome::Done, Kind::Resume | Kind::ResumeRunning) => Some(State::Running),
            (Outcome::Done, Kind::Pause) => Some(State::Paused),
            (Outcome::Done, Kind::Delete) => None,
            (Outcome::Done, _) => held.was,
        };
        let was_awake = kind == Kind::Resume || held.was == Some(State::Running);
        self.awake = self.awake + usize::from(after == Some(State::Running)) - usize::from(was_awake);
        match after {
            Some(state) => self.pool(state).push(held.name),
            None => self.alive -= 1,
        }
    }

    fn pick(&mut self, kind: Kind, random: u64) -> Option<Held> {
        let from: &[State] = match kind {
            Kind::Create => {
                let name = format!("{}{:06}", self.prefix, self.next);
                self.next += 1;
                self.alive += 1;
                return Some(Held { name, was: None });
            }
            Kind::Delete => &[State::Suspended],
            Kind::Resume if self.awake >= self.limits.running => &[],
            Kind::Resume => &[State::Suspended, State::Paused],
            Kind::Suspend | Kind::Pause | Kind::ResumeRunning => &[State::Running],
            _ => &[State::Suspended, State::Running, State::Paused],
        };
        let count: usize = from.iter().map(|state| self.pool(*state).len()).sum();
        let mut nth = usize::try_from(random % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0);
        for state in from {
            let pool = self.pool(*state);
            if nth < pool.len() {
                let name = pool.swap_remove(nth);
                self.awake += usize::from(kind == Kind::Resume);
                return Some(Held {
                    name,
                    was: Some(*state),
                });
            }
            nth -= pool.len();
        }
        None
    }

    fn pool(&mut self, state: State) -> &mut Vec<String> {
        match state {
            State::Suspended => &mut self.suspended,
            State::Paused => &mut self.paused,
            State::Running => &mut self.running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        running: 2,
        actors: 3,
    };

    fn herd() -> Herd {
        Herd::new("a-", LIMITS)
    }

    /// Makes a call that is answered well, and says which it was.
    fn done(herd: &mut Herd, kind: Kind) -> Option<Kind> {
        let (kind, held) = herd.take(kind, 7)?;
        herd.put(kind, held, Outcome::Done);
        Some(kind)
    }

    #[test]
    fn what_has_nobody_to_ask_about_is_preceded_by_what_brings_that_about() {
        let mut herd = herd();
        assert_eq!(done(&mut herd, Kind::Delete), Some(Kind::Create));
        assert_eq!(done(&mut herd, Kind::Suspend), Some(Kind::Resume));
        assert_eq!(done(&mut herd, Kind::Delete), Some(Kind::Create));
        assert_eq!(done(&mut herd, Kind::Pause), Some(Kind::Pause));
        assert_eq!(done(&mut herd, Kind::ResumeRunning), Some(Kind::Resume));
        assert_eq!(done(&mut herd, Kind::ResumeRunning), Some(Kind::ResumeRunning));
        assert_eq!(herd.len(), 2);
    }

    #[test]
    fn no_more_run_than_there_is_room_for() {
        let mut herd = herd();
        for _ in 0..3 {
            done(&mut herd, Kind::Create);
        }
        let (_, one) = herd.take(Kind::Resume, 0).unwrap();
        let (_, two) = herd.take(Kind::Resume, 0).unwrap();
        assert_eq!(
            herd.take(Kind::Resume, 0),
            None,
            "two are on their way, and none can be suspended"
        );
        herd.put(Kind::Resume, one, Outcome::Done);
        herd.put(Kind::Resume, two, Outcome::Failed);
        assert_eq!(done(&mut herd, Kind::Resume), Some(Kind::Resume));
        assert_eq!(done(&mut herd, Kind::Resume), Some(Kind::Suspend));
    }

    #[test]
    fn no_more_exist_than_there_may() {
        let mut herd = herd();
        for _ in 0..3 {
            assert_eq!(done(&mut herd, Kind::Create), Some(Kind::Create));
        }
        assert_eq!(done(&mut herd, Kind::Create), Some(Kind::Delete));
        assert_eq!(done(&mut herd, Kind::Create), Some(Kind::Create));
    }

    #[test]
    fn an_actor_is_in_one_hand_at_a_time_and_what_is_lost_does_not_come_back() {
        let mut herd = herd();
        done(&mut herd, Kind::Create);
        let (kind, held) = herd.take(Kind::Resume, 0).unwrap();
        assert_eq!(herd.take(Kind::Get, 0), None);
        herd.put(kind, held, Outcome::Lost);
        assert_eq!(herd.len(), 0);
        assert_eq!(herd.take(Kind::Get, 0), None);
    }

    #[test]
    fn a_new_name_is_none_that_was_adopted() {
        let mut herd = herd();
        herd.adopt("a-000041".to_owned(), State::Running);
        herd.adopt("a-other".to_owned(), State::Paused);
        let (_, held) = herd.take(Kind::Create, 0).unwrap();
        assert_eq!(held.name, "a-000042");
    }
}

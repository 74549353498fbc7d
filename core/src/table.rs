//! Tables of transitions: one per record, and the only place that says what may become of it.
//!
//! A record (an actor, a worker's row, a lease, a pull, a node's operation) is in one of a few states,
//! or is not there at all, and a closed set of events may befall it. Its module owns its [`Table`] as a
//! constant and asks it for every change that it makes: [`Table::check`] refuses what comes from
//! outside, [`Table::made`] asserts, in production too, what the code itself decided. The diagrams and
//! tables of the documentation are written from the same constant.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A closed set of names: the states of a record without what they carry, or what may befall it.
pub trait Kind: Copy + Eq + fmt::Debug + 'static {
    /// All of them, in the order in which they are shown.
    const ALL: &'static [Self];

    /// What it is called in tables, diagrams and logs.
    fn name(self) -> &'static str;
}

/// Declares a [`Kind`] whose names are those of its variants.
macro_rules! kinds {
    ($(#[$about:meta])* pub enum $kind:ident { $($(#[$each:meta])* $name:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[$each])* $name),+ }

        impl $crate::table::Kind for $kind {
            const ALL: &'static [Self] = &[$(Self::$name),+];

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}
pub(crate) use kinds;

/// Everything that may become of one kind of record.
#[derive(Debug)]
pub struct Table<S: 'static, E: 'static> {
    record: &'static str,
    rows: &'static [Row<S, E>],
}

/// One line of a table: what an event does in some states.
#[derive(Debug)]
pub struct Row<S: 'static, E: 'static> {
    from: Before<S>,
    event: E,
    to: After<S>,
    effect: &'static str,
}

#[derive(Debug)]
enum Before<S: 'static> {
    Nothing,
    States(&'static [S]),
}

#[derive(Debug)]
enum After<S: 'static> {
    Nothing,
    Same,
    States(&'static [S]),
}

/// The record comes into being.
pub const fn begins<S, E>(event: E, to: &'static [S], effect: &'static str) -> Row<S, E> {
    Row {
        from: Before::Nothing,
        event,
        to: After::States(to),
        effect,
    }
}

/// The record goes on in one of the states `to`.
pub const fn moves<S, E>(from: &'static [S], event: E, to: &'static [S], effect: &'static str) -> Row<S, E> {
    Row {
        from: Before::States(from),
        event,
        to: After::States(to),
        effect,
    }
}

/// The record changes and its state does not.
pub const fn stays<S, E>(from: &'static [S], event: E, effect: &'static str) -> Row<S, E> {
    Row {
        from: Before::States(from),
        event,
        to: After::Same,
        effect,
    }
}

/// The record is no more.
pub const fn ends<S, E>(from: &'static [S], event: E, effect: &'static str) -> Row<S, E> {
    Row {
        from: Before::States(from),
        event,
        to: After::Nothing,
        effect,
    }
}

/// A transition that was made, by the names in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moved {
    /// What kind of record.
    pub record: &'static str,
    /// The state it was in, or [`ABSENT`].
    pub from: &'static str,
    /// What befell it.
    pub event: &'static str,
    /// The state it is in now, or [`ABSENT`].
    pub to: &'static str,
}

/// The name of not being there.
pub const ABSENT: &str = "absent";

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} -> {} by {}",
            self.record, self.from, self.to, self.event
        )
    }
}

/// An event for which a table has no row in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Illegal<S, E> {
    /// The state that the record was in; none if it was not there.
    pub from: Option<S>,
    /// What should have befallen it.
    pub event: E,
}

impl<S: Kind, E: Kind> fmt::Display for Illegal<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no transition {} from {}", self.event.name(), name(self.from))
    }
}

impl<S: Kind, E: Kind> Table<S, E> {
    /// The table of what is called `record`.
    pub const fn new(record: &'static str, rows: &'static [Row<S, E>]) -> Table<S, E> {
        Table { record, rows }
    }

    /// What kind of record it is about.
    pub fn record(&self) -> &'static str {
        self.record
    }

    /// Where `event` may lead from `from`; `None` stands for a record that is not there.
    pub fn targets(&self, from: Option<S>, event: E) -> impl Iterator<Item = Option<S>> {
        let rows = self.rows.iter().filter(move |row| row.applies(from, event));
        rows.flat_map(move |row| {
            let (one, many): (Option<Option<S>>, &[S]) = match row.to {
                After::Nothing => (Some(None), &[]),
                After::Same => (Some(from), &[]),
                After::States(states) => (None, states),
            };
            one.into_iter().chain(many.iter().map(|state| Some(*state)))
        })
    }

    /// Whether `event` may befall a record in this state.
    pub fn allows(&self, from: Option<S>, event: E) -> bool {
        self.rows.iter().any(|row| row.applies(from, event))
    }

    /// Refuses an event that must not befall a record in this state.
    ///
    /// # Errors
    /// [`Illegal`] if the table has no such row.
    pub fn check(&self, from: Option<S>, event: E) -> Result<(), Illegal<S, E>> {
        if self.allows(from, event) {
            Ok(())
        } else {
            Err(Illegal { from, event })
        }
    }

    /// The transition that is being made.
    ///
    /// # Panics
    /// If the table does not have it: a defect of the machine that made it, which goes no further.
    pub fn made(&self, from: Option<S>, event: E, to: Option<S>) -> Moved {
        let moved = self.named(from, event, to);
        let leads = |row: &Row<S, E>| row.applies(from, event) && row.may_end_in(from, to);
        assert!(self.rows.iter().any(leads), "not in the table: {moved}");
        moved
    }

    /// The names of a transition that has been made.
    pub fn named(&self, from: Option<S>, event: E, to: Option<S>) -> Moved {
        Moved {
            record: self.record,
            from: name(from),
            event: event.name(),
            to: name(to),
        }
    }

    /// Every state and every event, whether the table has a row for them or not: what a test must try.
    pub fn pairs(&self) -> impl Iterator<Item = (Option<S>, E)> {
        self.states()
            .flat_map(|state| E::ALL.iter().map(move |event| (state, *event)))
    }

    /// Every state that the record may be in, and whether it may not be there.
    fn states(&self) -> impl Iterator<Item = Option<S>> {
        let may_begin = self.rows.iter().any(|row| matches!(row.from, Before::Nothing));
        let nothing = may_begin.then_some(None);
        nothing.into_iter().chain(S::ALL.iter().map(|state| Some(*state)))
    }

    /// Every transition that may be made.
    pub fn transitions(&self) -> Vec<Moved> {
        let mut all: Vec<Moved> = Vec::new();
        for (from, event) in self.pairs() {
            for to in self.targets(from, event) {
                all.push(self.made(from, event, to));
            }
        }
        all
    }

    /// A state diagram in Mermaid's notation. What leaves the state as it is is not drawn.
    pub fn diagram(&self) -> String {
        let shown = |state: Option<S>| state.map_or("[*]", S::name);
        let mut text = String::from("stateDiagram-v2\n");
        for from in self.states() {
            for to in self.states().filter(|to| *to != from) {
                let leads = |event: &&E| self.targets(from, **event).any(|target| target == to);
                let events: Vec<&str> = E::ALL.iter().filter(leads).map(|event| event.name()).collect();
                if !events.is_empty() {
                    let (from, to, events) = (shown(from), shown(to), events.join(", "));
                    text.push_str(&format!("    {from} --> {to}: {events}\n"));
                }
            }
        }
        text
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let states = |states: &[S]| {
            if states == S::ALL {
                String::from("any")
            } else {
                states
                    .iter()
                    .map(|state| state.name())
                    .collect::<Vec<_>>()
                    .join(", ")
            }
        };
        let mut text = String::from("| event | from | to | what it does |\n|---|---|---|---|\n");
        for row in self.rows {
            let from = match row.from {
                Before::Nothing => String::from(ABSENT),
                Before::States(from) => states(from),
            };
            let to = match row.to {
                After::Nothing => String::from(ABSENT),
                After::Same => String::from("the same"),
                After::States(to) => states(to),
            };
            text.push_str(&format!(
                "| {} | {from} | {to} | {} |\n",
                row.event.name(),
                row.effect
            ));
        }
        text
    }
}

impl<S: Kind, E: Kind> Row<S, E> {
    fn applies(&self, from: Option<S>, event: E) -> bool {
        let is_from = match (&self.from, from) {
            (Before::Nothing, None) => true,
            (Before::States(states), Some(state)) => states.contains(&state),
            (Before::Nothing, Some(_)) | (Before::States(_), None) => false,
        };
        is_from && self.event == event
    }

    fn may_end_in(&self, from: Option<S>, to: Option<S>) -> bool {
        match self.to {
            After::Nothing => to.is_none(),
            After::Same => to == from,
            After::States(states) => to.is_some_and(|to| states.contains(&to)),
        }
    }
}

fn name<S: Kind>(state: Option<S>) -> &'static str {
    state.map_or(ABSENT, S::name)
}

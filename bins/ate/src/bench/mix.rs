//! What is asked for, and how often each.

use std::fmt;
use std::str::FromStr;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Create,
    Delete,
    /// Of an actor that sleeps.
    Resume,
    /// Of an actor that runs, as routers ask before every request.
    ResumeRunning,
    Suspend,
    Pause,
    Get,
    Update,
    ListActors,
    ListWorkers,
    ListAtespaces,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Create,
        Kind::Delete,
        Kind::Resume,
        Kind::ResumeRunning,
        Kind::Suspend,
        Kind::Pause,
        Kind::Get,
        Kind::Update,
        Kind::ListActors,
        Kind::ListWorkers,
        Kind::ListAtespaces,
    ];

    /// As it is written and shown.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Delete => "delete",
            Kind::Resume => "resume",
            Kind::ResumeRunning => "resume-running",
            Kind::Suspend => "suspend",
            Kind::Pause => "pause",
            Kind::Get => "get",
            Kind::Update => "update",
            Kind::ListActors => "list-actors",
            Kind::ListWorkers => "list-workers",
            Kind::ListAtespaces => "list-atespaces",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kinds of calls with their weights, each kind once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    parts: Vec<(Kind, u32)>,
    total: u64,
}

/// What is wrong with a mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    #[error("write KIND=WEIGHT,..., such as resume=1,suspend=1")]
    Form,
    #[error("there is no call \"{name}\"; want one of {}", names())]
    Kind { name: String },
    #[error("the weight of {kind} is \"{weight}\"; want a whole number from 1 to {WEIGHT_MAX}")]
    Weight { kind: Kind, weight: String },
    #[error("{0} is given twice")]
    Twice(Kind),
}

/// Finer shares than a millionth are not told apart in any run.
const WEIGHT_MAX: u32 = 1_000_000;

impl Mix {
    pub fn has(&self, kind: Kind) -> bool {
        self.parts.iter().any(|(part, _)| *part == kind)
    }

    /// The kind that `random`, any number, stands for.
    pub fn pick(&self, random: u64) -> Kind {
        let mut rest = random % self.total;
        for (kind, weight) in &self.parts {
            match rest.checked_sub(u64::from(*weight)) {
                Some(less) => rest = less,
                None => return *kind,
            }
        }
        unreachable!("the weights add up to the total")
    }
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Mix, MixError> {
        let mut mix = Mix {
            parts: Vec::new(),
            total: 0,
        };
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or(MixError::Form)?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.ok_or_else(|| MixError::Kind {
                name: name.to_owned(),
            })?;
            if mix.has(kind) {
                return Err(MixError::Twice(kind));
            }
            let number = weight
                .parse()
                .ok()
                .filter(|number| (1..=WEIGHT_MAX).contains(number));
            let number = number.ok_or_else(|| MixError::Weight {
                kind,
                weight: weight.to_owned(),
            })?;
            mix.parts.push((kind, number));
            mix.total += u64::from(number);
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (kind, weight)) in self.parts.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{kind}={weight}")?;
        }
        Ok(())
    }
}

fn names() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_picked_as_often_as_its_weight_says() {
        let mix: Mix = "resume=3,get=5,create=2".parse().unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for random in 0..1000 {
            *counts.entry(mix.pick(random).name()).or_insert(0) += 1;
        }
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("create", 200), ("get", 500), ("resume", 300)]
        );
    }

    #[test]
    fn a_mix_is_shown_as_it_is_written() {
        let all = Kind::ALL.map(|kind| format!("{kind}=7")).join(",");
        assert_eq!(all.parse::<Mix>().unwrap().to_string(), all);
    }

    #[test]
    fn what_is_wrong_with_a_mix_is_said() {
        for (text, complaint) in [
            ("", "write KIND=WEIGHT"),
            ("resume", "write KIND=WEIGHT"),
            ("resume=1,", "write KIND=WEIGHT"),
            (
                "restart=1",
                "there is no call \"restart\"; want one of create, delete",
            ),
            ("get=0", "the weight of get is \"0\""),
            ("get=1000001", "from 1 to 1000000"),
            ("get=-1", "\"-1\""),
            ("get=1,get=2", "get is given twice"),
        ] {
            let error = text.parse::<Mix>().expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}

//! Which plans are meant: the world that a seed is to draw one for, or a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use holdfast_runtime::duration;
use holdfast_sim::museum::{self, Exhibit};
use holdfast_sim::plan::document::MANY;
use holdfast_sim::plan::{Kind, Plan, Recipe, Shape};
use holdfast_sim::world::Story;

use super::found;
use crate::cli::UsageError;
use crate::failure::Failure;

/// What plans are drawn for. What is not said here the seed draws too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "World")]
pub struct World {
    /// A small world: 1 to 3 replicas, 1 to 3 nodes, 2 to 5 actors, 5 minutes of storm (the default)
    #[arg(long, conflicts_with = "standard")]
    pub small: bool,
    /// 3 replicas, 4 nodes with 4 workers each, 40 actors of which each is asked for every few seconds, half an
    /// hour of storm
    #[arg(long)]
    pub standard: bool,
    /// How long faults strike and callers call, such as 10m; the calm after it takes longer with pauses and TTLs
    #[arg(long, value_name = "DURATION", value_parser = storm)]
    pub time: Option<Duration>,
    /// How many replicas
    #[arg(long, value_name = "N", value_parser = many)]
    pub replicas: Option<usize>,
    /// How many nodes
    #[arg(long, value_name = "N", value_parser = many)]
    pub nodes: Option<usize>,
    /// How many workers on each node
    #[arg(long, value_name = "N", value_parser = many)]
    pub workers: Option<usize>,
    /// How many actors
    #[arg(long, value_name = "N", value_parser = many)]
    pub actors: Option<usize>,
    /// How many callers at once
    #[arg(long, value_name = "N", value_parser = many)]
    pub callers: Option<usize>,
    /// A named shape of trouble instead, such as zombie-returns
    #[arg(long, value_name = "SHAPE", value_parser = shape,
        conflicts_with_all = ["standard", "time", "replicas", "nodes", "workers", "actors", "callers", "faults"])]
    pub shape: Option<Shape>,
    /// The kinds of faults that may strike: all, none, or names such as disk-full,node-dies
    #[arg(long, value_name = "KIND,...", value_parser = faults)]
    pub faults: Option<Faults>,
}

/// Kinds of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Kind>);

/// The longest storm: a plan has every request of it.
const STORM_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest storm: the first faults strike after some seconds.
const STORM_MIN: Duration = Duration::from_secs(1);

impl World {
    /// What a seed draws.
    pub fn recipe(&self, seed: u64) -> Recipe {
        let drawn = match self.standard {
            true => Recipe::standard(seed),
            false => Recipe::small(seed),
        };
        Recipe {
            replicas: self.replicas.unwrap_or(drawn.replicas),
            nodes: self.nodes.unwrap_or(drawn.nodes),
            workers_per_node: self.workers.unwrap_or(drawn.workers_per_node),
            actors: self.actors.unwrap_or(drawn.actors),
            callers: self.callers.unwrap_or(drawn.callers),
            storm: match self.time {
                Some(time) => u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
                None => drawn.storm,
            },
            faults: match &self.faults {
                Some(Faults(kinds)) => kinds.clone(),
                None => drawn.faults.clone(),
            },
            ..drawn
        }
    }

    /// The plan that a seed makes.
    pub fn plan(&self, seed: u64) -> Plan {
        match self.shape {
            Some(shape) => shape.plan(seed),
            None => self.recipe(seed).plan(),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match (self.shape, self.standard) {
            (Some(shape), _) => shape.name(),
            (None, true) => "standard",
            (None, false) => "small",
        }
    }

    fn is_said(&self) -> bool {
        let World {
            small,
            standard,
            time,
            replicas,
            nodes,
            workers,
            actors,
            callers,
            shape,
            faults,
        } = self;
        let sizes = [replicas, nodes, workers, actors, callers];
        *small
            || *standard
            || shape.is_some()
            || time.is_some()
            || faults.is_some()
            || sizes.iter().any(|size| size.is_some())
    }
}

/// What plays.
#[derive(Args, Clone, Debug, Default)]
pub struct Players {
    /// Build this known bug in, or this whole protocol: one of those that `ate sim museum --list` names
    #[arg(long, value_name = "NAME", value_parser = exhibit)]
    protocol: Option<&'static Exhibit>,
}

impl Players {
    /// The world that plays a plan.
    pub fn world(&self, plan: Plan, story: Story) -> holdfast_sim::world::World {
        match self.protocol {
            Some(exhibit) => exhibit.world(plan, story),
            None => holdfast_sim::world::World::new(plan, story),
        }
    }

    /// The plan of a seed: a bug is hunted with plans of its own, unless a world is asked for.
    pub fn plan(&self, world: &World, seed: u64) -> Plan {
        match self.protocol {
            Some(exhibit) if !world.is_said() => exhibit.plan(seed),
            _ => world.plan(seed),
        }
    }

    /// The command that plays a plan again.
    pub fn replay(&self, path: &Path) -> String {
        let replay = found::replay(path);
        match self.protocol {
            Some(exhibit) => format!("{replay} --protocol {}", exhibit.name),
            None => replay,
        }
    }
}

/// The one of that name.
pub fn exhibit(name: &str) -> Result<&'static Exhibit, String> {
    Exhibit::named(name).ok_or_else(|| {
        let names: Vec<&str> = museum::ALL.iter().map(|exhibit| exhibit.name).collect();
        format!(
            "there is no bug {name:?} in the museum; want one of {}",
            names.join(", ")
        )
    })
}

/// One plan.
#[derive(Args, Clone, Debug)]
pub struct OnePlan {
    /// A file with a plan; or a seed, with the options of its world
    #[arg(value_name = "PLAN")]
    plan: String,
    #[command(flatten)]
    pub players: Players,
    #[command(flatten)]
    world: World,
}

impl OnePlan {
    /// The plan.
    pub fn plan(&self) -> Result<Plan, Failure> {
        if let Ok(seed) = self.plan.parse() {
            return Ok(self.players.plan(&self.world, seed));
        }
        if self.world.is_said() {
            let message = format!(
                "{} is a file with a plan, which says what its world is: leave the options of a world out",
                self.plan
            );
            return Err(UsageError::new(ErrorKind::ArgumentConflict, message).into());
        }
        from_file("PLAN", Path::new(&self.plan))
    }

    /// The seed, if it is one.
    pub fn seed(&self) -> Option<u64> {
        self.plan.parse().ok()
    }

    /// What to call a file that is made of it.
    pub fn stem(&self) -> String {
        match self.seed() {
            Some(seed) => format!("seed-{seed}"),
            None => stem(Path::new(&self.plan)),
        }
    }
}

/// What a file is called without what its name ends with.
pub fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The plan in a file, which was given as this argument.
fn from_file(argument: &'static str, path: &Path) -> Result<Plan, Failure> {
    Plan::from_file(path).map_err(|bad| Failure::Input(anyhow::Error::new(bad).context(argument)))
}

/// The plans that --plan names: in these files, and in those of these directories, in the order of their names.
pub fn from_files(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Plan)>, Failure> {
    let mut plans = Vec::new();
    for path in paths {
        if !path.is_dir() {
            plans.push((path.clone(), from_file("--plan", path)?));
            continue;
        }
        let unreadable = |error: std::io::Error| {
            Failure::Input(
                anyhow::Error::new(error).context(format!("--plan: {} cannot be read", path.display())),
            )
        };
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                files.push(file);
            }
        }
        if files.is_empty() {
            let path = path.display();
            return Err(Failure::Input(anyhow::anyhow!(
                "--plan: {path}: no plan in there, such as x.json"
            )));
        }
        files.sort();
        for file in files {
            let plan = from_file("--plan", &file)?;
            plans.push((file, plan));
        }
    }
    Ok(plans)
}

fn storm(text: &str) -> Result<Duration, String> {
    let time = duration::at_least(STORM_MIN, text).map_err(|error| error.to_string())?;
    match time <= STORM_MAX {
        true => Ok(time),
        false => Err(format!("must be {} or shorter", duration::show(STORM_MAX))),
    }
}

fn many(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MANY).contains(number));
    number.ok_or_else(|| format!("want a number from 1 to {MANY}"))
}

fn shape(name: &str) -> Result<Shape, String> {
    let found = Shape::ALL.into_iter().find(|shape| shape.name() == name);
    found.ok_or_else(|| {
        let names = Shape::ALL.map(Shape::name).join(", ");
        format!("there is no shape {name:?}; want one of {names}")
    })
}

fn faults(text: &str) -> Result<Faults, String> {
    let kind = |name: &str| {
        Kind::named(name).ok_or_else(|| {
            let names: Vec<String> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!(
                "there is no fault {name:?}; want all, none, or some of {}",
                names.join(",")
            )
        })
    };
    Ok(Faults(match text {
        "all" => Kind::ALL.to_vec(),
        "none" => Vec::new(),
        names => names.split(',').map(kind).collect::<Result<_, _>>()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_world_is_what_a_seed_draws_it_with() {
        let world = World {
            time: Some(Duration::from_secs(90)),
            replicas: Some(2),
            nodes: Some(3),
            workers: Some(4),
            actors: Some(5),
            callers: Some(6),
            faults: Some(faults("disk-full,NodeDies").unwrap()),
            ..World::default()
        };
        let plan = world.recipe(7).plan();
        assert_eq!(plan.storm_us, 90_000_000);
        let sizes = &plan.world;
        assert_eq!((sizes.replicas.len(), sizes.nodes.len()), (2, 3));
        assert!(sizes.nodes.iter().all(|node| node.workers == 4));
        assert_eq!((sizes.actors, sizes.callers), (5, 6));
        assert!(plan.kinds().is_subset(&[Kind::DiskFull, Kind::NodeDies].into()));
        assert!(world.is_said() && !World::default().is_said());
        let drawn = Recipe::small(7).plan();
        assert_eq!(World::default().recipe(7).plan(), drawn);
    }

    #[test]
    fn faults_are_all_none_or_some() {
        assert_eq!(faults("all"), Ok(Faults(Kind::ALL.to_vec())));
        assert_eq!(faults("none"), Ok(Faults(Vec::new())));
        assert_eq!(faults("store-away"), Ok(Faults(vec![Kind::StoreAway])));
        let told = faults("store-away,rain").unwrap_err();
        assert!(told.contains("\"rain\"") && told.contains("disk-full"), "{told}");
    }
}

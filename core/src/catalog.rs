//! What operators declare: templates, worker pools and sandbox configurations, and which pools an
//! actor may run in.
//!
//! A catalog is replaced as a whole when its source changes; nothing here is ever half updated.

use crate::id::Name;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Labels, or the equalities that a selector asks for.
pub type Labels = BTreeMap<Name, Name>;

/// Everything that operators have declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Catalog {
    templates: BTreeMap<(Name, Name), Arc<Template>>,
    pools: BTreeMap<PoolKey, Pool>,
    sandbox_configs: BTreeMap<Name, SandboxConfig>,
}

/// A pool's namespace and name.
pub type PoolKey = (Name, Name);

/// What an actor is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// The template's namespace, in which its secrets live too.
    pub namespace: Name,
    /// The template's name.
    pub name: Name,
    /// The containers.
    pub workload: Workload,
    /// Where snapshots go, without a trailing slash.
    pub snapshot_location: Name,
    /// What a Pause keeps.
    pub on_pause: Scope,
    /// What a Suspend keeps.
    pub on_commit: Scope,
    /// The kind of sandbox it needs.
    pub sandbox_class: Name,
    /// Which pools it may run in.
    pub worker_selector: LabelSelector,
    /// A committed snapshot that new actors start from.
    pub golden_snapshot: Option<Name>,
}

/// The containers of an actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// The image of the container that holds the sandbox open.
    pub pause_image: Name,
    /// The application's containers.
    pub containers: Vec<Container>,
    /// Directories that outlive the containers.
    pub durable_volumes: Vec<Name>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its name, unique within the actor.
    pub name: Name,
    /// Its image.
    pub image: Name,
    /// What it runs.
    pub command: Vec<Name>,
    /// Its environment.
    pub env: Vec<Env>,
    /// How one sees that it serves.
    pub readyz: Option<Readyz>,
    /// Where volumes appear in it.
    pub mounts: Vec<Mount>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Env {
    /// Its name.
    pub name: Name,
    /// Where its value comes from.
    pub value: EnvValue,
}

/// Where an environment variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvValue {
    /// From the template.
    Literal(Name),
    /// From a key of a Secret in the template's namespace.
    Secret {
        /// The Secret.
        secret: Name,
        /// The key in it.
        key: Name,
        /// What happens when it is missing.
        presence: Presence,
    },
}

/// What happens when a Secret or its key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// The actor cannot be resumed.
    Required,
    /// The variable is left out.
    Optional,
}

/// An HTTP path that answers 200 when the container serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Readyz {
    /// The path.
    pub path: Name,
    /// The port.
    pub port: u16,
}

/// A volume's place in a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount {
    /// The volume.
    pub volume: Name,
    /// The path in the container.
    pub path: Name,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Memory and files.
    Full,
    /// The durable volumes only.
    Data,
}

/// Equalities on labels, as an actor carries them. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Every one must hold.
    pub match_labels: Labels,
}

impl Selector {
    /// Whether `labels` satisfy it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// A Kubernetes label selector, as a template carries it. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// Equalities; every one must hold.
    pub equal: Selector,
    /// Further requirements; every one must hold.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label.
    pub key: Name,
    /// What is required of it.
    pub operator: Operator,
}

/// What is required of a label. As in Kubernetes, `NotIn` holds for a label that is absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// It has one of these values.
    In(Vec<Name>),
    /// It has none of these values.
    NotIn(Vec<Name>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether `labels` satisfy it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.equal.matches(labels)
            && self.requirements.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                match &requirement.operator {
                    Operator::In(values) => value.is_some_and(|v| values.contains(v)),
                    Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// A set of equal workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// What selectors look at.
    pub labels: Labels,
    /// The kind of sandbox its workers run.
    pub sandbox_class: Name,
    /// The sandbox configuration it uses instead of its class's default.
    pub sandbox_config: Option<Name>,
}

/// The files that a kind of sandbox needs, by architecture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SandboxConfig {
    /// Its name.
    pub name: Name,
    /// The kind of sandbox.
    pub sandbox_class: Name,
    /// Whether pools of that class use it when they name none.
    pub role: ConfigRole,
    /// Architecture -> asset name -> file.
    pub assets: Assets,
}

/// Architecture -> asset name -> file.
pub type Assets = BTreeMap<Name, BTreeMap<Name, AssetFile>>;

/// Whether a sandbox configuration is its class's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigRole {
    /// It is.
    Default,
    /// It is used only by pools that name it.
    Named,
}

/// One file that a sandbox needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetFile {
    /// Where it comes from.
    pub url: Name,
    /// What it must hash to, in hexadecimal.
    pub sha256: Name,
}

/// The sandbox files of a pool, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SandboxAssets {
    /// The kind of sandbox.
    pub sandbox_class: Name,
    /// Architecture -> asset name -> file.
    pub assets: Assets,
}

/// Why a pool's sandbox files cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssetsError {
    /// The pool is not in the catalog.
    NoPool(PoolKey),
    /// The configuration that the pool names does not exist.
    NoConfig(Name),
    /// The configuration that the pool names is of another class.
    WrongClass {
        /// The configuration.
        config: Name,
        /// Its class.
        is: Name,
        /// The pool.
        pool: PoolKey,
        /// The pool's class.
        wants: Name,
    },
    /// The class has no default configuration.
    NoDefault(Name),
    /// The class has two.
    TwoDefaults {
        /// The class.
        class: Name,
        /// One of them.
        first: Name,
        /// The other.
        second: Name,
    },
}

impl core::fmt::Display for AssetsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AssetsError::NoPool((namespace, name)) => write!(f, "WorkerPool {namespace}/{name} not found"),
            AssetsError::NoConfig(name) => write!(f, "SandboxConfig \"{name}\" not found"),
            AssetsError::WrongClass {
                config,
                is,
                pool: (namespace, name),
                wants,
            } => write!(
                f,
                "SandboxConfig \"{config}\" has class \"{is}\" but WorkerPool {namespace}/{name} is class \"{wants}\""
            ),
            AssetsError::NoDefault(class) => write!(
                f,
                "no default SandboxConfig for class \"{class}\"; set one with spec.default=true or name one via \
                 WorkerPool.spec.sandboxConfigName"
            ),
            AssetsError::TwoDefaults { class, first, second } => write!(
                f,
                "multiple default SandboxConfigs for class \"{class}\" (\"{first}\" and \"{second}\")"
            ),
        }
    }
}

/// What a prefix means, however it ends.
fn place(prefix: &Name) -> &str {
    prefix.as_str().trim_end_matches('/')
}

impl Catalog {
    /// An empty catalog.
    pub fn new() -> Catalog {
        Catalog::default()
    }

    /// Adds a template; a later one of the same name takes its place.
    pub fn add_template(&mut self, template: Template) {
        self.templates.insert(
            (template.namespace.clone(), template.name.clone()),
            Arc::new(template),
        );
    }

    /// Adds a pool; a later one of the same name takes its place.
    pub fn add_pool(&mut self, pool: Pool) {
        self.pools
            .insert((pool.namespace.clone(), pool.name.clone()), pool);
    }

    /// Adds a sandbox configuration; a later one of the same name takes its place.
    pub fn add_sandbox_config(&mut self, config: SandboxConfig) {
        self.sandbox_configs.insert(config.name.clone(), config);
    }

    /// The template of that name.
    pub fn template(&self, namespace: &Name, name: &Name) -> Option<&Arc<Template>> {
        self.templates.get(&(namespace.clone(), name.clone()))
    }

    /// Whether new actors of some template start from this snapshot. A prefix may be written with slashes at its end.
    pub fn is_golden(&self, snapshot: &Name) -> bool {
        let mut golden = self.templates.values().filter_map(|t| t.golden_snapshot.as_ref());
        golden.any(|name| place(name) == place(snapshot))
    }

    /// All templates, by namespace and name.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.templates.values()
    }

    /// All pools, by namespace and name.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// The pools in which an actor of this template and with this selector may run.
    pub fn eligible(&self, template: &Template, selector: &Selector) -> Vec<PoolKey> {
        self.pools
            .values()
            .filter(|pool| {
                pool.sandbox_class == template.sandbox_class
                    && template.worker_selector.matches(&pool.labels)
                    && selector.matches(&pool.labels)
            })
            .map(|pool| (pool.namespace.clone(), pool.name.clone()))
            .collect()
    }

    /// The sandbox files for workers of a pool.
    ///
    /// # Errors
    /// What is missing or contradictory, in the words of the original.
    pub fn assets(&self, pool: &PoolKey) -> Result<SandboxAssets, AssetsError> {
        let declared = self
            .pools
            .get(pool)
            .ok_or_else(|| AssetsError::NoPool(pool.clone()))?;
        let class = &declared.sandbox_class;
        let config = match &declared.sandbox_config {
            Some(name) => {
                let config = self
                    .sandbox_configs
                    .get(name)
                    .ok_or_else(|| AssetsError::NoConfig(name.clone()))?;
                if config.sandbox_class != *class {
                    return Err(AssetsError::WrongClass {
                        config: name.clone(),
                        is: config.sandbox_class.clone(),
                        pool: pool.clone(),
                        wants: class.clone(),
                    });
                }
                config
            }
            None => {
                let mut defaults = self
                    .sandbox_configs
                    .values()
                    .filter(|c| c.role == ConfigRole::Default && c.sandbox_class == *class);
                let first = defaults
                    .next()
                    .ok_or_else(|| AssetsError::NoDefault(class.clone()))?;
                if let Some(second) = defaults.next() {
                    return Err(AssetsError::TwoDefaults {
                        class: class.clone(),
                        first: first.name.clone(),
                        second: second.name.clone(),
                    });
                }
                first
            }
        };
        Ok(SandboxAssets {
            sandbox_class: class.clone(),
            assets: config.assets.clone(),
        })
    }
}

//! The template that is pinned to an actor.

use std::collections::BTreeMap;

use holdfast_core::catalog::{
    Container, Env, EnvValue, LabelSelector, Labels, Mount, Operator, Presence, Readyz, Requirement, Scope,
    Selector, Template, Workload,
};
use holdfast_core::id::Name;
use serde::{Deserialize, Serialize};

use super::scalar::{Named, Text, Wire};

impl Named for Scope {
    const WHAT: &'static str = "scope of a snapshot";
    const TABLE: &'static [(Scope, &'static str, u64)] =
        &[(Scope::Full, "FULL", 1), (Scope::Data, "DATA", 2)];
}

impl Named for Presence {
    const WHAT: &'static str = "presence of a secret";
    const TABLE: &'static [(Presence, &'static str, u64)] = &[
        (Presence::Required, "REQUIRED", 1),
        (Presence::Optional, "OPTIONAL", 2),
    ];
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TemplateJson {
    namespace: Text,
    name: Text,
    pause_image: Text,
    containers: Vec<ContainerJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    durable_volumes: Vec<Text>,
    snapshot_location: Text,
    on_pause: Wire<Scope>,
    on_commit: Wire<Scope>,
    sandbox_class: Text,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<Text, Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<RequirementJson>,
    #[serde(default, skip_serializing_if = "Text::is_empty")]
    golden_snapshot: Text,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContainerJson {
    name: Text,
    image: Text,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<EnvJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    readyz: Option<ReadyzJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvJson {
    name: Text,
    from: EnvValueJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum EnvValueJson {
    Value(Text),
    Secret {
        name: Text,
        key: Text,
        presence: Wire<Presence>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadyzJson {
    path: Text,
    port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountJson {
    volume: Text,
    path: Text,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementJson {
    key: Text,
    operator: OperatorJson,
}

#[derive(Serialize, Deserialize)]
enum OperatorJson {
    In(Vec<Text>),
    NotIn(Vec<Text>),
    Exists,
    DoesNotExist,
}

impl From<&Template> for TemplateJson {
    fn from(template: &Template) -> TemplateJson {
        TemplateJson {
            namespace: (&template.namespace).into(),
            name: (&template.name).into(),
            pause_image: (&template.workload.pause_image).into(),
            containers: template
                .workload
                .containers
                .iter()
                .map(ContainerJson::from)
                .collect(),
            durable_volumes: texts(&template.workload.durable_volumes),
            snapshot_location: (&template.snapshot_location).into(),
            on_pause: Wire(template.on_pause),
            on_commit: Wire(template.on_commit),
            sandbox_class: (&template.sandbox_class).into(),
            match_labels: text_labels(&template.worker_selector.equal.match_labels),
            match_expressions: template
                .worker_selector
                .requirements
                .iter()
                .map(RequirementJson::from)
                .collect(),
            golden_snapshot: template.golden_snapshot.as_ref().into(),
        }
    }
}

impl TemplateJson {
    pub(super) fn into_template(self) -> Template {
        Template {
            namespace: self.namespace.0,
            name: self.name.0,
            workload: Workload {
                pause_image: self.pause_image.0,
                containers: self
                    .containers
                    .into_iter()
                    .map(ContainerJson::into_container)
                    .collect(),
                durable_volumes: names(self.durable_volumes),
            },
            snapshot_location: self.snapshot_location.0,
            on_pause: self.on_pause.0,
            on_commit: self.on_commit.0,
            sandbox_class: self.sandbox_class.0,
            worker_selector: LabelSelector {
                equal: Selector {
                    match_labels: labels(self.match_labels),
                },
                requirements: self
                    .match_expressions
                    .into_iter()
                    .map(RequirementJson::into_requirement)
                    .collect(),
            },
            golden_snapshot: self.golden_snapshot.some(),
        }
    }
}

impl From<&Container> for ContainerJson {
    fn from(container: &Container) -> ContainerJson {
        let readyz = |readyz: &Readyz| ReadyzJson {
            path: (&readyz.path).into(),
            port: readyz.port,
        };
        let mount = |mount: &Mount| MountJson {
            volume: (&mount.volume).into(),
            path: (&mount.path).into(),
        };
        ContainerJson {
            name: (&container.name).into(),
            image: (&container.image).into(),
            command: texts(&container.command),
            env: container.env.iter().map(EnvJson::from).collect(),
            readyz: container.readyz.as_ref().map(readyz),
            mounts: container.mounts.iter().map(mount).collect(),
        }
    }
}

impl ContainerJson {
    fn into_container(self) -> Container {
        let readyz = |readyz: ReadyzJson| Readyz {
            path: readyz.path.0,
            port: readyz.port,
        };
        let mount = |mount: MountJson| Mount {
            volume: mount.volume.0,
            path: mount.path.0,
        };
        Container {
            name: self.name.0,
            image: self.image.0,
            command: names(self.command),
            env: self.env.into_iter().map(EnvJson::into_env).collect(),
            readyz: self.readyz.map(readyz),
            mounts: self.mounts.into_iter().map(mount).collect(),
        }
    }
}

impl From<&Env> for EnvJson {
    fn from(env: &Env) -> EnvJson {
        let from = match &env.value {
            EnvValue::Literal(value) => EnvValueJson::Value(value.into()),
            EnvValue::Secret {
                secret,
                key,
                presence,
            } => EnvValueJson::Secret {
                name: secret.into(),
                key: key.into(),
                presence: Wire(*presence),
            },
        };
        EnvJson {
            name: (&env.name).into(),
            from,
        }
    }
}

impl EnvJson {
    fn into_env(self) -> Env {
        let value = match self.from {
            EnvValueJson::Value(value) => EnvValue::Literal(value.0),
            EnvValueJson::Secret { name, key, presence } => EnvValue::Secret {
                secret: name.0,
                key: key.0,
                presence: presence.0,
            },
        };
        Env {
            name: self.name.0,
            value,
        }
    }
}

impl From<&Requirement> for RequirementJson {
    fn from(requirement: &Requirement) -> RequirementJson {
        let operator = match &requirement.operator {
            Operator::In(values) => OperatorJson::In(texts(values)),
            Operator::NotIn(values) => OperatorJson::NotIn(texts(values)),
            Operator::Exists => OperatorJson::Exists,
            Operator::DoesNotExist => OperatorJson::DoesNotExist,
        };
        RequirementJson {
            key: (&requirement.key).into(),
            operator,
        }
    }
}

impl RequirementJson {
    fn into_requirement(self) -> Requirement {
        let operator = match self.operator {
            OperatorJson::In(values) => Operator::In(names(values)),
            OperatorJson::NotIn(values) => Operator::NotIn(names(values)),
            OperatorJson::Exists => Operator::Exists,
            OperatorJson::DoesNotExist => Operator::DoesNotExist,
        };
        Requirement {
            key: self.key.0,
            operator,
        }
    }
}

fn texts(names: &[Name]) -> Vec<Text> {
    names.iter().map(Text::from).collect()
}

fn names(texts: Vec<Text>) -> Vec<Name> {
    texts.into_iter().map(|text| text.0).collect()
}

fn text_labels(labels: &Labels) -> BTreeMap<Text, Text> {
    labels
        .iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn labels(texts: BTreeMap<Text, Text>) -> Labels {
    texts.into_iter().map(|(key, value)| (key.0, value.0)).collect()
}

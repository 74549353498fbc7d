//! Objects as an API server serves them.
//!
//! The same rules as for manifests, but one: a field that is not known here is one of a later version of the
//! CRD, not somebody's slip.

use std::fmt;

use holdfast_core::catalog::{Pool, SandboxConfig, Template};
use holdfast_core::id::Name;
use serde_json::Value;

use crate::error::ManifestError;
use crate::object;
use crate::tree::Node;

/// What one object declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// What an actor is made of.
    Template(Template),
    /// A set of equal workers.
    Pool(Pool),
    /// The files of a kind of sandbox.
    SandboxConfig(SandboxConfig),
}

/// Why an object declares nothing.
#[derive(Debug)]
pub enum Refused {
    /// It breaks these rules. There is at least one.
    Rules(Vec<ManifestError>),
    /// It is of no kind that is read here.
    Kind,
    /// It is nested too deeply to be read.
    Depth,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Kind => f.write_str("is of no kind that is read here"),
            Refused::Depth => f.write_str("is nested too deeply"),
            Refused::Rules(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "; " };
                    write!(f, "{comma}{}", error.field)?;
                    if let Some(value) = &error.value {
                        write!(f, ": {value}")?;
                    }
                    write!(f, ": {}", error.fault)?;
                }
                Ok(())
            }
        }
    }
}

impl Declared {
    /// Reads one object.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of a Secret is ever shown: it is of no kind that is read here.
    pub fn read(object: &Value) -> Result<Declared, Refused> {
        if object["kind"] == "Secret" {
            return Err(Refused::Kind);
        }
        let node = Node::served(object).ok_or(Refused::Depth)?;
        let declared = object::read_served(&node).map_err(Refused::Rules)?;
        declared.ok_or(Refused::Kind)
    }

    /// Its namespace, which is empty for what belongs to the whole cluster, and its name.
    pub fn name(&self) -> (Name, Name) {
        match self {
            Declared::Template(template) => (template.namespace.clone(), template.name.clone()),
            Declared::Pool(pool) => (pool.namespace.clone(), pool.name.clone()),
            Declared::SandboxConfig(config) => (Name::default(), config.name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template() -> Value {
        json!({
            "apiVersion": "ate.dev/v1alpha1", "kind": "ActorTemplate",
            "metadata": {"name": "counter", "namespace": "team", "uid": "u", "resourceVersion": "7", "managedFields": []},
            "spec": {
                "pauseImage": format!("pause@sha256:{}", "0".repeat(64)),
                "containers": [{"name": "main", "image": format!("main@sha256:{}", "1".repeat(64)), "readyz": {"httpGet": {"port": 80}}}],
                "snapshotsConfig": {"location": "gs://here/"},
            },
            "status": {"phase": "Ready", "goldenSnapshot": "gs://here/golden", "conditions": []},
        })
    }

    #[test]
    fn a_served_template_is_read_with_its_status() {
        let Declared::Template(template) = Declared::read(&template()).unwrap() else {
            panic!("it is a template")
        };
        assert_eq!(template.snapshot_location.as_str(), "gs://here");
        assert_eq!(template.golden_snapshot.unwrap().as_str(), "gs://here/golden");
        assert_eq!(template.workload.containers[0].readyz.as_ref().unwrap().port, 80);
    }

    #[test]
    fn fields_of_a_later_crd_are_passed_over() {
        let mut object = template();
        object["spec"]["invented"] = json!({"later": true});
        object["spec"]["containers"][0]["invented"] = json!(1);
        assert!(Declared::read(&object).is_ok());
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_its_field() {
        let mut object = template();
        object["spec"]["pauseImage"] = json!("pause:latest");
        object["spec"]["containers"][0]["name"] = json!("pause");
        let refused = Declared::read(&object).unwrap_err().to_string();
        assert!(
            refused.contains("spec.pauseImage: \"pause:latest\": All images must be pinned"),
            "{refused}"
        );
        assert!(refused.contains("; spec.containers[0].name"), "{refused}");
    }

    #[test]
    fn a_secret_is_neither_read_nor_shown() {
        let object =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": 7}});
        assert!(matches!(Declared::read(&object), Err(Refused::Kind)));
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let mut object = json!({});
        for _ in 0..100 {
            object = json!({"deeper": object});
        }
        assert!(matches!(Declared::read(&object), Err(Refused::Depth)));
    }
}

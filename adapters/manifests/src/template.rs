//! ActorTemplate (compat.md section 5.1).

use std::cell::RefCell;
use std::collections::BTreeSet;

use holdfast_core::catalog::{
    Container, Env, EnvValue, LabelSelector, Labels, Mount, Operator, Presence, Readyz, Requirement, Scope,
    Selector, Template, Workload,
};
use holdfast_core::id::Name;

use crate::cursor::{Cursor, Fields};
use crate::object::{self, Metadata};
use crate::rules;

const MAX_CONTAINERS: usize = 10;
const MAX_COMMAND: usize = 64;
const MAX_ENV: usize = 32;
const MAX_MOUNTS: usize = 32;
const MAX_VOLUMES: usize = 32;
/// The name of the container that holds the sandbox open.
const RESERVED_CONTAINER: &str = "pause";

const SCOPES: [(&str, Scope); 2] = [("Full", Scope::Full), ("Data", Scope::Data)];
const GVISOR: &str = "gvisor";
const MICROVM: &str = "microvm";
/// The kinds of sandboxes that manifests may name.
pub(crate) const SANDBOX_CLASSES: [(&str, &str); 2] = [(GVISOR, GVISOR), (MICROVM, MICROVM)];
/// The kind that they mean when they name none.
pub(crate) const DEFAULT_SANDBOX_CLASS: &str = GVISOR;

pub(crate) fn read(object: &Fields<'_>, metadata: Metadata) -> Option<Template> {
    let golden_snapshot = object.optional("status", None, golden_snapshot);
    let spec = object.required("spec", Cursor::fields)?;
    let pause_image = spec.required("pauseImage", |image| image.text(rules::image));
    let volumes = volumes(&spec);
    let names = RefCell::default();
    let containers = spec.list("containers", MAX_CONTAINERS, |at| {
        container(at, &names, volumes.as_deref())
    });
    let snapshots = spec.required("snapshotsConfig", snapshots);
    let sandbox_class = spec.optional("sandboxClass", DEFAULT_SANDBOX_CLASS, |class| {
        class.word(&SANDBOX_CLASSES)
    });
    let worker_selector = spec.optional("workerSelector", LabelSelector::default(), label_selector);
    if sandbox_class == Some(MICROVM)
        && let Some(volumes) = spec
            .get("volumes")
            .filter(|_| volumes.as_ref().is_some_and(|v| !v.is_empty()))
    {
        volumes.refuse("sandboxClass microvm has no durableDir volumes; use gvisor, or leave them out");
    }
    spec.finish();
    let (location, on_pause, on_commit) = snapshots?;
    Some(Template {
        namespace: metadata.namespace,
        name: metadata.name,
        workload: Workload {
            pause_image: pause_image?.into(),
            containers: containers?,
            durable_volumes: volumes?,
        },
        snapshot_location: location,
        on_pause,
        on_commit,
        sandbox_class: sandbox_class?.into(),
        worker_selector: worker_selector?,
        golden_snapshot: golden_snapshot?,
    })
}

/// Controllers write the status, not people: what is unknown there is no slip.
fn golden_snapshot(status: Cursor<'_>) -> Option<Option<Name>> {
    let fields = status.fields()?;
    let prefix = fields.optional("goldenSnapshot", "", |prefix| {
        prefix.text(|text| match text {
            "" => Ok(()),
            _ => rules::snapshot_prefix(text),
        })
    })?;
    Some((!prefix.is_empty()).then(|| prefix.into()))
}

fn snapshots(at: Cursor<'_>) -> Option<(Name, Scope, Scope)> {
    let fields = at.fields()?;
    let location = fields.required("location", |location| location.text(rules::snapshot_location));
    let on_pause = fields.optional("onPause", Scope::Full, |scope| scope.word(&SCOPES));
    let on_commit = fields.optional("onCommit", Scope::Full, |scope| scope.word(&SCOPES));
    if let (Some(Scope::Data), Some(Scope::Full)) = (on_pause, on_commit) {
        let culprit = fields.get("onCommit").or_else(|| fields.get("onPause"));
        culprit.unwrap_or_else(|| fields.cursor().clone()).refuse(
            "onCommit must be a subset of onPause: with onPause Data, set onCommit to Data (default Full)",
        );
    }
    fields.finish();
    let location = location?;
    let location = location.strip_suffix('/').unwrap_or(location);
    Some((location.into(), on_pause?, on_commit?))
}

fn volumes(spec: &Fields<'_>) -> Option<Vec<Name>> {
    let volumes = spec.list("volumes", MAX_VOLUMES, |at| {
        let fields = at.clone().fields()?;
        let name = fields.required("name", |name| name.text(rules::dns_label));
        let source = fields.get("durableDir");
        if source.is_none() {
            at.refuse("exactly one source is required; write durableDir: {}");
        }
        let source_is_good = source.is_some_and(|source| source.fields().map(Fields::finish).is_some());
        fields.finish();
        name.filter(|_| source_is_good).map(Name::from)
    })?;
    if volumes.len() > 1 {
        spec.get("volumes")?.refuse(format!(
            "a template may have at most one durableDir volume, not {}",
            volumes.len()
        ));
        return None;
    }
    Some(volumes)
}

/// `names` are those of the containers before it. `volumes` is `None` when they are not known because of
/// faults of their own.
fn container(
    at: Cursor<'_>,
    names: &RefCell<BTreeSet<String>>,
    volumes: Option<&[Name]>,
) -> Option<Container> {
    let fields = at.fields()?;
    let name = fields.required("name", |name| {
        name.text(|text| match text {
            RESERVED_CONTAINER => Err("is reserved for the sandbox itself; choose another name".to_owned()),
            _ if !names.borrow_mut().insert(text.to_owned()) => {
                Err("another container has this name; each needs its own".to_owned())
            }
            _ => rules::dns_label(text),
        })
    });
    let image = fields.required("image", |image| image.text(rules::image));
    let command = fields.list("command", MAX_COMMAND, |word| {
        word.text(rules::anything).map(Name::from)
    });
    let env = fields.list("env", MAX_ENV, env);
    let readyz = fields.optional("readyz", None, |at| readyz(at).map(Some));
    let mounts = fields.list("volumeMounts", MAX_MOUNTS, |at| mount(at, volumes));
    if let (Some([_, _, ..]), Some(field)) = (mounts.as_deref(), fields.get("volumeMounts")) {
        field.refuse("a container may mount at most one durableDir volume, once");
    }
    fields.finish();
    Some(Container {
        name: name?.into(),
        image: image?.into(),
        command: command?,
        env: env?,
        readyz: readyz?,
        mounts: mounts?,
    })
}

fn env(at: Cursor<'_>) -> Option<Env> {
    let fields = at.clone().fields()?;
    let name = fields.required("name", |name| name.text(rules::env_name));
    let value = match (fields.get("value"), fields.get("valueFrom")) {
        (Some(value), None) => value
            .text(rules::anything)
            .map(|text| EnvValue::Literal(text.into())),
        (None, Some(source)) => secret_reference(source),
        (None, None) | (Some(_), Some(_)) => {
            at.refuse("exactly one of value and valueFrom is required");
            None
        }
    };
    fields.finish();
    Some(Env {
        name: name?.into(),
        value: value?,
    })
}

fn secret_reference(at: Cursor<'_>) -> Option<EnvValue> {
    let source = at.fields()?;
    let reference = source.required("secretKeyRef", |at| {
        let fields = at.fields()?;
        let secret = fields.required("name", |name| name.text(rules::dns_subdomain));
        let key = fields.required("key", |key| key.text(rules::secret_key));
        let optional = fields.optional("optional", false, Cursor::boolean);
        fields.finish();
        Some(EnvValue::Secret {
            secret: secret?.into(),
            key: key?.into(),
            presence: if optional? {
                Presence::Optional
            } else {
                Presence::Required
            },
        })
    });
    source.finish();
    reference
}

fn readyz(at: Cursor<'_>) -> Option<Readyz> {
    let fields = at.fields()?;
    let readyz = fields.required("httpGet", |at| {
        let fields = at.fields()?;
        let path = fields.optional("path", "/readyz", |path| path.text(rules::http_path));
        let port = fields.required("port", |port| port.whole_number(1..=i64::from(u16::MAX)));
        fields.finish();
        Some(Readyz {
            path: path?.into(),
            port: u16::try_from(port?).ok()?,
        })
    });
    fields.finish();
    readyz
}

fn mount(at: Cursor<'_>, volumes: Option<&[Name]>) -> Option<Mount> {
    let fields = at.fields()?;
    let volume = fields.required("name", |name| {
        name.text(|text| {
            rules::dns_label(text)?;
            match volumes {
                Some(volumes) if !volumes.iter().any(|volume| volume.as_str() == text) => {
                    Err("is the name of none of spec.volumes".to_owned())
                }
                _ => Ok(()),
            }
        })
    });
    let path = fields.required("mountPath", |path| path.text(rules::mount_path));
    fields.finish();
    Some(Mount {
        volume: volume?.into(),
        path: path?.into(),
    })
}

fn label_selector(at: Cursor<'_>) -> Option<LabelSelector> {
    let fields = at.fields()?;
    let match_labels = fields.optional("matchLabels", Labels::new(), object::labels);
    let requirements = fields.list("matchExpressions", usize::MAX, requirement);
    fields.finish();
    Some(LabelSelector {
        equal: Selector {
            match_labels: match_labels?,
        },
        requirements: requirements?,
    })
}

fn requirement(at: Cursor<'_>) -> Option<Requirement> {
    #[derive(Clone, Copy)]
    enum Word {
        In,
        NotIn,
        Exists,
        DoesNotExist,
    }
    let words = [
        ("In", Word::In),
        ("NotIn", Word::NotIn),
        ("Exists", Word::Exists),
        ("DoesNotExist", Word::DoesNotExist),
    ];
    let fields = at.fields()?;
    let key = fields.required("key", |key| key.text(rules::label_key));
    let word = fields.required("operator", |operator| operator.word(&words));
    let values = fields.list("values", usize::MAX, |value| {
        value.text(rules::label_value).map(Name::from)
    });
    let place = fields.get("values").unwrap_or_else(|| fields.cursor().clone());
    fields.finish();
    let (key, word, values) = (key?, word?, values?);
    let operator = match (word, values.is_empty()) {
        (Word::In, false) => Operator::In(values),
        (Word::NotIn, false) => Operator::NotIn(values),
        (Word::Exists, true) => Operator::Exists,
        (Word::DoesNotExist, true) => Operator::DoesNotExist,
        (Word::In | Word::NotIn, true) => {
            place.refuse("operators In and NotIn need at least one of values");
            return None;
        }
        (Word::Exists | Word::DoesNotExist, false) => {
            place.refuse("operators Exists and DoesNotExist take no values");
            return None;
        }
    };
    Some(Requirement {
        key: key.into(),
        operator,
    })
}

//! From the documents of all files to the objects that they declare.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use holdfast_core::catalog::Labels;
use holdfast_core::id::Name;

use crate::cursor::{Cursor, Exposure, Fields, Report, UnknownFields};
use crate::directory::Files;
use crate::error::{Fault, ManifestError, Place};
use crate::tree::{self, Node};
use crate::{Declared, Manifests, pool, rules, sandbox_config, secrets, template};

const GROUP: &str = "ate.dev/";
const API_VERSION: &str = "ate.dev/v1alpha1";
const DEFAULT_NAMESPACE: &str = "default";
/// How deep one `List` may stand in another.
const MAX_LIST_DEPTH: usize = 4;

/// The kinds of objects that manifests are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What actors are made of.
    ActorTemplate,
    /// A set of equal workers.
    WorkerPool,
    /// The files of a kind of sandbox.
    SandboxConfig,
    /// Values that must not be shown.
    Secret,
}

/// What makes an object that object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a SandboxConfig, which belongs to the whole cluster.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// The part of an object's metadata that has a meaning here.
pub(crate) struct Metadata {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) labels: Labels,
}

/// # Errors
/// Every fault of every file, sorted by place.
pub(crate) fn read(files: Files) -> Result<Manifests, Vec<ManifestError>> {
    let (texts, unreadable) = files.into_texts();
    let errors = RefCell::new(unreadable);
    let mut reader = Reader {
        errors: &errors,
        unknown: UnknownFields::Refused,
        manifests: Manifests::default(),
        last: None,
    };
    for (path, text) in &texts {
        let (documents, faults) = tree::parse(text);
        errors
            .borrow_mut()
            .extend(faults.into_iter().map(|fault| ManifestError {
                place: Place {
                    file: path.clone(),
                    position: Some(fault.position),
                },
                object: String::new(),
                field: String::new(),
                value: None,
                fault: fault.fault,
            }));
        for document in &documents {
            reader.document(path, document, 0);
        }
    }
    let manifests = reader.manifests;
    let mut errors = errors.into_inner();
    if errors.is_empty() {
        return Ok(manifests);
    }
    errors.sort_by(|a, b| (&a.place.file, a.place.position).cmp(&(&b.place.file, b.place.position)));
    Err(errors)
}

/// # Errors
/// Every fault of the object.
pub(crate) fn read_served(node: &Arc<Node>) -> Result<Option<Declared>, Vec<ManifestError>> {
    let errors = RefCell::new(Vec::new());
    let mut reader = Reader {
        errors: &errors,
        unknown: UnknownFields::PassedOver,
        manifests: Manifests::default(),
        last: None,
    };
    reader.document(Path::new(""), node, 0);
    let last = reader.last;
    match errors.into_inner() {
        errors if errors.is_empty() => Ok(last),
        errors => Err(errors),
    }
}

struct Reader<'a> {
    errors: &'a RefCell<Vec<ManifestError>>,
    unknown: UnknownFields,
    manifests: Manifests,
    /// The object that was read last, where that is all that is wanted.
    last: Option<Declared>,
}

impl Reader<'_> {
    fn document(&mut self, file: &Path, node: &Arc<Node>, depth: usize) {
        let mut report = Report {
            file,
            object: String::new(),
            exposure: Exposure::Hidden,
            unknown: self.unknown,
            errors: self.errors,
        };
        let Some((api_version, kind)) = type_of(Cursor::root(&report, node)) else {
            return;
        };
        if (api_version.as_str(), kind.as_str()) == ("v1", "List") {
            return self.items(&report, node, depth);
        }
        if kind != "Secret" {
            report.exposure = Exposure::Shown;
        }
        report.object.clone_from(&kind);
        let Some(kind) = known_kind(&Cursor::root(&report, node), &api_version, &kind) else {
            tracing::debug!(file = %file.display(), line = node.position.line, api_version, kind, "passed over");
            return;
        };
        self.object(report, node, kind);
    }

    /// What `kubectl get -o yaml` prints for several objects.
    fn items(&mut self, report: &Report<'_>, node: &Arc<Node>, depth: usize) {
        let root = Cursor::root(report, node);
        if depth == MAX_LIST_DEPTH {
            return root.refuse("too many Lists inside of each other");
        }
        let Some(fields) = root.fields() else { return };
        let nodes = fields.required("items", |items| {
            items.list(usize::MAX, |item| Some(Arc::clone(item.node())))
        });
        for node in nodes.unwrap_or_default() {
            self.document(report.file, &node, depth + 1);
        }
    }

    fn object(&mut self, mut report: Report<'_>, node: &Arc<Node>, kind: Kind) {
        let Some(metadata) = Cursor::root(&report, node)
            .fields()
            .and_then(|f| metadata(&f, kind))
        else {
            return;
        };
        let namespace = if kind == Kind::SandboxConfig {
            Name::default()
        } else {
            metadata.namespace.clone()
        };
        let key = ObjectKey {
            kind,
            namespace,
            name: metadata.name.clone(),
        };
        report.object = key.to_string();
        let root = Cursor::root(&report, node);
        match self.manifests.places.entry(key) {
            Entry::Occupied(first) => root.fail(Fault::Duplicate {
                first: first.get().clone(),
            }),
            Entry::Vacant(vacant) => {
                vacant.insert(report.place(node.position));
            }
        }
        let Some(fields) = root.fields() else { return };
        fields.ignore(&["apiVersion", "kind", "metadata"]);
        self.keep(kind, &fields, metadata);
        fields.finish();
    }

    fn keep(&mut self, kind: Kind, fields: &Fields<'_>, metadata: Metadata) {
        let is_served = self.unknown == UnknownFields::PassedOver;
        let Manifests {
            catalog,
            pools,
            secrets,
            ..
        } = &mut self.manifests;
        match kind {
            Kind::ActorTemplate => {
                if let Some(template) = template::read(fields, metadata) {
                    self.last = is_served.then(|| Declared::Template(template.clone()));
                    catalog.add_template(template);
                }
            }
            Kind::WorkerPool => {
                if let Some((pool, spec)) = pool::read(fields, metadata) {
                    self.last = is_served.then(|| Declared::Pool(pool.clone()));
                    catalog.add_pool(pool);
                    pools.push(spec);
                }
            }
            Kind::SandboxConfig => {
                if let Some(config) = sandbox_config::read(fields, metadata) {
                    self.last = is_served.then(|| Declared::SandboxConfig(config.clone()));
                    catalog.add_sandbox_config(config);
                }
            }
            Kind::Secret => {
                if let Some(secret) = secrets::read(fields) {
                    secrets.add(metadata.namespace, metadata.name, secret);
                }
            }
        }
    }
}

/// apiVersion and kind, which every object has, whatever it is.
fn type_of(root: Cursor<'_>) -> Option<(String, String)> {
    let fields = root.fields()?;
    let api_version = fields.required("apiVersion", |field| field.text(rules::not_empty));
    let kind = fields.required("kind", |field| field.text(rules::not_empty));
    Some((api_version?.to_owned(), kind?.to_owned()))
}

/// `None` for kinds of others, and for slips of ours, which are reported.
fn known_kind(root: &Cursor<'_>, api_version: &str, kind: &str) -> Option<Kind> {
    let ours = [
        ("ActorTemplate", Kind::ActorTemplate),
        ("WorkerPool", Kind::WorkerPool),
        ("SandboxConfig", Kind::SandboxConfig),
    ];
    if (api_version, kind) == ("v1", "Secret") {
        return Some(Kind::Secret);
    }
    let known = ours.iter().find(|(name, _)| *name == kind);
    let fields = root.clone().fields()?;
    match (api_version == API_VERSION, known) {
        (true, Some((_, kind))) => Some(*kind),
        (true, None) => {
            let nearest = rules::nearest(kind, ours.iter().map(|(name, _)| *name));
            fields.get("kind")?.fail(Fault::Unknown { nearest });
            None
        }
        (false, known) => {
            if known.is_some() || api_version.starts_with(GROUP) {
                fields.get("apiVersion")?.refuse(format!("must be {API_VERSION}"));
            }
            None
        }
    }
}

fn metadata(object: &Fields<'_>, kind: Kind) -> Option<Metadata> {
    let fields = object.required("metadata", Cursor::fields)?;
    let name = fields.required("name", |name| name.text(rules::dns_subdomain));
    let namespace = fields.optional("namespace", DEFAULT_NAMESPACE, |namespace| match kind {
        Kind::SandboxConfig => {
            namespace.refuse("a SandboxConfig belongs to the whole cluster; leave the namespace out");
            None
        }
        _ => namespace.text(rules::dns_label),
    });
    let labels = fields.optional("labels", Labels::new(), labels);
    fields.ignore(&[
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ]);
    fields.finish();
    Some(Metadata {
        namespace: namespace?.into(),
        name: name?.into(),
        labels: labels?,
    })
}

/// A mapping of label keys to label values.
pub(crate) fn labels(field: Cursor<'_>) -> Option<Labels> {
    let pairs = field.entries(|key, value| {
        let key_is_good = rules::label_key(key)
            .map_err(|rule| value.refuse_key(rule))
            .is_ok();
        let value = value.text(rules::label_value)?;
        key_is_good.then(|| (Name::from(key), Name::from(value)))
    })?;
    Some(pairs.into_iter().collect())
}

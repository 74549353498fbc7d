//! The objects of an API server, and how they came about.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::schema::Crd;

/// Why a request is refused, as a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn expired() -> Refusal {
        Refusal::new(410, "Expired", "too old resource version")
    }

    pub(super) fn not_found(what: &str) -> Refusal {
        Refusal::new(404, "NotFound", format!("{what} not found"))
    }

    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

/// A kind of object that is served.
#[derive(Debug, Clone)]
pub struct Kind {
    /// `v1`, or group and version.
    pub api_version: String,
    pub kind: String,
    pub plural: String,
    pub is_namespaced: bool,
    pub crd: Option<Crd>,
}

/// What happened to an object.
#[derive(Debug, Clone)]
pub struct Happened {
    pub version: u64,
    pub plural: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

type Key = (String, String, String);

/// Everything that is served.
pub struct Objects {
    kinds: Vec<Kind>,
    objects: BTreeMap<Key, Value>,
    pub history: Vec<Happened>,
    pub version: u64,
    /// What happened up to here is forgotten.
    pub forgotten: u64,
}

impl Objects {
    pub fn new() -> Objects {
        let core = |kind: &str, plural: &str| Kind {
            api_version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            is_namespaced: true,
            crd: None,
        };
        Objects {
            kinds: vec![core("Pod", "pods"), core("Secret", "secrets")],
            objects: BTreeMap::new(),
            history: Vec::new(),
            // Clients must not count: versions do not begin at one.
            version: 1000,
            forgotten: 1000,
        }
    }

    pub fn install(&mut self, crd: Crd) {
        self.kinds.push(Kind {
            api_version: crd.api_version(),
            kind: crd.kind(),
            plural: crd.plural(),
            is_namespaced: crd.is_namespaced(),
            crd: Some(crd),
        });
    }

    pub fn kind(&self, api_version: &str, plural: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|kind| kind.api_version == api_version && kind.plural == plural)
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural.into(), namespace.into(), name.into()))
    }

    /// All objects of a kind in the order of their keys.
    pub fn all<'a>(&'a self, plural: &'a str, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
        let of_kind = self.objects.iter().filter(move |((of, within, _), _)| {
            of == plural && namespace.is_none_or(|namespace| namespace == within)
        });
        of_kind.map(|(_, object)| object)
    }

    pub fn create(&mut self, mut object: Value) -> Result<Value, Refusal> {
        let kind = self.kind_of(&object)?;
        let key = key(&kind, &object);
        if self.objects.contains_key(&key) {
            return Err(Refusal::new(
                409,
                "AlreadyExists",
                format!("{} already exists", key.2),
            ));
        }
        check(&kind, &mut object, None)?;
        let uid = format!("{:08x}-{:x}", self.version + 1, key.2.len());
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = uid.into();
        }
        Ok(self.put(&kind, key, Some(object)))
    }

    pub fn change(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let found = self.kinds.iter().find(|known| known.kind == kind).cloned();
        let kind = found.ok_or_else(|| Refusal::not_found(kind))?;
        let key = (kind.plural.clone(), namespace.to_owned(), name.to_owned());
        let before = self
            .objects
            .get(&key)
            .ok_or_else(|| Refusal::not_found(name))?
            .clone();
        let mut object = before.clone();
        change(&mut object);
        check(&kind, &mut object, Some(&before))?;
        Ok(self.put(&kind, key, Some(object)))
    }

    /// Replaces an object, or its status only; the rest of what was sent is passed over then.
    pub fn replace(&mut self, sent: Value, is_status: bool) -> Result<Value, Refusal> {
        let kind = self.kind_of(&sent)?;
        let key = key(&kind, &sent);
        let before = self
            .objects
            .get(&key)
            .ok_or_else(|| Refusal::not_found(&key.2))?
            .clone();
        let expected = &sent["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != before["metadata"]["resourceVersion"] {
            let message = "the object has been modified; please apply your changes to the latest version";
            return Err(Refusal::new(409, "Conflict", message));
        }
        let has_status = kind.crd.as_ref().is_none_or(Crd::has_status);
        let mut object = if is_status { before.clone() } else { sent.clone() };
        if is_status {
            put_status(&mut object, &sent);
        } else if has_status {
            put_status(&mut object, &before);
        }
        object["metadata"]["uid"] = before["metadata"]["uid"].clone();
        check(&kind, &mut object, Some(&before))?;
        Ok(self.put(&kind, key, Some(object)))
    }

    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let found = self.kinds.iter().find(|known| known.kind == kind).cloned();
        let kind = found.ok_or_else(|| Refusal::not_found(kind))?;
        let key = (kind.plural.clone(), namespace.to_owned(), name.to_owned());
        if !self.objects.contains_key(&key) {
            return Err(Refusal::not_found(name));
        }
        Ok(self.put(&kind, key, None))
    }

    pub fn forget_history(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
    }

    fn kind_of(&self, object: &Value) -> Result<Kind, Refusal> {
        let found = self
            .kinds
            .iter()
            .find(|kind| object["apiVersion"] == kind.api_version && object["kind"] == kind.kind);
        found
            .cloned()
            .ok_or_else(|| Refusal::not_found("the kind of this object"))
    }

    fn put(&mut self, kind: &Kind, key: Key, object: Option<Value>) -> Value {
        self.version += 1;
        let version = Value::from(self.version.to_string());
        let before = match &object {
            Some(_) => self.objects.get(&key).cloned(),
            None => self.objects.remove(&key),
        };
        let mut told = object.clone().or(before.clone()).unwrap_or_default();
        told["metadata"]["resourceVersion"] = version;
        if object.is_some() {
            self.objects.insert(key, told.clone());
        }
        self.history.push(Happened {
            version: self.version,
            plural: kind.plural.clone(),
            // What is told of a deletion is the last state, at the version of the deletion.
            before: if object.is_none() {
                Some(told.clone())
            } else {
                before
            },
            after: object.map(|_| told.clone()),
        });
        told
    }
}

/// Gives an object the status of another, or none if that has none.
fn put_status(object: &mut Value, of: &Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match of.get("status") {
        Some(status) => fields.insert("status".to_owned(), status.clone()),
        None => fields.remove("status"),
    };
}

fn key(kind: &Kind, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let namespace = if kind.is_namespaced {
        text("namespace")
    } else {
        String::new()
    };
    (kind.plural.clone(), namespace, text("name"))
}

fn check(kind: &Kind, object: &mut Value, before: Option<&Value>) -> Result<(), Refusal> {
    let Some(crd) = &kind.crd else { return Ok(()) };
    crd.admit(object, before).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Refusal::new(422, "Invalid", faults.join("; "))
    })
}

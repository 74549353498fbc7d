//! Secrets: read like the rest, never shown.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::id::Name;

use crate::cursor::{Cursor, Fields};
use crate::rules;

/// Secrets by namespace and name. `Debug` shows which there are and which keys they have.
#[derive(Clone, Default)]
pub struct Secrets {
    secrets: BTreeMap<(Name, Name), Secret>,
}

/// Values by key. `Debug` shows the keys.
#[derive(Clone, Default)]
pub struct Secret {
    values: BTreeMap<Name, Vec<u8>>,
}

impl Secrets {
    /// The Secret of that name.
    pub fn get(&self, namespace: &Name, name: &Name) -> Option<&Secret> {
        self.secrets.get(&(namespace.clone(), name.clone()))
    }

    /// Adds a Secret; a later one of the same name takes its place.
    pub fn add(&mut self, namespace: Name, name: Name, secret: Secret) {
        self.secrets.insert((namespace, name), secret);
    }
}

impl Secret {
    /// A Secret with these values.
    pub fn new(values: impl IntoIterator<Item = (Name, Vec<u8>)>) -> Secret {
        Secret {
            values: values.into_iter().collect(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Name) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.secrets).finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// `stringData` takes the place of `data`, key by key, as for the API server.
pub(crate) fn read(object: &Fields<'_>) -> Option<Secret> {
    object.ignore(&["immutable", "type"]);
    let encoded = object.optional("data", Vec::new(), |at| {
        at.entries(|key, at| {
            let key = checked_key(key, &at);
            let value = decoded(at);
            Some((key?, value?))
        })
    });
    let plain = object.optional("stringData", Vec::new(), |at| {
        at.entries(|key, at| {
            let key = checked_key(key, &at);
            let value = at.text(rules::anything).map(|text| text.as_bytes().to_vec());
            Some((key?, value?))
        })
    });
    let (encoded, plain) = (encoded?, plain?);
    Some(Secret {
        values: encoded.into_iter().chain(plain).collect(),
    })
}

fn checked_key(key: &str, at: &Cursor<'_>) -> Option<Name> {
    match rules::secret_key(key) {
        Ok(()) => Some(Name::from(key)),
        Err(rule) => {
            at.refuse_key(rule);
            None
        }
    }
}

/// Go's decoder passes over line breaks, which long values in manifests have.
fn decoded(at: Cursor<'_>) -> Option<Vec<u8>> {
    let text: String = at
        .clone()
        .text(rules::anything)?
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    let value = STANDARD.decode(text).ok();
    if value.is_none() {
        at.refuse("must be base64 with padding; write plain text under stringData instead");
    }
    value
}

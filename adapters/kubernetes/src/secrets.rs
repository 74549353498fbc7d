//! Secrets, asked for when a container that refers to them starts. There is no list of them and no watch: what a
//! control plane may read is a matter of one Role per namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_control::SecretUnknown;
use holdfast_core::catalog::{EnvValue, Template};
use holdfast_core::id::Name;
use holdfast_core::time::Instant;
use holdfast_manifests::{Secret, Secrets};
use holdfast_runtime::clock::Clock;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};

/// For how long a secret that was there is taken to be the same, as in the original. One that was not there is
/// asked for again.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How many are kept: more than templates refer to in half a minute.
const KEPT_MAX: usize = 4096;

/// Secrets of an API server.
pub struct SecretCache {
    client: Client,
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<(Name, Name), (Instant, Secret)>>,
}

impl SecretCache {
    /// Nothing is kept yet.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> SecretCache {
        SecretCache {
            client,
            clock,
            kept: Mutex::default(),
        }
    }

    /// The secrets that this template's containers refer to, as far as they exist.
    ///
    /// # Errors
    /// If one could not be asked for.
    pub async fn of(&self, template: &Template) -> Result<Secrets, SecretUnknown> {
        let mut secrets = Secrets::default();
        for name in references(template) {
            let found = self.get(&template.namespace, &name).await;
            let found = found.map_err(|error| SecretUnknown {
                namespace: template.namespace.clone(),
                name: name.clone(),
                cause: error.to_string(),
            })?;
            if let Some(secret) = found {
                secrets.add(template.namespace.clone(), name, secret);
            }
        }
        Ok(secrets)
    }

    async fn get(&self, namespace: &Name, name: &Name) -> kube::Result<Option<Secret>> {
        let key = (namespace.clone(), name.clone());
        let asked_at = self.clock.now();
        if let Some((since, secret)) = self.kept().get(&key)
            && asked_at.since(*since) < FRESH_FOR
        {
            return Ok(Some(secret.clone()));
        }
        let api: Api<v1::Secret> = Api::namespaced(self.client.clone(), namespace.as_str());
        let Some(served) = api.get_opt(name.as_str()).await? else {
            self.kept().remove(&key);
            return Ok(None);
        };
        let values = served.data.unwrap_or_default().into_iter();
        let secret = Secret::new(values.map(|(key, value)| (key.into(), value.0)));
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (since, _)| asked_at.since(*since) < FRESH_FOR);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(key, (asked_at, secret.clone()));
        }
        Ok(Some(secret))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Name, Name), (Instant, Secret)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of all secrets that a template refers to.
fn references(template: &Template) -> BTreeSet<Name> {
    let env = template
        .workload
        .containers
        .iter()
        .flat_map(|container| &container.env);
    let names = env.filter_map(|variable| match &variable.value {
        EnvValue::Secret { secret, .. } => Some(secret.clone()),
        EnvValue::Literal(_) => None,
    });
    names.collect()
}

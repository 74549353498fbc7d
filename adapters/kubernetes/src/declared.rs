//! Templates, pools and sandbox configurations, put together into a catalog.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::catalog::Catalog;
use holdfast_core::id::Name;
use holdfast_manifests::{Declared, Kind};
use serde_json::Value;

/// Namespace and name of an object.
type ObjectName = (Name, Name);

/// What operators have declared, as the API server last served it.
#[derive(Debug, Default)]
pub struct Declarations {
    objects: BTreeMap<(Kind, ObjectName), Served>,
}

#[derive(Debug)]
struct Served {
    /// Which object has this name.
    uid: Name,
    /// Nothing until it could be read once.
    declared: Option<Declared>,
}

impl Declarations {
    /// An object is there, or is not what it was. Says whether that changes the catalog.
    ///
    /// One that cannot be read leaves in force what it declared before: actors run by it.
    pub fn apply(&mut self, kind: Kind, object: &Value) -> bool {
        let text = |field: &str| Name::from(object["metadata"][field].as_str().unwrap_or_default());
        let (name, uid) = ((text("namespace"), text("name")), text("uid"));
        let before = self
            .objects
            .get_mut(&(kind, name.clone()))
            .filter(|served| served.uid == uid);
        match (Declared::read(object), before) {
            (Ok(declared), Some(before)) => {
                let is_new = before.declared.as_ref() != Some(&declared);
                before.declared = Some(declared);
                is_new
            }
            (Ok(declared), None) => {
                let declared = Some(declared);
                self.objects.insert((kind, name), Served { uid, declared });
                true
            }
            (Err(refused), before) => {
                let (namespace, name_only) = &name;
                let still = match before.as_ref().is_some_and(|served| served.declared.is_some()) {
                    true => "what it declared before stays in force",
                    false => "it is passed over",
                };
                tracing::error!(%kind, %namespace, name = %name_only, %refused, "an object cannot be used; {still}");
                if before.is_none() {
                    let served = Served { uid, declared: None };
                    let replaced = self.objects.insert((kind, name), served);
                    return replaced.is_some_and(|served| served.declared.is_some());
                }
                false
            }
        }
    }

    /// An object is no more. Says whether that changes the catalog.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let name = (namespace.into(), name.into());
        let removed = self.objects.remove(&(kind, name));
        removed.is_some_and(|served| served.declared.is_some())
    }

    /// These are all objects of a kind. Says whether that changes the catalog.
    pub fn listed(&mut self, kind: Kind, objects: &[Value]) -> bool {
        let text =
            |object: &Value, field: &str| Name::from(object["metadata"][field].as_str().unwrap_or_default());
        let named: BTreeSet<ObjectName> = objects
            .iter()
            .map(|object| (text(object, "namespace"), text(object, "name")))
            .collect();
        let of_kind = self.objects.keys().filter(|(of, _)| *of == kind);
        let missing: Vec<ObjectName> = of_kind
            .filter(|(_, name)| !named.contains(name))
            .map(|(_, name)| name.clone())
            .collect();
        let mut is_changed = false;
        for (namespace, name) in &missing {
            is_changed |= self.remove(kind, namespace.as_str(), name.as_str());
        }
        for object in objects {
            is_changed |= self.apply(kind, object);
        }
        is_changed
    }

    /// Everything that is declared now.
    pub fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new();
        for declared in self.objects.values().filter_map(|served| served.declared.clone()) {
            match declared {
                Declared::Template(template) => catalog.add_template(template),
                Declared::Pool(pool) => catalog.add_pool(pool),
                Declared::SandboxConfig(config) => catalog.add_sandbox_config(config),
            }
        }
        catalog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(name: &str, uid: &str, class: &str) -> Value {
        json!({
            "apiVersion": "ate.dev/v1alpha1", "kind": "WorkerPool",
            "metadata": {"namespace": "team", "name": name, "uid": uid},
            "spec": {"replicas": 1, "ateomImage": "ateom", "sandboxClass": class},
        })
    }

    fn classes(declarations: &Declarations) -> Vec<String> {
        let catalog = declarations.catalog();
        catalog
            .pools()
            .map(|pool| format!("{} {}", pool.name, pool.sandbox_class))
            .collect()
    }

    #[test]
    fn a_catalog_follows_its_objects() {
        let mut declarations = Declarations::default();
        assert!(declarations.apply(Kind::WorkerPool, &pool("a", "1", "gvisor")));
        assert!(!declarations.apply(Kind::WorkerPool, &pool("a", "1", "gvisor")));
        assert!(declarations.apply(Kind::WorkerPool, &pool("a", "1", "microvm")));
        assert!(declarations.apply(Kind::WorkerPool, &pool("b", "2", "gvisor")));
        assert_eq!(classes(&declarations), ["a microvm", "b gvisor"]);
        assert!(declarations.remove(Kind::WorkerPool, "team", "a"));
        assert!(!declarations.remove(Kind::WorkerPool, "team", "a"));
        assert_eq!(classes(&declarations), ["b gvisor"]);
    }

    #[test]
    fn a_list_takes_away_what_it_does_not_name_and_of_its_kind_only() {
        let mut declarations = Declarations::default();
        declarations.listed(
            Kind::WorkerPool,
            &[pool("a", "1", "gvisor"), pool("b", "2", "gvisor")],
        );
        assert!(!declarations.listed(Kind::ActorTemplate, &[]));
        assert!(declarations.listed(Kind::WorkerPool, &[pool("b", "2", "gvisor")]));
        assert!(!declarations.listed(Kind::WorkerPool, &[pool("b", "2", "gvisor")]));
        assert_eq!(classes(&declarations), ["b gvisor"]);
    }

    #[test]
    fn what_cannot_be_read_any_more_stays_in_force_and_another_of_its_name_does_not_inherit_it() {
        let mut declarations = Declarations::default();
        declarations.apply(Kind::WorkerPool, &pool("a", "1", "gvisor"));
        assert!(!declarations.apply(Kind::WorkerPool, &pool("a", "1", "unheard-of")));
        assert_eq!(classes(&declarations), ["a gvisor"]);
        assert!(declarations.apply(Kind::WorkerPool, &pool("a", "2", "unheard-of")));
        assert!(classes(&declarations).is_empty());
        assert!(declarations.apply(Kind::WorkerPool, &pool("a", "2", "microvm")));
        assert_eq!(classes(&declarations), ["a microvm"]);
    }
}

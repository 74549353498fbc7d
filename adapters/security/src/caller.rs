//! Which worker is calling, as far as its credentials tell.

use holdfast_runtime::net::PeerCertificates;

use crate::jwt::Claims;
use crate::x509::Certificate;

/// A caller inside the cluster. What its credentials do not tell is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The namespace of its pod.
    pub namespace: String,
    /// The name of its pod.
    pub pod: Option<String>,
    /// Which pod of that name.
    pub pod_uid: Option<String>,
}

impl Caller {
    /// Whose token this is. Kubernetes names the pod in tokens that it has made for one.
    pub fn of_token(claims: &Claims) -> Option<Caller> {
        let told = &claims.kubernetes;
        let present = |text: &String| (!text.is_empty()).then(|| text.clone());
        Some(Caller {
            namespace: present(&told.namespace)?,
            pod: told.pod.as_ref().and_then(|pod| present(&pod.name)),
            pod_uid: told.pod.as_ref().and_then(|pod| present(&pod.uid)),
        })
    }

    /// Whose certificate this is: one with a SPIFFE ID of the form `/ns/NAMESPACE/sa/ACCOUNT`, and where it
    /// says so `/pod/NAME` and `/uid/UID`.
    pub fn of_certificate(shown: &PeerCertificates) -> Option<Caller> {
        let leaf = Certificate::read(shown.0.first()?)?;
        leaf.uris.iter().find_map(|uri| Caller::of_uri(uri))
    }

    fn of_uri(uri: &str) -> Option<Caller> {
        let (_, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let parts: Vec<&str> = path.split('/').collect();
        let (pairs, []) = parts.as_chunks::<2>() else {
            return None;
        };
        let told = |name: &str| {
            let mut found = pairs.iter().filter(|[kind, _]| *kind == name);
            let [_, value] = found.next()?;
            // What is said twice is not known.
            found.next().is_none().then(|| (*value).to_owned())
        };
        Some(Caller {
            namespace: told("ns").filter(|namespace| !namespace.is_empty())?,
            pod: told("pod"),
            pod_uid: told("uid"),
        })
    }

    /// Whether this may be the worker with that pod.
    pub fn may_be(&self, namespace: &str, pod: &str, pod_uid: &str) -> bool {
        let fits = |told: &Option<String>, is: &str| told.as_ref().is_none_or(|told| told == is);
        self.namespace == namespace && fits(&self.pod, pod) && fits(&self.pod_uid, pod_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spiffe_id_tells_is_taken_and_nothing_is_guessed() {
        let told = |uri: &str| {
            let caller = Caller::of_uri(uri)?;
            let or = |part: Option<String>| part.unwrap_or_else(|| "?".to_owned());
            Some(format!(
                "{} {} {}",
                caller.namespace,
                or(caller.pod),
                or(caller.pod_uid)
            ))
        };
        for (uri, expected) in [
            ("spiffe://cluster.local/ns/team/sa/bot", Some("team ? ?")),
            ("spiffe://x/ns/team/sa/bot/pod/w-0/uid/u1", Some("team w-0 u1")),
            ("spiffe://x/ns/team/sa/bot/pod/w-0/pod/w-1", Some("team ? ?")),
            ("spiffe://x/ns//sa/bot", None),
            ("spiffe://x/ns/team/ns/other", None),
            ("spiffe://x/ns/team/sa", None),
            ("spiffe://x/sa/bot", None),
            ("spiffe://x", None),
            ("https://x/ns/team/sa/bot", None),
        ] {
            assert_eq!(told(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn a_caller_is_the_worker_that_everything_it_tells_fits() {
        let caller = |pod: Option<&str>, uid: Option<&str>| Caller {
            namespace: "team".to_owned(),
            pod: pod.map(str::to_owned),
            pod_uid: uid.map(str::to_owned),
        };
        assert!(caller(None, None).may_be("team", "w", "u"));
        assert!(caller(Some("w"), Some("u")).may_be("team", "w", "u"));
        assert!(
            !caller(Some("w"), Some("u")).may_be("team", "w", "v"),
            "another pod of the name"
        );
        assert!(!caller(Some("w"), None).may_be("team", "x", "u"));
        assert!(!caller(None, None).may_be("other", "w", "u"));
    }
}

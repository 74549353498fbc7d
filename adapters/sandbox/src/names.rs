//! Names that become path components, checked once at the edge.
//!
//! Everything a peer sends that ends up in a path goes through one of these types, so a `/`, a `..` or an
//! over-long name cannot reach the file system.

use std::fmt;

use thiserror::Error;

/// The container every sandbox starts with; it holds the sandbox's namespaces and runs no user code.
pub const PAUSE: &str = "pause";

const LABEL_MAX_BYTES: usize = 63;
const SUBDOMAIN_MAX_BYTES: usize = 253;
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
     '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A name that cannot be used, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text does not follow the rule of its kind.
    #[error("invalid {what} \"{value}\": {rule}")]
    Malformed {
        /// What kind of name it was meant to be.
        what: &'static str,
        /// The text itself.
        value: String,
        /// The rule it breaks.
        rule: String,
    },
    /// The name of the sandbox's own container was given to a user's.
    #[error("invalid container name \"pause\": reserved for sandbox infrastructure")]
    Reserved,
    /// Template namespace, template name and actor id are too long together.
    #[error("actor ref {actor} is {bytes} bytes; the combined path component must be at most 255")]
    ActorTooLong {
        /// `namespace:template:actor`.
        actor: String,
        /// Its length.
        bytes: usize,
    },
}

/// A name that follows the rule of a DNS label: at most 63 of `a-z`, `0-9` and inner `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// Checks `value`; `what` names the kind of thing in the error.
    pub fn parse(what: &'static str, value: &str) -> Result<Self, NameError> {
        match label_fault(value) {
            None => Ok(Self(value.to_owned())),
            Some(rule) => Err(NameError::Malformed {
                what,
                value: value.to_owned(),
                rule,
            }),
        }
    }

    /// A container's name: a label, and not [`PAUSE`].
    pub fn container(value: &str) -> Result<Self, NameError> {
        let name = Self::parse("container name", value)?;
        if name.as_str() == PAUSE {
            Err(NameError::Reserved)
        } else {
            Ok(name)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which actor: its atespace, the template it comes from, and its id. Also where it lives in the on-disk
/// layout: `atespace/namespace:template:id`.
///
/// The original's node calls say nothing of atespaces. An actor whose atespace is unknown lives where the
/// original would have put it, at `namespace:template:id` (compat.md 7.1); a colon is in no atespace's
/// name, so the two never meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorRef {
    atespace: Option<Label>,
    template_namespace: Label,
    template_name: String,
    actor_id: Label,
}

impl ActorRef {
    /// An actor whose atespace is unknown. Checks the three parts, and that together they fit a path
    /// component.
    pub fn parse(namespace: &str, template: &str, actor_id: &str) -> Result<Self, NameError> {
        let actor = Self {
            atespace: None,
            template_namespace: Label::parse("namespace", namespace)?,
            template_name: subdomain("template", template)?,
            actor_id: Label::parse("actor ID", actor_id)?,
        };
        let text = actor.to_string();
        if text.len() > 255 {
            return Err(NameError::ActorTooLong {
                bytes: text.len(),
                actor: text,
            });
        }
        Ok(actor)
    }

    /// The actor of this name in `atespace`; where that is `None`, or empty as a message's field that was
    /// not set, it is unknown.
    pub fn within(self, atespace: Option<&str>) -> Result<Self, NameError> {
        let atespace = atespace.filter(|name| !name.is_empty());
        let atespace = atespace.map(|name| Label::parse("atespace", name)).transpose()?;
        Ok(Self { atespace, ..self })
    }

    /// The same actor to those who do not know its atespace.
    pub fn without_atespace(&self) -> Self {
        Self {
            atespace: None,
            ..self.clone()
        }
    }

    /// The actor's atespace, if it is known.
    pub fn atespace(&self) -> Option<&str> {
        self.atespace.as_ref().map(Label::as_str)
    }

    /// The namespace of the actor's template.
    pub fn template_namespace(&self) -> &str {
        self.template_namespace.as_str()
    }

    /// The name of the actor's template.
    pub fn template_name(&self) -> &str {
        &self.template_name
    }

    /// The actor's id.
    pub fn actor_id(&self) -> &str {
        self.actor_id.as_str()
    }
}

impl fmt::Display for ActorRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(atespace) = &self.atespace {
            write!(out, "{atespace}/")?;
        }
        write!(
            out,
            "{}:{}:{}",
            self.template_namespace, self.template_name, self.actor_id
        )
    }
}

impl fmt::Debug for ActorRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

fn subdomain(what: &'static str, value: &str) -> Result<String, NameError> {
    let rule = if value.len() > SUBDOMAIN_MAX_BYTES {
        format!("must be no more than {SUBDOMAIN_MAX_BYTES} bytes")
    } else if !value.split('.').all(is_label_shaped) {
        SUBDOMAIN_RULE.to_owned()
    } else {
        return Ok(value.to_owned());
    };
    Err(NameError::Malformed {
        what,
        value: value.to_owned(),
        rule,
    })
}

fn label_fault(value: &str) -> Option<String> {
    if value.len() > LABEL_MAX_BYTES {
        Some(format!("must be no more than {LABEL_MAX_BYTES} bytes"))
    } else if !is_label_shaped(value) {
        Some(LABEL_RULE.to_owned())
    } else {
        None
    }
}

fn is_label_shaped(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in [
            "", ".", "..", "a/b", "/a", "a\0b", "A", "-a", "a-", "a:b", "ä", " a",
        ] {
            assert!(Label::parse("namespace", bad).is_err(), "{bad:?}");
            assert!(
                ActorRef::parse("ns", bad, "a").is_err() || bad == "a-b",
                "{bad:?}"
            );
            assert!(ActorRef::parse("ns", "t", bad).is_err(), "{bad:?}");
        }
        assert!(ActorRef::parse("ns", "a..b", "a").is_err());
        assert!(Label::parse("namespace", &"a".repeat(64)).is_err());
        assert!(Label::parse("namespace", &"a".repeat(63)).is_ok());
    }

    #[test]
    fn pause_is_not_a_name_for_a_users_container() {
        assert_eq!(Label::container("pause"), Err(NameError::Reserved));
        assert_eq!(Label::container("main").unwrap().as_str(), "main");
    }

    #[test]
    fn an_atespace_is_a_directory_of_its_own_and_none_is_the_originals() {
        let actor = || ActorRef::parse("ns", "t", "a").unwrap();
        for unknown in [None, Some("")] {
            let actor = actor().within(unknown).unwrap();
            assert_eq!((actor.to_string().as_str(), actor.atespace()), ("ns:t:a", None));
        }
        let known = actor().within(Some("team-a")).unwrap();
        assert_eq!(
            (known.to_string().as_str(), known.atespace()),
            ("team-a/ns:t:a", Some("team-a"))
        );
        assert_ne!(known, actor());
        assert_ne!(known, actor().within(Some("team-b")).unwrap());
        assert_eq!(known.without_atespace(), actor());
        for bad in [".", "..", "a/b", "ns:t", "-a", "A", &"a".repeat(64)] {
            assert!(actor().within(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_actors_name_is_one_path_component_of_at_most_255_bytes_whatever_its_atespace() {
        let actor = ActorRef::parse("ns", "counter.v1", "a-1").unwrap();
        assert_eq!(actor.to_string(), "ns:counter.v1:a-1");
        let longest = ActorRef::parse("ns", &vec!["t".repeat(47); 5].join("."), &"a".repeat(12)).unwrap();
        assert_eq!(longest.to_string().len(), 255);
        longest.within(Some(&"x".repeat(63))).unwrap();
        let template = vec!["t".repeat(60); 4].join(".");
        let error = ActorRef::parse("ns", &template, &"a".repeat(20)).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("is 267 bytes; the combined path component must be at most 255"),
            "{error}"
        );
    }
}

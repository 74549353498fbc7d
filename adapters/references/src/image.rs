//! Where an image is and which one is meant.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Digest, DigestError};

/// The registry meant by names that do not say one, as with every other image tool.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Limits of the distribution specification.
const MAX_REPOSITORY_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// Names an image: `[host[:port]/]repository[:tag][@sha256:...]` in a registry, or
/// `oci:path[:tag][@sha256:...]` in an OCI layout on this machine's disk.
///
/// [`Display`](fmt::Display) writes the full name with everything that was left to defaults, and parsing
/// that gives the same reference again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    location: Location,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// In a registry.
    Registry {
        /// Name or address of the registry, with its port if that is not the usual one.
        host: String,
        /// Path of the image within the registry.
        repository: String,
    },
    /// In an OCI layout on disk.
    Layout {
        /// Directory of the layout; a relative one counts from the working directory of the process that pulls.
        path: PathBuf,
    },
}

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image reference {value:?}: {problem}")]
pub struct ReferenceError {
    /// The text as given.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub problem: ReferenceProblem,
}

/// What is wrong with an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// Nothing there.
    #[error("it is empty; write host/repository:tag, host/repository@sha256:... or oci:path:tag")]
    Empty,
    /// Something like `https://`.
    #[error("it starts with {0:?}; leave that off and write host/repository:tag")]
    Scheme(String),
    /// Not a digest after `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A tag that no registry accepts.
    #[error(
        "tag {0:?} is not 1 to 128 letters, digits, \"_\", \".\" and \"-\" that start with none of the last two"
    )]
    Tag(String),
    /// Neither a name nor an address.
    #[error("registry {0:?} is not a host name or address with an optional port from 1 to 65535")]
    Host(String),
    /// A repository path that no registry accepts.
    #[error(
        "repository {0:?} is not lowercase letters and digits in parts separated by \"/\", \".\", \"_\", \"__\" or \"-\", 255 at most"
    )]
    Repository(String),
    /// `oci:` without a directory.
    #[error("no directory after \"oci:\"; write oci:path, oci:path:tag or oci:path@sha256:...")]
    NoPath,
}

impl Reference {
    /// Where the image is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The tag, which a digest overrides.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index, if the reference has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether the reference means the same bytes for ever.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    /// The same reference, meaning exactly the manifest or index with this digest.
    pub fn pinned(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The image with this tag and digest in a layout.
    ///
    /// # Errors
    /// A tag that is none.
    pub fn in_layout(path: &Path, tag: &str, digest: Digest) -> Result<Self, ReferenceError> {
        let reference = Self {
            location: Location::Layout {
                path: path.to_owned(),
            },
            tag: Some(tag.to_owned()),
            digest: Some(digest),
        };
        check_tag(tag).map_err(|problem| ReferenceError {
            value: reference.to_string(),
            problem,
        })?;
        Ok(reference)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(value: &str) -> Result<Self, ReferenceError> {
        parse(value).map_err(|problem| ReferenceError {
            value: value.to_owned(),
            problem,
        })
    }
}

fn parse(value: &str) -> Result<Reference, ReferenceProblem> {
    if value.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    if let Some((scheme, _)) = value.split_once("://") {
        return Err(ReferenceProblem::Scheme(format!("{scheme}://")));
    }
    let (value, digest) = match value.rsplit_once('@') {
        Some((value, digest)) => (value, Some(digest.parse()?)),
        None => (value, None),
    };
    if let Some(rest) = value.strip_prefix("oci:") {
        let (path, tag) = split_tag(rest)?;
        if path.is_empty() {
            return Err(ReferenceProblem::NoPath);
        }
        let location = Location::Layout {
            path: PathBuf::from(path),
        };
        return Ok(Reference {
            location,
            tag: tag.map(str::to_owned),
            digest,
        });
    }
    let (name, tag) = split_tag(value)?;
    let (host, repository) = match name.split_once('/') {
        Some((host, repository)) if names_a_host(host) => (host, repository),
        _ => (DEFAULT_REGISTRY, name),
    };
    check_host(host)?;
    let host = match host {
        "index.docker.io" => DEFAULT_REGISTRY,
        host => host,
    };
    check_repository(repository)?;
    // The default registry keeps what has no owner under this one.
    let repository = match repository.contains('/') {
        false if host == DEFAULT_REGISTRY => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    let default_tag = digest.is_none().then_some(DEFAULT_TAG);
    Ok(Reference {
        location: Location::Registry {
            host: host.to_owned(),
            repository,
        },
        tag: tag.or(default_tag).map(str::to_owned),
        digest,
    })
}

/// A colon before the last slash belongs to a port or a path.
fn split_tag(value: &str) -> Result<(&str, Option<&str>), ReferenceProblem> {
    let last_part = value.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = value[last_part..].find(':') else {
        return Ok((value, None));
    };
    let (name, tag) = (&value[..last_part + colon], &value[last_part + colon + 1..]);
    check_tag(tag)?;
    Ok((name, Some(tag)))
}

/// The rule by which `a/b` is a repository of the default registry and `a.example/b` is not.
fn names_a_host(first_part: &str) -> bool {
    first_part.contains(['.', ':']) || first_part == "localhost"
}

fn check_tag(tag: &str) -> Result<(), ReferenceProblem> {
    let characters = tag
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.starts_with(['.', '-']) || !characters {
        return Err(ReferenceProblem::Tag(tag.to_owned()));
    }
    Ok(())
}

/// Checks the name or address of a registry, with its port if it has one.
///
/// # Errors
/// [`ReferenceProblem::Host`].
pub fn check_host(host: &str) -> Result<(), ReferenceProblem> {
    let (name, port) = split_port(host);
    let port_is_good = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let name_is_good = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.len() <= 253 && name.split('.').all(is_dns_label),
    };
    match name_is_good && port_is_good {
        true => Ok(()),
        false => Err(ReferenceProblem::Host(host.to_owned())),
    }
}

fn is_dns_label(label: &str) -> bool {
    let characters = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=63).contains(&label.len()) && characters && !label.starts_with('-') && !label.ends_with('-')
}

/// Checks the path of an image within a registry.
///
/// # Errors
/// [`ReferenceProblem::Repository`].
pub fn check_repository(repository: &str) -> Result<(), ReferenceProblem> {
    let good = repository.len() <= MAX_REPOSITORY_BYTES && repository.split('/').all(is_repository_part);
    match good {
        true => Ok(()),
        false => Err(ReferenceProblem::Repository(repository.to_owned())),
    }
}

/// Runs of letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_repository_part(part: &str) -> bool {
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    part.starts_with(is_word)
        && part.ends_with(is_word)
        && part
            .split(is_word)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
}

/// Splits the port off a host, minding the colons inside `[...]`.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Whether the registry `host` is on this very machine.
pub fn is_loopback(host: &str) -> bool {
    let (name, _) = split_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Registry { host, repository } => write!(formatter, "{host}/{repository}")?,
            Location::Layout { path } => write!(formatter, "oci:{}", path.display())?,
        }
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(formatter, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn good_references_are_read_as_everybody_reads_them() {
        let pinned = format!("host.example/a/b@{SHA}");
        let both = format!("host.example:5000/a:v1@{SHA}");
        let layout = format!("oci:./images/app@{SHA}");
        for (value, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("owner/app", "docker.io/owner/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/owner/app:1", "docker.io/owner/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            (
                "Host.example/a.b/c__d/e---f",
                "Host.example/a.b/c__d/e---f:latest",
            ),
            (pinned.as_str(), pinned.as_str()),
            (both.as_str(), both.as_str()),
            ("oci:/srv/layout", "oci:/srv/layout"),
            ("oci:/srv/ns:x/layout:v1", "oci:/srv/ns:x/layout:v1"),
            (layout.as_str(), layout.as_str()),
        ] {
            let reference: Reference = value.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reference.to_string(), full, "{value}");
            assert_eq!(full.parse(), Ok(reference.clone()), "{value}");
            assert_eq!(reference.is_pinned(), value.contains('@'), "{value}");
        }
    }

    #[test]
    fn bad_references_are_told_what_is_wrong_with_which_part() {
        use ReferenceProblem::*;
        let long = "a".repeat(256);
        let long_tag = format!("app:{}", "t".repeat(129));
        let digest_error = |value: &str| {
            Digest(DigestError {
                value: value.to_owned(),
            })
        };
        let owned = str::to_owned;
        for (value, problem) in [
            ("", Empty),
            ("https://host.example/app", Scheme(owned("https://"))),
            ("docker://app", Scheme(owned("docker://"))),
            ("App", Repository(owned("App"))),
            ("a//b", Repository(owned("a//b"))),
            ("a/b/", Repository(owned("a/b/"))),
            ("/a", Repository(owned("/a"))),
            ("a..b/c", Host(owned("a..b"))),
            ("a/../b", Repository(owned("a/../b"))),
            ("a___b", Repository(owned("a___b"))),
            ("-a", Repository(owned("-a"))),
            ("a b", Repository(owned("a b"))),
            (long.as_str(), Repository(long.clone())),
            ("app:", Tag(String::new())),
            ("app:-x", Tag(owned("-x"))),
            ("app:a:b", Tag(owned("a:b"))),
            (long_tag.as_str(), Tag("t".repeat(129))),
            ("host.example:0/a", Host(owned("host.example:0"))),
            ("host.example:65536/a", Host(owned("host.example:65536"))),
            ("host.example:+80/a", Host(owned("host.example:+80"))),
            ("-host.example/a", Host(owned("-host.example"))),
            ("[::g]:80/a", Host(owned("[::g]:80"))),
            ("app@", digest_error("")),
            ("app@sha256:12", digest_error("sha256:12")),
            ("oci:", NoPath),
            ("oci::tag", NoPath),
            ("oci:dir:b c", Tag(owned("b c"))),
        ] {
            let error = value.parse::<Reference>().expect_err(value);
            assert_eq!(error.problem, problem, "{value}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("image reference {value:?}: "))
            );
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.3.2.1", true),
            ("[::1]:80", true),
            ("10.0.0.1:80", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}

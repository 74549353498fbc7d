//! Registries that are asked in place of others.

use std::str::FromStr;

use holdfast_references::{ReferenceProblem, check_host, check_repository};

use crate::ReferenceError;

/// What to ask instead of registries on this very machine: `host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalhostReplacement(Place);

/// A registry that has the images of another one: `registry=host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The other one, as references name it.
    of: String,
    place: Place,
}

/// Why something is no mirror.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// It does not say of what.
    #[error("{0:?} has no \"=\"; write REGISTRY=host[:port][/path], such as docker.io=mirror.example/hub")]
    Of(String),
    /// A part of it is no registry.
    #[error("{0}; write REGISTRY=host[:port][/path], without a scheme")]
    Place(ReferenceProblem),
}

/// Where repositories are: a registry, and what stands before their names there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    path: String,
}

impl LocalhostReplacement {
    pub(crate) fn resolve(&self, repository: &str) -> (String, String) {
        self.0.resolve(repository)
    }
}

impl Mirror {
    /// Host and repository to ask for a repository of this registry, if this is a mirror of it.
    pub(crate) fn resolve(&self, host: &str, repository: &str) -> Option<(String, String)> {
        (self.of == host).then(|| self.place.resolve(repository))
    }
}

impl Place {
    fn parse(value: &str) -> Result<Self, ReferenceProblem> {
        let (host, path) = value.split_once('/').unwrap_or((value, ""));
        let path = path.trim_end_matches('/');
        check_host(host)?;
        if !path.is_empty() {
            check_repository(path)?;
        }
        Ok(Self {
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }

    fn resolve(&self, repository: &str) -> (String, String) {
        let repository = match self.path.as_str() {
            "" => repository.to_owned(),
            path => format!("{path}/{repository}"),
        };
        (self.host.clone(), repository)
    }
}

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(value: &str) -> Result<Self, MirrorError> {
        let (of, place) = value
            .split_once('=')
            .ok_or_else(|| MirrorError::Of(value.to_owned()))?;
        check_host(of).map_err(MirrorError::Place)?;
        let place = Place::parse(place).map_err(MirrorError::Place)?;
        Ok(Self {
            of: of.to_owned(),
            place,
        })
    }
}

impl FromStr for LocalhostReplacement {
    type Err = ReferenceError;

    fn from_str(value: &str) -> Result<Self, ReferenceError> {
        Place::parse(value).map(Self).map_err(|problem| ReferenceError {
            value: value.to_owned(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_localhost_replacement_is_a_host_with_an_optional_path() {
        let parsed = |value: &str| value.parse::<LocalhostReplacement>();
        let expected = |host: &str, path: &str| {
            Ok(LocalhostReplacement(Place {
                host: host.to_owned(),
                path: path.to_owned(),
            }))
        };
        assert_eq!(parsed("kind-registry:5000"), expected("kind-registry:5000", ""));
        assert_eq!(
            parsed("host.example/mirror/a/"),
            expected("host.example", "mirror/a")
        );
        for (value, problem) in [
            ("", ReferenceProblem::Host(String::new())),
            ("http://host", ReferenceProblem::Host("http:".to_owned())),
            ("host/Upper", ReferenceProblem::Repository("Upper".to_owned())),
        ] {
            let error = parsed(value).expect_err(value);
            assert_eq!(error.problem, problem);
        }
    }

    #[test]
    fn a_mirror_says_of_what_it_is_one_and_where_it_has_it() {
        let mirror: Mirror = "docker.io=mirror.example:5000/hub".parse().expect("a mirror");
        let there = Some(("mirror.example:5000".to_owned(), "hub/library/app".to_owned()));
        assert_eq!(mirror.resolve("docker.io", "library/app"), there);
        assert_eq!(mirror.resolve("quay.io", "library/app"), None);
        for bad in [
            "mirror.example",
            "=mirror.example",
            "docker.io=",
            "docker.io=http://x",
            "docker.io=x/Upper",
        ] {
            let error = bad.parse::<Mirror>().expect_err(bad);
            assert!(error.to_string().contains("REGISTRY="), "{error}");
        }
    }
}

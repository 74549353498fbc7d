//! Which actor a host name means.

use holdfast_core::id::ActorKey;
use holdfast_core::name::{check_actor_id, check_atespace};

/// What comes after `<actor>.<atespace>.` in the host name of an actor.
pub const DOMAIN: &str = "actors.resources.substrate.ate.dev";

/// Why a host name means no actor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It does not have the form of an actor's host name.
    #[error("host {host:?} is no actor's: write <actor>.<atespace>.{DOMAIN}")]
    NotAnActors {
        /// The host as given.
        host: String,
    },
    /// It has, but its actor or atespace cannot be one.
    #[error("host {host:?}: {rule}")]
    BadName {
        /// The host as given.
        host: String,
        /// The rule that it breaks.
        rule: String,
    },
}

/// The actor that `host` means: a `Host` header, with or without port and trailing dot, in any case.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse_host(host: &str) -> Result<ActorKey, HostError> {
    let labels = labels(host).ok_or_else(|| HostError::NotAnActors {
        host: host.to_owned(),
    })?;
    let (actor, atespace) = (labels.0.to_ascii_lowercase(), labels.1.to_ascii_lowercase());
    check_actor_id(&actor)
        .and_then(|()| check_atespace(&atespace))
        .map_err(|failure| HostError::BadName {
            host: host.to_owned(),
            rule: failure.message,
        })?;
    Ok(ActorKey::new(atespace, actor))
}

fn labels(host: &str) -> Option<(&str, &str)> {
    let name = match host.split_once(':') {
        Some((name, port)) => {
            let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            is_port.then_some(name)?
        }
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let (actor, rest) = name.split_once('.')?;
    let (atespace, domain) = rest.split_once('.')?;
    domain.eq_ignore_ascii_case(DOMAIN).then_some((actor, atespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_of_actors_are_understood_with_port_and_dot_and_in_any_case() {
        for host in [
            "a-1.team.actors.resources.substrate.ate.dev",
            "a-1.team.actors.resources.substrate.ate.dev.",
            "a-1.team.actors.resources.substrate.ate.dev:8080",
            "a-1.team.actors.resources.substrate.ate.dev.:80",
            "a-1.team.actors.resources.substrate.ate.dev:",
            "A-1.Team.ACTORS.resources.substrate.ate.DEV",
        ] {
            assert_eq!(parse_host(host), Ok(ActorKey::new("team", "a-1")), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_refused_with_what_would_be_right() {
        let form = "write <actor>.<atespace>.actors.resources.substrate.ate.dev";
        for (host, part) in [
            ("", form),
            ("localhost:8080", form),
            ("127.0.0.1", form),
            ("[::1]:80", form),
            ("team.actors.resources.substrate.ate.dev", form),
            ("x.a.team.actors.resources.substrate.ate.dev", form),
            ("a.team.actors.resources.substrate.ate.dev..", form),
            ("a.team.actors.resources.substrate.ate.dev:8080:1", form),
            ("a.team.actors.resources.substrate.ate.dev:x", form),
            ("a.team.actors.resources.substrate.ate.dev:-1", form),
            ("a.team.actors.resources.substrate.ate.dev:123456", form),
            ("a.team.actors.resources.substrate.ate.dev.evil.example", form),
            (
                "user@a.team.actors.resources.substrate.ate.dev",
                "invalid actor_id",
            ),
            (".team.actors.resources.substrate.ate.dev", "invalid actor_id"),
            ("-a.team.actors.resources.substrate.ate.dev", "invalid actor_id"),
            ("a..actors.resources.substrate.ate.dev", "invalid atespace"),
            ("a.t_m.actors.resources.substrate.ate.dev", "invalid atespace"),
        ] {
            let error = parse_host(host).expect_err(host).to_string();
            assert!(error.contains(part), "{host}: {error}");
        }
        let long = format!("{}.t.{DOMAIN}", "a".repeat(64));
        assert!(
            parse_host(&long)
                .unwrap_err()
                .to_string()
                .contains("no more than 63")
        );
    }
}

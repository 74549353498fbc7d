//! Programs that know logins: `docker-credential-NAME get`, with the registry on standard input.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use holdfast_runtime::tokio;
use serde::Deserialize;

use super::Login;

/// How long a helper may take.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// The longest answer; it fits into a pipe that nobody reads yet.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// What helpers call Docker's own registry.
const DOCKER_HUB: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");
/// The user of those that have a token instead of a password.
const TOKEN_USER: &str = "<token>";
/// How helpers say that they do not know a registry; everything else is a failure.
const UNKNOWN: &str = "credentials not found";

/// A program that knows logins.
#[derive(Clone)]
pub(super) struct Helper {
    program: String,
}

/// Why a helper has no answer. It never quotes one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("{program}: {source}; is it on the PATH?")]
    Run { program: String, source: io::Error },
    #[error("{program} took longer than {}s and was ended", LIMIT.as_secs())]
    Slow { program: String },
    #[error("{program} failed with {status}")]
    Failed { program: String, status: String },
    #[error("{program} answered something that is no login")]
    Answer { program: String },
}

/// Ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // It cannot refuse, so waiting for its end takes no time.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Helper {
    /// The helper of this name, if that can be one.
    pub fn new(name: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(is_plain);
        is_name.then(|| Self {
            program: format!("docker-credential-{name}"),
        })
    }

    /// The login that it has for a registry.
    pub async fn ask(&self, host: &str) -> Result<Option<Login>, HelperError> {
        let program = || self.program.clone();
        let failed = |source| HelperError::Run {
            program: program(),
            source,
        };
        let mut helper = Running(
            Command::new(&self.program)
                .arg("get")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(failed)?,
        );
        let (hub, hub_address) = DOCKER_HUB;
        let server = if host == hub { hub_address } else { host };
        if let Some(mut input) = helper.0.stdin.take() {
            match input.write_all(server.as_bytes()) {
                // One that does not read what it is asked may answer all the same.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
                _ => {}
            }
        }
        let mut waited = Duration::ZERO;
        let status = loop {
            match helper.0.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if waited >= LIMIT => return Err(HelperError::Slow { program: program() }),
                None => tokio::time::sleep(POLL).await,
            }
            waited += POLL;
        };
        let mut answer = Vec::new();
        if let Some(output) = helper.0.stdout.take() {
            output
                .take(MAX_ANSWER_BYTES)
                .read_to_end(&mut answer)
                .map_err(failed)?;
        }
        if status.success() {
            return parse(&answer)
                .map(Some)
                .ok_or_else(|| HelperError::Answer { program: program() });
        }
        if String::from_utf8_lossy(&answer).contains(UNKNOWN) {
            return Ok(None);
        }
        Err(HelperError::Failed {
            program: program(),
            status: status.to_string(),
        })
    }
}

fn parse(answer: &[u8]) -> Option<Login> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_slice(answer).ok()?;
    Some(match username.as_str() {
        TOKEN_USER => Login::Identity(secret),
        _ => Login::Password {
            user: username,
            password: secret,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// A helper that is a script.
    fn script(directory: &Path, text: &str) -> Helper {
        let path = directory.join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        Helper {
            program: path.display().to_string(),
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_a_registry_and_its_answer_is_the_login() {
        let directory = tempfile::tempdir().expect("directory");
        let answer =
            r#"read -r server; printf '{"ServerURL":"x","Username":"%s","Secret":"%s"}' "$1" "$server""#;
        match script(directory.path(), answer).ask("host.example").await {
            Ok(Some(Login::Password { user, password })) => {
                assert_eq!((user.as_str(), password.as_str()), ("get", "host.example"));
            }
            other => panic!("{other:?}"),
        }
        match script(directory.path(), answer).ask("docker.io").await {
            Ok(Some(Login::Password { password, .. })) => assert_eq!(password, "https://index.docker.io/v1/"),
            other => panic!("{other:?}"),
        }
        let token = script(directory.path(), r#"echo '{"Username":"<token>","Secret":"it"}'"#);
        assert!(matches!(token.ask("h").await, Ok(Some(Login::Identity(token))) if token == "it"));
    }

    #[tokio::test]
    async fn not_knowing_a_registry_is_no_failure_and_no_failure_tells_a_secret() {
        let directory = tempfile::tempdir().expect("directory");
        let unknown = "echo 'credentials not found in native keychain'; exit 1";
        assert!(matches!(
            script(directory.path(), unknown).ask("h").await,
            Ok(None)
        ));
        for text in [
            "echo hunter2; exit 3",
            "echo hunter2",
            "cat /dev/zero | head -c 60000; echo hunter2",
        ] {
            let error = script(directory.path(), text).ask("h").await.expect_err(text);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let missing = Helper::new("there-is-none").expect("a name");
        assert!(matches!(missing.ask("h").await, Err(HelperError::Run { .. })));
    }

    #[test]
    fn a_helper_is_a_name_and_never_a_path() {
        for bad in ["", "../x", "a/b", "a b", "a\0"] {
            assert!(Helper::new(bad).is_none(), "{bad:?}");
        }
        assert_eq!(
            Helper::new("ecr-login").map(|helper| helper.program).as_deref(),
            Some("docker-credential-ecr-login")
        );
    }
}

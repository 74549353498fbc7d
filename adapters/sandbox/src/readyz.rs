//! Waiting until containers say that they serve.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use thiserror::Error;

const POLL_INTERVAL: Duration = Duration::from_millis(1);
const REQUEST_LIMIT: Duration = Duration::from_millis(250);
const READY_LIMIT: Duration = Duration::from_secs(30);
const DEFAULT_PATH: &str = "/readyz";

/// An HTTP request whose answer 200 means ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    path: String,
    port: u16,
}

/// Why a container is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadyzError {
    /// The probe itself makes no sense.
    #[error("invalid readyz config for \"{container}\": {fault}")]
    Invalid {
        /// The container.
        container: String,
        /// What is wrong.
        fault: String,
    },
    /// It never answered 200.
    #[error("container {container} was not ready within {limit:?}: {last}")]
    NotReady {
        /// The container.
        container: String,
        /// How long it was asked.
        limit: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// There is nobody left to ask.
    #[error("the sandbox died before container {container} was ready")]
    SandboxDied {
        /// The container.
        container: String,
    },
}

impl HttpGet {
    /// Checks a probe. An empty path is `/readyz`, a missing leading `/` is added.
    pub fn parse(container: &str, path: &str, port: i32) -> Result<Self, ReadyzError> {
        let invalid = |fault: String| ReadyzError::Invalid {
            container: container.to_owned(),
            fault,
        };
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid(format!("port {port} is not in 1..=65535")))?;
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid(format!(
                "path {path:?} holds a space or control character"
            )));
        }
        let path = match path {
            "" => DEFAULT_PATH.to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        Ok(Self { path, port })
    }

    fn is_ready(&self, address: IpAddr) -> io::Result<()> {
        let until = Instant::now() + REQUEST_LIMIT;
        let left = || {
            until
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1))
        };
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, self.port), left())?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(left()))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {address}:{}\r\nUser-Agent: holdfast-readyz\r\nConnection: close\r\n\r\n",
            self.path, self.port
        );
        stream.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        let mut chunk = [0; 256];
        while !line.contains(&b'\n') && line.len() < 1024 {
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left()))?;
            match stream.read(&mut chunk)? {
                0 => break,
                length => line.extend_from_slice(&chunk[..length]),
            }
        }
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.trim_end().split(' ').nth(1) {
            Some("200") if line.starts_with("HTTP/1.") => Ok(()),
            _ => Err(io::Error::other(format!("it answered {:?}", line.trim_end()))),
        }
    }
}

/// Waits until every probe has been answered with 200. All are asked at once; a redirect is no 200.
///
/// `has_died` is asked between attempts, so that a dead sandbox is not waited for.
pub fn wait_until_ready(
    address: IpAddr,
    probes: &[(&str, &HttpGet)],
    has_died: impl Fn() -> bool + Sync,
) -> Result<(), ReadyzError> {
    wait_within(READY_LIMIT, address, probes, &has_died)
}

fn wait_within(
    limit: Duration,
    address: IpAddr,
    probes: &[(&str, &HttpGet)],
    has_died: &(impl Fn() -> bool + Sync),
) -> Result<(), ReadyzError> {
    std::thread::scope(|scope| {
        let probes: Vec<_> = probes
            .iter()
            .map(|(container, probe)| scope.spawn(move || poll(limit, address, container, probe, has_died)))
            .collect();
        probes
            .into_iter()
            .try_for_each(|probe| probe.join().expect("probing does not panic"))
    })
}

fn poll(
    limit: Duration,
    address: IpAddr,
    container: &str,
    probe: &HttpGet,
    has_died: &impl Fn() -> bool,
) -> Result<(), ReadyzError> {
    let until = Instant::now() + limit;
    loop {
        let Err(error) = probe.is_ready(address) else {
            return Ok(());
        };
        if has_died() {
            return Err(ReadyzError::SandboxDied {
                container: container.to_owned(),
            });
        }
        if Instant::now() >= until {
            let last = error.to_string();
            return Err(ReadyzError::NotReady {
                container: container.to_owned(),
                limit,
                last,
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Serves the answers in turn, the last one for ever. Returns the port and the requests' first lines.
    fn server(answers: &'static [&'static str]) -> (i32, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for (turn, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut request = [0; 512];
                let length = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let _ = tell.send(text.lines().next().unwrap_or_default().to_owned());
                let _ = stream.write_all(answers[turn.min(answers.len() - 1)].as_bytes());
            }
        });
        (i32::from(port), told)
    }

    #[test]
    fn only_a_200_is_ready_and_the_path_is_completed() {
        let (port, requests) = server(&[
            "HTTP/1.1 503 no\r\n\r\n",
            "HTTP/1.1 302 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ]);
        let probe = HttpGet::parse("main", "health", port).unwrap();
        wait_until_ready(LOOPBACK, &[("main", &probe)], || false).unwrap();
        let lines: Vec<_> = requests.try_iter().collect();
        assert_eq!(lines, ["GET /health HTTP/1.1"; 3]);
        assert_eq!(HttpGet::parse("main", "", port).unwrap().path, "/readyz");
    }

    #[test]
    fn a_container_that_never_serves_is_reported_with_its_last_answer() {
        let (port, _requests) = server(&["HTTP/1.1 500 broken\r\n\r\n"]);
        let probe = HttpGet::parse("main", "/", port).unwrap();
        let error = wait_within(Duration::ZERO, LOOPBACK, &[("main", &probe)], &|| false).unwrap_err();
        assert!(error.to_string().contains("500 broken"), "{error}");
    }

    #[test]
    fn a_dead_sandbox_is_not_waited_for() {
        let port = TcpListener::bind((LOOPBACK, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let probe = HttpGet::parse("main", "/", i32::from(port)).unwrap();
        let error = wait_until_ready(LOOPBACK, &[("main", &probe)], || true).unwrap_err();
        assert_eq!(
            error,
            ReadyzError::SandboxDied {
                container: "main".into()
            }
        );
    }

    #[test]
    fn a_probe_that_makes_no_sense_is_refused() {
        for (path, port) in [
            ("/", 0),
            ("/", 65536),
            ("/", -1),
            ("/a b", 80),
            ("/a\r\nHost: x", 80),
        ] {
            let error = HttpGet::parse("main", path, port).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("invalid readyz config for \"main\": "),
                "{error}"
            );
        }
    }
}

//! Where a server listens and a client dials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A place to listen or to dial.
///
/// Written as `host:port`, `http://host:port`, `dns:///host:port`, `[::1]:port`, `:port` (every IPv4
/// interface of this host), `unix:///absolute/path` or `unix:path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A TCP port of a host, by name or by IP address (IPv6 without brackets).
    Tcp {
        /// Name or IP address. Names are resolved anew for each connection.
        host: String,
        /// Port; 0 lets a listener have any free one.
        port: u16,
    },
    /// A Unix-domain socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }

    /// Reads an address that is to be dialled: nobody listens on port 0.
    ///
    /// # Errors
    /// Those of parsing, and [`AddressError::NobodysPort`].
    pub fn to_dial(text: &str) -> Result<Self, AddressError> {
        match text.parse()? {
            Self::Tcp { port: 0, .. } => Err(AddressError::NobodysPort {
                text: text.to_owned(),
            }),
            address => Ok(address),
        }
    }

    /// The host of a TCP address; Unix sockets are all `localhost`.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Tcp { host, .. } => host.clone(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The `host:port` of a TCP address as it stands in a URI; Unix sockets are all `localhost`.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { .. } => self.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            // The first two slashes would be taken for those of a URL.
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(formatter, "unix://{}", path.display())
            }
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("the address is empty; write host:port or unix:///path")]
    Empty,
    /// A scheme that this transport does not speak.
    #[error(
        "address {text:?}: scheme {scheme:?} is not supported; write host:port, http://host:port or unix:///path"
    )]
    Scheme {
        /// The text as given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// A host without a port.
    #[error("address {text:?} has no port; write host:port")]
    NoPort {
        /// The text as given.
        text: String,
    },
    /// A port that is no number from 0 to 65535.
    #[error("address {text:?}: port {port:?} is not a number from 0 to 65535")]
    Port {
        /// The text as given.
        text: String,
        /// Its port.
        port: String,
    },
    /// Port 0, which only listeners may ask for.
    #[error("address {text:?}: nobody listens on port 0; write the port that is listened on")]
    NobodysPort {
        /// The text as given.
        text: String,
    },
    /// A host that is neither a DNS name nor an IP address.
    #[error(
        "address {text:?}: host {host:?} is neither a DNS name nor an IP address (IPv6 goes in brackets)"
    )]
    Host {
        /// The text as given.
        text: String,
        /// Its host.
        host: String,
    },
    /// A path that no Unix socket can have.
    #[error("address {text:?}: a Unix socket needs a path of 1 to {MAX_UNIX_PATH_BYTES} bytes without NUL")]
    UnixPath {
        /// The text as given.
        text: String,
    },
}

/// `sun_path` has 108 bytes on Linux, the last one for the terminating NUL.
const MAX_UNIX_PATH_BYTES: usize = 107;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text
            .strip_prefix("unix://")
            .or_else(|| text.strip_prefix("unix:"))
        {
            if path.is_empty() || path.len() > MAX_UNIX_PATH_BYTES || path.contains('\0') {
                return Err(AddressError::UnixPath {
                    text: text.to_owned(),
                });
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("", text),
        };
        let host_and_port = match scheme {
            "" => rest,
            "http" => rest.strip_suffix('/').unwrap_or(rest),
            "dns" => rest.strip_prefix('/').unwrap_or(rest),
            other => {
                return Err(AddressError::Scheme {
                    text: text.to_owned(),
                    scheme: other.to_owned(),
                });
            }
        };
        tcp(text, host_and_port)
    }
}

fn tcp(text: &str, host_and_port: &str) -> Result<Address, AddressError> {
    let (host, port) = match host_and_port.rsplit_once(':') {
        // The last colon of a bracketed address without port is inside the brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => {
            return Err(AddressError::NoPort {
                text: text.to_owned(),
            });
        }
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| AddressError::Port {
            text: text.to_owned(),
            port: port.to_owned(),
        })?;
    let host = parse_host(host).ok_or_else(|| AddressError::Host {
        text: text.to_owned(),
        host: host.to_owned(),
    })?;
    Ok(Address::Tcp { host, port })
}

fn parse_host(host: &str) -> Option<String> {
    if host.is_empty() {
        return Some("0.0.0.0".to_owned());
    }
    if let Some(inner) = host.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(IpAddr::V6(address).to_string());
    }
    let is_name = host.len() <= 253
        && host.split('.').all(is_label)
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    // With its port behind it, a host of this name would be taken for a socket.
    let is_socket = host.eq_ignore_ascii_case("unix");
    // No top-level domain is a number, so this is meant as an IPv4 address.
    let is_numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    let is_broken_address = is_numeric && host.parse::<Ipv4Addr>().is_err();
    (is_name && !is_socket && !is_broken_address).then(|| host.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, AddressError> {
        text.parse().map(|address: Address| address.to_string())
    }

    #[test]
    fn every_spelling_of_an_address_is_read_and_shown_in_one_way() {
        for (text, shown) in [
            ("10.0.0.1:8085", "10.0.0.1:8085"),
            ("http://Node-1.example:80", "node-1.example:80"),
            ("http://node-1:80/", "node-1:80"),
            ("dns:///api.ate-system.svc:443", "api.ate-system.svc:443"),
            (":443", "0.0.0.0:443"),
            ("1.example:1", "1.example:1"),
            ("[::1]:8085", "[::1]:8085"),
            ("http://[::1]:0", "[::1]:0"),
            ("unix:///run/ateom.sock", "unix:/run/ateom.sock"),
            ("unix:/run/ateom.sock", "unix:/run/ateom.sock"),
            ("unix:ateom.sock", "unix:ateom.sock"),
            ("unix:////run/ateom.sock", "unix:////run/ateom.sock"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(shown), "{text}");
            assert_eq!(parsed(shown).as_deref(), Ok(shown), "{shown}");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_out_of_reach_of_others() {
        for (text, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.0.1:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("unix:/run/x.sock", true),
            (":1", false),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.is_local(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        for (text, complaint) in [
            ("", "the address is empty"),
            ("https://a:1", "scheme \"https\""),
            ("localhost", "has no port"),
            ("[::1]", "has no port"),
            ("a:", "port \"\""),
            ("a:+1", "port \"+1\""),
            ("a:65536", "port \"65536\""),
            ("::1:80", "host \"::1\""),
            ("a b:1", "host \"a b\""),
            ("a..b:1", "host \"a..b\""),
            ("-a:1", "host \"-a\""),
            ("a-.b:1", "host \"a-.b\""),
            ("user@host:1", "host \"user@host\""),
            ("[fe80::1%eth0]:1", "host \"[fe80::1%eth0]\""),
            ("unix:", "Unix socket needs a path"),
            ("http://Unix:80", "host \"Unix\""),
            ("999.1.1.1:80", "host \"999.1.1.1\""),
            ("10.88:80", "host \"10.88\""),
        ] {
            let error = parsed(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
        let nobody = Address::to_dial("a:0").unwrap_err().to_string();
        assert!(nobody.contains("nobody listens on port 0"), "{nobody}");
        assert!(Address::to_dial("a:1").is_ok() && Address::to_dial("unix:a").is_ok());
        let long = format!("unix:/{}", "x".repeat(MAX_UNIX_PATH_BYTES));
        assert!(matches!(parsed(&long), Err(AddressError::UnixPath { .. })));
    }
}

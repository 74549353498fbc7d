//! Where the server is and who we are there.

use std::fmt;
use std::str::FromStr;

use ::redis::{ProtocolVersion, RedisConnectionInfo};
use holdfast_runtime::net::Address;

const DEFAULT_PORT: u16 = 6379;

/// Servers, a user and a database: `redis://[user[:password]@]host[:port][,host[:port]...][/database]`, or
/// `rediss://` for TLS.
///
/// Several servers are a master and its replicas, of which whichever is the master is used, or members of one
/// cluster, of which any tells the others. User and password may be percent-encoded. What is shown of it never
/// has the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    addresses: Vec<Address>,
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Why a text is no such URL. It may hold a password, so it is not quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not begin as one.
    #[error("a Redis URL begins with redis:// or, for TLS, rediss://, as in redis://127.0.0.1:6379/0")]
    Scheme,
    /// There is no host, or the port is no number.
    #[error("Redis URL: {text:?} is no host:port")]
    Address {
        /// What stands in their place.
        text: String,
    },
    /// The database is no number that Redis counts to.
    #[error("Redis URL: database {text:?} is not a number from 0 to {max}", max = i32::MAX)]
    Database {
        /// What stands in its place.
        text: String,
    },
    /// User or password are not what percent-encoding makes.
    #[error("Redis URL: user or password are not valid percent-encoding; write % as %25")]
    Encoding,
}

impl Url {
    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Where to connect; at least one.
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The same user on one server that another has named.
    pub(super) fn at(&self, address: Address) -> Url {
        Url {
            addresses: vec![address],
            ..self.clone()
        }
    }

    /// What to say first.
    pub(super) fn greeting(&self, protocol: ProtocolVersion) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.database)
            .set_protocol(protocol);
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.password {
            info = info.set_password(password);
        }
        info.set_skip_set_lib_name()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let (secure, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(UrlError::Scheme),
        };
        // A password may hold '@' and '/' as they are: the last '@' ends it.
        let (identity, place) = match rest.rsplit_once('@') {
            Some((identity, place)) => (Some(identity), place),
            None => (None, rest),
        };
        let (place, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, password) =
            match identity.map(|identity| identity.split_once(':').unwrap_or((identity, ""))) {
                Some((user, password)) => (decode(user)?, decode(password)?),
                None => (None, None),
            };
        Ok(Url {
            secure,
            addresses: place.split(',').map(address).collect::<Result<_, _>>()?,
            user,
            password,
            database: number(database)?,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "rediss://" } else { "redis://" })?;
        for (index, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if index > 0 { "," } else { "" })?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn address(place: &str) -> Result<Address, UrlError> {
    let wrong = || UrlError::Address { text: place.into() };
    let has_port = place
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    let place_and_port = if has_port {
        place.into()
    } else {
        format!("{place}:{DEFAULT_PORT}")
    };
    match place_and_port.parse() {
        Ok(Address::Tcp { host, port }) if !place.starts_with(':') && !place.is_empty() && port != 0 => {
            Ok(Address::Tcp { host, port })
        }
        Ok(_) | Err(_) => Err(wrong()),
    }
}

fn number(database: &str) -> Result<i64, UrlError> {
    if database.is_empty() {
        return Ok(0);
    }
    let wrong = || UrlError::Database {
        text: database.into(),
    };
    let digits = database.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        database.parse::<i32>().map(i64::from).map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}

/// Undoes percent-encoding; `None` for nothing.
fn decode(text: &str) -> Result<Option<String>, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next()
                .and_then(|digit| char::from(digit).to_digit(16))
                .ok_or(UrlError::Encoding)
        };
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Encoding)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| UrlError::Encoding)?;
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Url, UrlError> {
        text.parse()
    }

    #[test]
    fn all_its_parts_are_found() {
        let url = parse("redis://ann:p%40ss/w%25rd@db.example:7000/3").unwrap();
        assert_eq!(url.addresses[0].to_string(), "db.example:7000");
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref()),
            (Some("ann"), Some("p@ss/w%rd"))
        );
        assert_eq!(url.database, 3);
        let only_password = parse("redis://:secret@[::1]").unwrap();
        assert_eq!(
            (only_password.user, only_password.password),
            (None, Some("secret".into()))
        );
        assert_eq!(only_password.addresses[0].to_string(), "[::1]:6379");
        assert_eq!(
            parse("redis://localhost").unwrap().to_string(),
            "redis://localhost:6379/0"
        );
        let several = parse("rediss://ann:pw@a:1,b,[::1]:3/2").unwrap();
        assert!(several.is_secure() && !url.is_secure());
        assert_eq!(several.to_string(), "rediss://a:1,b:6379,[::1]:3/2");
        assert_eq!(several.at(address("c:4").unwrap()).to_string(), "rediss://c:4/2");
    }

    #[test]
    fn neither_what_is_shown_nor_an_error_holds_the_password() {
        let url = parse("redis://ann:hunter2@host:1/2").unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"));
        for bad in [
            "redis://ann:hunter2@host:x",
            "redis://ann:hunter2@host/x",
            "redis://ann:hunter2%@host",
            "ann:hunter2@host",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("http://host"), Err(UrlError::Scheme));
        assert_eq!(
            parse("redis://a,,b"),
            Err(UrlError::Address { text: String::new() })
        );
        for bad in ["", ":6379", "host:", "host:99999", "host:0", "host:1:2"] {
            let address = UrlError::Address { text: bad.into() };
            assert_eq!(parse(&format!("redis://{bad}")), Err(address), "{bad}");
        }
        for bad in ["-1", "1/2", "2147483648", "99999999999"] {
            let database = UrlError::Database { text: bad.into() };
            assert_eq!(parse(&format!("redis://host/{bad}")), Err(database), "{bad}");
        }
        assert_eq!(parse("redis://a%zz@host"), Err(UrlError::Encoding));
    }
}

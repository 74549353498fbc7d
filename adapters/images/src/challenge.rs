//! What a registry asks for in `WWW-Authenticate`.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How a registry wants to be told who asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from a token service.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of what the answer offers: a token before a password.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let offers = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut best = None;
        for offer in offers.filter_map(|value| value.to_str().ok()) {
            match parse(offer) {
                Some(bearer @ Self::Bearer { .. }) => return Some(bearer),
                Some(basic) => best = Some(basic),
                None => {}
            }
        }
        best
    }
}

fn parse(offer: &str) -> Option<Challenge> {
    let (scheme, parameters) = offer.trim().split_once(' ').unwrap_or((offer.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = parameters;
    while let Some((name, value, after)) = parameter(rest) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
        rest = after;
    }
    let realm = realm?;
    Some(Challenge::Bearer {
        realm,
        service,
        scope,
    })
}

/// The first `name=value` or `name="value"` of a list, and what follows it.
fn parameter(list: &str) -> Option<(&str, String, &str)> {
    let list = list.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = list.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        return Some((name, rest[..end].to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_are_read_with_and_without_quotes() {
        for (offer, expected) in [
            (
                r#"Bearer realm="https://a.example/t",service="s",scope="repository:x/y:pull,push""#,
                bearer("https://a.example/t", Some("s"), Some("repository:x/y:pull,push")),
            ),
            (
                r#"bearer  Realm = "https://a.example/\"t\"" , error=x, service=s"#,
                bearer("https://a.example/\"t\"", Some("s"), None),
            ),
            (r#"Basic realm="registry""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Bearer", None),
            (r#"Bearer realm="open"#, None),
            (r#"Bearer service="s""#, None),
            ("Negotiate abc=", None),
            ("", None),
        ] {
            assert_eq!(parse(offer), expected, "{offer}");
        }
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=r".parse().expect("header"));
        headers.append(WWW_AUTHENTICATE, "Bearer realm=r".parse().expect("header"));
        assert_eq!(Challenge::from_headers(&headers), bearer("r", None, None));
    }
}

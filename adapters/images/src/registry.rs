//! The pull half of the distribution protocol.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use holdfast_runtime::tokio::sync::OnceCell;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
    USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::http::{Http, network, shown};
use crate::manifest::malformed;
use crate::{Credentials, Digest, Login, PullError, manifest};

const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN_BYTES: usize = 1 << 20;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OUR_NAME: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// One repository of one registry, for one pull.
pub(crate) struct Registry {
    pub http: Http,
    /// Host and port that are really asked, after every replacement.
    pub authority: String,
    pub repository: String,
    pub plain_http: PlainHttp,
    /// Logins, and who else may know one.
    pub credentials: Credentials,
    /// The registry as logins name it.
    pub host: String,
    /// The login that is used, once one was asked for.
    pub login: OnceCell<Option<Login>>,
    /// `http://authority` or `https://authority`, once that is known.
    pub origin: OnceCell<String>,
    /// What the registry accepted last.
    pub authorization: Mutex<Option<HeaderValue>>,
}

/// Whether a registry may be asked without TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    Allowed,
    Refused,
}

/// A blob, or the rest of it.
pub(crate) struct BlobResponse {
    /// Where in the blob the body starts.
    pub offset: u64,
    pub body: Incoming,
    /// The address, for errors.
    pub what: String,
}

impl Registry {
    /// Repository and registry as errors name them.
    pub fn place(&self) -> String {
        format!("{}/{}", self.authority, self.repository)
    }

    /// A manifest or index by tag or digest, of at most `limit` bytes, checked against what the registry
    /// says its digest is.
    pub async fn manifest(&self, tag_or_digest: &str, limit: u64) -> Result<Bytes, PullError> {
        let path = format!("/v2/{}/manifests/{tag_or_digest}", self.repository);
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(manifest::ACCEPT))]);
        let what = format!("manifest {tag_or_digest}");
        let response = self.get(&path, &headers, &what).await?;
        let claimed = response.headers().get(CONTENT_DIGEST).cloned();
        let place = format!("{what} of {}", self.place());
        let content = read_all(response, limit, &place).await?;
        let claimed = claimed.and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        let got = Digest::of(&content);
        match claimed {
            Some(expected) if expected != got => Err(PullError::DigestMismatch {
                what: place,
                expected,
                got,
            }),
            _ => Ok(content),
        }
    }

    /// A blob from `offset` on if the registry can do that, else from its start.
    pub async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobResponse, PullError> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let what = format!("blob {digest}");
        let answer = |offset, response: Response<Incoming>| BlobResponse {
            offset,
            body: response.into_body(),
            what: format!("{what} of {}", self.place()),
        };
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"))
                .map_err(|error| malformed(&what, error))?;
            let headers = HeaderMap::from_iter([(RANGE, range)]);
            match self.get(&path, &headers, &what).await {
                Ok(response) if response.status() == StatusCode::OK => return Ok(answer(0, response)),
                Ok(response) if range_start(&response) == Some(offset) => {
                    return Ok(answer(offset, response));
                }
                // Some other range than asked for, or none at all: only a request without one is left.
                Ok(_) | Err(PullError::Status { status: 416, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let response = self.get(&path, &HeaderMap::new(), &what).await?;
        match response.status() {
            StatusCode::OK => Ok(answer(0, response)),
            status => Err(PullError::Status {
                what: format!("{what} of {}", self.place()),
                status: status.as_u16(),
            }),
        }
    }

    /// Asks, and asks again after answering a challenge for credentials. That also renews a token that
    /// has run out since the last request.
    async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
        what: &str,
    ) -> Result<Response<Incoming>, PullError> {
        let uri = parse_uri(&format!("{}{path}", self.origin().await?))?;
        let authorization = self.known_authorization();
        let response = self.follow(uri.clone(), headers, authorization.as_ref()).await?;
        let response = match response.status() {
            StatusCode::UNAUTHORIZED => {
                let renewed = self.answer_challenge(response.headers(), what).await?;
                let response = self.follow(uri.clone(), headers, Some(&renewed)).await?;
                if response.status() != StatusCode::UNAUTHORIZED {
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(renewed);
                }
                response
            }
            _ => response,
        };
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(PullError::NotFound {
                what: what.to_owned(),
                place: self.place(),
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.unauthorized(what, format!("HTTP {}", response.status().as_u16())))
            }
            status => Err(PullError::Status {
                what: shown(&uri),
                status: status.as_u16(),
            }),
        }
    }

    /// Follows redirects. The authorization is for this registry and goes nowhere else, and what began
    /// with TLS does not go on without.
    async fn follow(
        &self,
        mut uri: Uri,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, PullError> {
        let home = (uri.scheme().cloned(), uri.authority().cloned());
        for _ in 0..=MAX_REDIRECTS {
            let mut request = request(Method::GET, uri.clone(), Bytes::new());
            request.headers_mut().extend(headers.clone());
            let at_home = home == (uri.scheme().cloned(), uri.authority().cloned());
            if let Some(authorization) = authorization.filter(|_| at_home) {
                request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let response = self.http.send(request).await?;
            // An empty answer or one "not modified" has no place to go to either.
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status().is_redirection());
            let Some(location) = location else {
                return match response.status() {
                    // Credentials for this registry are no answer to another host's challenge.
                    StatusCode::UNAUTHORIZED if !at_home => Err(PullError::Status {
                        what: shown(&uri),
                        status: StatusCode::FORBIDDEN.as_u16(),
                    }),
                    _ => Ok(response),
                };
            };
            let next = location
                .to_str()
                .ok()
                .and_then(|location| resolve(&uri, location))
                .ok_or_else(|| malformed(&shown(&uri), "it redirects to something that is no address"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(PullError::Refused {
                    what: shown(&uri),
                    reason: "it redirects from HTTPS to plain HTTP, which is never followed",
                });
            }
            uri = next;
        }
        Err(malformed(
            &shown(&uri),
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    /// Where plain HTTP is allowed it is tried first, since who allows it usually has no TLS there.
    async fn origin(&self) -> Result<&str, PullError> {
        let find = || async {
            let secure = format!("https://{}", self.authority);
            if self.plain_http == PlainHttp::Refused {
                return Ok(secure);
            }
            let plain = format!("http://{}", self.authority);
            let probe = |origin: &str| parse_uri(&format!("{origin}/v2/"));
            let answer = self
                .http
                .send(request(Method::GET, probe(&plain)?, Bytes::new()))
                .await;
            match answer {
                // What a TLS server says to plain HTTP, if it says anything.
                Ok(response) if response.status() == StatusCode::BAD_REQUEST => {}
                Ok(_) => return Ok(plain),
                Err(in_plain) => {
                    let answer = self
                        .http
                        .send(request(Method::GET, probe(&secure)?, Bytes::new()));
                    answer.await.map_err(|with_tls| {
                        network(self.authority.as_str(), format!("{in_plain}; {with_tls}"))
                    })?;
                }
            }
            Ok(secure)
        };
        self.origin.get_or_try_init(find).await.map(String::as_str)
    }

    fn known_authorization(&self) -> Option<HeaderValue> {
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, self.credentials.get(&self.host)) {
            (None, Some(Login::Registry(token))) => secret(&format!("Bearer {token}")),
            (known, _) => known.clone(),
        }
    }

    /// The login for this registry. Helpers and clouds are asked once for a pull, and only when the registry
    /// wants to know who asks.
    async fn login(&self) -> Option<&Login> {
        let find = || async {
            if let Some(login) = self.credentials.get(&self.host) {
                return Some(login.clone());
            }
            self.credentials.ask(&self.host, &self.http).await
        };
        self.login.get_or_init(find).await.as_ref()
    }

    async fn answer_challenge(&self, headers: &HeaderMap, what: &str) -> Result<HeaderValue, PullError> {
        match Challenge::from_headers(headers) {
            None => {
                Err(self.unauthorized(what, "HTTP 401 without a challenge that is understood".to_owned()))
            }
            Some(Challenge::Basic) => {
                let password = self.login().await.and_then(basic);
                password.ok_or_else(|| {
                    let reason = format!(
                        "it wants a user and a password and there are none for {}",
                        self.authority
                    );
                    self.unauthorized(what, reason)
                })
            }
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                let token = self.fetch_token(&realm, service.as_deref(), &scope, what).await?;
                secret(&format!("Bearer {token}"))
                    .ok_or_else(|| malformed("the registry's token", "it has characters that no token has"))
            }
        }
    }

    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        what: &str,
    ) -> Result<String, PullError> {
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let request = match self.login().await {
            Some(Login::Identity(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "holdfast"),
                    ("refresh_token", token),
                ]);
                let mut request = request(Method::POST, parse_uri(realm)?, form(&fields).into());
                let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, form_type);
                request
            }
            login => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let uri = parse_uri(&format!("{realm}{separator}{}", form(&fields)))?;
                let mut request = request(Method::GET, uri, Bytes::new());
                if let Some(basic) = login.and_then(basic) {
                    request.headers_mut().insert(AUTHORIZATION, basic);
                }
                request
            }
        };
        let place = shown(request.uri());
        if request.uri().scheme_str() != Some("https") && self.plain_http == PlainHttp::Refused {
            return Err(PullError::Refused {
                what: place,
                reason: "the registry's token service has no TLS; allow plain HTTP for this registry if that is meant",
            });
        }
        let response = self.http.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let status = response.status().as_u16();
                return Err(self.unauthorized(what, format!("its token service answers HTTP {status}")));
            }
            status => {
                return Err(PullError::Status {
                    what: place,
                    status: status.as_u16(),
                });
            }
        }
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let json = read_all(response, MAX_TOKEN_BYTES as u64, &place).await?;
        // The error would quote the answer, which is secret.
        let answer: Answer =
            serde_json::from_slice(&json).map_err(|_| malformed(&place, "its answer is not a token"))?;
        let token = answer.token.or(answer.access_token);
        token.ok_or_else(|| malformed(&place, "its answer has no token"))
    }

    fn unauthorized(&self, what: &str, reason: String) -> PullError {
        PullError::Unauthorized {
            what: what.to_owned(),
            place: self.place(),
            reason,
        }
    }
}

pub(crate) async fn read_all(
    response: Response<Incoming>,
    limit: u64,
    what: &str,
) -> Result<Bytes, PullError> {
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    match Limited::new(response.into_body(), size).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(PullError::TooLarge {
            what: what.to_owned(),
            amount: limit.saturating_add(1),
            unit: "bytes or more",
            limit,
        }),
        Err(error) => Err(network(what, error)),
    }
}

/// A request of something that is not a registry.
pub(crate) fn get(
    address: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<Request<Full<Bytes>>, PullError> {
    let mut request = request(Method::GET, parse_uri(address)?, Bytes::new());
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    request.headers_mut().extend(headers);
    Ok(request)
}

fn request(method: Method, uri: Uri, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let name = HeaderValue::from_static(OUR_NAME);
    request.headers_mut().insert(USER_AGENT, name);
    request
}

fn parse_uri(text: &str) -> Result<Uri, PullError> {
    let uri: Option<Uri> = text.parse().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| {
            let without_query = text.split('?').next().unwrap_or_default();
            malformed(
                "an address from the registry",
                format!("{without_query:?} is not one"),
            )
        })
}

/// The address that `location` means when `base` redirects to it.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return parse_uri(location).ok();
    }
    let scheme = base.scheme_str()?;
    if let Some(rest) = location.strip_prefix("//") {
        return parse_uri(&format!("{scheme}://{rest}")).ok();
    }
    let authority = base.authority()?;
    let directory = base
        .path()
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    let path = match location.starts_with('/') {
        true => location.to_owned(),
        false => format!("{directory}/{location}"),
    };
    parse_uri(&format!("{scheme}://{authority}{path}")).ok()
}

/// Where a partial answer starts.
fn range_start(response: &Response<Incoming>) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn basic(login: &Login) -> Option<HeaderValue> {
    match login {
        Login::Password { user, password } => {
            secret(&format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
        }
        Login::Identity(_) | Login::Registry(_) => None,
    }
}

/// A header value that shows itself to nobody.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Fields as forms and queries write them.
fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let separator = if text.is_empty() { "" } else { "&" };
        text.push_str(&format!("{separator}{name}="));
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_like_links() {
        let base = Uri::from_static("https://a.example:8443/v2/app/blobs/x?query");
        for (location, expected) in [
            ("https://b.example/y?z=1", Some("https://b.example/y?z=1")),
            ("//b.example/y", Some("https://b.example/y")),
            ("/y", Some("https://a.example:8443/y")),
            ("y?z", Some("https://a.example:8443/v2/app/blobs/y?z")),
            ("file:///etc/passwd", None),
            ("/a b", None),
        ] {
            let expected = expected.map(Uri::from_static);
            assert_eq!(resolve(&base, location), expected, "{location}");
        }
    }

    #[test]
    fn forms_escape_whatever_is_not_plain() {
        assert_eq!(
            form(&[("a", "x:y/z"), ("b", "1 &=é")]),
            "a=x%3Ay%2Fz&b=1%20%26%3D%C3%A9"
        );
    }

    #[test]
    fn headers_with_secrets_do_not_show_them() {
        let header = secret("Bearer hunter2").expect("header");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}

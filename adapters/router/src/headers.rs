//! What a proxy takes out of a head and puts into it.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that speak of one connection, not of the message, beside those that `Connection` names
/// (RFC 9110 section 7.6.1). `Trailer` stays, since trailers pass through.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether the client wants to leave HTTP on this connection. The offer to go on in HTTP/2, which some
/// clients make with their first request, is one that a server may pass over (RFC 9110 section 7.8).
pub(crate) fn wants_upgrade<B>(request: &Request<B>) -> bool {
    let mut upgrades = request.headers().get_all(UPGRADE).iter();
    request.method() == Method::CONNECT || upgrades.any(|protocol| protocol != "h2c")
}

/// Removes the headers that end at this proxy.
pub(crate) fn strip(headers: &mut HeaderMap) {
    // Who frames a message both ways wants two readers to see two messages (RFC 9112 section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Makes the head of a client's request that of the router's. `host` is the one that the client asked for.
pub(crate) fn forward(headers: &mut HeaderMap, host: &HeaderValue, client: Option<IpAddr>) {
    strip(headers);
    // The server has answered it already: it asks for the body once a worker takes it.
    headers.remove(EXPECT);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(HOST, host.clone());
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    let chain = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .chain(client.map(|client| client.to_string()))
        .collect::<Vec<_>>()
        .join(", ");
    if let Ok(chain) = HeaderValue::try_from(chain)
        && !chain.is_empty()
    {
        headers.insert(X_FORWARDED_FOR, chain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_of_one_connection_do_not_go_on() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other , ,b@d"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "keep-alive"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        strip(&mut headers);
        assert_eq!(headers, map(&[("trailer", "x-sum"), ("accept", "*/*")]));
    }

    #[test]
    fn the_worker_learns_who_asked_and_for_what_host() {
        let host = HeaderValue::from_static("a.t.example:80");
        let mut headers = map(&[
            ("host", "other"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "forged"),
            ("x-forwarded-proto", "https"),
        ]);
        forward(&mut headers, &host, Some([127, 0, 0, 1].into()));
        let expected = map(&[
            ("host", "a.t.example:80"),
            ("connection", "close"),
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 127.0.0.1"),
            ("x-forwarded-host", "a.t.example:80"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(headers, expected);

        let mut headers = HeaderMap::new();
        forward(&mut headers, &host, None);
        assert!(
            !headers.contains_key(X_FORWARDED_FOR),
            "a client without address adds nothing"
        );
    }
}
